"""The exercise of the assignment "long-memories": how few keys are enough for a given error.

Letters: Nq queries, Nk keys, q (Nq, Dk), k (Nk, Dk), v (Nk, Dv); n keys are read for each query.
"""

import numpy as np

from crossattn_ref.checks.compare import Violation, disagreement
from crossattn_ref.checks.draw import normal, read_only, sizes
from crossattn_ref.checks.exercise import Exercise, Property
from crossattn_ref.checks.variants import budget as wrong

SEARCHES = (wrong.halving, wrong.downwards)
CLEAR = 1.02  # two errors between which a budget is drawn lie so far apart, or farther: rounding decides nothing


def _observed(_, value):
    n, out = value
    return float(n), np.asarray(out, np.float64)


def _errors(q, k, v):
    """Compute the error with 1, 2, ... Nk keys."""
    scores = wrong.dot(q, k)
    exact = wrong.softmax(scores) @ v
    outs = [wrong.among_chosen(scores, wrong.best(scores, n, v)) @ v for n in range(1, len(k) + 1)]
    return np.array([np.linalg.norm(out - exact) / np.linalg.norm(exact) for out in outs])


def _sequences(rng, n_keys, sharpness, *, square=False):
    nq, dk, dv = sizes(rng, 3, high=6)
    if square:
        nq = dk = dv = n_keys
    return sharpness * normal(rng, nq, dk), normal(rng, n_keys, dk), normal(rng, n_keys, dv)


def _budget(errors, n):
    """Set a budget that n keys keep and no fewer, clear of every error; None where there is none."""
    above, below = errors[: n - 1].min(initial=np.inf), max(errors[n - 1], 1e-9)
    budget = 2 * below if above == np.inf else float(np.sqrt(above * below))
    near = [error for error in errors if budget / CLEAR < error < budget * CLEAR]
    return float(f"{budget:.6g}") if above > below * CLEAR**2 and not near and below > 1e-3 else None


def _cases(rng, n_keys, sharpness, wanted, **options):
    """Draw cases until wanted(errors) names an n that can be asked for -> q, k, v, budget."""
    for _ in range(10_000):
        q, k, v = _sequences(rng, n_keys, sharpness, **options)
        if np.diff(np.sort(wrong.dot(q, k), axis=-1), axis=-1).min() < 1e-3:  # a tie: two right choices
            continue
        errors = _errors(q, k, v)
        n = wanted(errors)
        if n and (budget := _budget(errors, n)):
            return {"q": q, "k": k, "v": v, "budget": budget}
    raise AssertionError("no case to be drawn")


def _results(ask, case, *, number=True, output=True):
    value = ask.call(**case)
    if not isinstance(value, tuple) or len(value) != 2:
        found = f"a tuple of {len(value)}" if isinstance(value, tuple) else f"a {type(value).__name__}"
        raise Violation(f"it returned {found}, where a tuple of 2 is wanted: n, out", case)
    n, out = value
    if isinstance(n, bool | np.ndarray) or not isinstance(n, int | float | np.number) or n != int(n):
        raise Violation(f"n must be a whole number, got {n!r:.40}", case)
    right, exact = wrong.error_budget(**case)
    if number and n != right:
        raise Violation(f"n = {n}: {'fewer keys keep the budget' if n > right else 'the budget is not kept'}", case)
    if output:
        low = {name: x.astype(np.float32) if isinstance(x, np.ndarray) else x for name, x in case.items()}
        if problem := disagreement(out, exact, _read_in(low, right)):
            raise Violation(f"out: {problem}", case)


def _read_in(case, n):
    """Read n keys in the dtype of a case."""
    scores = wrong.dot(case["q"], case["k"])
    return wrong.among_chosen(scores, wrong.best(scores, n, case["v"])) @ case["v"]


def _between(low, high):
    """Name an n within bounds that some budget singles out."""

    def wanted(errors):
        found = [n for n in range(low, high + 1) if _budget(errors, n)]
        return found[len(found) // 2] if found else None

    return wanted


def _sharp(ask, rng):
    for _ in range(2):
        _results(ask, _cases(rng, 11, 3.0, _between(2, 4)))


def _flat(ask, rng):
    for _ in range(2):
        _results(ask, _cases(rng, 11, 0.5, _between(6, 9)))
    _results(ask, _cases(rng, 7, 1.0, _between(3, 6), square=True))


def _number(ask, rng):
    for n in (1, 3, 5, 7):
        _results(ask, _cases(rng, 9, 1.0, _between(n, n)), output=False)
    _results(ask, _uneven(rng), output=False)


def _uneven(rng):
    """Draw until the mean of the queries' own errors, too, would keep the budget with another number of keys."""
    while True:
        case = _cases(rng, 9, 1.0, _between(2, 6))
        if wrong.error_budget(**case)[0] != wrong.error_budget(**case, measure=wrong.over_queries)[0]:
            return case


def _output(ask, rng):
    for n in (2, 5):
        _results(ask, _cases(rng, 9, 1.0, _between(n, n)), number=False)


def _first_of_several(errors):
    """Name an n that is enough where larger numbers are not, so that halving and going down both end elsewhere."""
    for n in range(1, len(errors) - 1):
        budget = _budget(errors, n)
        others = [search(lambda m, b=budget: errors[m - 1] <= b, len(errors)) for search in SEARCHES] if budget else []
        if others and n not in others:
            return n
    return None


def _not_monotone(ask, rng):
    for _ in range(2):
        _results(ask, _cases(rng, 13, 1.0, _first_of_several))


def _no_error(ask, rng):
    q, k, v = _sequences(rng, 5, 1.0)
    _results(ask, {"q": q, "k": k, "v": v, "budget": 1e-7})


def _kept(ask, rng):
    case = _cases(rng, 7, 1.0, _between(3, 5))
    arrays = dict(zip("qkv", read_only(*(case[name] for name in "qkv")), strict=True))
    _results(ask, {**case, **arrays})


EXERCISES = {
    "error_budget": Exercise(
        reference=wrong.error_budget,
        plain=wrong.error_budget,
        observe=_observed,
        properties=(
            Property("sharp weights: a few keys are enough", 2, _sharp),
            Property("flat weights: most keys are needed", 2, _flat),
            Property("the number of keys, few or many", 2, _number),
            Property("the output with so many keys", 1, _output),
            Property("the fewest, though a few more would be too few again", 2, _not_monotone),
            Property("a budget that only all keys keep", 1, _no_error),
            Property("right without writing into what was given", 1, _kept),
        ),
        misconceptions=wrong.MISTAKES,
        alternatives=wrong.ALTERNATIVES,
    ),
}
