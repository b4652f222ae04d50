"""Mistakes in scaling scores, in hiding keys and in sharing out the weights, in torch: stages of modules with heads.

Letters: B sentences, H heads, Nq queries, Nk keys, Dk width of one head. A mask is boolean, True = may look.
"""

import math

import torch
from torch.nn import functional


def by_root_width(scores, q, k, layer):
    return scores / math.sqrt(q.shape[-1])


def over_keys(scores):
    return scores.softmax(-1)


def where_seen(scores, mask, share):
    """Share out among the keys that a query may see; one that may see nothing gives no weight, and no NaN arises."""
    if mask is None:
        return share(scores)
    blind = ~mask.any(-1, keepdim=True)
    return share(scores.masked_fill(~(mask | blind), -math.inf)).masked_fill(blind, 0)


def _divided(size):
    return lambda scores, q, k, layer: scores / size(q, k, layer)


def _under(change):
    """Weigh under a mask that was changed, and where there is none, rightly."""
    return lambda scores, mask, share: where_seen(scores, mask if mask is None else change(mask), share)


def _masked(weigh):
    """Weigh wrongly where there is a mask, and rightly where there is none."""
    return lambda scores, mask, share: share(scores) if mask is None else weigh(scores, mask, share)


def _filled(number):
    return _masked(lambda scores, mask, share: share(scores.masked_fill(~mask, number)))


def _causal(from_the_end):
    def weigh(scores, mask, share):
        nq, nk = scores.shape[-2:]
        past = torch.ones(nq, nk, dtype=torch.bool).tril(nk - nq if from_the_end else 0)
        return where_seen(scores, past if mask is None else mask & past, share)

    return weigh


def _minus_inf(mask, scores):
    return torch.zeros_like(mask, dtype=scores.dtype).masked_fill(~mask, -math.inf)


def _naive(scores):
    exp = scores.exp()
    return exp / exp.sum(-1, keepdim=True)


SCALE = (
    ("no scale", _divided(lambda q, k, layer: 1), "without dividing the scores by the square root of Dk",
     "q·k adds up Dk products. What is its variance when each has variance 1?"),
    ("root of the model width", _divided(lambda q, k, layer: math.sqrt(layer.q_proj.in_features)),
     "with the root of the model width, where each head is narrower",
     "Over which width did the product q·k of one head run?"),
    ("root of the memory width", _divided(lambda q, k, layer: math.sqrt(layer.k_proj.in_features)),
     "with the root of the memory width", "Over which width did the product q·k of one head run?"),
    ("root of the number of heads", _divided(lambda q, k, layer: math.sqrt(layer.n_heads)),
     "with the root of the number of heads", "Over which width did the product q·k of one head run?"),
    ("root of Nk", _divided(lambda q, k, layer: math.sqrt(k.shape[-2])), "with the root of the number of keys",
     "Over which axis did the product q·k add up?"),
    ("divided by Dk", _divided(lambda q, k, layer: q.shape[-1]),
     "with the scores divided by Dk, not by its square root (or by the root twice)",
     "q·k has variance Dk. What is its standard deviation?"),
    ("multiplied by root Dk", _divided(lambda q, k, layer: q.shape[-1] ** -0.5),
     "with the scores multiplied by the square root of Dk", "Should wide heads make the weights sharper?"),
)  # fmt: skip

WEIGH = (
    ("mask ignored", lambda scores, mask, share: share(scores), "without the mask",
     "Translate a sentence alone and in a batch: is it the same?"),
    ("polarity", _under(lambda mask: ~mask),
     "with the mask turned round: what may be seen is hidden, what may not is read",
     "In this course, does True mean look or do not look?"),
    ("mask transposed", _under(lambda mask: mask.mT),
     "with the mask laid over the queries where it speaks of the keys",
     "Columns are keys. Which axis of the mask is as long as the memory?"),
    ("mask without its axis for heads", _under(lambda mask: mask[:, 0]),
     "with the mask of sentence h laid over head h",
     "The scores have four axes. Which axis of the mask meets the heads?"),
    ("first sentence's mask", _under(lambda mask: mask[:1]),
     "with the mask of the first sentence laid over all of them", "Are all sentences of a batch equally long?"),
    ("query rows masked", _under(lambda mask: mask & mask.mT), "with the mask applied to the queries too",
     "The mask says which keys may be seen. Does it say anything about x?"),
    ("causal", _causal(from_the_end=False), "with later keys hidden from earlier queries",
     "The whole source is known before the first word is written. May query 0 see its last word?"),
    ("causal from the end", _causal(from_the_end=True), "with a causal mask, aligned with the last key",
     "The whole source is known before the first word is written. May query 0 see its last word?"),
    ("causal in place of the mask", lambda scores, mask, share: _causal(from_the_end=False)(scores, None, share),
     "with a causal mask in the place of the mask",
     "The mask says what may be seen. Is the future among what it hides?"),
    ("filled with zero", _filled(0.0), "with the scores of hidden keys set to 0",
     "What does softmax make of a score of 0?"),
    ("multiplied by the mask", _masked(lambda scores, mask, share: share(scores * mask)),
     "with the scores multiplied by the mask", "What does softmax make of a score of 0?", "filled with zero"),
    ("filled with -1e-9", _filled(-1e-9),
     "with the scores of hidden keys set to -0.000000001, which is as good as 0",
     "Print exp of the number that you fill in.", "filled with zero"),
    ("filled with -10", _filled(-10.0), "with the scores of hidden keys set to -10", "exp(-10) is small. Is it 0?"),
    ("mask added", _masked(lambda scores, mask, share: share(scores + mask)),
     "with the mask added to the scores as 0 and 1",
     "How much larger does a visible key's weight become when its score grows by 1?"),
    ("mask after the softmax", _masked(lambda scores, mask, share: share(scores) * mask),
     "with weights set to zero after the softmax, so that rows no longer add up to 1",
     "Let every value be 1. What should a query that sees only some keys get?"),
    ("NaN for nothing", _filled(-math.inf), "when a query that may look at nothing gets NaN",
     "0 divided by 0: what do you want attending to nothing to mean?"),
    ("NaN papered over", _masked(lambda scores, mask, share: share(scores + _minus_inf(mask, scores)).nan_to_num()),
     "when the NaN of an empty row is replaced in the weights, but still lives in the gradients",
     "A NaN times 0 is NaN. Can you keep it from arising at all?"),
    ("average for nothing", _filled(-1e9),
     "when a query that may look at nothing gets the average of all that is hidden",
     "If all scores are equally low, what does softmax do?"),
    ("everything for nothing", _masked(lambda scores, mask, share: share(scores + -1e9 * ~mask)),
     "when a query that may look at nothing reads all that is hidden",
     "If all scores are lowered by the same number, what does softmax do?"),
)  # fmt: skip

SHARE = (
    ("softmax over queries", lambda s: s.softmax(-2),
     "with the softmax over the queries: columns add up to one, rows do not",
     "Each query must share out 100 % among the keys: which axis is that?"),
    ("softmax over heads", lambda s: s.softmax(1), "with the softmax over the heads",
     "Do heads compete with each other?"),
    ("softmax over the batch", lambda s: s.softmax(0), "with the softmax over the batch",
     "Run one sentence alone: do its weights stay the same?"),
    ("log softmax", lambda s: s.log_softmax(-1).nan_to_num(neginf=0.0), "with the logarithm of the weights",
     "Can a share of 100 % be negative?"),
    ("softmax twice", lambda s: s.softmax(-1).softmax(-1), "with the softmax taken of the softmax",
     "How sharp can weights get when what goes into exp lies between 0 and 1?"),
    ("sigmoid", torch.sigmoid, "with a sigmoid for each score: the keys do not compete",
     "Let every value be 1. What should come out?"),
    ("argmax", lambda s: functional.one_hot(s.argmax(-1), s.shape[-1]).to(s.dtype),
     "with all the weight on the best key", "Nudge a query: does your result move with it?"),
    ("no max subtraction", _naive, "without taking each row's largest score off before exp",
     "exp(800) does not fit into a float. You have written a softmax that can do this."),
)  # fmt: skip
