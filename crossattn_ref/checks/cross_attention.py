"""Exercises of the assignment "cross-attention" that need NumPy alone: a test of whether a layer reads its source."""

from crossattn_ref.checks.compare import Violation
from crossattn_ref.checks.exercise import Exercise, Property
from crossattn_ref.checks.variants import source_tests, sources


def _accepts_right_ones(ask, rng):
    accused = [name for name, layer in sources.RIGHT.items() if not ask.verdict(layer, rng)]
    if accused:
        raise Violation(f"it said False to one that reads its source: {accused[0]}")


def _catches(name, layer):
    def test(ask, rng):
        if ask.verdict(layer, rng):
            raise Violation("your test said True to it: which change of x or the source would show it?")

    return Property(f"catches: {name}", 1, test)


EXERCISES = {
    "source_swap_test": Exercise(
        reference=source_tests.keeps,
        properties=(
            Property("accepts every layer that reads its source", 0, _accepts_right_ones, gate=True),
            *(_catches(name, layer) for name, layer in sources.WRONG.items()),
        ),
        misconceptions=source_tests.MISTAKES,
        alternatives=source_tests.ALTERNATIVES,
    ),
}
