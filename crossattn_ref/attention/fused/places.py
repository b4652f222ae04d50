"""What the kernels share: which rows and keys a program works on, where these lie, and who may look where.

The query heads that share a head of keys are rows of one tile: with G = H / Hkv, row r of a pair (sample, key head)
is query r mod Nq of its head r div Nq. So grouped heads read their keys once, and a short query fills a tile.
Rows are aligned (see tiles.aligned) and strides come in units of UNIT numbers, 16 bytes, so that the compiler sees wide
loads for every shape; positions are multiplied by them in 64 bits.

Letters: B samples, H heads of the queries, Hkv heads of keys and values, Nq queries, Nk keys, Dk and Dv widths.
"""

import triton
import triton.language as tl

LOG2E = tl.constexpr(1.4426950408889634)
BOTTOM_RIGHT = tl.constexpr(2)
# Compiled for any value: a new shape finds the binary of the last one that was cut with the same tile.
SIZES = ["ends_ptr", "n_kv_heads", "n_queries", "n_keys", "n_splits", "split_size", "n_places"]
SIZES += [f"stride_{tensor}{axis}" for tensor in "gqkv" for axis in "bhn"]


@triton.jit
def locate(n_tiles, n_splits):
    """Return the tile, split and pair of this program, and where the part of the pair stands among all parts."""
    tile, part = tl.program_id(0) % n_tiles, tl.program_id(0) // n_tiles
    split, pair = part % n_splits, part // n_splits
    n_pairs = tl.num_programs(0) // (n_tiles * n_splits)
    return tile, split, pair.to(tl.int64), split.to(tl.int64) * n_pairs + pair


@triton.jit
def start_of(pair, n_kv_heads, stride_b, stride_h, UNIT: tl.constexpr, GROUPS: tl.constexpr):
    """Return where the numbers of a pair (sample, key head) start; its first head is one of GROUPS."""
    return (pair // n_kv_heads * stride_b + pair % n_kv_heads * GROUPS * stride_h) * UNIT


@triton.jit
def count_ends(ends_ptr, pair, n_kv_heads, n_keys):
    """Return how many keys of a pair are real: between 0 and n_keys, whatever its length says by now."""
    if ends_ptr is None:
        end = n_keys
    else:
        length = tl.load(ends_ptr + pair // n_kv_heads).to(tl.int64)  # cut to size before it is made 32 bits long
        end = tl.minimum(tl.maximum(length, 0), n_keys).to(tl.int32)
    return end


@triton.jit
def reach(query, end, n_queries, CAUSAL: tl.constexpr):
    """Return the last key that each query may look at, padding aside; below 0 where there is none."""
    return query + (end - n_queries) if CAUSAL == BOTTOM_RIGHT else query


@triton.jit
def span(row, n_rows, n_queries, first, stop, end, CAUSAL: tl.constexpr, BLOCK_K: tl.constexpr):
    """Return up to where no tile of keys hides anything, where keys end, and the last key that each row looks at."""
    whole, last = stop, row
    if CAUSAL:
        last = reach(tl.minimum(row, n_rows - 1) % n_queries, end, n_queries, CAUSAL)
        stop = tl.minimum(stop, tl.max(last, 0) + 1)
        whole = tl.minimum(stop, tl.min(last, 0) + 1)
    return first + tl.maximum(whole - first, 0) // BLOCK_K * BLOCK_K, stop, last


@triton.jit
def hide(scores, real, column, last, CAUSAL: tl.constexpr):
    """Set the scores of keys that are not real, or lie behind the last that a row may look at, to -inf."""
    seen = real[None, :]
    if CAUSAL:
        seen = seen & (column[None, :] <= last[:, None])
    return tl.where(seen, scores, -float("inf"))


@triton.jit
def offsets(row, n_queries, stride_h, stride_n, UNIT: tl.constexpr, GROUPS: tl.constexpr):
    """Return where the rows of a pair start, in numbers from the first query of its first head."""
    if GROUPS == 1:
        offset = row.to(tl.int64) * stride_n
    else:
        offset = (row // n_queries).to(tl.int64) * stride_h + (row % n_queries).to(tl.int64) * stride_n
    return offset * UNIT


@triton.jit
def load_rows(ptr, offset, real, WIDTH: tl.constexpr, BLOCK: tl.constexpr, HIDDEN: tl.constexpr):
    """Load rows of WIDTH numbers into a tile BLOCK wide; where HIDDEN, rows that are not real are read as 0."""
    column = tl.arange(0, BLOCK)
    place = ptr + offset[:, None] + column[None, :]
    if HIDDEN:
        tile = tl.load(place, mask=real[:, None] & (column < WIDTH)[None, :], other=0.0)
    elif WIDTH < BLOCK:
        tile = tl.load(place, mask=(column < WIDTH)[None, :], other=0.0)
    else:
        tile = tl.load(place)
    return tile


@triton.jit
def store_rows(ptr, place, tile, real, WIDTH: tl.constexpr, BLOCK: tl.constexpr):
    """Store the real rows of a tile, WIDTH numbers each, one after another from their places on."""
    column = tl.arange(0, BLOCK)
    mask = real[:, None] & (column < WIDTH)[None, :]
    tl.store(ptr + place[:, None] * WIDTH + column[None, :], tile.to(ptr.dtype.element_ty), mask)
