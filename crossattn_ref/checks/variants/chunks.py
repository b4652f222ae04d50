"""Mistakes in reading a memory block after block, and right answers computed another way.

Known of the keys met so far are, for each query, top, total and summed, as in merging. Reading one more block is a
line of stages; a mistake replaces one of them.

Letters: Nq queries, n keys of the block at hand; q (Nq, Dk), k (n, Dk), v (n, Dv), top and total (Nq,),
summed (Nq, Dv). Key j of the block is key start + j of the memory, and query i may look at the first seen[i] of these.
"""

import numpy as np

from crossattn_ref.checks.report import Misconception
from crossattn_ref.checks.variants.merging import shrink
from crossattn_ref.checks.variants.softmax import quiet
from crossattn_ref.checks.variants.stages import flat, staged


def dot(q, k):
    return q @ k.T / np.sqrt(np.asarray(q.shape[-1], q.dtype))


def visible(n, start, seen):
    return start + np.arange(n) < seen[:, None]


def hide(scores, mask):
    return np.where(mask, scores, np.asarray(-np.inf, scores.dtype))


def highest(top, scores):
    return np.maximum(top, scores.max(axis=-1, initial=-np.inf))


def exp(scores, top, _):
    return shrink(scores, top[:, None])


def rescale(old, new):
    return shrink(old, new)


def grown(old, factor, new):
    return factor * old + new


def average(summed, total, *_):
    return summed / np.where(total == 0, 1, total)[:, None]


def kept(top, total, summed):
    return top, total, summed


@quiet
def read_block(
    q, k, v, start, seen, top, total, summed, *,
    score=dot, allow=visible, mask=hide, pick=highest, weigh=exp, factor=rescale, totals=grown, sums=grown,
    finish=average, pack=kept,
):  # fmt: skip
    """The answer so far and the notes, with any stage replaced; as it stands, the right one."""
    scores = mask(score(q, k), allow(len(k), start, seen))
    new = pick(top, scores).astype(scores.dtype)
    weights, old = weigh(scores, new, top), factor(top, new)
    total = totals(total, old, weights.sum(axis=-1))
    summed = sums(summed, old[:, None], weights @ v)
    return finish(summed, total, weights, v), *pack(new, total, summed)


def _base_two(scores, top):
    return np.exp2(np.where(scores == -np.inf, -np.inf, scores - np.where(top == -np.inf, 0, top)))


def _unguarded(scores, top, _):
    return np.exp(scores - top[:, None])


def _one_block(summed, total, weights, v):
    alone = weights.sum(axis=-1)
    return weights @ v / np.where(alone == 0, 1, alone)[:, None]


_RESCALE = "The largest score has grown. Under which one were the sums made that you kept?"
_HIGH = "The scores of the second block lie a thousand above the first. Under which top does exp not overflow?"
_PLACE = "The block begins at key 6 of the memory. Which key of the memory is its key 2, and is 8 among the first 8?"
_ALL = "Which values has a query met by now, all blocks together?"

STAGES = staged(
    read_block,
    score=(
        ("no scale", lambda q, k: q @ k.T, "without dividing the scores by the square root of Dk",
         "Blocks or not, which scores does attention put into the softmax?"),
    ),
    allow=(
        ("start forgotten", lambda n, start, seen: np.arange(n) < seen[:, None],
         "with the keys of each block counted from 0", _PLACE),
        ("one too many", lambda n, start, seen: start + np.arange(n) <= seen[:, None],
         "when each query looks at one key too many", "A query may look at the first 3. Which is the last of them?"),
        ("one too few", lambda n, start, seen: start + np.arange(n) < seen[:, None] - 1,
         "when each query looks at one key too few", "A query may look at the first 3. Which is the last of them?"),
        ("nothing hidden", lambda n, start, seen: np.ones((len(seen), n), bool), "when every query looks at every key",
         "Where does seen enter?"),
        ("wrong causal alignment", lambda n, start, seen: start + np.arange(n) <= np.arange(len(seen))[:, None],
         "with a triangle in the top left corner, whatever seen says",
         "The last query may look at how many keys: as many as there are queries, or as seen says?"),
        ("whole blocks", lambda n, start, seen: np.repeat(start < seen[:, None], n, axis=1),
         "when a block is shown whole to whoever may look at its first key",
         "May the end of what a query sees lie in the middle of a block?"),
    ),
    mask=(
        ("filled with 0", lambda scores, mask: np.where(mask, scores, 0), "with hidden scores set to 0",
         "What is exp(0), and what should a hidden key count?"),
    ),
    pick=(
        ("largest of this block", lambda top, scores: scores.max(axis=-1, initial=-np.inf),
         "with the largest score of the block at hand, which may be lower than the one before", _HIGH),
        ("zero", lambda top, scores: np.zeros_like(top), "with nothing taken off before the exponential", _HIGH),
        ("one top for all queries", lambda top, scores: np.full_like(top, highest(top, scores).max()),
         "with one largest score for all queries together",
         "One query's scores lie a thousand above another's. What is left of the lower one's exponentials?"),
    ),
    weigh=(
        ("stale maximum", lambda scores, _, old: exp(scores, old, None),
         "when the block is weighed under the largest score from before it", _RESCALE),
        ("NaN from empty blocks", {"weigh": _unguarded, "factor": lambda old, new: np.exp(old - new)},
         "with -inf taken off -inf where a query has met no key",
         "What is -inf minus -inf, and what should a query get that has met no key yet?"),
        ("base two", {"weigh": lambda s, top, _: _base_two(s, top[:, None]), "factor": _base_two},
         "with powers of two for powers of e: log2(e) is missing",
         "A power of two is not a power of e. Which factor in the exponent makes one of the other?"),
        ("normalised block by block", lambda s, top, _: (w := exp(s, top, None)) / np.where(
            (n := w.sum(-1, keepdims=True)) == 0, 1, n),
         "when the weights of each block are made to add up to one",
         "Two blocks, and one holds all that matters. May each give the same weight in all?"),
    ),
    factor=(
        ("rescaled in base two", _base_two, "when only the rescaling uses powers of two",
         "Both exponentials must have the same base. Do they?"),
        ("upside down", lambda old, new: 1 / shrink(old, new), "with the rescaling upside down",
         "A top is overtaken: do the sums that were made under it shrink or grow?"),
        ("nothing rescaled", lambda old, new: np.ones_like(old), "without any rescaling", _RESCALE),
    ),
    totals=(
        ("total not rescaled", lambda old, _, new: old + new, "with the total not rescaled", _RESCALE),
        ("total of this block", lambda old, factor, new: new, "with the total of the block at hand alone", _ALL),
    ),
    sums=(
        ("missing rescale of the accumulator", lambda old, _, new: old + new, "with the weighted values not rescaled",
         _RESCALE),
        ("values of this block", lambda old, factor, new: new, "with the values of the block at hand alone", _ALL),
    ),
    finish=(
        ("never divided", lambda summed, *_: summed, "when the sum of the values is never divided by the total",
         "An average is a sum divided by what?"),
        ("answer of this block", _one_block, "with the answer from the block at hand alone", _ALL),
        ("0/0", lambda summed, total, *_: summed / total[:, None],
         "when 0 is divided by 0 for a query that sees nothing",
         "What is the total of a query that has met no key?"),
    ),
    pack=(
        ("notes already divided", lambda top, total, summed: (top, total, average(summed, total)),
         "when the sum goes into the notes divided by the total",
         "What will the next block make of a sum that has been divided already?"),
        ("order of the notes", lambda top, total, summed: (total, top, summed),
         "with top and total in each other's places", "In which order are the notes wanted?"),
    ),
)  # fmt: skip


def _a_note_for_each_block(q, k, v, start, seen, top, total, summed):
    """Keep what is known of each block apart, and merge all of it each time: right answers, growing notes."""
    nothing = (np.full(len(q), -np.inf), np.zeros(len(q)), np.zeros((len(q), v.shape[1])))
    _, *block = read_block(q, k, v, start, seen, *nothing)
    notes = [np.concatenate([old, new]) for old, new in zip((top, total, summed), block, strict=True)]
    tops, totals, sums = (note.reshape(-1, len(q), *note.shape[1:]) for note in notes)
    scale = shrink(tops, tops.max(axis=0))
    return average((scale[..., None] * sums).sum(axis=0), (scale * totals).sum(axis=0)), *notes


def _in_place(q, k, v, start, seen, top, total, summed):
    """Write the notes into those that were given."""
    out, *notes = read_block(q, k, v, start, seen, top, total, summed)
    top[...], total[...], summed[...] = notes
    return out, top, total, summed


def _fresh_each_time(q, k, v, start, seen, top, total, summed):
    """Never read the notes."""
    return read_block(q, k, v, start, seen, np.full_like(top, -np.inf), 0 * total, 0 * summed)


MISTAKES = (
    *flat(STAGES),
    Misconception("a note for each block", _a_note_for_each_block, "when the notes grow by every block that comes",
                  "Must you remember each block by itself, or is what they come to together enough?"),
    Misconception("written into the notes", _in_place, "when new notes are written over those that were given",
                  "The caller may go back to the old notes. Where do the new ones live?"),
    Misconception("notes never read", _fresh_each_time, "when each block is read as if it were the first", _ALL),
)  # fmt: skip


def _in_float32(q, k, v, start, seen, *notes):
    return read_block(*(x.astype(np.float32) for x in (q, k, v)), start, seen, *(x.astype(np.float32) for x in notes))


def _key_by_key(q, k, v, start, seen, top, total, summed):
    top, total, summed = top.copy(), total.copy(), summed.copy()
    for j in range(len(k)):
        for i in range(len(q)):
            if start + j >= seen[i]:
                continue
            score = q[i] @ k[j] / np.sqrt(q.shape[1])
            new = max(top[i], score)
            total[i] = total[i] * np.exp(top[i] - new) + np.exp(score - new)
            summed[i] = summed[i] * np.exp(top[i] - new) + np.exp(score - new) * v[j]
            top[i] = new
    return average(summed, total), top, total, summed


def _averages_in_the_notes(q, k, v, start, seen, top, total, summed):
    """Keep the logarithm of the total and the average: top = log, total = 1, summed = average."""
    with np.errstate(all="ignore"):
        out, *notes = read_block(q, k, v, start, seen, top, total, summed)
        return out, notes[0] + np.log(notes[1]), (notes[1] > 0).astype(float), out


def _deletes_what_is_hidden(q, k, v, start, seen, top, total, summed):
    rows = []
    for i in range(len(q)):
        n = int(np.clip(seen[i] - start, 0, len(k)))
        at = slice(i, i + 1)
        far = np.array([start + n])
        rows.append(read_block(q[at], k[:n], v[:n], start, far, top[at], total[at], summed[at]))
    return tuple(np.concatenate(parts) for parts in zip(*rows, strict=True))


ALTERNATIVES = (_in_float32, _key_by_key, _averages_in_the_notes, _deletes_what_is_hidden)


def share(scores, log_total):
    """exp(score - log_total), and 0 for a query that sees nothing."""
    return np.where(scores == -np.inf, 0, np.exp(scores - np.where(log_total == -np.inf, 0, log_total)[:, None]))


def by_the_answer(weights, grad_weights, out, grad_out):
    return (out * grad_out).sum(axis=-1, keepdims=True)


def through(weights, grad_weights, inner):
    return weights * (grad_weights - inner)


@quiet
def backward(
    grad_out, q, k, v, start, seen, out, log_total, *,
    allow=visible, mask=hide, weigh=share, inner=by_the_answer, back=through, root_q=np.sqrt, root_k=np.sqrt,
    turn=np.transpose,
):  # fmt: skip
    """What a block sends back, with any stage replaced; as it stands, the right one."""
    weights = weigh(mask(dot(q, k), allow(len(k), start, seen)), log_total)
    grad_weights = grad_out @ turn(v)
    grad_scores = back(weights, grad_weights, inner(weights, grad_weights, out, grad_out))
    width = np.asarray(q.shape[-1], q.dtype)
    return grad_scores @ k / root_q(width), turn(grad_scores) @ q / root_k(width), turn(weights) @ grad_out


def _of_this_block(scores, _):
    weights = shrink(scores, scores.max(axis=-1, initial=-np.inf)[:, None])
    total = weights.sum(axis=-1, keepdims=True)
    return weights / np.where(total == 0, 1, total)


_INNER = "A score's gradient is measured against the weighted average of its row. Over which keys does that run?"

BACKWARD_STAGES = staged(
    backward,
    allow=(
        ("start forgotten", lambda n, start, seen: np.arange(n) < seen[:, None],
         "with the keys of each block counted from 0", _PLACE),
        ("nothing hidden", lambda n, start, seen: np.ones((len(seen), n), bool), "when every query looks at every key",
         "Where does seen enter?"),
        ("wrong causal alignment", lambda n, start, seen: start + np.arange(n) <= np.arange(len(seen))[:, None],
         "with a triangle in the top left corner, whatever seen says",
         "The last query may look at how many keys: as many as there are queries, or as seen says?"),
    ),
    weigh=(
        ("shares of this block", _of_this_block, "when the weights of each block are made to add up to one",
         "Which number stands under the fraction bar of a weight, and over which keys does it run?"),
        ("base two", lambda s, log: np.where(s == -np.inf, 0, np.exp2(s - np.where(log == -np.inf, 0, log)[:, None])),
         "with powers of two for powers of e: log2(e) is missing",
         "A power of two is not a power of e. Which factor in the exponent makes one of the other?"),
        ("log forgotten", lambda s, log: np.exp(s) / np.where(log == -np.inf, 1, log)[:, None],
         "when the logarithm of the total is taken for the total", "What is exp of a logarithm?"),
        ("NaN from empty blocks", lambda s, log: np.exp(s - log[:, None]),
         "with -inf taken off -inf for a query that sees nothing", "What is -inf minus -inf?"),
    ),
    inner=(
        ("average of this block", lambda w, g, out, go: (w * g).sum(axis=-1, keepdims=True),
         "with the average taken over the block at hand alone", _INNER),
        ("no average", lambda w, g, out, go: 0, "without the average of the row taken off", _INNER),
        ("plain mean", lambda w, g, out, go: g.mean(axis=-1, keepdims=True) if g.size else 0,
         "with the plain mean of the block taken off", _INNER),
        ("average over queries", lambda w, g, out, go: (out * go).sum(axis=0).mean(),
         "with one average for all queries", _INNER),
    ),
    back=(
        ("weights forgotten", lambda w, g, inner: np.where(w > 0, g - inner, 0), "without the weight as a factor",
         "A key that nobody looks at: what gradient does its score get?"),
        ("sign", lambda w, g, inner: w * (inner - g), "with grad_q and grad_k of the wrong sign",
         "Take a small step against the gradient: does the loss fall?"),
    ),
    root_q=(("no scale in grad_q", lambda width: 1, "without the root of Dk in grad_q",
             "The score is q·k over the root. Its derivative with respect to q is what?"),),
    root_k=(("no scale in grad_k", lambda width: 1, "without the root of Dk in grad_k",
             "The score is q·k over the root. Its derivative with respect to k is what?"),),
)  # fmt: skip

BACKWARD = flat(BACKWARD_STAGES)


def _query_by_query(grad_out, q, k, v, start, seen, out, log_total):
    grads = np.zeros_like(q), np.zeros_like(k), np.zeros_like(v)
    for i in range(len(q)):
        for j in range(min(len(k), max(0, seen[i] - start))):
            weight = np.exp(q[i] @ k[j] / np.sqrt(q.shape[1]) - log_total[i])
            score = weight * (grad_out[i] @ (v[j] - out[i])) / np.sqrt(q.shape[1])
            grads[0][i] += score * k[j]
            grads[1][j] += score * q[i]
            grads[2][j] += weight * grad_out[i]
    return grads


def _backward_in_float32(*args):
    return backward(*(x.astype(np.float32) if getattr(x, "dtype", None) == np.float64 else x for x in args))


BACKWARD_ALTERNATIVES = (_query_by_query, _backward_in_float32)
