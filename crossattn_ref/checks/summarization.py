"""The exercise of the assignment "summarization": a distribution that generates words and copies them.

Letters: B sentences, Nq target positions, Nk source positions, V words of the vocabulary, n_words words in all.
"""

import numpy as np

from crossattn_ref.checks.compare import Violation, insist, unmoved
from crossattn_ref.checks.draw import read_only, sizes
from crossattn_ref.checks.exercise import Exercise, Property
from crossattn_ref.checks.variants import copying


def _shares(rng, *shape):
    """Draw rows of positive numbers that sum to one."""
    drawn = rng.random(shape) + 0.05
    return drawn / drawn.sum(axis=-1, keepdims=True)


def _case(rng, *, repeated=True, square=False):
    """Draw a sentence with words that stand twice, or with none; some words are not in the vocabulary."""
    B, Nq, Nk, V = sizes(rng, 4, low=4, high=8)
    if square:
        Nq = Nk = V = B
    n_words = max(V + 3, Nk + 1) if repeated else V + Nk + 1
    source = np.stack([rng.permutation(n_words)[:Nk] for _ in range(B)])
    if repeated:
        source[:, -2:] = source[:, :2]
        source[0, 0] = source[0, -1] = n_words - 1  # no vocabulary knows this one
    return {
        "vocabulary": _shares(rng, B, Nq, V),
        "weights": _shares(rng, B, Nq, Nk),
        "source": source,
        "gate": np.round(0.1 + 0.8 * rng.random((B, Nq)), 2),
        "n_words": n_words,
    }


def _shape(case):
    return *case["weights"].shape[:2], case["n_words"]


def _values(ask, rng):
    ask.matches(**_case(rng, repeated=False))


def _repeated(ask, rng):
    ask.matches(**_case(rng))
    case = _case(rng)
    case["source"][:] = case["source"][:, :1]
    ask.matches(**case)


def _square(ask, rng):
    ask.matches(**_case(rng, square=True))


def _gate_ends(ask, rng):
    case = _case(rng)
    case["gate"] = rng.permuted(np.tile([0.0, 1.0], case["gate"].size)[: case["gate"].size]).reshape(case["gate"].shape)
    ask.matches(**case)


def _known_words_only(ask, rng):
    case = _case(rng)
    case["n_words"] = case["vocabulary"].shape[-1]
    case["source"] = case["source"] % case["n_words"]
    ask.matches(**case)


def _sums(ask, rng):
    case = _case(rng)
    out = insist(ask.call(**case), _shape(case), case)
    if not (np.abs(out.sum(axis=-1) - 1) < 1e-5).all():
        raise Violation("the probabilities of a row should sum to one, and yours do not", case)


def _order(ask, rng):
    case = _case(rng)
    turned = {**case, "weights": case["weights"][..., ::-1].copy(), "source": case["source"][:, ::-1].copy()}
    before, after = (insist(ask.call(**c), _shape(case), c) for c in (case, turned))
    unmoved(before, after, "with the source in another order, and the weights with it, the result changes", case)


def _input_kept(ask, rng):
    case = _case(rng)
    arrays = {name: value for name, value in case.items() if isinstance(value, np.ndarray)}
    ask.matches(**{**case, **dict(zip(arrays, read_only(*arrays.values()), strict=True))})


EXERCISES = {
    "copy_distribution": Exercise(
        reference=copying.exact,
        plain=copying.distribute,
        properties=(
            Property("right where every source word stands once", 3, _values),
            Property("right where source words are repeated", 3, _repeated),
            Property("right when all sizes agree", 1, _square),
            Property("a gate of 0 generates alone, a gate of 1 copies alone", 1, _gate_ends),
            Property("right where the vocabulary knows every word", 1, _known_words_only),
            Property("every row sums to one", 1, _sums),
            Property("the order of the source makes no difference", 1, _order),
            Property("right without writing into what was given", 1, _input_kept),
        ),
        misconceptions=copying.MISTAKES,
        compositions=copying.composed,
        alternatives=copying.ALTERNATIVES,
    ),
}
