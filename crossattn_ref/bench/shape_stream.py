"""A stream of shapes that come once each, as batches of sentences do: what does the first call of a shape cost?

A way that plans, tunes or compiles for every shape pays again at each of them. Each way runs in a process of its own,
which has planned nothing yet. One shape more comes first, and is told apart: it pays for what is made once. Every
answer is compared with float64 beside the clock, on memory that held NaN a moment before.

Run as a program by stream(): a line of JSON with the microseconds of each call and its error, as soon as it is done,
and at the end one with the kernels of the last shape.
"""

import argparse
import json
import math
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from crossattn_ref import records
from crossattn_ref.bench import backends, gpu, gpu_rows, lines
from crossattn_ref.bench.gpu_rows import Row
from crossattn_ref.bench.measure import Measurement
from crossattn_ref.cost import Shape

N_SHAPES = 200
N_HEADS, WIDTH = 8, 64
# Seconds of calls for each way, before it is cut off: a plan for every shape takes the default long.
PATIENCE = dict.fromkeys(gpu_rows.FORWARD, 15.0) | {"default": 60.0, "cudnn": 30.0}
STARTING = 30.0  # seconds more until a process is stopped: it has torch to import, and its last call to end
MOST = {"B": 16, "Nq": 256, "Nk": 2048}


@dataclass(frozen=True)
class Stream:
    """What a way did with a stream: the microseconds and the error of each call, and why it ended before the last.

    kernels are those of its last shape.
    """

    times: list[float]
    errors: list[float]
    kernels: list[str]
    ended: str = ""


def name_of(n: int) -> str:
    """Write a stream of n shapes down as records name it."""
    return f"stream of {n} shapes"


def shapes(n: int, *, dtype: str = "bfloat16", seed: int = 0) -> list[Shape]:
    """Draw n shapes, no two alike, each with lengths that fill its longest memory and no other."""
    rng = np.random.default_rng(seed)
    found = {}
    while len(found) < n:
        B, Nq, Nk = (int(rng.integers(1, most + 1)) for most in MOST.values())
        lengths = rng.integers(1, Nk + 1, B)
        lengths[0] = Nk
        sizes = {"B": B, "H": N_HEADS, "Nq": Nq, "Nk": Nk, "D": WIDTH}
        found.setdefault((B, Nq, Nk), Shape(**sizes, dtype=dtype, lengths=tuple(lengths.tolist())))
    return list(found.values())


def stream(way: str, n: int, *, device: str = "cuda", dtype: str = "bfloat16", seconds: float = 60.0) -> Stream:
    """Run n shapes and one more in a new process, the fewer if seconds of calls are over before.

    Raises ChildProcessError where the process ends before its first call is done, and where an answer is wrong.
    """
    command = [sys.executable, "-m", __name__, way, str(n + 1), str(seconds), "--device", device, "--dtype", dtype]
    limit = seconds + STARTING
    try:
        ended = subprocess.run(command, cwd=records.ROOT, capture_output=True, text=True, timeout=limit, check=False)
        out, complaint = ended.stdout, ended.stderr if ended.returncode else ""
    except subprocess.TimeoutExpired as late:
        out, complaint = (late.stdout or b"").decode(), f"stopped after {limit:.0f} seconds"
    found = [json.loads(line) for line in out.splitlines() if line.endswith(("]", "}"))]
    calls, kernels = [one for one in found if isinstance(one, list)], [one for one in found if isinstance(one, dict)]
    why = complaint.strip().rpartition("\n")[2]
    if not calls or "wrong: " in why:
        raise ChildProcessError(why or "the process wrote nothing")
    times, errors = (list(one) for one in zip(*calls, strict=True))
    ended = "" if len(calls) > n else why or f"cut off after {seconds:.0f} seconds of calls"
    return Stream(times, errors, kernels[0]["kernels"] if kernels else ["not seen: the process was stopped"], ended)


def measure(
    part: str = "stream",
    *,
    ways: Mapping[str, float] = PATIENCE,
    n: int = N_SHAPES,
    device: torch.device | None = None,
    dtype: str = "bfloat16",
    until: float = math.inf,
) -> Iterator[list[Measurement]]:
    """Measure the first calls of a stream of shapes, each way for so many seconds at most.

    No way is begun after until, by the clock of time.monotonic().
    """
    device, found, refused, name = device or gpu.needed(), {}, {}, name_of(n)
    gpu.release(device)
    for way, seconds in ways.items():
        if lines.is_up(until):
            yield [lines.untried(f"{name}/{way}", part)]
            continue
        try:
            left = min(seconds, until - time.monotonic())
            found[way] = stream(way, n, device=device.type, dtype=dtype, seconds=left)
        except ChildProcessError as error:
            refused[way] = str(error)
            yield [lines.refused(f"{name}/{way}", refused[way], part)]
            continue
        yield list(_figures(part, f"{name}/{way}", found[way]))
    times = {way: one.times[1:] for way, one in found.items() if one.times[1:]}
    yield list(_totals(part, name, times))
    lines.report(name, times, refused)


def first_calls(way: str, n: int, *, device: torch.device, dtype: str, seconds: float) -> None:
    """Compute attention of n shapes once each, until seconds are over, and write down what each call took.

    Raises ValueError for a wrong answer.
    """
    until, last = time.monotonic() + seconds, None
    try:
        for shape in shapes(n, dtype=dtype):
            last = _first_call(way, Row(shape=shape), device)
            if lines.is_up(until):
                break
    finally:  # also where a later shape is refused
        if last is not None:
            print(json.dumps({"kernels": gpu.kernels(last, device)}), flush=True)


def _first_call(way, row, device):
    """Time one call and look at its answer; what is drawn, prepared and compared is beside the clock."""
    x = backends.draw(row.shape, device)
    expected, prepared = gpu_rows.exact(row, x), backends.WAYS[way](x)
    gpu.poison(x.q, x.k, x.v)
    gpu.synchronize(device)
    start = time.perf_counter()
    answer = prepared()
    gpu.synchronize(device)
    took = time.perf_counter() - start
    print(json.dumps([took * 1e6, gpu_rows.error_of(row, answer, expected)]), flush=True)
    return prepared


def _figures(part, case, found):
    """Write down the call that pays for what is made once, then the others, and over how many shapes they came."""
    about = {"part": part, "shapes": len(found.times) - 1, "ended": found.ended, "kernels": found.kernels}
    yield lines.figure(case, "start_us", "us", found.times[:1], part=part)
    yield lines.figure(case, "error", "1", [max(found.errors)], part=part)
    if found.times[1:]:
        yield lines.figure(case, "call_us", "us", found.times[1:], **about)


def _totals(part, name, found):
    """Divide the time that ours takes for all shapes by that of every other way, over the shapes that both came to."""
    for other in found:
        if "fused" in found and other != "fused":
            n = min(len(found["fused"]), len(found[other]))
            ratio = sum(found["fused"][:n]) / sum(found[other][:n])
            yield lines.figure(f"{name}/fused", f"total over {other}", "1", [ratio], part=part, shapes=n)


def main() -> None:
    """Read what to do from the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("way", choices=backends.WAYS)
    parser.add_argument("n", type=int)
    parser.add_argument("seconds", type=float)
    parser.add_argument("--device", required=True)
    parser.add_argument("--dtype", required=True)
    given = parser.parse_args()
    first_calls(given.way, given.n, device=torch.device(given.device), dtype=given.dtype, seconds=given.seconds)


if __name__ == "__main__":
    main()
