"""The GPU as a place to measure at: what it is, how fast it can be, and clocks, memory and kernels of calls on it.

A call is timed as part of a turn: the same call on several inputs, one after another, recorded as one CUDA graph, so
that no time of the processor counts, between two events. The inputs together are several times as large as the L2
cache, so that each call finds its own in memory. What cannot be recorded is launched call by call, and said to be.
On a CPU, where all of this is tried out, a turn is a loop and the clock is the wall's.
"""

import importlib.util
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity

from crossattn_ref.bench import ceilings
from crossattn_ref.bench.memory import torch_peak
from crossattn_ref.cost import Machine

COLD = 4  # times the L2 cache that inputs take together, so that none of them is found there
MOST_SETS = 64
TURN = 1e-3  # seconds that a turn takes at least, so that its events are far apart
MOST_CALLS = 256  # of a turn
WARM_UP = 3  # rounds before the first that counts
SIDE = 8192  # of square matrices
COPIED = 2**32  # bytes
EXP_PER_CLOCK = 16  # exponentials of one multiprocessor: CUDA C++ Programming Guide, arithmetic throughput, 9.0


@dataclass(frozen=True)
class Turn:
    """Calls to be timed together: run makes all n of them; how is "graph", "launches" or, on a CPU, "loop".

    calls are held, because a graph remembers where the inputs of its calls lie, and does not keep them there.
    """

    run: Callable[[], object]
    n: int
    how: str
    calls: Sequence[Callable[[], object]] = ()


def needed() -> torch.device:
    """Return the GPU; ValueError, with what there is in its place and what to do, where something is missing."""
    missing = [] if torch.cuda.is_available() else [_why_no_gpu()]
    if importlib.util.find_spec("triton") is None:
        missing.append("triton, which `fused` needs, is not installed: pip install 'crossattn-ref[gpu]' (Linux)")
    if missing:
        here = "what runs without a GPU is crossattn bench attention-cpu"
        raise ValueError("; ".join(["attention-gpu must run on a GPU that torch and triton can use", *missing, here]))
    return torch.device("cuda")


def _why_no_gpu():
    """Tell apart a torch that knows no GPU, and a GPU or a driver that torch does not find."""
    if torch.version.cuda is None:
        return (
            f"torch {torch.__version__} is a build without CUDA: install one with it, which PyPI has for Linux and "
            "https://pytorch.org/get-started for other systems"
        )
    try:
        torch.cuda.init()
    except (RuntimeError, AssertionError) as error:
        why = " ".join(str(error).split())[:300]
    else:
        why = "no GPU is to be seen (is CUDA_VISIBLE_DEVICES set?)"
    return f"torch {torch.__version__}, built for CUDA {torch.version.cuda}, cannot use one here and says: {why}"


def hardware() -> dict[str, str | int]:
    """Name the GPU, its driver, and the libraries that torch brought along; nothing where there is no GPU."""
    if not torch.cuda.is_available():
        return {}
    properties = torch.cuda.get_device_properties(0)
    return {
        "gpu": properties.name,
        "gpu_memory": properties.total_memory,
        "multiprocessors": properties.multi_processor_count,
        "l2_bytes": properties.L2_cache_size,
        "driver": _smi("driver_version") or "unknown",
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "torch_git": torch.version.git_version,
    }


def n_sets(device: torch.device, size: int) -> int:
    """Say how many sets of inputs, of `size` bytes each, are needed for none to be found in the cache."""
    if device.type != "cuda":
        return 2
    cache = torch.cuda.get_device_properties(device).L2_cache_size
    return max(1, min(MOST_SETS, -(-COLD * cache // size)))


def turn(calls: Sequence[Callable[[], object]], device: torch.device, *, record: bool = True) -> Turn:
    """Make a turn of calls that have been made before, each on its own inputs, again and again until it is long enough.

    With record, as one graph where that is possible.
    """
    start = time.perf_counter()
    for call in calls:
        call()
    synchronize(device)
    rounds = round(TURN / (time.perf_counter() - start))
    calls = list(calls) * max(1, min(rounds, MOST_CALLS // len(calls)))
    if device.type != "cuda":
        return Turn(lambda: [call() for call in calls] and None, len(calls), "loop")
    graph = _recorded(calls) if record else None
    if graph is None:
        return Turn(lambda: [call() for call in calls] and None, len(calls), "launches")
    return Turn(graph.replay, len(calls), "graph", calls)


def timed(turns: Sequence[Turn], device: torch.device, *, samples: int) -> list[list[float]]:
    """Time turns one after another, round after round, each in the opposite order; microseconds of a call."""
    found = [[] for _ in turns]
    order = list(range(len(turns)))
    for _ in range(WARM_UP + samples):
        for i in order:
            found[i].append(_stopwatch(turns[i].run, device))
        order.reverse()
    synchronize(device)
    return [[1e6 * read() / one.n for read in reads[WARM_UP:]] for one, reads in zip(turns, found, strict=True)]


def peak(call: Callable[[], object], device: torch.device) -> int:
    """Count the bytes that a call takes at most beside what was there, its result included."""
    if device.type != "cuda":
        return torch_peak(call)
    synchronize(device)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    synchronize(device)
    return torch.cuda.max_memory_allocated() - before


def kernels(call: Callable[[], object], device: torch.device) -> list[str]:
    """Name the kernels that a call was seen to run, each once, the longest first; on a CPU, torch's attentions.

    Where the profiler itself fails, its reason stands in their place: the times are there already.
    """
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (device.type == "cuda")
    try:
        with torch.profiler.profile(activities=activities) as profile:
            call()
            synchronize(device)
    except RuntimeError as error:
        return [f"not seen: {error}"[:200]]
    if device.type != "cuda":
        return [event.key for event in profile.key_averages() if "attention" in event.key]
    seen = [event for event in profile.key_averages() if event.device_type == DeviceType.CUDA]
    return [event.key[:200] for event in sorted(seen, key=lambda event: -event.self_device_time_total)]


def ceilings_of(device: torch.device, *, samples: int = 20) -> tuple[dict[str, list[float]], Machine]:
    """Measure the ceilings -> their samples by name, and the machine that they make.

    Exponentials are not measured, because no call of torch is limited by them: a GPU states so many for each clock
    of a multiprocessor, and its clock is taken as the highest that it may have.
    """
    if device.type != "cuda":
        measured = ceilings.samples(seconds=0.0)
        return measured, ceilings.machine(measured)
    generator = torch.Generator(device).manual_seed(0)
    one, other = (torch.randn(SIDE, SIDE, device=device, generator=generator).bfloat16() for _ in range(2))
    product = torch.empty_like(one)
    source = torch.randn(COPIED // 4, device=device, generator=generator)
    target = torch.empty_like(source)
    calls = {
        "matrix_rate": (2 * SIDE**3, lambda: torch.mm(one, other, out=product)),
        "copy_bandwidth": (2 * COPIED, lambda: target.copy_(source)),
        "read_bandwidth": (COPIED, lambda: torch.sum(source)),
    }
    # Copies are launched: recorded in a graph, they were seen well below the rate at which the same memory is read.
    turns = [turn([call], device, record=not name.startswith("copy")) for name, (_, call) in calls.items()]
    times = timed(turns, device, samples=samples)
    measured = {
        name: [amount / one * 1e6 for one in each]
        for (name, (amount, _)), each in zip(calls.items(), times, strict=True)
    }
    measured["exp_rate"] = [
        float(torch.cuda.get_device_properties(device).multi_processor_count * EXP_PER_CLOCK * _clock())
    ]
    best = {name: max(values) for name, values in measured.items()}
    return measured, Machine(
        name=torch.cuda.get_device_name(device),
        rates={"bfloat16": best["matrix_rate"]},
        bandwidth=max(best["copy_bandwidth"], best["read_bandwidth"]),
        exp_rate=best["exp_rate"],
        source="measured beside what is held against it; exponentials as stated by the maker",
    )


def synchronize(device: torch.device) -> None:
    """Wait until everything has been done; ValueError where the GPU has stopped for good, as after a wild address."""
    if device.type != "cuda":
        return
    try:
        torch.cuda.synchronize(device)
    except RuntimeError as error:
        what = str(error).partition("\n")[0]
        remedy = "the rows recorded before stay; measure the other parts with --part, each in a process of its own"
        raise ValueError(f"every call must leave the GPU running, and one has not ({what}): {remedy}") from error


def poison(*tensors: torch.Tensor) -> None:
    """Leave NaN where the next results of these sizes will be: what is never written is then seen."""
    [torch.full_like(tensor, float("nan")) for tensor in tensors for _ in range(2)]


def release(device: torch.device) -> None:
    """Give back the memory that nothing uses, for other processes."""
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _stopwatch(run, device):
    """Run once and return what tells, once all is done, how many seconds it took."""
    if device.type != "cuda":
        start = time.perf_counter()
        run()
        seconds = time.perf_counter() - start
        return lambda: seconds
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    run()
    end.record()
    return lambda: start.elapsed_time(end) / 1e3


def _recorded(calls):
    """Record calls as a graph; None where one of them asks the GPU for something meanwhile, which a graph cannot."""
    graph, stream = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
    try:
        with torch.cuda.graph(graph):
            for call in calls:
                call()
    except RuntimeError:
        torch.cuda.set_stream(stream)  # the recording's own stream is left only where it ends well
        torch.cuda.synchronize()
        return None
    return graph


def _clock():
    """Return the highest clock of a multiprocessor, in Hz."""
    megahertz = _smi("clocks.max.sm")
    return 1e6 * float(megahertz) if megahertz else 1e3 * torch.cuda.get_device_properties(0).clock_rate


def _smi(name):
    """Ask the driver's own program for something; None where it is not there."""
    if shutil.which("nvidia-smi") is None:
        return None
    command = ["nvidia-smi", f"--query-gpu={name}", "--format=csv,noheader,nounits", "--id=0"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or None
