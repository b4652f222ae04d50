"""A stream of shapes that come once each, as batches of sentences do: what does the first call of a shape cost?

A way that plans, tunes or compiles for every shape pays again at each of them. Each way runs in a process of its own,
which has planned nothing yet. One shape more comes first, and is told apart: it pays for what is made once.

Run as a program by stream(): a line of JSON with the microseconds of each call, as soon as it is done.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping

import numpy as np
import torch

from crossattn_ref import records
from crossattn_ref.bench import backends, gpu, lines
from crossattn_ref.bench.measure import Measurement
from crossattn_ref.cost import Shape

N_SHAPES = 200
N_HEADS, WIDTH = 8, 64
PATIENCE = {"fused": 40, "default": 60, "efficient": 20, "varlen": 20, "flex": 20}  # seconds for each way
MOST = {"B": 16, "Nq": 256, "Nk": 2048}


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


def stream(way: str, n: int, *, device: str = "cuda", dtype: str = "bfloat16", seconds: float = 60.0) -> list[float]:
    """Run n shapes and one more in a new process -> the microseconds of each call, the fewer if time is up before.

    Raises ChildProcessError where the process ends with an error before its first call is done.
    """
    command = [sys.executable, "-m", __name__, way, str(n + 1), "--device", device, "--dtype", dtype]
    try:
        ended = subprocess.run(command, cwd=records.ROOT, capture_output=True, text=True, timeout=seconds, check=False)
        out, complaint = ended.stdout, ended.stderr
    except subprocess.TimeoutExpired as late:
        out, complaint = (late.stdout or b"").decode(), f"no call was done in {seconds} seconds"
    times = [json.loads(line) for line in out.splitlines() if line.endswith("]")]
    if not times:
        raise ChildProcessError(complaint.strip().rpartition("\n")[2] or "the process wrote nothing")
    return [microseconds for (microseconds,) in times]


def measure(
    part: str = "stream",
    *,
    ways: Mapping[str, float] | None = None,
    n: int = N_SHAPES,
    device: torch.device | None = None,
    dtype: str = "bfloat16",
) -> Iterator[list[Measurement]]:
    """Measure the first calls of a stream of shapes, each way for so many seconds at most."""
    device, found, refused, name = device or gpu.needed(), {}, {}, f"stream of {n} shapes"
    gpu.release(device)
    for way, seconds in (ways or PATIENCE).items():
        case = f"{name}/{way}"
        try:
            start, *found[way] = stream(way, n, device=device.type, dtype=dtype, seconds=seconds)
        except ChildProcessError as error:
            refused[way] = str(error)
            yield [lines.refused(case, refused[way], part)]
            continue
        once = [lines.figure(case, "start_us", "us", [start], part=part)]
        yield once + [lines.figure(case, "call_us", "us", times, part=part) for times in [found[way]] if times]
    yield list(_totals(part, name, {way: times for way, times in found.items() if times}))
    lines.report(name, found, refused)


def first_calls(way: str, n: int, *, device: torch.device, dtype: str) -> None:
    """Compute attention of n shapes once each, and write down how long each call took, until its answer was there."""
    for shape in shapes(n, dtype=dtype):
        prepared = backends.WAYS[way](backends.draw(shape, device))
        gpu.synchronize(device)
        start = time.perf_counter()
        prepared()
        gpu.synchronize(device)
        print(json.dumps([(time.perf_counter() - start) * 1e6]), flush=True)


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
    parser.add_argument("--device", required=True)
    parser.add_argument("--dtype", required=True)
    arguments = parser.parse_args()
    first_calls(arguments.way, arguments.n, device=torch.device(arguments.device), dtype=arguments.dtype)


if __name__ == "__main__":
    main()
