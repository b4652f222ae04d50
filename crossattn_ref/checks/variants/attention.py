"""Mistakes in attention, and right answers computed another way.

Attention is a line of four stages, score, scale, weigh and carry; a mistake replaces one of them,
and a mistake of two stages replaces both. Every stage keeps the dtype that it is given.

Letters: q (*batch, Nq, Dk), k (*batch, Nk, Dk), v (*batch, Nk, Dv).
"""

import itertools
from functools import partial

import numpy as np

from crossattn_ref.checks.report import Misconception
from crossattn_ref.checks.variants.softmax import (
    base_two,
    hard,
    log_softmax,
    naive,
    not_normalised,
    over_everything,
    quiet,
    shifted_by_the_global_top,
    sigmoid,
    softmax,
    without_exp,
)


def dot(q, k, v):
    return q @ k.swapaxes(-1, -2)


def by_root_width(scores, q, k, v):
    return scores / np.sqrt(np.asarray(q.shape[-1], scores.dtype))


def carry_values(weights, q, k, v):
    return weights @ v


def attend(q, k, v, *, score=dot, scale=by_root_width, weigh=softmax, carry=carry_values):
    """Attention with any of its four stages replaced; as it stands, the right formula in the dtype given."""
    return carry(weigh(scale(score(q, k, v), q, k, v)), q, k, v)


def _mistake(name, symptom, hint, alike="", **stage):
    return Misconception(name, partial(attend, **stage), symptom, hint, alike)


def _cosine(q, k, v):
    def unit(x):
        return x / np.linalg.norm(x, axis=-1, keepdims=True)

    return unit(q) @ unit(k).swapaxes(-1, -2)


def _reshaped(q, k, v):
    return q @ k.reshape(*k.shape[:-2], k.shape[-1], k.shape[-2])


def _by(size):
    """Divide the scores by a number that size(q, k, v) tells."""
    return lambda scores, q, k, v: scores / np.asarray(size(q, k, v), scores.dtype)


def _root(number):
    return number**0.5


def _causal(scores):
    return softmax(np.where(np.tri(*scores.shape[-2:], dtype=bool), scores, -np.inf))


SCORE = (
    _mistake("keys reshaped", "with the keys reshaped where they should be transposed",
             "reshape cuts the same numbers into other rows. You want two axes to change places.", score=_reshaped),
    _mistake("roles swapped", "with queries and keys in each other's places",
             "How many rows must the output have: one for each query, or one for each key?",
             score=lambda q, k, v: k @ q.swapaxes(-1, -2)),
    _mistake("queries match themselves", "with the queries compared with each other: the keys are never read",
             "Change the keys: does your result change?", score=lambda q, k, v: q @ q.swapaxes(-1, -2)),
    _mistake("keys match themselves", "with the keys compared with each other: the queries are never read",
             "Change the queries: does your result change?", score=lambda q, k, v: k @ k.swapaxes(-1, -2)),
    _mistake("cosine", "with the cosine of query and key in place of their product",
             "Does a key twice as long match twice as well?", score=_cosine),
    _mistake("values matched", "with the queries compared with the values",
             "Match with the keys, carry away the values.", score=lambda q, k, v: q @ v.swapaxes(-1, -2)),
)  # fmt: skip

SCALE = (
    _mistake("no scale", "without dividing the scores by the square root of Dk",
             "q·k adds up Dk products. What is its variance when each product has variance 1?",
             scale=_by(lambda q, k, v: 1.0)),
    _mistake("divided by Dk", "with the scores divided by Dk, not by its square root (or by the root twice)",
             "q·k has variance Dk. What is its standard deviation?", scale=_by(lambda q, k, v: q.shape[-1])),
    _mistake("multiplied by root Dk", "with the scores multiplied by the square root of Dk",
             "Should wide queries make the weights sharper, or should width not matter?",
             scale=_by(lambda q, k, v: 1 / _root(q.shape[-1]))),
    _mistake("root Dv", "with the width of the values, Dv, in the square root",
             "Over which width did the product q·k run?", scale=_by(lambda q, k, v: _root(v.shape[-1]))),
    _mistake("root Nk", "with the number of keys, Nk, in the square root",
             "Over which axis did the product q·k add up?", scale=_by(lambda q, k, v: _root(k.shape[-2]))),
    _mistake("root Nq", "with the number of queries, Nq, in the square root",
             "Over which axis did the product q·k add up?", scale=_by(lambda q, k, v: _root(q.shape[-2]))),
    _mistake("root of the first axis", "with the length of the first axis in the square root",
             "What does shape[0] count once there is a batch?", scale=_by(lambda q, k, v: _root(q.shape[0]))),
    _mistake("root of twice Dk", "with more than one head's width in the square root",
             "Over which width did this one product q·k run?", scale=_by(lambda q, k, v: _root(2 * q.shape[-1]))),
    _mistake("fourth root", "with the fourth root of Dk in place of the square root",
             "Scaling q and k each by the fourth root comes to the square root. Did both get theirs?",
             scale=_by(lambda q, k, v: _root(_root(q.shape[-1])))),
)  # fmt: skip

WEIGH = (
    _mistake("softmax over queries", "with the softmax over the queries: columns add up to one, rows do not",
             "Each query must share out 100 % among the keys: which axis is that?", weigh=partial(softmax, axis=-2)),
    _mistake("softmax over the first axis", "with the softmax over axis 0",
             "Run one sentence alone: do its weights stay the same?", weigh=partial(softmax, axis=0)),
    _mistake("softmax over axis 1", "with the softmax over axis 1, hard-coded",
             "Which number names the axis of the keys, however many axes come before?",
             weigh=partial(softmax, axis=1)),
    _mistake("softmax over everything", "with one softmax over all scores at once",
             "How many times is 100 % shared out?", weigh=over_everything),
    _mistake("log softmax", "with the logarithm of the weights", "Can a share of 100 % be negative?",
             weigh=log_softmax),
    _mistake("no normalisation", "with exp but without the division by its sum",
             "Let every value be 1. What should come out?", weigh=not_normalised),
    _mistake("raw scores", "without any softmax: the scores themselves weigh the values",
             "Let every value be 1. What should come out?", weigh=lambda scores: scores),
    _mistake("scores over their sum", "with scores divided by their sum, without exp",
             "What does a negative score do to its value?", weigh=without_exp),
    _mistake("sigmoid", "with a sigmoid for each score: the keys do not compete",
             "Let every value be 1. What should come out?", weigh=sigmoid),
    _mistake("softmax twice", "with the softmax taken of the softmax",
             "How sharp can weights get when what goes into exp lies between 0 and 1?",
             weigh=lambda scores: softmax(softmax(scores))),
    _mistake("argmax", "with all the weight on the best key",
             "Nudge a query a little: does your result move with it?", weigh=hard),
    _mistake("no max subtraction", "without taking each row's largest score off before exp",
             "exp(800) does not fit into a float. You have written a softmax that can do this.", weigh=naive),
    _mistake("global max", "with the largest score of all taken off every row",
             "A row whose scores lie far below another's: what is left of it after exp?",
             weigh=shifted_by_the_global_top),
    _mistake("causal", "with later keys hidden from earlier queries",
             "Nobody asked for a mask: may the first query see the last key?", weigh=_causal),
    _mistake("uniform", "with the same weight for every key",
             "Change the scores: does your result change?", weigh=lambda s: softmax(np.zeros_like(s))),
    _mistake("sign flipped", "with the weights largest where query and key match least",
             "Which key should weigh most, the best match or the worst?", weigh=lambda scores: softmax(-scores)),
    _mistake("base two", "with powers of 2 in place of powers of e", "Which base does exp have?", weigh=base_two),
)  # fmt: skip

CARRY = (
    _mistake("keys carried", "with the keys carried away in place of the values",
             "Match with the keys, carry away the values: which width must the output have?",
             carry=lambda w, q, k, v: w @ k),
    _mistake("weights returned", "when the weights are returned in place of the output",
             "One row for each query, and how wide?", carry=lambda w, q, k, v: w),
    _mistake("weights transposed", "with the weights transposed before they meet the values",
             "Rows are queries, columns are keys. Which of the two does the product with v add up over?",
             carry=lambda w, q, k, v: w.swapaxes(-1, -2) @ v),
    _mistake("averaged away", "with the output averaged over the queries",
             "Each query carries away an answer of its own: how many rows is that?",
             carry=lambda w, q, k, v: np.broadcast_to((w @ v).mean(-2, keepdims=True), (*q.shape[:-1], v.shape[-1]))),
    _mistake("queries added", "with the queries added to the output",
             "The definition ends with the weighted values. Is there anything to add?",
             carry=lambda w, q, k, v: w @ v + q),
    _mistake("scale after softmax", "with the weights divided by the square root of Dk once more",
             "Scale the scores, not the weights: what do your rows add up to?",
             carry=lambda w, q, k, v: (w / np.asarray(_root(q.shape[-1]), w.dtype)) @ v),
    _mistake("values in reverse", "with the values taken in reverse order",
             "Key j and value j belong together.", carry=lambda w, q, k, v: w @ v[..., ::-1, :]),
)  # fmt: skip


def _scaled_only_after(q, k, v):
    return attend(q, k, v, scale=_by(lambda q, k, v: 1.0)) / np.asarray(_root(q.shape[-1]), q.dtype)


MISTAKES = (
    *(Misconception(m.name, quiet(m.wrong), m.symptom, m.hint, m.alike) for m in (*SCORE, *SCALE, *WEIGH, *CARRY)),
    Misconception("scaled too late", _scaled_only_after, "with the output, not the scores, divided by the root of Dk",
                  "Scale before the softmax: does dividing afterwards make the weights any flatter?"),
)  # fmt: skip


def pairs():
    """Make the mistakes that two stages of attention make together."""
    for first, second in itertools.combinations((SCORE, SCALE, WEIGH, CARRY), 2):
        for a, b in itertools.product(first, second):
            wrong = quiet(partial(attend, **a.wrong.keywords, **b.wrong.keywords))
            symptom, hint = f"{a.symptom}, and {b.symptom}", f"{a.hint} And: {b.hint}"
            yield Misconception(f"{a.name}, {b.name}", wrong, symptom, hint)


def _einsum(q, k, v):
    scores = np.einsum("...qd,...kd->...qk", q, k) / np.sqrt(q.shape[-1])
    return np.einsum("...qk,...kd->...qd", softmax(scores), v)


def _query_by_query(q, k, v):
    rows = [softmax((k @ q[..., i, :, None])[..., 0] / np.sqrt(q.shape[-1])) for i in range(q.shape[-2])]
    return np.stack([(row[..., None] * v).sum(-2) for row in rows], axis=-2)


def _sentence_by_sentence(q, k, v):
    out = np.empty((*q.shape[:-1], v.shape[-1]))
    for index in np.ndindex(q.shape[:-2]):
        out[index] = softmax(q[index] @ k[index].T * q.shape[-1] ** -0.5) @ v[index]
    return out


def _scaled_before(q, k, v):
    return softmax((q / np.sqrt(q.shape[-1])) @ k.swapaxes(-1, -2)) @ v


def _root_shared(q, k, v):
    root = q.shape[-1] ** 0.25
    return softmax((q / root) @ (k / root).swapaxes(-1, -2)) @ v


def _normalised_last(q, k, v):
    scores = q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1])
    exp = np.exp(scores - scores.max(-1, keepdims=True))
    return (exp @ v) / exp.sum(-1, keepdims=True)


def in_float32(q, k, v):
    return attend(*(x.astype(np.float32) for x in (q, k, v)))


def key_by_key(q, k, v):
    top, total, out = -np.inf, 0.0, 0.0
    for j in range(k.shape[-2]):
        score = (q * k[..., j : j + 1, :]).sum(-1, keepdims=True) / np.sqrt(q.shape[-1])
        new = np.maximum(top, score)
        kept, gained = np.exp(top - new), np.exp(score - new)
        total, out, top = total * kept + gained, out * kept + gained * v[..., j : j + 1, :], new
    return out / total


def _columns_of_keys(q, k, v):
    scores = (k @ q.swapaxes(-1, -2)) / np.sqrt(k.shape[-1])  # (*batch, Nk, Nq)
    return softmax(scores, axis=-2).swapaxes(-1, -2) @ v


ALTERNATIVES = (
    _einsum, _query_by_query, _sentence_by_sentence, _scaled_before, _root_shared, _normalised_last,
    in_float32, key_by_key, _columns_of_keys,
)  # fmt: skip
