"""Forward in Triton: every tile of queries meets the keys, tile after tile, and where keys are split, parts are combined.

The query heads that share a head of keys are rows of one tile: with G = H / Hkv, row r of a pair (sample, key head)
is query r mod Nq of its head r div Nq. So grouped heads read their keys once, and a short query fills a tile.
Scores are in base 2, exp(x) = exp2(x log2 e): one multiplication is folded into the scale. Only the last tiles of
a loop know masks. Strides come in units of UNIT numbers, so that the compiler sees 16-byte loads for every shape,
and positions are multiplied by them in 64 bits.

Letters: B samples, H heads of the queries, Hkv heads of keys and values, Nq queries, Nk keys, Dk and Dv widths.
Source: Dao, FlashAttention-2 (2023), algorithm 1; Milakov & Gimelshein (2018) for the running softmax.
"""

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from crossattn_ref.attention.fused import tiles

LOG2E = tl.constexpr(1.4426950408889634)
BOTTOM_RIGHT = tl.constexpr(2)
SIZES = ["n_kv_heads", "n_queries", "n_keys", "n_splits", "split_size"]


@triton.jit
def count_ends(ends_ptr, sample, n_keys):
    """Return how many keys of a sample are real."""
    if ends_ptr is None:
        return n_keys
    return tl.load(ends_ptr + sample).to(tl.int32)


@triton.jit
def reach(query, end, n_queries, CAUSAL: tl.constexpr):
    """Return the last key that each query may look at, padding aside; below 0 where there is none."""
    if CAUSAL == BOTTOM_RIGHT:
        return query + (end - n_queries)
    return query


@triton.jit
def offsets(row, n_queries, stride_h, stride_n, UNIT: tl.constexpr, GROUPS: tl.constexpr):
    """Return where the rows of a pair start, in numbers from the first query of its first head."""
    if GROUPS == 1:
        return row.to(tl.int64) * stride_n * UNIT
    return ((row // n_queries).to(tl.int64) * stride_h + (row % n_queries).to(tl.int64) * stride_n) * UNIT


@triton.jit
def load_rows(ptr, offset, real, WIDTH: tl.constexpr, BLOCK: tl.constexpr, HIDDEN: tl.constexpr):
    """Load rows of WIDTH numbers into a tile BLOCK wide; only where HIDDEN are there rows that are not real, read as 0."""
    column = tl.arange(0, BLOCK)
    place = ptr + offset[:, None] + column[None, :]
    if HIDDEN:
        return tl.load(place, mask=real[:, None] & (column < WIDTH)[None, :], other=0.0)
    if WIDTH < BLOCK:
        return tl.load(place, mask=(column < WIDTH)[None, :], other=0.0)
    return tl.load(place)


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
        seen = real[None, :]
        if CAUSAL:
            seen = seen & (column[None, :] <= last[:, None])
        scores = tl.where(seen, scores, -float("inf"))
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
    n_tiles = tl.cdiv(n_rows, BLOCK_Q)
    tile, part = tl.program_id(0) % n_tiles, tl.program_id(0) // n_tiles
    split, pair = part % n_splits, part // n_splits
    sample, head = (pair // n_kv_heads).to(tl.int64), (pair % n_kv_heads).to(tl.int64)

    row = tile * BLOCK_Q + tl.arange(0, BLOCK_Q)
    q_ptr += (sample * stride_qb + head * GROUPS * stride_qh) * UNIT
    q_offset = offsets(row, n_queries, stride_qh, stride_qn, UNIT, GROUPS)
    query = load_rows(q_ptr, q_offset, row < n_rows, DK, BLOCK_DK, True)

    first = split * split_size
    end = count_ends(ends_ptr, sample, n_keys)
    stop = tl.minimum(end, first + split_size)
    whole, last = stop, row
    if CAUSAL:
        last = reach(tl.minimum(row, n_rows - 1) % n_queries, end, n_queries, CAUSAL)
        stop = tl.minimum(stop, tl.max(last, 0) + 1)
        whole = tl.minimum(stop, tl.min(last, 0) + 1)
    whole = first + tl.maximum(whole - first, 0) // BLOCK_K * BLOCK_K  # up to here no tile hides anything

    k_ptr += (sample * stride_kb + head * stride_kh) * UNIT
    v_ptr += (sample * stride_vb + head * stride_vh) * UNIT
    top = tl.full([BLOCK_Q], -float("inf"), tl.float32)
    total, summed = tl.zeros([BLOCK_Q], tl.float32), tl.zeros([BLOCK_Q, BLOCK_DV], tl.float32)
    scale *= LOG2E
    for start in range(first, whole, BLOCK_K):
        top, total, summed = _meet(
            query, k_ptr, v_ptr, stride_kn, stride_vn, start, stop, last, top, total, summed, scale,
            CAUSAL, DK, DV, UNIT, BLOCK_K, BLOCK_DK, BLOCK_DV, False,
        )  # fmt: skip
    for start in tl.range(whole, stop, BLOCK_K, num_stages=1):
        top, total, summed = _meet(
            query, k_ptr, v_ptr, stride_kn, stride_vn, start, stop, last, top, total, summed, scale,
            CAUSAL, DK, DV, UNIT, BLOCK_K, BLOCK_DK, BLOCK_DV, True,
        )  # fmt: skip

    # An empty sum: a part of it must weigh nothing when combined (-inf), the whole of it nothing in backward (+inf).
    empty = tl.where(n_splits == 1, float("inf"), -float("inf"))
    safe = tl.where(total == 0, 1.0, total)
    n_pairs = tl.num_programs(0) // (n_tiles * n_splits)
    place = (split.to(tl.int64) * n_pairs + pair) * n_rows + row
    column = tl.arange(0, BLOCK_DV)
    out = (summed / safe[:, None]).to(out_ptr.dtype.element_ty)
    tl.store(out_ptr + place[:, None] * DV + column[None, :], out, (row < n_rows)[:, None] & (column < DV)[None, :])
    tl.store(logs_ptr + place, tl.where(total == 0, empty, top + tl.log2(safe)), row < n_rows)


@triton.jit(do_not_specialize=["n_places", "n_splits"])
def combine_kernel(
    parts_ptr, part_logs_ptr, out_ptr, logs_ptr, n_places, n_splits,
    DV: tl.constexpr, BLOCK_DV: tl.constexpr, BLOCK_SPLITS: tl.constexpr,
):  # fmt: skip
    """Combine what one query read in each part of the keys: a softmax over parts, weighted by their sums."""
    place, column = tl.program_id(0).to(tl.int64), tl.arange(0, BLOCK_DV)
    top, total, summed = -float("inf"), 0.0, tl.zeros([BLOCK_DV], tl.float32)
    for start in range(0, n_splits, BLOCK_SPLITS):
        split = start + tl.arange(0, BLOCK_SPLITS)
        places = split.to(tl.int64) * n_places + place
        logs = tl.load(part_logs_ptr + places, split < n_splits, other=-float("inf"))
        real = (split < n_splits)[:, None] & (column < DV)[None, :]
        part = tl.load(parts_ptr + places[:, None] * DV + column[None, :], real, other=0.0)
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


def read(q: Tensor, k: Tensor, v: Tensor, ends: Tensor | None, causal: int, n_splits: int | None = None):
    """Launch the forward pass -> out (B, H, Nq, Dv), logs (B, H, Nq): log2 of the sum of exp(score), +inf if empty.

    ends (B,) integers, the number of real keys of each sample; causal 0, 1 (top-left) or 2 (bottom-right).
    """
    q, k, v = (tiles.rowwise(x) for x in (q, k, v))
    out, logs = torch.empty(*q.shape[:3], v.shape[3], dtype=q.dtype, device=q.device), _logs(q, 1)[0]
    if not out.numel() or not k.shape[2]:
        return out.zero_(), logs.fill_(math.inf)
    (batch, n_heads, n_queries, dk), (_, n_kv_heads, n_keys, dv) = q.shape, v.shape
    n_rows, n_pairs = n_heads // n_kv_heads * n_queries, batch * n_kv_heads
    tile = tiles.choose(tiles.FORWARD, n_rows, q.dtype, (dk, dv))
    n_programs, n_blocks = n_pairs * triton.cdiv(n_rows, tile.queries), triton.cdiv(n_keys, tile.keys)
    n_splits = n_splits or tiles.count_splits(n_programs, n_blocks, q.device, tile.per_sm)
    parts, part_logs = out, logs
    if n_splits > 1:
        parts = torch.empty(n_splits, *out.shape, dtype=torch.float32, device=q.device)
        part_logs = _logs(q, n_splits)
    unit = tiles.unit(q, k, v)
    read_kernel[(n_programs * n_splits,)](
        q, k, v, ends, parts, part_logs, *(s for x in (q, k, v) for s in tiles.strides(x, unit)),
        n_kv_heads, n_queries, n_keys, n_splits, triton.cdiv(n_blocks, n_splits) * tile.keys, 1 / math.sqrt(dk),
        GROUPS=n_heads // n_kv_heads, CAUSAL=causal, DK=dk, DV=dv, UNIT=unit, BLOCK_Q=tile.queries, BLOCK_K=tile.keys,
        BLOCK_DK=tiles.block(dk), BLOCK_DV=tiles.block(dv), num_warps=tile.warps, num_stages=tile.stages,
    )  # fmt: skip
    if n_splits > 1:
        n_places = n_pairs * n_rows
        combine_kernel[(n_places,)](
            parts, part_logs, out, logs, n_places, n_splits, dv, tiles.block(dv), BLOCK_SPLITS=16, num_warps=4
        )
    return out, logs


def _logs(q, n_splits):
    return torch.empty(n_splits, *q.shape[:3], dtype=torch.float32, device=q.device)
