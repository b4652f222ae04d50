"""Digits backwards: by hand, against a reading of the arrays, and what a batch must be like."""

import numpy as np
import pytest

from crossattn_ref.data import digits

BOS, EOS, PAD, FIRST = 1, 2, 0, 4


@pytest.mark.parametrize(
    ("source", "answer"),
    [((1, 3, 0, 7), (7, 0, 3, 3, 1)), ((5, 4), (4, 4, 5, 5)), ((9, 9), (9, 9)), ((), ())],
)
def test_digits_are_written_backwards_and_three_of_them_twice(source, answer):
    assert digits.written_backwards(source) == answer


def test_a_batch_says_the_same_as_the_rule():
    src, lengths, tgt = digits.batch(np.random.default_rng(0), 200)
    for source, length, target in zip(src, lengths, tgt, strict=True):
        read = [int(token) - FIRST for token in source[:length]]
        expected = [digit for digit in read[::-1] for _ in range(2 if digit in (3, 4, 5) else 1)]
        row = [BOS, *[digit + FIRST for digit in expected], EOS]
        assert target.tolist() == row + [PAD] * (len(target) - len(row))
        assert (source[length:] == PAD).all()
        assert all(0 <= digit <= 9 for digit in read)


def test_sources_and_what_the_decoder_reads_are_equally_wide_and_every_length_comes():
    src, lengths, tgt = digits.batch(np.random.default_rng(1), 200)
    assert src.shape[1] == tgt.shape[1] - 1 == 2 * digits.LONGEST + 1
    assert set(lengths.tolist()) == set(range(digits.SHORTEST, digits.LONGEST + 1))
    assert len(set(src[:, 0].tolist())) == 10


def test_the_same_seed_draws_the_same_and_another_one_another():
    first, again, other = (digits.batch(np.random.default_rng(seed), 5) for seed in (3, 3, 4))
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    assert (first[0] != other[0]).any()
