"""Translators whose sentences mind their own business, and translators whose don't: what a learner's test is tried on.

A translator takes src (B, Nk) and lengths (B,), integers, and tgt (B, Nq), and returns logits (B, Nq, WORDS).
Of src, what stands at lengths[b] and behind it is padding, and may be anything.
"""

from functools import partial

import numpy as np

from crossattn_ref.attention import reference

WORDS, WIDTH, HEADS = 12, 8, 2

_drawn = np.random.default_rng(12)
SOURCE, TARGET = 1.5 * _drawn.standard_normal((2, WORDS, WIDTH))
PLACES = 0.5 * _drawn.standard_normal((40, WIDTH))
QUERY, KEY, VALUE, CROSS_QUERY, CROSS_KEY, CROSS_VALUE = _drawn.standard_normal((6, WIDTH, WIDTH)) / np.sqrt(WIDTH)
OUT = _drawn.standard_normal((WIDTH, WORDS)) / np.sqrt(WIDTH)


def seen(lengths, n):
    """Say which places are real: (B, 1, 1, n)."""
    return (np.arange(n) < np.asarray(lengths)[:, None])[:, None, None, :]


def _heads(x):
    return x.reshape(*x.shape[:2], HEADS, -1).swapaxes(1, 2)


def _read(x, memory, matrices, mask):
    q, k, v = (_heads(rows @ matrix) for rows, matrix in zip((x, memory, memory), matrices, strict=True))
    return reference.attention(q, k, v, mask).swapaxes(1, 2).reshape(x.shape)


def _by_place(x):
    return x + PLACES[: x.shape[1]]


def translate(src, lengths, tgt, *, encoder_mask=seen, cross_mask=seen, enter=_by_place, memory=lambda m, lengths: m,
              dtype=np.float64):  # fmt: skip
    """One layer of an encoder, one of a decoder, with any part replaced; as it stands, tight."""
    src, lengths, tgt = np.asarray(src), np.asarray(lengths), np.asarray(tgt)
    x = enter(SOURCE[src]).astype(dtype)
    x = x + _read(x, x, (QUERY, KEY, VALUE), encoder_mask(lengths, src.shape[1]))
    x = memory(x, lengths)
    y = _by_place(TARGET[tgt]).astype(dtype)
    y = y + _read(y, y, (KEY, QUERY, VALUE), reference.causal_mask(tgt.shape[1]))
    y = y + _read(y, x, (CROSS_QUERY, CROSS_KEY, CROSS_VALUE), cross_mask(lengths, src.shape[1]))
    return (y @ OUT).astype(dtype)


def _alone(src, lengths, tgt):
    """Translate sentence by sentence, without padding."""
    return np.concatenate([
        translate(src[b : b + 1, :n], [n], tgt[b : b + 1]) for b, n in enumerate(np.asarray(lengths).tolist())
    ])  # fmt: skip


def _bag_of_words(src, lengths, tgt):
    """A mean of the real words, and the word before: no attention at all."""
    real = seen(lengths, src.shape[1])[:, 0, 0, :, None]
    mean = (SOURCE[src] * real).sum(axis=1) / np.maximum(real.sum(axis=1), 1)
    return (mean[:, None] + TARGET[tgt]) @ OUT


def _ignores_its_source(src, lengths, tgt):
    return translate(np.zeros_like(src), np.minimum(lengths, 1), tgt)


# None of these lets one sentence look at another, or at padding; one is a poor translator all the same.
RIGHT = {
    "an encoder and a decoder": translate,
    "the same in float32": partial(translate, dtype=np.float32),
    "the same, sentence by sentence": _alone,
    "a bag of words": _bag_of_words,
    "one that never reads its source": _ignores_its_source,
    "one whose memory has no places": partial(translate, enter=lambda x: x),
}


def _all(lengths, n):
    return np.ones((len(lengths), 1, 1, n), bool)


def _by_token(src, lengths, tgt):
    """Take 0 for padding, and nothing else."""

    def zero(_, n):
        return (src != 0)[:, None, None, :]

    return translate(src, lengths, tgt, encoder_mask=zero, cross_mask=zero)


def _by_target(src, lengths, tgt):
    """Hide as many source places as the target is long."""

    def wrong(_, n):
        return seen(np.full(len(src), min(tgt.shape[1], n)), n)

    return translate(src, lengths, tgt, cross_mask=wrong)


def _first_for_all(lengths, n):
    return seen(np.full(len(lengths), lengths[0]), n)


def _longest_for_all(lengths, n):
    return seen(np.full(len(lengths), max(lengths)), n)


def _one_too_many(lengths, n):
    return seen(np.asarray(lengths) + 1, n)


def _mean_of_the_batch(memory, lengths):
    return memory - 0.3 * memory.mean(axis=0, keepdims=True)


def _mean_with_padding(memory, lengths):
    return memory + 0.3 * memory.mean(axis=1, keepdims=True)


def _neighbour(memory, lengths):
    return memory + 0.002 * np.roll(memory, 1, axis=0)


def _shares_of_the_width(memory, lengths):
    return memory * (np.asarray(lengths) / memory.shape[1])[:, None, None]


def _places_in_the_batch(x):
    return x + PLACES[: len(x), None]


def _places_from_the_end(x):
    return x + PLACES[x.shape[1] - 1 :: -1]


def _largest_of_the_batch(src, lengths, tgt):
    """Divide all logits by the largest there is: another number in other company, and the same words all the same."""
    logits = translate(src, lengths, tgt)
    return logits / np.abs(logits).max()


def _sorted_by_length(src, lengths, tgt):
    """Sort the sentences by length, as packed sequences need it, and forget to sort them back."""
    order = np.argsort(-np.asarray(lengths), kind="stable")
    return translate(src[order], np.asarray(lengths)[order], tgt)


WRONG = {
    "no mask at all": partial(translate, encoder_mask=_all, cross_mask=_all),
    "no mask in the cross-attention": partial(translate, cross_mask=_all),
    "no mask in the encoder": partial(translate, encoder_mask=_all),
    "the first sentence's length for all": partial(translate, encoder_mask=_first_for_all, cross_mask=_first_for_all),
    "the longest sentence's length for all": partial(translate, encoder_mask=_longest_for_all,
                                                     cross_mask=_longest_for_all),
    "one place of the padding seen": partial(translate, cross_mask=_one_too_many),
    "padding known by the number 0": _by_token,
    "the target's length for the source": _by_target,
    "the mean of the batch taken off": partial(translate, memory=_mean_of_the_batch),
    "a mean over the padding, too": partial(translate, memory=_mean_with_padding),
    "a trace of the neighbour's memory": partial(translate, memory=_neighbour),
    "a share of the batch's width": partial(translate, memory=_shares_of_the_width),
    "places that number the sentences": partial(translate, enter=_places_in_the_batch),
    "places counted from the end of the padding": partial(translate, enter=_places_from_the_end),
    "sentences sorted by length, and never back": _sorted_by_length,
    "logits divided by the largest of the batch": _largest_of_the_batch,
}  # fmt: skip
