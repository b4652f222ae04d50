"""Tests of two symmetries of attention, as learners write them, and the operators that they are tried on.

A test takes an operator attend(q, k, v) and an rng, and returns True where the operator does not care about the order
of the keys (each with its value), and where each query's answer does not depend on the other queries.
"""

from functools import partial

import numpy as np

from crossattn_ref.attention import reference
from crossattn_ref.checks.report import Misconception
from crossattn_ref.checks.variants import attention as wrong
from crossattn_ref.checks.variants.softmax import hard, softmax

# What symmetry_test is tried on. All of these have both symmetries, though most of them are not attention.
SYMMETRIC = {
    "attention itself": reference.attention,
    "attention computed in float32": wrong.in_float32,
    "attention, one key after the other": wrong.key_by_key,
    "attention without the scale": partial(wrong.attend, scale=lambda scores, q, k, v: scores),
    "attention that gives all to the best key": partial(wrong.attend, weigh=hard),
    "attention whose queries are centred, each by itself": lambda q, k, v: reference.attention(
        q - q.mean(-1, keepdims=True), k, v
    ),
    "the plain average of the values": lambda q, k, v: np.broadcast_to(
        v.mean(-2, keepdims=True), (*q.shape[:-1], v.shape[-1])
    ),
    "the average of the values, as large as the query is long": lambda q, k, v: (
        np.linalg.norm(q, axis=-1, keepdims=True) * v.mean(-2, keepdims=True)
    ),
}


def _nearer_is_better(scores):
    nq, nk = scores.shape[-2:]
    return softmax(scores - 0.3 * np.abs(np.arange(nq)[:, None] - np.arange(nk)))


def _first_key_favoured(scores):
    return softmax(scores + 0.5 * (np.arange(scores.shape[-1]) == 0))


def _last_key_dropped(q, k, v):
    return reference.attention(q, k[..., :-1, :], v[..., :-1, :])


def _as_many_keys_as_queries(q, k, v):
    nq = q.shape[-2]
    return reference.attention(q, k[..., :nq, :], v[..., :nq, :])


def _causal_when_square(q, k, v):
    square = q.shape[-2] == k.shape[-2]
    return reference.attention(q, k, v, reference.causal_mask(q.shape[-2]) if square else None)


def _neighbour_mixed_in(q, k, v):
    return reference.attention(q + 0.2 * np.roll(q, 1, axis=-2), k, v)


def _centred_queries(q, k, v):
    return reference.attention(q - q.mean(-2, keepdims=True), k, v)


def _common_spread(scores):
    return softmax(scores / (1 + scores.std(axis=(-1, -2), keepdims=True)))


def _running_mean(w, q, k, v):
    out = w @ v
    return np.cumsum(out, axis=-2) / np.arange(1, out.shape[-2] + 1)[:, None]


ASYMMETRIC = {
    "keys reshaped, not transposed": partial(
        wrong.attend, score=lambda q, k, v: q @ k.reshape(*k.shape[:-2], k.shape[-1], k.shape[-2])
    ),
    "nearer keys favoured": partial(wrong.attend, weigh=_nearer_is_better),
    "the first key favoured": partial(wrong.attend, weigh=_first_key_favoured),
    "the last key never read": _last_key_dropped,
    "of more keys than queries, the last are never read": _as_many_keys_as_queries,
    "a causal mask, when there are as many queries as keys": _causal_when_square,
    "softmax over the queries": partial(wrong.attend, weigh=partial(softmax, axis=-2)),
    "each query mixed with its neighbour": _neighbour_mixed_in,
    "queries compared with their mean": _centred_queries,
    "scores divided by their common spread": partial(wrong.attend, weigh=_common_spread),
    "outputs averaged with the ones before": partial(wrong.attend, carry=_running_mean),
}


SHAPES = ((4, 6, 3, 5), (5, 5, 4, 3), (7, 3, 5, 4))  # Nq, Nk, Dk, Dv


def _drawn(rng, nq, nk, dk, dv):
    return rng.standard_normal((nq, dk)), rng.standard_normal((nk, dk)), rng.standard_normal((nk, dv))


def _close(a, b, tolerance=1e-4):
    return bool(np.abs(a - b).max() <= tolerance)


def _any_key_order(attend, rng, shape, close=_close):
    q, k, v = _drawn(rng, *shape)
    order = np.roll(rng.permutation(len(k)), 1)
    return close(attend(q, k[order], v[order]), attend(q, k, v)) and close(attend(q, k[::-1], v[::-1]), attend(q, k, v))


def _independent_queries(attend, rng, shape, close=_close):
    q, k, v = _drawn(rng, *shape)
    changed = q.copy()
    changed[1:] = 3 * rng.standard_normal(changed[1:].shape)
    return close(attend(changed, k, v)[0], attend(q, k, v)[0]) and close(
        attend(changed[::-1], k, v)[-1], attend(q, k, v)[0]
    )


def both(attend, rng, shapes=SHAPES, close=_close):
    return all(
        _any_key_order(attend, rng, shape, close) and _independent_queries(attend, rng, shape, close)
        for shape in shapes
    )


def _order_only(attend, rng):
    return all(_any_key_order(attend, rng, shape) for shape in SHAPES)


def _independence_only(attend, rng):
    return all(_independent_queries(attend, rng, shape) for shape in SHAPES)


def _exactly(attend, rng):
    return both(attend, rng, close=np.array_equal)


def _loosely(attend, rng):
    return both(attend, rng, close=lambda a, b: _close(a, b, 0.5))


def _shapes_only(attend, rng):
    return both(attend, rng, close=lambda a, b: a.shape == b.shape)


def _values_left_behind(attend, rng):
    q, k, v = _drawn(rng, *SHAPES[0])
    return _close(attend(q, k[::-1], v), attend(q, k, v))


def _all_rows_compared(attend, rng):
    q, k, v = _drawn(rng, *SHAPES[0])
    changed = q.copy()
    changed[0] += 1.0
    return _close(attend(changed, k, v), attend(q, k, v))


def _queries_permuted(attend, rng):
    q, k, v = _drawn(rng, *SHAPES[0])
    return _close(attend(q[::-1], k, v), attend(q, k, v))


def _identity_order(attend, rng):
    q, k, v = _drawn(rng, *SHAPES[0])
    same = np.arange(len(k))
    return _close(attend(q, k[same], v[same]), attend(q, k, v)) and _independence_only(attend, rng)


def _constant_values(attend, rng):
    q, k, v = _drawn(rng, *SHAPES[0])
    return _close(attend(q, k, np.ones_like(v)), np.ones((len(q), v.shape[-1])))


MISTAKES = (
    Misconception("always yes", lambda attend, rng: True, "when a test says yes to everything",
                  "What could an operator do that would make your test say no?"),
    Misconception("always no", lambda attend, rng: False, "when a test says no to everything",
                  "Attention itself has both symmetries. What does your test say of it?"),
    Misconception("key order only", _order_only, "when only the order of the keys is tested",
                  "Change one query: which rows of the output may move?"),
    Misconception("query independence only", _independence_only, "when only the independence of queries is tested",
                  "Shuffle the keys: what must move with them, and what must stay?"),
    Misconception("square only", lambda attend, rng: both(attend, rng, SHAPES[1:2]),
                  "when as many queries as keys is the only case", "Which mistake could hide when Nq equals Nk?"),
    Misconception("never square", lambda attend, rng: both(attend, rng, SHAPES[:1]),
                  "when one rectangular shape is the only case", "Which mistake shows only when Nq equals Nk?"),
    Misconception("values left behind", _values_left_behind, "when the keys are shuffled without their values",
                  "Key j and value j belong together: what did your shuffle do to the pairs?"),
    Misconception("all rows compared", _all_rows_compared,
                  "when one query is changed, and its own row is expected to stay",
                  "Which row of the output may change when query 0 does?"),
    Misconception("queries shuffled", _queries_permuted, "when the queries are shuffled and the rows expected to stay",
                  "If the questions come in another order, in which order do the answers come?"),
    Misconception("exact equality", _exactly, "when results must agree to the last bit",
                  "Adding the same numbers in another order: do the last digits agree?"),
    Misconception("too tolerant", _loosely, "when differences half as large as the values pass",
                  "How large is rounding, and how large is a mistake?"),
    Misconception("shapes only", _shapes_only, "when only shapes are compared",
                  "Two arrays of the same shape: what else must agree?", alike="always yes"),
    Misconception("keys left in place", _identity_order, "when the new order of the keys is the old one",
                  "Print the order that you shuffle by. Does any key move?", alike="query independence only"),
    Misconception("constant values", _constant_values, "when only the sum of the weights is tested",
                  "Rows that add up to one: does that say anything about order?"),
)  # fmt: skip


def _one_pair_at_a_time(attend, rng):
    for nq, nk, dk, dv in SHAPES:
        q, k, v = _drawn(rng, nq, nk, dk, dv)
        whole = attend(q, k, v)
        for a in range(nk):
            order = np.arange(nk)
            order[[a, 0]] = order[[0, a]]
            if not np.allclose(attend(q, k[order], v[order]), whole, rtol=1e-4, atol=1e-4):
                return False
        alone = np.concatenate([attend(q[i : i + 1], k, v) for i in range(nq)])
        if not np.allclose(alone, whole, rtol=1e-4, atol=1e-4):
            return False
    return True


def _batched(attend, rng):
    q, k, v = (rng.standard_normal(shape) for shape in ((3, 5, 4), (3, 5, 4), (3, 5, 2)))
    same_order = np.allclose(attend(q, k[:, ::-1], v[:, ::-1]), attend(q, k, v), atol=1e-4)
    other = q.copy()
    other[:, :-1] *= -2
    return np.bool_(same_order and np.allclose(attend(other, k, v)[:, -1], attend(q, k, v)[:, -1], atol=1e-4)) and both(
        attend, rng, SHAPES[:1]
    )


ALTERNATIVES = (_one_pair_at_a_time, _batched)
