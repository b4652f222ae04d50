"""Mistakes in sinusoidal positions, and right answers computed another way.

Positions are made in four stages: the places, an exponent for each column, the angles, and the waves laid into
columns; a mistake replaces one of them, and a mistake of two stages replaces both.

Letters: n positions, d columns.
"""

import itertools
from functools import partial

import numpy as np

from crossattn_ref.checks.report import Misconception

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


def _mistake(name, symptom, hint, alike="", **stage):
    return Misconception(name, partial(encode, **stage), symptom, hint, alike)


def _columns(formula):
    """Give each column the exponent that formula(column, d) tells."""
    return lambda d, dtype: np.array([formula(column, d) for column in range(d)], dtype)


def _turned_by(rate):
    """Multiply every place by the rate that belongs to an exponent."""
    return lambda places, exponents: places[:, None] * rate(exponents)


def _halves(wave_first, wave_second):
    """All waves of the first kind, then all of the second: column c and column c + half share a pair."""

    def lay(angles):
        pairs = angles[:, ::2]
        return np.concatenate([wave_first(pairs), wave_second(pairs[:, : angles.shape[-1] // 2])], axis=-1)

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


PLACE = (
    _mistake("counted from one", "with the first position counted as 1", "What is the sine of the first position?",
             place=lambda n, dtype: 1 + from_zero(n, dtype)),
    _mistake("share of the length", "with the position divided by the number of positions",
             "Does word 3 get the same row in a short sentence and in a long one?",
             place=lambda n, dtype: from_zero(n, dtype) / n),
    _mistake("full turns", "with positions counted in full turns: 2π in front of the angle",
             "How far does the first pair turn from one position to the next, by the formula?",
             place=lambda n, dtype: 2 * np.pi * from_zero(n, dtype)),
    _mistake("last position first", "with the positions counted from the end",
             "Which row belongs to position 0, the first or the last?",
             place=lambda n, dtype: from_zero(n, dtype)[::-1]),
)  # fmt: skip

EXPONENT = (
    _mistake("doubled twice", "with the number of an even column, which is 2i already, doubled once more",
             "In column 6, what is i, and what is 2i?", exponent=_columns(lambda c, d: 2 * (c - c % 2) / d)),
    _mistake("i not doubled", "with the exponent i/d: the 2 of 2i is missing",
             "Which exponent comes near 1 in the last columns, i/d or 2i/d?", exponent=_columns(lambda c, d: c // 2 / d)),
    _mistake("every column its own", "with the number of the column in place of 2i: sine and cosine of a pair disagree",
             "Which two columns share one frequency?", exponent=_columns(lambda c, d: c / d)),
    _mistake("every column its own, doubled", "with twice the number of the column in place of 2i",
             "i counts pairs. How many pairs are there, and how many columns?", exponent=_columns(lambda c, d: 2 * c / d)),
    _mistake("cosine one pair on", "with the frequency of the next pair in each cosine",
             "Column 1 belongs to pair 0. What is its frequency?", exponent=_columns(lambda c, d: (c + c % 2) / d)),
    _mistake("stretched to the base", "with exponents stretched so that the last pair reaches 1",
             "By what does the formula divide 2i: by d, or by what the last 2i is?",
             exponent=_columns(lambda c, d: (c - c % 2) / max(d - 2 + d % 2, 1))),
    _mistake("whole-number division", "with 2i/d rounded down to a whole number: every column turns alike",
             "What is 2i divided by d, if only whole numbers are allowed?", exponent=_columns(lambda c, d: 0)),
    _mistake("fast columns last", "with the exponents from last to first: the slow waves stand in front",
             "Which pair turns fastest?", exponent=_columns(lambda c, d: (d - 1 - c - (d - 1 - c) % 2) / d)),
)  # fmt: skip

TURN = (
    _mistake("multiplied by the power", "with the position multiplied by the power of 10000, not divided by it",
             "Should later columns turn faster than the first, or slower?", turn=_turned_by(lambda e: BASE**e)),
    _mistake("base 1000", "with base 1000", "Count the zeros of the base.", turn=_turned_by(lambda e: 1000.0**-e)),
    _mistake("base 100000", "with base 100000", "Count the zeros of the base.", turn=_turned_by(lambda e: 1e5**-e)),
    _mistake("base e", "with powers of e: the logarithm of 10000 is missing from the exponent",
             "To write a power of 10000 by means of exp, what must stand beside the exponent?",
             turn=_turned_by(lambda e: np.exp(-e))),
    _mistake("divided by a product", "with 10000 times the exponent, not to its power",
             "What does the small raised number mean?",
             turn=lambda places, exponents: places[:, None] / np.maximum(BASE * exponents, 1)),
    _mistake("the power forgotten", "with the position divided by 10000 in every column",
             "What makes one column turn slower than another?",
             turn=lambda places, exponents: places[:, None] / BASE * np.ones_like(exponents)),
)  # fmt: skip

LAY = (
    _mistake("sine and cosine swapped", "with the cosine in the even columns and the sine in the odd ones",
             "What must stand in row 0, column 0: sin 0 or cos 0?", lay=_swapped),
    _mistake("halves", "with all sines first and all cosines after them",
             "Where does the cosine of pair 0 stand: beside its sine, or half the width away?",
             lay=_halves(np.sin, np.cos)),
    _mistake("halves, cosine first", "with all cosines first and all sines after them",
             "Where do sine and cosine of one pair stand?", lay=_halves(np.cos, np.sin)),
    _mistake("sine only", "with the sine in every column", "What does an odd column hold?", lay=np.sin),
    _mistake("cosine only", "with the cosine in every column", "What does an even column hold?", lay=np.cos),
    _mistake("angles returned", "with the angles themselves: no sine, no cosine",
             "How large may a number in the table become?", lay=lambda angles: angles),
    _mistake("transposed", "with positions as columns", "One row for each position: which axis comes first?",
             lay=lambda angles: interleaved(angles).T),
    _mistake("an axis for the batch behind the positions",
             "with an axis of size 1 in the middle: added to x of shape (B, N, D), it would number the sentences, "
             "not the words", "Which axis of x counts the words, and which axis of your table meets it?",
             lay=lambda angles: interleaved(angles)[:, None]),
    _mistake("an axis for the batch in front", "with an axis of size 1 in front",
             "How many axes does (n, d) have?", lay=lambda angles: interleaved(angles)[None]),
    _mistake("width made even", "with one column too many where the width is odd",
             "How many columns must a table of width 5 have?",
             lay=lambda angles: interleaved(np.pad(angles, ((0, 0), (0, angles.shape[-1] % 2)), mode="edge"))),
    _mistake("last column empty", "with zeros in the last column of an odd width",
             "A sine without a cosine is still a sine: what does the formula say for the last column?",
             lay=_last_column_empty),
    _mistake("even widths only", "when there must be as many cosines as sines",
             "With five columns, how many are even and how many are odd?", lay=_even_widths_only),
    _mistake("stored as integers", "with the waves cut to whole numbers, because the table is one of integers",
             "What is the dtype of the table that you fill?", lay=lambda angles: interleaved(angles).astype(int)),
    _mistake("scaled by the root of d", "with the table multiplied by the square root of d",
             "How large is a sine at most?", lay=lambda a: interleaved(a) * np.sqrt(np.asarray(a.shape[-1], a.dtype))),
)  # fmt: skip

MISTAKES = (*PLACE, *EXPONENT, *TURN, *LAY)


def pairs():
    """Make the mistakes that two stages make together."""
    for first, second in itertools.combinations((PLACE, EXPONENT, TURN, LAY), 2):
        for a, b in itertools.product(first, second):
            wrong = partial(encode, **a.wrong.keywords, **b.wrong.keywords)
            symptom, hint = f"{a.symptom}, and {b.symptom}", f"{a.hint} And: {b.hint}"
            yield Misconception(f"{a.name}, {b.name}", wrong, symptom, hint)


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
