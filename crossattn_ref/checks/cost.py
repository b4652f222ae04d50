"""Exercises of the assignment "cost": the bill of a shape, its floor on a machine, and what doubling does to both.

Letters: B samples, H heads of the queries, Hkv heads of keys and values, Nq queries, Nk keys, D width of each.
"""

import math

import numpy as np

from crossattn_ref.checks.compare import Violation
from crossattn_ref.checks.exercise import Exercise, Property
from crossattn_ref.checks.variants import roofline as wrong
from crossattn_ref.cost import MACHINES

BILL = ("the operations", "the bytes", "the exponentials", "the least time", "the ceiling's name")
FACTORS = ("operations", "bytes moved", "weights", "least time")
# A width at which one exponential takes longer than the products of a score, for each machine in half precision.
NARROW = {"H200": 32, "A100": 16, "T4": 8}


def _observed(_, value):
    """What counts: sizes of every magnitude by their logarithms, the name as it is."""
    with np.errstate(all="ignore"):
        return tuple(item if isinstance(item, str) else np.log(float(item)) for item in value)


def _as_factors(_, value):
    return tuple(float(item) for item in value)


def _numbers(ask, names, args):
    """Ask for a tuple with a value for each name; refuse anything else."""
    value = ask.call(**args)
    if not isinstance(value, tuple) or len(value) != len(names):
        found = f"a tuple of {len(value)}" if isinstance(value, tuple) else f"a {type(value).__name__}"
        raise Violation(f"it returned {found}, where a tuple of {len(names)} is wanted: {', '.join(names)}", args)
    return value


def _same(item, right, name, args):
    """Raise where a number is not the right one within a millionth, or a name not the right name."""
    if isinstance(right, str):
        if not isinstance(item, str) or item not in wrong.NAMES:
            raise Violation(f"{name} must be one of {', '.join(wrong.NAMES)}, got {item!r}", args)
        if item != right:
            raise Violation(f"{name} is wrong: another ceiling is reached first", args)
        return
    if isinstance(item, bool) or not isinstance(item, int | float | np.number) or not np.isreal(item):
        raise Violation(f"{name} must be a number, got {item!r:.40}", args)
    if not math.isclose(item, right, rel_tol=1e-6):
        raise Violation(f"{name}: {'too many' if item > right else 'too few'}", args)


def _bill(*places):
    """Make a test of some of the five results."""

    def check(ask, args):
        value, right = _numbers(ask, BILL, args), wrong.roofline(**args)
        for place in places:
            _same(value[place], right[place], BILL[place], args)

    return check


def _heads(rng, *, grouped):
    n_kv = int(rng.integers(2, 5))
    return {"H": n_kv * int(rng.integers(2, 4)) if grouped else n_kv, "Hkv": n_kv}


def _machine(rng, name=None, dtype=None):
    name = name or str(rng.choice(list(MACHINES)))
    return {"machine": name, "dtype": dtype or str(rng.choice(list(MACHINES[name].rates)))}


def _shape(rng, nq, nk, width, *, grouped=False, **machine):
    sizes = {"Nq": int(rng.integers(*nq)), "Nk": int(rng.integers(*nk)), "D": width}
    return {**_machine(rng, **machine), "B": int(rng.integers(2, 8)), **_heads(rng, grouped=grouped), **sizes}


def _any_shape(rng, *, grouped=False, **machine):
    return _shape(rng, (3, 900), (1000, 3000), int(rng.choice([24, 40, 72, 96])), grouped=grouped, **machine)


def _counted(*places):
    def test(ask, rng):
        for name in MACHINES:
            _bill(*places)(ask, _any_shape(rng, name=name, dtype="float16"))
        for _ in range(2):
            _bill(*places)(ask, _any_shape(rng, dtype="float32"))

    return test


def _grouped(ask, rng):
    for _ in range(3):
        _bill(0, 1, 2)(ask, _any_shape(rng, grouped=True))


def _regimes(rng):
    """Draw a shape for each machine that waits for the products, one for the memory, one for the exponentials."""
    for name in MACHINES:
        yield _shape(rng, (3000, 6000), (7000, 9000), 192, name=name)
        yield _shape(rng, (1, 4), (1000, 9000), 64, name=name, grouped=True)
        yield _shape(rng, (3000, 6000), (7000, 9000), NARROW[name] // 2, name=name, dtype="float16")


def _in_each_regime(*places):
    def test(ask, rng):
        for args in _regimes(rng):
            _bill(*places)(ask, args)

    return test


def _predicts(*which):
    def test(ask, rng):
        for axis in which:
            for args in _regimes(rng):
                args = {"which": axis, **args}  # noqa: PLW2901 (the same question, with its axis in front)
                value, right = _numbers(ask, FACTORS, args), wrong.predict(**args)
                for item, factor, name in zip(value, right, FACTORS, strict=True):
                    if isinstance(item, str):
                        raise Violation(f"the factor of the {name} must be a number, got {item!r:.40}", args)
                    _same(item, factor, f"the factor of the {name}", args)

    return test


EXERCISES = {
    "roofline": Exercise(
        reference=wrong.roofline,
        plain=wrong.roofline,
        observe=_observed,
        properties=(
            Property("the operations of a rectangle of queries and keys", 2, _counted(0)),
            Property("the bytes that must be moved", 2, _counted(1)),
            Property("one exponential for each score", 1, _counted(2)),
            Property("query heads that share keys and values", 1, _grouped),
            Property("the least time on each machine, whatever it waits for", 3, _in_each_regime(3)),
            Property("the name of the ceiling that is reached first", 1, _in_each_regime(4)),
        ),
        misconceptions=wrong.MISTAKES,
        alternatives=wrong.ALTERNATIVES,
    ),
    "predict_doubling": Exercise(
        reference=wrong.predict,
        plain=wrong.predict,
        observe=_as_factors,
        properties=(
            Property("twice as many queries", 1, _predicts("Nq")),
            Property("a memory twice as long", 1, _predicts("Nk")),
            Property("both, as in self-attention", 1, _predicts("both")),
            Property("heads twice as wide", 1, _predicts("D")),
        ),
        misconceptions=wrong.PREDICT,
        alternatives=wrong.PREDICT_ALTERNATIVES,
    ),
}
