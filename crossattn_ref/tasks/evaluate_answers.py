"""How good answers are, kind by kind, and whether the words of a question look at what the answer is read from.

Beside every figure stand two that take no look: the most frequent answer to the words (question-only), and the model
itself before blank pictures (image-blind).

Letters: B questions, H heads, Nq words, Nk patches.
"""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch

from crossattn_ref import interpret
from crossattn_ref.data.scenes import N_CELLS
from crossattn_ref.data.vqa import KINDS, Questions
from crossattn_ref.models.images import as_float
from crossattn_ref.tasks.evaluate_captions import blank
from crossattn_ref.tasks.trained import Trained
from crossattn_ref.tasks.vqa import AT_ONCE, Numbers, numbered, scores


@dataclass(frozen=True)
class Reading:
    """Which weights are read: a layer, one of its heads or (None) the mean of them, and whose of the words.

    layer None means the mean of all layers and heads. whose "all" means the sum over all words, "mark" the question
    mark alone, which has nothing to ask for itself, and "heard" all words, each as much as the answer is made from it.
    """

    layer: int | None
    head: int | None
    whose: Literal["all", "mark", "heard"] = "all"


WHOSE = ("all", "mark", "heard")


def accuracy(trained: Trained, asked: Questions) -> dict[str, float]:
    """Compute how many of a hundred answers are right, "all" of them and those to each kind of question."""
    return _by_kind(_right(trained, asked), asked)


def blind_accuracy(trained: Trained, asked: Questions) -> dict[str, float]:
    """Compute the same before blank pictures."""
    return accuracy(trained, replace(asked, images=blank(asked.images)))


def pointing(trained: Trained, asked: Questions, reading: Reading) -> dict[str, float]:
    """Compute for how many questions of a hundred the patch that is looked at most is one that the answer is read from.

    "all" of them, and each kind. One whose answer is read from nothing, such as a count of 0, takes no part.
    """
    regions = _regions(asked)
    hits, about_something = _hits(attention(trained, numbered(asked)), regions, reading), regions.any(axis=-1)
    kinds = np.array([question.kind for question in asked.questions])
    found = {"all": 100 * float(hits[about_something].mean())}
    for kind in KINDS:
        if (chosen := about_something & (kinds == kind)).any():
            found[kind] = 100 * float(hits[chosen].mean())
    return found


def best_reading(trained: Trained, asked: Questions) -> Reading:
    """Choose the layer, the head and the words that point best: on the development split."""
    weights, regions = attention(trained, numbered(asked)), _regions(asked)
    readings = [
        Reading(layer, head, whose)
        for layer, w in enumerate(weights)
        for head in (None, *range(w.shape[1]))
        for whose in WHOSE
    ]
    readings += [Reading(None, None, whose) for whose in WHOSE]
    return max(readings, key=lambda reading: _hits(weights, regions, reading).sum())


def attention(trained: Trained, asked: Numbers) -> list[np.ndarray]:
    """Compute how much each question looks at each patch, a row for each of WHOSE: (B, H, 3, Nk) a layer."""
    asked, found = asked.to(next(trained.model.parameters()).device), []
    real = torch.arange(asked.words.shape[1], device=asked.words.device) < asked.lengths[:, None]
    with torch.inference_mode():
        for part in torch.arange(len(asked.answers), device=real.device).split(AT_ONCE):
            images = as_float(asked.images[asked.image_of[part]])
            questions = images, asked.words[part], asked.lengths[part]
            counted = _counted(real[part], asked.lengths[part], trained.model.heard(*questions))
            found.append([_of_question(w, counted) for w in trained.model.weights(*questions)])
    return [np.concatenate(layer) for layer in zip(*found, strict=True)]


def chosen(weights: list[np.ndarray], reading: Reading) -> np.ndarray:
    """Pick from what attention returns what a reading reads -> (B, Nk)."""
    rows = [layer[:, :, WHOSE.index(reading.whose)] for layer in weights]  # (B, H, Nk)
    if reading.layer is None:
        return np.mean([layer.mean(axis=1) for layer in rows], axis=0)
    layer = rows[reading.layer]
    return layer.mean(axis=1) if reading.head is None else layer[:, reading.head]


def _counted(real, lengths, heard):
    """Say how much each word counts, a row for each of WHOSE -> (B, 3, Nq)."""
    mark = torch.arange(real.shape[1], device=real.device) == lengths[:, None] - 1
    return torch.stack([real.float(), mark.float(), heard], dim=1)


def _of_question(weights, counted):
    """Add up over the words, each as much as it counts: (B, H, Nq, Nk), (B, 3, Nq) -> (B, H, 3, Nk)."""
    return torch.einsum("bhqk,bwq->bhwk", weights, counted).cpu().numpy()


def _hits(weights, regions, reading):
    return regions[np.arange(len(regions)), chosen(weights, reading).argmax(axis=-1)]


def _regions(asked):
    return np.stack([interpret.regions_of([question.regions], N_CELLS)[0] for question in asked.questions])


def _right(trained, asked):
    numbers = numbered(asked).to(next(trained.model.parameters()).device)
    return (scores(trained.model, numbers).argmax(dim=-1) == numbers.answers).cpu().numpy()


def _by_kind(right, asked):
    kinds = np.array([question.kind for question in asked.questions])
    shares = {kind: 100 * float(right[kinds == kind].mean()) for kind in KINDS if (kinds == kind).any()}
    return {"all": 100 * float(right.mean()), **shares}
