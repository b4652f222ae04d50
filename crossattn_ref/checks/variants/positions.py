"""Mistakes in sinusoidal positions, and right answers computed another way.

Positions are made in four stages: the places, an exponent for each column, the angles, and the waves laid into
columns; a mistake replaces one of them, and a mistake of two stages replaces both.

Letters: n positions, d columns.
"""

from functools import partial

import numpy as np

from crossattn_ref.checks.variants.stages import flat, pairs, staged

BASE = 10000.0


def from_zero(n, dtype):
    return np.arange(n, dtype=dtype)


def of_pairs(d, dtype):
    """2i / d for the columns 2i and 2i + 1."""
    column = np.arange(d)
    return (column - column % 2).astype(dtype) / np.asarray(d, dtype)


def divided(places, exponents):
    return places[:, None] / np.asarray(BASE, places.dtype) ** exponents


def interleaved(angles):
    odd = np.arange(angles.shape[-1]) % 2 == 1
    return np.where(odd, np.cos(angles), np.sin(angles))


def encode(n, d, *, place=from_zero, exponent=of_pairs, turn=divided, lay=interleaved, dtype=np.float64):
    """Sinusoidal positions with any of their four stages replaced; as they stand, the right formula."""
    return lay(turn(place(n, dtype), exponent(d, dtype)))


in_float32 = partial(encode, dtype=np.float32)


def _columns(formula):
    """Give each column the exponent that formula(column, d) tells."""
    return lambda d, dtype: np.array([formula(column, d) for column in range(d)], dtype)


def _turned_by(rate):
    """Multiply every place by the rate that belongs to an exponent."""
    return lambda places, exponents: places[:, None] * rate(exponents)


def _halves(first, second, odd=True):
    """All waves of one kind, then all of the other: column c and column c + half make a pair."""

    def lay(angles):
        half, rest = divmod(angles.shape[-1], 2)
        pairs = angles[:, ::2]
        return np.concatenate([first(pairs[:, : half + rest * odd]), second(pairs[:, :half])], axis=-1)

    return lay


def _swapped(angles):
    odd = np.arange(angles.shape[-1]) % 2 == 1
    return np.where(odd, np.sin(angles), np.cos(angles))


def _last_column_empty(angles):
    out = interleaved(angles)
    if angles.shape[-1] % 2:
        out[:, -1] = 0
    return out


def _even_widths_only(angles):
    out = np.zeros_like(angles)
    out[:, 0::2] = np.sin(angles[:, 0::2])
    out[:, 1::2] = np.cos(angles[:, 0::2])
    return out


STAGES = staged(
    encode,
    place=(
        ("counted from one", lambda n, dtype: 1 + from_zero(n, dtype), "with the first position counted as 1",
         "What is the sine of the first position?"),
        ("share of the length", lambda n, dtype: from_zero(n, dtype) / n,
         "with the position divided by the number of positions",
         "Does word 3 get the same row in a short sentence and in a long one?"),
        ("full turns", lambda n, dtype: 2 * np.pi * from_zero(n, dtype),
         "with positions counted in full turns: 2π in front of the angle",
         "How far does the first pair turn from one position to the next, by the formula?"),
    ),
    exponent=(
        ("doubled twice", _columns(lambda c, d: 2 * (c - c % 2) / d),
         "with the number of an even column, which is 2i already, doubled once more",
         "In column 6, what is i, and what is 2i?"),
        ("i not doubled", _columns(lambda c, d: c // 2 / d), "with the exponent i/d: the 2 of 2i is missing",
         "Which exponent comes near 1 in the last columns, i/d or 2i/d?"),
        ("every column its own", _columns(lambda c, d: c / d),
         "with the number of the column in place of 2i: sine and cosine of a pair disagree",
         "Which two columns share one frequency?"),
        ("every column its own, doubled", _columns(lambda c, d: 2 * c / d),
         "with twice the number of the column in place of 2i",
         "i counts pairs. How many pairs are there, and how many columns?"),
        ("cosine one pair on", _columns(lambda c, d: (c + c % 2) / d),
         "with the frequency of the next pair in each cosine", "Column 1 belongs to pair 0. What is its frequency?"),
        ("stretched to the base", _columns(lambda c, d: (c - c % 2) / max(d - 2 + d % 2, 1)),
         "with exponents stretched so that the last pair reaches 1",
         "By what does the formula divide 2i: by d, or by what the last 2i is?"),
        ("whole-number division", _columns(lambda c, d: 0),
         "with 2i/d rounded down to a whole number: every column turns alike",
         "What is 2i divided by d, if only whole numbers are allowed?"),
        ("column in whole-number division", _columns(lambda c, d: 2 * c // d),
         "with twice the number of the column, divided by d and rounded down to a whole number",
         "Which numbers can 2i/d take, if only whole ones are allowed?"),
        ("pairs counted from one", _columns(lambda c, d: (c - c % 2 + 2) / d),
         "with the pairs counted from 1: the first columns turn too slowly",
         "What is 10000 to the power 0, and which pair does it belong to?"),
    ),
    turn=(
        ("multiplied by the power", _turned_by(lambda e: BASE**e),
         "with the position multiplied by the power of 10000, not divided by it",
         "Should later columns turn faster than the first, or slower?"),
        ("base 1000", _turned_by(lambda e: 1000.0**-e), "with base 1000", "Count the zeros of the base."),
        ("base 100000", _turned_by(lambda e: 1e5**-e), "with base 100000", "Count the zeros of the base."),
        ("base e", _turned_by(lambda e: np.exp(-e)),
         "with powers of e: the logarithm of 10000 is missing from the exponent",
         "To write a power of 10000 by means of exp, what must stand beside the exponent?"),
        ("divided by a product", lambda places, exponents: places[:, None] / (BASE * exponents),
         "with 10000 times the exponent, not to its power", "What does the small raised number mean?"),
        ("power without brackets", lambda places, exponents: places[:, None] / BASE**2 * exponents / 2,
         "with the power taken before the exponent is complete: 10000², then times i/d",
         "Which comes first on paper, the power or the fraction in it? And in your line?"),
        ("the power forgotten", lambda places, exponents: places[:, None] / BASE * np.ones_like(exponents),
         "with the position divided by 10000 in every column", "What makes one column turn slower than another?"),
    ),
    lay=(
        ("sine and cosine swapped", _swapped, "with the cosine in the even columns and the sine in the odd ones",
         "What must stand in row 0, column 0: sin 0 or cos 0?"),
        ("halves", _halves(np.sin, np.cos, odd=False), "with all sines first and all cosines after them",
         "Where does the cosine of pair 0 stand: beside its sine, or half the width away?"),
        ("halves, odd widths too", _halves(np.sin, np.cos), "with all sines first and all cosines after them",
         "Where does the cosine of pair 0 stand: beside its sine, or half the width away?"),
        ("halves, cosine first", _halves(np.cos, np.sin, odd=False), "with all cosines first and all sines after them",
         "Where do sine and cosine of one pair stand?"),
        ("one column short", lambda angles: interleaved(angles)[:, : angles.shape[-1] // 2 * 2],
         "with one column too few where the width is odd", "How many columns must a table of width 5 have?"),
        ("sine only", np.sin, "with the sine in every column", "What does an odd column hold?"),
        ("cosine only", np.cos, "with the cosine in every column", "What does an even column hold?"),
        ("angles returned", lambda angles: angles, "with the angles themselves: no sine, no cosine",
         "How large may a number in the table become?"),
        ("transposed", lambda angles: interleaved(angles).T, "with positions as columns",
         "One row for each position: which axis comes first?"),
        ("an axis for the batch behind the positions", lambda angles: interleaved(angles)[:, None],
         "with an axis of size 1 in the middle: added to x (B, N, D), it would number the sentences, not the words",
         "Which axis of x counts the words, and which axis of your table meets it?"),
        ("an axis for the batch in front", lambda angles: interleaved(angles)[None], "with an axis of size 1 in front",
         "How many axes does (n, d) have?"),
        ("width made even",
         lambda angles: interleaved(np.pad(angles, ((0, 0), (0, angles.shape[-1] % 2)), mode="edge")),
         "with one column too many where the width is odd", "How many columns must a table of width 5 have?"),
        ("last column empty", _last_column_empty, "with zeros in the last column of an odd width",
         "A sine without a cosine is still a sine: what does the formula say for the last column?"),
        ("even widths only", _even_widths_only, "when there must be as many cosines as sines",
         "With five columns, how many are even and how many are odd?"),
        ("stored as integers", lambda angles: interleaved(angles).astype(int),
         "with the waves cut to whole numbers, because the table is one of integers",
         "What is the dtype of the table that you fill?"),
        ("scaled by the root of d", lambda a: interleaved(a) * np.sqrt(np.asarray(a.shape[-1], a.dtype)),
         "with the table multiplied by the square root of d", "How large is a sine at most?"),
    ),
)  # fmt: skip

MISTAKES = flat(STAGES)


def composed():
    """Make the mistakes that two stages make together."""
    return pairs(encode, STAGES)


def _one_by_one(n, d):
    out = np.zeros((n, d))
    for position in range(n):
        for i in range(0, d, 2):
            angle = position / 10000 ** (i / d)
            out[position, i] = np.sin(angle)
            if i + 1 < d:
                out[position, i + 1] = np.cos(angle)
    return out


def _by_exp_and_log(n, d):
    rates = np.exp(-np.log(10000.0) * np.arange(0, d, 2) / d)
    angles = np.outer(np.arange(n), rates)
    out = np.empty((n, d), np.float32)
    out[:, 0::2] = np.sin(angles)
    out[:, 1::2] = np.cos(angles)[:, : d // 2]
    return out


def _by_phase(n, d):
    column = np.arange(d)
    return np.sin(np.arange(n)[:, None] / 10000 ** (2 * (column // 2) / d) + np.pi / 2 * (column % 2))


def _by_complex_powers(n, d):
    turns = np.exp(1j * 10000.0 ** (-np.arange(0, d, 2) / d))
    waves = np.stack([turns**position for position in range(n)])
    return np.stack([waves.imag, waves.real], axis=-1).reshape(n, -1)[:, :d]


def _row_from_row(n, d):
    rate = 10000.0 ** (-np.arange(0, d, 2) / d)
    sine, cosine, rows = np.zeros_like(rate), np.ones_like(rate), []
    for _ in range(n):
        rows.append(np.stack([sine, cosine], axis=-1).ravel()[:d])
        sine, cosine = (
            sine * np.cos(rate) + cosine * np.sin(rate),
            cosine * np.cos(rate) - sine * np.sin(rate),
        )
    return np.array(rows)


ALTERNATIVES = (_one_by_one, _by_exp_and_log, _by_phase, _by_complex_powers, _row_from_row, in_float32)
