import re
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.figure import Figure

from crossattn_ref import plot

SVG = "{http://www.w3.org/2000/svg}"
ALT = "Two queries look at three keys: the first mostly at the last key, the second evenly."
WORDS = {"title": "The first query has made up its mind", "alt": ALT}


def weights_for(rng, n_queries, n_keys):
    weights = rng.random((n_queries, n_keys))
    return weights / weights.sum(axis=-1, keepdims=True)


def picture_of_each_kind(rng):
    x = np.array([2.0, 3.0, 5.0, 7.0])
    return {
        "weights": plot.weights(weights_for(rng, 3, 5), gold=[(0, 1)], mask=np.tri(3, 5, 2, dtype=bool), **WORDS),
        "curves": plot.curves(x, {"looks": rng.random((3, 4)), "packs": x / 7}, xlabel="n", ylabel="share", **WORDS),
        "bars": plot.bars({"looks": rng.random(3), "packs": 0.25}, xlabel="model", ylabel="share", **WORDS),
        "matrices": plot.matrices(
            [
                {"name": "q", "array": rng.normal(size=(3, 2)), "role": "query"},
                {"name": "scores", "array": rng.normal(size=(3, 11)), "role": "plain"},
            ],
            **WORDS,
        ),
    }


@pytest.fixture
def rng():
    return np.random.default_rng(20)


def parsed(picture):
    return ElementTree.fromstring(picture.svg)  # noqa: S314 (we have just drawn it)


def texts(picture):
    return ["".join(node.itertext()).strip() for node in parsed(picture).iter(f"{SVG}text")]


def place(picture, text):
    """Where a text that occurs once stands: (x, y), y downwards."""
    (node,) = [node for node in parsed(picture).iter(f"{SVG}text") if node.text == text]
    numbers = re.findall(r"-?[\d.]+", node.get("transform", "")) or [node.get("x"), node.get("y")]
    if node.get("transform", "").startswith("rotate"):
        numbers = numbers[1:]
    return float(numbers[0]), float(numbers[1])


def strengths(picture, role):
    """How strongly each mark in the colour of a role is filled, in drawing order."""
    styles = [node.get("style", "") for node in parsed(picture).iter()]
    filled = [style for style in styles if re.search(rf"fill: var\(--ca-{role},", style)]
    return [float(m[1]) if (m := re.search(r"fill-opacity: ([\d.]+)", style)) else 1.0 for style in filled]


def test_a_weight_is_printed_and_is_how_strongly_its_cell_is_filled():
    picture = plot.weights(np.array([[0.25, 0.75]]), **WORDS)
    assert [text for text in texts(picture) if "." in text] == ["0.25", "0.75"]
    assert strengths(picture, "weights")[:2] == [0.25, 0.75]


def test_queries_are_rows_from_top_to_bottom_and_keys_are_columns_from_left_to_right(rng):
    queries, keys = ["ein", "zwei", "drei"], ["un", "deux", "trois", "quatre", "cinq"]
    picture = plot.weights(weights_for(rng, 3, 5), queries=queries, keys=keys, **WORDS)
    heights = [place(picture, query)[1] for query in queries]
    sides = [place(picture, key)[0] for key in keys]
    assert min(np.diff(heights)) > 10
    assert min(np.diff(sides)) > 10


def test_a_masked_place_is_hatched_and_carries_no_number(rng):
    mask = rng.permuted(np.arange(15) < 11).reshape(3, 5)
    picture = plot.weights(np.where(mask, 0.125, 0.0), mask=mask, **WORDS)
    assert sum("url(#" in node.get("style", "") for node in parsed(picture).iter()) == 4
    assert texts(picture).count("0.12") == 11
    assert "0.00" not in texts(picture)


def test_gold_may_be_pairs_or_a_boolean_matrix(rng):
    weights, gold = weights_for(rng, 3, 5), rng.random((3, 5)) < 0.5
    pairs = {(int(query), int(key)) for query, key in np.argwhere(gold)}
    by_pairs = plot.weights(weights, gold=pairs, **WORDS)
    assert by_pairs == plot.weights(weights, gold=gold, **WORDS)
    assert by_pairs.svg.count("stroke: var(--ca-gold") == len(pairs)


def test_a_map_too_fine_for_numbers_has_none_and_keeps_its_labels_apart(rng):
    picture = plot.weights(weights_for(rng, 3, 41), **WORDS)
    assert not [text for text in texts(picture) if "." in text]
    sides = [place(picture, str(key))[0] for key in range(3, 41)]
    assert min(np.diff(sides)) > 10
    assert "min-width" in picture.svg


def test_a_line_over_seeds_is_their_median_in_the_band_of_their_range():
    x, seeds = np.array([2.0, 3.0, 5.0]), np.array([[0.0, 1.0, 0.0], [10.0, 10.0, 10.0], [2.0, 3.0, 4.0]])
    labels = {"xlabel": "n", "ylabel": "share", "ylim": (0.0, 10.0)}
    band = plot.curves(x, {"looks": seeds}, **labels, **WORDS)
    middle = plot.curves(x, {"looks": np.array([2.0, 3.0, 4.0])}, **labels, **WORDS)
    drawn = [re.findall(r'd="(M[^"]+)" clip-path', picture.svg) for picture in (band, middle)]
    assert drawn[0] == drawn[1]
    assert len(drawn[0]) == 1
    assert strengths(band, "ours")[0] == 0.2
    assert 0.2 not in strengths(middle, "ours")


def test_lines_that_end_together_keep_their_names_apart(rng):
    lines = {name: np.array([place, 1.0]) for place, name in enumerate(["one", "two", "three", "four"])}
    picture = plot.curves([0.0, 1.0], lines, xlabel="n", ylabel="share", **WORDS)
    heights = sorted(place(picture, name)[1] for name in lines)
    assert min(np.diff(heights)) > 11


def test_ours_is_solid_others_are_thin_and_the_limit_is_dashed():
    lines = {"looks": [0.0, 1.0], "packs": [1.0, 0.0], "bound": [1.0, 1.0]}
    picture = plot.curves([0.0, 1.0], lines, xlabel="n", ylabel="share", styles={"bound": "limit"}, **WORDS)
    line = r'clip-path="[^"]*" style="(fill: none;[^"]* stroke: var\(--ca-{role}[^"]*)"'
    stroke = {role: re.search(line.format(role=role), picture.svg)[1] for role in ("ours", "other", "limit")}
    width = {role: float(re.search(r"stroke-width: ([\d.]+)", style)[1]) for role, style in stroke.items()}
    assert width["ours"] > 1.5 * width["other"]
    assert "dasharray" in stroke["limit"]
    assert "dasharray" not in stroke["ours"] + stroke["other"]


def test_a_logarithmic_axis_shows_the_places_that_were_measured():
    picture = plot.curves([4, 16, 64], {"looks": [1, 2, 3]}, xlabel="n", ylabel="share", logx=True, **WORDS)
    places = [place(picture, n)[0] for n in ("4", "16", "64")]
    assert np.diff(places)[0] == pytest.approx(np.diff(places)[1], abs=0.1)


def test_a_bar_carries_the_median_of_its_seeds_and_every_seed_as_a_ring():
    picture = plot.bars({"looks": [1.0, 41.0, 7.0], "packs": 13.0}, xlabel="model", ylabel="share", **WORDS)
    assert {"7", "13", "looks", "packs"} <= set(texts(picture))
    assert len(re.findall(r"<[^>]*use[^>]*fill: var\(--ca-paper", picture.svg)) == 3


def test_a_matrix_stands_under_its_name_and_over_its_shape_in_the_colour_of_its_role():
    array = np.array([[0.5, -1.0, 0.75], [1.0, 0.25, 0.125]])
    picture = plot.matrices([{"name": "memory", "array": array, "role": "key"}], **WORDS)
    assert {"memory", "2 \N{MULTIPLICATION SIGN} 3", "\N{MINUS SIGN}1.00", "0.25"} <= set(texts(picture))
    drawn = np.array(strengths(picture, "key"))
    assert drawn / drawn.max() == pytest.approx([0.5, 1.0, 0.75, 1.0, 0.25, 0.125], abs=0.01)


def test_matrices_that_do_not_fit_side_by_side_stand_below_each_other():
    panels = [{"name": name, "array": np.ones((3, 11)), "role": "value"} for name in ("one", "two", "three")]
    picture = plot.matrices(panels, **WORDS)
    (_, one), (_, two), (_, three) = (place(picture, name) for name in ("one", "two", "three"))
    assert one == two < three


def test_a_figure_of_ones_own_becomes_a_picture_and_its_title_the_caption():
    with plot.style():
        figure, axes = pyplot.subplots()
        axes.plot([1, 2], [2, 1], color=plot.COLOUR["query"])
        axes.set_title("It falls")
        picture = plot.picture(figure, alt=ALT)
    assert picture.title == "It falls"
    assert "It falls" not in texts(picture)
    assert "var(--ca-query, #0072B2)" in picture.svg
    assert pyplot.get_fignums() == []


def test_axes_placed_by_hand_stay_where_they_are():
    with plot.style():
        figure = Figure()
        for left in (0.0, 0.75):
            figure.add_axes((left, 0, 0.25, 1)).text(0, 0, f"at {left}")
        picture = plot.picture(figure, title="Two of them", alt=ALT)
    assert place(picture, "at 0.75")[0] - place(picture, "at 0.0")[0] == pytest.approx(0.75 * 360, abs=0.1)


def test_the_style_of_the_course_ends_with_its_block():
    before = dict(matplotlib.rcParams)
    with plot.style():
        assert matplotlib.rcParams["svg.fonttype"] == "none"
    assert dict(matplotlib.rcParams) == before


def test_the_same_data_give_the_same_bytes():
    first, second = (picture_of_each_kind(np.random.default_rng(5)) for _ in range(2))
    assert first == second
    assert first != picture_of_each_kind(np.random.default_rng(7))


@pytest.mark.parametrize("alt", ["", "   ", None, "A figure.", "x" * 29, "a" + " " * 40])
def test_a_figure_without_words_is_refused(alt):
    with pytest.raises(ValueError, match="alt must say what one sees and what it means"):
        plot.weights(np.array([[1.0]]), title="All of it", alt=alt)


@pytest.mark.parametrize("title", ["", None])
def test_a_figure_without_a_takeaway_is_refused(title):
    with pytest.raises(ValueError, match="title must say what the figure shows"):
        plot.bars({"looks": 1.0}, xlabel="model", ylabel="share", title=title, alt=ALT)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"weights": np.ones(3)}, r"weights must be a matrix of finite numbers, got shape \(3,\)"),
        ({"weights": np.array([[np.nan]])}, "weights must be a matrix of finite numbers"),
        ({"weights": np.array([[1.5, -0.5]])}, r"weights must lie in \[0, 1\], got -0.5 to 1.5"),
        ({"queries": ["one"]}, "queries must hold one label for each of 3, got 1"),
        ({"mask": np.ones((3, 5))}, r"mask must be boolean of shape \(3, 5\), got dtype float64"),
        ({"mask": np.ones((5, 3), bool)}, r"mask must be boolean of shape \(3, 5\), got dtype bool and shape \(5, 3\)"),
        ({"gold": [(4, 1)]}, r"gold must hold pairs \(query, key\) within \(3, 5\), got \(4, 1\)"),
    ],
)
def test_a_map_that_does_not_fit_together_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        plot.weights(**({"weights": np.full((3, 5), 0.2)} | wrong | WORDS))


@pytest.mark.parametrize(
    ("lines", "styles", "message"),
    [
        ({"looks": [1.0, 2.0]}, None, r"line 'looks' must have shape \(n,\) or \(seeds, n\) with n = 3, got \(2,\)"),
        ({"looks": [1.0, 2.0, 3.0]}, {"looks": "bold"}, "the style of 'looks' must be one of query, key"),
    ],
)
def test_lines_that_do_not_fit_together_are_refused(lines, styles, message):
    with pytest.raises(ValueError, match=message):
        plot.curves([1, 2, 3], lines, xlabel="n", ylabel="share", styles=styles, **WORDS)


def test_a_panel_of_an_unknown_role_and_bars_of_nothing_are_refused():
    with pytest.raises(ValueError, match="the role of q must be query, key, value, weights or plain, got 'blue'"):
        plot.matrices([{"name": "q", "array": np.ones((2, 3)), "role": "blue"}], **WORDS)
    with pytest.raises(ValueError, match="values must hold at least one bar"):
        plot.bars({}, xlabel="model", ylabel="share", **WORDS)
