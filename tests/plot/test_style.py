import matplotlib
import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.figure import Figure

from crossattn_ref import plot
from tests.plot.reading import ALT, WORDS, place, texts


def picture_of_each_kind(rng):
    x = np.array([2.0, 3.0, 5.0, 7.0])
    return {
        "weights": plot.weights(rng.dirichlet(np.ones(5), 3), gold=[(0, 1)], mask=np.tri(3, 5, 2, dtype=bool), **WORDS),
        "curves": plot.curves(x, {"looks": rng.random((3, 4)), "packs": x / 7}, xlabel="n", ylabel="share", **WORDS),
        "bars": plot.bars({"looks": rng.random(3), "packs": 0.25}, xlabel="model", ylabel="share", **WORDS),
        "matrices": plot.matrices(
            [
                {"name": "q", "array": rng.normal(size=(3, 2)), "role": "query"},
                {"name": "scores", "array": rng.normal(size=(3, 11)), "role": "plain"},
            ],
            **WORDS,
        ),
        "pictures": plot.pictures(rng.random((2, 5, 7, 3)), names=["one", "two"], **WORDS),
        "looks": plot.looks(
            rng.random((10, 6, 3)),
            rng.dirichlet(np.ones(10), 2).reshape(2, 5, 2),
            words=["a", "b"],
            gold=[3, None],
            **WORDS,
        ),
    }


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
