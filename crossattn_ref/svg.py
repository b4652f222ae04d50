"""SVG that lives in a page: the course's colours as variables of the theme, the page's own font, and words for it.

Lengths on paper are in points. A figure is at most WIDTH points (480 pixels) wide, unless it has too much to show.
"""

import hashlib
import html
import re
from dataclasses import dataclass
from xml.etree import ElementTree

# The colours of the light theme. They are what a figure is drawn with, and what stands where no page redefines them:
# in the page each is var(--ca-<role>, <colour>). All differ, so that a colour names its role.
COLOUR = {
    "query": "#0072B2",
    "key": "#D55E00",
    "value": "#009E73",
    "weights": "#3A1D6E",
    "masked": "#8C8C8C",
    "gold": "#010101",
    "ours": "#5A31A6",
    "other": "#767676",
    "limit": "#5E5E5E",
    "ink": "#020202",  # on a cell that is mostly page
    "paper": "#FEFEFE",  # on a cell that is mostly hue
}
TEXT_COLOUR = "#030303"  # in the page, the colour of the text around the figure
WIDTH = 360
_LONG_NUMBER = re.compile(r"\d+\.\d{3,}")
_SVG, _XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"


@dataclass(frozen=True)
class Picture:
    """A figure as HTML: the takeaway as caption, and an inline SVG that says in words what it shows."""

    title: str
    alt: str
    svg: str

    def _repr_html_(self) -> str:
        # The caption is the SVG's title once more, so a screen reader is spared it.
        return (
            '<figure class="ca-figure" style="margin: 1.5em 0"><figcaption aria-hidden="true" '
            f'style="font-weight: 600">{html.escape(self.title)}</figcaption>{self.svg}</figure>'
        )


def for_the_page(svg: str, *, title: str, alt: str) -> str:
    """Turn matplotlib's SVG into one that lives in a page: its colours and its font, words for it, names of its own."""
    for role, colour in COLOUR.items():
        svg = svg.replace(colour.lower(), f"var(--ca-{role}, {colour})")
    svg = re.sub(r"font-family: [^;\"]*", "font-family: inherit", svg.replace(TEXT_COLOUR, "currentColor"))
    name = "ca" + hashlib.sha256((title + alt + svg).encode()).hexdigest()[:10]
    root = ElementTree.fromstring(svg)  # noqa: S314 (matplotlib has just written it)
    root.remove(root.find(f"{{{_SVG}}}metadata"))
    root.remove(root.find(f"{{{_SVG}}}defs"))  # a style for every element of the page
    used = set(re.findall(r"#(\w+)", " ".join(value for node in root.iter() for value in node.attrib.values())))
    for node in root.iter():
        if (own := node.attrib.pop("id", None)) in used:
            node.set("id", f"{name}-{own}")
        if link := node.attrib.pop(f"{{{_XLINK}}}href", None):
            node.set("href", f"#{name}-{link[1:]}" if link.startswith("#") else link)  # pixels are in the link itself
        for key, value in node.attrib.items():
            short = value if key == "style" else _LONG_NUMBER.sub(lambda number: f"{float(number[0]):.2f}", value)
            node.set(key, short.replace("url(#", f"url(#{name}-"))
    _share_pixels(root, name)
    width = float(root.attrib.pop("width").removesuffix("pt"))
    del root.attrib["height"]
    root.set("role", "img")
    root.set("style", f"display: block; width: 100%; max-width: {width / 0.75:.0f}px; {_least(width)}height: auto")
    for place, (tag, text) in enumerate((("title", title), ("desc", alt))):
        node = ElementTree.Element(f"{{{_SVG}}}{tag}")
        node.text = text
        root.insert(place, node)
    ElementTree.register_namespace("", _SVG)
    return ElementTree.tostring(root, encoding="unicode")


def _share_pixels(root, name):
    """Write the pixels of a picture that is drawn several times once, and refer to them."""
    drawn = {}
    for node in root.iter(f"{{{_SVG}}}image"):
        drawn.setdefault(node.get("href"), []).append(node)
    for number, nodes in enumerate(several for several in drawn.values() if len(several) > 1):
        pixels = {key: value for key, value in nodes[0].items() if key != "transform"}
        once = ElementTree.SubElement(root, f"{{{_SVG}}}defs")
        ElementTree.SubElement(once, f"{{{_SVG}}}image", pixels | {"id": f"{name}-pixels{number}"})
        for node in nodes:
            places = {"href": f"#{name}-pixels{number}", "transform": node.get("transform")}
            node.tag, node.attrib = f"{{{_SVG}}}use", places


def _least(width):
    """A figure wider than the page of a telephone scrolls: its letters stay as large as those of any other."""
    return f"min-width: {width * 0.9:.0f}px; " if width > WIDTH + 10 else ""
