"""Attention in torch, with all its weights at once.

Letters: B samples in a batch, H heads of the queries, Hkv heads of keys and values, Nq queries, Nk keys,
Dk width of a query or key, Dv width of a value.

The sum itself is left to torch's F.scaled_dot_product_attention, which picks the fastest kernel at hand.
Torch multiplies what a mask hides by a weight of 0, and 0 * NaN is NaN; what a query that sees nothing gets
depends on the kernel. So a masked call looks first whether its numbers are finite and every query sees something,
three reads of memory beside the sum. Only where that fails is what is hidden set to 0 beforehand.
One thing stays as torch does it: a NaN that the loss sends back to a query reaches the gradients of all its keys.
"""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from crossattn_ref.attention.inputs import Lengths, check_sequences, is_finite, read_mask


def attention(
    q: Float[Tensor, "B H Nq Dk"],
    k: Float[Tensor, "B Hkv Nk Dk"],
    v: Float[Tensor, "B Hkv Nk Dv"],
    mask: Bool[Tensor, "..."] | Lengths | None = None,
) -> Float[Tensor, "B H Nq Dv"]:
    """Let every query carry away a weighted average of the values.

    attention(Q, K, V) = softmax(Q K^T / sqrt(d_k)) V, the softmax running over keys; d_k is our Dk.

    Hkv divides H: with fewer heads of keys than of queries, H / Hkv query heads in a row share one, without a copy.
    The mask is boolean, True = may look, and broadcasts to (B, H, Nq, Nk), or is given as Lengths.
    A query that may look at nothing, or finds an empty memory, gets zeros and has zero gradients.
    What stands in places that a query may not see has no effect on it, NaN and inf included.

    Raises TypeError for integers, differing dtypes, or a mask that is neither boolean nor Lengths;
    ValueError for shapes that do not fit, and for a mask that would enlarge the batch.
    Source: Vaswani et al., Attention Is All You Need (2017), equation 1; grouped heads: Ainslie et al., GQA (2023).
    """
    check_sequences(q, k, v)
    rows, seen = _fold(q, k.shape[1], read_mask(mask, (*q.shape[:-1], k.shape[-2])))
    return _shielded(_average, seen, rows, k, v).reshape(*q.shape[:-1], v.shape[-1])


def attention_weights(
    q: Float[Tensor, "B H Nq Dk"],
    k: Float[Tensor, "B Hkv Nk Dk"],
    mask: Bool[Tensor, "..."] | Lengths | None = None,
) -> Float[Tensor, "B H Nq Nk"]:
    """Share out each query's attention among the keys.

    weights = softmax(Q K^T / sqrt(d_k)), the softmax running over keys; d_k is our Dk.

    Every row sums to one, or is all zeros where its query may look at nothing. Masks and errors as for attention.
    Source: Vaswani et al., Attention Is All You Need (2017), equation 1.
    """
    check_sequences(q, k)
    rows, seen = _fold(q, k.shape[1], read_mask(mask, (*q.shape[:-1], k.shape[-2])))
    return _shielded(_weights, seen, rows, k).reshape(*q.shape[:-1], k.shape[-2])


def _average(seen, q, k, v):
    return functional.scaled_dot_product_attention(q, k, v, attn_mask=seen)


def _weights(seen, q, k):
    wide = torch.promote_types(q.dtype, torch.float32)
    scores = q.to(wide) @ k.to(wide).mT / math.sqrt(q.shape[-1])  # (B, Hkv, rows, Nk)
    if seen is not None:
        scores = scores.masked_fill(~seen, -math.inf)
    return scores.softmax(dim=-1).to(q.dtype)


def _fold(q, n_kv_heads, seen):
    """Make the query heads that share a key head into more queries of that head, and the mask likewise."""
    batch, n_heads, n_queries, width = q.shape
    groups = n_heads // n_kv_heads
    if groups == 1:
        return q, seen
    rows = q.reshape(batch, n_kv_heads, groups * n_queries, width)
    if seen is None or seen.shape[1:3] == (1, 1):
        return rows, seen
    if seen.shape[1] == 1:
        return rows, seen.repeat(1, 1, groups, 1)
    seen = seen.expand(-1, -1, n_queries, -1)
    return rows, seen.reshape(seen.shape[0], n_kv_heads, groups * n_queries, seen.shape[-1])


def _shielded(compute, seen, q, *memory):
    """Compute so that no query notices what it may not see, and one that sees nothing gets zeros.

    First for the usual case, then with zeros where nobody looks, and last, row by row, with zeros where a row
    does not look: multiplied by a weight of 0, these stay 0 in the output and in every gradient.
    """
    if seen is None:
        return compute(seen, q, *memory)
    if seen.any(dim=-1).all() and is_finite(q, *memory):
        return compute(seen, q, *memory)
    blind = ~seen.any(dim=-1, keepdim=True)  # (B, H, rows, 1): queries that see nothing
    hidden = ~seen.any(dim=-2).unsqueeze(-1)  # (B, H, Nk, 1): keys that nobody sees
    q, memory = q.masked_fill(blind, 0), [tensor.masked_fill(hidden, 0) for tensor in memory]
    if seen.shape[-2] == 1 or is_finite(q, *memory):
        return compute(seen | blind, q, *memory).masked_fill(blind, 0)
    rows = zip(seen.split(1, dim=-2), q.split(1, dim=-2), strict=True)
    return torch.cat([checkpoint(_shielded, compute, *row, *memory, use_reentrant=False) for row in rows], dim=-2)
