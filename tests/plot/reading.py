"""Reading a figure back: its texts, where they stand, how strongly its marks are filled."""

import re
from xml.etree import ElementTree

SVG = "{http://www.w3.org/2000/svg}"
ALT = "Two queries look at three keys: the first mostly at the last key, the second evenly."
WORDS = {"title": "The first query has made up its mind", "alt": ALT}


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
