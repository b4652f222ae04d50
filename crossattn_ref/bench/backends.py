"""Every way to have attention computed, ours and torch's, behind one interface, each with what it has to make first.

A way is prepared once for given inputs: masks are built, a ragged memory is packed where a way wants it packed. What
it gives back computes attention from the tensors it names, so that their gradients can be asked for as well.

Letters: B samples in a batch, H heads, Nq queries, Nk keys, D width of each.
"""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.attention.flex_attention import create_block_mask, flex_attention
from torch.nn.attention.varlen import varlen_attn

from crossattn_ref.attention import chunked
from crossattn_ref.attention.inputs import Lengths
from crossattn_ref.cost import Shape


@dataclass(frozen=True)
class Inputs:
    """q (B, H, Nq, D), k and v (B, H, Nk, D), and how many keys of each sample are real, (B,), or None for all."""

    q: Tensor
    k: Tensor
    v: Tensor
    lengths: Tensor | None

    @property
    def mask(self) -> Lengths | None:
        """Say the lengths as a mask."""
        return None if self.lengths is None else Lengths(self.lengths)


@dataclass(frozen=True)
class Prepared:
    """Attention, ready to be computed from tensors: q, k and v as a way wants them, heads first or packed."""

    attend: Callable[..., Tensor]
    tensors: tuple[Tensor, Tensor, Tensor]

    def __call__(self) -> Tensor:
        """Compute attention, (B, H, Nq, D)."""
        return self.attend(*self.tensors)


def draw(shape: Shape, device: torch.device, seed: int = 0) -> Inputs:
    """Draw inputs of a shape."""
    generator = torch.Generator(device).manual_seed(seed)
    sizes = (shape.Nq, shape.Nk, shape.Nk)
    q, k, v = (
        torch.randn(shape.B, shape.H, size, shape.D, device=device, generator=generator).to(getattr(torch, shape.dtype))
        for size in sizes
    )
    lengths = None if shape.lengths is None else torch.tensor(shape.lengths, device=device)
    return Inputs(q, k, v, lengths)


def fused_attention(q: Tensor, k: Tensor, v: Tensor, mask: Lengths | None = None) -> Tensor:
    """Compute fused.attention, which is imported when it is asked for: it alone needs triton."""
    from crossattn_ref.attention import fused

    return fused.attention(q, k, v, mask)


def fused_way(x: Inputs) -> Prepared:
    """Ours, in one kernel: lengths go into it as they are."""
    mask = x.mask
    return Prepared(lambda q, k, v: fused_attention(q, k, v, mask), (x.q, x.k, x.v))


def chunked_way(x: Inputs) -> Prepared:
    """Ours, in torch, block after block."""
    mask = x.mask
    return Prepared(lambda q, k, v: chunked.attention(q, k, v, mask), (x.q, x.k, x.v))


def sdpa(*backends: SDPBackend) -> Callable[[Inputs], Prepared]:
    """F.scaled_dot_product_attention, by the given backend alone, or by the one it chooses; lengths become a mask."""

    def prepare(x):
        seen = None if x.mask is None else x.mask.mask(x.q.shape[0], x.q.shape[2], x.k.shape[2])

        def attend(q, k, v):
            with sdpa_kernel(list(backends)) if backends else contextlib.nullcontext():
                return functional.scaled_dot_product_attention(q, k, v, attn_mask=seen)

        return Prepared(attend, (x.q, x.k, x.v))

    return prepare


def flex_way(x: Inputs) -> Prepared:
    """FlexAttention, compiled for the shape; lengths become a mask of blocks."""
    blocks = x.lengths if x.lengths is None else _blocks(x.lengths, x.q.shape[2], x.k.shape[2])
    return Prepared(lambda q, k, v: _compiled()(q, k, v, block_mask=blocks), (x.q, x.k, x.v))


def varlen_way(x: Inputs) -> Prepared:
    """varlen_attn: all samples one after another, without padding."""
    (batch, n_heads, n_queries, width), packed = x.q.shape, _packed(x)
    ends, _, most = zip(*_spans(x), strict=True)
    ends = [one.to(torch.int32) for one in ends]

    def attend(q, k, v):
        return varlen_attn(q, k, v, *ends, *most).view(batch, n_queries, n_heads, width).transpose(1, 2)

    return Prepared(attend, packed)


def jagged_way(x: Inputs) -> Prepared:
    """Nested tensors of the jagged layout, given to F.scaled_dot_product_attention."""
    (batch, n_heads, n_queries, width), packed = x.q.shape, _packed(x)
    spans = _spans(x)

    def nested(values, i):
        ends, least, most = spans[i]
        found = torch.nested.nested_tensor_from_jagged(values, ends, min_seqlen=least, max_seqlen=most)
        return found.transpose(1, 2)  # (B, H, ragged, D)

    def attend(q, k, v):
        out = functional.scaled_dot_product_attention(nested(q, 0), nested(k, 1), nested(v, 1)).transpose(1, 2)
        return out.values().view(batch, n_queries, n_heads, width).transpose(1, 2)

    return Prepared(attend, packed)


def attention_by(way: str) -> Callable[..., Tensor]:
    """Make one of WAYS a function of q, k and v that layers compute their attention by; it takes no mask but None."""

    def attend(q, k, v, mask=None):
        if mask is not None:
            raise TypeError(f"mask must be None in a layer that attends by {way}, got {type(mask).__name__}")
        return WAYS[way](Inputs(q, k, v, None))()

    return attend


WAYS = {
    "fused": fused_way,
    "default": sdpa(),
    "cudnn": sdpa(SDPBackend.CUDNN_ATTENTION),
    "flash": sdpa(SDPBackend.FLASH_ATTENTION),
    "efficient": sdpa(SDPBackend.EFFICIENT_ATTENTION),
    "varlen": varlen_way,
    "jagged": jagged_way,
    "flex": flex_way,
    "math": sdpa(SDPBackend.MATH),
    "chunked": chunked_way,
}
MASKED = ("default", "cudnn", "flash", "efficient", "math")  # what is told of padding by a mask


def exact(x: Inputs, places: Sequence[tuple[int, int]]) -> dict[tuple[int, int], tuple[Tensor]]:
    """Compute attention in float64 by the formula, for some pairs of a sample and a head: one tensor (Nq, D) each."""
    found = {}
    for b, h in places:
        end = x.k.shape[2] if x.lengths is None else int(x.lengths[b])
        q, k, v = x.q[b, h].double(), x.k[b, h, :end].double(), x.v[b, h, :end].double()
        found[b, h] = ((q @ k.T / q.shape[-1] ** 0.5).softmax(dim=-1) @ v,)
    return found


def exact_gradients(x: Inputs, grad_out: Tensor, places: Sequence[tuple[int, int]]) -> dict[tuple[int, int], tuple]:
    """Compute the gradients of q, k and v in float64 by the formula, for some pairs of a sample and a head.

    Without lengths.
    """
    found = {}
    for b, h in places:
        q, k, v, grad = (tensor[b, h].double() for tensor in (x.q, x.k, x.v, grad_out))
        weights = (q @ k.T / q.shape[-1] ** 0.5).softmax(dim=-1)
        sent = grad @ v.T
        grad_scores = weights * (sent - (weights * sent).sum(dim=-1, keepdim=True)) / q.shape[-1] ** 0.5
        found[b, h] = grad_scores @ k, grad_scores.T @ q, weights.T @ grad
    return found


@cache
def _compiled():
    return torch.compile(flex_attention)


def _blocks(lengths, n_queries, n_keys):
    def seen(b, h, i, j):  # noqa: ARG001 flex_attention asks with all four
        return j < lengths[b]

    return create_block_mask(seen, len(lengths), None, n_queries, n_keys, device=lengths.device)


def _spans(x):
    """Say of the queries and of the keys where each sample begins, (B + 1,), and how long the shortest and longest is.

    The last of the beginnings is the end of all. Without lengths nothing is asked of the GPU.
    """
    (batch, _, n_queries, _), n_keys = x.q.shape, x.k.shape[2]
    spans = [(torch.arange(batch + 1, device=x.q.device) * n, n, n) for n in (n_queries, n_keys)]
    if x.lengths is not None:
        ends = functional.pad(x.lengths.cumsum(0), (1, 0))
        spans[1] = ends, int(x.lengths.min()), int(x.lengths.max())
    return spans


def _packed(x):
    """Lay all samples one after another without padding: (tokens, H, D) each, copied only where they lie otherwise."""
    q, k, v = (tensor.transpose(1, 2) for tensor in (x.q, x.k, x.v))
    if x.lengths is None:
        return tuple(tensor.flatten(0, 1).contiguous() for tensor in (q, k, v))
    seen = torch.arange(x.k.shape[2], device=x.k.device) < x.lengths[:, None]  # (B, Nk)
    return q.flatten(0, 1).contiguous(), k[seen], v[seen]
