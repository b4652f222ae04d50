"""Mistakes in attention under a mask, and right answers computed another way.

Attention under a mask is a line of six stages: score, scale, hide, weigh, settle and carry. hide tells the softmax
where nobody may look; settle decides what becomes of a query that may look at nothing.

Letters: q (*batch, Nq, Dk), k (*batch, Nk, Dk), v (*batch, Nk, Dv). mask is boolean, True = may look.
"""

from functools import partial

import numpy as np

from crossattn_ref.checks.report import Misconception
from crossattn_ref.checks.variants import attention as plain
from crossattn_ref.checks.variants.attention import by_root_width, carry_values, dot
from crossattn_ref.checks.variants.softmax import quiet, softmax
from crossattn_ref.checks.variants.stages import AT_RANDOM, flat, staged


def filled(value):
    """Put a number in the place of every hidden score."""
    return lambda scores, mask: np.where(mask, scores, np.asarray(value, scores.dtype))


def added(value):
    """Add a number to every hidden score."""
    return lambda scores, mask: scores + np.where(mask, 0, np.asarray(value, scores.dtype))


minus_inf = filled(-np.inf)


def unhidden(scores, mask):
    return scores


def empty_rows_zero(weights, mask):
    """Give a query that may look at nothing weights of 0, and leave all others as they are."""
    return np.where(mask.any(axis=-1, keepdims=True), weights, 0)


def unsettled(weights, mask):
    return weights


def hidden_zero(weights, mask):
    return np.where(mask, weights, 0)


@quiet
def attend(q, k, v, mask, *, score=dot, scale=by_root_width, hide=minus_inf, weigh=softmax, settle=empty_rows_zero,
           carry=carry_values):  # fmt: skip
    """Attention under a mask with any stage replaced; as it stands, the right formula in the dtype given."""
    weights = settle(weigh(hide(scale(score(q, k, v), q, k, v), mask)), mask)
    return carry(weights, q, k, v)


def through(change):
    """Hide by a mask that was changed first: seen through change(mask)."""
    return {
        "hide": lambda scores, mask: minus_inf(scores, change(mask)),
        "settle": lambda weights, mask: empty_rows_zero(weights, change(mask)),
    }


def _by_index(scores, mask):
    scores = scores.copy()
    scores[~mask] = -np.inf
    return scores


def _dropped(weights):
    """Drop one number in ten, and make the others larger to keep the mean."""
    kept = np.random.default_rng().random(weights.shape) >= 0.1
    return (weights * kept / 0.9).astype(weights.dtype)


def _keys_emptied(q, k, v, mask):
    seen = mask.any(axis=-2)[..., None]
    return plain.attend(q, np.where(seen, k, 0), np.where(seen, v, 0))


def _turned(mask):
    return mask.swapaxes(-1, -2)


def _queries_too(mask):
    """Read the last query's row as the padding of the queries as well, where there are as many of them as keys."""
    row = mask[..., -1:, :]
    return mask & _turned(row) if mask.shape[-2] in (1, mask.shape[-1]) else mask


def _renormalised(weights, mask):
    kept = np.where(mask, weights, 0)
    return empty_rows_zero(kept / kept.sum(axis=-1, keepdims=True), mask)


def _carefully_renormalised(weights, mask):
    kept = np.where(mask, weights, 0)
    total = kept.sum(axis=-1, keepdims=True)
    return kept / np.where(total == 0, 1, total)


def _evenly(weights, mask):
    return np.where(mask.any(axis=-1, keepdims=True), weights, np.asarray(1 / weights.shape[-1], weights.dtype))


def _first_key(weights, mask):
    first = np.arange(weights.shape[-1]) == 0
    return np.where(mask.any(axis=-1, keepdims=True), weights, first.astype(weights.dtype))


HIDE = (
    ("mask ignored", {"hide": unhidden, "settle": unsettled}, "when the mask is never used",
     "Change the mask: does your result change?"),
    ("masked after the softmax", {"hide": unhidden, "settle": hidden_zero},
     "with the mask put on the weights after the softmax: the rest of a row no longer adds up to one",
     "The hidden keys have taken their share before you removed them. Where must they be hidden?"),
    ("filled with 0", filled(0), "with 0 in place of a hidden score",
     "What is exp(0)? Does a score of 0 hide a key?"),
    ("fill of -1e-9", filled(-1e-9), "with -1e-9 in place of a hidden score, which is as good as 0",
     "Print exp of your fill value. Was it to be tiny, or far below every score?", "filled with 0"),
    ("fill of -10", filled(-10), "with -10 in place of a hidden score",
     "How small is exp(-10), and how small can a score that may be seen become?"),
    ("fill of -10,000", filled(-1e4), "with -10,000 in place of a hidden score",
     "Which is lower, your fill value or a score of -50,000?"),
    ("-10,000 added", added(-1e4), "with -10,000 added to a hidden score",
     "A hidden score of 50,000, less 10,000: does it still win?"),
    ("sign of the fill", filled(1e9), "with a large positive number in place of a hidden score",
     "Which way does exp grow? Does your fill value hide a key or choose it?"),
    ("mask added", lambda scores, mask: scores + mask, "with the mask added to the scores as 0 and 1",
     "What does adding 1 to the score of a key that may be seen do to one that may not?"),
    ("mask subtracted", lambda scores, mask: scores - ~mask, "with 1 taken off every hidden score",
     "Is one less far enough below every other score?", "mask added"),
    ("zero times infinity", lambda scores, mask: scores + (1 - mask) * -np.inf,
     "when minus infinity is multiplied by the mask before it is added", "What is 0 times infinity?"),
    ("mask not spread", _by_index,
     "when the mask is used as an index: it must then have the shape of the scores itself",
     "A mask of shape (B, 1, 1, Nk) serves all heads and queries. Who spreads it over them?"),
)  # fmt: skip

LOOK = (
    ("polarity", through(np.logical_not), "with the mask turned over: hidden keys are read, the others are not",
     "In this course, does True mean look or do not look?"),
    ("mask transposed", through(_turned), "with the mask's queries and keys in each other's places",
     "Rows are queries, columns are keys. Is your mask turned?"),
    ("axis in front of the mask", through(lambda mask: mask[None]), "with a result of one axis too many",
     "A mask lines up with the scores from the last axis on. Does it need another axis in front?"),
    ("first row for all", through(lambda mask: mask[..., :1, :]),
     "with the first query's row of the mask for every query",
     "May the last query see only what the first one sees?"),
    ("last row for all", through(lambda mask: mask[..., -1:, :]),
     "with the last query's row of the mask for every query", "May the first query see all that the last one sees?"),
    ("first sentence for all", through(lambda mask: mask[:1] if mask.ndim > 2 else mask),
     "with the first sentence's mask for the whole batch", "Whose padding does the second sentence have?"),
    ("whole batch together", through(lambda mask: mask.any(axis=0, keepdims=True) if mask.ndim > 2 else mask),
     "when a key that one sentence may see is seen by all", "Whose padding does the second sentence have?"),
    ("first head for all", through(lambda mask: mask[..., :1, :, :] if mask.ndim > 2 else mask),
     "with the first head's mask for every head", "A mask may differ from head to head. Which one do you read?"),
    ("shifted", through(lambda mask: np.roll(mask, 1, axis=-1)), "with the mask shifted by one key",
     "Which key does the first column of the mask speak of?"),
    ("padded queries hidden", through(_queries_too), "with rows hidden where the query is padding",
     "A padded query's output is dropped in the loss. Does the mask that you were given hide its row?"),
)  # fmt: skip

SETTLE = (
    ("empty rows forgotten", unsettled, "without a rule for a query that may look at nothing",
     "Every key of such a row is hidden, and the softmax is left with 0/0. What does attending to nothing mean here?"),
    ("empty rows evenly", _evenly, "when a query that may look at nothing reads every key alike",
     "Whose values stand in that average? May this query see them?"),
    ("fill of -1e9, nothing after", {"hide": filled(-1e9), "settle": unsettled},
     "when a query that may look at nothing reads every key alike",
     "If all scores of a row are -1e9, what are its weights? May this query see those keys?", "empty rows evenly"),
    ("-1e9 added, nothing after", {"hide": added(-1e9), "settle": unsettled},
     "when a query that may look at nothing reads every key as if there were no mask",
     "Take the same number off every score of a row: do the weights change?"),
    ("empty rows take the first key", _first_key, "when a query that may look at nothing takes the first key",
     "May this query see the first key?"),
    ("renormalised", {"hide": unhidden, "settle": _renormalised},
     "with the mask put on the weights after the softmax, and each row divided by its sum",
     "A hidden key with a score of 50,000 took everything: what is left to divide?"),
    ("carefully renormalised", {"hide": unhidden, "settle": _carefully_renormalised},
     "with the mask put on the weights after the softmax: a row whose hidden keys took everything is taken for empty",
     "A hidden key with a score of 50,000 took everything: what is left for the others?"),
    ("zero output for more", lambda weights, mask: np.where(mask.all(axis=-1, keepdims=True), weights, 0),
     "with zeros for every query from which any key is hidden",
     "Zeros are for a query that may look at nothing. Which queries get them from you?"),
)  # fmt: skip

# What goes wrong without a mask goes wrong with one, but for two that say nothing about hidden scores of -inf.
_WITHOUT = {"scores over their sum", "uniform"}


def _as_before(mistakes):
    return [(m.name, m.wrong.keywords, m.symptom, m.hint) for m in mistakes if m.name not in _WITHOUT]


STAGES = staged(
    attend,
    hide=HIDE,
    look=LOOK,
    settle=SETTLE,
    score=(
        *_as_before(plain.SCORE),
        ("all axes turned", {"score": lambda q, k, v: q @ k.T},
         "with all axes of the keys turned round, the batch's too",
         "Which two axes of k must change places, and which must stay?"),
        ("keys ask", {"score": lambda q, k, v: k @ q.swapaxes(-1, -2),
                      "carry": lambda w, q, k, v: w.swapaxes(-1, -2) @ v},
         "with keys that share out their weight among the queries, and the table turned round afterwards",
         "Each query must share out 100 % among the keys: who shares out here?"),
    ),
    scale=(
        *_as_before(plain.SCALE),
        ("scaled too late", {"scale": lambda scores, q, k, v: scores,
                             "carry": lambda w, q, k, v: (w @ v) / np.asarray(q.shape[-1] ** 0.5, w.dtype)},
         "with the output, not the scores, divided by the root of Dk",
         "Scale before the softmax: does dividing afterwards make the weights any flatter?"),
    ),
    weigh=(
        *_as_before(plain.WEIGH),
        ("evenly", {"weigh": lambda scores: softmax(np.where(np.isfinite(scores), 0, scores))},
         "with the same weight for every key that may be seen", "Change the scores: does your result change?"),
        ("no max subtraction, sum guarded", {"weigh": lambda scores: np.exp(scores) / (
            np.exp(scores).sum(-1, keepdims=True) + np.asarray(1e-9, scores.dtype))},
         "without taking each row's largest score off before exp, and with a small number added to the sum",
         "exp(800) does not fit into a float, and exp(-800) is 0. You have written a softmax that can do both."),
    ),
    carry=_as_before(plain.CARRY),
)  # fmt: skip

MISTAKES = (
    *flat(STAGES),
    Misconception("keys emptied", quiet(_keys_emptied), "with hidden keys and values set to 0, and read all the same",
                  "What does the softmax make of a score of 0?"),
    # That something is drawn at random shows; what it is does not, so the two count as one.
    *(Misconception(name, partial(attend, **{stage: wrong}),
                    "with dropout that nobody switches off: the same input gives another result each time",
                    "Dropout is for training. Does this function know whether it is trained?", AT_RANDOM)
      for name, stage, wrong in (
          (AT_RANDOM, "weigh", lambda scores: _dropped(softmax(scores))),
          ("dropout on the scores", "scale", lambda *args: _dropped(by_root_width(*args))),
      )),
)  # fmt: skip


def _einsum(q, k, v, mask):
    scores = np.einsum("...qd,...kd->...qk", q, k) / np.sqrt(q.shape[-1])
    scores = np.where(mask, scores, -np.inf)
    top = scores.max(axis=-1, keepdims=True)
    exp = np.exp(scores - np.where(np.isfinite(top), top, 0))
    total = exp.sum(axis=-1, keepdims=True)
    return np.einsum("...qk,...kd->...qd", exp / np.where(total > 0, total, 1), v)


def query_by_query(q, k, v, mask):
    scores = q @ k.swapaxes(-1, -2) * q.shape[-1] ** -0.5
    mask = np.broadcast_to(mask, scores.shape)
    out = np.zeros((*q.shape[:-1], v.shape[-1]))
    for index in np.ndindex(q.shape[:-1]):
        seen = mask[index]
        if seen.any():
            out[index] = softmax(scores[index][seen]) @ v[index[:-1]][seen]
    return out


def _nan_to_num(q, k, v, mask):
    scores = np.where(mask, q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1]), -np.inf)
    return np.nan_to_num(softmax(scores)) @ v


def _deep_fill(q, k, v, mask):
    scores = np.where(mask, q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1]), -1e9)
    return np.where(mask.any(axis=-1, keepdims=True), softmax(scores) @ v, 0.0)


def _added_to_the_scores(q, k, v, mask):
    scores = q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1]) + np.where(mask, 0.0, -1e9)
    return (softmax(scores) * mask) @ v


def _smallest_number(q, k, v, mask):
    scores = np.where(mask, q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1]), np.finfo(q.dtype).min)
    return np.where(mask, softmax(scores), 0) @ v


def _never_zero(q, k, v, mask):
    scores = np.where(mask, q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1]), -np.inf)
    exp = np.exp(scores - scores.max(axis=-1, keepdims=True, initial=np.finfo(q.dtype).min))
    return (exp / (exp.sum(axis=-1, keepdims=True) + 1e-12)) @ v


def _key_by_key(q, k, v, mask):
    shape = (*q.shape[:-1], 1)
    mask = np.broadcast_to(mask, (*q.shape[:-1], k.shape[-2]))
    top, total, out = np.full(shape, -1e30), np.zeros(shape), np.zeros((*q.shape[:-1], v.shape[-1]))
    for j in range(k.shape[-2]):
        score = (q * k[..., j : j + 1, :]).sum(-1, keepdims=True) / np.sqrt(q.shape[-1])
        new = np.maximum(top, np.where(mask[..., j : j + 1], score, -1e30))
        kept, gained = np.exp(top - new), np.where(mask[..., j : j + 1], np.exp(np.minimum(score - new, 0)), 0)
        total, out, top = total * kept + gained, out * kept + gained * v[..., j : j + 1, :], new
    return out / np.where(total > 0, total, 1)


def _in_float32(q, k, v, mask):
    return attend(*(x.astype(np.float32) for x in (q, k, v)), mask)


def _values_emptied_too(q, k, v, mask):
    """Scale first, and never let what stands in places that no query sees take part at all."""
    scores = np.where(mask, (q / np.sqrt(q.shape[-1])) @ k.swapaxes(-1, -2), -np.inf)
    seen = np.broadcast_to(mask, scores.shape).any(axis=-2)[..., None]
    return hidden_zero(softmax(np.where(mask, scores, -1e300 if q.dtype == np.float64 else -3e38)), mask) @ np.where(
        seen, v, 0
    )


ALTERNATIVES = (
    _einsum, query_by_query, _nan_to_num, _deep_fill, _added_to_the_scores, _smallest_number, _never_zero, _key_by_key,
    _in_float32, _values_emptied_too,
)  # fmt: skip
