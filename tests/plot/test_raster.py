"""Pictures on the page: their pixels read back with another library, their veils with arithmetic."""

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from crossattn_ref import plot
from tests.plot.reading import SVG, WORDS, parsed, place, strengths, texts

NW, R, K, CELL = 3, 2, 5, 7  # words, rows and columns of patches, side of a patch in pixels


def drawn(rng, n_words=NW, **changed):
    case = {
        "image": rng.integers(256, size=(R * CELL, K * CELL, 3), dtype=np.uint8),
        "weights": rng.dirichlet(np.ones(R * K), n_words).reshape(n_words, R, K),
        "words": [f"word {n}" for n in range(n_words)],
    } | changed
    return case, plot.looks(case.pop("image"), case.pop("weights"), **case, **WORDS)


def pixels(picture):
    """Every picture inside of a figure, as an array."""
    links = [node.get("href") for node in parsed(picture).iter(f"{SVG}image")]
    files = [io.BytesIO(base64.b64decode(link.partition("base64,")[2])) for link in links]
    return [np.asarray(Image.open(file).convert("RGB")) for file in files]


def boxes(picture, style):
    """The corners (left, top, right, bottom) of each path whose style matches."""
    found = []
    for node in parsed(picture).iter(f"{SVG}path"):
        if re.search(style, node.get("style", "")):
            x, y = np.array(re.findall(r"-?[\d.]+", node.get("d")), dtype=float).reshape(-1, 2).T
            found.append((x.min(), y.min(), x.max(), y.max()))
    return np.array(found)


def test_the_pixels_in_the_figure_are_those_of_the_picture(rng):
    image = rng.integers(256, size=(14, 35, 3), dtype=np.uint8)
    _, picture = drawn(rng, image=image)
    (kept,) = pixels(picture)  # once, however many words look at it
    assert np.array_equal(kept, image)
    assert len(re.findall(r"<use [^>]*pixels0", picture.svg)) == NW


def test_every_word_has_the_picture_upright_in_a_frame_of_its_own(rng):
    image = rng.integers(256, size=(R * CELL, K * CELL, 3), dtype=np.uint8)
    _, picture = drawn(rng, image=image, n_words=6)
    frames = boxes(picture, "fill: none.*stroke-width: 0.5")
    uses = [node.get("transform") for node in parsed(picture).iter(f"{SVG}use") if "pixels" in node.get("href")]
    assert len(uses) == len(frames) == 6
    for transform, (left, top, right, _) in zip(uses, frames, strict=True):
        across, _, _, down, x, y = (float(number) for number in re.findall(r"-?[\d.]+", transform))
        assert (x, y) == pytest.approx((left, top), abs=0.05)
        assert across == pytest.approx(down, abs=0.02)
        assert across * K * CELL == pytest.approx(right - left, abs=0.3)


def test_each_patch_is_veiled_as_far_as_the_word_does_not_look_at_it(rng):
    weights = rng.dirichlet(np.ones(R * K), NW)
    _, picture = drawn(rng, weights=weights.reshape(NW, R, K))
    veils = np.array(strengths(picture, "paper")).reshape(NW, R * K)
    assert veils == pytest.approx(0.92 * (1 - weights), abs=1e-5)


def test_a_patch_that_has_all_the_weight_is_clear_and_lies_where_it_lies_in_the_picture(rng):
    weights = np.zeros((1, R, K))
    weights[0, 1, 3] = 1.0
    _, picture = drawn(rng, n_words=1, weights=weights, words=["it"])
    left, top, right, bottom = boxes(picture, "fill: none.*stroke-width: 0.5")[0]
    width, height = (right - left) / K, (bottom - top) / R
    others = [(left + k * width, top + r * height) for r in range(R) for k in range(K) if (r, k) != (1, 3)]
    assert boxes(picture, r"fill: var\(--ca-paper")[:, :2] == pytest.approx(np.array(others), abs=0.05)


def test_the_largest_weight_stands_below_its_word(rng):
    weights = np.full((2, R, K), 0.01)
    weights[0, 0, 4], weights[1, 1, 1] = 0.73, 0.31
    _, picture = drawn(rng, n_words=2, weights=weights, words=["red", "square"])
    assert {"0.73", "0.31"} <= set(texts(picture))
    for word, number in (("red", "0.73"), ("square", "0.31")):
        (x, y), (other_x, below) = place(picture, word), place(picture, number)
        assert abs(x - other_x) < 15
        assert below > y + 8


def test_gold_patches_are_outlined_one_or_several_or_none(rng):
    _, picture = drawn(rng, gold=[7, None, {0, 9}])
    outlined = boxes(picture, r"stroke: var\(--ca-gold")
    frames = boxes(picture, r"fill: none.*stroke-width: 0.5")
    assert len(outlined) == 3
    for corners, (word, row, column) in zip(outlined, [(0, 1, 2), (2, 0, 0), (2, 1, 4)], strict=True):
        left, top, right, bottom = frames[word]
        width, height = (right - left) / K, (bottom - top) / R
        assert corners[:2] == pytest.approx([left + column * width, top + row * height], abs=0.05)
        assert corners[2:] - corners[:2] == pytest.approx([width, height], abs=0.05)


def test_many_words_go_on_in_the_next_line_and_the_figure_stays_narrow(rng):
    _, picture = drawn(rng, n_words=11)
    places = [place(picture, f"word {n}") for n in range(11)]
    assert len({round(y) for _, y in places}) == 3
    assert places[0][1] == pytest.approx(places[3][1], abs=0.1)
    assert places[4][1] > places[3][1] + 60
    assert float(re.search(r'viewBox="0 0 ([\d.]+)', picture.svg)[1]) <= plot.WIDTH + 10


def test_each_word_may_have_a_picture_of_its_own(rng):
    images = rng.integers(256, size=(NW, R * CELL, K * CELL, 3), dtype=np.uint8)
    _, picture = drawn(rng, image=images)
    assert np.array_equal(pixels(picture), images)


def test_pictures_stand_side_by_side_each_with_its_name(rng):
    images = rng.integers(256, size=(3, 5, 7, 3), dtype=np.uint8)
    picture = plot.pictures(images, names=["first", "second", "third"], **WORDS)
    assert np.array_equal(pixels(picture), images)
    places = [place(picture, name) for name in ("first", "second", "third")]
    assert min(np.diff([x for x, _ in places])) > 80


def test_floats_are_shares_of_the_full_brightness_and_one_channel_is_grey():
    images = np.array([0.0, 0.2, 1.0]).reshape(1, 1, 3, 1)
    (kept,) = pixels(plot.pictures(images, names=["grey"], **WORDS))
    assert kept.tolist() == [[[0, 0, 0], [51, 51, 51], [255, 255, 255]]]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            {"weights": np.ones((NW, R * K))},
            r"weights must have shape \(Nq, R, K\), one map for each word, got \(3, 10\)",
        ),
        ({"weights": np.full((NW, R, K), 1.5)}, r"weights must lie in \[0, 1\], got 1.5 to 1.5"),
        ({"weights": np.full((NW, R, K), np.nan)}, r"weights must lie in \[0, 1\], got nan to nan"),
        ({"words": ["one"]}, "words must hold one label for each of 3, got 1"),
        ({"gold": [1]}, "gold must name the patches of each of 3 words, got 1"),
        ({"gold": [1, None, 10]}, "gold must hold numbers of patches from 0 to 9, got 10"),
        ({"image": np.full((4, 5, 3), 1.5)}, r"a picture of float64 must lie in \[0, 1\], got 1.5 to 1.5"),
        ({"image": np.full((4, 5, 3), np.nan)}, r"a picture of float64 must lie in \[0, 1\], got nan to nan"),
        ({"image": np.ones((2, 4, 5, 3))}, "image must be one for all words, or one for each of 3, got 2"),
        ({"image": np.ones((4, 5))}, r"a picture must have shape \(Y, X, 1\) or \(Y, X, 3\), got \(4, 5\)"),
        ({"image": np.ones((4, 5, 4))}, r"a picture must have shape .* got \(4, 5, 4\)"),
    ],
)
def test_what_does_not_fit_together_is_refused(rng, wrong, message):
    with pytest.raises(ValueError, match=message):
        drawn(rng, **wrong)


def test_a_picture_keeps_its_proportions(rng):
    wide = plot.looks(rng.random((6, 12, 3)), np.full((1, R, K), 0.1), words=["it"], **WORDS)
    left, top, right, bottom = boxes(wide, "fill: none.*stroke-width: 0.5")[0]
    assert (right - left) / (bottom - top) == pytest.approx(2.0, abs=0.01)


def test_neither_the_picture_nor_the_weights_are_written_into(rng):
    image, weights = rng.random((R, K, 3)), np.full((NW, R, K), 0.1)
    kept = image.copy(), weights.copy()
    drawn(rng, image=image, weights=weights)
    assert np.array_equal(image, kept[0])
    assert np.array_equal(weights, kept[1])
