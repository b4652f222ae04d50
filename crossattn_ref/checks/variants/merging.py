"""Mistakes in merging what is known of two blocks of keys, and right answers computed another way.

Known of a block are, for each query: top, the largest score; total, the sum of exp(score - top); summed, the sum of
exp(score - top) times value. Merging is a line of stages; a mistake replaces one of them.

Letters: Nq queries, Dv width of a value; top and total (Nq,), summed (Nq, Dv).
"""

import numpy as np

from crossattn_ref.checks.report import Misconception
from crossattn_ref.checks.variants.softmax import quiet
from crossattn_ref.checks.variants.stages import flat, staged


def higher(top, other_top):
    return np.maximum(top, other_top)


def shrink(top, highest):
    """exp(top - highest), and 0 where there is no score at all: -inf - -inf would be NaN."""
    return np.exp(np.where(top == -np.inf, -np.inf, top - np.where(highest == -np.inf, 0, highest)))


def scaled_sum(a, scale_a, b, scale_b):
    return scale_a * a + scale_b * b


def kept(top, total, summed):
    return top, total, summed


@quiet
def merge(
    top, total, summed, other_top, other_total, other_summed, *,
    pick=higher, scale=shrink, totals=scaled_sum, sums=scaled_sum, pack=kept,
):  # fmt: skip
    """What is known of both blocks, with any stage replaced; as it stands, the right one."""
    highest = pick(top, other_top)
    one, other = scale(top, highest), scale(other_top, highest)
    return pack(
        highest,
        totals(total, one, other_total, other),
        sums(summed, one[..., None], other_summed, other[..., None]),
    )


def _unguarded(top, highest):
    return np.exp(top - highest)


_RESCALE = "Both sums were made with exp(score - top), each under its own top. What turns one into the other?"
_HIGH = "The scores of one block lie a thousand above those of the other. Under which top does exp not overflow?"

STAGES = staged(
    merge,
    pick=(
        ("stale maximum", lambda a, b: a, "with the first block's largest score kept, whatever the second holds",
         _HIGH),
        ("the other's maximum", lambda a, b: b, "with the second block's largest score kept, whatever the first holds",
         _HIGH),
        ("smallest", np.minimum, "with the smaller of the two largest scores", _HIGH),
        ("one top for all queries", lambda a, b: np.full_like(a, max(a.max(), b.max())),
         "with one largest score for all queries together",
         "One query's scores lie a thousand above another's. What is left of the lower one's exponentials?"),
        ("zero", lambda a, b: np.zeros_like(a), "with nothing taken off before the exponential", _HIGH),
        ("tops added", lambda a, b: a + b, "with the two largest scores added",
         "What is the largest score of both blocks together?"),
    ),
    scale=(
        ("NaN from empty blocks", _unguarded, "with -inf taken off -inf where neither block holds a key",
         "What is -inf minus -inf, and what should a query get that has met no key yet?"),
        ("base two", lambda top, highest: np.exp2(np.where(
            top == -np.inf, -np.inf, top - np.where(highest == -np.inf, 0, highest))),
         "with powers of two for powers of e: log2(e) is missing",
         "A power of two is not a power of e. Which factor in the exponent makes one of the other?"),
        ("upside down", lambda top, highest: 1 / shrink(top, highest), "with the rescaling upside down",
         "A block whose top is overtaken: do its sums shrink or grow?"),
        ("without exp", lambda top, highest: top - highest,
         "with differences of scores where their exponentials belong",
         _RESCALE),
        ("exp of the top", lambda top, highest: np.exp(top), "with the exponential of a top, not of a difference",
         _RESCALE),
        ("nothing rescaled", lambda top, highest: np.ones_like(top), "without any rescaling", _RESCALE),
    ),
    totals=(
        ("total not rescaled", lambda a, _, b, __: a + b,
         "with the totals added as they are, and only the sums rescaled", _RESCALE),
        ("first total only", lambda a, sa, b, sb: sa * a, "without the second block's total",
         "Over how many keys does the total run afterwards?"),
        ("second total as it is", lambda a, sa, b, sb: sa * a + b, "with the first total rescaled and the second not",
         "Which of the two blocks holds the highest score? May it be either?"),
        ("totals averaged", lambda a, sa, b, sb: (sa * a + sb * b) / 2, "with the totals averaged, not added",
         "Over how many keys does the total run afterwards?"),
    ),
    sums=(
        ("missing rescale of the accumulator", lambda a, _, b, __: a + b,
         "with the weighted values added as they are, and only the totals rescaled", _RESCALE),
        ("first rescaled only", lambda a, sa, b, sb: sa * a + b, "with the first sum rescaled and the second not",
         "Which of the two blocks holds the highest score? May it be either?"),
        ("second rescaled only", lambda a, sa, b, sb: a + sb * b, "with the second sum rescaled and the first not",
         "Which of the two blocks holds the highest score? May it be either?"),
        ("second block only", lambda a, sa, b, sb: sb * b, "with the first block's values forgotten",
         "Which values has a query met afterwards?"),
        ("scales swapped", lambda a, sa, b, sb: sb * a + sa * b, "with each sum rescaled by the other's factor",
         _RESCALE),
    ),
    pack=(
        ("already divided", lambda top, total, summed: (top, total, summed / total[..., None]),
         "when the sum is divided by the total, and the total stays",
         "What will the next merge make of a sum that has been divided already?"),
        ("order of the three", lambda top, total, summed: (total, top, summed),
         "with top and total in each other's places", "In which order are the three wanted?"),
    ),
)  # fmt: skip


def _averages(top, total, summed, other_top, other_total, other_summed):
    """Average the two averages, as if both blocks weighed the same."""
    highest, both, _ = merge(top, total, summed, other_top, other_total, other_summed)
    with np.errstate(all="ignore"):
        parts = [s / np.where(t == 0, 1, t)[..., None] for s, t in ((summed, total), (other_summed, other_total))]
    return highest, both, both[..., None] * (parts[0] + parts[1]) / 2


def _in_place(top, total, summed, other_top, other_total, other_summed):
    """Write into the first block's arrays."""
    highest, both, sums = merge(top, total, summed, other_top, other_total, other_summed)
    top[...], total[...], summed[...] = highest, both, sums
    return top, total, summed


def _whole_blocks_only(top, total, summed, other_top, other_total, other_summed):
    """Look for an empty block, where one query of it may be empty."""
    if not total.any():
        return other_top, other_total, other_summed
    if not other_total.any():
        return top, total, summed
    return merge(top, total, summed, other_top, other_total, other_summed, scale=_unguarded)


MISTAKES = (
    *flat(STAGES),
    Misconception("averages averaged", _averages, "when two averages are averaged as if both weighed the same",
                  "Three marks average 4, one mark is a 1. What is the average of all four?"),
    Misconception("written into the first", _in_place, "when the result is written into what was given",
                  "The caller may need the first block once more. Where does the result live?"),
    Misconception("whole blocks only", _whole_blocks_only,
                  "when a block counts as empty only if it is so for every query",
                  "May one query have met nothing while its neighbours have?"),
)  # fmt: skip


def _by_log_total(top, total, summed, other_top, other_total, other_summed):
    """Keep the logarithm of the total in the place of the top, and the average in that of the sum."""
    with np.errstate(all="ignore"):
        logs = [t + np.log(n) for t, n in ((top, total), (other_top, other_total))]
        both = np.logaddexp(*logs)
        weights = [np.where(log == -np.inf, 0, np.exp(log - both))[..., None] for log in logs]
        parts = [s / np.where(n == 0, 1, n)[..., None] for s, n in ((summed, total), (other_summed, other_total))]
    return both, (both > -np.inf).astype(total.dtype), weights[0] * parts[0] + weights[1] * parts[1]


def _query_by_query(top, total, summed, other_top, other_total, other_summed):
    out = [np.zeros_like(x) for x in (top, total, summed)]
    for i in range(len(top)):
        parts = [(top[i], total[i], summed[i]), (other_top[i], other_total[i], other_summed[i])]
        met = [part for part in parts if part[1] > 0]
        out[0][i] = max((part[0] for part in met), default=-np.inf)
        for t, n, s in met:
            out[1][i] += np.exp(t - out[0][i]) * n
            out[2][i] += np.exp(t - out[0][i]) * s
    return tuple(out)


def _with_a_low_guard(top, total, summed, other_top, other_total, other_summed):
    highest = np.maximum(np.maximum(top, other_top), np.finfo(top.dtype).min)
    one, other = np.exp(top - highest), np.exp(other_top - highest)
    return (
        np.maximum(top, other_top),
        one * total + other * other_total,
        one[:, None] * summed + other[:, None] * other_summed,
    )


def _in_float32(*args):
    return merge(*(arg.astype(np.float32) for arg in args))


ALTERNATIVES = (_by_log_total, _query_by_query, _with_a_low_guard, _in_float32)
