"""Mistakes in splitting rows into heads and in merging heads into rows, and right answers computed another way.

Letters: B samples in a batch, H heads, N positions, D model width, Dk = D / H width of one head.
"""

import numpy as np

from crossattn_ref.checks.report import Misconception
from crossattn_ref.checks.variants.softmax import quiet


def split(x, n_heads):
    return x.reshape(*x.shape[:2], n_heads, -1).swapaxes(1, 2)


def merge(x):
    return x.swapaxes(1, 2).reshape(x.shape[0], x.shape[2], -1)


def _listed(*entries):
    return tuple(Misconception(name, quiet(wrong), *words) for name, wrong, *words in entries)


def _by_position(x, n_heads):
    size = -(-x.shape[1] // n_heads)
    out = np.zeros((x.shape[0], n_heads, size, x.shape[2]), x.dtype)
    for head in range(n_heads):
        piece = x[:, head * size : (head + 1) * size]
        out[:, head, : piece.shape[1]] = piece
    return out


def _sequence_first(x, n_heads):
    first, second, width = x.shape
    return x.reshape(first, second * n_heads, width // n_heads).swapaxes(0, 1).reshape(second, n_heads, first, -1)


def _batch_mixed(x, n_heads):
    batch, n, width = x.shape
    return x.reshape(batch, n, n_heads, -1).transpose(2, 0, 1, 3).reshape(batch, n_heads, n, width // n_heads)


SPLIT = _listed(
    ("cut without a transpose", lambda x, h: x.reshape(x.shape[0], h, x.shape[1], -1),
     "with a reshape alone, where two axes should change places",
     "reshape cuts the same numbers into other rows. Which position do the first Dk numbers of head 1 come from?"),
    ("transposed, then cut again", lambda x, h: x.swapaxes(1, 2).reshape(x.shape[0], h, x.shape[1], -1),
     "with positions and columns transposed first, and then cut into rows anew",
     "After your transpose, what does a row hold: one position, or one column of all positions?"),
    ("cut into columns, then transposed", lambda x, h: x.reshape(x.shape[0], h, -1, x.shape[1]).swapaxes(2, 3),
     "with a row cut into pieces as long as the sentence, before any axes change places",
     "reshape walks along the rows. Which of your axes does it walk along first, the positions or the columns?"),
    ("heads after positions", lambda x, h: x.reshape(*x.shape[:2], h, -1),
     "with the heads cut, but still behind the positions",
     "Attention runs over the last two axes. Which two are they here, and which should they be?"),
    ("every H-th column", lambda x, h: x.reshape(*x.shape[:2], -1, h).transpose(0, 3, 1, 2),
     "with heads made of every H-th column, not of neighbouring ones",
     "Columns 0 and 1 of a row: are they in the same head?"),
    ("columns before positions", lambda x, h: x.reshape(*x.shape[:2], h, -1).transpose(0, 2, 3, 1),
     "with the columns of a head before its positions", "Which of the last two axes counts the positions?"),
    ("heads before the batch", lambda x, h: x.reshape(*x.shape[:2], h, -1).transpose(2, 0, 1, 3),
     "with the heads in front of the sentences", "Which axis of (B, H, N, Dk) counts the sentences?"),
    ("batch and heads folded", lambda x, h: split(x, h).reshape(-1, x.shape[1], x.shape[2] // h),
     "with sentences and heads on one axis", "How many axes has (B, H, N, Dk)?"),
    ("sentences mixed", _batch_mixed,
     "with heads and sentences cut anew along one axis: a sentence gets another's heads",
     "Change the second sentence: which heads of the first one move?"),
    ("sequence first", _sequence_first, "with sentences and positions in each other's places",
     "In x (B, N, D), what does the first axis count?"),
    ("width of a head as their number", lambda x, h: split(x, x.shape[-1] // h),
     "with heads of width H, and as many of them as one head is wide",
     "n_heads counts the heads. How wide is each of them?"),
    ("whole rows copied", lambda x, h: np.repeat(x[:, None], h, axis=1), "when every head gets the whole row",
     "How many numbers go in, and how many come out?"),
    ("first head for all", lambda x, h: np.repeat(split(x, h)[:, :1], h, axis=1),
     "when every head gets the first Dk columns", "Which columns belong to head 1?"),
    ("heads reversed", lambda x, h: split(x, h)[:, ::-1], "with the heads in reverse order",
     "Which columns belong to head 0?"),
    ("cut along the positions", _by_position, "with the positions shared out among the heads, not the columns",
     "Does every head see every position?"),
)  # fmt: skip


def _slices(x, n_heads):
    width = x.shape[-1] // n_heads
    return np.stack([x[:, :, h * width : (h + 1) * width] for h in range(n_heads)], axis=1)


def _split_by_numpy(x, n_heads):
    return np.array(np.split(x, n_heads, axis=-1)).transpose(1, 0, 2, 3)


def _einsum(x, n_heads):
    return np.einsum("bnhd->bhnd", x.reshape(x.shape[0], x.shape[1], n_heads, x.shape[2] // n_heads))


def _columns_in_front(x, n_heads):
    """Transposing twice brings the columns of a head together, too."""
    return x.swapaxes(1, 2).reshape(x.shape[0], n_heads, -1, x.shape[1]).swapaxes(2, 3)


def _number_by_number(x, n_heads):
    batch, n, width = x.shape
    out = np.empty((batch, n_heads, n, width // n_heads), x.dtype)
    for b, i, c in np.ndindex(x.shape):
        out[b, c // out.shape[3], i, c % out.shape[3]] = x[b, i, c]
    return out


SPLIT_ALTERNATIVES = (_slices, _split_by_numpy, _einsum, _columns_in_front, _number_by_number)


def _sentences_side_by_side(x):
    return np.concatenate(list(x), axis=-1)


MERGE = _listed(
    ("merged without a transpose", lambda x: x.reshape(x.shape[0], x.shape[2], -1),
     "with a reshape alone, where two axes should change places first",
     "Row 0 of the result: do all of its numbers belong to position 0?"),
    ("interleaved", lambda x: x.transpose(0, 2, 3, 1).reshape(x.shape[0], x.shape[2], -1),
     "with the columns of the heads shuffled into each other", "Which columns of a row belong to head 0?"),
    ("columns first", lambda x: x.transpose(0, 1, 3, 2).reshape(x.shape[0], x.shape[2], -1),
     "with positions and columns of each head transposed, and then cut into rows anew",
     "Row 0 of the result: do all of its numbers belong to position 0?"),
    ("all axes turned", lambda x: x.transpose(0, 3, 2, 1).reshape(x.shape[0], x.shape[2], -1),
     "with heads and columns in each other's places, and then cut into rows anew",
     "Row 0 of the result: do all of its numbers belong to position 0?"),
    ("averaged", lambda x: x.mean(axis=1), "with the heads averaged",
     "Each head brings something else. How wide is a row that keeps all of it?"),
    ("added", lambda x: x.sum(axis=1), "with the heads added up",
     "Each head brings something else. How wide is a row that keeps all of it?"),
    ("largest", lambda x: x.max(axis=1), "with the largest number of all heads",
     "Each head brings something else. How wide is a row that keeps all of it?"),
    ("first head only", lambda x: x[:, 0], "with every head but the first thrown away",
     "How many numbers go in, and how many come out?"),
    ("averaged and repeated", lambda x: np.tile(x.mean(axis=1), x.shape[1]),
     "with the heads averaged, and the average repeated to the full width",
     "Change head 0: which columns of the result move?"),
    ("one below the other", lambda x: x.reshape(x.shape[0], -1, x.shape[3]),
     "with the heads below each other, not side by side", "How many rows has the result: N, or H times N?"),
    ("not flattened", lambda x: x.swapaxes(1, 2), "with the axes in order, but the heads still an axis of their own",
     "How many axes has (B, N, D)?"),
    ("sequence first", lambda x: merge(x).swapaxes(0, 1), "with sentences and positions in each other's places",
     "In (B, N, D), what does the first axis count?"),
    ("sentences side by side", _sentences_side_by_side, "with the sentences side by side, where the heads should be",
     "Which axis of (B, H, N, Dk) counts the heads?"),
    ("heads reversed", lambda x: merge(x[:, ::-1]), "with the heads in reverse order",
     "Which columns of a row belong to head 0?"),
    ("batch and heads swapped", lambda x: x.transpose(1, 2, 0, 3).reshape(x.shape[0], x.shape[2], -1),
     "with heads and sentences in each other's places", "Change the second sentence: may the first one's rows move?"),
)  # fmt: skip


def _side_by_side(x):
    return np.concatenate([x[:, h] for h in range(x.shape[1])], axis=-1)


def _by_moveaxis(x):
    batch, _, n, _ = x.shape
    return np.moveaxis(x, 1, 2).copy().reshape((batch, n, -1))


def _by_stack(x):
    return np.hstack(list(x.swapaxes(0, 1).swapaxes(2, 3))).swapaxes(1, 2)


def _one_number_at_a_time(x):
    batch, heads, n, width = x.shape
    out = np.empty((batch, n, heads * width), x.dtype)
    for b, h, i, c in np.ndindex(x.shape):
        out[b, i, h * width + c] = x[b, h, i, c]
    return out


def _by_identity(x):
    """Give each head columns of its own by a product with a slice of the identity, and add up."""
    place = np.eye(x.shape[1] * x.shape[3]).reshape(x.shape[1], x.shape[3], -1)
    return np.einsum("bhnd,hde->bne", x, place)


MERGE_ALTERNATIVES = (_side_by_side, _by_moveaxis, _by_stack, _one_number_at_a_time, _by_identity)
