"""Bridges from pictures to language models: latents that sum a memory up, gates that let it in, masks that pair it.

Letters: B texts in a batch, H heads, Nq words, M images in a text, N rows of one image's memory, L latents,
D width of latents and text, Dm width of the memory.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from crossattn_ref.attention.multihead import MultiHeadAttention
from crossattn_ref.models.blocks import DecoderLayer, FeedForward, LayerConfig, Residual

Latents = Float[Tensor, "B L D"]


class ResamplerLayer(nn.Module):
    """Let latents read a memory and each other in one attention, then think: pre-norm.

    Keys and values are the memory and, behind it, the latents: a memory that may not be seen leaves them themselves.
    Source: Alayrac et al., Flamingo (2022), figure 5 and section 3.1.1.
    """

    def __init__(self, config: LayerConfig):
        super().__init__()
        self.memory_norm, self.latents_norm = nn.LayerNorm(config.d_model), nn.LayerNorm(config.d_model)
        self.attention = MultiHeadAttention(
            config.d_model, config.n_heads, dropout=config.dropout, attend=config.attend, bias=False
        )
        self.feed_forward, self.around_feed_forward = _feed_forward(config), Residual(config)

    def forward(
        self, latents: Latents, memory: Float[Tensor, "B N D"], mask: Bool[Tensor, "B N"] | None = None
    ) -> Float[Tensor, "B L D"]:
        """Read a memory, of which the mask says what is real (True), with latents."""
        x = self.latents_norm(latents)
        keys = torch.cat([self.memory_norm(memory), x], dim=1)
        latents = latents + self.attention(x, keys, _and_latents(mask, x))
        return self.around_feed_forward(latents, self.feed_forward)


class LatentResampler(nn.Module):
    """Sum a memory of any length up in n_latents learned rows: what reads them pays the same for every picture.

    config.d_memory is the width of the memory, projected to d_model first where it is another one.
    Raises ValueError for n_latents or n_layers below 1.
    Source: Jaegle et al., Perceiver (2021), section 3.1; as a bridge: Alayrac et al., Flamingo (2022), section 3.1.1.
    """

    def __init__(self, config: LayerConfig, *, n_latents: int, n_layers: int = 1):
        super().__init__()
        _check_at_least_one(n_latents=n_latents, n_layers=n_layers)
        self.latents = nn.Parameter(torch.randn(n_latents, config.d_model) * config.d_model**-0.5)
        self.project = _projection(config)
        self.layers = nn.ModuleList(ResamplerLayer(config) for _ in range(n_layers))
        self.norm = nn.LayerNorm(config.d_model)

    def forward(self, memory: Float[Tensor, "B N Dm"], mask: Bool[Tensor, "B N"] | None = None) -> Latents:
        """Sum up a memory, of which the mask says what is real (True): (B, n_latents, D)."""
        memory = self.project(memory)
        latents = self.latents.expand(len(memory), -1, -1)
        for layer in self.layers:
            latents = layer(latents, memory, mask)
        return self.norm(latents)


class QFormer(nn.Module):
    """Sum a memory up by learned queries in decoder layers: they read each other, then the memory, then think.

    Source: Li et al., BLIP-2 (2023), section 3.1; its layers are post-norm, as BERT's.
    """

    def __init__(self, config: LayerConfig, *, n_queries: int, n_layers: int = 1):
        super().__init__()
        _check_at_least_one(n_queries=n_queries, n_layers=n_layers)
        self.queries = nn.Parameter(torch.randn(n_queries, config.d_model) * config.d_model**-0.5)
        self.norm = nn.LayerNorm(config.d_model)
        self.layers = nn.ModuleList(DecoderLayer(replace(config, norm="post")) for _ in range(n_layers))

    def forward(self, memory: Float[Tensor, "B N Dm"], mask: Bool[Tensor, "B N"] | None = None) -> Latents:
        """Sum up a memory, of which the mask says what is real (True): (B, n_queries, D)."""
        x = self.norm(self.queries).expand(len(memory), -1, -1)
        for layer in self.layers:
            x = layer(x, memory, memory_mask=None if mask is None else mask[:, None, None])
        return x


class GatedLayer(nn.Module):
    """Let text read pictures through a gate that is shut at first, so that a trained language model stays what it is.

    y = x + tanh(a) * cross_attention(norm(x), media), then y + tanh(b) * feed_forward(norm(y)); a and b begin at 0.
    With both gates at 0 the layer is the identity, and the gates alone get a gradient.
    Source: Alayrac et al., Flamingo (2022), figure 4.
    """

    def __init__(self, config: LayerConfig):
        super().__init__()
        self.attention_norm, self.feed_forward_norm = nn.LayerNorm(config.d_model), nn.LayerNorm(config.d_model)
        self.attention = MultiHeadAttention(
            config.d_model, config.n_heads, d_memory=config.d_memory, dropout=config.dropout, attend=config.attend
        )
        self.feed_forward = _feed_forward(config)
        self.attention_gate = nn.Parameter(torch.zeros(()))
        self.feed_forward_gate = nn.Parameter(torch.zeros(()))

    def forward(
        self, x: Float[Tensor, "B Nq D"], media: Float[Tensor, "B Nk Dm"], mask: Bool[Tensor, "B 1 Nq Nk"] | None = None
    ) -> Float[Tensor, "B Nq D"]:
        """Let text x read the latents of its pictures, image after image, under a mask as media_mask makes it.

        A word before the first image reads nothing, and what out_proj would add to nothing is left out, too.
        """
        read = self.attention(self.attention_norm(x), media, mask)
        if mask is not None:
            read = read.masked_fill(~mask.any(dim=-1)[:, 0, :, None], 0)
        x = x + self.attention_gate.tanh() * read
        return x + self.feed_forward_gate.tanh() * self.feed_forward(self.feed_forward_norm(x))


def media_mask(is_image: Bool[Tensor, "B Nq"], *, n_images: int, n_latents: int) -> Bool[Tensor, "B 1 Nq ML"]:
    """Say which latents each word may look at: those of the last image that stands before it, or in its own place.

    is_image is True where an image stands in the text; the latents of the images follow each other, n_latents each.
    A word before the first image may look at nothing.

    Raises ValueError for a text with more than n_images images, and for sizes below 1.
    Source: Alayrac et al., Flamingo (2022), section 3.1.3 and figure 7.
    """
    _check_at_least_one(n_images=n_images, n_latents=n_latents)
    last = is_image.long().cumsum(dim=1)  # (B, Nq): 0 before the first image, then 1, 2, ...
    if last.numel() and last.max() > n_images:
        raise ValueError(f"n_images ({n_images}) must be at least the images of a text, and one has {int(last.max())}")
    image = torch.arange(1, n_images + 1, device=is_image.device).repeat_interleave(n_latents)
    return (last[..., None] == image)[:, None]


def _and_latents(mask: Tensor | None, latents: Tensor) -> Tensor | None:
    """Widen the mask of a memory by the latents behind it, which may always be seen -> (B, 1, 1, N + L)."""
    if mask is None:
        return None
    return torch.cat([mask, mask.new_ones(latents.shape[:2])], dim=1)[:, None, None]


def _projection(config) -> Callable:
    wide = config.d_memory is None or config.d_memory == config.d_model
    return nn.Identity() if wide else nn.Linear(config.d_memory, config.d_model)


def _feed_forward(config):
    return FeedForward(config.d_model, config.d_ff, dropout=config.dropout, activation=config.activation)


def _check_at_least_one(**sizes):
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name} must be at least 1, got {size}")
