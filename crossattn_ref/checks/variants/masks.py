"""Mistakes in making masks, and right answers computed another way.

A mask is a comparison, a kind of number, and a shape; a mistake replaces one of the three.

Letters: B samples in a batch, H heads, Nq queries, Nk keys. True = may look.
"""

import numpy as np

from crossattn_ref.checks.report import Misconception
from crossattn_ref.checks.variants.stages import flat, staged


def kept(mask):
    """Leave a mask as it is: a boolean array."""
    return mask


def _float(mask):
    return mask.astype(np.float64)


def _integer(mask):
    return mask.astype(np.int64)


def _additive(mask):
    return np.where(mask, 0.0, -np.inf)


def four_axes(mask):
    return mask[:, None, None, :]


def _before(place, length, n_keys):
    return place < length


def padding(lengths, n_keys, *, compare=_before, number=kept, shape=four_axes):
    """The padding mask (B, 1, 1, Nk) with any stage replaced; as it stands, the right one."""
    return shape(number(compare(np.arange(n_keys), lengths[:, None], n_keys)))


def _below(row, column):
    return column <= row


def causal(n, *, compare=_below, number=kept, shape=kept):
    """The causal mask (n, n) with any stage replaced; as it stands, the right one."""
    place = np.arange(n)
    return shape(number(compare(place[:, None], place[None, :])))


NUMBER = (
    ("numbers", _float, "with 1.0 and 0.0 in place of True and False",
     "Which dtype does a mask of True and False have?"),
    ("integers", _integer, "with 1 and 0 in place of True and False",
     "Which dtype does a mask of True and False have?"),
    ("additive", _additive, "with 0 and -inf, to be added to the scores",
     "Some libraries add a mask to the scores. What does this course do with one?"),
)  # fmt: skip


PADDING_STAGES = staged(
    padding,
    compare=(
        ("polarity", lambda place, length, n: place >= length, "with True where the padding is",
         "True = may look. What stands in the places after the last real token?"),
        ("one too many", lambda place, length, n: place <= length, "with one place too many in every sentence",
         "Places count from 0. In a sentence of length 3, which place is the last real one?"),
        ("one too few", lambda place, length, n: place < length - 1, "with one place too few in every sentence",
         "Places count from 0. In a sentence of length 3, which place is the last real one?"),
        ("padding in front", lambda place, length, n: place >= n - length, "with the padding in front of the tokens",
         "On which side of the real tokens does the padding stand here?"),
        ("first length for all", lambda place, length, n: (place < length[0]) & (length >= 0),
         "with the first sentence's length for every sentence", "How many tokens has the second sentence?"),
        ("longest length for all", lambda place, length, n: (place < length.max()) & (length >= 0),
         "with the longest sentence's length for every sentence", "How many tokens has the shortest sentence?"),
        ("only the last", lambda place, length, n: place == length - 1, "with True at the last real token alone",
         "How many places of a sentence of three tokens may be looked at?"),
        ("only the end", lambda place, length, n: place == length, "with True at the first place of padding alone",
         "How many places of a sentence of three tokens may be looked at?"),
        ("nothing hidden", lambda place, length, n: (place >= 0) & (length >= 0), "when every place may be looked at",
         "Where do the lengths enter?"),
        ("first place hidden", lambda place, length, n: (place > 0) & (place < length),
         "with the first place hidden in every sentence", "Is place 0 a real token?"),
    ),
    number=NUMBER,
    shape=(
        ("two axes", kept, "without the axes for heads and queries",
         "The mask must line up with scores of four axes. Which two are missing?"),
        ("three axes", lambda mask: mask[:, None, :], "with one axis of size 1, not two",
         "The mask must line up with scores of four axes. Which one is missing?"),
        ("keys on the query axis", lambda mask: mask[:, None, :, None], "with the keys on the axis of the queries",
         "Rows are queries and columns are keys. Which of the two does padding hide?"),
        ("batch on the head axis", lambda mask: mask[None, :, None, :], "with the sentences on the axis of the heads",
         "Which axis of the scores (B, H, Nq, Nk) counts the sentences?"),
        ("sentences last", lambda mask: mask.T[:, None, None, :], "with sentences and keys in each other's places",
         "Which axis of the scores (B, H, Nq, Nk) counts the keys?"),
        ("repeated for queries", lambda mask: np.repeat(four_axes(mask), mask.shape[1], axis=2),
         "with the same row repeated, as if there were as many queries as keys",
         "How many queries will there be? Does the padding of the keys depend on it?"),
        ("queries hidden too", lambda mask: mask[:, None, :, None] & mask[:, None, None, :],
         "with the rows of padded queries hidden too",
         "A padded query's output is dropped in the loss. What does a row of False do to the softmax?"),
        ("sorted", lambda mask: four_axes(mask)[np.argsort(-mask.sum(axis=1), kind="stable")],
         "with the sentences sorted by length", "In which order were the lengths given?"),
    ),
)  # fmt: skip


def _counted_from_the_end(lengths, n_keys):
    mask = np.ones((len(lengths), 1, 1, n_keys), dtype=bool)
    for b, length in enumerate(lengths):
        mask[b, ..., -(n_keys - length) :] = False
    return mask


PADDING = (
    *flat(PADDING_STAGES),
    Misconception("width from the lengths", lambda lengths, n_keys: padding(lengths, lengths.max()),
                  "with as many keys as the longest sentence has",
                  "A batch may be wider than its longest sentence. Which argument tells the width?"),
    Misconception("width from the batch", lambda lengths, n_keys: padding(lengths, len(lengths)),
                  "with as many keys as there are sentences", "Which argument tells the number of keys?"),
    Misconception("minus zero", _counted_from_the_end,
                  "when the padding is counted from the end, and a sentence without any loses every token",
                  "With no padding at all you count -0 places from the end. Where does that begin?"),
)  # fmt: skip


def _one_by_one(lengths, n_keys):
    mask = np.zeros((len(lengths), 1, 1, n_keys), dtype=bool)
    for b, length in enumerate(lengths):
        mask[b, 0, 0, :length] = True
    return mask


def _from_lists(lengths, n_keys):
    return np.array([[[[j < length for j in range(n_keys)]]] for length in lengths])


def _rows_of_a_triangle(lengths, n_keys):
    return np.tri(n_keys + 1, n_keys, -1, dtype=bool)[lengths][:, None, None]


def _by_outer(lengths, n_keys):
    return np.greater.outer(lengths, np.arange(n_keys)).reshape(len(lengths), 1, 1, -1)


def _reshaped_lengths(lengths, n_keys):
    return ~(np.arange(n_keys)[None, None, None, :] >= lengths.reshape(-1, 1, 1, 1))


PADDING_ALTERNATIVES = (_one_by_one, _from_lists, _rows_of_a_triangle, _by_outer, _reshaped_lengths)

CAUSAL_STAGES = staged(
    causal,
    compare=(
        ("future only", lambda row, column: column > row, "with True where the future is",
         "True = may look. May the first position look at the last?"),
        ("upper triangle", lambda row, column: column >= row,
         "when each position looks at itself and at what comes after", "Which of two positions was written first?"),
        ("itself hidden", lambda row, column: column < row, "when a position may not look at itself",
         "The first position has no one before it. What may it look at?"),
        ("one ahead", lambda row, column: column <= row + 1, "when each position sees one step ahead",
         "While position 2 is being written, is position 3 known?"),
        ("itself only", lambda row, column: column == row, "when each position sees itself alone",
         "What has the last position seen?"),
        ("one before", lambda row, column: (column == row) | (column == row - 1),
         "when each position sees itself and one before it", "How far back may a position look?"),
        ("first only", lambda row, column: (column == 0) & (row >= 0), "when every position sees the first alone",
         "What has the last position seen?"),
        ("everything", lambda row, column: (column >= 0) & (row >= 0), "when everyone may see everything",
         "May the first position look at the last?"),
        ("turned round", lambda row, column: column >= column.max() - row,
         "with the triangle in the wrong corner: the first position sees the last",
         "Rows are positions that look, columns those that are looked at. What stands in the top right corner?"),
        ("first row empty", lambda row, column: (column <= row) & (row > 0), "with nothing to see for the first",
         "May a position look at itself?"),
    ),
    number=NUMBER,
    shape=(
        ("four axes", lambda mask: mask[None, None], "with axes of size 1 in front",
         "The same triangle serves every sentence and head. Do (n, n) line up with (B, H, n, n) by themselves?"),
        ("a flat list", np.ravel, "with rows and columns in one long row",
         "Rows are queries and columns are keys: how many axes is that?"),
    ),
)  # fmt: skip

CAUSAL = flat(CAUSAL_STAGES)


def _row_by_row(n):
    mask = np.zeros((n, n), dtype=bool)
    for i in range(n):
        mask[i, : i + 1] = True
    return mask


def _lower_triangle(n):
    return np.tril(np.ones((n, n))) == 1


def _not_the_upper(n):
    return ~np.triu(np.ones((n, n), dtype=bool), k=1)


def _running_sum(n):
    return np.cumsum(np.eye(n), axis=0).astype(bool)


def _distance(n):
    return np.subtract.outer(range(n), range(n)) >= 0


CAUSAL_ALTERNATIVES = (_row_by_row, _lower_triangle, _not_the_upper, _running_sum, _distance)
