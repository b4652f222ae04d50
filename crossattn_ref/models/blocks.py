"""The blocks that encoders and decoders are built from.

Letters: B samples in a batch, H heads of the queries, Hkv heads of keys and values, N positions, Nq queries, Nk keys,
D model width, Dm width of the memory, Dk width of one query or key.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from crossattn_ref.attention import dense
from crossattn_ref.attention.inputs import Lengths
from crossattn_ref.attention.multihead import Memory, MultiHeadAttention
from crossattn_ref.models.past import Past


def sinusoidal_positions(n: int, d_model: int, *, base: float = 10_000.0) -> Float[Tensor, "N D"]:
    """Write down a fixed vector for each of the positions 0 to n - 1, to be added to what stands there.

    PE(pos, 2i) = sin(pos / 10000^(2i / d_model)), PE(pos, 2i + 1) = cos(pos / 10000^(2i / d_model)).

    Raises ValueError for a negative n, and for a d_model that is not even.
    Source: Vaswani et al., Attention Is All You Need (2017), section 3.5.
    """
    if n < 0:
        raise ValueError(f"n must be at least 0, got {n}")
    angles = _angles("d_model", 0, n, d_model, base)  # (N, D / 2)
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1).to(torch.get_default_dtype())


class LearnedPositions(nn.Module):
    """Keep a trainable vector for each of n_positions positions, to be added to what stands there.

    Source: Gehring et al., Convolutional Sequence to Sequence Learning (2017), section 3.1.
    """

    def __init__(self, n_positions: int, d_model: int):
        super().__init__()
        self.vectors = nn.Parameter(torch.randn(n_positions, d_model) * d_model**-0.5)

    def forward(self, n: int, *, first: int = 0) -> Float[Tensor, "N D"]:
        """Return the vectors of n positions from first on; ValueError where there are not so many."""
        n_positions = len(self.vectors)
        if n < 0 or first < 0 or first + n > n_positions:
            raise ValueError(f"first ({first}) and n ({n}) must lie within n_positions ({n_positions})")
        return self.vectors[first : first + n]


def rotary(
    q: Float[Tensor, "B H Nq Dk"], k: Float[Tensor, "B Hkv Nk Dk"]
) -> tuple[Float[Tensor, "B H Nq Dk"], Float[Tensor, "B Hkv Nk Dk"]]:
    """Turn queries and keys by their positions, so that scores depend on how far apart they stand.

    For self-attention: positions=rotary of MultiHeadAttention. The queries are the last Nq of the Nk positions,
    so that a new query reads a memory that holds its past and itself.

    Raises ValueError for more queries than keys, and for an odd Dk.
    Source: Su et al., RoFormer (2021), equations 14 to 16 and 34.
    """
    first = k.shape[-2] - q.shape[-2]
    if first < 0:
        raise ValueError(f"the queries ({q.shape[-2]}) must be among the keys ({k.shape[-2]}): self-attention only")
    return rotate(q, first=first), rotate(k)


def rotate(x: Float[Tensor, "*batch N Dk"], *, first: int = 0, base: float = 10_000.0) -> Float[Tensor, "*batch N Dk"]:
    """Turn the pair (x_2i, x_2i+1) at position p by the angle p / base^(2i / Dk); positions count from first.

    Raises ValueError for an odd Dk. Source: Su et al., RoFormer (2021), equation 34.
    """
    angles = _angles("Dk", first, x.shape[-2], x.shape[-1], base).to(x.device)  # (N, Dk / 2)
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    left, right = x[..., 0::2], x[..., 1::2]
    return torch.stack([left * cos - right * sin, left * sin + right * cos], dim=-1).flatten(-2)


class FeedForward(nn.Module):
    """Let each position think by itself.

    FFN(x) = max(0, x W_1 + b_1) W_2 + b_2; activation stands for max(0, .). Dropout acts after W_2.

    Source: Vaswani et al., Attention Is All You Need (2017), equation 2.
    """

    def __init__(self, d_model: int, d_ff: int, *, dropout: float = 0.0, activation: Callable = functional.relu):
        super().__init__()
        self.inner, self.outer = nn.Linear(d_model, d_ff), nn.Linear(d_ff, d_model)
        self.activation = activation
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Float[Tensor, "*batch D"]) -> Float[Tensor, "*batch D"]:
        """Apply the same two layers at every position."""
        return self.dropout(self.outer(self.activation(self.inner(x))))


@dataclass(frozen=True, kw_only=True)
class LayerConfig:
    """What an encoder or decoder layer is made of.

    norm says where the layer norm stands: "post" after each residual sum, as in the paper's text (section 5.4 and
    equation LayerNorm(x + Sublayer(x)) of section 3.1), or "pre" before each sublayer, x + Sublayer(LayerNorm(x)),
    as in its published code; then the last layer's output still needs a norm. See Xiong et al., On Layer
    Normalization in the Transformer Architecture (2020). positions goes to self-attention, d_memory to cross-attention,
    and so does n_cross_heads, n_heads unless given.

    Raises ValueError for another norm, and for a d_ff below 1; MultiHeadAttention checks the other sizes.
    """

    d_model: int = 128
    n_heads: int = 4
    n_kv_heads: int | None = None
    n_cross_heads: int | None = None
    d_memory: int | None = None
    d_ff: int = 512
    dropout: float = 0.1
    norm: Literal["pre", "post"] = "pre"
    activation: Callable = functional.relu
    attend: Callable = dense.attention
    positions: Callable | None = None

    def __post_init__(self):
        """Check what no block checks itself."""
        if self.norm not in ("pre", "post"):
            raise ValueError(f'norm must be "pre" or "post", got {self.norm!r}')
        if self.d_ff < 1:
            raise ValueError(f"d_ff must be at least 1, got {self.d_ff}")


class Residual(nn.Module):
    """Add what a sublayer finds to what was there, with a layer norm before the sublayer or after the sum."""

    def __init__(self, config: LayerConfig):
        super().__init__()
        self.layer_norm = nn.LayerNorm(config.d_model)
        self.pre = config.norm == "pre"

    def forward(self, x: Float[Tensor, "B N D"], sublayer: Callable) -> Float[Tensor, "B N D"]:
        """Compute x + sublayer(norm(x)), or norm(x + sublayer(x)); ValueError for x of another width."""
        if x.shape[-1:] != self.layer_norm.normalized_shape:
            raise ValueError(f"x must have the width {self.layer_norm.normalized_shape[0]}, got shape {tuple(x.shape)}")
        if self.pre:
            return x + sublayer(self.layer_norm(x))
        return self.layer_norm(x + sublayer(x))

    def entering(self, x: Float[Tensor, "B N D"]) -> Float[Tensor, "B N D"]:
        """Return what the sublayer is given: norm(x), or x itself."""
        return self.layer_norm(x) if self.pre else x


class EncoderLayer(nn.Module):
    """Let every position read all others, then think.

    Source: Vaswani et al., Attention Is All You Need (2017), section 3.1 and figure 1, left.
    """

    def __init__(self, config: LayerConfig):
        super().__init__()
        self.self_attention, self.around_self_attention = _self_attention(config), Residual(config)
        self.feed_forward, self.around_feed_forward = _feed_forward(config), Residual(config)

    def forward(
        self, x: Float[Tensor, "B N D"], mask: Bool[Tensor, "..."] | Lengths | None = None
    ) -> Float[Tensor, "B N D"]:
        """Encode x; the mask says who may look where, True = may look, as for MultiHeadAttention."""
        x = self.around_self_attention(x, lambda x: self.self_attention(x, mask=mask))
        return self.around_feed_forward(x, self.feed_forward)


class DecoderLayer(nn.Module):
    """Let every position read the others, then the memory, then think: an encoder layer and one line.

    Source: Vaswani et al., Attention Is All You Need (2017), section 3.1 and figure 1, right.
    """

    def __init__(self, config: LayerConfig):
        super().__init__()
        self.self_attention, self.around_self_attention = _self_attention(config), Residual(config)
        self.cross_attention, self.around_cross_attention = _cross_attention(config), Residual(config)
        self.feed_forward, self.around_feed_forward = _feed_forward(config), Residual(config)

    def forward(
        self,
        x: Float[Tensor, "B Nq D"],
        memory: Float[Tensor, "B Nk Dm"] | Memory,
        mask: Bool[Tensor, "..."] | Lengths | None = None,
        memory_mask: Bool[Tensor, "..."] | Lengths | None = None,
    ) -> Float[Tensor, "B Nq D"]:
        """Decode x; mask says where x may look in x (usually to its past), memory_mask where in the memory.

        The memory may be what cross_attention.remember made of it.
        """
        x = self.around_self_attention(x, lambda x: self.self_attention(x, mask=mask))
        x = self.around_cross_attention(x, lambda x: self.cross_attention(x, memory, memory_mask))
        return self.around_feed_forward(x, self.feed_forward)

    def step(
        self,
        x: Float[Tensor, "B W D"],
        memory: Memory,
        past: Past | None,
        seen: Bool[Tensor, "B W n"],
        memory_mask: Bool[Tensor, "..."] | Lengths | None = None,
    ) -> tuple[Float[Tensor, "B W D"], Past]:
        """Decode the next position of W continuations of each sample side by side -> (x, the past after it).

        past is what the step before returned, None at first, and seen tells which of its places, those of this step
        included, each continuation descends from. memory is what cross_attention.remember made of the B samples:
        the continuations read it as so many queries of one sample, so that no memory is copied.
        The result is that of forward.
        Raises ValueError where self-attention marks positions by itself: a place of the past is no position.
        """
        if self.self_attention.positions is not None:
            raise ValueError("positions must be None: in a past shared by continuations, place and position differ")

        def read_past(x):
            nonlocal past
            new = self.self_attention.remember(x)
            past = Past(new) if past is None else past.grown(new)
            return self.self_attention(x, past.memory, seen[:, None])

        x = self.around_self_attention(x, read_past)
        x = self.around_cross_attention(x, lambda x: self.cross_attention(x, memory, memory_mask))
        return self.around_feed_forward(x, self.feed_forward), past

    def cross_weights(
        self,
        x: Float[Tensor, "B Nq D"],
        memory: Float[Tensor, "B Nk Dm"] | Memory,
        mask: Bool[Tensor, "..."] | Lengths | None = None,
        memory_mask: Bool[Tensor, "..."] | Lengths | None = None,
    ) -> Float[Tensor, "B H Nq Nk"]:
        """Compute the weights with which forward, given the same, reads the memory."""
        x = self.around_self_attention(x, lambda x: self.self_attention(x, mask=mask))
        return self.cross_attention.weights(self.around_cross_attention.entering(x), memory, memory_mask)


def _self_attention(config):
    return _attention(config, config.n_heads, positions=config.positions)


def _cross_attention(config):
    n_heads = config.n_heads if config.n_cross_heads is None else config.n_cross_heads
    return _attention(config, n_heads, d_memory=config.d_memory)


def _attention(config, n_heads, **options):
    return MultiHeadAttention(
        config.d_model,
        n_heads,
        n_kv_heads=config.n_kv_heads,
        dropout=config.dropout,
        attend=config.attend,
        **options,
    )


def _feed_forward(config):
    return FeedForward(config.d_model, config.d_ff, dropout=config.dropout, activation=config.activation)


def _angles(name, first, n, width, base):
    """Compute p / base^(2i / width) in float64, for n positions p from first on and every i: (n, width / 2)."""
    if width % 2:
        raise ValueError(f"{name} ({width}) must be even: positions are marked by pairs of sine and cosine")
    place = torch.arange(first, first + n, dtype=torch.float64)
    return place[:, None] / base ** (torch.arange(0, width, 2, dtype=torch.float64) / width)
