"""Pointing, mass and overlap: by hand, against loops over sets, properties, and errors."""

import numpy as np
import pytest

from crossattn_ref.data import captioning
from crossattn_ref.interpret import attention_iou, attention_mass, pointing_game, regions_of

B, NQ, NK = 3, 5, 7


def drawn(rng, shape=(B, NQ, NK)):
    """Draw maps, and regions of none, one or several patches."""
    weights = rng.dirichlet(np.full(shape[-1], 0.4), size=shape[:-1])
    return weights, rng.random(shape) < rng.choice([0.0, 0.2, 0.6], size=(*shape[:-1], 1))


def words_of(weights, regions):
    """List (row of weights as a dict, set of patches) of every word that names something, by plain loops."""
    rows = zip(weights.reshape(-1, weights.shape[-1]), regions.reshape(-1, regions.shape[-1]), strict=True)
    listed = [
        ({k: float(w) for k, w in enumerate(row)}, {k for k, inside in enumerate(region) if inside})
        for row, region in rows
    ]
    return [(row, region) for row, region in listed if region]


def test_four_words_are_worked_out_by_hand():
    weights = np.array([[0.6, 0.3, 0.1], [0.2, 0.45, 0.35], [0.1, 0.2, 0.7], [0.5, 0.1, 0.4]])
    regions = regions_of([0, 2, None, (0, 2)], 3)
    assert pointing_game(weights, regions) == pytest.approx(2 / 3)  # the second looks at 1; the third names nothing
    assert attention_mass(weights, regions) == pytest.approx((0.6 + 0.35 + 0.9) / 3)
    # Looked at with at least half of the largest: {0, 1}, {1, 2}, -, {0, 2}.
    assert attention_iou(weights, regions) == pytest.approx((1 / 2 + 1 / 2 + 1) / 3)
    assert attention_iou(weights, regions, threshold=1.0) == pytest.approx((1 + 0 + 1 / 2) / 3)


def test_the_game_equals_loops_over_words(rng):
    for _ in range(20):
        weights, regions = drawn(rng)
        words = words_of(weights, regions)
        pointed = [max(row, key=row.get) in region for row, region in words]
        mass = [sum(row[k] for k in region) for row, region in words]
        looked = [({k for k, w in row.items() if w >= 0.3 * max(row.values())}, region) for row, region in words]
        assert pointing_game(weights, regions) == pytest.approx(np.mean(pointed))
        assert attention_mass(weights, regions) == pytest.approx(np.mean(mass))
        overlap = [len(a & b) / len(a | b) for a, b in looked]
        assert attention_iou(weights, regions, threshold=0.3) == pytest.approx(np.mean(overlap))


@pytest.mark.parametrize("measure", [pointing_game, attention_mass, attention_iou])
def test_a_word_that_names_nothing_has_no_part(measure, rng):
    weights, regions = drawn(rng)
    regions[1, 2] = False
    before = measure(weights, regions)
    weights[1, 2] = rng.dirichlet(np.ones(NK))
    assert measure(weights, regions) == before
    assert measure(weights, np.zeros_like(regions)) == 0.0


@pytest.mark.parametrize("measure", [pointing_game, attention_mass, attention_iou])
def test_patches_and_words_may_be_permuted_and_axes_put_in_front(measure, rng):
    weights, regions = drawn(rng)
    patches, words = rng.permutation(NK), rng.permutation(NQ)
    turned = measure(weights[..., patches][:, words], regions[..., patches][:, words])
    assert turned == pytest.approx(measure(weights, regions))
    assert measure(weights[None], regions[None]) == measure(weights.reshape(-1, NK), regions.reshape(-1, NK))


@pytest.mark.parametrize("measure", [pointing_game, attention_mass, attention_iou])
def test_all_attention_on_what_is_named_gives_one_and_none_of_it_gives_zero(measure, rng):
    regions = np.eye(NK, dtype=bool)[rng.integers(NK, size=(B, NQ))]
    assert measure(regions.astype(float), regions) == 1.0
    assert measure((~regions) / (NK - 1), regions) == 0.0


def test_a_finger_may_point_right_where_most_of_the_attention_lies_elsewhere():
    weights = np.array([[0.2, *[0.8 / 15] * 15]])
    regions = regions_of([0], 16)
    assert pointing_game(weights, regions) == 1.0
    assert attention_mass(weights, regions) == pytest.approx(0.2)


def test_pointing_at_random_in_the_scenes_is_right_once_in_sixteen(rng):
    drawn = captioning.splits(rng, train=300, dev=0, test=0, held_out=0)["train"]
    regions = np.concatenate([regions_of(named, 16) for named in drawn.regions])
    assert regions.sum() == sum(named is not None for row in drawn.regions for named in row)
    share = pointing_game(rng.random(regions.shape), regions)
    assert abs(share - 1 / 16) < 4 * np.sqrt(1 / 16 * 15 / 16 / regions.any(axis=-1).sum())


def test_what_words_name_may_be_a_patch_several_or_nothing():
    regions = regions_of([2, None, frozenset({0, 4}), [1], ()], 5)
    assert regions.dtype == bool
    assert [row.nonzero()[0].tolist() for row in regions] == [[2], [], [0, 4], [1], []]


@pytest.mark.parametrize("measure", [pointing_game, attention_mass, attention_iou])
def test_what_does_not_fit_is_refused(measure, rng):
    weights, regions = drawn(rng)
    with pytest.raises(TypeError, match="regions must be boolean, True for what a word names, got dtype int64"):
        measure(weights, regions.astype(int))
    with pytest.raises(ValueError, match=r"weights \(3, 5, 7\) and regions \(3, 5, 6\) must have one shape"):
        measure(weights, regions[..., 1:])
    with pytest.raises(ValueError, match="must have one shape"):
        measure(weights[..., :0], regions[..., :0])


def test_a_threshold_or_a_patch_that_there_is_not_is_refused(rng):
    for threshold in (0.0, 1.01):
        with pytest.raises(ValueError, match="threshold must lie above 0 and not above 1"):
            attention_iou(*drawn(rng), threshold=threshold)
    for number in (5, -1):
        with pytest.raises(ValueError, match=f"named must hold numbers of patches from 0 to 4, got {number}"):
            regions_of([0, {1, number}], 5)
