"""Attention in several heads, as a layer: queries from x, keys and values from a memory.

Letters: B samples in a batch, H heads of the queries, Hkv heads of keys and values, Nq queries, Nk keys,
D width of x, Dm width of the memory, Dh = D / H width of one head.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from crossattn_ref.attention import dense
from crossattn_ref.attention.inputs import Lengths, is_finite, read_mask


@dataclass(frozen=True, eq=False)
class Memory:
    """A memory as one layer reads it: its keys and values, projected once and kept for every later query.

    keys and values (B, Hkv, Nk, Dh). Made by MultiHeadAttention.remember, and of use to that layer alone.
    """

    keys: Float[Tensor, "B Hkv Nk Dh"]
    values: Float[Tensor, "B Hkv Nk Dh"]


class MultiHeadAttention(nn.Module):
    """Let x look at a memory in several heads side by side.

    MultiHead(Q, K, V) = Concat(head_1, ..., head_h) W^O with head_i = attention(Q W_i^Q, K W_i^K, V W_i^V);
    Q is our x, K and V are both our memory, and the W_i of all heads lie in one nn.Linear, head after head.

    d_memory is the width of the memory, d_model unless given. n_kv_heads is the number of heads of keys and values,
    n_heads unless given; with fewer, query heads in a row share one. attend computes the attention itself
    and takes (q, k, v, mask) as dense.attention does. positions, if given, takes (q, k) and returns both
    with their places marked, as models.blocks.rotary does. Dropout acts after out_proj.

    Raises ValueError for a size below 1, where n_heads does not divide d_model, or n_kv_heads not n_heads.
    Source: Vaswani et al., Attention Is All You Need (2017), section 3.2.2; grouped heads: Ainslie et al., GQA (2023).
    """

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        *,
        d_memory: int | None = None,
        n_kv_heads: int | None = None,
        bias: bool = True,
        dropout: float = 0.0,
        attend: Callable = dense.attention,
        positions: Callable | None = None,
    ):
        super().__init__()
        d_memory = d_model if d_memory is None else d_memory
        n_kv_heads = n_heads if n_kv_heads is None else n_kv_heads
        sizes = {"d_model": d_model, "n_heads": n_heads, "d_memory": d_memory, "n_kv_heads": n_kv_heads}
        for name, size in sizes.items():
            if size < 1:
                raise ValueError(f"{name} must be at least 1, got {size}")
        if d_model % n_heads:
            raise ValueError(f"d_model ({d_model}) must be divisible by n_heads ({n_heads})")
        if n_heads % n_kv_heads:
            raise ValueError(f"n_heads ({n_heads}) must be divisible by n_kv_heads ({n_kv_heads})")
        self.n_heads, self.n_kv_heads, self.d_head = n_heads, n_kv_heads, d_model // n_heads
        self.attend, self.positions = attend, positions
        self.q_proj = nn.Linear(d_model, d_model, bias=bias)
        self.k_proj = nn.Linear(d_memory, n_kv_heads * self.d_head, bias=bias)
        self.v_proj = nn.Linear(d_memory, n_kv_heads * self.d_head, bias=bias)
        self.out_proj = nn.Linear(d_model, d_model, bias=bias)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x: Float[Tensor, "B Nq D"],
        memory: Float[Tensor, "B Nk Dm"] | Memory | None = None,
        mask: Bool[Tensor, "..."] | Lengths | None = None,
    ) -> Float[Tensor, "B Nq D"]:
        """Read the memory with queries from x; without a memory, x reads itself (self-attention).

        The mask is boolean, True = may look, and broadcasts to (B, H, Nq, Nk), or is given as Lengths.
        A query that may look at nothing reads zeros, which leaves the bias of out_proj.

        Raises TypeError and ValueError as attend does, ValueError for widths and batches that do not fit,
        and TypeError for another dtype than the layer's (outside autocast).
        """
        q, k, v = self._project(x, memory, mask)
        heads = self.attend(q, k, v, mask)  # (B, H, Nq, Dh)
        return self.dropout(self.out_proj(heads.transpose(1, 2).flatten(2)))

    def weights(
        self,
        x: Float[Tensor, "B Nq D"],
        memory: Float[Tensor, "B Nk Dm"] | Memory | None = None,
        mask: Bool[Tensor, "..."] | Lengths | None = None,
    ) -> Float[Tensor, "B H Nq Nk"]:
        """Compute the exact weights with which every head reads the memory, whatever attend computes with."""
        q, k, _ = self._project(x, memory, mask)
        return dense.attention_weights(q, k, mask)

    def remember(self, memory: Float[Tensor, "B Nk Dm"], past: Memory | None = None) -> Memory:
        """Project a memory to keys and values, and append them to those of the past.

        What is returned stands for the memory in forward and weights, as often as wanted.
        Raises ValueError for a memory of the wrong shape, and for a past of another batch or another layer's shape;
        TypeError for another dtype than the layer's (outside autocast).
        """
        _check_input("memory", memory, self.k_proj)
        keys, values = self._keys_and_values(memory)
        if past is None:
            return Memory(keys, values)
        self._check_remembered("past", past, memory.shape[0])
        return Memory(torch.cat([past.keys, keys], dim=2), torch.cat([past.values, values], dim=2))

    def _project(self, x, memory, mask):
        _check_input("x", x, self.q_proj)
        if isinstance(memory, Memory):
            self._check_remembered("memory", memory, x.shape[0])
            k, v = memory.keys, memory.values
        else:
            memory = x if memory is None else memory
            _check_input("memory", memory, self.k_proj)
            if memory.shape[0] != x.shape[0]:
                raise ValueError(f"memory must have the batch size of x ({x.shape[0]}), got {memory.shape[0]}")
            x, memory = self._shielded(x, memory, mask)
            k, v = self._keys_and_values(memory)
        q = self._split(self.q_proj(x), self.n_heads)
        if self.positions is not None:
            q, k = self.positions(q, k)
        return q, k, v

    def _keys_and_values(self, memory):
        keys, values = self.k_proj(memory), self.v_proj(memory)
        return self._split(keys, self.n_kv_heads), self._split(values, self.n_kv_heads)

    def _shielded(self, x, memory, mask):
        """Set what no head may look from or at to 0 where numbers are not finite.

        Its gradient is 0, but the gradients of the projections multiply that by what stood there, and 0 * NaN is NaN.
        """
        if mask is None or not torch.is_grad_enabled() or is_finite(x, memory):
            return x, memory
        seen = read_mask(mask, (x.shape[0], self.n_heads, x.shape[1], memory.shape[1])).any(dim=1)  # (B, Nq, Nk)
        blind, hidden = ~seen.any(dim=2), ~seen.any(dim=1)  # (B, Nq) and (B, Nk)
        return x.masked_fill(blind[..., None], 0), memory.masked_fill(hidden[..., None], 0)

    def _split(self, x, n_heads):
        batch, n, _ = x.shape
        return x.view(batch, n, n_heads, self.d_head).transpose(1, 2)  # (B, heads, N, Dh)

    def _check_remembered(self, name, memory, batch):
        expected = (batch, self.n_kv_heads, self.d_head)
        found = (*memory.keys.shape[:2], memory.keys.shape[-1])
        if found != expected:
            raise ValueError(f"{name} must hold keys of (B, Hkv, Dh) = {expected}, got {found}")

    def extra_repr(self) -> str:
        """Name what the projections do not show."""
        return f"n_heads={self.n_heads}, n_kv_heads={self.n_kv_heads}"


def _check_input(name, tensor, projection):
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{name} must be a tensor, got {type(tensor).__name__}")
    if tensor.ndim != 3:
        raise ValueError(f"{name} must have three axes, (B, positions, width), got shape {tuple(tensor.shape)}")
    if tensor.shape[-1] != projection.in_features:
        raise ValueError(f"{name} must have the width {projection.in_features}, got shape {tuple(tensor.shape)}")
    if tensor.dtype != projection.weight.dtype and not torch.is_autocast_enabled(tensor.device.type):
        raise TypeError(f"{name} must have the dtype of the layer ({projection.weight.dtype}), got {tensor.dtype}")
