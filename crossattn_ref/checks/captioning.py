"""Exercises of the assignment "captioning": pictures as memories, blank pictures, and where words point.

Letters: B pictures in a batch, Y and X height and width, C channels, P side of a patch, R and K rows and columns of
patches, N = R K patches, D model width, Nq words, Nk patches of a map.
"""

import numpy as np

from crossattn_ref.checks.compare import Violation, number
from crossattn_ref.checks.draw import normal, read_only, sizes
from crossattn_ref.checks.exercise import Exercise, Property
from crossattn_ref.checks.variants import blank, patches, pointing


def _picture(rng, *, low=2):
    """Draw pictures of which every size is another -> images (B, R P, K P, C), P."""
    batch, size, rows, columns, channels = sizes(rng, 5, low=low, high=7)
    return normal(rng, batch, rows * size, columns * size, channels), size


def _patches_labelled(ask, _):
    images = 10.0 * np.arange(4)[:, None] + np.arange(6)
    ask.matches(images=images[None, :, :, None], size=2)


def _patches_drawn(ask, rng):
    for _ in range(2):
        images, size = _picture(rng)
        ask.matches(images=images, size=size)


def _patches_square(ask, rng):
    n = sizes(rng, 1, high=4)[0]
    ask.matches(images=normal(rng, n, n * n, n * n, n), size=n)


def _patches_extreme(ask, rng):
    batch, side, channels, other = sizes(rng, 4)
    ask.matches(images=normal(rng, batch, side, side, channels), size=side)
    ask.matches(images=normal(rng, batch, side, other, channels).astype(np.float32), size=1)


def _patches_kept(ask, rng):
    images, size = _picture(rng)
    ask.matches(images=read_only(images)[0], size=size)


def _memory_case(rng, *, square=False):
    batch, rows, columns, width, d = sizes(rng, 5, low=2, high=8)
    if square:
        rows = columns = batch
    return {
        "patches": normal(rng, batch, rows * columns, width), "weight": normal(rng, width, d), "bias": normal(rng, d),
        "rows": normal(rng, rows, d), "columns": normal(rng, columns, d),
    }  # fmt: skip


def _memory_values(ask, rng):
    for _ in range(2):
        ask.matches(**_memory_case(rng))


def _memory_square(ask, rng):
    ask.matches(**_memory_case(rng, square=True))


def _memory_kept(ask, rng):
    case = _memory_case(rng)
    ask.matches(**dict(zip(case, read_only(*case.values()), strict=True)))


def _same(value, exact, case):
    """Raise Violation unless a value is the one number wanted; an answer in float32 is as good."""
    given = number(value, case)
    if not 0 <= given <= 1:
        raise Violation(f"it returned {given:.4g}, where a share, from 0 to 1, is wanted", case)
    if abs(given - exact) > 1e-6:
        raise Violation("the share is wrong", case)


def _blank_case(rng, n=None):
    n_answers, height, width, length = sizes(rng, 4, high=6)
    n = int(rng.integers(31, 50)) if n is None else n
    tint = np.array([1.0, 0.6, 0.3]) * rng.random((n, 1, 1, 1))  # bright pictures and dark ones, none of them grey
    images = rng.beta(0.6, 0.9, size=(n, height, width, 3)) * tint
    return {
        "images": np.round(images, 2),
        "questions": rng.integers(blank.WORDS, size=(n, length)),
        "answers": rng.integers(n_answers, size=n),
    }, n_answers


def _blank(eyes, n=None, *, draws=2):
    def test(ask, rng):
        for _ in range(draws):
            case, n_answers = _blank_case(rng, n)
            model = blank.draw_model(rng, case["images"].shape[1:], n_answers, eyes=eyes)
            known = rng.random(len(case["answers"])) < 0.6  # of these questions the answer is what the model says
            blind = model(np.broadcast_to(case["images"].mean((0, 1, 2)), case["images"].shape), case["questions"])
            case["answers"] = np.where(known, blind.argmax(-1), case["answers"])
            _same(ask.hand_over(model, **case), blank.baseline(model, **case), case)

    return test


def _blank_extremes(ask, rng):
    case, n_answers = _blank_case(rng)
    model = blank.draw_model(rng, case["images"].shape[1:], n_answers, eyes="closed")
    said = model(case["images"], case["questions"]).argmax(-1)
    for answers, exact in ((said, 1.0), ((said + 1) % n_answers, 0.0)):
        _same(ask.hand_over(model, **{**case, "answers": answers}), exact, case)


def _blank_kept(ask, rng):
    case, n_answers = _blank_case(rng)
    model = blank.draw_model(rng, case["images"].shape[1:], n_answers, eyes="colour")
    locked = dict(zip(case, read_only(*case.values()), strict=True))
    _same(ask.hand_over(model, **locked), blank.baseline(model, **case), case)


def _maps(rng, **options):
    """Draw maps in which every word has one patch that it points at: of two equal ones, either would do."""
    while True:
        case = _maps_with_ties(rng, **options)
        if np.diff(np.sort(case["weights"], axis=-1)[..., -2:]).all():
            return case


def _maps_with_ties(rng, *, square=False, several=False):
    """Draw maps that point into their regions more often than not; some words name nothing, in every caption."""
    batch, n_words, n_patches = sizes(rng, 3, low=5, high=9)
    if square:
        batch = n_words = n_patches
    regions = np.zeros((batch, n_words, n_patches), bool)
    place = rng.integers(n_patches, size=(batch, n_words))
    np.put_along_axis(regions, place[..., None], True, axis=-1)
    if several:
        wider = rng.random((batch, n_words)) < 0.5
        np.put_along_axis(regions, (place + 1)[..., None] % n_patches, wider[..., None], axis=-1)
    weights = rng.random(regions.shape) + regions * rng.random((batch, n_words, 1)) * 1.2
    silent = rng.random((batch, n_words)) < np.linspace(0.1, 0.7, batch)[:, None]
    silent[:, 0], silent[:, -1] = False, True
    regions &= ~rng.permuted(silent, axis=1)[..., None]
    return {"weights": np.round(weights / weights.sum(-1, keepdims=True), 4), "regions": regions}


def _pointing(**options):
    def test(ask, rng):
        for _ in range(2):
            case = _maps(rng, **options)
            _same(ask.call(**case), pointing.play(**case), case)

    return test


def _pointing_by_hand(ask, _):
    weights = np.array([[[0.6, 0.3, 0.1], [0.2, 0.45, 0.35], [0.1, 0.2, 0.7], [0.4, 0.25, 0.35]]])
    regions = np.array([[[1, 0, 0], [0, 0, 1], [0, 0, 0], [1, 0, 1]]], bool)
    case = {"weights": weights, "regions": regions}
    _same(ask.call(**case), 2 / 3, case)


def _pointing_at_nothing(ask, rng):
    case = _maps(rng)
    case["regions"] = np.zeros_like(case["regions"])
    _same(ask.call(**case), 0.0, case)


def _pointing_extremes(ask, rng):
    case = _maps(rng)
    sure = np.where(case["regions"], 0.9, 0.1 / case["regions"].shape[-1])
    for weights, exact in ((sure, 1.0), (1 - sure, 0.0)):
        now = {**case, "weights": weights}
        _same(ask.call(**now), exact, now)


def _pointing_kept(ask, rng):
    case = _maps(rng, several=True)
    locked = dict(zip(case, read_only(*case.values()), strict=True))
    _same(ask.call(**locked), pointing.play(**case), case)


EXERCISES = {
    "patchify": Exercise(
        reference=patches.patchify,
        plain=patches.patchify,
        properties=(
            Property("right for one small picture", 1, _patches_labelled),
            Property("right when B, Y, X, P and C all differ", 3, _patches_drawn),
            Property("right when they are all alike", 1, _patches_square),
            Property("one patch alone, and patches of one pixel", 1, _patches_extreme),
            Property("right without writing into the pictures", 1, _patches_kept),
        ),
        misconceptions=patches.PATCHIFY,
        alternatives=patches.PATCHIFY_ALTERNATIVES,
    ),
    "encode": Exercise(
        reference=patches.encode,
        plain=patches.encode,
        properties=(
            Property("right values when every size is another", 3, _memory_values),
            Property("right values for as many pictures as rows and columns", 1, _memory_square),
            Property("right without writing into what was given", 1, _memory_kept),
        ),
        misconceptions=patches.ENCODE,
        compositions=patches.encode_composed,
        alternatives=patches.ENCODE_ALTERNATIVES,
    ),
    "blank_image_baseline": Exercise(
        reference=blank.baseline,
        wanted="number",
        properties=(
            Property("a model that never looks keeps all it has", 1, _blank("closed")),
            Property("a model that looks at colours", 2, _blank("colour", draws=3)),
            Property("a model that looks at every pixel", 2, _blank("pixels", draws=3)),
            Property("all answers right, and all wrong", 1, _blank_extremes),
            Property("a single question", 1, _blank("pixels", 1, draws=5)),
            Property("right without writing into the pictures", 1, _blank_kept),
        ),
        misconceptions=blank.MISTAKES,
        compositions=blank.composed,
        alternatives=blank.ALTERNATIVES,
    ),
    "pointing_game": Exercise(
        reference=pointing.play,
        wanted="number",
        properties=(
            Property("right for four words", 1, _pointing_by_hand),
            Property("right for regions of one patch", 2, _pointing()),
            Property("right for regions of several patches", 2, _pointing(several=True)),
            Property("right for as many captions as words and patches", 1, _pointing(square=True, several=True)),
            Property("all words right, and all wrong", 1, _pointing_extremes),
            Property("0 where no word names anything", 1, _pointing_at_nothing),
            Property("right without writing into what was given", 1, _pointing_kept),
        ),
        misconceptions=pointing.MISTAKES,
        compositions=pointing.composed,
        alternatives=pointing.ALTERNATIVES,
    ),
}  # fmt: skip
