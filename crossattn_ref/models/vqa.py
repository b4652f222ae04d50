"""A model that answers questions about pictures, and three ways to bring question and picture together.

A fusion takes the words of a question and a memory of patches and returns the words, having read the picture:
CrossReading, JointReading (concatenation) and CoReading (co-attention) can stand in each other's place.

Letters: B questions in a batch, H heads, Nq words, Nk patches, A answers, D model width; N queries and M keys of a
layer that reads the picture (words, patches, or both where they are one sequence).
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from crossattn_ref.attention.multihead import MultiHeadAttention
from crossattn_ref.attention.watched import watched
from crossattn_ref.models.blocks import DecoderLayer, EncoderLayer, LayerConfig, LearnedPositions
from crossattn_ref.models.images import ImageConfig, ImageEncoder, Projected

Words, Patches, Real = Float[Tensor, "B Nq D"], Float[Tensor, "B Nk D"], Bool[Tensor, "B Nq"]


class CrossReading(nn.Module):
    """Let the words read each other, then the patches: decoder layers without a causal mask."""

    def __init__(self, layer: LayerConfig, n_layers: int):
        super().__init__()
        self.layers = nn.ModuleList(DecoderLayer(layer) for _ in range(n_layers))

    def forward(self, words: Words, real: Real, patches: Patches) -> Float[Tensor, "B Nq D"]:
        """Read the patches with the words; padded words are read by nobody."""
        for layer in self.layers:
            words = layer(words, patches, _keys(real))
        return words

    @property
    def readers(self) -> list[MultiHeadAttention]:
        """The layers in which words read patches."""
        return [layer.cross_attention for layer in self.layers]


class JointReading(nn.Module):
    """Lay words and patches end to end, and let all read all: concatenation, and self-attention alone.

    Source: Chen et al., UNITER (2020), section 3.1.
    """

    def __init__(self, layer: LayerConfig, n_layers: int):
        super().__init__()
        self.layers = nn.ModuleList(EncoderLayer(layer) for _ in range(n_layers))
        self.is_patch = nn.Parameter(torch.randn(layer.d_model) * layer.d_model**-0.5)

    def forward(self, words: Words, real: Real, patches: Patches) -> Float[Tensor, "B Nq D"]:
        """Read words and patches with both; padded words are read by nobody."""
        seen = _keys(torch.cat([real, real.new_ones(patches.shape[:2])], dim=1))
        x = torch.cat([words, patches + self.is_patch], dim=1)
        for layer in self.layers:
            x = layer(x, seen)
        return x[:, : words.shape[1]]

    @property
    def readers(self) -> list[MultiHeadAttention]:
        """The layers in which words read patches, and each other, and patches both."""
        return [layer.self_attention for layer in self.layers]


class CoReading(nn.Module):
    """Let words read patches and patches read words, side by side: co-attention, in both directions.

    Source: Lu et al., ViLBERT (2019), section 3.1 and figure 2b.
    """

    def __init__(self, layer: LayerConfig, n_layers: int):
        super().__init__()
        self.of_words = nn.ModuleList(DecoderLayer(layer) for _ in range(n_layers))
        self.of_patches = nn.ModuleList(DecoderLayer(layer) for _ in range(n_layers))

    def forward(self, words: Words, real: Real, patches: Patches) -> Float[Tensor, "B Nq D"]:
        """Read both ways; in each layer, both sides read what the other was before it."""
        for of_words, of_patches in zip(self.of_words, self.of_patches, strict=True):
            words, patches = of_words(words, patches, _keys(real)), of_patches(patches, words, None, _keys(real))
        return words

    @property
    def readers(self) -> list[MultiHeadAttention]:
        """The layers in which words read patches."""
        return [layer.cross_attention for layer in self.of_words]


@dataclass(frozen=True, kw_only=True)
class AnswererConfig:
    """What an answerer is made of: the sizes of its vocabulary and of its list of answers, a fusion, and a pooling.

    pooling says how the words become one vector: by the largest number in each place ("max"), or by their "mean".
    Raises ValueError for another pooling.
    """

    n_words: int
    n_answers: int
    longest: int = 24
    n_layers: int = 2
    fusion: Callable[[LayerConfig, int], nn.Module] = CrossReading
    pooling: Literal["max", "mean"] = "max"
    image: ImageConfig = field(default_factory=ImageConfig)
    layer: LayerConfig = field(default_factory=lambda: LayerConfig(d_model=64, n_heads=4, d_ff=128, dropout=0.0))

    def __post_init__(self):
        """Check what no block checks itself."""
        if self.pooling not in POOLINGS:
            raise ValueError(f"pooling must be one of {', '.join(POOLINGS)}, got {self.pooling!r}")


def largest(x: Words, real: Real) -> Float[Tensor, "B D"]:
    """Take in each place the largest number of any real word: what one word has found is not diluted."""
    return x.masked_fill(~real[..., None], -torch.inf).max(dim=1).values


def mean(x: Words, real: Real) -> Float[Tensor, "B D"]:
    """Average the real words: what one of twelve has found counts a twelfth."""
    return x.masked_fill(~real[..., None], 0).sum(dim=1) / real.sum(dim=1, keepdim=True)


POOLINGS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"max": largest, "mean": mean}


class Answerer(nn.Module):
    """Answer a question about a picture, out of a list of answers.

    An encoder that is given stands in the place of the one that config.image describes, as for images.Projected.
    """

    def __init__(self, config: AnswererConfig, encoder: nn.Module | None = None):
        super().__init__()
        width = config.layer.d_model
        self.image = ImageEncoder(config.image) if encoder is None else Projected(encoder, width)
        self.words = nn.Embedding(config.n_words, width)
        self.positions = LearnedPositions(config.longest, width)
        for vectors in (self.words.weight, self.positions.vectors):
            nn.init.normal_(vectors, std=0.5)  # alike, and too large to drown in what the first layer adds
        self.fusion = config.fusion(config.layer, config.n_layers)
        self.norm = nn.LayerNorm(width)
        self.pool = POOLINGS[config.pooling]
        self.out = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, config.n_answers))

    def encode(self, images: Float[Tensor, "B C Y X"]) -> Float[Tensor, "B Nk D"]:
        """Turn pictures into memories: a picture that many questions are about is encoded once."""
        return self.image(images)

    def answer(
        self, memory: Float[Tensor, "B Nk D"], words: Int[Tensor, "B Nq"], lengths: Int[Tensor, "B"]
    ) -> Float[Tensor, "B A"]:
        """Score every answer to a question of so many words about a memory; ValueError for one without any."""
        x, real = self._read(words, lengths)
        return self.out(self.pool(self.norm(self.fusion(x, real, memory)), real))

    def forward(
        self, images: Float[Tensor, "B C Y X"], words: Int[Tensor, "B Nq"], lengths: Int[Tensor, "B"]
    ) -> Float[Tensor, "B A"]:
        """Score every answer to a question of so many words; ValueError for a question without any."""
        return self.answer(self.encode(images), words, lengths)

    def watched(
        self, memory: Float[Tensor, "B Nk D"], words: Int[Tensor, "B Nq"], lengths: Int[Tensor, "B"]
    ) -> tuple[Float[Tensor, "B A"], list[Float[Tensor, "B H N M"]]]:
        """Do what answer does -> (its scores, layer by layer the weights that they were computed with).

        The words come first among the queries and the patches last among the keys: [..., :Nq, -Nk:] says where each
        word looks in the picture. The weights are a part of the computation: both have gradients.
        """
        with watched(*self.fusion.readers) as weights:
            scores = self.answer(memory, words, lengths)
        return scores, weights

    def _read(self, words, lengths):
        if (lengths < 1).any() or (lengths > words.shape[1]).any():
            raise ValueError(
                f"lengths must lie from 1 to {words.shape[1]}, the words of a question: {lengths.tolist()}"
            )
        real = torch.arange(words.shape[1], device=words.device) < lengths[:, None]
        return self.words(words) + self.positions(words.shape[1]), real


def count_parameters(module: nn.Module) -> int:
    """Count the numbers that training can change."""
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)


def as_large_as(config: AnswererConfig, n_parameters: int) -> AnswererConfig:
    """Choose d_ff such that the model has as many parameters as wanted, as nearly as can be.

    So fusions are compared at equal size: what a layer saves in attention it may spend on thinking.
    Raises ValueError where even a d_ff of 1 is too large.
    """

    def size(d_ff):
        with torch.device("meta"):
            return count_parameters(Answerer(replace(config, layer=replace(config.layer, d_ff=d_ff))))

    smallest, step = size(1), size(2) - size(1)
    d_ff = 1 + round((n_parameters - smallest) / step)
    if d_ff < 1:
        raise ValueError(f"n_parameters ({n_parameters}) must be at least {smallest}, the size with a d_ff of 1")
    return replace(config, layer=replace(config.layer, d_ff=d_ff))


def _keys(real):
    """Say that padding may not be read -> mask (B, 1, 1, Nk), True = may look."""
    return real[:, None, None, :]
