"""Translation put together: a corpus, its words as numbers, a Translator, and what training needs to know of them."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from crossattn_ref.data.batches import Batch, bucketed, collate
from crossattn_ref.train.losses import cross_entropy

Numbers = Sequence[tuple[list[int], list[int]]]


class Translation:
    """What train.loop asks for: batches of similar lengths, mixed anew in every epoch, and the loss of one.

    pairs are (source, target) numbers. Validation measures the loss per token of what is kept for it, without
    smoothing, and whatever else `measure` finds, which is given the model.
    """

    def __init__(
        self,
        pairs: Numbers,
        kept: Numbers,
        *,
        n_tokens: int = 4096,
        smoothing: float = 0.1,
        seed: int = 0,
        device: str = "cpu",
        measure: Callable[[nn.Module], Mapping[str, float]] = lambda _: {},
    ):
        self.pairs, self.kept = pairs, kept
        self.n_tokens, self.smoothing, self.seed, self.device, self.measure = n_tokens, smoothing, seed, device, measure

    def epoch(self, number: int) -> list[tuple[Tensor, ...]]:
        """Mix the corpus, by the seed and the number of the epoch."""
        return self._batches(self.pairs, np.random.default_rng([self.seed, number]))

    def loss(self, model: nn.Module, batch: tuple[Tensor, ...]) -> tuple[Tensor, int]:
        """Sum the loss of a batch over its tokens, EOS included."""
        src, lengths, tgt, labels = batch
        return cross_entropy(model(src, lengths, tgt), labels, smoothing=self.smoothing)

    def validate(self, model: nn.Module) -> dict[str, float]:
        """Measure the loss per token of what was kept."""
        found = [
            cross_entropy(model(src, lengths, tgt), labels)
            for src, lengths, tgt, labels in self._batches(self.kept, None)
        ]
        loss = sum(total.item() for total, _ in found) / sum(count for _, count in found)
        return {"loss": loss, **self.measure(model)}

    def _batches(self, pairs, rng):
        sizes = [(len(src), len(tgt)) for src, tgt in pairs]
        batches = bucketed(sizes, n_tokens=self.n_tokens, rng=rng)
        return [_tensors(collate([pairs[i] for i in batch]), self.device) for batch in batches]


def _tensors(batch: Batch, device):
    arrays = batch.src, batch.src_lengths, batch.tgt, batch.labels
    return tuple(torch.from_numpy(array).to(device) for array in arrays)
