"""Exercises of the assignment "heads" that need NumPy alone: rows split into heads, and heads merged into rows.

Letters: B samples in a batch, H heads, N positions, D model width, Dk = D / H width of one head.
"""

import numpy as np

from crossattn_ref.checks.draw import normal, read_only, sizes
from crossattn_ref.checks.exercise import Exercise, Property
from crossattn_ref.checks.variants import heads


def _labelled(rng):
    """Draw one short sentence whose numbers tell where they stand: x[0, i, c] is 10 i + c, and the number of heads."""
    n, n_heads, width = sizes(rng, 3, low=2, high=4)
    return 10.0 * np.arange(n)[None, :, None] + np.arange(n_heads * width), n_heads


def _split_labelled(ask, rng):
    x, n_heads = _labelled(rng)
    ask.matches(x=x, n_heads=n_heads)


def _split_drawn(ask, rng, *, square=False):
    b, n, n_heads, width = [sizes(rng, 1, high=5)[0]] * 4 if square else sizes(rng, 4, high=7)
    ask.matches(x=normal(rng, b, n, n_heads * width), n_heads=n_heads)


def _split_edges(ask, rng):
    b, n, width = sizes(rng, 3)
    x = normal(rng, b, n, width)
    ask.matches(x=x, n_heads=1)
    ask.matches(x=x.astype(np.float32), n_heads=width)


def _split_input_kept(ask, rng):
    x, n_heads = _labelled(rng)
    ask.matches(x=read_only(x)[0], n_heads=n_heads)


def _merge_labelled(ask, rng):
    x, n_heads = _labelled(rng)
    ask.matches(x=heads.split(x, n_heads).copy())


def _merge_drawn(ask, rng, *, square=False):
    shape = [sizes(rng, 1, high=5)[0]] * 4 if square else sizes(rng, 4, high=7)
    ask.matches(x=normal(rng, *shape))


def _merge_edges(ask, rng):
    b, n, width = sizes(rng, 3)
    ask.matches(x=normal(rng, b, 1, n, width))
    ask.matches(x=normal(rng, b, width, n, 1).astype(np.float32))


def _merge_input_kept(ask, rng):
    ask.matches(x=read_only(normal(rng, *sizes(rng, 4)))[0])


EXERCISES = {
    "split_heads": Exercise(
        reference=heads.split,
        plain=heads.split,
        properties=(
            Property("right for one short sentence", 1, _split_labelled),
            Property("right when B, N, H and Dk all differ", 3, _split_drawn),
            Property("right when they are all equal", 1, lambda ask, rng: _split_drawn(ask, rng, square=True)),
            Property("one head, and as many heads as columns", 1, _split_edges),
            Property("right without writing into x", 1, _split_input_kept),
        ),
        misconceptions=heads.SPLIT,
        alternatives=heads.SPLIT_ALTERNATIVES,
    ),
    "merge_heads": Exercise(
        reference=heads.merge,
        plain=heads.merge,
        properties=(
            Property("right for one short sentence", 1, _merge_labelled),
            Property("right when B, H, N and Dk all differ", 3, _merge_drawn),
            Property("right when they are all equal", 1, lambda ask, rng: _merge_drawn(ask, rng, square=True)),
            Property("one head, and heads of one column", 1, _merge_edges),
            Property("right without writing into x", 1, _merge_input_kept),
        ),
        misconceptions=heads.MERGE,
        alternatives=heads.MERGE_ALTERNATIVES,
    ),
}
