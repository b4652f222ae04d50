"""Exercises of the assignment "bridges" that need NumPy alone: a gated layer, and masks that pair words and pictures.

Letters: B texts, Nq words, M images in a text, L latents of an image, Nk rows of media, D width of the text,
Dm width of the media, F inner width of the feed-forward.
"""

import numpy as np

from crossattn_ref.checks.compare import Violation, insist, unmoved
from crossattn_ref.checks.draw import normal, read_only, sizes, visible
from crossattn_ref.checks.exercise import Exercise, Property
from crossattn_ref.checks.variants import media


def _layer(rng, *, square=False):
    """Draw texts and media of which every size is another, or all counts alike and media as wide as the text."""
    B, Nq, Nk, D, Dm, F = sizes(rng, 6, high=9)
    if square:
        Nq = Nk = B
        Dm = F = D
    mask = visible(rng, B, Nq, Nk)
    mask[:, 0] = False  # a word before every picture
    return {
        "x": normal(rng, B, Nq, D), "memory": normal(rng, B, Nk, Dm), "mask": mask,
        "w_query": normal(rng, D, D, decimals=2) / 2, "w_key": normal(rng, Dm, D, decimals=2) / 2,
        "w_value": normal(rng, Dm, D, decimals=2), "w_inner": normal(rng, D, F, decimals=2),
        "w_outer": normal(rng, F, D, decimals=2), "gates": np.round(rng.choice([-1, 1], 2) * [0.4, 1.3], 2),
    }  # fmt: skip


def _gated_values(ask, rng):
    for turn in (1, -1):
        case = _layer(rng)
        ask.matches(**{**case, "gates": case["gates"][::turn].copy()})


def _gated_square(ask, rng):
    ask.matches(**_layer(rng, square=True))


def _gated_shut(ask, rng):
    case = {**_layer(rng), "gates": np.zeros(2)}
    out = insist(ask.call(**case), case["x"].shape, case)
    unmoved(case["x"], out, "with both gates at 0, x does not come out as it went in", case)


def _gated_one_open(ask, rng):
    for gates in ([0.7, 0.0], [0.0, -0.7]):
        ask.matches(**{**_layer(rng), "gates": np.array(gates)})


def _gated_wide(ask, rng):
    ask.matches(**{**_layer(rng), "gates": np.array([30.0, -30.0])})


def _gated_blind(ask, rng):
    """Show a word nothing: other pictures make no difference to it, and no number becomes NaN."""
    case = _layer(rng)
    other = {**case, "memory": normal(rng, *case["memory"].shape)}
    before, after = (insist(ask.call(**c), c["x"].shape, c)[:, 0] for c in (case, other))
    if not np.isfinite(before).all():
        raise Violation("a word that may look at nothing becomes NaN or inf", case)
    unmoved(before, after, "with other pictures, a word that may look at none of them changes", case)


def _gated_kept(ask, rng):
    case = _layer(rng)
    ask.matches(**dict(zip(case, read_only(*case.values()), strict=True)))


def _as_mask(_, value):
    """What counts in a mask: its dtype, beside what stands in it."""
    return np.asarray(value).dtype.name, value


def _texts(rng, B, Nq, n_images):
    """Draw where images stand: words before the first one, one after another, none at all."""
    is_image = np.zeros((B, Nq), bool)
    for row in is_image:
        n = int(rng.integers(1, n_images + 1))
        row[1 + rng.choice(Nq - 1, n, replace=False)] = True
    is_image[0, 1:] = False
    is_image[1] = np.arange(Nq) < n_images  # the first word is an image already, and the next ones, too
    return is_image


def _mask_by_hand(ask, _):
    ask.matches(is_image=np.array([[False, True, False, False, True, False]]), n_images=2, n_latents=3)


def _mask_drawn(ask, rng):
    for _ in range(2):
        n_images, n_latents, B = sizes(rng, 3, low=2, high=5)
        ask.matches(is_image=_texts(rng, B, 9, n_images), n_images=n_images, n_latents=n_latents)


def _mask_square(ask, rng):
    n = sizes(rng, 1, high=4)[0]
    ask.matches(is_image=_texts(rng, n * n, n * n, n), n_images=n, n_latents=n)


def _mask_no_image(ask, rng):
    B, Nq, n_latents = sizes(rng, 3)
    ask.matches(is_image=np.zeros((B, Nq), bool), n_images=2, n_latents=n_latents)


def _mask_fewer(ask, rng):
    """Leave places for images that a text does not have."""
    ask.matches(is_image=_texts(rng, 4, 8, 2), n_images=5, n_latents=1)


def _mask_kept(ask, rng):
    (is_image,) = read_only(_texts(rng, 3, 8, 2))
    ask.matches(is_image=is_image, n_images=2, n_latents=4)


EXERCISES = {
    "gated_layer": Exercise(
        reference=media.right,
        plain=media.gated,
        properties=(
            Property("right values when every size is another", 3, _gated_values),
            Property("right values when counts agree, and media are as wide as the text", 1, _gated_square),
            Property("gates at 0 leave the text as it is", 2, _gated_shut),
            Property("one gate shut, the other not", 1, _gated_one_open),
            Property("gates wide open", 1, _gated_wide),
            Property("a word that may look at nothing", 1, _gated_blind),
            Property("right without writing into what was given", 1, _gated_kept),
        ),
        misconceptions=media.GATED,
        compositions=media.gated_composed,
        alternatives=media.GATED_ALTERNATIVES,
    ),
    "media_mask": Exercise(
        reference=media.mask,
        plain=media.mask,
        observe=_as_mask,
        properties=(
            Property("right for one short text", 1, _mask_by_hand),
            Property("right for texts with several images", 3, _mask_drawn),
            Property("right when all counts agree", 1, _mask_square),
            Property("no image yet, and none at all", 1, _mask_no_image),
            Property("fewer images than places for them", 1, _mask_fewer),
            Property("right without writing into what was given", 1, _mask_kept),
        ),
        misconceptions=media.MASK,
        compositions=media.mask_composed,
        alternatives=media.MASK_ALTERNATIVES,
    ),
}
