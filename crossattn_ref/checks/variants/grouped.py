"""Mistakes in attention whose query heads share heads of keys and values, and right answers computed another way.

A line of five stages: share (which keys a query head reads), score, scale, weigh and carry.

Letters: B samples, H heads of the queries, Hkv heads of keys and values, Nq queries, Nk keys, Dk and Dv widths.
"""

import math

import torch
from torch.nn import functional

from crossattn_ref.checks.report import Misconception
from crossattn_ref.checks.variants.stages import flat, staged


def neighbours(t, n_heads):
    """Let n_heads / Hkv query heads in a row share one head."""
    return t.repeat_interleave(n_heads // t.shape[1], dim=1)


def each_shared(q, k, v):
    return q, neighbours(k, q.shape[1]), neighbours(v, q.shape[1])


def by_root_width(scores, q, k, v):
    return scores / math.sqrt(q.shape[-1])


def over_keys(scores):
    return scores.softmax(-1)


def carried(weights, v):
    return weights @ v


def attend(q, k, v, *, share=each_shared, match=lambda q, k: q @ k.mT, scale=by_root_width, weigh=over_keys,
           carry=carried):  # fmt: skip
    """Attention with shared heads, with any stage replaced; as it stands, the right formula in the dtype given."""
    given = q, k, v
    q, k, v = share(q, k, v)
    return carry(weigh(scale(match(q, k), *given)), v)


def _each(change):
    """Treat keys and values alike, and leave the queries as they are."""
    return lambda q, k, v: (q, change(k, q.shape[1]), change(v, q.shape[1]))


def _in_turn(t, n_heads):
    return t.repeat(1, n_heads // t.shape[1], 1, 1)


def _one_for_all(head):
    return lambda t, n_heads: t[:, [head]].expand(-1, n_heads, -1, -1)


def _average(t, n_heads):
    return t.mean(1, keepdim=True).expand(-1, n_heads, -1, -1)


def _turned(t, n_heads):
    return neighbours(t.flip(1), n_heads)


def _cut_anew(t, n_heads):
    groups = n_heads // t.shape[1]
    return t.repeat_interleave(groups, dim=2).reshape(t.shape[0], n_heads, t.shape[2], t.shape[3])


def _clamped(t, n_heads):
    return t[:, torch.arange(n_heads).clamp(max=t.shape[1] - 1)]


def _by_group_size(t, n_heads):
    """Head h reads the head h // Hkv, where it should be h // (H / Hkv)."""
    return t[:, (torch.arange(n_heads) // t.shape[1]).clamp(max=t.shape[1] - 1)]


def _queries_averaged(q, k, v):
    return q.unflatten(1, (k.shape[1], -1)).mean(2), k, v


def _divided(size):
    return lambda scores, q, k, v: scores / size(q, k, v)


def _naive(scores):
    exp = scores.exp()
    return exp / exp.sum(-1, keepdim=True)


STAGES = staged(
    attend,
    share=(
        ("in turn", _each(_in_turn), "with the heads of keys and values dealt out in turn: head 1 reads the second one",
         "Four query heads, two heads of keys: who are head 0's companions, head 1 or head 2?"),
        ("keys in turn", lambda q, k, v: (q, _in_turn(k, q.shape[1]), neighbours(v, q.shape[1])),
         "with the keys dealt out in turn, and the values to neighbours",
         "Key j and value j belong together: does each head take both from the same place?"),
        ("values in turn", lambda q, k, v: (q, neighbours(k, q.shape[1]), _in_turn(v, q.shape[1])),
         "with the values dealt out in turn, and the keys to neighbours",
         "Key j and value j belong together: does each head take both from the same place?"),
        ("first head for all", _each(_one_for_all(0)), "when every query head reads the first head of keys",
         "Change the last head of the keys: does your result change?"),
        ("last head for all", _each(_one_for_all(-1)), "when every query head reads the last head of keys",
         "Change the first head of the keys: does your result change?"),
        ("last head for the rest", _each(_clamped),
         "when the first query heads read one head of keys each, and all others the last",
         "How many query heads should read each head of keys?"),
        ("wrong group size", _each(_by_group_size), "with Hkv query heads in a group",
         "Six query heads share two heads of keys: how many are there in a group?"),
        ("averaged", _each(_average), "with the heads of keys and values averaged",
         "Each head of keys holds something else. Which query heads may read it?"),
        ("reversed", _each(_turned), "with the groups in reverse order", "Which keys does the first query head read?"),
        ("repeated along the positions", _each(_cut_anew),
         "with the positions repeated, and the numbers cut into heads anew",
         "Which axis has too few heads, and which one did you repeat?"),
        ("queries averaged", _queries_averaged, "with the query heads of a group averaged: Hkv heads come out",
         "Heads share keys. Do they share questions?"),
        ("samples mixed", _each(lambda t, n: t.repeat(n // t.shape[1], 1, 1, 1).reshape(t.shape[0], n, *t.shape[2:])),
         "with samples repeated, and then cut into heads anew",
         "Which axis has too few heads, and which one did you repeat?"),
    ),
    match=(
        ("keys reshaped", lambda q, k: q @ k.reshape(*k.shape[:2], k.shape[3], k.shape[2]),
         "with the keys reshaped where they should be transposed",
         "reshape cuts the same numbers into other rows. You want two axes to change places."),
    ),
    scale=(
        ("no scale", _divided(lambda q, k, v: 1.0), "without dividing the scores by the square root of Dk",
         "q·k adds up Dk products. What is its variance when each has variance 1?"),
        ("divided by Dk", _divided(lambda q, k, v: q.shape[-1]), "with the scores divided by Dk, not by its root",
         "q·k has variance Dk. What is its standard deviation?"),
        ("multiplied by root Dk", _divided(lambda q, k, v: 1 / math.sqrt(q.shape[-1])),
         "with the scores multiplied by the square root of Dk", "Should wide heads make the weights sharper?"),
        ("root of the model width", _divided(lambda q, k, v: math.sqrt(q.shape[1] * q.shape[-1])),
         "with the root of the model width, where each head is narrower",
         "Over which width did the product q·k of one head run?"),
        ("root of the group's width", _divided(lambda q, k, v: math.sqrt(q.shape[1] // k.shape[1] * q.shape[-1])),
         "with the root of the width of a whole group", "Over which width did the product q·k of one head run?"),
        ("root Dv", _divided(lambda q, k, v: math.sqrt(v.shape[-1])), "with the width of the values in the square root",
         "Over which width did the product q·k run?"),
    ),
    weigh=(
        ("softmax over queries", lambda s: s.softmax(-2), "with the softmax over the queries",
         "Each query must share out 100 % among the keys: which axis is that?"),
        ("softmax over heads", lambda s: s.softmax(1), "with the softmax over the heads",
         "Do heads compete with each other?"),
        ("softmax over the batch", lambda s: s.softmax(0), "with the softmax over the batch",
         "Run one sample alone: do its weights stay the same?"),
        ("no max subtraction", _naive, "without taking each row's largest score off before exp",
         "exp(800) does not fit into a float. Which function of torch takes care of that?"),
        ("log softmax", lambda s: s.log_softmax(-1), "with the logarithm of the weights",
         "Can a share of 100 % be negative?"),
        ("softmax twice", lambda s: s.softmax(-1).softmax(-1), "with the softmax taken of the softmax",
         "How sharp can weights get when what goes into exp lies between 0 and 1?"),
        ("sigmoid", torch.sigmoid, "with a sigmoid for each score: the keys do not compete",
         "Let every value be 1. What should come out?"),
        ("argmax", lambda s: functional.one_hot(s.argmax(-1), s.shape[-1]).to(s.dtype),
         "with all the weight on the best key", "Nudge a query: does your result move with it?"),
    ),
    carry=(
        ("weights returned", lambda w, v: w, "when the weights are returned in place of the output",
         "One row for each query, and how wide?"),
        ("heads merged", lambda w, v: (w @ v).transpose(1, 2).flatten(2), "with the heads merged into rows",
         "How many axes has the result: is there one for the heads?"),
        ("groups added", lambda w, v: (w @ v).sum(1, keepdim=True).expand(-1, w.shape[1], -1, -1),
         "with the heads added up", "Each query head carries away an answer of its own. How many are there?"),
    ),
)  # fmt: skip


MISTAKES = (
    *flat(STAGES),
    Misconception("scaled too late", lambda q, k, v: attend(
                      q, k, v, scale=lambda scores, *_: scores) / math.sqrt(q.shape[-1]),
                  "with the output, not the scores, divided by the square root of Dk",
                  "Scale before the softmax: does dividing afterwards make the weights any flatter?"),
    Misconception("too few queries", lambda q, k, v: attend(q[:, : k.shape[1]], k, v),
                  "when only as many query heads are used as there are heads of keys",
                  "How many heads does the result have?"),
    Misconception("queries grouped in turn", lambda q, k, v: attend(
                      q.unflatten(1, (-1, k.shape[1])).transpose(1, 2).flatten(1, 2), k, v),
                  "with the query heads put into groups in turn, and the results left in that order",
                  "Which place in the result belongs to query head 1?"),
)  # fmt: skip


def _built_in(q, k, v):
    return functional.scaled_dot_product_attention(q, k, v, enable_gqa=True)


def _one_more_axis(q, k, v):
    q = q.unflatten(1, (k.shape[1], -1))  # (B, Hkv, H / Hkv, Nq, Dk)
    weights = (q @ k[:, :, None].mT / math.sqrt(q.shape[-1])).softmax(-1)
    return (weights @ v[:, :, None]).flatten(1, 2)


def _group_as_queries(q, k, v):
    rows = q.reshape(q.shape[0], k.shape[1], -1, q.shape[-1])
    out = torch.softmax(rows @ k.mT * q.shape[-1] ** -0.5, dim=-1) @ v
    return out.reshape(*q.shape[:-1], v.shape[-1])


def _head_by_head(q, k, v):
    group = q.shape[1] // k.shape[1]
    return torch.stack([
        torch.softmax(q[:, h] @ k[:, h // group].mT / q.shape[-1] ** 0.5, dim=-1) @ v[:, h // group]
        for h in range(q.shape[1])
    ], dim=1)  # fmt: skip


def _einsum(q, k, v):
    grouped = q.reshape(q.shape[0], k.shape[1], -1, *q.shape[2:])
    weights = (torch.einsum("bgrqd,bgkd->bgrqk", grouped, k) / math.sqrt(q.shape[-1])).softmax(-1)
    return torch.einsum("bgrqk,bgkd->bgrqd", weights, v).reshape(*q.shape[:3], v.shape[-1])


def _in_float32(q, k, v):
    return attend(q.float(), k.float(), v.float())


def _expanded(q, k, v):
    groups = q.shape[1] // k.shape[1]
    k, v = (t[:, :, None].expand(-1, -1, groups, -1, -1).flatten(1, 2) for t in (k, v))
    return functional.scaled_dot_product_attention(q, k, v)


def _repeated_along_the_positions(q, k, v):
    """Repeated as a whole behind itself and cut again, a head's positions are the head twice."""
    groups = q.shape[1] // k.shape[1]
    k, v = (t.repeat(1, 1, groups, 1).reshape(t.shape[0], -1, *t.shape[2:]) for t in (k, v))
    return attend(q, k, v, share=lambda *given: given)


ALTERNATIVES = (
    _built_in, _one_more_axis, _group_as_queries, _head_by_head, _einsum, _in_float32, _expanded,
    _repeated_along_the_positions,
)  # fmt: skip
