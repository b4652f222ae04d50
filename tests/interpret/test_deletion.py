"""Painting over and watching: models whose answer is known in advance, properties, and errors."""

import numpy as np
import pytest

from crossattn_ref.interpret import area_under, delete_patches, deletion_curve

B, R, K, P, C = 5, 2, 3, 7, 3


def pictures(rng, n=B):
    return rng.random((n, R * P, K * P, C))


def in_patches(images):
    """Cut by slices -> {(row, column): (B, P, P, C)}."""
    return {(r, k): images[:, r * P : (r + 1) * P, k * P : (k + 1) * P] for r in range(R) for k in range(K)}


def test_a_painted_patch_is_one_colour_and_the_others_are_as_they_were(rng):
    images, gone = pictures(rng), rng.random((B, R, K)) < 0.4
    fill = np.array([0.1, 0.5, 0.9])
    before, after = in_patches(images), in_patches(delete_patches(images, gone, fill=fill))
    for (row, column), patches in after.items():
        for b, patch in enumerate(patches):
            expected = np.broadcast_to(fill, patch.shape) if gone[b, row, column] else before[row, column][b]
            assert np.array_equal(patch, expected)


def test_what_was_given_stays_as_it_was_and_the_dtype_is_kept(rng):
    images = rng.integers(256, size=(B, R * P, K * P, C), dtype=np.uint8)
    kept = images.copy()
    assert delete_patches(images, np.ones((B, R, K), bool), fill=7).dtype == np.uint8
    assert np.array_equal(images, kept)


def test_the_curve_of_a_model_that_adds_patches_up_is_a_sum_worked_out_by_hand(rng):
    """Each patch of ones is worth its weight, a blank one nothing: what is left is what has not gone."""
    worth = rng.dirichlet(np.ones(R * K)).reshape(R, K)

    def adds_up(images):
        return sum(worth[place] * patches.mean(axis=(1, 2, 3)) for place, patches in in_patches(images).items())

    whole = np.ones((R * P, K * P, C))
    largest_first = 1 - np.concatenate([[0], np.cumsum(np.sort(worth.ravel())[::-1])])
    assert deletion_curve(adds_up, whole, worth, fill=0.0) == pytest.approx(largest_first)
    smallest_first = 1 - np.concatenate([[0], np.cumsum(np.sort(worth.ravel()))])
    assert deletion_curve(adds_up, whole, -worth, fill=0.0) == pytest.approx(smallest_first)


def test_the_first_picture_is_whole_and_the_last_is_blank(rng):
    seen = []

    def watch(images):
        seen.append(images)
        return np.zeros(len(images))

    image = pictures(rng, 1)[0]
    deletion_curve(watch, image, rng.random((R, K)), fill=0.25)
    (images,) = seen
    assert len(images) == R * K + 1
    assert np.array_equal(images[0], image)
    assert np.all(images[-1] == 0.25)
    n_blank = [sum(np.all(patch == 0.25) for patch in in_patches(one[None]).values()) for one in images]
    assert n_blank == list(range(R * K + 1))


def test_of_equal_weights_the_first_goes_first():
    def top_left(images):
        return images[:, 0, 0, 0]

    assert deletion_curve(top_left, np.ones((R * P, K * P, C)), np.ones((R, K)), fill=0).tolist() == [1] + [0] * 6


def test_the_area_is_that_of_trapezoids_worked_out_by_hand():
    assert area_under([1.0, 0.5, 0.0]) == pytest.approx(0.5)
    assert area_under([1.0, 0.0, 0.0, 0.0]) == pytest.approx(1 / 6)
    assert area_under([0.8] * 17) == pytest.approx(0.8)


def test_deleting_what_matters_first_leaves_the_smallest_area_of_all_orders(rng):
    worth = rng.random((R, K))

    def adds_up(images):
        return sum(worth[place] * patches.mean(axis=(1, 2, 3)) for place, patches in in_patches(images).items())

    whole = np.ones((R * P, K * P, C))
    best = area_under(deletion_curve(adds_up, whole, worth, fill=0.0))
    others = [area_under(deletion_curve(adds_up, whole, rng.random((R, K)), fill=0.0)) for _ in range(20)]
    assert best <= min(others) + 1e-12


@pytest.mark.parametrize(
    ("images", "gone", "error", "message"),
    [
        (
            (2, 4, 6, 3),
            np.zeros((2, 2, 3)),
            TypeError,
            "gone must be boolean, True for what is painted over, got dtype",
        ),
        ((2, 4, 6, 3), np.zeros((1, 2, 3), bool), ValueError, r"images \(B, Y, X, C\) and gone \(B, R, K\) must fit"),
        ((4, 6, 3), np.zeros((2, 3), bool), ValueError, "must fit"),
        ((2, 5, 6, 3), np.zeros((2, 2, 3), bool), ValueError, "2 x 3 patches must fill a picture of 5 x 6 pixels"),
        ((2, 4, 7, 3), np.zeros((2, 2, 3), bool), ValueError, "2 x 3 patches must fill a picture of 4 x 7 pixels"),
        ((2, 4, 6, 3), np.zeros((2, 0, 3), bool), ValueError, "0 x 3 patches must fill a picture of 4 x 6 pixels"),
    ],
)
def test_patches_that_do_not_fit_are_refused(images, gone, error, message):
    with pytest.raises(error, match=message):
        delete_patches(np.zeros(images), gone, fill=0)


def test_an_order_a_score_or_a_curve_that_does_not_fit_is_refused(rng):
    image = pictures(rng, 1)[0]
    with pytest.raises(ValueError, match=r"image \(Y, X, C\) and order \(R, K\) must fit"):
        deletion_curve(lambda images: images[:, 0, 0, 0], image, rng.random(R * K), fill=0)
    with pytest.raises(ValueError, match=r"score must return one number for each of 7 pictures, got shape \(7, 3\)"):
        deletion_curve(lambda images: images[:, 0, 0], image, rng.random((R, K)), fill=0)
    with pytest.raises(ValueError, match="curve must hold at least two points"):
        area_under([1.0])
