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


def sequences(rng: np.random.Generator, batch_axes: int = 0, *, square: bool = False) -> dict[str, np.ndarray]:
    """Draw q (*batch, Nq, Dk), k (*batch, Nk, Dk) and v (*batch, Nk, Dv) whose sizes all differ, or all agree."""
    *batch, nq, nk, dk, dv = sizes(rng, batch_axes + 4, high=6 + batch_axes)
    if square:
        nq = nk = dv = dk
    return {"q": normal(rng, *batch, nq, dk), "k": normal(rng, *batch, nk, dk), "v": normal(rng, *batch, nk, dv)}


def visible(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Draw a mask, True = may look, with both values in every row."""
    mask = rng.random(shape) < 0.6
    mask[..., 0], mask[..., -1] = True, False
    return rng.permuted(mask, axis=-1)
