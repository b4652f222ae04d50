"""Backward in Triton: one kernel gathers what each tile of queries gets, another what each tile of keys gets.

Nothing is added to from two programs at once, so a gradient is the same in every run. Where tiles are too few to fill
the GPU (few queries and many keys, or the other way round), the loop is split and the parts are summed by torch.
Rows, units and masks are those of the forward pass.

Letters: B samples, H heads of the queries, Hkv heads of keys and values, Nq queries, Nk keys, Dk and Dv widths.
Source: Dao, FlashAttention-2 (2023), algorithm 2, with a pass of its own for the queries.
"""

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from crossattn_ref.attention.fused import tiles
from crossattn_ref.attention.fused.places import (
    LOG2E,
    SIZES,
    count_ends,
    hide,
    load_rows,
    locate,
    offsets,
    reach,
    span,
    start_of,
    store_rows,
)


@triton.jit(do_not_specialize=SIZES)
def inner_kernel(
    grad_out_ptr, out_ptr, logs_ptr, inner_ptr,
    stride_gb: "i64", stride_gh: "i64", stride_gn: "i64", n_kv_heads, n_queries,
    GROUPS: tl.constexpr, DV: tl.constexpr, UNIT: tl.constexpr, BLOCK_Q: tl.constexpr, BLOCK_DV: tl.constexpr,
):  # fmt: skip
    """Write the product of each row's answer with its gradient, 0 for a row that saw nothing."""
    n_rows = GROUPS * n_queries
    tile, _, pair, _ = locate(tl.cdiv(n_rows, BLOCK_Q), 1)
    row = tile * BLOCK_Q + tl.arange(0, BLOCK_Q)
    place = pair * n_rows + row
    seeing = tl.load(logs_ptr + place, row < n_rows, other=float("inf")) < float("inf")
    grad_out_ptr += start_of(pair, n_kv_heads, stride_gb, stride_gh, UNIT, GROUPS)
    offset = offsets(row, n_queries, stride_gh, stride_gn, UNIT, GROUPS)
    grad_out = load_rows(grad_out_ptr, offset, seeing, DV, BLOCK_DV, True).to(tl.float32)
    out = load_rows(out_ptr, place * DV, seeing, DV, BLOCK_DV, True).to(tl.float32)
    tl.store(inner_ptr + place, tl.sum(grad_out * out, 1), row < n_rows)


@triton.jit
def _gather_keys(
    query, grad_out, logs, inner, grad_query, k_ptr, v_ptr, stride_kn, stride_vn, start, stop, last, scale,
    CAUSAL: tl.constexpr, DK: tl.constexpr, DV: tl.constexpr, UNIT: tl.constexpr,
    BLOCK_K: tl.constexpr, BLOCK_DK: tl.constexpr, BLOCK_DV: tl.constexpr, HIDDEN: tl.constexpr,
):  # fmt: skip
    """Add to the gradient of a tile of queries what a tile of keys sends."""
    column = start + tl.arange(0, BLOCK_K)
    offset, real = column.to(tl.int64), column < stop
    key = load_rows(k_ptr, offset * stride_kn * UNIT, real, DK, BLOCK_DK, HIDDEN)
    value = load_rows(v_ptr, offset * stride_vn * UNIT, real, DV, BLOCK_DV, HIDDEN)
    scores = tl.dot(query, tl.trans(key), input_precision="ieee") * scale - logs[:, None]
    if HIDDEN:
        scores = hide(scores, real, column, last, CAUSAL)
    grad_weights = tl.dot(grad_out, tl.trans(value), input_precision="ieee")
    grad_scores = tl.exp2(scores) * (grad_weights - inner[:, None])
    return tl.dot(grad_scores.to(key.dtype), key, grad_query, input_precision="ieee")


@triton.jit(do_not_specialize=SIZES)
def to_queries_kernel(
    grad_out_ptr, q_ptr, k_ptr, v_ptr, ends_ptr, logs_ptr, inner_ptr, grad_q_ptr,
    stride_gb: "i64", stride_gh: "i64", stride_gn: "i64", stride_qb: "i64", stride_qh: "i64", stride_qn: "i64",
    stride_kb: "i64", stride_kh: "i64", stride_kn: "i64", stride_vb: "i64", stride_vh: "i64", stride_vn: "i64",
    n_kv_heads, n_queries, n_keys, n_splits, split_size, scale,
    GROUPS: tl.constexpr, CAUSAL: tl.constexpr, DK: tl.constexpr, DV: tl.constexpr, UNIT: tl.constexpr,
    BLOCK_Q: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_DK: tl.constexpr, BLOCK_DV: tl.constexpr,
):  # fmt: skip
    """Gather what one part of the keys sends to one tile of rows."""
    n_rows = GROUPS * n_queries
    tile, split, pair, part = locate(tl.cdiv(n_rows, BLOCK_Q), n_splits)

    row = tile * BLOCK_Q + tl.arange(0, BLOCK_Q)
    logs = tl.load(logs_ptr + pair * n_rows + row, row < n_rows, other=float("inf"))
    inner = tl.load(inner_ptr + pair * n_rows + row, row < n_rows, other=0.0)
    seeing = logs < float("inf")
    q_ptr += start_of(pair, n_kv_heads, stride_qb, stride_qh, UNIT, GROUPS)
    grad_out_ptr += start_of(pair, n_kv_heads, stride_gb, stride_gh, UNIT, GROUPS)
    q_offset = offsets(row, n_queries, stride_qh, stride_qn, UNIT, GROUPS)
    grad_offset = offsets(row, n_queries, stride_gh, stride_gn, UNIT, GROUPS)
    query = load_rows(q_ptr, q_offset, seeing, DK, BLOCK_DK, True)
    grad_out = load_rows(grad_out_ptr, grad_offset, seeing, DV, BLOCK_DV, True)

    first, end = split * split_size, count_ends(ends_ptr, pair, n_kv_heads, n_keys)
    stop = tl.minimum(end, first + split_size)
    whole, stop, last = span(row, n_rows, n_queries, first, stop, end, CAUSAL, BLOCK_K)
    k_ptr += start_of(pair, n_kv_heads, stride_kb, stride_kh, UNIT, 1)
    v_ptr += start_of(pair, n_kv_heads, stride_vb, stride_vh, UNIT, 1)
    grad_query = tl.zeros([BLOCK_Q, BLOCK_DK], tl.float32)
    for start in range(first, whole, BLOCK_K):
        grad_query = _gather_keys(
            query, grad_out, logs, inner, grad_query, k_ptr, v_ptr, stride_kn, stride_vn, start, stop, last,
            scale * LOG2E, CAUSAL, DK, DV, UNIT, BLOCK_K, BLOCK_DK, BLOCK_DV, False,
        )  # fmt: skip
    for start in tl.range(whole, stop, BLOCK_K, num_stages=1):
        grad_query = _gather_keys(
            query, grad_out, logs, inner, grad_query, k_ptr, v_ptr, stride_kn, stride_vn, start, stop, last,
            scale * LOG2E, CAUSAL, DK, DV, UNIT, BLOCK_K, BLOCK_DK, BLOCK_DV, True,
        )  # fmt: skip

    store_rows(grad_q_ptr, part * n_rows + row, grad_query * scale, row < n_rows, DK, BLOCK_DK)


@triton.jit
def _gather_queries(
    key, value, grad_key, grad_value, q_ptr, grad_out_ptr, logs_ptr, inner_ptr,
    stride_qh, stride_qn, stride_gh, stride_gn, start, stop, column, end, n_queries, scale,
    GROUPS: tl.constexpr, CAUSAL: tl.constexpr, DK: tl.constexpr, DV: tl.constexpr, UNIT: tl.constexpr,
    BLOCK_Q: tl.constexpr, BLOCK_DK: tl.constexpr, BLOCK_DV: tl.constexpr, HIDDEN: tl.constexpr,
):  # fmt: skip
    """Add to the gradients of a tile of keys and values what a tile of rows sends."""
    row = start + tl.arange(0, BLOCK_Q)
    if HIDDEN:
        logs = tl.load(logs_ptr + row, row < stop, other=float("inf"))
        inner = tl.load(inner_ptr + row, row < stop, other=0.0)
    else:
        logs, inner = tl.load(logs_ptr + row), tl.load(inner_ptr + row)
    seeing = logs < float("inf")  # a row that saw nothing sends nothing, whatever stands in it
    query = load_rows(q_ptr, offsets(row, n_queries, stride_qh, stride_qn, UNIT, GROUPS), seeing, DK, BLOCK_DK, HIDDEN)
    scores = tl.dot(key, tl.trans(query), input_precision="ieee") * scale - logs[None, :]  # (BLOCK_K, BLOCK_Q)
    if HIDDEN and CAUSAL:
        last = reach(row % n_queries, end, n_queries, CAUSAL)
        scores = tl.where(column[:, None] <= last[None, :], scores, -float("inf"))
    weights = tl.exp2(scores)
    grad_offset = offsets(row, n_queries, stride_gh, stride_gn, UNIT, GROUPS)
    grad_out = load_rows(grad_out_ptr, grad_offset, seeing, DV, BLOCK_DV, HIDDEN)
    grad_value = tl.dot(weights.to(grad_out.dtype), grad_out, grad_value, input_precision="ieee")
    grad_weights = tl.dot(value, tl.trans(grad_out), input_precision="ieee")
    grad_scores = weights * (grad_weights - inner[None, :])
    grad_key = tl.dot(grad_scores.to(query.dtype), query, grad_key, input_precision="ieee")
    return grad_key, grad_value


@triton.jit(do_not_specialize=SIZES)
def to_keys_kernel(
    grad_out_ptr, q_ptr, k_ptr, v_ptr, ends_ptr, logs_ptr, inner_ptr, grad_k_ptr, grad_v_ptr,
    stride_gb: "i64", stride_gh: "i64", stride_gn: "i64", stride_qb: "i64", stride_qh: "i64", stride_qn: "i64",
    stride_kb: "i64", stride_kh: "i64", stride_kn: "i64", stride_vb: "i64", stride_vh: "i64", stride_vn: "i64",
    n_kv_heads, n_queries, n_keys, n_splits, split_size, scale,
    GROUPS: tl.constexpr, CAUSAL: tl.constexpr, DK: tl.constexpr, DV: tl.constexpr, UNIT: tl.constexpr,
    BLOCK_Q: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_DK: tl.constexpr, BLOCK_DV: tl.constexpr,
):  # fmt: skip
    """Gather what one part of the rows sends to one tile of keys and values."""
    n_rows = GROUPS * n_queries
    tile, split, pair, part = locate(tl.cdiv(n_keys, BLOCK_K), n_splits)

    end = count_ends(ends_ptr, pair, n_kv_heads, n_keys)
    seen = end  # keys behind it are padding, or lie in the future of every query
    if CAUSAL:
        seen = tl.minimum(end, reach(n_queries - 1, end, n_queries, CAUSAL) + 1)
    column = tile * BLOCK_K + tl.arange(0, BLOCK_K)
    real, offset = column < seen, column.to(tl.int64)
    k_ptr += start_of(pair, n_kv_heads, stride_kb, stride_kh, UNIT, 1)
    v_ptr += start_of(pair, n_kv_heads, stride_vb, stride_vh, UNIT, 1)
    key = load_rows(k_ptr, offset * stride_kn * UNIT, real, DK, BLOCK_DK, True)
    value = load_rows(v_ptr, offset * stride_vn * UNIT, real, DV, BLOCK_DV, True)

    # Rows from start to stop look at some key of the tile; those from whole to stop_whole at all of them, with no tail.
    start = split * split_size
    stop = tl.where(tile * BLOCK_K < seen, tl.minimum(n_rows, start + split_size), start)
    whole = start
    if CAUSAL:
        if GROUPS == 1:
            shift = reach(0, end, n_queries, CAUSAL)  # query i looks at keys 0 to i + shift
            start = tl.maximum(start, (tile * BLOCK_K - shift) // BLOCK_Q * BLOCK_Q)
            whole = start + tl.cdiv(tl.maximum(tile * BLOCK_K + BLOCK_K - 1 - shift - start, 0), BLOCK_Q) * BLOCK_Q
        else:
            whole = stop  # rows begin again with every head: each tile looks for itself
    stop_whole = whole + tl.maximum(stop - whole, 0) // BLOCK_Q * BLOCK_Q

    q_ptr += start_of(pair, n_kv_heads, stride_qb, stride_qh, UNIT, GROUPS)
    grad_out_ptr += start_of(pair, n_kv_heads, stride_gb, stride_gh, UNIT, GROUPS)
    logs_ptr += pair * n_rows
    inner_ptr += pair * n_rows
    grad_key, grad_value = tl.zeros([BLOCK_K, BLOCK_DK], tl.float32), tl.zeros([BLOCK_K, BLOCK_DV], tl.float32)
    for here in range(whole, stop_whole, BLOCK_Q):
        grad_key, grad_value = _gather_queries(
            key, value, grad_key, grad_value, q_ptr, grad_out_ptr, logs_ptr, inner_ptr,
            stride_qh, stride_qn, stride_gh, stride_gn, here, stop, column, end, n_queries, scale * LOG2E,
            GROUPS, CAUSAL, DK, DV, UNIT, BLOCK_Q, BLOCK_DK, BLOCK_DV, False,
        )  # fmt: skip
    for place in tl.range(start, stop - (stop_whole - whole), BLOCK_Q, num_stages=1):
        here = place + tl.where(place < whole, 0, stop_whole - whole)  # what the first loop did is jumped over
        grad_key, grad_value = _gather_queries(
            key, value, grad_key, grad_value, q_ptr, grad_out_ptr, logs_ptr, inner_ptr,
            stride_qh, stride_qn, stride_gh, stride_gn, here, stop, column, end, n_queries, scale * LOG2E,
            GROUPS, CAUSAL, DK, DV, UNIT, BLOCK_Q, BLOCK_DK, BLOCK_DV, True,
        )  # fmt: skip

    place = part * n_keys + column
    store_rows(grad_k_ptr, place, tl.where(real[:, None], grad_key * scale, 0.0), column < n_keys, DK, BLOCK_DK)
    store_rows(grad_v_ptr, place, tl.where(real[:, None], grad_value, 0.0), column < n_keys, DV, BLOCK_DV)


def send_back(
    grad_out: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, logs: Tensor, ends: Tensor | None, causal: int,
    n_splits: tuple[int | None, int | None] = (None, None),
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Launch the backward pass -> the gradients of q, k and v.

    out and logs as read returned them, n_splits of the keys for the queries and of the rows for the keys.
    """
    widths, scale = [x.shape[3] for x in (q, k, v)], 1 / math.sqrt(q.shape[3])
    if not out.numel() or not k.shape[2]:
        return tuple(torch.zeros(x.shape, dtype=x.dtype, device=x.device) for x in (q, k, v))
    q, k, v, grad_out, out = (tiles.aligned(x) for x in (q, k, v, grad_out, out))
    inner = torch.empty_like(logs)
    tensors, steps = (grad_out, q, k, v, ends, logs, inner), tiles.strides(grad_out, q, k, v)
    sizes = k.shape[1], q.shape[2], k.shape[2]
    _write_inner(grad_out, out, logs, inner, k.shape[1])

    cut = tiles.cut(tiles.TO_QUERIES, q, v)
    n = n_splits[0] or tiles.count_splits(cut.pairs * cut.row_tiles, cut.key_tiles, q.device, cut.tile.per_sm)
    split_size = triton.cdiv(cut.key_tiles, n) * cut.tile.keys
    grad_q = _room(q, n)
    to_queries_kernel[(cut.pairs * cut.row_tiles * n,)](
        *tensors, grad_q, *steps, *sizes, n, split_size, scale, CAUSAL=causal, **cut.constants
    )

    cut = tiles.cut(tiles.TO_KEYS, q, v)
    n = n_splits[1] or tiles.count_splits(cut.pairs * cut.key_tiles, cut.row_tiles, q.device, cut.tile.per_sm)
    split_size = triton.cdiv(cut.row_tiles, n) * cut.tile.queries
    grad_k, grad_v = _room(k, n), _room(v, n)
    to_keys_kernel[(cut.pairs * cut.key_tiles * n,)](
        *tensors, grad_k, grad_v, *steps, *sizes, n, split_size, scale, CAUSAL=causal, **cut.constants
    )
    grads = (_sum(parts, q.dtype) for parts in (grad_q, grad_k, grad_v))
    return tuple(tiles.narrow(grad, width) for grad, width in zip(grads, widths, strict=True))


def _write_inner(grad_out, out, logs, inner, n_kv_heads):
    batch, n_heads, n_queries, width = grad_out.shape
    groups = n_heads // n_kv_heads
    grid = batch * n_kv_heads * triton.cdiv(groups * n_queries, tiles.ROWS)
    inner_kernel[(grid,)](
        grad_out, out, logs, inner, *tiles.strides(grad_out), n_kv_heads, n_queries,
        GROUPS=groups, DV=width, UNIT=tiles.unit(grad_out.dtype), BLOCK_Q=tiles.ROWS, BLOCK_DV=tiles.block(width),
    )  # fmt: skip


def _room(tensor, n_splits):
    dtype = tensor.dtype if n_splits == 1 else torch.float32
    return torch.empty(n_splits, *tensor.shape, dtype=dtype, device=tensor.device)


def _sum(parts, dtype):
    return parts[0] if len(parts) == 1 else parts.sum(dim=0).to(dtype)
