"""What the checks of modules share: results of the right shape that repeat, rows that must move, padding.

Letters: B sentences, N positions of any axis.
"""

from collections.abc import Mapping

import numpy as np

from crossattn_ref.checks.compare import Violation, insist
from crossattn_ref.checks.exercise import Ask
from crossattn_ref.checks.variants.stages import AT_RANDOM

MOVED = 1e-6  # a row that differs by less has not moved


def run(ask: Ask, config: Mapping, state: Mapping, args: Mapping[str, np.ndarray]) -> np.ndarray:
    """Run a module on x and what goes with it -> its result, which must have the shape of x."""
    return insist(ask.forward(config, state, **args), args["x"].shape, {**config, **args}, "tensor")


def repeated(ask: Ask, config: Mapping, state: Mapping, args: Mapping[str, np.ndarray]) -> None:
    """Raise Violation unless a module gives the same result for the same input once more, NaN and inf included."""
    alike(run(ask, config, state, args), run(ask, config, state, args), {**config, **args})


def alike(first: np.ndarray, second: np.ndarray, case: Mapping[str, object]) -> None:
    """Raise Violation, and name the mistake, where two results for the same input differ."""
    if not np.allclose(first, second, rtol=1e-4, atol=1e-4, equal_nan=True):
        why = "run twice on the same input, it gives two results: is anything drawn at random?"
        raise Violation(why, case, AT_RANDOM)


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
