"""Mistakes in cutting pictures into patches and in making a memory of them, and right answers computed another way.

Letters: B pictures, Y and X height and width, C channels, P side of a patch, R and K rows and columns of patches,
N = R K patches, D model width.
"""

import numpy as np

from crossattn_ref.checks.report import Misconception
from crossattn_ref.checks.variants.softmax import quiet
from crossattn_ref.checks.variants.stages import flat, pairs, staged


def patchify(images, size):
    return _tiles(images, size).reshape(len(images), -1, size * size * images.shape[-1])


def _tiles(images, size):
    """Cut pictures into (B, R, K, P, P, C)."""
    batch, height, width, channels = images.shape
    return images.reshape(batch, height // size, size, width // size, size, channels).swapaxes(2, 3)


def _reordered(*axes):
    """Take the axes (B, R, K, P, P, C) of the tiles in another order, and flatten as ever."""

    def cut(images, size):
        batch, height, width, channels = images.shape
        n = (height // size) * (width // size)
        return _tiles(images, size).transpose(axes).reshape(batch, n, size * size * channels)

    return cut


def _reshape_alone(images, size):
    return images.reshape(len(images), -1, size * size * images.shape[-1])


def _channels_first_then_cut(images, size):
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2)).reshape(len(images), -1, size * size * images.shape[-1])


def _every_nth_pixel(images, size):
    batch, height, width, channels = images.shape
    spread = images.reshape(batch, size, height // size, size, width // size, channels)
    return spread.transpose(0, 2, 4, 1, 3, 5).reshape(batch, -1, size * size * channels)


def _size_as_number(images, size):
    batch, height, width, channels = images.shape
    tiles = images.reshape(batch, size, height // size, size, width // size, channels).swapaxes(2, 3)
    return tiles.reshape(batch, size * size, -1)


def _overlapping(images, size):
    windows = np.lib.stride_tricks.sliding_window_view(images, (size, size), axis=(1, 2))
    return windows.transpose(0, 1, 2, 4, 5, 3).reshape(len(images), -1, size * size * images.shape[-1])


def _batch_mixed(images, size):
    return _tiles(images, size).transpose(1, 2, 0, 3, 4, 5).reshape(len(images), -1, size * size * images.shape[-1])


def _listed(*entries):
    return tuple(Misconception(name, quiet(wrong), *words) for name, wrong, *words in entries)


WHERE = "Change one pixel in the top left corner: how many patches may change?"
PATCHIFY = _listed(
    ("cut by a reshape alone", _reshape_alone, "with a reshape alone: a patch is a strip of pixels that lie in a row",
     "reshape walks along the rows of the picture. Which pixel comes after the P-th one of a patch?"),
    ("channels in front, then cut", _channels_first_then_cut,
     "with the channels moved in front, and then cut by a reshape: a patch holds one colour of many places",
     "A token is one place with all its channels. Which axis must stay together?"),
    ("patches column by column", _reordered(0, 2, 1, 3, 4, 5), "with the patches in the order of the columns",
     "Patch 1 of a picture: does it lie right of patch 0 or below it?"),
    ("pixels column by column", _reordered(0, 1, 2, 4, 3, 5), "with the pixels of each patch column by column",
     "Within a patch, which pixel follows the one in the corner?"),
    ("channels before pixels", _reordered(0, 1, 2, 5, 3, 4), "with each patch colour by colour, not pixel by pixel",
     "Which three numbers of a patch come first: three colours of a pixel, or one colour of three pixels?"),
    ("columns and pixels both turned", _reordered(0, 2, 1, 4, 3, 5), "with every picture transposed",
     "In (B, Y, X, C), which axis counts the rows?"),
    ("pixels and patches exchanged", _every_nth_pixel, "with patches made of every so many-th pixel",
     "Do neighbouring pixels lie in the same patch? " + WHERE),
    ("size as number", _size_as_number, "with so many patches along each side, where the size of a patch was given",
     "size = 2: how many pixels are in a patch of one channel?"),
    ("overlapping", _overlapping, "with a patch at every pixel", WHERE),
    ("pictures mixed", _batch_mixed, "with the patches of all pictures dealt out among the pictures",
     "Change the second picture: may the first one's patches move?"),
    ("grid kept", lambda images, size: _tiles(images, size).reshape(*_tiles(images, size).shape[:3], -1),
     "with rows and columns of patches as two axes", "How many axes has (B, N, P P C)?"),
    ("pixels not flattened", lambda images, size: _tiles(images, size).reshape(
        len(images), -1, size * size, images.shape[-1]),
     "with pixels and channels as two axes", "How many axes has (B, N, P P C)?"),
    ("averaged", lambda images, size: patchify(images, size).reshape(
        len(images), -1, size * size, images.shape[-1]).mean(axis=2),
     "with one average colour for each patch", "How many numbers go in, and how many come out?"),
    ("channels averaged", lambda images, size: patchify(images.mean(-1, keepdims=True), size),
     "with the channels averaged to grey", "How many numbers go in, and how many come out?"),
    ("width only", lambda images, size: images.reshape(
        *images.shape[:2], -1, size * images.shape[3]).reshape(len(images), -1, size * images.shape[3]),
     "with rows cut into pieces, and never put together into squares", "How many rows of pixels has a patch?"),
    ("axis order reversed", lambda images, size: patchify(images, size)[:, ::-1], "with the last patch first",
     "Where does patch 0 lie?"),
)  # fmt: skip


def _loops(images, size):
    batch, height, width, _ = images.shape
    patches = [
        images[:, top : top + size, left : left + size].reshape(batch, -1)
        for top in range(0, height, size)
        for left in range(0, width, size)
    ]
    return np.stack(patches, axis=1)


def _split_and_stack(images, size):
    rows = np.split(images, images.shape[1] // size, axis=1)
    tiles = [tile for row in rows for tile in np.split(row, row.shape[2] // size, axis=2)]
    return np.stack([tile.reshape(len(images), -1) for tile in tiles], axis=1)


def _einsum(images, size):
    batch, height, width, channels = images.shape
    grid = images.reshape(batch, height // size, size, width // size, size, channels)
    return np.einsum("brykxc->brkyxc", grid).reshape(batch, -1, size * size * channels)


def _pixel_by_pixel(images, size):
    batch, height, width, channels = images.shape
    out = np.empty((batch, height * width // size**2, size**2 * channels), np.float32)
    for y, x, c in np.ndindex(height, width, channels):
        patch = y // size * (width // size) + x // size
        out[:, patch, (y % size * size + x % size) * channels + c] = images[:, y, x, c]
    return out


def _windows(images, size):
    windows = np.lib.stride_tricks.sliding_window_view(images, (size, size), axis=(1, 2))[:, ::size, ::size]
    return np.moveaxis(windows, 3, -1).reshape(len(images), -1, size * size * images.shape[-1])


PATCHIFY_ALTERNATIVES = (_loops, _split_and_stack, _einsum, _pixel_by_pixel, _windows)


def _linear(patches, weight, bias):
    return patches @ weight + bias


def _grid(rows, columns):
    """Give each place the vector of its row and that of its column, row by row -> (N, D)."""
    return (rows[:, None] + columns).reshape(-1, rows.shape[-1])


def _added(projected, places):
    return projected + places


def encode(patches, weight, bias, rows, columns, *, project=_linear, place=_grid, join=_added):
    """Make a memory of patches with any stage replaced; as it stands, the right one."""
    return join(project(patches, weight, bias), place(rows, columns))


def _normed(x):
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)


ENCODE_STAGES = staged(
    encode,
    project=(
        ("no bias", lambda p, w, b: p @ w, "without the bias", "Which of the arguments has no work?"),
        ("bias twice", lambda p, w, b: p @ w + 2 * b, "with the bias added twice", "How often is the bias added?"),
        ("rectified", lambda p, w, b: np.maximum(p @ w + b, 0), "with negative numbers set to zero",
         "The projection is a linear map. May its result be below zero?"),
        ("patches normalized", lambda p, w, b: _normed(p) @ w + b, "with each patch normalized first",
         "A bright patch and a dark one of the same pattern: may the memory tell them apart?"),
        ("result normalized", lambda p, w, b: _normed(p @ w + b), "with what the projection gives normalized",
         "Does the formula have a norm?"),
    ),
    place=(
        ("no rows", lambda rows, columns: _grid(0 * rows, columns), "without the vectors of the rows",
         "Move a patch up by one: does its row of the memory change?"),
        ("no columns", lambda rows, columns: _grid(rows, 0 * columns), "without the vectors of the columns",
         "Move a patch to the left by one: does its row of the memory change?"),
        ("column by column", lambda r, c: (r + c[:, None]).reshape(-1, r.shape[-1]),
         "with places numbered column by column, where patches come row by row",
         "Patch 1 lies right of patch 0. Which of the two vectors changes between them?"),
        ("rows one after another", lambda r, c: np.tile(r, (len(c), 1)) + np.tile(c, (len(r), 1)),
         "with both lists of vectors repeated one after another: row vectors change at every patch",
         "Patch 0 and patch 1 lie in the same row. Do they get the same row vector?"),
        ("each vector repeated", lambda r, c: np.repeat(r, len(c), 0) + np.repeat(c, len(r), 0),
         "with every column vector given to neighbouring patches", "Patch 0 and patch 1: are they in one column?"),
        ("multiplied", lambda r, c: (r[:, None] * c).reshape(-1, r.shape[-1]),
         "with the vectors of row and column multiplied", "How are the two joined in the formula?"),
        ("half", lambda r, c: _grid(r, c) / 2, "with the mean of the two vectors, not their sum",
         "How are the two joined in the formula?"),
    ),
    join=(
        ("no places", lambda x, places: x, "without any place",
         "Swap two patches: are the rows of the memory other ones, or the same in another order?"),
        ("places along the batch", lambda x, places: x + np.resize(places, (len(x), 1, places.shape[-1])),
         "with places along the batch: all patches of a picture get the same one",
         "Put the same picture into the batch twice. Does it get the same memory?"),
        ("places multiplied", lambda x, places: x * places, "with places multiplied, not added",
         "A place of zeros: should it erase the patch?"),
        ("side by side", lambda x, places: np.concatenate([x, np.broadcast_to(places, x.shape)], axis=-1),
         "with place and patch side by side, not added", "How wide is a row of the memory?"),
        ("scaled", lambda x, places: x * np.sqrt(np.asarray(x.shape[-1], x.dtype)) + places,
         "with the patches multiplied by the square root of D", "Does the formula scale anything?"),
        ("places alone", lambda x, places: np.broadcast_to(places, x.shape) + 0 * x, "with the places alone",
         "Change a pixel: does the memory change?"),
        ("averaged", lambda x, places: (x + places).mean(1, keepdims=True), "with one row for the whole picture",
         "How many rows has the memory of N patches?"),
    ),
)  # fmt: skip
ENCODE = flat(ENCODE_STAGES)


def encode_composed():
    """Make the mistakes that two stages make together."""
    return pairs(encode, ENCODE_STAGES)


def _place_by_place(patches, weight, bias, rows, columns):
    out = np.empty((*patches.shape[:2], weight.shape[1]))
    for b, n in np.ndindex(patches.shape[:2]):
        out[b, n] = patches[b, n] @ weight + bias + rows[n // len(columns)] + columns[n % len(columns)]
    return out


def _by_repeat_and_tile(patches, weight, bias, rows, columns):
    places = np.repeat(rows, len(columns), axis=0) + np.tile(columns, (len(rows), 1))
    return np.einsum("bnp,pd->bnd", patches, weight) + (bias + places)


def _on_the_grid(patches, weight, bias, rows, columns):
    projected = (patches @ weight).reshape(len(patches), len(rows), len(columns), -1)
    return (projected + bias + rows[:, None] + columns[None, :]).reshape(*patches.shape[:2], -1)


def _in_float32(patches, weight, bias, rows, columns):
    return encode(*(array.astype(np.float32) for array in (patches, weight, bias, rows, columns)))


ENCODE_ALTERNATIVES = (_place_by_place, _by_repeat_and_tile, _on_the_grid, _in_float32)
