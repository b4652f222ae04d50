"""Scenes and what one says of them: captions in which every content word has one gold region.

"a small red circle , a large blue square and a small green triangle": objects from left to right, and from top to
bottom within a column. Size, colour and shape of an object all name the cell in which it lies.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from crossattn_ref.data.scenes import COLOURS, SHAPES, SIZES, Scene, draw_held_out, draw_scene, half_named, render
from crossattn_ref.data.words import PAD, Vocabulary

Words = tuple[str, ...]
Regions = tuple[int | None, ...]  # for each word the cell that it names, None for "a", "and" and commas

VOCABULARY = Vocabulary(("a", "and", ",", *SIZES, *COLOURS, *SHAPES))
ATTRIBUTE = np.array(  # of each word: 1 for a size, 2 for a colour, 3 for a shape, 0 for what names nothing
    [sum(n * (word in words) for n, words in enumerate((SIZES, COLOURS, SHAPES), 1)) for word in VOCABULARY.words]
)
_NAMED = re.compile(rf"a ({'|'.join(SIZES)}) ({'|'.join(COLOURS)}) ({'|'.join(SHAPES)})(?![^ ])")


@dataclass(frozen=True)
class Captions:
    """Pictures with their captions: images uint8 (B, 48, 48, 3), and for each its scene, its words, their regions."""

    images: np.ndarray
    scenes: tuple[Scene, ...]
    words: tuple[Words, ...]
    regions: tuple[Regions, ...]

    def __len__(self) -> int:
        return len(self.scenes)


def describe(scene: Scene) -> tuple[Words, Regions]:
    """Say what is in a scene, from left to right -> words, and the cell that each of them names.

    A colour without a name, and the shape of what has none, are said as <pad>: no loss is to be counted there.
    """
    words, regions = [], []
    things = sorted(scene, key=lambda thing: (thing.column, thing.row))
    for number, thing in enumerate(things):
        if number:
            words.append("and" if number == len(things) - 1 else ",")
            regions.append(None)
        colour, shape = (PAD if thing.paint else thing.colour), (thing.shape if thing.speckle is None else PAD)
        words += ["a", thing.size, colour, shape]
        regions += [None, *[thing.cell] * 3]
    return tuple(words), tuple(regions)


def caption(scenes: Sequence[Scene], rng: np.random.Generator | None = None) -> Captions:
    """Draw scenes, with noise where an rng is given, and describe them."""
    words, regions = zip(*map(describe, scenes), strict=True)
    return Captions(render(scenes, rng), tuple(scenes), words, regions)


def splits(
    rng: np.random.Generator,
    *,
    train: int = 8000,
    dev: int = 500,
    test: int = 500,
    held_out: int = 500,
    unnamed: float = 0.0,
) -> dict[str, Captions]:
    """Draw the four splits. Only in held-out is a colour seen with a shape that training never shows it with.

    unnamed is the share of the objects of the training split that half_named takes a name from.
    """
    drawn = {
        name: [draw_scene(rng) for _ in range(n)] for name, n in (("train", train), ("dev", dev), ("test", test))
    } | {"held-out": [draw_held_out(rng) for _ in range(held_out)]}
    if unnamed:
        drawn["train"] = [half_named(rng, scene, share=unnamed) for scene in drawn["train"]]
    return {name: caption(scenes, rng) for name, scenes in drawn.items() if scenes}


def never_together(captions: Iterable[Words]) -> np.ndarray:
    """Tell which words no caption says of one object, though they name different things of it -> bool (V, V).

    "red" and "triangle" are such words where all captions are of scenes that training may show; "red" and "blue" are
    not, because both are colours. True stands in both halves.
    """
    together = np.zeros((len(VOCABULARY), len(VOCABULARY)), dtype=bool)
    for thing in {thing for words in captions for thing in objects_named(words)}:
        numbers = [VOCABULARY.number(word) for word in thing]
        together[np.ix_(numbers, numbers)] = True
    named = ATTRIBUTE > 0
    return (ATTRIBUTE[:, None] != ATTRIBUTE) & named[:, None] & named & ~together


def exact_match(predicted: Sequence[Words], gold: Sequence[Words]) -> float:
    """Compute the share of captions that are right word for word, in [0, 1]."""
    return sum(map(_same, predicted, gold)) / _as_many(predicted, gold)


def object_f1(predicted: Sequence[Words], gold: Sequence[Words]) -> float:
    """Compute the F1 of the objects named, over all captions, in [0, 1]: 2 common / (named + there).

    An object counts where size, colour and shape are all right, wherever in the caption it is named.
    """
    _as_many(predicted, gold)
    named, there = ([objects_named(words) for words in captions] for captions in (predicted, gold))
    common = sum((a & b).total() for a, b in zip(named, there, strict=True))
    total = sum(objects.total() for objects in (*named, *there))
    return 2 * common / total if total else 1.0


def objects_named(words: Words) -> Counter:
    """Count the objects that a caption names, each as (size, colour, shape)."""
    return Counter(_NAMED.findall(" ".join(words)))


def _same(a, b):
    return tuple(a) == tuple(b)


def _as_many(predicted, gold):
    if not len(gold) or len(predicted) != len(gold):
        raise ValueError(f"predicted ({len(predicted)}) must hold as many captions as gold ({len(gold)}), at least one")
    return len(gold)
