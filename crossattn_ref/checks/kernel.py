"""The optional exercise of the assignment "gpu-efficiency" that asks for a Triton kernel.

It runs in Triton's interpreter, in another process, where every access is counted. Nothing is timed.

Letters: B samples, Nq queries, Nk keys, D width; q (B, Nq, D), k and v (B, Nk, D), lengths (B,).
"""

import numpy as np

from crossattn_ref.attention import reference
from crossattn_ref.checks.compare import Violation, disagreement
from crossattn_ref.checks.draw import normal
from crossattn_ref.checks.exercise import Exercise, Property
from crossattn_ref.checks.variants import kernels


def _observed(_, value):
    out, *counts = value
    return (np.asarray(out, np.float64), *(float(count) for count in counts))


def _case(rng, Nq, Nk, lengths, *, tile=(4, 4), scale=1.0):
    """Draw a batch whose padding holds NaN, and say in which tiles it is to be read."""
    D = int(rng.choice([2, 8]))
    q, k, v = (
        scale * normal(rng, len(lengths), Nq, D),
        normal(rng, len(lengths), Nk, D),
        normal(rng, len(lengths), Nk, D),
    )
    lengths = np.asarray(lengths)
    for x in (k, v):
        x[np.arange(Nk) >= lengths[:, None]] = np.nan
    return {"q": q, "k": k, "v": v, "lengths": lengths, "BLOCK_Q": tile[0], "BLOCK_K": tile[1]}


def _launched(ask, case):
    """Launch -> the output, and what was counted."""
    value = ask.call(**case)
    if not isinstance(value, tuple) or len(value) != 5:
        raise Violation("pass what launched() makes of your kernel, not the kernel itself", case)
    return value


def _run(ask, case):
    """Launch, and raise where the answer is not the right one -> what was counted."""
    out, *counts = _launched(ask, case)
    q, k, v = (np.nan_to_num(case[name]) for name in "qkv")
    mask = (np.arange(k.shape[1]) < case["lengths"][:, None])[:, None, :]
    exact = reference.attention(q, k, v, mask)
    rounded = reference.attention(*(x.astype(np.float32) for x in (q, k, v)), mask)
    if problem := disagreement(out, exact, rounded):
        raise Violation(problem, case)
    return counts


def _whole_tiles(ask, rng):
    _run(ask, _case(rng, 4, 8, [8, 8]))


def _ragged_tiles(ask, rng):
    _run(ask, _case(rng, 7, 9, rng.permutation([9, 3])))


def _no_key(ask, rng):
    _run(ask, _case(rng, 3, 6, [6, 0]))


def _far_apart(ask, rng):
    _run(ask, _case(rng, 4, 9, [9], scale=100.0))


def _nothing_stray(ask, rng):
    case = _case(rng, 5, 6, [5, 6])
    *_, strays = _launched(ask, case)
    if strays:
        raise Violation(f"{strays} places were read or written that belong to nothing that was given", case)


def _a_tile_at_a_time(ask, rng):
    for n_keys in (8, 16):
        case = _case(rng, 4, n_keys, [n_keys], tile=(4, 8))
        *_, largest, _ = _launched(ask, case)
        room = 8 * case["q"].shape[2]
        if largest > room:
            raise Violation(f"{largest} places were loaded at once, and a tile of 8 keys has {room}", case)


def _read_once(ask, rng):
    case = _case(rng, 6, 12, [8, 3])
    read, visits, *_ = _run(ask, case)
    tiles, D = 2, case["q"].shape[2]
    once = 2 * tiles * D * int(case["lengths"].sum())
    if read > once:
        raise Violation(f"{read} numbers of k and v were read; {once} are enough for {tiles} tiles of queries", case)
    enough = tiles * len(case["q"]) + 2 * tiles * sum(-(-int(n) // 4) for n in case["lengths"])
    if visits > enough:
        raise Violation(f"{visits} tiles were loaded, and {enough} hold anything", case)


EXERCISES = {
    "kernel": Exercise(
        reference=kernels.right,
        plain=kernels.right,
        observe=_observed,
        properties=(
            Property("tiles that fit", 2, _whole_tiles),
            Property("lengths that are no multiple of a tile", 3, _ragged_tiles),
            Property("nothing read or written that was not given", 2, _nothing_stray),
            Property("a tile at a time, while the memory doubles", 1, _a_tile_at_a_time),
            Property("keys read once for a tile of queries, and no padding", 2, _read_once),
            Property("a sample without a key", 1, _no_key),
            Property("scores that lie far apart", 1, _far_apart),
        ),
        misconceptions=kernels.MISTAKES,
        alternatives=kernels.ALTERNATIVES,
    ),
}
