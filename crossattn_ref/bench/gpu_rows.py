"""A row of attention-gpu: one use of attention, computed by every way, checked, looked at, and timed.

Every way gets the same inputs, is compared with float64 before it is timed, on memory that held NaN a moment before,
and is timed in turn with the others of its row. A way that refuses a row, or answers it wrongly, has a line that says
why; so has one that was not tried, because the time of the run was up.

Letters: B samples, H heads, Nq queries, Nk keys, D width of each.
"""

import math
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

import torch

from crossattn_ref.bench import backends, gpu, lines
from crossattn_ref.bench.backends import WAYS
from crossattn_ref.bench.measure import Measurement
from crossattn_ref.cost import Machine, Shape, counts

SAMPLES = 20
WORST = {"bfloat16": 2e-2, "float32": 1e-5}  # error against float64, relative in the norm, that is let to the clock
FORWARD = tuple(name for name in WAYS if name != "chunked")


@dataclass(frozen=True, kw_only=True)
class Row:
    """A use of attention, the law that its lengths follow, and which pass of it is timed, by which ways."""

    shape: Shape
    law: str = ""
    backward: bool = False
    ways: Sequence[str] = FORWARD

    @property
    def name(self) -> str:
        """Write the row down as records name it."""
        shape = self.shape
        words = f"B{shape.B} H{shape.H} {shape.Nq}x{shape.Nk}x{shape.D} {shape.dtype} {self.law}".split()
        return " ".join(words + ["backward"] * self.backward)

    @property
    def counts(self) -> dict[str, int]:
        """Count operations, bytes and exponentials, as an audit counts them again."""
        return counts(self.shape, backward=self.backward)


def measure(
    part: str,
    those: Sequence[Row],
    *,
    device: torch.device | None = None,
    samples: int = SAMPLES,
    until: float = math.inf,
) -> Iterator[list[Measurement]]:
    """Measure the ceilings, then every way on every row, and yield the lines of each.

    No way is begun after until, by the clock of time.monotonic().
    """
    device = device or gpu.needed()
    measured, machine = gpu.ceilings_of(device)
    yield list(lines.ceilings(part, measured))
    for row in those:
        if lines.is_up(until):
            yield [lines.untried(f"{row.name}/{way}", part) for way in row.ways]
        else:
            yield list(_one(part, row, machine, device, samples, until))


@dataclass(frozen=True)
class Ready:
    """A way that has answered a row rightly, and what was noted on the way."""

    call: Callable[[], object]
    turn: gpu.Turn
    error: float
    peak: int
    noted: dict


def tried(
    names: Iterable[str], make: Callable[[str], Ready], device: torch.device, until: float
) -> tuple[dict[str, Ready], dict[str, str], list[str]]:
    """Make ways ready, one after the other -> those that are, the reasons of those that refuse, and who came too late.

    None is begun after until, by the clock of time.monotonic().
    """
    ready, refused, late = {}, {}, []
    for name in names:
        if lines.is_up(until):
            late.append(name)
            continue
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            try:
                ready[name] = make(name)
            except Exception as error:  # noqa: BLE001 whatever a way raises is what its line says
                refused[name] = lines.reason(error, said)
                gpu.synchronize(device)  # a GPU that does nothing more says so here, and not for every way to come
    return ready, refused, late


def _one(part, row, machine, device, samples, until):
    torch.compiler.reset()  # what was compiled for other rows would count towards a limit of this one
    sets = [backends.draw(row.shape, device, seed) for seed in range(gpu.n_sets(device, row.counts["bytes"]))]
    expected = exact(row, sets[0])
    ready, refused, late = tried(row.ways, lambda name: _ready(WAYS[name], row, sets, expected, device), device, until)
    yield from (lines.untried(f"{row.name}/{name}", part) for name in late)
    timed = dict(zip(ready, gpu.timed([one.turn for one in ready.values()], device, samples=samples), strict=True))
    for name, times in timed.items():
        yield from _figures(part, row, name, ready[name], times, machine, gpu.kernels(ready[name].call, device))
    for name, reason in refused.items():
        yield lines.refused(f"{row.name}/{name}", reason, part)
    yield from lines.ratios(part, row.name, timed, "fused")
    lines.report(row.name, timed, refused, _floor(row, machine))


def _ready(way, row, sets, expected, device):
    """Prepare a way on every set, see that it is right on the first, and look at what it takes."""
    start = time.perf_counter()
    prepared = [way(x) for x in sets]
    gpu.synchronize(device)
    preparing = (time.perf_counter() - start) / len(sets)
    calls = [_backward(one, x) for one, x in zip(prepared, sets, strict=True)] if row.backward else prepared
    gpu.poison(sets[0].q, sets[0].k, sets[0].v)
    start = time.perf_counter()
    answer = calls[0]()
    gpu.synchronize(device)
    first = time.perf_counter() - start
    error = error_of(row, answer, expected)
    del answer
    peak = gpu.peak(calls[-1], device)
    turn = gpu.turn(calls, device, record=not row.backward)
    noted = {"first_call_s": first, "preparing_s": preparing, "sets": len(sets), "l2": "cold"}
    return Ready(calls[-1], turn, error, peak, noted | {"timer": turn.how, "calls": turn.n})


def _backward(prepared, x):
    """Compute attention once, and return the call that sends a gradient back through it."""
    tensors = tuple(tensor.detach().requires_grad_() for tensor in prepared.tensors)
    out, grad_out = prepared.attend(*tensors), _sent(x)
    return lambda: torch.autograd.grad(out, tensors, grad_out, retain_graph=True)


def _sent(x):
    """Draw the gradient that comes back to the output."""
    generator = torch.Generator(x.q.device).manual_seed(1)
    return torch.randn(x.q.shape, device=x.q.device, generator=generator).to(x.q.dtype)


def exact(row: Row, x: backends.Inputs) -> dict[tuple[int, int], tuple]:
    """Compute what is to come out, in float64, for the first and last head of every sample: tuples of tensors."""
    places = sorted({(b, h) for b in range(row.shape.B) for h in (0, row.shape.H - 1)})
    return backends.exact_gradients(x, _sent(x), places) if row.backward else backends.exact(x, places)


def error_of(row: Row, answer: object, expected: Mapping[tuple[int, int], tuple]) -> float:
    """Compare with float64 -> the error, relative in the norm, the largest where there are several tensors.

    Raises ValueError for an answer that is not finite throughout, or too far off.
    """
    answers = [_heads_first(one, row.shape) for one in (answer if row.backward else [answer])]
    if not all(bool(one.isfinite().all()) for one in answers):
        raise ValueError("wrong: the answer is not finite everywhere, on memory that held NaN before")
    worst = 0.0
    for i, one in enumerate(answers):
        found = torch.stack([one[place].double() for place in expected])
        right = torch.stack([those[i] for those in expected.values()])
        worst = max(worst, float((found - right).norm() / right.norm()))
    if not worst <= WORST[row.shape.dtype]:
        raise ValueError(f"wrong: the error against float64 is {worst:.3g}, allowed are {WORST[row.shape.dtype]}")
    return worst


def _heads_first(tensor, shape):
    """Lay packed numbers out as (B, H, N, D); others are."""
    return tensor.unflatten(0, (shape.B, -1)).transpose(1, 2) if tensor.ndim == 3 else tensor


def _figures(part, row, way, ready, times, machine, kernels):
    case = f"{row.name}/{way}"
    about = {"part": part, "ceilings": lines.ceilings_of(part), "pass": "backward" if row.backward else "forward"}
    about |= {"law": row.law, "shape": asdict(row.shape)} | row.counts
    times = [round(one, 3) for one in times]
    yield lines.figure(case, "median_us", "us", times, **about, **ready.noted, kernels=kernels)
    yield lines.figure(case, "floor_us", "us", [_floor(row, machine)], **about)
    yield lines.figure(case, "peak_bytes", "byte", [float(ready.peak)], part=part)
    yield lines.figure(case, "error", "1", [ready.error], part=part)


def _floor(row, machine: Machine):
    """Return the least time of a row in microseconds."""
    counts = row.counts
    times = counts["flop"] / machine.rates[row.shape.dtype], counts["bytes"] / machine.bandwidth
    return 1e6 * max(*times, counts["exponentials"] / machine.exp_rate)
