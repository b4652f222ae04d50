"""What may be done to pictures, and to what is said of them, without another answer being right: more to learn from.

Each is made for a vocabulary, and called with pictures (negatives, as tasks.picture_questions makes them), the words of
questions, and the number of each one's picture.

Letters: B pictures, Q questions, N words, C channels, Y and X pixels.
"""

from collections.abc import Callable
from itertools import permutations

import numpy as np
import torch
from torch import Tensor

from crossattn_ref.data.picture_corpora import NLVR_COLOURS, NLVR_GREY
from crossattn_ref.data.words import Vocabulary

Vary = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


def flips(*_: object, **__: object) -> Vary:
    """Turn half of the pictures left to right: for questions that know neither left nor right."""

    def vary(images, words, _):
        turned = torch.rand(len(images), device=images.device) < 0.5
        return torch.where(turned[:, None, None, None], images.flip(3), images), words

    return vary


class Boxes:
    """Put the boxes of NLVR in another order, and let its colours change places, in the picture and in what is said.

    Of a sentence with an unknown word, which may be a colour written wrongly, the picture keeps its colours.
    """

    def __init__(self, words: Vocabulary, *, unknown: str, device: str = "cpu"):
        orders = list(permutations(NLVR_COLOURS))
        self.maps = torch.stack([_map(order) for order in orders]).to(device)  # (6, 3, 4)
        self.words = torch.tensor([_renamed(words, order, unknown) for order in orders], device=device)  # (6, words)
        self.unknown = words.number(unknown)

    def __call__(self, images: Tensor, words: Tensor, about: Tensor) -> tuple[Tensor, Tensor]:
        """Choose for each picture an order of its boxes, and of the colours."""
        n, half = len(images), images.shape[-1] // 2
        which = torch.randint(len(self.maps), (n,), device=images.device)
        which[about[(words == self.unknown).any(dim=1)]] = 0
        quarters = images.unfold(2, half, half).unfold(3, half, half).flatten(2, 3)  # (B, C, 4, Y/2, X/2)
        order = torch.rand(n, 3, device=images.device).argsort(dim=1)
        boxes = quarters.take_along_dim(order[:, None, :, None, None], dim=2)
        maps = self.maps[which]
        boxes = torch.einsum("bij,bjkyx->bikyx", maps[..., :3], boxes) + maps[:, :, 3, None, None, None]
        top = torch.cat([boxes[:, :, 0], boxes[:, :, 1]], dim=-1)
        bottom = torch.cat([boxes[:, :, 2], quarters[:, :, 3]], dim=-1)
        return torch.cat([top, bottom], dim=-2), self.words[which[about, None], words]


VARIATIONS: dict[str, Callable[..., Vary]] = {"flips": flips, "boxes": Boxes}


def _map(order):
    """Make the affine map that takes each colour, in negatives, to its new one, and grey to grey -> (3, 4).

    It is right at edges, too, where a pixel is a mixture.
    """
    before = 1 - np.array([*NLVR_COLOURS.values(), [NLVR_GREY] * 3]) / 255
    after = 1 - np.array([*(NLVR_COLOURS[name] for name in order), [NLVR_GREY] * 3]) / 255
    found = np.linalg.solve(np.column_stack([before, np.ones(4)]), after)  # rows: red, green, blue, and what is added
    return torch.from_numpy(found.T).float()


def _renamed(words, order, unknown):
    """Number each word anew, a colour by its new name, which may be unknown."""
    turn, known = dict(zip(NLVR_COLOURS, order, strict=True)), set(words.words)
    new = [turn.get(word, word) for word in words.words]
    return [words.number(name if name in known else unknown) for name in new]
