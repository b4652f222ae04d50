"""What can be decoded, and what comes out.

Letters: B sentences, W continuations of one sentence kept side by side (the width of the beam), V tokens that there
are; rows = B * W, the continuations of one sentence in a row.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor


@runtime_checkable
class State(Protocol):
    """Where a model stands after some steps."""

    def select(self, rows: Int[Tensor, " rows"]) -> "State":
        """Go on with these rows, in this order, each sentence with rows of its own; one may come several times."""

    def keep(self, sentences: Int[Tensor, " kept"]) -> "State":
        """Go on with these sentences alone."""


@runtime_checkable
class Model(Protocol):
    """What can be decoded: models.translation.Translator, or anything else with these two."""

    def start(self, memory: Tensor, lengths: Int[Tensor, " B"], *, width: int = 1) -> State:
        """Get ready to write `width` continuations for each of B memories."""

    def step(self, tokens: Int[Tensor, " rows"], state: State) -> tuple[Float[Tensor, "rows V"], State]:
        """Compute the logits of what follows each row's newest token, and the state after it."""


@dataclass(frozen=True)
class Written:
    """A sentence that was written: its tokens without BOS and EOS, and how probable the model finds it.

    log_prob is the sum of the log probabilities of all its tokens, EOS included; score what it was ranked by.
    ended is False where max_tokens came before EOS.
    """

    tokens: tuple[int, ...]
    log_prob: float
    score: float
    ended: bool


def without(logits: Float[Tensor, "rows V"], never: Sequence[int]) -> Float[Tensor, "rows V"]:
    """Set the logits of some tokens to -inf."""
    if not never:
        return logits
    return logits.index_fill(-1, torch.tensor(list(never), device=logits.device), -math.inf)


def check_at_least_1(**sizes: int) -> None:
    """Raise ValueError for a size below 1."""
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name} must be at least 1, got {size}")
