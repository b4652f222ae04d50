"""Pictures: every object looks like itself alone, in its own cell, and one who sees the pixels sees them all."""

import itertools

import numpy as np
import pytest

from crossattn_ref.data import scenes
from crossattn_ref.data.scenes import COMBINATIONS, HELD_OUT, SEEN, SIZES, Object, draw_held_out, draw_scene, render
from tests.data.seer import HUES, apart, hue_of, see


@pytest.fixture
def rng():
    return np.random.default_rng(17)


def plainly(scene):
    return sorted((thing.row, thing.column, thing.colour, thing.shape, thing.size) for thing in scene)


def seen(image):
    return sorted((t["row"], t["column"], t["colour"], t["shape"], t["size"]) for t in see(image))


def test_a_picture_of_one_square_is_worked_out_by_hand():
    image = render([(Object("red", "square", "small", 1, 2),)])[0]
    assert image.dtype == np.uint8
    inside = np.zeros((48, 48), bool)
    inside[12 + 3 : 12 + 9, 24 + 3 : 24 + 9] = True
    assert (image[inside] == scenes.COLOURS["red"]).all()
    assert (image[~inside] == scenes.BACKGROUND).all()


def test_all_attributes_together_give_36_pictures_that_differ_by_far(rng):
    kinds = list(itertools.product(COMBINATIONS, SIZES))
    images = render([(Object(*pair, size, 2, 1),) for pair, size in kinds]).astype(float)
    assert len(images) == 36
    for one, other in itertools.combinations(range(36), 2):
        distance = np.abs(images[one] - images[other]).sum() / 255
        assert distance > 2.5, (kinds[one], kinds[other])


def test_edges_are_smooth_and_cover_the_area_of_the_shape():
    for size, radius in (("small", 3.0), ("large", 5.0)):
        areas = {shape: scenes.coverage(shape, size).sum() for shape in scenes.SHAPES}
        assert areas["square"] == pytest.approx(4 * radius**2)
        assert areas["circle"] == pytest.approx(np.pi * radius**2, rel=0.01)
        assert areas["triangle"] == pytest.approx(2 * radius**2, rel=0.03)
    partly = scenes.coverage("circle", "large")
    assert ((partly > 0) & (partly < 1)).sum() > 15


def test_one_who_reads_the_pixels_sees_every_object_through_noise_and_dimmed_light(rng):
    drawn = [draw_scene(rng, combinations=COMBINATIONS) for _ in range(300)]
    images = render(drawn, rng)
    wrong = [number for number, scene in enumerate(drawn) if seen(images[number]) != plainly(scene)]
    assert wrong == []


def test_an_object_changes_the_pixels_of_its_own_cell_alone():
    empty = render([()])[0].astype(int)
    for cell, pair, size in itertools.product(range(16), COMBINATIONS[:3], SIZES):
        thing = Object(*pair, size, *divmod(cell, 4))
        changed = (render([(thing,)])[0].astype(int) != empty).any(-1)
        cells = {4 * (y // 12) + x // 12 for y, x in np.argwhere(changed)}
        assert cells == {thing.cell} == {cell}


def test_a_scene_has_two_to_four_objects_in_cells_of_their_own_and_all_that_is_allowed_occurs(rng):
    drawn = [draw_scene(rng) for _ in range(600)]
    assert {len(scene) for scene in drawn} == {2, 3, 4}
    assert all(len({thing.cell for thing in scene}) == len(scene) for scene in drawn)
    assert {(thing.colour, thing.shape) for scene in drawn for thing in scene} == set(SEEN)
    assert {thing.cell for scene in drawn for thing in scene} == set(range(16))
    assert len(SEEN) + len(HELD_OUT) == 18


def test_held_out_scenes_hold_a_held_out_object_and_mirrored_scenes_no_new_one(rng):
    assert all(scenes.holds_held_out(draw_held_out(rng)) for _ in range(50))
    for scene in (draw_scene(rng) for _ in range(50)):
        assert not scenes.holds_held_out(scene)
        assert not scenes.holds_held_out(scenes.mirrored(scene))


def test_a_mirrored_scene_is_the_mirrored_picture(rng):
    drawn = [draw_scene(rng) for _ in range(7)]
    np.testing.assert_array_equal(render(map(scenes.mirrored, drawn)), render(drawn)[:, :, ::-1])


def test_the_same_seed_draws_the_same_pictures():
    first, second = (render([draw_scene(rng)], rng) for rng in (np.random.default_rng(5), np.random.default_rng(5)))
    np.testing.assert_array_equal(first, second)


def test_half_named_objects_have_a_colour_between_the_named_ones_or_no_shape(rng):
    scene = (Object("red", "square", "large", 0, 0), Object("blue", "triangle", "small", 2, 3))
    kinds = set()
    for _ in range(60):
        loosened = scenes.half_named(rng, scene, share=1.0)
        image = render([loosened])[0].astype(float)
        for thing in loosened:
            cell = image[12 * thing.row : 12 * thing.row + 12, 12 * thing.column : 12 * thing.column + 12]
            covered = (cell != scenes.BACKGROUND).any(-1)
            if thing.paint:
                kinds.add("paint")
                nearest = min(np.abs(np.subtract(thing.paint, colour)).sum() for colour in scenes.COLOURS.values())
                assert nearest > 25
                assert (covered == (scenes.coverage(thing.shape, thing.size) > 0)).all()
            else:
                kinds.add("speckle")
                assert (cell[covered] == scenes.COLOURS[thing.colour]).all()
                assert covered.any(0).sum() <= 2 * {"small": 3, "large": 5}[thing.size]
    assert kinds == {"paint", "speckle"}


def test_tints_lie_midway_between_named_hues_and_keep_away_from_the_held_out_colour_of_their_shape(rng):
    """Within 9 degrees of midway, and 2 more because hues and colours are written in whole numbers."""
    scenes_drawn = (scenes.half_named(rng, draw_scene(rng), share=1.0) for _ in range(600))
    tints = [thing for scene in scenes_drawn for thing in scene if thing.paint and len(set(thing.paint)) > 1]
    ring = sorted(HUES.values())
    midway = [(one + other) / 2 for one, other in itertools.pairwise([*ring, 360 + ring[0]])]
    assert all(min(abs(hue_of(tint.paint) - middle) for middle in midway) <= 11 for tint in tints)
    for colour, shape in HELD_OUT:
        nearest = min(apart(hue_of(tint.paint), colour) for tint in tints if tint.shape == shape)
        half = min(apart(HUES[other], colour) for other in HUES if other != colour) / 2
        assert half - 11 <= nearest < half, (colour, shape)


@pytest.mark.parametrize("size", scenes.SIZES)
def test_a_speckle_is_as_high_and_wide_as_a_shape_and_far_from_each(size, rng):
    """Of the square that both lie in, a fifth at least looks otherwise."""
    numbers = rng.integers(2**32, size=3000).tolist()
    speckles = _inked([Object("red", "circle", size, 1, 1, speckle=number) for number in numbers])
    whole = _inked([Object("red", "square", size, 1, 1)])[0] > 0
    side = whole.any(axis=0)  # of the square, along which a dot may be missing, but for the first and the last
    for across in (speckles.any(axis=1), speckles.any(axis=2)):
        assert across[:, side][:, [0, -1]].all()
        assert not across[:, ~side].any()
    assert len(np.unique(speckles, axis=0)) >= 35
    for shape in scenes.SHAPES:
        differs = np.abs(speckles - _inked([Object("red", shape, size, 1, 1)])).sum(axis=(1, 2))
        assert differs.min() > 0.2 * whole.sum(), shape


def _inked(things):
    """How much of the background's blue each pixel of the middle cells has lost, at most 1: (B, 12, 12)."""
    lost = scenes.BACKGROUND[2] - render([(thing,) for thing in things])[:, 12:24, 12:24, 2].astype(float)
    return lost / (scenes.BACKGROUND[2] - scenes.COLOURS["red"][2])


def test_one_who_reads_the_pixels_sees_that_unnamed_colours_and_speckles_have_no_name(rng):
    drawn = [scenes.half_named(rng, draw_scene(rng), share=0.6) for _ in range(150)]
    for scene, image in zip(drawn, render(drawn, rng), strict=True):
        assert seen(image) == plainly(scenes.as_named(scene))
        assert not {(t["colour"], t["shape"]) for t in see(image)} & set(HELD_OUT)


def test_half_named_scenes_never_hold_a_held_out_pair_and_a_share_of_none_changes_nothing(rng):
    drawn = [draw_scene(rng) for _ in range(200)]
    assert [scenes.half_named(rng, scene, share=0.0) for scene in drawn] == drawn
    for scene in drawn:
        loosened = scenes.half_named(rng, scene, share=1.0)
        assert not scenes.holds_held_out(loosened)
        assert all((thing.colour, thing.shape) in SEEN for thing in loosened)


def test_what_has_no_name_is_written_as_no_word():
    painted = scenes.Object("red", "circle", "small", 0, 1, paint=(9, 9, 9))
    speckle = scenes.Object("green", "square", "large", 2, 3, speckle=5)
    whole = scenes.Object("cyan", "square", "large", 3, 3)
    named = scenes.as_named((painted, speckle, whole))
    assert [(thing.colour, thing.shape) for thing in named] == [("", "circle"), ("green", ""), ("cyan", "square")]
    assert [thing.cell for thing in named] == [1, 11, 15]
