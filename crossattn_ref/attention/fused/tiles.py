"""How a problem is cut for the GPU: tiles of queries and keys, and splits where tiles are too few to fill it.

The table is fixed, not searched at run time: the first call with a new shape costs no more than the next.
"""

import math
from dataclasses import dataclass

import torch

SMS_WITHOUT_GPU = 132  # the interpreter cuts as an H200 would
ROWS = 32  # whose answers are multiplied with their gradients at once


@dataclass(frozen=True)
class Tile:
    """How many queries meet how many keys at once, with how many warps, stages of loading, and programs per SM."""

    queries: int
    keys: int
    warps: int
    stages: int
    per_sm: int = 1


# (rows up to, bytes of a number, widest block of a head): tile. The first entry that fits is taken. None spills a
# register on sm_90, since rows are aligned (see below); from 64 rows (keys, in the last table) on, the matrix units of
# Hopper are used.
FORWARD = {
    (16, 2, 64): Tile(16, 128, 4, 3, 3),
    (16, 2, 128): Tile(16, 64, 4, 3, 2),
    (16, 2, 256): Tile(16, 64, 4, 2, 2),
    (64, 2, 64): Tile(64, 64, 4, 3, 2),
    (64, 2, 128): Tile(64, 64, 4, 3, 2),
    (64, 2, 256): Tile(64, 32, 4, 3),
    (math.inf, 2, 64): Tile(128, 128, 8, 3),
    (math.inf, 2, 128): Tile(128, 128, 8, 3),
    (math.inf, 2, 256): Tile(128, 64, 8, 2),
    (math.inf, 4, 64): Tile(32, 32, 8, 1),
    (math.inf, 4, 256): Tile(16, 16, 4, 1),
}
TO_QUERIES = {
    (16, 2, 128): Tile(16, 64, 4, 3, 2),
    (16, 2, 256): Tile(16, 32, 4, 2),
    (math.inf, 2, 64): Tile(128, 64, 8, 3),
    (math.inf, 2, 128): Tile(128, 64, 8, 2),
    (math.inf, 2, 256): Tile(128, 32, 8, 2),
    (math.inf, 4, 64): Tile(32, 32, 8, 1),
    (math.inf, 4, 256): Tile(16, 16, 8, 1),
}
TO_KEYS = {
    (math.inf, 2, 64): Tile(64, 128, 8, 3),
    (math.inf, 2, 128): Tile(32, 128, 8, 3),
    (math.inf, 2, 256): Tile(32, 32, 4, 2),
    (math.inf, 4, 64): Tile(32, 32, 8, 1),
    (math.inf, 4, 256): Tile(16, 16, 8, 1),
}


def block(width: int) -> int:
    """Return the power of two that holds a head of some width; the matrix units take no fewer than 16."""
    return max(16, 1 << (width - 1).bit_length())


def choose(table: dict, rows: int, dtype: torch.dtype, widths: tuple[int, int]) -> Tile:
    """Pick the tile for a number of rows and the widths of keys and values."""
    widest = max(block(width) for width in widths)
    return next(t for (r, size, w), t in table.items() if rows <= r and size == dtype.itemsize and widest <= w)


def count_splits(n_programs: int, n_blocks: int, device: torch.device, per_sm: int) -> int:
    """Choose into how many parts the blocks of a loop are split, so that programs fill the GPU in whole waves.

    n_programs is how many there are without a split, n_blocks how long the loop of each is. The fewest parts win
    that are within 5 % of the best use of the last wave.
    Source: Dao et al., Flash-Decoding (2023).
    """
    slots = per_sm * _count_sms(device)
    if n_programs >= 0.8 * slots or n_blocks < 2:
        return 1
    most = min(n_blocks // 2, slots // n_programs + 1, 128)
    use = {n: n * n_programs / slots / math.ceil(n * n_programs / slots) for n in range(1, max(1, most) + 1)}
    return next(n for n, share in use.items() if share >= 0.95 * max(use.values()))


def _count_sms(device):
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else SMS_WITHOUT_GPU


def unit(dtype: torch.dtype) -> int:
    """Return how many numbers make the 16 bytes in which rows are read."""
    return 16 // dtype.itemsize


def aligned(tensor: torch.Tensor) -> torch.Tensor:
    """Return rows that start and end at 16 bytes: those at hand, or else a copy, filled up with zeros.

    One number at a time, a kernel would read slowly, and hold an address for each number in registers it has not.
    """
    (*lead, width), numbers = tensor.shape, unit(tensor.dtype)
    steps = [stride for size, stride in zip(lead, tensor.stride(), strict=False) if size > 1]  # one place: no step
    whole = width % numbers == tensor.data_ptr() % 16 == 0 and tensor.stride(-1) == 1
    if whole and all(step % numbers == 0 for step in steps):
        return tensor
    room = tensor.new_zeros(*lead, math.ceil(width / numbers) * numbers)
    room[..., :width] = tensor
    return room


def narrow(tensor: torch.Tensor, width: int) -> torch.Tensor:
    """Return the first columns, dense, without what their rows were filled up with."""
    return tensor[..., :width].contiguous()


def strides(*tensors: torch.Tensor) -> list[int]:
    """Return the strides of samples, heads and positions in units: so the kernel knows what divides them."""
    return [stride // unit(tensor.dtype) for tensor in tensors for stride in tensor.stride()[:3]]


@dataclass(frozen=True)
class Cut:
    """A problem cut with a tile: pairs (sample, key head), tiles of rows and of keys in each, and kernel constants."""

    tile: Tile
    pairs: int
    row_tiles: int
    key_tiles: int
    constants: dict


def cut(table: dict, q: torch.Tensor, v: torch.Tensor) -> Cut:
    """Cut a problem with queries (B, H, Nq, Dk) and values (B, Hkv, Nk, Dv) by a table."""
    (batch, n_heads, n_queries, dk), (_, n_kv_heads, n_keys, dv) = q.shape, v.shape
    groups = n_heads // n_kv_heads
    tile = choose(table, groups * n_queries, q.dtype, (dk, dv))
    constants = {"GROUPS": groups, "UNIT": unit(q.dtype), "DK": dk, "DV": dv}
    constants |= {"BLOCK_Q": tile.queries, "BLOCK_K": tile.keys, "BLOCK_DK": block(dk), "BLOCK_DV": block(dv)}
    constants |= {"num_warps": tile.warps, "num_stages": tile.stages}
    row_tiles, key_tiles = math.ceil(groups * n_queries / tile.queries), math.ceil(n_keys / tile.keys)
    return Cut(tile, batch * n_kv_heads, row_tiles, key_tiles, constants)
