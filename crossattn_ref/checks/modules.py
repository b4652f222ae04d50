"""What the checks of modules share: padding, and rows that must move.

Letters: B sentences, N positions of any axis.
"""

from collections.abc import Mapping

import numpy as np

from crossattn_ref.checks.compare import Violation

MOVED = 1e-6  # a row that differs by less has not moved


def moved(before: np.ndarray, after: np.ndarray, message: str, case: Mapping[str, object]) -> None:
    """Raise Violation with the message unless every row of two results differs."""
    with np.errstate(all="ignore"):
        differ = (np.abs(after - before).max(axis=-1) > MOVED).all()
    if not differ:
        raise Violation(message, case)


def lengths(rng: np.random.Generator, B: int, N: int) -> np.ndarray:
    """Draw how many of N places are real in each of B sentences: at least one, and never all."""
    return 1 + rng.permutation(N - 1)[np.arange(B) % (N - 1)]


def real(n_real: np.ndarray, N: int) -> np.ndarray:
    """Say which places are real -> mask (B, 1, 1, N), True = may look."""
    return (np.arange(N) < n_real[:, None])[:, None, None, :]
