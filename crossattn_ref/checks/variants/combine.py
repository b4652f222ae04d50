"""Mistakes in joining masks and in turning one over for torch, and right answers computed another way.

Letters: B samples in a batch, H heads, Nq queries, Nk keys. True = may look.
"""

import functools

import numpy as np

from crossattn_ref.checks.report import Misconception
from crossattn_ref.checks.variants.masks import NUMBER, kept
from crossattn_ref.checks.variants.stages import flat, staged


def all_allow(masks):
    return functools.reduce(np.logical_and, masks)


def combine(*masks, pick=kept, rule=all_allow, number=kept, shape=kept):
    """All masks in one, with any stage replaced; as it stands, the right one."""
    return shape(number(rule(pick(masks))))


def _votes(masks):
    return sum(np.asarray(mask, int) for mask in masks)


def _heads_dropped(mask):
    return mask[:, 0] if mask.ndim == 4 else mask


def _into_the_first(masks):
    out = masks[0]
    for mask in masks[1:]:
        out &= mask
    return out


COMBINE_STAGES = staged(
    combine,
    pick=(
        ("first two only", lambda masks: masks[:2], "with every mask after the second left out",
         "How many masks may be given?"),
        ("exactly two", lambda masks: (masks[0], masks[1]),
         "when exactly two masks are read: one alone fails, and a third is left out",
         "How many masks may be given: one, two, five?"),
        ("last forgotten", lambda masks: masks[:-1] or masks, "with the last mask left out",
         "How many masks may be given, and which of them did you read?"),
        ("first forgotten", lambda masks: masks[1:] or masks, "with the first mask left out",
         "How many masks may be given, and which of them did you read?"),
        ("first only", lambda masks: masks[:1], "with every mask but the first left out",
         "How many masks may be given, and which of them did you read?"),
    ),
    rule=(
        ("any allows", lambda masks: functools.reduce(np.logical_or, masks),
         "when one mask that allows a place is enough", "The padding mask forbids a key. May the causal one allow it?"),
        ("exclusive or", lambda masks: functools.reduce(np.logical_xor, masks),
         "with the exclusive or, which turns two yeses into a no", "All masks allow a place. May it be looked at?"),
        ("two allow", lambda masks: _votes(masks) >= 2, "when two masks that allow a place are enough",
         "One mask alone, or one no among three: what should come out?"),
        ("most allow", lambda masks: 2 * _votes(masks) > len(masks), "when most masks decide",
         "Is hiding a vote, or a veto?"),
        ("result inverted", lambda masks: ~all_allow(masks), "with True where no one may look",
         "True = may look. What may be looked at where all masks are True?"),
        ("none allows", lambda masks: ~functools.reduce(np.logical_or, masks), "with True where every mask forbids",
         "True = may look. What may be looked at where all masks are True?"),
        ("one answer", lambda masks: np.all([mask.all() for mask in masks]),
         "with a single True or False for all places",
         "Each place has its own answer: what shape must the result have?"),
        ("written into the first", _into_the_first, "when the result is written into the first mask",
         "The first mask may be the smaller one, and the caller still needs it. Where does the result live?"),
        ("stacked", lambda masks: np.stack(masks).all(axis=0), "when all masks must have one shape",
         "A mask of shape (B, 1, 1, Nk) and one of (n, n): what does NumPy's broadcasting make of them?"),
    ),
    number=NUMBER,
    shape=(
        ("heads axis dropped", _heads_dropped, "without the axis of the heads",
         "The scores have four axes. Where would (B, Nq, Nk) line up with them?"),
        ("heads axis repeated", lambda mask: np.repeat(mask, 2, axis=1) if mask.ndim == 4 else mask,
         "with the mask repeated along the axis of the heads", "Do the masks say anything about heads?"),
        ("axis in front", lambda mask: mask[None], "with an axis more than the masks have",
         "What shape do the masks have together, and what shape has your result?"),
    ),
)  # fmt: skip

COMBINE = (
    *flat(COMBINE_STAGES),
    Misconception("third mask as output", np.logical_and,
                  "when a third mask is taken for the place where the result is to be written",
                  "How many arrays does NumPy's logical_and join, and what does it do with a third one?"),
)  # fmt: skip


def _by_product(*masks):
    out = masks[0]
    for mask in masks[1:]:
        out = out * mask
    return out


def _by_broadcasting_first(*masks):
    return np.stack(np.broadcast_arrays(*masks)).all(axis=0)


def _by_de_morgan(*masks):
    hidden = ~masks[0]
    for mask in masks[1:]:
        hidden = hidden | ~mask
    return ~hidden


def _by_minimum(*masks):
    return functools.reduce(np.minimum, masks)


def _by_counting(*masks):
    return _votes(masks) == len(masks)


def _place_by_place(*masks):
    spread = np.broadcast_arrays(*masks)
    out = np.empty(spread[0].shape, dtype=bool)
    for index in np.ndindex(out.shape):
        out[index] = all(mask[index] for mask in spread)
    return out


COMBINE_ALTERNATIVES = (
    _by_product, _by_broadcasting_first, _by_de_morgan, _by_minimum, _by_counting, _place_by_place,
)  # fmt: skip


def keys_only(mask):
    return mask[:, 0, 0, :]


def key_padding(mask, *, shape=keys_only, polarity=np.logical_not, number=kept):
    """Our mask as torch's key_padding_mask (B, Nk), with any stage replaced; as it stands, the right one."""
    return number(polarity(shape(mask)))


def _from_lengths(mask):
    lengths = mask.sum(axis=-1)[:, 0]
    return np.arange(mask.shape[-1]) < lengths


KEY_PADDING_STAGES = staged(
    key_padding,
    shape=(
        ("four axes", kept, "with the axes for heads and queries still in place",
         "torch wants one row for each sentence. Which axes have nothing to say?"),
        ("three axes", lambda mask: mask[:, 0], "with one axis of size 1 left",
         "torch wants one row for each sentence. Which axes have nothing to say?"),
        ("squeezed", np.squeeze, "when every axis of size 1 is dropped, the batch's too",
         "A batch of one sentence: how many axes are left?"),
        ("first sentence only", lambda mask: mask[0, 0], "with the axes of sentence and head taken away",
         "Index 0 of the first axis: whose padding is that?"),
        ("first sentence for all", lambda mask: np.repeat(mask[:1, 0, 0], len(mask), axis=0),
         "with the first sentence's padding for every sentence", "Whose padding stands in the second row?"),
        ("sentences last", lambda mask: keys_only(mask).T, "with sentences and keys in each other's places",
         "One row for each sentence: which axis comes first?"),
        ("flattened", lambda mask: keys_only(mask).ravel(), "with all sentences in one long row",
         "One row for each sentence: how many axes is that?"),
        ("rebuilt from the lengths", _from_lengths, "when the padding is taken to stand at the end",
         "What if somebody pads in front, or hides a token in the middle?"),
        ("keys reversed", lambda mask: keys_only(mask)[:, ::-1], "with the keys in reverse order",
         "Turning the meaning over is not turning the order round. What became of place 0?"),
    ),
    polarity=(
        ("polarity kept", kept, "with True where one may look, as it came in",
         "In torch's key_padding_mask, does True mean look or do not look?"),
    ),
    number=(
        *NUMBER[:2],
        ("additive", lambda ignored: np.where(ignored, -np.inf, 0.0), "with 0 and -inf, to be added to the scores",
         "torch takes such a mask too, but True and False were asked for. Which dtype is that?"),
    ),
)  # fmt: skip

KEY_PADDING = (
    *flat(KEY_PADDING_STAGES),
    Misconception("nothing ignored", lambda mask: np.zeros((len(mask), mask.shape[-1]), dtype=bool),
                  "when nothing is ignored", "Does your result depend on the mask?"),
)  # fmt: skip


def _reshaped(mask):
    return ~mask.reshape(len(mask), mask.shape[-1])


def _squeezed_by_name(mask):
    return np.logical_not(np.squeeze(mask, axis=(1, 2)))


def _compared(mask):
    return mask[:, 0, 0] == False  # noqa: E712 as a learner writes it


def _one_by_one(mask):
    out = np.empty((mask.shape[0], mask.shape[3]), dtype=bool)
    for b in range(mask.shape[0]):
        for j in range(mask.shape[3]):
            out[b, j] = not mask[b, 0, 0, j]
    return out


def _taken_from_one(mask):
    return (1 - mask.astype(int)).any(axis=(1, 2))


KEY_PADDING_ALTERNATIVES = (_reshaped, _squeezed_by_name, _compared, _one_by_one, _taken_from_one)
