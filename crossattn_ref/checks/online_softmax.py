"""Exercises of the assignment "online-softmax": merging, reading a memory block by block, and the way back.

Blocks of a memory come by post, and notes are counted there: nothing is measured in the process of an answer.

Letters: Nq queries, Nk keys, n keys of a block; q (Nq, Dk), k (n, Dk), v (n, Dv), top and total (Nq,), summed (Nq, Dv).
"""

import numpy as np

from crossattn_ref.attention import reference
from crossattn_ref.checks.compare import Violation, insist
from crossattn_ref.checks.draw import normal, read_only, sizes
from crossattn_ref.checks.exercise import Exercise, Property
from crossattn_ref.checks.post import NOTES, Reader, agree, arrays, nothing, observed
from crossattn_ref.checks.variants import chunks, merging

# merge


def _known(rng, queries, width, *, top=0.0):
    """Draw what queries know of a block."""
    total = 1 + np.abs(normal(rng, queries))
    return {"top": top + normal(rng, queries), "total": total, "summed": normal(rng, queries, width)}


def _merged(ask, one, other):
    """Merge two blocks -> what is known of both, as a dict; raise where it is not what the two say."""
    case = {**one, **{f"other_{name}": array for name, array in other.items()}}
    value = arrays(ask.call(**case), NOTES, [array.shape for array in one.values()], case)
    exact = merging.merge(*(x.astype(np.float64) for x in case.values()))
    agree(value, exact, merging.merge(*(x.astype(np.float32) for x in case.values())), case)
    return dict(zip(NOTES, value, strict=True))


def _merge_values(ask, rng):
    for _ in range(3):
        shape = sizes(rng, 2, high=6)
        _merged(ask, _known(rng, *shape), _known(rng, *shape))
    n = sizes(rng, 1)[0]
    _merged(ask, *({name: x.astype(np.float32) for name, x in _known(rng, n, n).items()} for _ in "ab"))


def _merge_order(ask, rng):
    shape = sizes(rng, 2, high=6)
    one, other = _known(rng, *shape), _known(rng, *shape, top=2.0)
    _merged(ask, one, other)
    _merged(ask, other, one)


def _merge_grouping(ask, rng):
    shape = sizes(rng, 2, high=6)
    a, b, c = (_known(rng, *shape, top=top) for top in rng.permutation([-3.0, 0.0, 3.0]))
    left, right = _merged(ask, _merged(ask, a, b), c), _merged(ask, a, _merged(ask, b, c))
    agree(left.values(), right.values(), right.values(), {**a})


def _merge_large(ask, rng):
    shape = sizes(rng, 2, low=4, high=7)
    side = np.where(np.arange(shape[0]) % 2 == 0, 2000.0, -2000.0)
    for sign in (1, -1):
        one, other = _known(rng, *shape, top=sign * side), _known(rng, *shape, top=-sign * side)
        _merged(ask, _known(rng, *shape, top=sign * side), one)
        _merged(ask, one, other)


def _merge_empty(ask, rng):
    shape = sizes(rng, 2, high=6)
    known, unknown = _known(rng, *shape), nothing(*shape)
    _merged(ask, known, unknown)
    _merged(ask, unknown, known)
    _merged(ask, unknown, unknown)


def _merge_some_empty(ask, rng):
    shape = sizes(rng, 2, low=4, high=7)
    parts = []
    for hole in ((0, 1), (0, 2)):  # query 0 has met nothing in either, query 1 and query 2 in one of the two
        part = _known(rng, *shape)
        for array, empty in zip(part.values(), (-np.inf, 0.0, 0.0), strict=True):
            array[list(hole)] = empty
        parts.append(part)
    _merged(ask, *parts)


def _merge_kept(ask, rng):
    shape = sizes(rng, 2)
    parts = [_known(rng, *shape) for _ in "ab"]
    _merged(ask, *(dict(zip(part, read_only(*part.values()), strict=True)) for part in parts))


# chunked_attention


def _sequences(rng, n_keys, *, square=False):
    nq, dk, dv = sizes(rng, 3, high=6)
    if square:
        nq = dk = dv = n_keys
    return normal(rng, nq, dk), normal(rng, n_keys, dk), normal(rng, n_keys, dv)


def _all(q, k):
    return np.full(len(q), len(k))


def _one_block(ask, rng):
    for square in (False, True):
        q, k, v = _sequences(rng, 7 if not square else 4, square=square)
        Reader(ask, q, k, v, _all(q, k)).deliver(len(k))


def _several_blocks(ask, rng):
    for cuts in ((3, 4, 2), (1, 1, 5, 1)):
        q, k, v = _sequences(rng, sum(cuts))
        post = Reader(ask, 2 * q, k, v, _all(q, k))
        for n in cuts:
            post.deliver(n)


def _room_for_notes(ask, rng):
    q, _, _ = _sequences(rng, 1)
    for n_keys in (8, 16, 32, 64):
        k, v = normal(rng, n_keys, q.shape[1]), normal(rng, n_keys, 3)
        post = Reader(ask, q, k, v, _all(q, k))
        for _ in range(n_keys // 4):
            post.deliver(4)


def _branches(ask, rng):
    q, k, v = _sequences(rng, 9)
    post = Reader(ask, q, k, v, _all(q, k))
    post.deliver(4)
    other = post.branch().swap(normal(rng, 5, k.shape[1]), normal(rng, 5, v.shape[1]))
    post.deliver(3)
    other.deliver(5)
    post.deliver(2)


def _lengths(ask, rng):
    q, k, v = _sequences(rng, 9)
    for seen in (rng.permutation(np.linspace(1, 9, len(q)).round().astype(int)), 9 - len(q) + 1 + np.arange(len(q))):
        post = Reader(ask, q, k, v, seen)
        for n in (4, 3, 2):
            post.deliver(n)


def _nothing_to_see(ask, rng):
    q, k, v = _sequences(rng, 6)
    seen = rng.permutation(np.array([0, 2, 5, *[6] * (len(q) - 3)]))
    post = Reader(ask, q, k, v, seen)
    for n in (0, 3, 0, 3):
        post.deliver(n)


def _large(ask, rng):
    """Let the largest score rise by thousands from block to block, fall, and differ as much between queries."""
    nq = 4
    for order in ([0.0, 2000.0, -2000.0], [2000.0, 0.0, 4000.0]):
        k = np.repeat(np.array(order), 2)[:, None] + normal(rng, 6, 1)
        q = np.array([1.0, -1.0, 0.5, 0.0])[:nq, None]
        post = Reader(ask, q, k, normal(rng, 6, 3), np.full(nq, 6))
        for _ in range(3):
            post.deliver(2)


def _chunks_kept(ask, rng):
    q, k, v = _sequences(rng, 5)
    post = Reader(ask, q, k, v, _all(q, k))
    for n in (2, 3):
        post.deliver(n, locked=True)


# chunked_backward


def _backward_case(rng, n_keys, seen, *, largest=None, nq=4):
    """Draw a memory and what attention found there; largest sets the size of the largest score."""
    dk, dv = sizes(rng, 2, low=5, high=7)
    q, k, v = normal(rng, nq, dk), normal(rng, n_keys, dk), normal(rng, n_keys, dv)
    if largest:
        q = np.round(q * largest / np.abs(chunks.dot(q, k)).max(), 1)
    mask = np.arange(n_keys) < seen[:, None]
    scores = np.where(mask, chunks.dot(q, k), -np.inf)
    with np.errstate(all="ignore"):
        log_total = np.logaddexp.reduce(scores, axis=-1)
    given = {"grad_out": normal(rng, nq, dv), "q": q, "k": k, "v": v}
    return given, seen, reference.attention(q, k, v, mask), log_total


def _sent_back(ask, case, cuts):
    """Ask for every block, and compare each with the reference; then all of them with the gradients of the whole."""
    given, seen, out, log_total = case
    parts, at = [], 0
    for n in cuts:
        block = {**given, "k": given["k"][at : at + n], "v": given["v"][at : at + n], "start": at, "seen": seen}
        args = {**block, "out": out, "log_total": log_total}
        ask.matches(**args)
        parts.append(_gradients(ask.call(**args), block))
        at += n
    mask = np.arange(len(given["k"])) < seen[:, None]
    whole = reference.attention_backward(*given.values(), mask)
    ours = sum(p[0] for p in parts), *(np.concatenate([p[i] for p in parts]) for i in (1, 2))
    # In float32 a score of 1000 is known to 1e-4 or so, and its weight, exp(score - log_total), no better.
    tolerance = max(1e-4, 1e-6 * np.abs(chunks.dot(given["q"], given["k"])).max())
    for name, mine, right in zip("qkv", ours, whole, strict=True):
        if not np.abs(mine - right).max() <= tolerance * (1 + np.abs(right).max()):
            raise Violation(f"the blocks together do not give the gradient of {name}", dict(given))


def _gradients(value, block):
    """Return the gradients of q, k and v, if that is what came back; it did the first time that this was asked."""
    shapes = [block[name].shape for name in "qkv"]
    if not isinstance(value, tuple) or [np.shape(part) for part in value] != shapes:
        raise Violation("asked the same for a second time, it returned something of another form", block)
    return tuple(insist(part, shape, block) for part, shape in zip(value, shapes, strict=True))


def _backward_one_block(ask, rng):
    _sent_back(ask, _backward_case(rng, 7, np.full(4, 7)), [7])


def _backward_blocks(ask, rng):
    _sent_back(ask, _backward_case(rng, 9, np.full(4, 9)), [2, 4, 3])


def _backward_lengths(ask, rng):
    _sent_back(ask, _backward_case(rng, 9, np.array([6, 7, 8, 9])), [4, 3, 2])


def _backward_nothing(ask, rng):
    _sent_back(ask, _backward_case(rng, 6, rng.permutation([0, 2, 5, 6])), [3, 0, 3])


def _backward_large(ask, rng):
    _sent_back(ask, _backward_case(rng, 6, np.full(4, 6), largest=900.0), [3, 3])


EXERCISES = {
    "merge": Exercise(
        reference=merging.merge,
        plain=merging.merge,
        observe=observed,
        properties=(
            Property("what is known of both, in one", 3, _merge_values),
            Property("either may come first", 1, _merge_order),
            Property("three blocks, grouped either way", 2, _merge_grouping),
            Property("scores that lie thousands apart", 2, _merge_large),
            Property("a block without any key, on either side or on both", 2, _merge_empty),
            Property("queries that have met no key, beside others that have", 1, _merge_some_empty),
            Property("right without writing into what was given", 1, _merge_kept),
        ),
        misconceptions=merging.MISTAKES,
        alternatives=merging.ALTERNATIVES,
    ),
    "chunked_attention": Exercise(
        reference=chunks.read_block,
        plain=chunks.read_block,
        observe=observed,
        properties=(
            Property("a memory that comes in one block", 2, _one_block),
            Property("the answer so far, block after block", 3, _several_blocks),
            Property("as much room for notes while the memory doubles three times", 2, _room_for_notes),
            Property("two memories that begin alike, from the same notes", 1, _branches),
            Property("how much each query may see, across blocks", 2, _lengths),
            Property("blocks without keys, and zeros for a query that sees none", 2, _nothing_to_see),
            Property("scores that rise and fall by thousands", 2, _large),
            Property("right without writing into what was given", 1, _chunks_kept),
        ),
        misconceptions=chunks.MISTAKES,
        alternatives=chunks.ALTERNATIVES,
    ),
    "chunked_backward": Exercise(
        reference=chunks.backward,
        plain=chunks.backward,
        properties=(
            Property("a memory that comes in one block", 2, _backward_one_block),
            Property("several blocks, and what they send back together", 3, _backward_blocks),
            Property("how much each query may see, across blocks", 2, _backward_lengths),
            Property("blocks without keys, and queries that see none", 2, _backward_nothing),
            Property("large scores", 1, _backward_large),
        ),
        misconceptions=chunks.BACKWARD,
        alternatives=chunks.BACKWARD_ALTERNATIVES,
    ),
}  # fmt: skip
