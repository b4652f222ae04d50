import re

import numpy as np
import pytest

from crossattn_ref import plot
from tests.plot.reading import WORDS, place, strengths, texts


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
