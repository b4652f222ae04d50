"""Whether words look at what they name: the pointing game, the mass inside a region, and the overlap with it.

Each is a mean over the words that name something; 0 where none does. NumPy only.

Letters: Nq words, Nk patches of a picture; * any axes in front, such as pictures, layers or heads.
"""

from collections.abc import Iterable, Sequence

import numpy as np


def pointing_game(weights: np.ndarray, regions: np.ndarray) -> float:
    """Compute the share of the words that name something whose largest weight lies in what they name.

    weights (*, Nq, Nk), regions bool (*, Nq, Nk), True for the patches that a word names and nowhere for a word that
    names nothing. Of equally large weights the first one points.

    Raises TypeError for regions that are not boolean, ValueError for another shape than that of the weights.
    Source: Zhang et al., Top-Down Neural Attention by Excitation Backprop (2018), the pointing game.
    """
    weights, regions = _checked(weights, regions)
    finger = weights.argmax(axis=-1)[..., None]
    return _mean(np.take_along_axis(regions, finger, axis=-1)[..., 0], regions)


def attention_mass(weights: np.ndarray, regions: np.ndarray) -> float:
    """Compute how much of its attention a word that names something gives to what it names.

    A finger can point right where little of the attention lies: the largest of 16 weights may be a tenth.
    Shapes and errors as for pointing_game.
    """
    weights, regions = _checked(weights, regions)
    return _mean((weights * regions).sum(axis=-1), regions)


def attention_iou(weights: np.ndarray, regions: np.ndarray, *, threshold: float = 0.5) -> float:
    """Compute how well the patches that are looked at and those that are named cover each other: |A & B| / |A | B|.

    Looked at are the patches with at least threshold times the word's largest weight.
    Shapes and errors as for pointing_game; ValueError also for a threshold outside of (0, 1].
    """
    weights, regions = _checked(weights, regions)
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold must lie above 0 and not above 1, got {threshold}")
    looked = weights >= threshold * weights.max(axis=-1, keepdims=True)
    union = (looked | regions).sum(axis=-1)
    return _mean((looked & regions).sum(axis=-1) / np.maximum(union, 1), regions)


def regions_of(named: Sequence[int | Iterable[int] | None], n_patches: int) -> np.ndarray:
    """Write down what each word names -> bool (Nq, n_patches): a patch's number, several of them, or None for nothing.

    Raises ValueError for a patch that there is not.
    """
    regions = np.zeros((len(named), n_patches), dtype=bool)
    for row, patches in zip(regions, named, strict=True):
        numbers = [] if patches is None else sorted(patches) if isinstance(patches, Iterable) else [patches]
        if wrong := [number for number in numbers if not 0 <= number < n_patches]:
            raise ValueError(f"named must hold numbers of patches from 0 to {n_patches - 1}, got {wrong[0]}")
        row[numbers] = True
    return regions


def _mean(scores, regions):
    names = regions.any(axis=-1)
    return float(scores[names].mean()) if names.any() else 0.0


def _checked(weights, regions):
    weights, regions = np.asarray(weights), np.asarray(regions)
    if regions.dtype != bool:
        raise TypeError(f"regions must be boolean, True for what a word names, got dtype {regions.dtype}")
    if weights.shape != regions.shape or weights.ndim < 1 or not weights.shape[-1]:
        raise ValueError(f"weights {weights.shape} and regions {regions.shape} must have one shape, (*, Nq, Nk)")
    return weights, regions
