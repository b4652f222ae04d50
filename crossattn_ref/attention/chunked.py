"""Attention in torch, exact, block after block: the weights of all keys never stand side by side.

Softmax divides by a sum over all keys, and yet one pass is enough: each query keeps its largest score, the sum of
exp(score - largest), and that sum weighted with values; where the largest score grows, both sums are rescaled.
Beside inputs and output, memory holds one block of queries by one block of keys for each sample and head, however
many keys there are. The backward pass computes the blocks once more, from one number that it keeps for each query.

The NumPy half is attention.online, so that what runs without torch never imports it; merge lies there.

Letters: B samples in a batch, H heads of the queries, Hkv heads of keys and values, Nq queries, Nk keys,
Dk width of a query or key, Dv width of a value; within, G = H / Hkv query heads share a head of keys.
Source: Dao et al., FlashAttention (2022), algorithms 1 and 4; Rabe & Staats (2021) without a kernel, as here.
"""

import math
import operator
from collections.abc import Iterator

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from crossattn_ref.attention.inputs import Lengths, check_sequences, is_finite, read_mask

CHUNK_SIZE = 512


def attention(
    q: Float[Tensor, "B H Nq Dk"],
    k: Float[Tensor, "B Hkv Nk Dk"],
    v: Float[Tensor, "B Hkv Nk Dv"],
    mask: Bool[Tensor, "..."] | Lengths | None = None,
    *,
    chunk_size: int = CHUNK_SIZE,
) -> Float[Tensor, "B H Nq Dv"]:
    """Compute dense.attention without its weights: the same arguments, the same answer, the same gradients.

    Beside inputs, output and one number for each query, memory holds chunk_size queries by chunk_size keys for each
    sample and head, forward and backward. Lengths are never written out as a mask, and keys beyond the longest of
    them are not read. Gradients of gradients are not to be had: RuntimeError.

    Raises as dense.attention does, TypeError for a chunk_size that is not an integer, ValueError for one below 1.
    Source: Dao et al., FlashAttention (2022), algorithms 1 and 4.
    """
    check_sequences(q, k, v)
    try:
        size = operator.index(chunk_size)
    except TypeError:
        raise TypeError(f"chunk_size must be an integer, got {chunk_size!r}") from None
    if size < 1:
        raise ValueError(f"chunk_size must be at least 1, got {size}")
    return _Chunked.apply(q, k, v, _Blocks(q, k, mask, size))


class _Blocks:
    """Which queries meet which keys together, who may look there, and how a block is laid out.

    In a block the query heads that share a head of keys lie one after another: (B Hkv, G rows, .).
    """

    def __init__(self, q, k, mask, size):
        self.batch, n_heads, self.n_queries, _ = q.shape
        self.heads = (k.shape[1], n_heads // k.shape[1])
        self.size, self.end, self.mask = size, k.shape[2], mask
        if isinstance(mask, Lengths):
            mask.check(self.batch, self.end)
            self.end = mask.longest
        else:
            self.mask = read_mask(mask, (*q.shape[:3], self.end))

    def rows(self) -> Iterator[slice]:
        return _slices(self.n_queries, self.size)

    def columns(self, rows: slice) -> Iterator[slice]:
        """Cut the keys that some query of a block may look at."""
        causal = self.mask.causal if isinstance(self.mask, Lengths) else None
        ahead = {None: self.end, "top-left": rows.stop, "bottom-right": rows.stop + self.end - self.n_queries}[causal]
        return _slices(max(0, min(self.end, ahead)), self.size)

    def hidden(self, rows: slice, columns: slice) -> Tensor | None:
        """Write out who may not look where in a block, (B Hkv, G rows, columns); None where all may see all."""
        if self.mask is None:
            return None
        if isinstance(self.mask, Lengths):
            seen = self.mask.block(rows, columns, self.n_queries)
        else:
            seen = self.mask[..., columns] if self.mask.shape[2] == 1 else self.mask[:, :, rows, columns]
        shape = (self.batch, self.heads[0] * self.heads[1], rows.stop - rows.start, columns.stop - columns.start)
        return self._fold(~seen.expand(shape))

    def queries(self, tensor: Tensor, rows: slice, dtype: torch.dtype) -> Tensor:
        return self._fold(tensor[:, :, rows].to(dtype))

    def keys(self, tensor: Tensor, columns: slice, dtype: torch.dtype) -> Tensor:
        return tensor[:, :, columns].flatten(0, 1).to(dtype)

    def room(self, query: Tensor) -> Tensor:
        """Set aside a place for the scores of a block of queries with any block of keys."""
        return query.new_empty(query.shape[0] * query.shape[1] * min(self.size, self.end))

    def put(self, tensor: Tensor, rows: slice, block: Tensor) -> None:
        """Write a block of queries to its place."""
        tensor[:, :, rows] = block.view(tensor[:, :, rows].shape)

    def _fold(self, tensor):
        return tensor.unflatten(1, self.heads).flatten(2, 3).flatten(0, 1)


class _Chunked(torch.autograd.Function):
    """Forward and backward, block after block."""

    @staticmethod
    def forward(ctx, q, k, v, blocks):
        careful = blocks.mask is not None and not is_finite(q, k, v)
        out = q.new_empty(*q.shape[:-1], v.shape[-1])
        logs = q.new_empty(*q.shape[:-1], 1, dtype=_wide(q))  # log of the sum of exp(score), +inf for an empty sum
        for rows in blocks.rows():
            top, total, summed = _read(blocks, q, k, v, rows, careful)
            blocks.put(out, rows, (summed / total.masked_fill(total == 0, 1)).to(out.dtype))
            blocks.put(logs, rows, (top + total.log()).masked_fill(total == 0, math.inf))
        ctx.save_for_backward(q, k, v, out, logs)
        ctx.blocks = blocks
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_out):
        q, k, v, out, logs = ctx.saved_tensors
        blocks, wide = ctx.blocks, _wide(q)
        careful = blocks.mask is not None and not is_finite(q, k, v, grad_out)
        if careful:
            grad_out = grad_out.masked_fill(logs == math.inf, 0)  # a query that sees nothing sends nothing
        grad_q, grad_k, grad_v = torch.empty_like(q), *(x.new_zeros(x.shape, dtype=wide) for x in (k, v))
        for rows in blocks.rows():
            part = _send_back(blocks, (grad_out, q, k, v, out, logs), rows, (grad_k, grad_v), careful)
            blocks.put(grad_q, rows, part.to(q.dtype))
        return grad_q, grad_k.to(k.dtype), grad_v.to(v.dtype), None


def _read(blocks, q, k, v, rows, careful):
    """Let a block of queries meet the keys, block after block -> top, total (B Hkv, G rows, 1), summed (.., Dv)."""
    wide = _wide(q)
    query = blocks.queries(q, rows, wide) / math.sqrt(q.shape[-1])
    top = query.new_full((*query.shape[:2], 1), -math.inf)
    total, summed = torch.zeros_like(top), query.new_zeros(*query.shape[:2], v.shape[-1])
    room = blocks.room(query)
    for columns in blocks.columns(rows):
        hidden = blocks.hidden(rows, columns)
        scores = _scores(query, blocks.keys(k, columns, wide), hidden, room)
        higher = torch.maximum(top, scores.amax(dim=-1, keepdim=True))
        shift = higher.masked_fill(higher == -math.inf, 0)  # exp(-inf - 0) is 0, and exp(-inf + inf) NaN
        exp, rescale = scores.sub_(shift).exp_(), top.sub_(shift).exp_()
        if careful:
            exp.masked_fill_(hidden, 0)  # a NaN that a query does see must not reach its unseen places
        total = total.mul_(rescale).add_(exp.sum(dim=-1, keepdim=True))
        _add_product(summed.mul_(rescale), exp, blocks.keys(v, columns, wide), hidden if careful else None)
        top = higher
    return top, total, summed


def _send_back(blocks, tensors, rows, grads, careful):
    """Add what a block of queries sends back to keys and values; return what it gets itself."""
    wide = grads[0].dtype
    grad_out, query, out, logs = (blocks.queries(tensors[place], rows, wide) for place in (0, 1, 4, 5))
    _, _, k, v, *_ = tensors
    scale = 1 / math.sqrt(k.shape[-1])
    inner, query, grad_query = (grad_out * out).sum(dim=-1, keepdim=True), query * scale, torch.zeros_like(query)
    room, other_room = blocks.room(query), blocks.room(query)
    for columns in blocks.columns(rows):
        hidden = blocks.hidden(rows, columns)
        key, value = (blocks.keys(x, columns, wide) for x in (k, v))
        weights = _scores(query, key, hidden, room).sub_(logs).exp_()
        grad_scores = _product(grad_out, value.mT, other_room).sub_(inner).mul_(weights)
        if careful:
            weights.masked_fill_(hidden, 0), grad_scores.masked_fill_(hidden, 0)
        _add_product(grad_query, grad_scores, key, hidden if careful else None)
        for grad, by, given in zip(grads, (grad_scores, weights), (query, grad_out), strict=True):
            _add_product(grad[:, :, columns].flatten(0, 1), by.mT, given, hidden.mT if careful else None)
    return grad_query * scale


def _product(one, other, room):
    """Multiply into a place that is used again for every block: fresh memory costs more than the product."""
    shape = (*one.shape[:2], other.shape[-1])
    return torch.bmm(one, other, out=room[: math.prod(shape)].view(shape))


def _scores(query, key, hidden, room):
    scores = _product(query, key.mT, room)
    return scores if hidden is None else scores.masked_fill_(hidden, -math.inf)


def _add_product(total, weights, values, hidden):
    """Add weights @ values in place; where hidden is given, a hidden value adds nothing at all, not even 0 * NaN."""
    if hidden is None:
        total.baddbmm_(weights, values)
        return
    finite = values.isfinite()
    total.baddbmm_(weights, values.masked_fill(~finite, 0))
    for column in (~finite).flatten(0, 1).any(dim=0).nonzero().flatten().tolist():
        wild = values[..., column].masked_fill(finite[..., column], 0).unsqueeze(-2)
        total[..., column] += (weights * wild).masked_fill_(hidden, 0).sum(dim=-1)


def _wide(tensor):
    return torch.promote_types(tensor.dtype, torch.float32)


def _slices(length, size):
    return (slice(start, min(start + size, length)) for start in range(0, length, size))
