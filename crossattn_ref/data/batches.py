"""Sentences as numbers, in batches of about the same length, so that little of a batch is padding."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from crossattn_ref.data.vocabulary import BOS, EOS, PAD


@dataclass(frozen=True, eq=False)
class Batch:
    """Sentence pairs as numbers, int64, padded with PAD at the end.

    src (B, Nk) ends with EOS, and src_lengths (B,) counts it in. tgt (B, Nq) begins with BOS; labels (B, Nq) is tgt
    one place further on, and ends with EOS: what is to be predicted at each place of tgt.
    """

    src: np.ndarray
    src_lengths: np.ndarray
    tgt: np.ndarray
    labels: np.ndarray


def collate(pairs: Sequence[tuple[Sequence[int], Sequence[int]]]) -> Batch:
    """Make a batch of (source, target) numbers, which hold neither BOS nor EOS; an empty sentence is an EOS alone."""
    return Batch(
        src=padded([[*src, EOS] for src, _ in pairs]),
        src_lengths=np.array([len(src) + 1 for src, _ in pairs], dtype=np.int64),
        tgt=padded([[BOS, *tgt] for _, tgt in pairs]),
        labels=padded([[*tgt, EOS] for _, tgt in pairs]),
    )


def padded(rows: Sequence[Sequence[int]]) -> np.ndarray:
    """Write rows of differing lengths into one array (B, the longest), PAD behind the shorter ones."""
    table = np.full((len(rows), max(map(len, rows), default=0)), PAD, dtype=np.int64)
    for line, row in zip(table, rows, strict=True):
        line[: len(row)] = row
    return table


def bucketed(
    sizes: Sequence[tuple[int, int]], *, n_tokens: int, rng: np.random.Generator | None = None
) -> Iterator[np.ndarray]:
    """Cut a corpus into batches of similar lengths: arrays of indices, with at most n_tokens target places each.

    sizes holds (source, target) lengths. A sentence longer than n_tokens makes a batch of its own.
    With rng, sentences of one length are mixed and batches come in any order; without, from short to long.
    """
    sizes = np.array(sizes, dtype=np.int64).reshape(-1, 2)
    mixed = rng.permutation(len(sizes)) if rng else np.arange(len(sizes))
    order = mixed[np.lexsort((sizes[mixed, 0], sizes[mixed, 1]))]
    batches, first = [], 0
    for i, sentence in enumerate(order):
        if i > first and (i + 1 - first) * (sizes[sentence, 1] + 1) > n_tokens:
            batches.append(order[first:i])
            first = i
    batches += [order[first:]] if len(order) else []
    yield from (batches[i] for i in (rng.permutation(len(batches)) if rng else range(len(batches))))
