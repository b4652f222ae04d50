"""How good captions are, and whether each word looks at what it names; blank pictures beside everything.

Letters: B pictures, H heads, Nq words, Nk patches.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from crossattn_ref import interpret
from crossattn_ref.data import captioning
from crossattn_ref.data.captioning import Captions, Words
from crossattn_ref.models.images import as_float
from crossattn_ref.tasks.captioning import AT_ONCE, captions, numbered, regions, splits
from crossattn_ref.tasks.trained import Trained


@dataclass(frozen=True)
class Reading:
    """Which weights are read: a layer, and one of its heads or (None) the mean of them; layer None: the mean of all."""

    layer: int | None
    head: int | None


def scores(trained: Trained, drawn: Captions) -> dict[str, float]:
    """Write captions greedily, and compare -> exact_match and object_f1, in percent."""
    return _compared(captions(trained.model, drawn.images), drawn.words)


def blank(images: np.ndarray) -> np.ndarray:
    """Return as many pictures of one colour, the mean of all of images: what shows nothing, and tells none apart."""
    return np.broadcast_to(np.rint(images.mean(axis=(0, 1, 2))).astype(np.uint8), images.shape).copy()


def blind_scores(trained: Trained, drawn: Captions) -> dict[str, float]:
    """Write captions of blank pictures, and compare with those of the real ones."""
    return _compared(captions(trained.model, blank(drawn.images)), drawn.words)


def cross_weights(trained: Trained, images: np.ndarray, words: Sequence[Words]) -> list[np.ndarray]:
    """Compute where each word of captions looks while it is written, layer by layer: (B, H, Nq, Nk) each.

    Row i belongs to word i; the row behind the last word is that of the mark of the end.
    """
    rows, device = numbered(list(words)), next(trained.model.parameters()).device
    rows = rows[:, : max(map(len, words)) + 1].to(device)
    found = []
    with torch.inference_mode():
        for part, numbers in zip(torch.from_numpy(images).split(AT_ONCE), rows.split(AT_ONCE), strict=True):
            _, weights = trained.model.watched(as_float(part.to(device)), numbers)
            found.append([w.cpu().numpy() for w in weights])
    return [np.concatenate(layer) for layer in zip(*found, strict=True)]


def pointing(weights: Sequence[np.ndarray], drawn: Captions, reading: Reading) -> float:
    """Compute how many of a hundred words that name something look most at the patch that they name.

    weights are what cross_weights returns for these captions.
    """
    read = chosen(weights, reading)
    return 100 * interpret.pointing_game(read, regions(drawn, read.shape[1]))


def mass(weights: Sequence[np.ndarray], drawn: Captions, reading: Reading) -> float:
    """Compute which share of its attention, in percent, a word that names something gives to what it names."""
    read = chosen(weights, reading)
    return 100 * interpret.attention_mass(read, regions(drawn, read.shape[1]))


def best_reading(weights: Sequence[np.ndarray], drawn: Captions) -> Reading:
    """Choose the layer and the head that point best, or the mean of a layer's heads or of all.

    weights are what cross_weights returns for the captions of the development split.
    """
    named = regions(drawn, weights[0].shape[2])
    readings = [Reading(layer, head) for layer, w in enumerate(weights) for head in (None, *range(w.shape[1]))]
    readings.append(Reading(None, None))
    return max(readings, key=lambda reading: interpret.pointing_game(chosen(weights, reading), named))


def read_on_dev(trained: Trained) -> Reading:
    """Choose the best reading of a model on the development split, as its file is to tell of it."""
    dev = splits()["dev"]
    return best_reading(cross_weights(trained, dev.images, dev.words), dev)


def chosen(weights: Sequence[np.ndarray], reading: Reading) -> np.ndarray:
    """Pick from what cross_weights returns what a reading reads -> (B, Nq, Nk)."""
    if reading.layer is None:
        return np.mean([layer.mean(axis=1) for layer in weights], axis=0)
    layer = weights[reading.layer]
    return layer.mean(axis=1) if reading.head is None else layer[:, reading.head]


def _compared(written, wanted):
    return {
        "exact_match": 100 * captioning.exact_match(written, wanted),
        "object_f1": 100 * captioning.object_f1(written, wanted),
    }
