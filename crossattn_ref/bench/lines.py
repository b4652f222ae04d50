"""What the parts of attention-gpu share in writing their lines down: figures, ratios, ceilings, and refusals."""

import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence

from crossattn_ref.bench.measure import Measurement

SEEDS = (0,)


def figure(case: str, metric: str, unit: str, samples: list[float], **more) -> Measurement:
    """Make a line of a case: a metric, all its samples, and what else is to be known."""
    return Measurement(case=case, metric=metric, unit=unit, samples=samples, seeds=list(SEEDS), more=more)


def ratios(
    part: str, name: str, timed: Mapping[str, list[float]], ours: str, others: Sequence[str] | None = None
) -> Iterator[Measurement]:
    """Divide our median by that of every other way, or of some; of what was not timed there is no line."""
    for other in timed if others is None else others:
        if ours in timed and other in timed and other != ours:
            ratio = statistics.median(timed[ours]) / statistics.median(timed[other])
            yield figure(f"{name}/{ours}", f"time over {other}", "1", [ratio], part=part)


def ceilings(part: str, measured: Mapping[str, list[float]]) -> Iterator[Measurement]:
    """Write down the ceilings that were measured beside a part."""
    for metric, values in measured.items():
        unit = "byte/s" if metric.endswith("bandwidth") else "1/s"
        yield figure(ceilings_of(part), metric, unit, values, part=part)


def ceilings_of(part: str) -> str:
    """Name the case that holds the ceilings of a part."""
    return f"ceilings of {part}"


def refused(case: str, reason: str, part: str) -> Measurement:
    """Write down that a way refused, and why."""
    return figure(case, "refused", "1", [1.0], part=part, reason=reason)


def is_up(until: float) -> bool:
    """Say whether the time of a run is up, by the clock of time.monotonic()."""
    return time.monotonic() > until


def untried(case: str, part: str) -> Measurement:
    """Write down that a way was not tried, because the time of the run was up: it has not refused."""
    remedy = f"the time of the run was up: crossattn bench attention-gpu --part {part} measures this part alone"
    return figure(case, "untried", "1", [1.0], part=part, reason=remedy)


def reason(error: Exception, said: Sequence = ()) -> str:
    """Say in one line why a way refuses: its error, and the warnings that went before it."""
    lines = [f"{type(error).__name__}: {error}", *(str(warning.message) for warning in said)]
    return "; ".join(dict.fromkeys(" ".join(line.split())[:300] for line in lines))[:900]


def report(
    name: str, timed: Mapping[str, Sequence[float]], refused: Mapping[str, str], floor: float | None = None
) -> None:
    """Tell on stderr how a row went, while the next one is measured."""
    parts = [f"{way} {statistics.median(times):.4g} us" for way, times in timed.items() if times]
    parts += [f"{way} refused" for way in refused]
    least = "" if floor is None else f" (floor {floor:.4g} us)"
    tell(f"{name}{least}: {', '.join(parts) or 'no way was tried'}")


def tell(text: str) -> None:
    """Say on stderr how far a run is."""
    print(text, file=sys.stderr, flush=True)
