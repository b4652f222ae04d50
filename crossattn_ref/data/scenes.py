"""Pictures of coloured shapes in a grid: what is in them, and how they are drawn.

A picture has 4 x 4 cells of 12 x 12 pixels, and a cell holds one object at most: the gold region of an object is
exactly one cell, and pointing at random is right once in 16.
"""

import colorsys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

GRID, CELL = 4, 12
SIDE = GRID * CELL
N_CELLS = GRID * GRID

COLOURS = {
    "red": (214, 40, 40),
    "yellow": (226, 200, 30),
    "green": (40, 160, 60),
    "cyan": (40, 180, 200),
    "blue": (45, 75, 215),
    "purple": (160, 60, 190),
}
SHAPES = ("circle", "square", "triangle")
SIZES = ("small", "large")
UNNAMED_HUES = (26, 90, 160, 208, 257, 322)  # degrees, midway between those of the named colours
BACKGROUND = (222, 222, 222)
_RADIUS = {"small": 3.0, "large": 5.0}  # pixels from the middle of an object to its edge
_FINE = 8  # samples along each side of a pixel

COMBINATIONS = tuple((colour, shape) for colour in COLOURS for shape in SHAPES)
HELD_OUT = (("red", "triangle"), ("blue", "circle"), ("yellow", "square"))
SEEN = tuple(pair for pair in COMBINATIONS if pair not in HELD_OUT)


@dataclass(frozen=True)
class Object:
    """One object: its colour, shape and size, and the row and column of its cell.

    An object of a colour that has no name is painted in paint; one of no shape is a speckle, drawn anew by its number.
    """

    colour: str
    shape: str
    size: str
    row: int
    column: int
    paint: tuple[int, int, int] | None = None
    speckle: int | None = None

    @property
    def cell(self) -> int:
        """The number of its cell, row by row: also the number of its patch."""
        return self.row * GRID + self.column


Scene = tuple[Object, ...]


def draw_scene(rng: np.random.Generator, *, combinations: Sequence[tuple[str, str]] = SEEN) -> Scene:
    """Draw 2 to 4 objects of the given colours and shapes, in cells of their own."""
    n = int(rng.integers(2, 5))
    cells = rng.choice(N_CELLS, n, replace=False)
    pairs = rng.integers(len(combinations), size=n)
    sizes = rng.integers(len(SIZES), size=n)
    return tuple(
        Object(*combinations[pair], SIZES[size], *divmod(int(cell), GRID))
        for cell, pair, size in zip(cells, pairs, sizes, strict=True)
    )


def draw_held_out(rng: np.random.Generator) -> Scene:
    """Draw a scene of which one object, at least, has a colour and shape that training never shows together."""
    scene = draw_scene(rng)
    changed = int(rng.integers(len(scene)))
    colour, shape = HELD_OUT[int(rng.integers(len(HELD_OUT)))]
    return (*scene[:changed], replace(scene[changed], colour=colour, shape=shape), *scene[changed + 1 :])


def mirrored(scene: Scene) -> Scene:
    """Swap left and right. What is said of the scene must be said anew: "left of" is no longer true."""
    return tuple(replace(thing, column=GRID - 1 - thing.column) for thing in scene)


def half_named(rng: np.random.Generator, scene: Scene, *, share: float = 0.5) -> Scene:
    """Take from a share of the objects, half and half, the name of their colour or any shape.

    In training every red thing has one of two shapes, so that red becomes evidence against the third. An unnamed colour
    shows a shape whatever the colour, a speckle a colour whatever the shape. Neither is named: the unnamed colours lie
    midway between the named ones, and a speckle lacks two in five of the dots of a square.
    """
    draws = rng.random(len(scene))
    return tuple(
        replace(thing, paint=_unnamed_colour(rng)) if draw < share / 2
        else replace(thing, speckle=int(rng.integers(2**32))) if draw < share
        else thing
        for thing, draw in zip(scene, draws, strict=True)
    )  # fmt: skip


def as_named(scene: Scene) -> Scene:
    """Write "" for a colour that has no name, and for the shape of a speckle: what no word is true of."""
    return tuple(
        replace(thing, colour="" if thing.paint else thing.colour, shape=thing.shape if thing.speckle is None else "")
        for thing in scene
    )


def holds_held_out(scene: Scene) -> bool:
    """Tell whether some object has a colour and shape that are held out together."""
    named = (thing for thing in scene if thing.paint is None and thing.speckle is None)
    return any((thing.colour, thing.shape) in HELD_OUT for thing in named)


def render(scenes: Iterable[Scene], rng: np.random.Generator | None = None) -> np.ndarray:
    """Draw scenes -> uint8 (B, 48, 48, 3). With an rng every picture has its own brightness, and every pixel noise."""
    images = _clean(scenes)
    if rng is None:
        return np.rint(images).astype(np.uint8)
    brightness = rng.uniform(0.8, 1.1, size=(len(images), 1, 1, 1)).astype(np.float32)
    noise = rng.standard_normal(images.shape, dtype=np.float32) * 5
    return np.rint(np.clip(images * brightness + noise, 0, 255)).astype(np.uint8)


def coverage(shape: Literal["circle", "square", "triangle"], size: Literal["small", "large"]) -> np.ndarray:
    """Compute which part of each pixel of a cell an object covers -> (12, 12) in [0, 1].

    The three shapes of a size are as high and as wide as each other: no single number tells them apart.
    """
    radius = _RADIUS[size]
    place = (np.arange(CELL * _FINE) + 0.5) / _FINE - CELL / 2  # of each sample, from the middle of the cell
    x, y = place[None, :], place[:, None]
    inside = {
        "circle": x**2 + y**2 <= radius**2,
        "square": np.maximum(abs(x), abs(y)) <= radius,
        "triangle": (abs(x) <= (y + radius) / 2) & (y <= radius),
    }[shape]
    return inside.reshape(CELL, _FINE, CELL, _FINE).mean(axis=(1, 3))


_COVERAGE = {(shape, size): coverage(shape, size)[..., None] for shape in SHAPES for size in SIZES}


def _clean(scenes):
    """Paint all objects of all scenes at once -> float32 (B, 48, 48, 3)."""
    scenes = tuple(scenes)
    images = np.empty((len(scenes), GRID, CELL, GRID, CELL, 3), dtype=np.float32)
    images[...] = BACKGROUND
    things = [(number, thing) for number, scene in enumerate(scenes) for thing in scene]
    if things:
        place = np.array([(number, thing.row, thing.column) for number, thing in things]).T
        covered = np.stack([_covered(thing) for _, thing in things]).astype(np.float32)  # (things, 12, 12, 1)
        paint = np.array([thing.paint or COLOURS[thing.colour] for _, thing in things], dtype=np.float32)
        paint -= np.array(BACKGROUND, dtype=np.float32)
        images[place[0], place[1], :, place[2]] += covered * paint[:, None, None]
    return images.reshape(-1, SIDE, SIDE, 3)


def _covered(thing):
    return _COVERAGE[thing.shape, thing.size] if thing.speckle is None else _speckled(thing)


def _unnamed_colour(rng):
    """Draw a colour between two named ones, or a grey darker than the background."""
    if rng.random() < 0.3:
        grey = int(rng.integers(25, 140))
        return grey, grey, grey
    hue = rng.choice(UNNAMED_HUES) + rng.uniform(-9, 9)
    red, green, blue = colorsys.hsv_to_rgb(hue / 360, rng.uniform(0.6, 0.9), rng.uniform(0.6, 0.95))
    return round(255 * red), round(255 * green), round(255 * blue)


def _speckled(thing):
    """Cover three in five of the dots, of 2 x 2 pixels, that make the square of the object's size: no shape."""
    n = int(_RADIUS[thing.size])
    draws = np.random.default_rng(thing.speckle).random((n, n))
    draws[0, 0] = draws[-1, -1] = 0  # two opposite corners always: as high and as wide as a shape of its size
    dots = draws <= np.sort(draws, axis=None)[3 * n * n // 5 - 1]
    return np.pad(np.kron(dots, np.ones((2, 2))), CELL // 2 - n)[..., None]
