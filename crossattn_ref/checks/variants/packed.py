"""Mistakes in handing over a ragged batch without its padding, and right answers computed another way.

An answer takes the padding off, says where each sample begins, lets all samples be read at once, and puts the answers
back into their places; a mistake replaces one of these stages.

Letters: B samples, Nq queries and Nk keys with padding; q (B, Nq, Dk), k (B, Nk, Dk), v (B, Nk, Dv).
"""

import numpy as np

from crossattn_ref.checks.report import Misconception
from crossattn_ref.checks.variants.chunks import dot
from crossattn_ref.checks.variants.softmax import quiet, softmax
from crossattn_ref.checks.variants.stages import flat, staged


class Attend:
    """Attention on packed rows: sample b asks with rows query_starts[b] to query_starts[b + 1], and so on.

    What it was given is kept in launches, as numbers of rows (queries, keys). As on a GPU, starts are believed, and a
    row of the output that belongs to no sample is never written: NaN stands there.
    """

    def __init__(self):
        self.launches = []

    def __call__(self, q, k, v, query_starts, key_starts):
        if not q.ndim == k.ndim == v.ndim == 2:
            raise ValueError(f"packed q, k, v are (rows, width), got {q.shape}, {k.shape}, {v.shape}")
        starts = [np.asarray(x).astype(np.int64) for x in (query_starts, key_starts)]
        self.launches.append((len(q), len(k)))
        out = np.full((len(q), v.shape[1]), np.nan, np.result_type(q, k, v))
        for b in range(min(map(len, starts)) - 1):
            rows, columns = (slice(x[b], x[b + 1]) for x in starts)
            out[rows] = _attention(q[rows], k[columns], v[columns])
        return out


@quiet
def _attention(q, k, v):
    return softmax(dot(q, k)) @ v if len(k) else np.zeros((len(q), v.shape[1]), v.dtype)


def real_rows(x, lengths):
    return np.concatenate([sample[:n] for sample, n in zip(x, lengths, strict=True)])


def sums(lengths, _):
    return np.concatenate([[0], np.cumsum(lengths)])


def in_places(packed, lengths, B, N):
    out = np.zeros((B, N, packed.shape[1]), packed.dtype)
    out[np.arange(N) < np.asarray(lengths)[:, None]] = packed
    return out


def own(query_lengths, key_lengths, n_queries):
    return query_lengths


@quiet
def ragged(
    attend, q, k, v, query_lengths, key_lengths, *,
    asks=own, pack_q=real_rows, pack_k=real_rows, pack_v=real_rows, starts_q=sums, starts_k=sums, place=in_places,
):  # fmt: skip
    """The answers of a ragged batch, with any stage replaced; as it stands, the right one."""
    B, n_queries, _ = q.shape
    asking = asks(query_lengths, key_lengths, n_queries)
    out = attend(
        pack_q(q, asking), pack_k(k, key_lengths), pack_v(v, key_lengths),
        starts_q(asking, n_queries), starts_k(key_lengths, k.shape[1]),
    )  # fmt: skip
    return place(out, asking, B, n_queries)


def _all_rows(x, lengths):
    return x.reshape(-1, x.shape[-1])


def _as_if_full(lengths, n):
    return np.arange(len(lengths) + 1) * n


def _places_of_all(packed, lengths, B, N):
    return packed.reshape(B, N, -1)


def _last_rows(x, lengths):
    return np.concatenate([sample[len(sample) - n :] for sample, n in zip(x, lengths, strict=True)])


def _position_by_position(x, lengths):
    seen = np.arange(x.shape[1])[:, None] < lengths
    return x.swapaxes(0, 1)[seen]


def _without_gaps(packed, lengths, B, N):
    out = np.zeros((B * N, packed.shape[1]), packed.dtype)
    out[: len(packed)] = packed
    return out.reshape(B, N, -1)


def _at_the_end(packed, lengths, B, N):
    out = np.zeros((B, N, packed.shape[1]), packed.dtype)
    out[np.arange(N) >= N - np.asarray(lengths)[:, None]] = packed
    return out


def _gathered(packed, lengths, B, N):
    """Real rows taken out of packed rows that kept their padding, zeros elsewhere."""
    return np.where((np.arange(N) < np.asarray(lengths)[:, None])[..., None], packed.reshape(B, N, -1), 0)


_KEEPS_ALL = {"pack_q": _all_rows, "pack_k": _all_rows, "pack_v": _all_rows, "starts_q": _as_if_full,
              "starts_k": _as_if_full, "place": _gathered}  # fmt: skip
_WHOSE = "There are two kinds of padding here. Which of them stands in q, and whose lengths tell where?"
_STARTS = (
    "Samples of 3, 5 and 2 rows lie one after the other. In which row does each begin, and where does the last end?"
)
_BACK = "Row 3 of the packed answers belongs to which sample, and to which of its queries?"
_PADDING = "Which rows of a sample are real: does the padding stand in front of them or behind?"

STAGES = staged(
    ragged,
    asks=(
        ("query mask = key mask", lambda ql, kl, n: np.minimum(kl, n),
         "when the queries are cut to the lengths of the keys", _WHOSE),
        ("first sample's length", lambda ql, kl, n: np.full_like(ql, ql[0]),
         "with the first sample's number of queries for all samples", "Is every sample as long as the first?"),
        ("longest for all", lambda ql, kl, n: np.full_like(ql, ql.max()),
         "with the largest number of queries for all samples", "Which queries of a shorter sample are padding?"),
    ),
    pack_q=(
        ("queries at the end", _last_rows, "with the last rows of q in place of the first", _PADDING),
        ("position by position", _position_by_position,
         "with the first query of every sample, then the second of every one",
         "The rows of one sample must stand together. Which axis varies fastest in yours?"),
        ("padding asks too", {"pack_q": _all_rows, "starts_q": _as_if_full, "place": _gathered},
         "when padding among the queries is handed over and its answers are thrown away",
         "The numbers agree. How many rows did you hand over, and how many are real?"),
    ),
    pack_k=(
        ("keys at the end", {"pack_k": _last_rows, "pack_v": _last_rows},
         "with the last rows of k and v in place of the first", _PADDING),
        ("padding is read", {"pack_k": _all_rows, "pack_v": _all_rows, "starts_k": _as_if_full},
         "when padding among the keys is read like the rest", "How many keys has a sample whose length is 2?"),
        ("nothing unpadded", _KEEPS_ALL, "when nothing is taken off, and padding is read like the rest",
         "How many keys has a sample whose length is 2?", "padding is read"),
        ("values keep their padding", {"pack_v": _all_rows}, "when k loses its padding and v keeps it",
         "Which value belongs to row 3 of the packed keys?"),
    ),
    starts_k=(
        ("lengths for starts", {"starts_q": lambda x, _: np.concatenate([[0], x]),
                                "starts_k": lambda x, _: np.concatenate([[0], x])},
         "with the lengths in the place of where samples begin", _STARTS),
        ("zero forgotten", {"starts_q": lambda x, _: np.cumsum(x), "starts_k": lambda x, _: np.cumsum(x)},
         "when the starts leave out the 0 of the first sample", _STARTS),
        ("end forgotten", {"starts_q": lambda x, _: sums(x, 0)[:-1], "starts_k": lambda x, _: sums(x, 0)[:-1]},
         "when the starts leave out the end of the last sample", _STARTS),
        ("starts as if full", {"starts_q": _as_if_full, "starts_k": _as_if_full},
         "with the starts that the samples had before the padding was taken off", _STARTS),
    ),
    place=(
        ("without gaps", _without_gaps,
         "when the answers are laid into the output without leaving room for padding", _BACK),
        ("answers at the end", _at_the_end, "with the answers in the last rows of each sample", _BACK),
        ("padding repeats", lambda p, lengths, B, N: _repeated(in_places(p, lengths, B, N), lengths),
         "when padding gets the answer of the last real query",
         "What should stand where nobody has asked anything?"),
    ),
)  # fmt: skip


def _repeated(out, lengths):
    for sample, n in zip(out, lengths, strict=True):
        sample[n:] = sample[n - 1] if n else 0
    return out


@quiet
def _starts_of_the_keys(attend, q, k, v, query_lengths, key_lengths):
    """Say where the queries begin by the lengths of the keys."""
    out = attend(
        real_rows(q, query_lengths), real_rows(k, key_lengths), real_rows(v, key_lengths),
        sums(key_lengths, 0), sums(key_lengths, 0),
    )  # fmt: skip
    return in_places(out, query_lengths, len(q), q.shape[1])


@quiet
def _one_mask(attend, q, k, v, query_lengths, key_lengths):
    """Cut queries by the mask of the keys, as far as it goes, and let them begin where the keys do."""
    mask = np.arange(k.shape[1]) < key_lengths[:, None]
    for_q = mask[:, : q.shape[1]]
    for_q = np.pad(for_q, ((0, 0), (0, q.shape[1] - for_q.shape[1])))
    out = np.zeros((*q.shape[:2], v.shape[2]), v.dtype)
    out[for_q] = attend(q[for_q], k[mask], v[mask], sums(key_lengths, 0), sums(key_lengths, 0))
    return out


def _keys_by_the_queries(attend, q, k, v, query_lengths, key_lengths):
    return ragged(attend, q, k, v, query_lengths, np.minimum(query_lengths, k.shape[1]))


def _one_at_a_time(attend, q, k, v, query_lengths, key_lengths):
    """Launch once for every sample."""
    out = np.zeros((*q.shape[:2], v.shape[2]), np.result_type(q, v))
    for b, (n, m) in enumerate(zip(query_lengths, key_lengths, strict=True)):
        out[b, :n] = attend(q[b, :n], k[b, :m], v[b, :m], np.array([0, n]), np.array([0, m]))
    return out


class _Cache:
    """Keep the newest memory, and bring it together with the next one of the same size."""

    def __init__(self, join):
        self._join, self._kept = join, None

    def __call__(self, attend, q, k, v, query_lengths, key_lengths):
        kept = self._kept
        if kept and kept[0].shape == k.shape and (kept[2] == key_lengths).all():
            k, v, key_lengths = self._join(*kept, k, v, key_lengths)
        else:
            self._kept = k, v, key_lengths
        return ragged(attend, q, k, v, query_lengths, key_lengths)


def stale(old_k, old_v, old_lengths, k, v, lengths):
    return old_k, old_v, old_lengths


def appended(old_k, old_v, old_lengths, k, v, lengths):
    both = [[np.concatenate([a[:n], b[:m]]) for a, n, b, m in zip(old, old_lengths, new, lengths, strict=True)]
            for old, new in ((old_k, k), (old_v, v))]  # fmt: skip
    longest = max(len(sample) for sample in both[0])
    padded = [np.stack([np.pad(x, ((0, longest - len(x)), (0, 0))) for x in samples]) for samples in both]
    return (*padded, old_lengths + lengths)


MISTAKES = (
    *flat(STAGES),
    Misconception("one mask and its starts", _one_mask,
                  "when the queries are cut, and counted, by the mask of the keys", _WHOSE),
    Misconception("starts of the keys", _starts_of_the_keys, "when the queries begin where the keys do", _WHOSE),
    Misconception("keys by the queries", _keys_by_the_queries, "when the keys are cut to the lengths of the queries",
                  "Whose padding stands in k, and whose lengths tell where?"),
    Misconception("a launch for each sample", _one_at_a_time, "when attend is called once for every sample",
                  "Two samples of three words fill how much of a GPU? What is it that starts are good for?"),
    Misconception("stale cache", _Cache(stale),
                  "when a memory of the same size is taken for the one before",
                  "What else than its size tells one memory from another, and when must a kept one be thrown away?"),
    Misconception("appended cache", _Cache(appended), "when a new memory is appended to the one before",
                  "A text that is written grows. Does the text that is read?"),
)  # fmt: skip


def _by_mask(attend, q, k, v, query_lengths, key_lengths):
    asks, looked_at = (np.arange(x.shape[1]) < n[:, None] for x, n in ((q, query_lengths), (k, key_lengths)))
    starts = [np.r_[0, mask.sum(axis=1).cumsum()].astype(np.int32) for mask in (asks, looked_at)]
    out = np.zeros((*q.shape[:2], v.shape[-1]))
    out[asks] = attend(q[asks], k[looked_at], v[looked_at], *starts)
    return out


def _by_numbers(attend, q, k, v, query_lengths, key_lengths):
    """Number the rows that stay, and give the starts as a list of Python's integers, in float32."""
    rows, columns = (
        np.array([b * N + i for b, n in enumerate(lengths) for i in range(n)], dtype=np.intp)
        for N, lengths in ((q.shape[1], query_lengths), (k.shape[1], key_lengths))
    )
    taken = [x.reshape(-1, x.shape[-1])[at].astype(np.float32) for x, at in ((q, rows), (k, columns), (v, columns))]
    starts = [np.array([int(x[:b].sum()) for b in range(len(x) + 1)]) for x in (query_lengths, key_lengths)]
    out = np.zeros((q.shape[0] * q.shape[1], v.shape[-1]), np.float32)
    out[rows] = attend(*taken, *starts)
    return out.reshape(*q.shape[:2], -1)


ALTERNATIVES = (_by_mask, _by_numbers)
