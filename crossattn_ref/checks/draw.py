"""Random inputs for checks: sizes that betray swapped axes, values that a learner can read and paste."""

import numpy as np


def sizes(rng: np.random.Generator, count: int, low: int = 3, high: int = 9) -> tuple[int, ...]:
    """Draw pairwise distinct sizes, so that no two axes can be taken for each other."""
    return tuple(int(size) for size in low + rng.permutation(high - low + 1)[:count])


def normal(rng: np.random.Generator, *shape: int, decimals: int = 1) -> np.ndarray:
    """Draw standard normal numbers, rounded so that they are short in print."""
    return np.round(rng.standard_normal(shape), decimals) + 0.0  # + 0.0 turns -0. into 0.


def read_only(*arrays: np.ndarray) -> tuple[np.ndarray, ...]:
    """Copy arrays and lock the copies: an answer that writes into its input fails on them."""
    copies = tuple(array.copy() for array in arrays)
    for copy in copies:
        copy.flags.writeable = False
    return copies
