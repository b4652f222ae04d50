"""The colours of the style sheet: those of the figures, and legible on each other."""

import re

import numpy as np
import pytest

from crossattn_ref import plot, svg


@pytest.fixture(scope="module")
def sheet(root):
    return (root / "book" / "_static" / "course.css").read_text(encoding="utf-8")


def variables(sheet, selector):
    """{name: colour} of a rule, the prefixes of the names left out."""
    rules = re.findall(rf"^{re.escape(selector)} {{(.*?)^}}", sheet, re.DOTALL | re.MULTILINE)
    return dict(re.findall(r"--(?:ca|pst-color)-([\w-]+): (#\w{6});", "".join(rules)))


@pytest.fixture(params=["light", "dark"])
def colours(request, sheet):
    """Every colour of a theme. White is the page of the light one unless the style sheet says otherwise."""
    own = variables(sheet, f'html[data-theme="{request.param}"]')
    return {"background": "#ffffff"} | variables(sheet, "html") | own


def channels(colour):
    return np.array([int(colour[place : place + 2], 16) for place in (1, 3, 5)]) / 255


def mixed(below, above, strength):
    return strength * channels(above) + (1 - strength) * channels(below)


def contrast(first, second):
    """The ratio of two colours' luminances, as WCAG 2.2 defines it: 1 to 21."""
    linear = [np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4) for c in (first, second)]
    low, high = sorted(c @ [0.2126, 0.7152, 0.0722] for c in linear)
    return (high + 0.05) / (low + 0.05)


def test_a_figure_on_a_page_has_the_colours_that_it_has_anywhere(sheet):
    light = variables(sheet, "html")
    assert {role: light[role] for role in svg.COLOUR} == {role: hue.lower() for role, hue in svg.COLOUR.items()}


def test_the_dark_theme_has_every_colour_of_its_own(sheet):
    assert set(svg.COLOUR) <= variables(sheet, 'html[data-theme="dark"]').keys()


def test_black_on_white_has_the_contrast_that_the_standard_states():
    assert contrast(np.zeros(3), np.ones(3)) == pytest.approx(21)


@pytest.mark.parametrize("weight", np.linspace(0, 1, 101).round(2))
def test_the_number_of_a_weight_stands_out_from_its_cell(colours, weight):
    drawn = plot.weights(np.array([[weight]]), title="One weight", alt="One cell, filled as strongly as it weighs.")
    (number,) = re.findall(r"fill: var\(--ca-(ink|paper)", drawn.svg)
    cell = mixed(colours["background"], colours["weights"], weight)
    assert contrast(cell, channels(colours[number])) >= 4.5


@pytest.mark.parametrize("role", ["query", "key", "value", "other"])
def test_the_numbers_of_a_matrix_stand_out_from_its_fullest_cell(colours, role):
    panel = {"name": "m", "array": np.ones((1, 1)), "role": "plain" if role == "other" else role}
    drawn = plot.matrices([panel], title="One number", alt="One cell, as full as a cell of a matrix gets.")
    strength = float(re.search(rf"--ca-{role}[^;]*; fill-opacity: ([\d.]+)", drawn.svg)[1])
    cell = mixed(colours["background"], colours[role], strength)
    assert contrast(cell, channels(colours["ink"])) >= 4.5


@pytest.mark.parametrize("role", ["query", "key", "value", "weights", "masked", "gold", "ours", "other", "limit"])
def test_every_line_stands_out_from_the_page(colours, role):
    assert contrast(channels(colours["background"]), channels(colours[role])) >= 3


@pytest.mark.parametrize("behind", ["background", "quiet"])
@pytest.mark.parametrize("text", ["text-base", "text-muted", "link", "link-hover", "primary"])
def test_every_text_stands_out_from_what_is_behind_it(colours, text, behind):
    assert contrast(channels(colours[behind]), channels(colours[text])) >= 4.5
