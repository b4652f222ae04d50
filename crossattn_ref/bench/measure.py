"""How every suite measures: calls in turn, medians, and what the machine was."""

import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One figure of a suite: its case, its metric, and all that was measured; more is what the suite adds."""

    case: str
    metric: str
    unit: str
    samples: list[float]
    seeds: list[int]
    more: dict = field(default_factory=dict)

    @property
    def value(self) -> float:
        """Return the median of the samples."""
        return statistics.median(self.samples)


def side_by_side(
    calls: Sequence[Callable[[], object]], *, seconds: float, at_least: int = 5, at_most: int = 100
) -> list[list[float]]:
    """Time several calls in turn, round after round, each round in the opposite order; microseconds of each.

    A machine that slows down meanwhile slows all of them. A short call is repeated within its turn, so that
    a turn takes two milliseconds or more. Rounds go on until seconds have passed, within at_least and at_most.
    """
    repeats = [_repeats(call) for call in calls]
    samples = [[] for _ in calls]
    turns = list(range(len(calls)))
    end = time.perf_counter() + seconds
    while len(samples[0]) < at_least or (len(samples[0]) < at_most and time.perf_counter() < end):
        for i in turns:
            start = time.perf_counter()
            for _ in range(repeats[i]):
                calls[i]()
            samples[i].append((time.perf_counter() - start) / repeats[i] * 1e6)
        turns.reverse()
    return samples


def versions(*packages: str) -> dict[str, str]:
    """Name the releases of Python and of packages."""
    return {"python": platform.python_version()} | {name: metadata.version(name) for name in packages}


def hardware(**more: str | int) -> dict[str, str | int]:
    """Name the processor, its cores that this process may use, and what a suite adds."""
    return {"cpu": _processor(), "cores": cores(), "system": platform.platform(terse=True)} | more


def cores() -> int:
    """Count the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count()


def _repeats(call):
    """Say how often a call fits into two milliseconds, by the fastest of three after one that may be slow."""
    call()
    durations = []
    for _ in range(3):
        start = time.perf_counter()
        call()
        durations.append(time.perf_counter() - start)
    return max(1, round(2e-3 / min(durations)))


def _processor():
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
