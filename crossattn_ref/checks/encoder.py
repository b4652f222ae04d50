"""Exercises of the assignment "encoder" that need NumPy alone: sinusoidal positions.

Letters: n positions, d columns.
"""

import numpy as np

from crossattn_ref.checks.compare import Violation, insist
from crossattn_ref.checks.draw import sizes
from crossattn_ref.checks.exercise import Exercise, Property
from crossattn_ref.checks.variants import positions


def _positions(*draws):
    def test(ask, rng):
        for draw in draws:
            n, d = draw(rng)
            ask.matches(n=n, d=d)

    return test


def _even(rng):
    n, half = sizes(rng, 2)
    return n, 2 * half


def _odd(rng):
    n, half = sizes(rng, 2)
    return n, 2 * half + 1


def _far(rng):
    return int(rng.integers(400, 600)), int(2 * rng.integers(2, 5))


def _wide(rng):
    return int(rng.integers(3, 6)), int(2 * rng.integers(20, 40))


def _positions_square(ask, rng):
    n = 2 * sizes(rng, 1, low=2)[0]
    ask.matches(n=n, d=n)
    ask.matches(n=n + 1, d=n + 1)


def _distance(ask, rng):
    """The product of two rows is the sum of cos(rate * distance): it does not matter where the two stand."""
    n, d = _even(rng)
    rows = insist(ask.call(n=n, d=d), (n, d), {"n": n, "d": d})
    with np.errstate(all="ignore"):
        products = rows @ rows.T
        spread = np.abs(products[1:, 1:] - products[:-1, :-1]).max()
    if not spread <= 1e-5 * d:
        raise Violation(
            "the product of two rows should depend on their distance alone, and yours changes with the place",
            {"n": n, "d": d},
        )


EXERCISES = {
    "sinusoidal_positions": Exercise(
        reference=positions.encode,
        plain=positions.in_float32,
        properties=(
            Property("right values for an even width", 3, _positions(_even, _even)),
            Property("right values for an odd width", 2, _positions(_odd)),
            Property("as many positions as columns", 1, _positions_square),
            Property("far positions", 1, _positions(_far)),
            Property("wide rows", 1, _positions(_wide)),
            Property("the product of two rows tells their distance", 1, _distance),
        ),
        misconceptions=positions.MISTAKES,
        compositions=positions.composed,
        alternatives=positions.ALTERNATIVES,
    ),
}
