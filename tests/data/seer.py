"""Someone who looks at a picture and answers questions, and has never seen how either is made.

Colours are told by hue, shapes by how much of their bounding box is covered, sizes by the height of the box; a question
is read as English. Nothing of crossattn_ref is used.
"""

import colorsys
import re

import numpy as np

HUES = {"red": 0, "yellow": 52, "green": 130, "cyan": 188, "blue": 229, "purple": 286}  # degrees
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
    hue = 360 * colorsys.rgb_to_hsv(*(heart / 255))[0]
    colour = min(HUES, key=lambda name: abs((hue - HUES[name] + 180) % 360 - 180))
    size = "large" if height > 8 else "small"
    filled = covered.sum() / (100 if size == "large" else 36)
    shape = min({"triangle": 0.5, "circle": np.pi / 4, "square": 1.0}.items(), key=lambda item: abs(filled - item[1]))[
        0
    ]
    return {"colour": colour, "shape": shape, "size": size}


def caption(things):
    said = [f"a {t['size']} {t['colour']} {t['shape']}" for t in sorted(things, key=lambda t: (t["column"], t["row"]))]
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
