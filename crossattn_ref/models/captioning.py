"""A model that writes captions: an image encoder, and a decoder whose words read the patches.

Letters: B pictures in a batch, H heads, Nq words, Nk patches, V words in the vocabulary, D model width.
"""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from crossattn_ref.attention.inputs import Lengths
from crossattn_ref.attention.watched import watched
from crossattn_ref.models.blocks import DecoderLayer, LayerConfig, LearnedPositions
from crossattn_ref.models.images import ImageConfig, ImageEncoder, Projected


@dataclass(frozen=True, kw_only=True)
class CaptionerConfig:
    """What a captioner is made of. n_words is the size of the vocabulary, longest the most words of a caption.

    word_dropout is the share of the words read during training that are hidden, as vectors of zeros: a decoder that
    cannot rely on "red" having been written has to look whether the thing is a triangle.
    """

    n_words: int
    longest: int = 24
    n_layers: int = 2
    word_dropout: float = 0.0
    image: ImageConfig = field(default_factory=ImageConfig)
    layer: LayerConfig = field(default_factory=lambda: LayerConfig(d_model=64, n_heads=4, d_ff=128, dropout=0.0))


class Captioner(nn.Module):
    """Write what is in a picture, word by word: the decoder of a translator, and another memory.

    An encoder that is given stands in the place of the one that config.image describes, as for images.Projected.

    Source: Xu et al., Show, Attend and Tell (2015), with the decoder of Vaswani et al. (2017).
    """

    def __init__(self, config: CaptionerConfig, encoder: nn.Module | None = None):
        super().__init__()
        width = config.layer.d_model
        self.image = ImageEncoder(config.image) if encoder is None else Projected(encoder, width)
        self.words = nn.Embedding(config.n_words, width)
        nn.init.normal_(self.words.weight, std=width**-0.5)  # no larger than positions, or the order would be drowned
        self.positions = LearnedPositions(config.longest, width)
        self.word_dropout = config.word_dropout
        self.layers = nn.ModuleList(DecoderLayer(config.layer) for _ in range(config.n_layers))
        self.norm, self.out = nn.LayerNorm(width), nn.Linear(width, config.n_words)

    def encode(self, images: Float[Tensor, "B C Y X"]) -> Float[Tensor, "B Nk D"]:
        """Turn pictures into memories: (B, patches, D)."""
        return self.image(images)

    def decode(self, words: Int[Tensor, "B Nq"], memory: Float[Tensor, "B Nk D"]) -> Float[Tensor, "B Nq V"]:
        """Score every next word, given the words so far and a memory."""
        x = self._read(words)
        for layer in self.layers:
            x = layer(x, memory, _past(words))
        return self.out(self.norm(x))

    def forward(self, images: Float[Tensor, "B C Y X"], words: Int[Tensor, "B Nq"]) -> Float[Tensor, "B Nq V"]:
        """Score every next word of captions (teacher forcing): row i has read words 0 to i and the picture."""
        return self.decode(words, self.encode(images))

    def watched(
        self, images: Float[Tensor, "B C Y X"], words: Int[Tensor, "B Nq"]
    ) -> tuple[Float[Tensor, "B Nq V"], list[Float[Tensor, "B H Nq Nk"]]]:
        """Do what forward does -> (its scores, layer by layer where each row looked in the picture).

        Row i is about to write word i + 1. The weights are a part of the computation: they have gradients.
        """
        with watched(*(layer.cross_attention for layer in self.layers)) as weights:
            scores = self(images, words)
        return scores, weights

    def _read(self, words):
        x = self.words(words)
        if self.training and self.word_dropout:
            kept = torch.rand(words.shape, device=words.device) >= self.word_dropout
            kept[:, 0] = True  # the mark of the begin is no word of the caption
            x = x * kept[..., None]
        return x + self.positions(words.shape[1])


@torch.no_grad()
def write(
    model: Captioner, images: Float[Tensor, "B C Y X"], *, begin: int, end: int, longest: int
) -> Int[Tensor, "B N"]:
    """Let a model write greedily: the likeliest next word, until every caption has ended or is so long."""
    memory = model.encode(images)
    words = torch.full((len(images), 1), begin, dtype=torch.long, device=images.device)
    while words.shape[1] < longest and not (words == end).any(dim=1).all():
        best = model.decode(words, memory)[:, -1].argmax(dim=-1)
        words = torch.cat([words, best[:, None]], dim=1)
    return words


def _past(words):
    return Lengths(torch.full((len(words),), words.shape[1], device=words.device), causal="top-left")
