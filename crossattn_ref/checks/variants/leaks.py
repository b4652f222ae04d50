"""Tests for leaks through a mask, as learners write them, and the operators that they are tried on.

A test takes an operator attend(q, k, v, mask) and an rng, and returns True where what stands in masked places has no
effect on the output.

Letters: q (B, H, Nq, Dk), k (B, H, Nk, Dk), v (B, H, Nk, Dv); mask broadcasts to (B, H, Nq, Nk), True = may look.
"""

from functools import partial

import numpy as np

from crossattn_ref.attention import reference
from crossattn_ref.checks.draw import visible
from crossattn_ref.checks.report import Misconception
from crossattn_ref.checks.variants import masked
from crossattn_ref.checks.variants.masked import attend, empty_rows_zero, filled, minus_inf, unhidden, unsettled
from crossattn_ref.checks.variants.softmax import hard, quiet


def _centred_keys(q, k, v, mask):
    return reference.attention(q, k - k.mean(axis=-2, keepdims=True), v, mask)


def _average_of_what_is_seen(q, k, v, mask):
    return reference.attention(np.zeros_like(q), k, v, mask)


def _ones_for_nothing(q, k, v, mask):
    blind = ~mask.any(axis=-1, keepdims=True)
    return np.where(blind, 1.0, reference.attention(q, k, v, mask))


# What leak_test is tried on. None of these leaks, though they differ in what a query that sees nothing gets.
TIGHT = {
    "attention itself": reference.attention,
    "attention in float32": lambda q, k, v, mask: attend(*(x.astype(np.float32) for x in (q, k, v)), mask),
    "attention that gives NaN to a query that sees nothing": partial(attend, settle=unsettled),
    "attention that gives ones to a query that sees nothing": _ones_for_nothing,
    "attention that fills with -1e9": partial(attend, hide=filled(-1e9), settle=unsettled),
    "attention that adds -1e9": partial(attend, hide=masked.added(-1e9), settle=unsettled),
    "attention that deletes the hidden keys": masked.query_by_query,
    "attention whose keys are centred, which cancels": _centred_keys,
    "attention without the scale": partial(attend, scale=lambda scores, q, k, v: scores),
    "attention that gives all to the best key seen": partial(attend, weigh=hard),
    "the plain average of the values seen": _average_of_what_is_seen,
}


def _spread(change):
    """Hide by a mask that is spread over all axes, (B, H, Nq, Nk), and then changed."""
    return partial(
        attend,
        hide=lambda scores, mask: minus_inf(scores, change(np.broadcast_to(mask, scores.shape))),
        settle=lambda weights, mask: empty_rows_zero(weights, change(np.broadcast_to(mask, weights.shape))),
    )


def _turned_when_square(mask):
    return mask.swapaxes(-1, -2) if mask.shape[-1] == mask.shape[-2] else mask


def _first_keys_only(mask):
    """Read no more columns of the mask than there are queries."""
    return mask | (np.arange(mask.shape[-1]) >= mask.shape[-2])


def _first_head_only(mask):
    seen = mask.copy()
    seen[..., 1:, :, :] = True
    return seen


def _first_sentence_for_all(mask):
    return np.broadcast_to(mask[:1], mask.shape)


def _whole_batch_together(mask):
    return np.broadcast_to(mask.any(axis=0, keepdims=True), mask.shape)


def _last_row_for_all(mask):
    return np.broadcast_to(mask[..., -1:, :], mask.shape)


def _causal_like(mask):
    return np.tri(*mask.shape[-2:], dtype=bool)


def _one_ahead(mask):
    return mask | np.roll(mask, 1, axis=-1) & (np.arange(mask.shape[-1]) > 0)


def _values_mixed_in(w, q, k, v):
    return w @ (v + 0.1 * v.mean(axis=-2, keepdims=True))


def _long_keys_shortened(q, k, v, mask):
    return reference.attention(q, k / k.std(axis=-2, keepdims=True), v, mask)


LEAKY = {
    "the mask ignored": partial(attend, hide=unhidden, settle=unsettled),
    "the mask put on after the softmax": partial(attend, hide=unhidden, settle=masked.hidden_zero),
    "the mask turned over": _spread(np.logical_not),
    "hidden scores filled with 0": partial(attend, hide=filled(0), settle=unsettled),
    "hidden scores filled with -10": partial(attend, hide=filled(-10), settle=unsettled),
    "the mask transposed where that fits": _spread(_turned_when_square),
    "columns of the mask beyond the number of queries ignored": _spread(_first_keys_only),
    "the first head alone masked": _spread(_first_head_only),
    "the first sentence's mask used for all": _spread(_first_sentence_for_all),
    "a key seen by one sentence seen by all": _spread(_whole_batch_together),
    "the last query's mask used for all queries": _spread(_last_row_for_all),
    "the causal mask, whatever mask is given": _spread(lambda mask: np.broadcast_to(_causal_like(mask), mask.shape)),
    "the neighbour of a key that is seen, seen as well": _spread(_one_ahead),
    "an average of all values mixed into each": partial(attend, carry=_values_mixed_in),
    "the keys divided by their common spread": _long_keys_shortened,
}  # fmt: skip


SHAPES = ((3, 2, 3, 5, 4, 2), (2, 3, 4, 4, 3, 2))  # B, H, Nq, Nk, Dk, Dv


def _padding(rng, b, nq, nk):
    return reference.padding_mask(1 + rng.permutation(nk - 1)[np.arange(b) % (nk - 1)], nk)


def _causal(rng, b, nq, nk):
    return np.tri(nq, nk, dtype=bool)[None, None]


def _random(rng, b, nq, nk):
    return visible(rng, b, 1, nq, nk)


def _with_empty_rows(rng, b, nq, nk):
    seen = _random(rng, b, nq, nk)
    seen[:, :, 0] = False
    return seen


def _close(a, b, tolerance=1e-4):
    return bool(np.abs(a - b).max() <= tolerance)


def _loud(rng, x):
    return 100 * rng.standard_normal(x.shape)


def _hidden_from(seen, i):
    """Tell which keys, of every sentence and head, query i may not look at: (B, 1, Nk, 1)."""
    return ~seen[:, :, i, :, None]


def _its_own(seen, i):
    """Tell which rows must stay when what is hidden from query i changes: all, where all have the same mask."""
    return i if seen.shape[2] > 1 else slice(None)


def tight(attend, rng, *, shapes=SHAPES, draw=(_padding, _random), fill=_loud, parts="kv", close=_close,
         place=_hidden_from, rows=_its_own):  # fmt: skip
    """Change what is hidden from each query, and compare what it gets; any part replaced, as it stands right."""
    for b, h, nq, nk, dk, dv in shapes:
        q, k, v = (rng.standard_normal((b, h, *size)) for size in ((nq, dk), (nk, dk), (nk, dv)))
        for make in draw:
            seen = make(rng, b, nq, nk)
            before = attend(q, k, v, seen)
            for i in range(seen.shape[2]):
                hidden = place(seen, i)
                other_k = np.where(hidden, fill(rng, k), k) if "k" in parts else k
                other_v = np.where(hidden, fill(rng, v), v) if "v" in parts else v
                after = attend(q, other_k, other_v, seen)
                if not close(after[:, :, rows(seen, i)], before[:, :, rows(seen, i)]):
                    return False
    return True


def _mistake(name, symptom, hint, alike="", **parts):
    return Misconception(name, quiet(partial(tight, **parts)), symptom, hint, alike)


def _formula(attend, rng):
    b, h, nq, nk, dk, dv = SHAPES[0]
    q, k, v = (rng.standard_normal((b, h, *size)) for size in ((nq, dk), (nk, dk), (nk, dv)))
    seen = _random(rng, b, nq, nk)
    return _close(attend(q, k, v, seen), reference.attention(q, k, v, seen))


def _mask_matters(attend, rng):
    b, h, nq, nk, dk, dv = SHAPES[0]
    q, k, v = (rng.standard_normal((b, h, *size)) for size in ((nq, dk), (nk, dk), (nk, dv)))
    seen = _random(rng, b, nq, nk)
    return not _close(attend(q, k, v, seen), attend(q, k, v, np.ones_like(seen)))


def _one(shape, **sizes):
    return tuple(sizes.get(name, size) for name, size in zip(("b", "h", "nq", "nk", "dk", "dv"), shape, strict=True))


MISTAKES = (
    Misconception("always yes", lambda attend, rng: True, "when a test says yes to everything",
                  "What could an operator do that would make your test say no?"),
    Misconception("always no", lambda attend, rng: False, "when a test says no to everything",
                  "Attention itself does not leak. What does your test say of it?"),
    _mistake("values only", "when only the values in hidden places are changed",
             "A hidden key can have its share taken, and its value thrown away. Who pays for that share?", parts="v"),
    _mistake("keys only", "when only the keys in hidden places are changed",
             "A value may enter without its key. What else stands in a hidden place?", parts="k"),
    _mistake("padding only", "when every query has the same mask",
             "Which mistake could hide when all rows of the mask are the same?", draw=(_padding,)),
    _mistake("causal only", "when the causal mask is the only one",
             "Which mistake could hide when the last query may see everything, in every sentence?", draw=(_causal,)),
    _mistake("one sentence", "when the batch holds one sentence",
             "Which mistake could hide when there is no other sentence?",
             shapes=tuple(_one(shape, b=1) for shape in SHAPES)),
    _mistake("one head", "when there is one head", "Which mistake could hide when there is no second head?",
             shapes=tuple(_one(shape, h=1) for shape in SHAPES)),
    _mistake("square only", "when there are always as many queries as keys",
             "Which mistake could hide when Nq equals Nk?", shapes=SHAPES[1:2]),
    _mistake("never square", "when there are never as many queries as keys",
             "Which mistake shows only when Nq equals Nk?", shapes=SHAPES[:1]),
    _mistake("too quiet", "when what stands in hidden places is changed by a hair",
             "How loud must a hidden place be, for a weight of exp(-10) to be heard?",
             fill=lambda rng, x: x + 0.01 * rng.standard_normal(x.shape)),
    _mistake("exact equality", "when results must agree to the last bit",
             "Adding the same numbers in another order: do the last digits agree?", close=np.array_equal),
    _mistake("too tolerant", "when differences half as large as the values pass",
             "How large is rounding, and how large is a leak?", close=partial(_close, tolerance=0.5),
             fill=lambda rng, x: rng.standard_normal(x.shape)),
    _mistake("NaN put in", "when NaN is put into hidden places",
             "What is 0 times NaN? Does an operator that gives a hidden place the weight 0 leak?",
             fill=lambda rng, x: np.full(x.shape, np.nan)),
    _mistake("empty rows", "when some queries may look at nothing",
             "What such a query gets is a matter of convention. Is it what this test is about?",
             draw=(_padding, _random, _with_empty_rows)),
    _mistake("seen places changed", "when places that may be seen are changed as well",
             "Change a place that a query does see: should its output stay?", "always no",
             place=lambda seen, i: np.ones_like(_hidden_from(seen, i))),
    _mistake("polarity", "when the places that may be seen are changed, and the hidden ones kept",
             "In this course, does True mean look or do not look?",
             place=lambda seen, i: ~_hidden_from(seen, i)),
    _mistake("all rows compared", "when what is hidden from one query is changed, and all queries are compared",
             "What is hidden from query 0 may be seen by query 1. Which rows must stay?", "always no",
             rows=lambda seen, i: slice(None)),
    _mistake("places left alone", "when nothing is changed in the hidden places",
             "Print what changed between the two calls. Is it more than nothing?", "always yes", fill=lambda rng, x: x),
    _mistake("shapes only", "when only shapes are compared", "Two arrays of the same shape: what else must agree?",
             "always yes", close=lambda a, b: a.shape == b.shape),
    Misconception("compared with the formula", _formula, "when the operator must be attention itself",
                  "An operator may be another one and still not leak. What does the statement ask for?"),
    Misconception("mask matters", _mask_matters, "when the mask need only make some difference",
                  "A mask that hides half of what it should makes a difference too. What has to stay the same?"),
)  # fmt: skip


def _mask_by_mask(attend, rng):
    """Padding, causal and both together, whole batches of hidden keys at a time, alone and in company."""
    for nq, nk in ((4, 7), (5, 5), (7, 4)):
        q, k, v = (rng.standard_normal(shape) for shape in ((3, 2, nq, 4), (3, 2, nk, 4), (3, 2, nk, 3)))
        lengths = np.array([nk - 1, 1, nk // 2])
        pad = np.arange(nk) < lengths[:, None, None, None]
        for seen in (pad, pad & np.tri(nq, nk, dtype=bool), np.flip(pad & np.tri(nq, nk, dtype=bool), axis=-1)):
            rows = np.broadcast_to(seen, (3, 1, nq, nk))
            out = attend(q, k, v, seen)
            for b in range(3):
                for i in range(nq):
                    other = [x.copy() for x in (k, v)]
                    for x in other:
                        x[b][:, ~rows[b, 0, i]] += 50 * rng.standard_normal(x[b][:, ~rows[b, 0, i]].shape)
                    if not np.allclose(attend(q, *other, seen)[b, :, i], out[b, :, i], rtol=1e-4, atol=1e-4):
                        return False
    return True


def _key_by_key(attend, rng):
    """Change one hidden key at a time, and compare the queries that may not see it."""
    for nq, nk in ((3, 5), (3, 7), (4, 4), (5, 3)):
        q, k, v = (rng.standard_normal(shape) for shape in ((2, 2, nq, 3), (2, 2, nk, 3), (2, 2, nk, 3)))
        seen = visible(rng, 2, 1, nq, nk)
        out = attend(q, k, v, seen)
        for b, j in np.ndindex(2, nk):
            other_k, other_v = k.copy(), v.copy()
            other_k[b, :, j] *= -200
            other_v[b, :, j] += 300
            blind = ~seen[b, 0, :, j]
            if np.abs(attend(q, other_k, other_v, seen)[b][:, blind] - out[b][:, blind]).max(initial=0) > 1e-3:
                return np.False_
    return np.True_


ALTERNATIVES = (_mask_by_mask, _key_by_key)
