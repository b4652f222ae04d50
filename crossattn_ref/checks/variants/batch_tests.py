"""Tests of whether a translation depends on its batch, as learners write them.

A test takes a translator, as in variants.translators, and an rng, and returns True where every sentence gets the
same logits whatever stands beside it and whatever stands in its padding.
"""

from functools import partial

import numpy as np

from crossattn_ref.checks.report import Misconception
from crossattn_ref.checks.variants.translators import WORDS

SHAPES = ((3, 7, 4), (4, 5, 6), (3, 4, 4))  # B, Nk, Nq


def _case(rng, B, Nk, Nq, *, lengths=None):
    """Draw a batch of sentences of which none is as long as another, the first neither the shortest nor the longest."""
    if lengths is None:
        lengths = np.array([Nk - 1, 1, Nk, Nk - 2])[:B]
    src = rng.integers(4, WORDS, (B, Nk))
    return src, lengths, rng.integers(4, WORDS, (B, Nq))


def _close(a, b, tolerance=1e-4):
    return a.shape == b.shape and bool(np.abs(a - b).max() <= tolerance)


def alone(translate, rng, shape, *, close=_close, case=_case):
    """Cut each sentence to its length and translate it by itself."""
    src, lengths, tgt = case(rng, *shape)
    out = translate(src, lengths, tgt)
    each = [translate(src[b : b + 1, :n], lengths[b : b + 1], tgt[b : b + 1]) for b, n in enumerate(lengths)]
    return close(out, np.concatenate(each))


def padding(translate, rng, shape, *, close=_close):
    """Put other tokens into the padding."""
    src, lengths, tgt = _case(rng, *shape)
    out = translate(src, lengths, tgt)
    hidden = np.arange(src.shape[1]) >= lengths[:, None]
    return all(
        close(translate(np.where(hidden, other, src), lengths, tgt), out)
        for other in (0, rng.integers(4, WORDS, src.shape))
    )


def wider(translate, rng, shape, *, close=_close):
    """Add columns of padding."""
    src, lengths, tgt = _case(rng, *shape)
    return close(translate(np.pad(src, ((0, 0), (0, 3))), lengths, tgt), translate(src, lengths, tgt))


def order(translate, rng, shape, *, close=_close):
    """Turn the batch round."""
    src, lengths, tgt = _case(rng, *shape)
    turned = translate(src[::-1], lengths[::-1], tgt[::-1])
    return close(turned[::-1], translate(src, lengths, tgt))


def mates(translate, rng, shape, *, close=_close):
    """Keep one sentence, and draw all others anew."""
    src, lengths, tgt = _case(rng, *shape)
    others, _, _ = _case(rng, *shape)
    others[0] = src[0]
    return close(translate(others, lengths, tgt)[0], translate(src, lengths, tgt)[0])


RULES = (alone, padding, wider, order)


def keeps(translate, rng, rules=RULES, shapes=SHAPES):
    return all(rule(translate, rng, shape) for shape in shapes for rule in rules)


def _equal_lengths(rng, B, Nk, Nq):
    return _case(rng, B, Nk, Nq, lengths=np.full(B, Nk))


def _full_first(rng, B, Nk, Nq):
    return _case(rng, B, Nk, Nq, lengths=np.array([Nk, *[Nk - 2] * (B - 1)]))


def _same_padding(rng, B, Nk, Nq):
    src, lengths, tgt = _case(rng, B, Nk, Nq)
    return np.where(np.arange(Nk) < lengths[:, None], src, 0), lengths, tgt


def _first_only(translate, rng, shape):
    src, lengths, tgt = _full_first(rng, *shape)
    return _close(translate(src, lengths, tgt)[:1], translate(src[:1], lengths[:1], tgt[:1]))


def _not_cut(translate, rng, shape):
    src, lengths, tgt = _case(rng, *shape)
    each = [translate(src[b : b + 1], lengths[b : b + 1], tgt[b : b + 1]) for b in range(len(src))]
    return _close(translate(src, lengths, tgt), np.concatenate(each))


def _same_words(translate, rng, shape):
    src, lengths, tgt = _case(rng, *shape)
    each = [translate(src[b : b + 1, :n], lengths[b : b + 1], tgt[b : b + 1]) for b, n in enumerate(lengths)]
    return bool((translate(src, lengths, tgt).argmax(-1) == np.concatenate(each).argmax(-1)).all())


def _twice(translate, rng, shape):
    src, lengths, tgt = _case(rng, *shape)
    return _close(translate(src, lengths, tgt), translate(src, lengths, tgt))


def _source_matters(translate, rng, shape):
    src, lengths, tgt = _case(rng, *shape)
    return not _close(translate(rng.integers(4, WORDS, src.shape), lengths, tgt), translate(src, lengths, tgt))


def _lengths_left_whole(translate, rng, shape):
    """Translate a sentence by itself, without its padding, but say that it is as long as the batch."""
    src, lengths, tgt = _case(rng, *shape)
    full = np.full_like(lengths, src.shape[1])
    each = [translate(src[b : b + 1], full[b : b + 1], tgt[b : b + 1]) for b in range(len(src))]
    return _close(translate(src, lengths, tgt), np.concatenate(each))


def _real_words_changed(translate, rng, shape):
    src, lengths, tgt = _case(rng, *shape)
    real = np.arange(src.shape[1]) < lengths[:, None]
    other = np.where(real, rng.integers(4, WORDS, src.shape), src)
    return _close(translate(other, lengths, tgt), translate(src, lengths, tgt))


def _one(rule, **changes):
    return partial(keeps, rules=[partial(rule, **changes) if changes else rule])


MISTAKES = (
    Misconception("always yes", lambda translate, rng: True, "when a test says yes to everything",
                  "What could a translator do that would make your test say no?"),
    Misconception("always no", lambda translate, rng: False, "when a test says no to everything",
                  "A translator with right masks minds its own business. What does your test say of it?"),
    Misconception("equal lengths", _one(alone, case=_equal_lengths), "when all sentences are equally long",
                  "Which mistake could hide where there is no padding?"),
    Misconception("first sentence only", _one(_first_only), "when the longest sentence alone is compared",
                  "Which mistake could hide where the sentence that you look at has no padding?"),
    Misconception("padding kept", _one(_not_cut), "when a sentence keeps its padding while it is alone",
                  "Alone and in company, the same padding is read. How would the sentence look with none?"),
    Misconception("zeros for padding", _one(alone, case=_same_padding), "when padding is always 0",
                  "What may stand in the padding, and who says that it is 0?"),
    Misconception("padding only", _one(padding), "when nothing but the padding's tokens is changed",
                  "A sentence that looks at its neighbour: does your test tell?"),
    Misconception("order only", _one(order), "when the batch is turned round, and that is all",
                  "Turned round, everybody still has the same neighbours and the same padding. What stays hidden?"),
    Misconception("wider only", _one(wider), "when columns are added, and that is all",
                  "A sentence that looks at its neighbour: does your test tell?"),
    Misconception("mates only", _one(mates), "when one sentence is kept and the others are drawn anew",
                  "Its padding stays as it was. Who reads it?"),
    Misconception("padding and mates", partial(keeps, rules=(padding, mates)),
                  "when padding and neighbours are changed, and the batch keeps its shape",
                  "A mistake may depend on how wide the batch is, or on who stands where. Does yours ever change?"),
    Misconception("one batch of two", partial(keeps, rules=[wider, order], shapes=((1, 7, 4),)),
                  "when a batch of one is the only case", "Which mistakes need a neighbour to show?"),
    Misconception("exact equality", _one(alone, close=np.array_equal), "when results must agree to the last bit",
                  "Adding the same numbers in another order: do the last digits agree?"),
    Misconception("too tolerant", _one(alone, close=partial(_close, tolerance=4.0)),
                  "when differences as large as the logits pass", "How large is rounding, and how large is a leak?"),
    Misconception("words only", _one(_same_words), "when only the most probable words are compared",
                  "Half of a mistake may not be enough to change a word. What changes first?"),
    Misconception("run twice", _one(_twice), "when the same batch is run twice",
                  "What changed between the two calls?", "always yes"),
    Misconception("source matters", _one(_source_matters), "when the source need only make a difference",
                  "A translator that reads its source and its neighbour's: does your test tell?"),
    Misconception("lengths forgotten", _one(_lengths_left_whole), "when the lengths stay those of the whole batch",
                  "How long is the sentence that you hand over by itself?"),
    Misconception("real words changed", _one(_real_words_changed), "when real words are changed, and not the padding",
                  "Should a translation stay the same when its source changes?"),
    Misconception("shapes only", _one(alone, close=lambda a, b: a.shape == b.shape), "when only shapes are compared",
                  "Two arrays of the same shape: what else must agree?", "always yes"),
)  # fmt: skip


def _one_against_many(translate, rng):
    """Each sentence alone, against three batches that it could stand in."""
    for _ in range(3):
        B, Nk, Nq = 4, int(rng.integers(5, 8)), int(rng.integers(3, 8))
        lengths = 1 + rng.permutation(Nk - 1)[:B]
        src, tgt = rng.integers(0, WORDS, (B, Nk)), rng.integers(0, WORDS, (B, Nq))
        own = [translate(src[[b], : lengths[b]], lengths[[b]], tgt[[b]])[0] for b in range(B)]
        for _ in range(3):
            places = rng.permutation(B)
            batch = np.where(np.arange(Nk + 2) < lengths[:, None], np.pad(src, ((0, 0), (0, 2))),
                             rng.integers(0, WORDS, (B, Nk + 2)))  # fmt: skip
            out = translate(batch[places], lengths[places], tgt[places])
            if not all(np.allclose(out[i], own[b], rtol=1e-5, atol=1e-4) for i, b in enumerate(places)):
                return False
    return True


def _pairwise(translate, rng):
    """A short and a long sentence, in both orders, the padding filled with any token."""
    for short, long in ((2, 6), (3, 4), (1, 5)):
        tgt = rng.integers(4, WORDS, (2, long))
        a, b = rng.integers(4, WORDS, short), rng.integers(4, WORDS, long)
        apart = [translate(a[None], np.array([short]), tgt[:1]), translate(b[None], np.array([long]), tgt[1:])]
        for fill in range(0, WORDS, 3):
            batch = np.full((2, long + 1), fill)
            batch[0, :short], batch[1, :long] = a, b
            for turn in (1, -1):
                out = translate(batch[::turn], np.array([short, long])[::turn], tgt[::turn])[::turn]
                if np.abs(out - np.concatenate(apart)).max() > 1e-4:
                    return np.False_
    return np.True_


ALTERNATIVES = (_one_against_many, _pairwise, partial(keeps, shapes=((4, 6, 3), (4, 8, 5))))
