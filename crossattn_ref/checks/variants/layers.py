"""What goes wrong around the sublayers of encoder and decoder layers, in torch: stages of both.

A sublayer is called as sublayer(x), or as sublayer(x, memory) where keys and values are read from elsewhere.
"""

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch.nn import functional

from crossattn_ref.checks.report import Misconception
from crossattn_ref.checks.variants.positions import encode
from crossattn_ref.checks.variants.stages import AT_RANDOM


def pre_norm(x, norm, sublayer):
    return x + sublayer(norm(x))


def _post_norm(x, norm, sublayer):
    return norm(x + sublayer(x))


def _no_residual(x, norm, sublayer):
    return sublayer(norm(x))


def _normed_residual(x, norm, sublayer):
    normed = norm(x)
    return normed + sublayer(normed)


def _no_norm(x, norm, sublayer):
    return x + sublayer(x)


def _result_normed(x, norm, sublayer):
    return x + norm(sublayer(x))


def _two_norms(x, norm, sublayer):
    return norm(x + sublayer(norm(x)))


def _twice(x, norm, sublayer):
    return x + pre_norm(x, norm, sublayer)


AROUND = (
    ("post-norm", _post_norm, "with the norm after the sum {place}, which is post-norm",
     "Walk along the residual path from the layer's input to its output. How many norms does pre-norm put on it?"),
    ("no residual", _no_residual, "without the residual {place}",
     "Let the sublayer return zero. What should be left of x?"),
    ("residual from the norm", _normed_residual, "when what is added {place} is x after its norm, not x itself",
     "Walk along the residual path from the layer's input to its output. Does x pass a norm on the way?"),
    ("no norm", _no_norm, "without the norm {place}", "Which of the parts that you were given has no work?"),
    ("result normalized", _result_normed, "with the norm {place} on what the sublayer returns",
     "Does the norm stand in front of the sublayer or behind it?"),
    ("two norms", _two_norms, "with a norm both before the sublayer and after the sum {place}",
     "How often is each norm used?"),
    ("x twice", _twice, "with x added twice {place}", "Let the sublayer return zero. What should be left of x?"),
)  # fmt: skip


def around(places: Mapping[str, str]) -> dict[str, list[tuple]]:
    """Make the mistakes around each sublayer, by stage, and under "around" those made around all of them at once.

    places tells for each stage where it is, as in "around the feed-forward".
    """
    everywhere = [(name, dict.fromkeys(places, wrong), symptom.format(place="everywhere"), hint)
                  for name, wrong, symptom, hint in AROUND]  # fmt: skip
    return {"around": everywhere} | {
        stage: [(f"{name} {place}", wrong, symptom.format(place=place), hint) for name, wrong, symptom, hint in AROUND]
        for stage, place in places.items()
    }


def _positions(n, x):
    return torch.from_numpy(encode(n, x.shape[-1], dtype=np.float64)).to(x.dtype)


ENTER = (
    ("positions inside", lambda x: x + _positions(x.shape[1], x),
     "with positions added inside the layer", "A model stacks six of these. How often should positions be added?"),
    ("positions along the batch", lambda x: x + _positions(x.shape[0], x)[:, None],
     "with positions added inside the layer, and along the batch: all words of a sentence get the same one",
     "Put the same sentence into the batch twice. Does it get the same result?"),
    ("scaled by the root of D", lambda x: x * x.shape[-1] ** 0.5, "with x multiplied by the square root of its width",
     "Who scales, the embedding or each layer?"),
)  # fmt: skip


def dropping(layer: type[torch.nn.Module]) -> Misconception:
    """Make the mistake of dropout that goes on in evaluation."""

    class Dropping(layer):
        def forward(self, *args):
            return functional.dropout(super().forward(*args), 0.1)

    return Misconception(
        AT_RANDOM,
        Dropping,
        "with dropout that goes on in evaluation: the same input gives another result each time",
        "Who tells your dropout that training is over?",
    )


def changed(change):
    """Change a mask, where there is one."""
    return lambda mask: mask if mask is None else change(mask)


# Of a mask that says where a sublayer may look: (name, change, symptom, hint), {mask} stands for its name.
HIDE = (
    ("{mask} ignored", lambda mask: None, "without the {mask}", "Run a sentence alone and in a batch: is it the same?"),
    ("{mask} turned round", changed(lambda mask: ~mask), "with the {mask} turned round: what may be seen is hidden",
     "In this course, does True mean look or do not look?"),
    ("{mask} transposed", changed(lambda mask: mask.mT), "with the {mask} transposed: it hides rows, not columns",
     "Columns are keys. Which axis of the mask speaks of them?"),
    ("first sentence's {mask}", changed(lambda mask: mask[:1]), "with the first sentence's {mask} for all",
     "Are all sentences of a batch equally long?"),
)  # fmt: skip


def hide(mask: str) -> Iterator[tuple]:
    """Make the mistakes in using a mask -> (name, change, symptom, hint)."""
    for name, change, symptom, hint in HIDE:
        yield name.format(mask=mask), change, symptom.format(mask=mask), hint
