"""Mistakes in reading a memory with several blocks at once and combining what they found, and other right answers.

A block reads some of the keys and writes down its answer and the logarithm of its total. An answer plans the ranges of
keys, weighs the blocks, combines them and counts the bytes in between; a mistake replaces one of these stages.

Letters: S splits, Nq queries, Nk keys, Dv width of a value; outs (S, Nq, Dv), logs (S, Nq).
"""

import itertools
import operator

import numpy as np

from crossattn_ref.checks.report import Misconception
from crossattn_ref.checks.variants.chunks import dot
from crossattn_ref.checks.variants.softmax import quiet
from crossattn_ref.checks.variants.stages import flat, staged

BEHIND = 8  # rows that lie in memory behind the last key, as on any machine


class Memory:
    """The keys and values of one head. memory(start, stop) lets one block read them, and is written down in reads.

    It returns the block's answer (Nq, Dv) and the logarithm of its total (Nq,), zeros and -inf where it saw no key,
    both in float32. Behind the last key lies something else, and nothing keeps a block from reading on.
    """

    def __init__(self, q, k, v):
        self.q, self.k, self.v = q, k, v
        self.reads = []

    def __call__(self, start, stop):
        start, stop = operator.index(start), operator.index(stop)
        if not 0 <= start <= stop:
            raise ValueError(f"read(start, stop) wants 0 <= start <= stop, got {start} and {stop}")
        self.reads.append((start, stop))
        k, v = (np.concatenate([x, np.full((BEHIND, x.shape[1]), 9.0)]) for x in (self.k, self.v))
        return answer(self.q, k[start:stop], v[start:stop])


@quiet
def answer(q, k, v):
    """What one block writes down of the keys that it reads."""
    scores = dot(q, k)
    top = scores.max(axis=-1, initial=-np.inf)
    weights = np.exp(scores - np.where(top == -np.inf, 0, top)[:, None])
    total = weights.sum(axis=-1)
    out = weights @ v / np.where(total == 0, 1, total)[:, None]
    return out.astype(np.float32), (top + np.log(total)).astype(np.float32)


def even(n_keys, n_splits):
    size = -(-n_keys // n_splits)
    return [(min(s * size, n_keys), min((s + 1) * size, n_keys)) for s in range(n_splits)]


def highest(logs):
    return logs.max(axis=0)


def shares(logs, top):
    return np.exp(logs - np.where(top == -np.inf, 0, top))


def averaged(weights, outs):
    total = weights.sum(axis=0)
    return (weights[..., None] * outs).sum(axis=0) / np.where(total == 0, 1, total)[..., None]


def there_and_back(outs, logs):
    return 2 * (outs.nbytes + logs.nbytes)


@quiet
def split_keys(read, n_keys, n_splits, *, plan=even, pick=highest, weigh=shares, combine=averaged, bill=there_and_back):
    """The answer of all blocks and the bytes of their notes, with any stage replaced; as it stands, the right one."""
    outs, logs = (np.stack(parts) for parts in zip(*(read(*r) for r in plan(n_keys, n_splits)), strict=True))
    return combine(weigh(logs, pick(logs)), outs), bill(outs, logs)


def _rounded_down(n_keys, n_splits):
    size = n_keys // n_splits
    return [(s * size, (s + 1) * size) for s in range(n_splits)]


def _last_takes_the_rest(n_keys, n_splits):
    size = n_keys // n_splits
    return [(s * size, n_keys if s == n_splits - 1 else (s + 1) * size) for s in range(n_splits)]


def _last_not_cut(n_keys, n_splits):
    size = -(-n_keys // n_splits)
    return [(s * size, (s + 1) * size) for s in range(n_splits)]


def _overlapping(n_keys, n_splits):
    return [(start, min(stop + 1, n_keys)) for start, stop in even(n_keys, n_splits)]


def _with_gaps(n_keys, n_splits):
    return [(start, max(stop - 1, start)) for start, stop in even(n_keys, n_splits)]


_SIZES = "Ten keys and four blocks: which keys does each block read, and who reads the last two?"
_WEIGH = "Two blocks, and one holds all the keys that matter. What tells you how much each of them counts?"
_HIGH = "The logarithms of two blocks lie a thousand apart. Under which number does exp not overflow?"
_BYTES = "What does a block write down for each query, in how many bytes, and who reads it again?"

STAGES = staged(
    split_keys,
    plan=(
        ("remainder dropped", _rounded_down, "when the keys that are left over by the division are read by nobody",
         _SIZES),
        ("last takes the rest", _last_takes_the_rest, "when the last block takes all that is left over",
         "Fifteen keys and eight blocks: how long do the others wait for the last one?"),
        ("out-of-bounds reads", _last_not_cut, "when a block reads on behind the last key",
         "What lies in memory behind the last key, and what keeps your last block from reading it?"),
        ("every block reads everything", lambda n, s: [(0, n)] * s, "when every block reads the whole memory",
         "The answers agree. How many bytes were fetched?"),
        ("ranges overlap", _overlapping, "when a key at the border is read by two blocks",
         "Is the key at stop read by the block that ends there, or by the one that begins there?"),
        ("gaps", _with_gaps, "when a key at the border is read by nobody",
         "Is the key at stop read by the block that ends there, or by the one that begins there?"),
        ("a block for each key", lambda n, s: [(j, j + 1) for j in range(n)] or [(0, 0)],
         "with a block for each key, however many are asked for",
         "How many blocks were asked for?"),
    ),
    pick=(
        ("nothing taken off", lambda logs: np.zeros_like(logs[0]), "with nothing taken off before the exponential",
         _HIGH),
        ("first block's maximum", lambda logs: logs[0], "with the first block's logarithm taken off from all", _HIGH),
        ("one maximum for all queries", lambda logs: np.full_like(logs[0], logs.max()),
         "with one largest logarithm for all queries together",
         "One query's scores lie a thousand above another's. What is left of the lower one's exponentials?"),
    ),
    weigh=(
        ("averages averaged", lambda logs, top: np.ones_like(logs), "when all blocks count alike", _WEIGH),
        ("NaN from empty blocks", lambda logs, top: np.exp(logs - top),
         "with -inf taken off -inf where no block saw a key",
         "What is -inf minus -inf, and what should a query get that has met no key?"),
        ("base two", lambda logs, top: np.exp2(logs - np.where(top == -np.inf, 0, top)),
         "with powers of two for powers of e: log2(e) is missing",
         "A power of two is not a power of e. Which logarithm did the blocks write down?"),
        ("logarithms as weights", lambda logs, top: np.where(logs == -np.inf, 0, logs),
         "with the logarithms themselves as weights", "What turns a logarithm of a total into the total?"),
        ("shared out among queries", lambda logs, top: (w := shares(logs, top)) / np.where(
            (n := w.sum(axis=1, keepdims=True)) == 0, 1, n),
         "when the weights of each block add up to one over the queries",
         "Which weights should add up to one: those of the blocks for one query, or those of the queries?"),
    ),
    combine=(
        ("never divided", lambda w, outs: (w[..., None] * outs).sum(axis=0),
         "when the weighted sum is never divided by the sum of the weights", "What do the weights add up to?"),
        ("winner takes all", lambda w, outs: np.take_along_axis(outs, w.argmax(axis=0)[None, :, None], axis=0)[0],
         "with the answer of the block that counts most, and of no other", _WEIGH),
        ("plain sum", lambda w, outs: outs.sum(axis=0), "with the answers of all blocks added up", _WEIGH),
    ),
    bill=(
        ("written only", lambda outs, logs: outs.nbytes + logs.nbytes,
         "when the notes are counted where they are written, and not where they are read", _BYTES),
        ("logarithms forgotten", lambda outs, logs: 2 * outs.nbytes, "without the bytes of the logarithms", _BYTES),
        ("numbers for bytes", lambda outs, logs: 2 * (outs.size + logs.size), "with numbers counted in place of bytes",
         _BYTES),
        ("eight bytes a number", lambda outs, logs: 16 * (outs.size + logs.size), "with eight bytes for each number",
         _BYTES),
        ("one block's notes", lambda outs, logs: 2 * (outs[0].nbytes + logs[0].nbytes),
         "with the notes of one block, however many there are", _BYTES),
        ("one query's notes", lambda outs, logs: 2 * (outs[:, 0].nbytes + logs[:, 0].nbytes),
         "with the notes of one query, however many there are", _BYTES),
    ),
)  # fmt: skip


def _by_number_of_keys(read, n_keys, n_splits):
    """Weigh each block by how many keys it has read."""
    counts = iter([stop - start for start, stop in even(n_keys, n_splits)])
    by_count = quiet(lambda logs, top: np.stack([np.full(logs.shape[1], next(counts), logs.dtype) for _ in logs]))
    return split_keys(read, n_keys, n_splits, weigh=by_count)


def _order(read, n_keys, n_splits):
    return split_keys(read, n_keys, n_splits)[::-1]


def _not_split(read, n_keys, n_splits):
    """Let one block read all, and count the notes that there should have been."""
    out, moved = split_keys(read, n_keys, 1)
    return out, n_splits * moved


MISTAKES = (
    *flat(STAGES),
    Misconception("not split", _not_split, "when one block reads all, however many there are",
                  "What do the other multiprocessors do meanwhile?"),
    Misconception("weighed by number of keys", _by_number_of_keys, "when each block counts as many keys as it has read",
                  _WEIGH),
    Misconception("order of results", _order, "with the bytes in front of the answer",
                  "In which order are the two wanted?"),
)  # fmt: skip


def _floors(n_keys, n_splits):
    return [(s * n_keys // n_splits, (s + 1) * n_keys // n_splits) for s in range(n_splits)]


def _evenly_spread(read, n_keys, n_splits):
    return split_keys(read, n_keys, n_splits, plan=_floors)


def _last_block_first(read, n_keys, n_splits):
    return split_keys(read, n_keys, n_splits, plan=lambda n, s: even(n, s)[::-1])


def _merged_one_by_one(read, n_keys, n_splits):
    """Fold the blocks into each other, two at a time."""
    out, log, moved = None, None, 0
    for start, stop in _floors(n_keys, n_splits):
        new, new_log = read(start, stop)
        moved += new.nbytes + new_log.nbytes
        if out is None:
            out, log = new.astype(np.float64), new_log.astype(np.float64)
            continue
        both = np.logaddexp(log, new_log)
        with np.errstate(invalid="ignore"):
            old, added = (np.where(x == -np.inf, 0, np.exp(x - both)) for x in (log, new_log))
        out, log = old[:, None] * out + added[:, None] * new, both
    return out, 2 * moved


def _by_formula(read, n_keys, n_splits):
    """Count the bytes from the shapes, in a NumPy integer, and combine with an einsum."""
    borders = np.arange(n_splits + 1) * n_keys // n_splits
    parts = [read(int(start), int(stop)) for start, stop in itertools.pairwise(borders)]
    outs, logs = np.array([part[0] for part in parts]), np.array([part[1] for part in parts])
    weights = np.exp(logs - np.maximum(logs.max(axis=0), np.finfo(np.float32).min))
    total = np.maximum(weights.sum(axis=0), np.finfo(np.float32).tiny)
    out = np.einsum("sq,sqd->qd", weights, outs) / total[:, None]
    return out, np.int64(8 * n_splits * outs.shape[1] * (outs.shape[2] + 1))


ALTERNATIVES = (_evenly_spread, _last_block_first, _merged_one_by_one, _by_formula)
