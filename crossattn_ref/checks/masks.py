"""Exercises of the assignment "masks": making masks, joining them, attention under one, and a test for leaks.

Letters: B samples in a batch, H heads, Nq queries, Nk keys (and values), Dk width of a query or key, Dv of a value.
A mask is boolean, True = may look.
"""

import numpy as np

from crossattn_ref.attention import reference
from crossattn_ref.checks import draw
from crossattn_ref.checks.compare import Violation, insist, unmoved
from crossattn_ref.checks.draw import normal, read_only, sizes
from crossattn_ref.checks.exercise import Exercise, Property
from crossattn_ref.checks.modules import alike, lengths
from crossattn_ref.checks.variants import combine, leaks, masked, masks
from crossattn_ref.checks.variants.stages import pairs


def _as_mask(_, value):
    """What counts in a mask: its dtype, beside what stands in it."""
    return np.asarray(value).dtype.name, value


def _padding_rectangular(ask, rng):
    batch, n_keys = sizes(rng, 2, high=7)
    ask.matches(lengths=lengths(rng, batch, n_keys), n_keys=n_keys)
    ask.matches(lengths=lengths(rng, n_keys, batch), n_keys=batch)


def _padding_square(ask, rng):
    n = sizes(rng, 1, low=4)[0]
    ask.matches(lengths=lengths(rng, n, n), n_keys=n)


def _padding_edges(ask, rng):
    n_keys = sizes(rng, 1, high=6)[0]
    ask.matches(lengths=np.array([0, n_keys, 1, n_keys - 1]), n_keys=n_keys)
    ask.matches(lengths=np.array([n_keys]), n_keys=n_keys)


def _causal_sizes(ask, rng):
    for n in sizes(rng, 4, high=12):
        ask.matches(n=n)


def _two_masks(rng):
    batch, n = sizes(rng, 2, high=5)
    return reference.padding_mask(lengths(rng, batch, n), n), reference.causal_mask(n)


def _combine_two(ask, rng):
    padding, causal = _two_masks(rng)
    ask.matches(padding=padding, causal=causal)
    ask.matches(causal=causal, padding=padding)


def _combine_many(ask, rng):
    n, m = sizes(rng, 2, high=5)
    ask.matches(only=draw.visible(rng, m, n))
    ask.matches(**{name: draw.visible(rng, n, m) for name in ("first", "second", "third")})


def _combine_broadcasts(ask, rng):
    b, h, nq, nk = sizes(rng, 4)
    ask.matches(
        keys=draw.visible(rng, b, 1, 1, nk), heads=draw.visible(rng, 1, h, nq, nk), places=draw.visible(rng, nq, nk)
    )
    ask.matches(rows=draw.visible(rng, nq, nk)[:, :1], keys=draw.visible(rng, nk))


def _combine_input_kept(ask, rng):
    n, m = sizes(rng, 2, high=6)
    ask.matches(
        **dict(zip(("first", "second"), read_only(draw.visible(rng, n, m), draw.visible(rng, n, m)), strict=True))
    )


def _twice(ask, rng):
    case = draw.sequences(rng, 2)
    case["mask"] = draw.visible(rng, *_scores_shape(case))
    shape = (*case["q"].shape[:-1], case["v"].shape[-1])
    alike(*(insist(ask.call(**case), shape, case) for _ in range(2)), case)


def _values(ask, rng):
    for _ in range(2):
        case = draw.sequences(rng)
        ask.matches(**case, mask=draw.visible(rng, len(case["q"]), len(case["k"])))


def _square(ask, rng):
    case = draw.sequences(rng, square=True)
    n = len(case["q"])
    ask.matches(**case, mask=draw.visible(rng, n, n))
    ask.matches(**case, mask=reference.causal_mask(n))


def _scores_shape(case):
    return *case["q"].shape[:-1], case["k"].shape[-2]


def _batches(ask, rng):
    case = draw.sequences(rng, 2)
    b, h, nq, nk = _scores_shape(case)
    padding = reference.padding_mask(lengths(rng, b, nk), nk)
    ask.matches(**case, mask=draw.visible(rng, b, h, nq, nk))
    ask.matches(**case, mask=padding)
    ask.matches(**case, mask=padding & np.tri(nq, nk, dtype=bool))
    case = draw.sequences(rng, 2, square=True)
    b, _, n, _ = _scores_shape(case)
    ask.matches(**case, mask=reference.padding_mask(lengths(rng, b, n), n))
    ask.matches(**case, mask=draw.visible(rng, b, 1, n, n))


def _nothing_to_see(ask, rng):
    case = draw.sequences(rng)
    mask = draw.visible(rng, len(case["q"]), len(case["k"]))
    mask[rng.integers(len(mask))] = False
    ask.matches(**case, mask=mask)
    ask.matches(**{name: array.astype(np.float32) for name, array in case.items()}, mask=mask)
    case = draw.sequences(rng, 2)
    b, _, _, nk = _scores_shape(case)
    n_real = lengths(rng, b, nk)
    n_real[-1] = 0
    ask.matches(**case, mask=reference.padding_mask(n_real, nk))


def _deleting(ask, rng):
    case = draw.sequences(rng)
    seen = draw.visible(rng, 1, len(case["k"]))
    masked_case = {**case, "mask": np.repeat(seen, len(case["q"]), axis=0)}
    kept = {**case, "k": case["k"][seen[0]], "v": case["v"][seen[0]]}
    kept["mask"] = np.ones((len(kept["q"]), len(kept["k"])), dtype=bool)
    shape = (len(case["q"]), case["v"].shape[1])
    before, after = (insist(ask.call(**c), shape, c) for c in (masked_case, kept))
    unmoved(before, after, "with the hidden keys and their values deleted, the output changes", masked_case)


def _hidden_content(ask, rng):
    case = draw.sequences(rng)
    seen = draw.visible(rng, 1, len(case["k"]))
    case["mask"] = np.repeat(seen, len(case["q"]), axis=0)
    other = {**case, **{n: np.where(seen.T, case[n], 100 * normal(rng, *case[n].shape)) for n in ("k", "v")}}
    shape = (len(case["q"]), case["v"].shape[1])
    before, after = (insist(ask.call(**c), shape, c) for c in (case, other))
    unmoved(before, after, "with other numbers in the hidden places, the output changes", case)


def _alone(ask, rng):
    case = draw.sequences(rng, 2)
    nk = case["k"].shape[-2]
    case["mask"] = reference.padding_mask(lengths(rng, len(case["q"]), nk), nk)
    alone = {name: array[-1:] for name, array in case.items()}
    shape = (*case["q"].shape[:-1], case["v"].shape[-1])
    together = insist(ask.call(**case), shape, case)[-1:]
    by_itself = insist(ask.call(**alone), (1, *shape[1:]), alone)
    unmoved(together, by_itself, "alone, the last sentence of the batch gets another output than in company", alone)


def _stress(rng, rows, columns):
    """Draw scores 4,000 apart and a mask. Row 0 sees its lowest alone, far below 0.

    Even rows hide their highest; odd rows see theirs, lie far above 0, and each lies above the last.
    """
    order = rng.permuted(np.tile(np.arange(columns, dtype=float), (rows, 1)), axis=1)
    lowest, highest = order == 0, order == columns - 1
    row = np.arange(rows)[:, None]
    odd = row % 2 == 1
    some = draw.visible(rng, rows, columns)
    mask = np.where(odd, (some | highest) & ~lowest, (some | lowest) & ~highest)
    mask[0] = lowest[0]
    height = np.where(odd, (row + 1) / 2, 0.0)
    height[0] = -1
    scores = 4e3 * (order + columns * (height - 0.5))
    # Keys that are unit vectors hand a query's numbers on as scores.
    q, k = scores * np.sqrt(columns), np.eye(columns)
    return {"q": q, "k": k, "v": normal(rng, columns, rows + 1), "mask": mask}


def _large(ask, rng):
    rows, columns = sizes(rng, 2, low=4, high=7)
    ask.matches(**_stress(rng, rows, columns))
    ask.matches(**{n: a.astype(np.float32) if a.dtype == float else a for n, a in _stress(rng, columns, rows).items()})


def _input_kept(ask, rng):
    case = draw.sequences(rng)
    case["mask"] = draw.visible(rng, len(case["q"]), len(case["k"]))
    ask.matches(**dict(zip(case, read_only(*case.values()), strict=True)))


def _turned_over(ask, rng):
    b, n = sizes(rng, 2, high=7)
    ask.matches(mask=reference.padding_mask(lengths(rng, b, n), n))
    ask.matches(mask=draw.visible(rng, n, 1, 1, b))


def _turned_over_square(ask, rng):
    n = sizes(rng, 1, high=5)[0]
    ask.matches(mask=draw.visible(rng, n, 1, 1, n))
    ask.matches(mask=read_only(draw.visible(rng, 1, 1, 1, n))[0])


def _accepts_tight_ones(ask, rng):
    accused = [name for name, operator in leaks.TIGHT.items() if not ask.verdict(operator, rng)]
    if accused:
        raise Violation(f"it said False to one that does not leak: {accused[0]}")


def _catches(name, operator):
    def test(ask, rng):
        if ask.verdict(operator, rng):
            raise Violation(
                "your test said True to it: under which mask, and at which sizes, would it give itself away?"
            )

    return Property(f"catches: {name}", 1, test)


EXERCISES = {
    "padding_mask": Exercise(
        reference=reference.padding_mask,
        plain=masks.padding,
        observe=_as_mask,
        properties=(
            Property("right for sentences of different lengths", 2, _padding_rectangular),
            Property("right for as many sentences as keys", 1, _padding_square),
            Property("right for sentences that are empty or full", 1, _padding_edges),
        ),
        misconceptions=masks.PADDING,
        compositions=lambda: pairs(masks.padding, masks.PADDING_STAGES),
        alternatives=masks.PADDING_ALTERNATIVES,
    ),
    "causal_mask": Exercise(
        reference=reference.causal_mask,
        plain=masks.causal,
        observe=_as_mask,
        properties=(
            Property("right for several positions", 3, _causal_sizes),
            Property("right for a single one", 1, lambda ask, _: ask.matches(n=1)),
        ),
        misconceptions=masks.CAUSAL,
        compositions=lambda: pairs(masks.causal, masks.CAUSAL_STAGES),
        alternatives=masks.CAUSAL_ALTERNATIVES,
    ),
    "combine": Exercise(
        reference=combine.combine,
        plain=combine.combine,
        observe=_as_mask,
        properties=(
            Property("padding and causal together, in either order", 2, _combine_two),
            Property("one mask, or three", 2, _combine_many),
            Property("masks of different shapes", 1, _combine_broadcasts),
            Property("right without writing into a mask", 1, _combine_input_kept),
        ),
        misconceptions=combine.COMBINE,
        compositions=lambda: pairs(combine.combine, combine.COMBINE_STAGES),
        alternatives=combine.COMBINE_ALTERNATIVES,
    ),
    "masked_attention": Exercise(
        reference=reference.attention,
        plain=masked.attend,
        properties=(
            Property("the same input gives the same result", 1, _twice),
            Property("right values when Nq, Nk, Dk and Dv all differ", 3, _values),
            Property("right values when they are all equal", 1, _square),
            Property("masks for a batch with heads", 3, _batches),
            Property("hiding a key is as good as deleting it", 1, _deleting),
            Property("what stands in hidden places has no effect", 1, _hidden_content),
            Property("a sentence gets the same alone and in a batch", 1, _alone),
            Property("zeros for a query that may look at nothing", 2, _nothing_to_see),
            Property("large scores, hidden or seen", 2, _large),
            Property("right without writing into what was given", 1, _input_kept),
        ),
        misconceptions=masked.MISTAKES,
        compositions=lambda: pairs(masked.attend, masked.STAGES),
        alternatives=masked.ALTERNATIVES,
    ),
    "to_key_padding_mask": Exercise(
        reference=combine.key_padding,
        plain=combine.key_padding,
        observe=_as_mask,
        properties=(
            Property("turned over, and two axes fewer", 3, _turned_over),
            Property("right for as many sentences as keys, and for a single one", 1, _turned_over_square),
        ),
        misconceptions=combine.KEY_PADDING,
        compositions=lambda: pairs(combine.key_padding, combine.KEY_PADDING_STAGES),
        alternatives=combine.KEY_PADDING_ALTERNATIVES,
    ),
    "leak_test": Exercise(
        reference=leaks.tight,
        properties=(
            Property("accepts every operator that does not leak", 0, _accepts_tight_ones, gate=True),
            *(_catches(name, operator) for name, operator in leaks.LEAKY.items()),
        ),
        misconceptions=leaks.MISTAKES,
        alternatives=leaks.ALTERNATIVES,
    ),
}  # fmt: skip
