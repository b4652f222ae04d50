"""Exercises of the assignment "attention": softmax, the operator, a program in it, its symmetries, its gradients.

Letters: Nq queries, Nk keys (and values), Dk width of a query or key, Dv width of a value.
"""

import numpy as np

from crossattn_ref.attention import reference
from crossattn_ref.checks.compare import Violation, form, insist
from crossattn_ref.checks.draw import normal, read_only, sizes
from crossattn_ref.checks.exercise import Exercise, Property
from crossattn_ref.checks.variants import attention as wrong
from crossattn_ref.checks.variants import gradients, reverse, softmax, softmax_pairs, symmetry


def _stress(rng, rows, columns, step):
    """Draw scores whose exp overflows: whole steps apart within a row, and every row far above the one before."""
    order = rng.permuted(np.tile(np.arange(1.0, columns + 1), (rows, 1)), axis=1)
    return step * (order + 3 * columns * np.arange(rows)[:, None])


def _softmax_values(ask, rng):
    rows, columns = sizes(rng, 2, high=6)
    ask.matches(x=3 * normal(rng, rows, rows))
    ask.matches(x=normal(rng, rows, columns))


def _softmax_shares(ask, rng):
    x = normal(rng, *sizes(rng, 2, high=6))
    weights = insist(ask.call(x=x), x.shape, {"x": x})
    with np.errstate(all="ignore"):
        sums = weights.sum(axis=-1)
    if not np.abs(sums - 1).max() <= 1e-5:
        raise Violation(f"the rows add up to {np.array2string(sums, precision=3, max_line_width=200)}", {"x": x})


def _softmax_batches(ask, rng):
    a, b, c, d = sizes(rng, 4, high=7)
    ask.matches(x=normal(rng, a, b, c))
    ask.matches(x=normal(rng, a, b, c, d))
    ask.matches(x=normal(rng, a))


def _softmax_large(ask, rng):
    rows, columns = sizes(rng, 2, high=6)
    ask.matches(x=_stress(rng, rows, columns, 500.0))
    ask.matches(x=_stress(rng, columns, rows, 30.0).astype(np.float32))


def _softmax_input_kept(ask, rng):
    rows, columns = sizes(rng, 2)
    ask.matches(x=read_only(normal(rng, rows, columns))[0])


def _qkv(rng, *batch, square=False):
    nq, nk, dk, dv = sizes(rng, 4, high=6)
    if square:
        nq = nk = dv = dk
    return {"q": normal(rng, *batch, nq, dk), "k": normal(rng, *batch, nk, dk), "v": normal(rng, *batch, nk, dv)}


def _attention_values(ask, rng):
    ask.matches(**_qkv(rng))
    ask.matches(**_qkv(rng))


def _attention_square(ask, rng):
    ask.matches(**_qkv(rng, square=True))


def _attention_shares(ask, rng):
    case = _qkv(rng)
    case["v"] = np.ones_like(case["v"])
    out = insist(ask.call(**case), (len(case["q"]), case["v"].shape[1]), case)
    if not np.abs(out - 1).max() <= 1e-5:
        raise Violation("every value is 1, and yet the output is not: do the weights of a query add up to one?", case)


def _attention_key_order(ask, rng):
    case = _qkv(rng)
    order = np.roll(np.arange(len(case["k"])), 1)
    moved = {**case, "k": case["k"][order], "v": case["v"][order]}
    shape = (len(case["q"]), case["v"].shape[1])
    before, after = insist(ask.call(**case), shape, case), insist(ask.call(**moved), shape, moved)
    if not np.abs(after - before).max() <= 1e-5 * (1 + np.abs(before).max()):
        raise Violation("with the pairs of key and value in another order, the output changes", case)


def _attention_batches(ask, rng):
    ask.matches(**_qkv(rng, 2))
    ask.matches(**_qkv(rng, 2, 3))


def _attention_large(ask, rng):
    ask.matches(**_loud(rng, 3000))
    ask.matches(**{name: array.astype(np.float32) for name, array in _loud(rng, 300).items()})


def _loud(rng, times):
    """Draw a case with large scores, and one key of each query far ahead: between two level ones rounding decides."""
    while True:
        case = _qkv(rng)
        case["q"] *= times
        scores = np.sort(case["q"] @ case["k"].T / np.sqrt(case["q"].shape[-1]), axis=-1)
        if (scores[..., -1] - scores[..., -2] > 20).all():
            return case


def _attention_input_kept(ask, rng):
    names, arrays = zip(*_qkv(rng).items(), strict=True)
    ask.matches(**dict(zip(names, read_only(*arrays), strict=True)))


def _reversed(ask, x):
    value = ask.call(x=x)
    if not isinstance(value, tuple) or len(value) != 2:
        raise Violation("return two arrays, q and k", {"x": x})
    for name, array in zip("qk", value, strict=True):
        if problem := form(array):
            raise Violation(f"{name}: {problem}", {"x": x})
        if array.ndim != 2 or len(array) != len(x) or not np.isfinite(array).all():
            rule = f"{name} must hold {len(x)} rows of finite numbers, one for each row of x"
            raise Violation(f"{rule}; it has shape {array.shape}", {"x": x})
    q, k = value
    if q.shape != k.shape:
        raise Violation(f"q and k must have the same width, got {q.shape} and {k.shape}", {"x": x})
    if not np.abs(reference.attention(q, k, x) - x[::-1]).max() <= 1e-3:
        raise Violation("attention(q, k, x) is not x reversed within 1e-3", {"x": x})


def _reverses(ask, rng):
    for n, width in (sizes(rng, 2, high=6), sizes(rng, 2), (4, 4)):
        _reversed(ask, normal(rng, n, width))


def _reverses_any_content(ask, rng):
    n, width = sizes(rng, 2)
    row = normal(rng, 1, width) + 2.0
    _reversed(ask, row * np.arange(1, n + 1)[:, None])  # every row points the same way
    _reversed(ask, np.round(50 * normal(rng, width, n)))


def _program(args, value):
    q, k = value
    return reference.attention(np.asarray(q, float), np.asarray(k, float), args[0])


def _accepts_right_ones(ask, rng):
    accused = [name for name, operator in symmetry.SYMMETRIC.items() if not ask.verdict(operator, rng)]
    if accused:
        raise Violation(f"it said False to one that has them: {accused[0]}")


def _catches(name, operator):
    def test(ask, rng):
        if ask.verdict(operator, rng):
            raise Violation("your test said True to it: which of the two symmetries does it break, and at which sizes?")

    return Property(f"catches: {name}", 1, test)


def _softmax_backward_case(rng, *shape):
    return {"grad_weights": normal(rng, *shape), "weights": np.round(softmax.softmax(normal(rng, *shape)), 3)}


def _softmax_backward_values(ask, rng):
    rows, columns = sizes(rng, 2, high=6)
    ask.matches(**_softmax_backward_case(rng, rows, rows))
    ask.matches(**_softmax_backward_case(rng, rows, columns))


def _softmax_backward_batches(ask, rng):
    a, b, c, d = sizes(rng, 4, high=7)
    ask.matches(**_softmax_backward_case(rng, a, b, c))
    ask.matches(**_softmax_backward_case(rng, a, b, c, d))
    ask.matches(**_softmax_backward_case(rng, a))


def _softmax_backward_sharp(ask, rng):
    rows, columns = sizes(rng, 2)
    weights = np.eye(max(rows, columns))[:rows, :columns] if rows < columns else np.eye(rows, columns)
    weights[:, 0] += weights.sum(-1) == 0
    ask.matches(grad_weights=100 * normal(rng, rows, columns), weights=weights)
    ask.matches(**{n: a.astype(np.float32) for n, a in _softmax_backward_case(rng, columns, rows).items()})


def _softmax_backward_input_kept(ask, rng):
    names, arrays = zip(*_softmax_backward_case(rng, *sizes(rng, 2)).items(), strict=True)
    ask.matches(**dict(zip(names, read_only(*arrays), strict=True)))


def _backward_case(rng, *batch, square=False):
    case = _qkv(rng, *batch, square=square)
    grad_out = normal(rng, *case["q"].shape[:-1], case["v"].shape[-1])
    return {"grad_out": grad_out, **case}


def _sharp_case(rng):
    case = _backward_case(rng)
    return {**case, "q": 200 * case["q"]}


EXERCISES = {
    "softmax": Exercise(
        reference=reference.softmax,
        plain=softmax.softmax,
        properties=(
            Property("right weights for a matrix of scores", 2, _softmax_values),
            Property("the last axis, however many axes there are", 2, _softmax_batches),
            Property("every row adds up to one", 1, _softmax_shares),
            Property("large scores do not overflow", 3, _softmax_large),
            Property("right without writing into the scores", 1, _softmax_input_kept),
        ),
        misconceptions=softmax.MISTAKES,
        compositions=softmax_pairs.composed,
        alternatives=softmax.ALTERNATIVES,
    ),
    "attention": Exercise(
        reference=reference.attention,
        plain=wrong.attend,
        properties=(
            Property("right values when Nq, Nk, Dk and Dv all differ", 4, _attention_values),
            Property("right values when they are all equal", 2, _attention_square),
            Property("values that are all 1 come back as 1", 1, _attention_shares),
            Property("the order of the keys makes no difference", 1, _attention_key_order),
            Property("any number of batch axes in front", 3, _attention_batches),
            Property("large scores do not overflow", 2, _attention_large),
            Property("right without writing into q, k or v", 1, _attention_input_kept),
        ),
        misconceptions=wrong.MISTAKES,
        compositions=wrong.pairs,
        alternatives=wrong.ALTERNATIVES,
    ),
    "reverse": Exercise(
        reference=lambda x: (1e4 * np.eye(len(x))[::-1], np.eye(len(x))),
        observe=_program,
        properties=(
            Property("attention(q, k, x) is x from last to first", 1, _reverses),
            Property("whatever the rows of x hold", 1, _reverses_any_content),
        ),
        misconceptions=reverse.MISTAKES,
        alternatives=reverse.ALTERNATIVES,
    ),
    "symmetry_test": Exercise(
        reference=symmetry.both,
        properties=(
            Property("accepts every operator that has both symmetries", 0, _accepts_right_ones, gate=True),
            *(_catches(name, operator) for name, operator in symmetry.ASYMMETRIC.items()),
        ),
        misconceptions=symmetry.MISTAKES,
        alternatives=symmetry.ALTERNATIVES,
    ),
    "softmax_backward": Exercise(
        reference=gradients.softmax_backward,
        plain=gradients.softmax_backward,
        properties=(
            Property("right gradients for a matrix of weights", 3, _softmax_backward_values),
            Property("the last axis, however many axes there are", 3, _softmax_backward_batches),
            Property("weights of exactly 0 and 1", 1, _softmax_backward_sharp),
            Property("right without writing into what was given", 1, _softmax_backward_input_kept),
        ),
        misconceptions=gradients.SOFTMAX_BACKWARD,
        alternatives=gradients.SOFTMAX_BACKWARD_ALTERNATIVES,
    ),
    "attention_backward": Exercise(
        reference=reference.attention_backward,
        plain=gradients.backward,
        properties=(
            Property("right gradients when Nq, Nk, Dk and Dv all differ", 3, lambda ask, rng: [
                ask.matches(**_backward_case(rng)), ask.matches(**_backward_case(rng))]),
            Property("right gradients when they are all equal", 1, lambda ask, rng: ask.matches(
                **_backward_case(rng, square=True))),
            Property("any number of batch axes in front", 2, lambda ask, rng: [
                ask.matches(**_backward_case(rng, 2)), ask.matches(**_backward_case(rng, 2, 3))]),
            Property("large scores do not overflow", 1, lambda ask, rng: ask.matches(**_sharp_case(rng))),
        ),
        misconceptions=gradients.ATTENTION_BACKWARD,
        alternatives=gradients.ATTENTION_BACKWARD_ALTERNATIVES,
    ),
}  # fmt: skip
