import re
from xml.etree import ElementTree

import numpy as np
import pytest

from crossattn_ref import plot, svg

SVG = "{http://www.w3.org/2000/svg}"
ALT = 'Weights of "three" queries & five keys: <most> of them are small, and nothing stands out.'


def picture(seed=3, title="A & B < C"):
    weights = np.random.default_rng(seed).dirichlet(np.ones(5), size=3)
    return plot.weights(weights, mask=np.tri(3, 5, 3, dtype=bool), title=title, alt=ALT)


def parsed(picture):
    return ElementTree.fromstring(picture.svg)  # noqa: S314 (we have just drawn it)


def test_the_words_stand_in_the_svg_where_a_screen_reader_looks_for_them():
    root = parsed(picture())
    assert root.get("role") == "img"
    assert [(node.tag.removeprefix(SVG), node.text) for node in root[:2]] == [("title", "A & B < C"), ("desc", ALT)]


def test_the_caption_is_the_title_escaped():
    page = picture(title="<script>alert(1)</script>")._repr_html_()
    assert "<script>" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;</figcaption>" in page


def test_text_is_text_in_the_font_and_colour_of_the_page():
    root = parsed(picture())
    styles = [node.get("style") for node in root.iter(f"{SVG}text")]
    assert len(styles) > 20
    assert all("font-family: inherit" in style for style in styles)
    assert all("fill: currentColor" in style or "fill: var(--ca-" in style for style in styles)


def test_every_colour_is_a_variable_of_the_theme_with_the_light_one_to_fall_back_on():
    colours = re.findall(r"(?:fill|stroke): (?!none|url)([^;\"]+)", picture().svg)
    named = {f"var(--ca-{role}, {colour})" for role, colour in svg.COLOUR.items()}
    assert set(colours) - {"currentColor"} <= named
    assert len(set(colours)) >= 6


def test_a_colour_names_one_role():
    assert len({colour.lower() for colour in svg.COLOUR.values()} | {svg.TEXT_COLOUR}) == len(svg.COLOUR) + 1


def test_figures_on_one_page_share_no_id_and_every_reference_finds_its_target():
    pages = [picture(seed).svg for seed in (3, 5, 7)]
    ids = [set(re.findall(r'\bid="([^"]+)"', page)) for page in pages]
    for page, own in zip(pages, ids, strict=True):
        assert own
        assert own == set(re.findall(r'(?:url\(|href=")#([^")]+)', page))
    assert len(set.union(*ids)) == sum(map(len, ids))


def test_a_figure_is_as_wide_as_the_page_allows_and_never_has_a_fixed_height():
    root = parsed(picture())
    assert not {"width", "height"} & root.attrib.keys()
    assert re.fullmatch(r"display: block; width: 100%; max-width: \d+px; height: auto", root.get("style"))
    assert float(root.get("viewBox").split()[2]) <= svg.WIDTH + 5


def test_nothing_in_it_tells_when_or_with_what_it_was_drawn():
    assert not re.search(r"metadata|matplotlib|20\d\d-\d\d", picture().svg.lower())


@pytest.mark.parametrize("tag", ["style", "script", "image", "foreignObject"])
def test_it_holds_nothing_that_reaches_beyond_itself(tag):
    assert f"<{tag}" not in picture().svg
    assert not re.search(r'href="(?!#)', picture().svg)


def test_a_picture_drawn_several_times_is_written_once_and_others_stay_themselves():
    rng = np.random.default_rng(5)
    image, other = rng.random((2, 7, 5, 3))
    shown = plot.pictures([image, other, image], names=["one", "another", "one again"], title="Two of three", alt=ALT)
    links = [node.get("href") for node in parsed(shown).iter() if node.get("href")]
    assert sum(link.startswith("data:image/png") for link in links) == 2
    assert sum(link.startswith("#") for link in links) == 2
    assert {link[1:] for link in links if link.startswith("#")} <= set(re.findall(r'\bid="([^"]+)"', shown.svg))
