"""Tests of whether a layer reads its source, as learners write them.

A test takes a layer and an rng, and returns True where every sentence of the batch reads its own source, every token
of it, both to decide where to look and to carry something away.
"""

from functools import partial

import numpy as np

from crossattn_ref.checks.report import Misconception
from crossattn_ref.checks.variants.sources import WIDTH

SHAPES = ((2, 3, 5), (3, 4, 4), (3, 5, 2))  # B, Nq, Nk
ALONE = ((1, 3, 5), (1, 4, 4), (1, 5, 2))
TOLERANCE = 1e-4  # of the size of the output


def _case(rng, B, Nq, Nk):
    """Draw one x for all sentences, and a source for each."""
    return np.repeat(rng.standard_normal((1, Nq, WIDTH)), B, axis=0), rng.standard_normal((B, Nk, WIDTH))


def _same(a, b, tolerance=TOLERANCE):
    return a.shape == b.shape and bool(np.abs(a - b).max() <= tolerance * np.abs(b).max())


def _each_row_moved(a, b):
    """Tell whether every row differs by more than rounding."""
    return a.shape == b.shape and bool((np.abs(a - b).max(-1) > 1e-5 * np.abs(b).max()).all())


def swap(layer, rng, shape, same=_same):
    """Change the order of the sources: the outputs must change places with them, and differ."""
    x, memory = _case(rng, *shape)
    out, swapped = layer(x, memory), layer(x, memory[::-1])
    return out.shape == x.shape and same(swapped, out[::-1]) and _each_row_moved(swapped[0], out[0])


def own_source(layer, rng, shape):
    """Change every source but one: the output of that one must stay."""
    x, memory = _case(rng, *shape)
    out = layer(x, memory)
    for kept in range(len(x)):
        others = rng.standard_normal(memory.shape)
        others[kept] = memory[kept]
        if not _same(layer(x, others)[kept], out[kept]):
            return False
    return True


def every_token(layer, rng, shape):
    """Change one token of the sources: every row of the output must change."""
    x, memory = _case(rng, *shape)
    out = layer(x, memory)
    for token in range(memory.shape[1]):
        changed = memory.copy()
        changed[:, token] = rng.standard_normal(WIDTH)
        if not _each_row_moved(layer(x, changed), out):
            return False
    return True


def carried(layer, rng, shape):
    """Say one word over and over: there is nothing to choose from, and another word must still give another output."""
    x, memory = _case(rng, *shape)
    same_word = np.repeat(memory[:, :1], shape[2], axis=1)
    return _each_row_moved(layer(x, np.roll(same_word, 1, axis=0)), layer(x, same_word))


def chosen(layer, rng, shape):
    """Mix two sources half and half: were weights fixed, the output would be the mean of the two outputs."""
    x, memory = _case(rng, *shape)
    other = rng.standard_normal(memory.shape)
    mean = (layer(x, memory) + layer(x, other)) / 2
    return not _same(layer(x, (memory + other) / 2), mean, 1e-5)


RULES = (swap, own_source, every_token, carried, chosen)


def keeps(layer, rng, rules=RULES, shapes=SHAPES):
    return all(rule(layer, rng, shape) for shape in shapes for rule in rules)


def _without(*left_out):
    return partial(keeps, rules=[rule for rule in RULES if rule not in left_out])


def _shuffled(layer, rng, shape):
    x, memory = _case(rng, *shape)
    return layer(x, memory), layer(x, memory[:, ::-1])


def _shuffle_must_show(layer, rng, shapes=SHAPES):
    return keeps(layer, rng, [lambda *case: not _same(*_shuffled(*case))], shapes)


def _shuffle_must_not_show(layer, rng):
    return keeps(layer, rng, rules=[lambda *case: _same(*_shuffled(*case))])


def _something_changes(layer, rng, shape):
    x, memory = _case(rng, *shape)
    return not _same(layer(x, rng.standard_normal(memory.shape)), layer(x, memory))


def _x_left_behind(layer, rng, shape):
    _, memory = _case(rng, *shape)
    x = rng.standard_normal((shape[0], shape[1], WIDTH))
    return _same(layer(x, memory[::-1]), layer(x, memory)[::-1])


def _changed_by_half(a, b):
    return bool((np.abs(a - b).max(-1) > 0.5).all())


def _loud_changes(layer, rng, shape):
    x, memory = _case(rng, *shape)
    return _changed_by_half(layer(x, rng.standard_normal(memory.shape)), layer(x, memory))


def _shapes_only(layer, rng, shape):
    x, memory = _case(rng, *shape)
    return layer(x, memory).shape == x.shape


def _exactly(layer, rng, shape):
    return swap(layer, rng, shape, same=np.array_equal)


def _loosely(layer, rng, shape):
    return swap(layer, rng, shape, same=partial(_same, tolerance=10.0))


def _one(rule):
    return partial(keeps, rules=[rule])


MISTAKES = (
    Misconception("always yes", lambda layer, rng: True, "when a test says yes to everything",
                  "What could a layer do that would make your test say no?"),
    Misconception("always no", lambda layer, rng: False, "when a test says no to everything",
                  "Cross-attention itself reads its source. What does your test say of it?"),
    Misconception("shuffle must show", _shuffle_must_show,
                  "when shuffling a source in itself is expected to change the output",
                  "Attention adds up over the keys. Does a sum care about the order of its terms?"),
    Misconception("shuffle must show, square", partial(_shuffle_must_show, shapes=SHAPES[1:2]),
                  "when shuffling a source in itself is expected to change the output, and sources are as long as x",
                  "Attention adds up over the keys. Does a sum care about the order of its terms?"),
    Misconception("shuffle must not show", _shuffle_must_not_show,
                  "when shuffling a source in itself is expected to change nothing",
                  "A layer may know the places in its source. Is it wrong if order matters to it?"),
    Misconception("something changes", _one(_something_changes), "when any change of the output is enough",
                  "A layer that reads only the last token: does its output change with the source?"),
    Misconception("swap only", _one(swap), "when swapping whole sources is the only case",
                  "Swap whole sources, and the last token is swapped along. Which part of a source was read?"),
    Misconception("own source only", _one(own_source), "when only the sources of the others are changed",
                  "A layer that reads no source at all: what does your test say of it?"),
    Misconception("every token only", _one(every_token), "when single tokens are changed in all sentences at once",
                  "A layer that reads the next sentence's source: what does your test say of it?"),
    Misconception("never whole sources and tokens", _without(swap, every_token), "when no token is changed by itself",
                  "A layer that reads only the beginning of a long source: what does your test say of it?"),
    Misconception("no single tokens", _without(every_token), "when no token is changed by itself, in a long source "
                  "and a short one", "A layer that reads only the beginning: what does your test say of it?",
                  alike="never whole sources and tokens"),
    Misconception("batch-mates forgotten", _without(swap, own_source), "when all sentences are changed alike",
                  "A layer that reads the next sentence's source: what does your test say of it?"),
    Misconception("nothing to choose from, not tried", _without(carried),
                  "when a source always moves the weights as well",
                  "The layer finds the right place and copies from x. With which source is there nothing to find?"),
    Misconception("the choice not tried", _without(chosen), "when a source is never more than something to carry away",
                  "Weights that never look at the source make an average. How does an average answer to a mixture of "
                  "two sources?"),
    Misconception("content not tried", _without(carried, chosen), "when what the weights depend on is never tried",
                  "A source decides where to look and what is carried away. How could you see each of them alone?"),
    Misconception("x left behind", _one(_x_left_behind), "when the sources change places, and x does not",
                  "Sentence 0 has its own x and its own source. If the sources change places, what must x do?"),
    Misconception("one sentence", partial(keeps, rules=(_something_changes, every_token, chosen), shapes=ALONE),
                  "when a batch of one is the only case", "Which mistakes need a neighbour to show?"),
    Misconception("square only", partial(keeps, shapes=((3, 4, 4),)), "when sources are always as long as x",
                  "A layer that reads as many tokens as x has: what does your test say of it?"),
    Misconception("one token", partial(keeps, shapes=((3, 4, 1),)), "when every source is one token long",
                  "With one token, is there anything to choose?"),
    Misconception("exact equality", _one(_exactly), "when results must agree to the last bit",
                  "Adding the same numbers in another order: do the last digits agree?"),
    Misconception("too tolerant", _one(_loosely), "when any output passes for another",
                  "How large is rounding, and how large is a mistake?"),
    Misconception("loud changes only", _one(_loud_changes), "when every change must be larger than a half",
                  "A right layer may add a little to x. How small may a change be that is still no rounding?"),
    Misconception("shapes only", _one(_shapes_only), "when only shapes are compared",
                  "Two arrays of the same shape: what else must differ, or agree?"),
)  # fmt: skip


def _sentence_by_sentence(layer, rng):
    """Take the sentences of a batch apart: together and alone they must give the same."""
    for B, Nq, Nk in ((4, 3, 6), (2, 5, 5), (5, 4, 3)):
        x, memory, other = (rng.standard_normal((B, n, WIDTH)) for n in (Nq, Nk, Nk))
        out = layer(x, memory)
        alone = [layer(x[b : b + 1], memory[b : b + 1]) for b in range(B)]
        if out.shape != x.shape or not np.allclose(np.concatenate(alone), out, rtol=1e-3, atol=1e-4):
            return False
        for token in range(Nk):
            moved = memory.copy()
            moved[:, token] = other[:, token]
            if (np.abs(layer(x, moved) - out).max(axis=-1) < 1e-6).any():
                return False
        if np.allclose(layer(x, memory[:, :1]), layer(x, other[:, :1]), atol=1e-4):
            return False
        mixture = layer(x, 0.5 * memory + 0.5 * other)
        if np.allclose(mixture, 0.5 * out + 0.5 * layer(x, other), rtol=1e-4, atol=1e-5):
            return False
    return True


def _by_differences(layer, rng):
    """Nudge one number of one token of one source: exactly one sentence may move, all its rows, and not in a line."""
    for B, Nq, Nk in ((2, 3, 4), (3, 3, 3)):
        x, memory = rng.standard_normal((B, Nq, WIDTH)), rng.standard_normal((B, Nk, WIDTH))
        out = layer(x, memory)
        for b, token in np.ndindex(B, Nk):
            step = np.zeros_like(memory)
            step[b, token] = 2 * rng.standard_normal(WIDTH)
            once, twice = layer(x, memory + step), layer(x, memory + 2 * step)
            if once.shape != x.shape:
                return False
            moved = np.abs(once - out).max(axis=-1) > 1e-5
            bent = np.abs(twice - 2 * once + out).max(axis=-1) > 1e-5
            if not (moved[b].all() and bent[b].any()) or np.delete(moved, b, axis=0).any():
                return False
        if np.abs(layer(x, memory[:, :1]) - layer(x, memory[:, 1:2])).max() < 1e-5:
            return False
    return True


ALTERNATIVES = (_sentence_by_sentence, _by_differences, partial(keeps, shapes=((5, 7, 3), (2, 4, 4), (4, 3, 8))))
