"""Exercises of the assignment "decoding": writing greedily, step by step from a cache, and with a beam.

Letters: B sentences, W continuations of one sentence, V words, H heads, Nq positions, Nk tokens of the memory,
D width, Dk width of a query.
"""

from collections import Counter
from collections.abc import Callable, Mapping

import numpy as np

from crossattn_ref.checks.compare import Violation
from crossattn_ref.checks.draw import normal, read_only, sizes
from crossattn_ref.checks.exercise import Exercise, Property
from crossattn_ref.checks.variants import beams, cached, writing
from crossattn_ref.checks.variants.stages import pairs


class _Watched:
    """A model or a layer, and what it was asked in all: its own counts begin anew whenever an answer begins anew."""

    def __init__(self, target: Callable, counts: Callable[[], Mapping[str, int]]):
        self._target, self._counts = target, counts
        self.asked = Counter()

    def __call__(self, *args: object, **named: object) -> object:
        """Pass a question on, and count it."""
        before = Counter(self._counts())
        value = self._target(*args, **named)
        self.asked += Counter(self._counts()) - before
        return value


def _model(rng, B, most, ends):
    return writing.Model(rng, B, most, np.asarray(ends))


def _all_end(ask, rng):
    B, most = sizes(rng, 2, low=4, high=9)
    ask.probe_matches(_model(rng, B, most + 3, 1 + rng.permutation(most)[np.arange(B) % most]), rng)


def _some_never_end(ask, rng):
    B, most = sizes(rng, 2, low=4, high=7)
    ends = rng.integers(1, most - 1, size=B)
    ends[1], ends[-1] = most + 5, most - 1  # one never ends, one ends with the last token that it may have
    ask.probe_matches(_model(rng, B, most, ends), rng)


def _at_once(ask, rng):
    B, most = sizes(rng, 2, low=3, high=6)
    ends = rng.integers(2, most, size=B)
    ends[0] = 0
    ask.probe_matches(_model(rng, B, most, ends), rng)


def _one_sentence(ask, rng):
    ask.probe_matches(_model(rng, 1, 7, [4]), rng)


def _stops(ask, rng):
    B, most = sizes(rng, 2, low=4, high=6)
    model = _model(rng, B, most + 20, rng.integers(1, most, size=B))
    watched = _Watched(model, lambda: {"steps": model.calls})
    ask.probed(watched, rng)
    needed, asked = int(model.ends.max()) + 1, watched.asked["steps"]
    if asked > needed:
        raise Violation(f"every sentence had ended after {needed} steps, and the model was asked {asked} times")


def _layer(rng, *, square=False):
    B, Nk, D, n = sizes(rng, 4, low=4, high=8)
    return cached.Layer(rng, *((4, 4, 4, 4) if square else (B, Nk, D, n)))


def _layer_asked(ask, rng):
    """Have a layer written with, step by step -> how often it projected what, and the number of steps."""
    layer = _layer(rng)
    watched = _Watched(layer, lambda: layer.projected)
    ask.probed(watched, rng)
    return watched.asked, layer.n


def _projected_once(ask, rng):
    asked, n = _layer_asked(ask, rng)
    for name in cached.MEMORY:
        if asked[name] > 1:
            raise Violation(
                f'layer("{name}", ...) was called {asked[name]} times in {n} steps: does the source '
                "change while you write?"
            )


def _position_once(ask, rng):
    asked, n = _layer_asked(ask, rng)
    for name in ("q", "k", "v"):
        if asked[name] > n:
            raise Violation(
                f'layer("{name}", ...) was called {asked[name]} times in {n} steps: what became of '
                "the rows of the step before?"
            )


def _continuations(rng, *, square=False, finished=0.4):
    """Draw log probabilities of the next word, scores so far and flags; no two sums are alike."""
    B, W, V = (4, 4, 4) if square else sizes(rng, 3, low=4, high=8)
    logits = 2 * rng.standard_normal((B, W, V))
    log_probs = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    ended = rng.random((B, W)) < finished
    if finished:
        ended[0, 0], ended[1, 1], ended[-1] = True, True, False
    return {"log_probs": log_probs, "scores": -np.abs(2 * rng.standard_normal((B, W))), "finished": ended}


def _open_sentences(ask, rng):
    for _ in range(2):
        case = _continuations(rng, finished=0)
        ask.matches(**case, width=case["scores"].shape[1])


def _finished(ask, rng):
    for _ in range(2):
        case = _continuations(rng)
        case["scores"][case["finished"]] /= 4  # likely enough to stay
        ask.matches(**case, width=case["scores"].shape[1])


def _all_finished(ask, rng):
    case = _continuations(rng)
    case["finished"][1] = True
    ask.matches(**case, width=case["scores"].shape[1])


def _step_square(ask, rng):
    ask.matches(**_continuations(rng, square=True), width=4)


def _other_width(ask, rng):
    case = _continuations(rng, finished=0)
    W, V = case["log_probs"].shape[1:]
    ask.matches(**case, width=W + 2)
    ask.matches(**_continuations(rng), width=2)
    first = {name: array[:, :1] for name, array in case.items()}
    ask.matches(**first, width=min(W, V))


def _step_kept(ask, rng):
    case = _continuations(rng)
    ask.matches(**dict(zip(case, read_only(*case.values()), strict=True)), width=3)


def _queries(rng, *, square=False):
    B, W, H, Nq, Dk = (3, 3, 3, 3, 3) if square else sizes(rng, 5, low=2, high=7)
    return {"q": normal(rng, B * W, H, Nq, Dk), "width": W}


def _one_position(ask, rng):
    B, W, H, Dk = sizes(rng, 4, low=2, high=6)
    ask.matches(q=normal(rng, B * W, H, 1, Dk), width=W)


def _one_beam(ask, rng):
    case = _queries(rng)
    ask.matches(q=case["q"], width=1)
    ask.matches(q=case["q"][:5], width=5)


EXERCISES = {
    "greedy": Exercise(
        reference=writing.write,
        plain=writing.write,
        properties=(
            Property("right where every sentence ends by itself", 3, _all_end),
            Property("right where a sentence does not end in time", 2, _some_never_end),
            Property("right where a sentence ends at once", 1, _at_once),
            Property("right for a single sentence", 1, _one_sentence),
            Property("the model is not asked once all sentences have ended", 1, _stops),
        ),
        misconceptions=writing.MISTAKES,
        compositions=lambda: pairs(writing.write, {k: writing.STAGES[k] for k in ("see", "freeze")}),
        alternatives=writing.ALTERNATIVES,
    ),
    "cached_step": Exercise(
        reference=cached.steps,
        plain=cached.in_float32,
        properties=(
            Property("equal to the whole layer when all sizes differ", 3,
                     lambda ask, rng: ask.probe_matches(_layer(rng), rng)),
            Property("equal to it when they are the same", 1,
                     lambda ask, rng: ask.probe_matches(_layer(rng, square=True), rng)),
            Property("equal to it for a single step", 1,
                     lambda ask, rng: ask.probe_matches(cached.Layer(rng, 3, 5, 4, 1), rng)),
            Property("the memory is projected once", 2, _projected_once),
            Property("every position is projected once", 1, _position_once),
        ),
        misconceptions=cached.MISTAKES,
        compositions=lambda: pairs(cached.steps, {k: cached.STAGES[k] for k in ("remember", "place", "keep")}),
        alternatives=cached.ALTERNATIVES,
    ),
    "beam_step": Exercise(
        reference=beams.step,
        plain=beams.step,
        properties=(
            Property("right while no sentence has ended", 3, _open_sentences),
            Property("right where sentences have ended", 3, _finished),
            Property("right where all continuations of a sentence have ended", 1, _all_finished),
            Property("right with as many sentences as rows and words", 1, _step_square),
            Property("right where the beam becomes wider or narrower", 1, _other_width),
            Property("right without writing into what was given", 1, _step_kept),
        ),
        misconceptions=beams.STEP,
        compositions=beams.step_pairs,
        alternatives=beams.STEP_ALTERNATIVES,
    ),
    "fold_beams": Exercise(
        reference=beams.fold,
        plain=beams.fold,
        properties=(
            Property("right when all sizes differ", 3, lambda ask, rng: ask.matches(**_queries(rng))),
            Property("right when they are the same", 1, lambda ask, rng: ask.matches(**_queries(rng, square=True))),
            Property("right for a single position, as when writing", 1, _one_position),
            Property("right for one beam a sentence, and for one sentence", 1, _one_beam),
        ),
        misconceptions=beams.FOLD,
        compositions=lambda: pairs(beams.fold, beams.FOLD_STAGES),
        alternatives=beams.FOLD_ALTERNATIVES,
    ),
}  # fmt: skip
