"""Someone who looks at a picture and answers questions, and has never seen how either is made.

Colours are told by hue, sizes by height, shapes by laying them over what is there; a question is read as English. What
comes near no colour, or near no shape, has none: "". Nothing of crossattn_ref is used.
"""

import colorsys
import re
from functools import cache

import numpy as np

HUES = {"red": 0, "yellow": 52, "green": 130, "cyan": 188, "blue": 229, "purple": 286}  # degrees
NEAR, COLOURFUL = 6, 0.45  # degrees from the hue of a name, and the least saturation of what has one
ALIKE = 0.08  # of its bounding box: what a thing may differ by from a shape
WORDS = {"circle", "square", "triangle", "small", "large", *HUES}


def see(image):
    """List what is in a picture of 48 x 48 pixels, each thing as a dict."""
    pixels = image.astype(float)
    background = np.median(pixels.reshape(-1, 3), axis=0)
    found = []
    for row in range(4):
        for column in range(4):
            cell = pixels[12 * row : 12 * row + 12, 12 * column : 12 * column + 12]
            distance = np.abs(cell - background).sum(-1)
            if np.sort(distance.ravel())[-9:].mean() > 90:
                found.append({"row": row, "column": column, **_look_closely(cell, background)})
    return found


def _look_closely(cell, background):
    distance = np.abs(cell - background).sum(-1)
    heart = cell[distance >= np.quantile(distance, 0.93)].mean(axis=0)
    along = heart - background
    covered = np.clip((cell - background) @ along / (along @ along), 0, 1.0)
    covered[covered < 0.12] = 0
    height = 2 * np.abs(np.arange(12) - 5.5)[covered.max(axis=1) > 0.3].max() + 1
    size = "large" if height > 8 else "small"
    return {"colour": _colour(heart), "shape": _shape(covered, size), "size": size}


def hue_of(colour):
    """Tell the hue of a colour of 0 to 255, in degrees."""
    return 360 * colorsys.rgb_to_hsv(*(np.asarray(colour) / 255))[0]


def apart(hue, name):
    """Tell how many degrees of hue lie between a hue and a name's."""
    return abs((hue - HUES[name] + 180) % 360 - 180)


def _colour(heart):
    if colorsys.rgb_to_hsv(*(heart / 255))[1] < COLOURFUL:
        return ""
    nearest = min(HUES, key=lambda name: apart(hue_of(heart), name))
    return nearest if apart(hue_of(heart), nearest) < NEAR else ""


def _shape(covered, size):
    off = {name: np.abs(whole - covered).mean() * 144 / _box(size) ** 2 for name, whole in _whole(size).items()}
    nearest = min(off, key=off.get)
    return nearest if off[nearest] < ALIKE else ""


def _box(size):
    return 10 if size == "large" else 6


@cache
def _whole(size):
    """Say which part of each of 12 x 12 pixels a shape of a size covers."""
    edge = _box(size) / 2
    x = (np.arange(12 * 10) + 0.5) / 10 - 6
    y = x[:, None]
    inside = {
        "triangle": (np.abs(x) < (y + edge) / 2) & (y < edge),
        "circle": x**2 + y**2 < edge**2,
        "square": np.maximum(np.abs(x), np.abs(y)) < edge,
    }
    return {name: fine.reshape(12, 10, 12, 10).mean(axis=(1, 3)) for name, fine in inside.items()}


def caption(things):
    ordered = sorted(things, key=lambda t: (t["column"], t["row"]))
    said = [" ".join(word for word in ("a", t["size"], t["colour"], t["shape"]) if word) for t in ordered]
    return " , ".join(said[:-1]) + " and " + said[-1]


def _meant(phrase, things):
    wanted = {word.removesuffix("s") for word in phrase.split()} & WORDS
    return [t for t in things if wanted <= {t["colour"], t["shape"], t["size"]}]


def _only(phrase, things):
    (thing,) = _meant(phrase, things)
    return thing


AXES = {"left of": ("column", -1), "right of": ("column", 1), "above": ("row", -1), "below": ("row", 1)}
SIDE = "|".join(AXES)


def _is(side, thing, other):
    axis, sign = AXES[side]
    return sign * (thing[axis] - other[axis]) > 0


def answer(question, things):
    """Answer a question about things that were seen."""
    if m := re.fullmatch(rf"what (\w+) is the thing ({SIDE}) the (.*) \?", question):
        (thing,) = [t for t in things if _is(m[2], t, _only(m[3], things))]
        return thing[m[1]]
    if m := re.fullmatch(r"what (\w+) is the (.*) \?", question):
        return _only(m[2], things)[m[1]]
    if m := re.fullmatch(r"is there a (.*) \?", question):
        return "yes" if _meant(m[1], things) else "no"
    if m := re.fullmatch(r"how many (.*) are there \?", question):
        return str(len(_meant(m[1], things)))
    if m := re.fullmatch(r"are there more (.*) than (.*) \?", question):
        return "yes" if len(_meant(m[1], things)) > len(_meant(m[2], things)) else "no"
    m = re.fullmatch(rf"is the (.*) ({SIDE}) the (.*) \?", question)
    return "yes" if _is(m[2], _only(m[1], things), _only(m[3], things)) else "no"
