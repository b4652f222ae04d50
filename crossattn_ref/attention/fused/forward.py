"""Forward in Triton: a tile of queries meets the keys, tile after tile; where keys are split, the parts are combined.

Scores are in base 2, exp(x) = exp2(x log2 e): the factor is folded into the scale. Only the last tiles of a loop
know masks; those before them are loaded and summed without.

Letters: B samples, H heads of the queries, Hkv heads of keys and values, Nq queries, Nk keys, Dk and Dv widths.
Source: Dao, FlashAttention-2 (2023), algorithm 1; the split: Dao et al., Flash-Decoding (2023).
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
    span,
    start_of,
    store_rows,
)


@triton.jit
def _meet(
    query, k_ptr, v_ptr, stride_kn, stride_vn, start, stop, last, top, total, summed, scale,
    CAUSAL: tl.constexpr, DK: tl.constexpr, DV: tl.constexpr, UNIT: tl.constexpr,
    BLOCK_K: tl.constexpr, BLOCK_DK: tl.constexpr, BLOCK_DV: tl.constexpr, HIDDEN: tl.constexpr,
):  # fmt: skip
    """Let a tile of queries meet a tile of keys: the running softmax, one step."""
    column = start + tl.arange(0, BLOCK_K)
    offset, real = column.to(tl.int64), column < stop
    key = load_rows(k_ptr, offset * stride_kn * UNIT, real, DK, BLOCK_DK, HIDDEN)
    scores = tl.dot(query, tl.trans(key), input_precision="ieee")  # (BLOCK_Q, BLOCK_K)
    if HIDDEN:
        scores = hide(scores, real, column, last, CAUSAL)
    higher = tl.maximum(top, tl.max(scores, 1) * scale)
    shift = tl.where(higher == -float("inf"), 0.0, higher)  # exp2(-inf - 0) is 0, and exp2(-inf + inf) NaN
    exp, rescale = tl.exp2(scores * scale - shift[:, None]), tl.exp2(top - shift)
    value = load_rows(v_ptr, offset * stride_vn * UNIT, real, DV, BLOCK_DV, HIDDEN)
    total = total * rescale + tl.sum(exp, 1)
    summed = tl.dot(exp.to(value.dtype), value, summed * rescale[:, None], input_precision="ieee")
    return higher, total, summed


@triton.jit(do_not_specialize=SIZES)
def read_kernel(
    q_ptr, k_ptr, v_ptr, ends_ptr, out_ptr, logs_ptr,
    stride_qb: "i64", stride_qh: "i64", stride_qn: "i64", stride_kb: "i64", stride_kh: "i64", stride_kn: "i64",
    stride_vb: "i64", stride_vh: "i64", stride_vn: "i64",
    n_kv_heads, n_queries, n_keys, n_splits, split_size, scale,
    GROUPS: tl.constexpr, CAUSAL: tl.constexpr, DK: tl.constexpr, DV: tl.constexpr, UNIT: tl.constexpr,
    BLOCK_Q: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_DK: tl.constexpr, BLOCK_DV: tl.constexpr,
):  # fmt: skip
    """Let one tile of rows read one part of its keys; write their average and the log of their sum, in base 2."""
    n_rows = GROUPS * n_queries
    tile, split, pair, part = locate(tl.cdiv(n_rows, BLOCK_Q), n_splits)
    row = tile * BLOCK_Q + tl.arange(0, BLOCK_Q)
    q_ptr += start_of(pair, n_kv_heads, stride_qb, stride_qh, UNIT, GROUPS)
    q_offset = offsets(row, n_queries, stride_qh, stride_qn, UNIT, GROUPS)
    query = load_rows(q_ptr, q_offset, row < n_rows, DK, BLOCK_DK, True)

    first, end = split * split_size, count_ends(ends_ptr, pair, n_kv_heads, n_keys)
    stop = tl.minimum(end, first + split_size)
    whole, stop, last = span(row, n_rows, n_queries, first, stop, end, CAUSAL, BLOCK_K)
    k_ptr += start_of(pair, n_kv_heads, stride_kb, stride_kh, UNIT, 1)
    v_ptr += start_of(pair, n_kv_heads, stride_vb, stride_vh, UNIT, 1)
    top = tl.full([BLOCK_Q], -float("inf"), tl.float32)
    total, summed = tl.zeros([BLOCK_Q], tl.float32), tl.zeros([BLOCK_Q, BLOCK_DV], tl.float32)
    for start in range(first, whole, BLOCK_K):
        top, total, summed = _meet(
            query, k_ptr, v_ptr, stride_kn, stride_vn, start, stop, last, top, total, summed, scale * LOG2E,
            CAUSAL, DK, DV, UNIT, BLOCK_K, BLOCK_DK, BLOCK_DV, False,
        )  # fmt: skip
    for start in tl.range(whole, stop, BLOCK_K, num_stages=1):
        top, total, summed = _meet(
            query, k_ptr, v_ptr, stride_kn, stride_vn, start, stop, last, top, total, summed, scale * LOG2E,
            CAUSAL, DK, DV, UNIT, BLOCK_K, BLOCK_DK, BLOCK_DV, True,
        )  # fmt: skip

    # An empty sum: a part of the keys must weigh nothing when combined (-inf), all of them nothing in backward (+inf).
    empty = tl.where(n_splits == 1, float("inf"), -float("inf"))
    safe = tl.where(total == 0, 1.0, total)
    store_rows(out_ptr, part * n_rows + row, summed / safe[:, None], row < n_rows, DV, BLOCK_DV)
    tl.store(logs_ptr + part * n_rows + row, tl.where(total == 0, empty, top + tl.log2(safe)), row < n_rows)


@triton.jit(do_not_specialize=SIZES)
def combine_kernel(
    parts_ptr, part_logs_ptr, out_ptr, logs_ptr, n_places, n_splits,
    DV: tl.constexpr, BLOCK_DV: tl.constexpr, BLOCK_SPLITS: tl.constexpr,
):  # fmt: skip
    """Combine what one query read in each part of the keys: a softmax over parts, weighted by their sums."""
    place, column = tl.program_id(0).to(tl.int64), tl.arange(0, BLOCK_DV)
    top, total, summed = -float("inf"), 0.0, tl.zeros([BLOCK_DV], tl.float32)
    for start in range(0, n_splits, BLOCK_SPLITS):
        split = start + tl.arange(0, BLOCK_SPLITS)
        offset = split.to(tl.int64) * n_places + place
        logs = tl.load(part_logs_ptr + offset, split < n_splits, other=-float("inf"))
        part = load_rows(parts_ptr, offset * DV, split < n_splits, DV, BLOCK_DV, True)
        higher = tl.maximum(top, tl.max(logs, 0))
        shift = tl.where(higher == -float("inf"), 0.0, higher)
        weight, rescale = tl.exp2(logs - shift), tl.exp2(top - shift)
        total = total * rescale + tl.sum(weight, 0)
        summed = summed * rescale + tl.sum(part * weight[:, None], 0)
        top = higher
    safe = tl.where(total == 0, 1.0, total)
    tl.store(out_ptr + place * DV + column, (summed / safe).to(out_ptr.dtype.element_ty), column < DV)
    tl.store(logs_ptr + place, tl.where(total == 0, float("inf"), top + tl.log2(safe)))


INTERPRETED = not isinstance(read_kernel, triton.JITFunction)


def read(
    q: Tensor, k: Tensor, v: Tensor, ends: Tensor | None, causal: int, n_splits: int | None = None
) -> tuple[Tensor, Tensor]:
    """Launch the forward pass -> out (B, H, Nq, Dv), logs (B, H, Nq): log2 of the sum of exp(score), +inf if empty.

    ends (B,) integers, the number of real keys of each sample; causal 0, 1 (top-left) or 2 (bottom-right).
    """
    width, scale = v.shape[3], 1 / math.sqrt(q.shape[3])
    q, k, v = (tiles.aligned(x) for x in (q, k, v))
    out, logs = _room(q, v, q.dtype)
    if not out.numel() or not k.shape[2]:
        return tiles.narrow(out.zero_(), width), logs.fill_(math.inf)
    cut = tiles.cut(tiles.FORWARD, q, v)
    n_splits = n_splits or tiles.count_splits(cut.pairs * cut.row_tiles, cut.key_tiles, q.device, cut.tile.per_sm)
    parts, part_logs = (out, logs) if n_splits == 1 else _room(q, v, torch.float32, n_splits)
    read_kernel[(cut.pairs * cut.row_tiles * n_splits,)](
        q, k, v, ends, parts, part_logs, *tiles.strides(q, k, v),
        k.shape[1], q.shape[2], k.shape[2], n_splits, triton.cdiv(cut.key_tiles, n_splits) * cut.tile.keys,
        scale, CAUSAL=causal, **cut.constants,
    )  # fmt: skip
    if n_splits > 1:
        combine_kernel[(logs.numel(),)](
            parts, part_logs, out, logs, logs.numel(), n_splits, v.shape[3], tiles.block(v.shape[3]), BLOCK_SPLITS=16
        )
    return tiles.narrow(out, width), logs


def _room(q, v, dtype, *lead):
    out = torch.empty(*lead, *q.shape[:3], v.shape[3], dtype=dtype, device=q.device)
    return out, torch.empty(out.shape[:-1], dtype=torch.float32, device=q.device)
