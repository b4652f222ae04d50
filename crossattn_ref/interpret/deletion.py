"""Whether what is looked at matters: patches are painted over, one after the other, and an answer is watched.

NumPy only: a model is a function from pictures to scores.

Letters: B pictures in a batch, Y and X height and width in pixels, C channels, R and K rows and columns of patches,
N = R K patches.
"""

from collections.abc import Callable

import numpy as np


def delete_patches(images: np.ndarray, gone: np.ndarray, *, fill: float | np.ndarray) -> np.ndarray:
    """Paint patches over -> pictures of the same dtype, what was given left as it is.

    images (B, Y, X, C); gone bool (B, R, K), True for what is painted over; fill one number, or one for each channel.
    Raises TypeError for a gone that is not boolean, ValueError where R x K patches do not fill the picture.
    """
    images, gone = np.array(images), np.asarray(gone)
    if gone.dtype != bool:
        raise TypeError(f"gone must be boolean, True for what is painted over, got dtype {gone.dtype}")
    if images.ndim != 4 or gone.ndim != 3 or len(gone) != len(images):
        raise ValueError(f"images (B, Y, X, C) and gone (B, R, K) must fit, got {images.shape} and {gone.shape}")
    (_, rows, columns), (height, width) = gone.shape, images.shape[1:3]
    if not rows or not columns or height % rows or width % columns:
        raise ValueError(f"{rows} x {columns} patches must fill a picture of {height} x {width} pixels")
    pixels = gone.repeat(height // rows, axis=1).repeat(width // columns, axis=2)
    images[pixels] = fill
    return images


def deletion_curve(
    score: Callable[[np.ndarray], np.ndarray], image: np.ndarray, order: np.ndarray, *, fill: float | np.ndarray
) -> np.ndarray:
    """Watch a score while patches disappear, those with the largest numbers first -> (N + 1,), the whole picture first.

    score takes pictures (N + 1, Y, X, C) and returns a number for each; image (Y, X, C); order (R, K): the weights of a
    map, or their negatives to begin where nothing is looked at, or random numbers to compare with. Of equal numbers the
    first goes first.

    Raises ValueError for an order of another shape, or where score does not return one number for each picture.
    Source: Petsiuk et al., RISE (2018), the deletion metric.
    """
    image, order = np.asarray(image), np.asarray(order)
    if image.ndim != 3 or order.ndim != 2:
        raise ValueError(f"image (Y, X, C) and order (R, K) must fit, got {image.shape} and {order.shape}")
    rank = np.empty(order.size, dtype=int)
    rank[np.argsort(-order.ravel(), kind="stable")] = np.arange(order.size)
    gone = rank.reshape(order.shape) < np.arange(order.size + 1)[:, None, None]
    scores = np.asarray(score(delete_patches(np.repeat(image[None], len(gone), axis=0), gone, fill=fill)), dtype=float)
    if scores.shape != (len(gone),):
        raise ValueError(f"score must return one number for each of {len(gone)} pictures, got shape {scores.shape}")
    return scores


def area_under(curve: np.ndarray) -> float:
    """Compute the area under a curve over the share that is gone, from 0 to 1: small where what matters went first.

    Raises ValueError for a curve of fewer than two points.
    """
    curve = np.asarray(curve, dtype=float)
    if curve.ndim != 1 or curve.size < 2:
        raise ValueError(f"curve must hold at least two points, got shape {curve.shape}")
    return float(np.trapezoid(curve, dx=1 / (curve.size - 1)))
