"""Pictures made of pixels, and where words look in them.

Letters: B pictures, Y and X height and width in pixels, C channels, Nq words, R and K rows and columns of patches.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from crossattn_ref.plot import paper
from crossattn_ref.plot.style import FONT, picture, style
from crossattn_ref.svg import COLOUR, WIDTH, Picture

_SIDE, _GAP, _LINE = 80, 13, 1.35 * FONT  # of a picture on paper, between two of them, of a line of text
_COLUMNS = int((WIDTH + _GAP) // (_SIDE + _GAP))
_VEIL = 0.92  # how much a patch of weight 0 is covered


def pictures(images: np.ndarray, *, names: Sequence[str], title: str, alt: str) -> Picture:
    """Draw pictures side by side, the name of each below it.

    images (B, Y, X, C), 0 to 255 in uint8 or floats in [0, 1]; C is 1 (grey) or 3.
    Raises ValueError for other shapes or values, for names that do not fit, and for a missing title or alt.
    """
    images = _images(images)
    names = paper.labels("names", names, len(images))
    with style():
        sheet, frames = _sheet(len(images), images.shape[1:3], n_lines=1)
        for frame, image, name in zip(frames, images, names, strict=True):
            _image(sheet, frame, image)
            _below(sheet, frame, name)
        return picture(sheet.figure, title=title, alt=alt)


def looks(
    image: np.ndarray,
    weights: np.ndarray,
    *,
    words: Sequence[str],
    gold: Sequence[int | Iterable[int] | None] | None = None,
    title: str,
    alt: str,
) -> Picture:
    """Draw one picture for each word, veiled where the word does not look, and its largest weight beside the word.

    image (Y, X, C) as for pictures, or one for each word, (Nq, Y, X, C). weights (Nq, R, K) in [0, 1]: a patch of
    weight 1 is clear, one of weight 0 all but hidden. gold names the patches that are outlined, row by row from 0: a
    number, several, or None for each word.
    Raises ValueError for other shapes or values, labels or gold that do not fit, and for a missing title or alt.
    """
    weights = _weights(weights)
    images = _one_each(image, len(weights))
    words = paper.labels("words", words, len(weights))
    with style():
        sheet, frames = _sheet(len(words), images.shape[1:3], n_lines=2)
        drawn = zip(frames, images, words, weights, _gold(gold, weights), strict=True)
        for frame, image, word, shares, named in drawn:
            patches = _cut(frame, shares.shape)
            _image(sheet, frame, image)
            for patch, share in zip(patches, shares.flat, strict=True):
                veil = (COLOUR["paper"], _VEIL * (1 - share))
                paper.box(sheet, *patch, facecolor=veil, edgecolor="none")
            for number in named:
                paper.outline(sheet, *patches[number])
            _below(sheet, frame, word, f"{shares.max():.2f}")
        return picture(sheet.figure, title=title, alt=alt)


def _sheet(n, size, *, n_lines):
    """Make a sheet for n pictures of a size in pixels -> sheet, and the frame of each: corner, width, height."""
    height = _SIDE * size[0] / size[1]
    across, down = _SIDE + _GAP, height + n_lines * _LINE + _GAP
    corners = [(place % _COLUMNS * across, place // _COLUMNS * down) for place in range(n)]
    sheet = paper.sheet(min(n, _COLUMNS) * across - _GAP, -(-n // _COLUMNS) * down - _GAP)
    return sheet, [(corner, _SIDE, height) for corner in corners]


def _cut(frame, shape):
    """Cut a frame into patches, row by row, each a frame of its own."""
    (x, y), width, height = frame
    width, height = width / shape[1], height / shape[0]
    return [((x + column * width, y + row * height), width, height) for row, column in np.ndindex(shape)]


def _image(sheet, frame, image):
    (x, y), width, height = frame
    sheet.imshow(image, extent=(x, x + width, y + height, y), interpolation="none", aspect="auto", zorder=0)
    paper.box(sheet, *frame)


def _below(sheet, frame, *lines):
    (x, y), width, height = frame
    for number, line in enumerate(lines):
        weight = "bold" if number == 0 else "normal"
        place = x + width / 2, y + height + (number + 0.6) * _LINE
        sheet.text(*place, line, ha="center", va="center_baseline", fontweight=weight)


def _images(images):
    """Bring pictures into uint8 (B, Y, X, 3)."""
    images = np.asarray(images)
    if images.ndim != 4 or images.shape[-1] not in (1, 3) or not images.size:
        raise ValueError(f"a picture must have shape (Y, X, 1) or (Y, X, 3), got {images.shape[1:]}")
    if images.dtype != np.uint8:
        if not (images.min() >= 0 and images.max() <= 1):
            raise ValueError(f"a picture of {images.dtype} must lie in [0, 1], got {images.min()} to {images.max()}")
        images = np.rint(255 * images).astype(np.uint8)
    return np.broadcast_to(images, (*images.shape[:-1], 3))


def _one_each(image, n):
    """Bring the one picture of all words, or the one of each, into uint8 (Nq, Y, X, 3)."""
    images = _images(image if np.ndim(image) == 4 else np.asarray(image)[None])
    if len(images) not in (1, n):
        raise ValueError(f"image must be one for all words, or one for each of {n}, got {len(images)}")
    return np.broadcast_to(images, (n, *images.shape[1:]))


def _weights(weights):
    weights = np.asarray(weights, dtype=float)
    if weights.ndim != 3 or not weights.size:
        raise ValueError(f"weights must have shape (Nq, R, K), one map for each word, got {weights.shape}")
    if not (weights.min() >= 0 and weights.max() <= 1):
        raise ValueError(f"weights must lie in [0, 1], got {weights.min()} to {weights.max()}")
    return weights


def _gold(gold, weights):
    """List the numbers of the patches that each word names."""
    named = [None] * len(weights) if gold is None else list(gold)
    if len(named) != len(weights):
        raise ValueError(f"gold must name the patches of each of {len(weights)} words, got {len(named)}")
    numbers = [[] if one is None else sorted(one) if isinstance(one, Iterable) else [one] for one in named]
    n_patches = weights[0].size
    if wrong := [number for several in numbers for number in several if not 0 <= number < n_patches]:
        raise ValueError(f"gold must hold numbers of patches from 0 to {n_patches - 1}, got {wrong[0]}")
    return numbers
