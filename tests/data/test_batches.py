"""Batches: by hand, every sentence once, little padding, the order by the seed."""

import numpy as np

from crossattn_ref.data.batches import bucketed, collate, padded


def sizes(n=211, seed=0):
    rng = np.random.default_rng(seed)
    return [(int(a), int(b)) for a, b in rng.integers(1, 31, (n, 2))]


def test_a_batch_is_written_out_by_hand():
    batch = collate([([7, 8], [9]), ([5], [6, 4, 7])])
    assert batch.src.tolist() == [[7, 8, 2], [5, 2, 0]]
    assert batch.src_lengths.tolist() == [3, 2]
    assert batch.tgt.tolist() == [[1, 9, 0, 0], [1, 6, 4, 7]]
    assert batch.labels.tolist() == [[9, 2, 0, 0], [6, 4, 7, 2]]
    assert {array.dtype for array in vars(batch).values()} == {np.dtype(np.int64)}


def test_empty_sentences_and_empty_batches_have_a_shape():
    batch = collate([([], [])])
    assert (batch.src.tolist(), batch.tgt.tolist(), batch.labels.tolist()) == ([[2]], [[1]], [[2]])
    assert padded([]).shape == (0, 0)


def test_every_sentence_comes_once_and_no_batch_is_too_large():
    lengths = sizes()
    for rng in (None, np.random.default_rng(0)):
        batches = list(bucketed(lengths, n_tokens=97, rng=rng))
        assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
        assert all(len(batch) * (max(lengths[i][1] for i in batch) + 1) <= 97 for batch in batches)


def test_a_sentence_that_is_too_long_stands_alone():
    batches = [batch.tolist() for batch in bucketed([(3, 2), (3, 50), (3, 2)], n_tokens=11)]
    assert batches == [[0, 2], [1]]


def test_lengths_are_alike_within_a_batch():
    lengths = sizes(2003)
    batches = list(bucketed(lengths, n_tokens=499, rng=np.random.default_rng(0)))
    places = sum(len(batch) * max(lengths[i][1] for i in batch) for batch in batches)
    assert places < 1.05 * sum(tgt for _, tgt in lengths)


def test_the_order_is_that_of_the_seed_and_mixes_sentences_and_batches():
    lengths = [(5, 5)] * 101
    draw = lambda seed: [b.tolist() for b in bucketed(lengths, n_tokens=60, rng=np.random.default_rng(seed))]  # noqa: E731
    assert draw(0) == draw(0) != draw(1)
    first = [b.tolist() for b in bucketed(sizes(), n_tokens=97, rng=np.random.default_rng(0))]
    means = [np.mean([sizes()[i][1] for i in batch]) for batch in first]
    assert means != sorted(means)
    assert list(bucketed([], n_tokens=7)) == []
