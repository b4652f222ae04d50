"""How good answers are, kind by kind, and whether a question looks at what the answer is read from.

Beside every figure stand two that take no look: the most frequent answer to the words (question-only), and the model
itself before blank pictures (image-blind).

Letters: B questions, H heads, Nq words, Nk patches.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
import torch

from crossattn_ref import interpret
from crossattn_ref.data.scenes import N_CELLS
from crossattn_ref.data.vqa import KINDS, Questions
from crossattn_ref.models.images import as_float
from crossattn_ref.tasks.evaluate_captions import blank
from crossattn_ref.tasks.trained import Trained
from crossattn_ref.tasks.vqa import AT_ONCE, Numbers, numbered, scores, splits

Whose = Literal["all", "mark", "answer"]
WHOSE: tuple[Whose, ...] = get_args(Whose)


@dataclass(frozen=True)
class Reading:
    """Which weights are read: a layer, one of its heads or (None) the mean of them, and whose they are.

    layer None means the mean of all layers and heads. whose "all" means the sum over all words, "mark" the question
    mark alone, which has nothing to ask for itself, and "answer" the sum over all words once more, each weight times
    the amount by which the answer hangs on it: by how much a little more of it would change the lead of the best answer
    over the second, in either direction.
    Source: for weights times their gradients, Chefer et al., Generic Attention-model Explainability for Interpreting
    Bi-Modal and Encoder-Decoder Transformers (2021), section 3; they keep what speaks for an answer, this keeps both.

    Raises ValueError for another whose.
    """

    layer: int | None
    head: int | None
    whose: Whose = "all"

    def __post_init__(self):
        """Check what a file may say wrongly."""
        if self.whose not in WHOSE:
            raise ValueError(f"whose must be one of {', '.join(WHOSE)}, got {self.whose!r}")


def accuracy(trained: Trained, asked: Questions) -> dict[str, float]:
    """Compute how many of a hundred answers are right, "all" of them and those to each kind of question."""
    return _by_kind(_right(trained, asked), asked, np.full(len(asked), True))


def blind_accuracy(trained: Trained, asked: Questions) -> dict[str, float]:
    """Compute the same before blank pictures."""
    return accuracy(trained, replace(asked, images=blank(asked.images)))


def pointing(weights: Sequence[np.ndarray], asked: Questions, reading: Reading) -> dict[str, float]:
    """Compute for how many questions of a hundred the patch that is looked at most is one that the answer is read from.

    "all" of them, and each kind; weights are what attention returns for these questions. One whose answer is read from
    nothing, such as a count of 0, takes no part.
    """
    regions = _regions(asked)
    return _by_kind(_hits(weights, regions, reading), asked, regions.any(axis=-1))


def pointing_by_chance(asked: Questions) -> dict[str, dict[str, float]]:
    """Compute what pointing is for who looks at "any-tile", drawn at random, and at that of "any-object"."""
    regions = _regions(asked)
    things = [[thing.cell for thing in asked.scenes[image]] for image in asked.image_of]
    holds = interpret.regions_of(things, N_CELLS)
    shares = {"any-tile": regions.mean(axis=-1), "any-object": (regions & holds).sum(axis=-1) / holds.sum(axis=-1)}
    return {name: _by_kind(share, asked, regions.any(axis=-1)) for name, share in shares.items()}


def best_reading(weights: Sequence[np.ndarray], asked: Questions, *, among: Sequence[Whose] = WHOSE) -> Reading:
    """Choose the layer, the head and whose weights point best, of what attention returns for the development split."""
    regions = _regions(asked)
    readings = [
        Reading(layer, head, whose)
        for layer, w in enumerate(weights)
        for head in (None, *range(w.shape[1]))
        for whose in among
    ]
    readings += [Reading(None, None, whose) for whose in among]
    return max(readings, key=lambda reading: _hits(weights, regions, reading).sum())


def read_on_dev(trained: Trained) -> Reading:
    """Choose the best reading of a model on the development split, as its file is to tell of it."""
    dev = splits()["dev"]
    return best_reading(attention(trained, numbered(dev)), dev)


@torch.enable_grad()
def attention(trained: Trained, asked: Numbers) -> list[np.ndarray]:
    """Compute how much each question looks at each patch, a row for each of WHOSE: (B, H, 3, Nk) a layer.

    The last row holds weights times what hangs on them, and not weights: it sums to anything from 0.
    """
    asked, found = asked.to(next(trained.model.parameters()).device), []
    for part in torch.arange(len(asked.answers), device=asked.answers.device).split(AT_ONCE):
        images, words, lengths = as_float(asked.images[asked.image_of[part]]), asked.words[part], asked.lengths[part]
        logits, weights = trained.model.watched(trained.model.encode(images), words, lengths)
        best, second = logits.topk(2).values.unbind(dim=-1)
        hangs = torch.autograd.grad((best - second).sum(), weights)
        found.append([_of_question(*both, words, lengths) for both in zip(weights, hangs, strict=True)])
    return [np.concatenate(layer) for layer in zip(*found, strict=True)]


def chosen(weights: Sequence[np.ndarray], reading: Reading) -> np.ndarray:
    """Pick from what attention returns what a reading reads -> (B, Nk)."""
    rows = [layer[:, :, WHOSE.index(reading.whose)] for layer in weights]  # (B, H, Nk)
    if reading.layer is None:
        return np.mean([layer.mean(axis=1) for layer in rows], axis=0)
    layer = rows[reading.layer]
    return layer.mean(axis=1) if reading.head is None else layer[:, reading.head]


def _of_question(weights, hangs, words, lengths):
    """Bring the rows of a question's words together, in the order of WHOSE: (B, H, N, M) twice -> (B, H, 3, Nk).

    Words are the first of the N queries and patches the last of the M keys, of which there may be more: where words and
    patches are one sequence, both are all of it.
    """
    n, n_patches = words.shape[1], N_CELLS
    weights, hangs = weights.detach()[:, :, :n, -n_patches:], hangs[:, :, :n, -n_patches:]
    place = torch.arange(n, device=words.device)
    real, mark = place < lengths[:, None], place == lengths[:, None] - 1  # (B, Nq)
    rows = [
        torch.einsum("bhqk,bq->bhk", weights, real.float()),
        torch.einsum("bhqk,bq->bhk", weights, mark.float()),
        torch.einsum("bhqk,bq->bhk", weights * hangs.abs(), real.float()),
    ]
    return torch.stack(rows, dim=2).cpu().numpy()


def _regions(asked):
    return interpret.regions_of([question.regions for question in asked.questions], N_CELLS)


def _hits(weights, regions, reading):
    return regions[np.arange(len(regions)), chosen(weights, reading).argmax(axis=-1)]


def _right(trained, asked):
    numbers = numbered(asked).to(next(trained.model.parameters()).device)
    return (scores(trained.model, numbers).argmax(dim=-1) == numbers.answers).cpu().numpy()


def _by_kind(shares, asked, taken):
    """Average shares over the questions that are taken, in percent: all of them, and each kind."""
    kinds = np.array([question.kind for question in asked.questions])
    chosen = {"all": taken, **{kind: taken & (kinds == kind) for kind in KINDS}}
    return {name: 100 * float(shares[which].mean()) for name, which in chosen.items() if which.any()}
