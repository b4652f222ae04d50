"""Ways to compute attention on a processor, side by side: time, memory, the floor, and how far from float64.

Every way gets the same float32 inputs, is compared with float64 before it is timed, on memory that was filled with
NaN beforehand, and is timed in turn with the others of its shape. NumPy has threads of its own for products; torch's
are fixed at THREADS, and so must OMP_NUM_THREADS be, or this refuses to measure.

Letters: B samples, H heads of the queries, Hkv heads of keys and values, Nq queries, Nk keys, D width of each.
"""

import functools
import os
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict

import numpy as np
import torch
from torch.nn import functional

from crossattn_ref.attention import chunked, online
from crossattn_ref.bench import ceilings
from crossattn_ref.bench.measure import Measurement, side_by_side
from crossattn_ref.bench.memory import numpy_peak, torch_peak
from crossattn_ref.cost import Shape, exponentials, flops, moved

PACKAGES = ("numpy", "torch")
SEEDS = (0,)
THREADS = 1
WORST = 1e-5  # largest error against float64 that is let through to the clock
SHAPES = (
    Shape(Nq=512, Nk=2048, D=64),
    Shape(Nq=512, Nk=4096, D=64),
    Shape(Nq=512, Nk=8192, D=64),
    Shape(Nq=1024, Nk=8192, D=64),
    Shape(Nq=1, Nk=8192, D=64, H=8),
    Shape(Nq=512, Nk=8192, D=64, H=8),
)


def hardware() -> dict[str, int]:
    """Say how many threads torch may use."""
    return {"threads": THREADS}


def measure(
    *, shapes: Sequence[Shape] = SHAPES, seconds: float = 6.0, ceilings_seconds: float = 3.0
) -> Iterator[Measurement]:
    """Measure the ceilings of this machine, then every way on every shape.

    Raises ValueError where the number of threads is not fixed from outside.
    """
    if os.environ.get("OMP_NUM_THREADS") != str(THREADS):
        raise ValueError(f"OMP_NUM_THREADS must be {THREADS}: run OMP_NUM_THREADS={THREADS} crossattn bench ...")
    before = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    try:
        measured = ceilings.samples(seconds=ceilings_seconds)
        for metric, values in measured.items():
            yield _figure("ceilings", metric, "byte/s" if metric.endswith("bandwidth") else "1/s", values)
        for shape in shapes:
            yield from _shape(shape, ceilings.machine(measured), seconds)
    finally:
        torch.set_num_threads(before)


def name_of(shape: Shape) -> str:
    """Write a shape down as records name it."""
    return f"B{shape.B} H{shape.H} {shape.Nq}x{shape.Nk}x{shape.D} {shape.dtype}"


def ways(shape: Shape, seed: int = 0) -> dict[str, Callable[[], object]]:
    """Build the calls to compare, by the name of the way, on the same inputs."""
    q, k, v = _inputs(shape, seed)
    arrays = [tensor.numpy() for tensor in (q, k, v)]
    return {
        "numpy plain": lambda: plain(*arrays),
        "numpy chunked": lambda: online.attention(*arrays),
        "torch plain": torch.no_grad()(lambda: (q @ k.mT / shape.D**0.5).softmax(dim=-1) @ v),
        "torch sdpa": torch.no_grad()(lambda: functional.scaled_dot_product_attention(q, k, v)),
        "torch chunked": torch.no_grad()(lambda: chunked.attention(q, k, v)),
    }


def plain(q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Compute attention as the formula says, all weights at once, but with one matrix of Nq by Nk and no more."""
    weights = q @ k.swapaxes(-1, -2)
    weights /= np.sqrt(np.asarray(q.shape[-1], q.dtype))
    weights -= weights.max(axis=-1, keepdims=True)
    np.exp(weights, out=weights)
    weights /= weights.sum(axis=-1, keepdims=True)
    return weights @ v


def error(shape: Shape, call: Callable[[], object], seed: int = 0) -> float:
    """Compute the largest difference from float64, on memory that held NaN a moment before.

    Raises ValueError where it exceeds WORST: what is wrong is not timed.
    """
    q, k, v = (tensor.double() for tensor in _inputs(shape, seed))
    exact = (q @ k.mT / shape.D**0.5).softmax(dim=-1) @ v
    for _ in range(4):
        torch.full((shape.B, shape.H, shape.Nq, shape.D), float("nan"))
    worst = float((torch.as_tensor(call()).double() - exact).abs().max())
    if not worst <= WORST:
        raise ValueError(f"the error against float64 must be at most {WORST}, got {worst} for {name_of(shape)}")
    return worst


def _shape(shape, machine, seconds):
    calls = ways(shape)
    errors = {name: error(shape, call) for name, call in calls.items()}
    timed = dict(zip(calls, side_by_side(list(calls.values()), seconds=seconds), strict=True))
    about = {"shape": asdict(shape), "flop": flops(shape), "bytes": moved(shape), "exponentials": exponentials(shape)}
    figure = functools.partial(_figure, more=about)
    for name, samples in timed.items():
        case = f"{name_of(shape)}/{name}"
        peak = (numpy_peak if name.startswith("numpy") else torch_peak)(calls[name])
        yield figure(case, "median_us", "us", [round(sample, 1) for sample in samples])
        yield figure(case, "floor_us", "us", [machine.floor(shape) * 1e6])
        yield figure(case, "peak_bytes", "byte", [float(peak)])
        yield figure(case, "error", "1", [errors[name]])
    for name, other in (("torch chunked", "torch sdpa"), ("numpy chunked", "numpy plain")):
        ratio = statistics.median(timed[name]) / statistics.median(timed[other])
        yield figure(f"{name_of(shape)}/{name}", f"time over {other}", "1", [ratio])


def _figure(case, metric, unit, samples, more=None):
    return Measurement(case=case, metric=metric, unit=unit, samples=samples, seeds=list(SEEDS), more=more or {})


def _inputs(shape, seed):
    generator = torch.Generator().manual_seed(seed)
    sizes = (shape.H, shape.Nq), (shape.kv_heads, shape.Nk), (shape.kv_heads, shape.Nk)
    return [torch.randn(shape.B, *size, shape.D, generator=generator) for size in sizes]
