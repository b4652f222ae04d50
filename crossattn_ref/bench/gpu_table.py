"""The table of the suite attention-gpu as a page shows it: each row predicted, and measured where there are records.

What was lost is said beside what was won. A row whose lengths differ is held against the best backend that is told of
padding by a mask, and against the best of all; a step with folded beams, against the best with copied memories.

Letters: B samples, H heads, Nq queries.
"""

import itertools
import math
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from crossattn_ref.bench import attention_gpu, beam_step, shape_stream
from crossattn_ref.bench.backends import MASKED
from crossattn_ref.bench.gpu_rows import Row
from crossattn_ref.cost import MACHINES, Machine
from crossattn_ref.records import Record

COMMAND = "make bench SUITE=attention-gpu"
SHEET = MACHINES["H200"]
SMS, TILE = 132, 128  # multiprocessors of an H200; queries of a block
WIDTH = 77
INDENT = " " * 4
SILENT = {"refused": "refuses", "untried": "was not tried"}  # metrics of ways that have no time

Ways = Mapping[str, Mapping[str, Record]]  # the records of a row, by way and by metric


@dataclass(frozen=True)
class Entry:
    """A row of the table: its part, its name in records, what is predicted of it, and whether its lengths differ."""

    part: str
    name: str
    predicted: str
    ragged: bool = False


def entries(machine: Machine = SHEET) -> list[Entry]:
    """List what the suite measures, in its order, with what a machine's data sheet predicts."""
    step = beam_step.Size()
    steps = [replace(step, n_written=n) for n in beam_step.WRITTEN]
    n = shape_stream.N_SHAPES
    found = {
        part: [Entry(part, row.name, predicted(row, machine), bool(row.law)) for row in rows]
        for part, rows in attention_gpu.ROWS.items()
    }
    found["beams"] = [Entry("beams", one.name, _predicted_step(one, machine)) for one in steps]
    found["stream"] = [Entry("stream", shape_stream.name_of(n), _predicted_stream(n, machine))]
    return [entry for part in attention_gpu.PARTS for entry in found[part]]


def predicted(row: Row, machine: Machine) -> str:
    """Say how long a row takes at least, what it waits for, and how long it takes a program that does not split."""
    times = _times(row.counts, machine.rates[row.shape.dtype], machine.bandwidth, machine.exp_rate)
    waits = max(times, key=times.get)
    said = f"at least {1e6 * times[waits]:.1f} µs, waits for {waits}"
    fill = row.shape.B * row.shape.H * math.ceil(row.shape.Nq / TILE) / SMS
    if waits == "memory" and fill < 1 and not row.backward:
        said += f"; {1e6 * times[waits] / fill:.1f} µs without splits"
    return said


def text(found: Sequence[Record], machine: Machine = SHEET) -> str:
    """Write the table: every row with its prediction, and with what was measured; without records, what fills it."""
    rows, lines = _by_row(found), []
    for part, those in itertools.groupby(entries(machine), key=lambda entry: entry.part):
        lines += [f"== {part}"]
        for entry in those:
            lines += [entry.name, f"{INDENT}predicted: {entry.predicted}"]
            if entry.name in rows:
                lines += measured(entry, rows[entry.name], _ceilings(part, rows))
            elif found:
                lines += [f"{INDENT}not measured: {COMMAND}"]
        lines += [""]
    return "\n".join(lines if found else [*lines, f"Not measured yet: {COMMAND} fills this table, on a GPU."])


def measured(entry: Entry, ways: Ways, ceilings: Mapping[str, float]) -> list[str]:
    """Write down every way of a row, the fastest first, then what refused, and what was won or lost."""
    if entry.part == "stream":
        times = {way: fmean(found["call_us"].samples) for way, found in ways.items() if "call_us" in found}
        lines = [line for way in sorted(times, key=times.get) for line in _stream_lines(way, ways[way])]
        verdict = _stream_verdicts(ways)
    else:
        times = {way: found["median_us"].value for way, found in ways.items() if "median_us" in found}
        widest = max(map(len, times), default=0)
        lines = [_line(f"{way:{widest}}", ways[way]["median_us"], ceilings) for way in sorted(times, key=times.get)]
        verdict = _verdicts(entry, times)
    # what once refused or was not tried may have been timed since, by a run of the part alone
    silent = {way: found for way, found in ways.items() if way not in times}
    lines += [_reason(way, kind, found[kind]) for way, found in silent.items() for kind in SILENT if kind in found]
    return lines + list(verdict if any(map(_is_ours, times)) else _without_ours(ways, times))


def kernel(name: str) -> str:
    """Shorten the name of a kernel to what tells it from others: no type, no namespaces, no parameters."""
    name = name.removeprefix("void ").replace("(anonymous namespace)::", "")
    return name.partition("<")[0].partition("(")[0].rpartition("::")[2]


def _times(counts, rate, bandwidth, exp_rate):
    """Say in how many seconds each ceiling alone would let counts through; what is not counted takes none."""
    return {
        "products": counts.get("flop", 0) / rate,
        "memory": counts["bytes"] / bandwidth,
        "exponentials": counts.get("exponentials", 0) / exp_rate,
    }


def _predicted_step(size, machine):
    folded, copied = (1e6 * size.bytes(folded=kind) / machine.bandwidth for kind in (True, False))
    return f"at least {folded:.0f} µs folded and {copied:.0f} copied, {copied / folded:.1f} times as long"


def _predicted_stream(n, machine):
    floors = sum(machine.floor(shape) for shape in shape_stream.shapes(n + 1)[1:])
    return f"at least {1e3 * floors:.1f} ms together; what plans and compiles is not in it"


def _by_row(found):
    """Sort records by the row, the way and the metric that they belong to."""
    rows = {}
    for record in found:
        row, _, way = record.case.rpartition("/")
        rows.setdefault(row or record.case, {}).setdefault(way if row else "", {})[record.metric] = record
    return rows


def _ceilings(part, rows):
    """Return the best of the ceilings that were measured beside a part, by name; none for what is timed as a whole."""
    beside = rows.get(f"ceilings of {part}", {}).get("", {})
    return {name: max(record.samples) for name, record in beside.items()}


def _line(way, record, ceilings):
    return f"{INDENT}{way}{record.value:10.1f} µs  {_speed(record, ceilings):>13}  {_seen(record)}"[:WIDTH]


def _seen(record):
    return kernel((record.more.get("kernels") or ["no kernel seen"])[0])


def _speed(record, ceilings):
    """Say how much of a copy's bandwidth a way reaches where it waits for the memory, and else how much it computes."""
    if not ceilings or "bytes" not in record.more:
        return ""
    seconds, bandwidth = record.value / 1e6, ceilings["copy_bandwidth"]
    times = _times(record.more, ceilings["matrix_rate"], bandwidth, ceilings["exp_rate"])
    if max(times, key=times.get) == "memory":
        return f"{times['memory'] / seconds:.0%} of a copy"
    return f"{record.more['flop'] / seconds / 1e12:.0f} TFLOP/s"


def _stream_lines(way, found):
    calls, start = found["call_us"], found["start_us"].value
    total = f"{sum(calls.samples) / 1e3:.1f} ms for {calls.more['shapes']} shapes, median {calls.value:.0f} µs"
    yield f"{INDENT}{way}: {total}, the one before them {start / 1e3:.0f} ms"
    yield f"{2 * INDENT}{_seen(calls)}"[:WIDTH]
    if calls.more["ended"]:
        yield 2 * INDENT + textwrap.shorten(calls.more["ended"], WIDTH - 2 * len(INDENT), placeholder=" ...")


def _reason(way, kind, record):
    said = f"{way} {SILENT[kind]}: {record.more['reason']}"
    return INDENT + textwrap.shorten(said, WIDTH - len(INDENT), placeholder=" ...")


def _is_ours(way):
    """Folded beams count as ours, whatever computes them, and copied ones as others."""
    return way == "fused" or way.startswith("folded")


def _verdicts(entry, times) -> Iterator[str]:
    ours = min((way for way in times if _is_ours(way)), key=times.get)
    others = {way: time for way, time in times.items() if not _is_ours(way)}
    masked = {way: time for way, time in others.items() if way in MASKED}
    kinds = {"best masked backend": masked} if entry.ragged else {}
    for kind, those in (kinds | {"best other": others}).items():
        if those:
            rival = min(those, key=those.get)
            yield _verdict(f"{ours} beside the {kind}, {rival}", times[rival] / times[ours])


def _stream_verdicts(ways) -> Iterator[str]:
    ratios = {m.removeprefix("total over "): r for m, r in ways.get("fused", {}).items() if m.startswith("total over ")}
    for other in dict.fromkeys([*(["default"] if "default" in ratios else []), *_slowest_for_us(ratios)]):
        yield _verdict(f"fused beside {other}, {ratios[other].more['shapes']} shapes", 1 / ratios[other].value)


def _slowest_for_us(ratios):
    """Name the way beside which ours is worst, if there is any."""
    return sorted(ratios, key=lambda other: -ratios[other].value)[:1]


def _verdict(what, times_as_fast):
    if times_as_fast >= 1:
        return f"{INDENT}won: {what}: {times_as_fast:.2f} times as fast"
    return f"{INDENT}LOST: {what}: {1 / times_as_fast:.2f} times as long"


def _without_ours(ways, times) -> Iterator[str]:
    """Say that a row is lost where ours has no time; not where it was not tried."""
    if times and any("refused" in found for way, found in ways.items() if _is_ours(way)):
        best = min(times, key=times.get)
        yield f"{INDENT}LOST: ours refuses, and {best} does not"
