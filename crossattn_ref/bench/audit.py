"""Records looked over by somebody who does not believe them: the command `crossattn audit`.

Each line is read anew: its median is computed again, and so is what follows from its shape; a time below the floor
of its own file, or a ratio that its two times do not give, is refused. A line whose code has changed since is marked.
"""

import argparse
import json
import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from crossattn_ref import cost, records

FLOOR = 0.97  # of the floor: a clock and a ceiling are measured, too
RATES = ("matrix_rate", "copy_bandwidth", "read_bandwidth", "exp_rate")
EXAMPLES = """
examples:
  crossattn audit book/measurements/attention-cpu.jsonl
  crossattn audit book/measurements/*.jsonl

exit status: 0 where nothing is refused, 1 where something is, 2 where a file cannot be read
"""


@dataclass(frozen=True)
class Remark:
    """What is to be said of a line: refused, or stale, which is no mistake."""

    line: int
    refused: bool
    text: str


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Add `audit` to the commands."""
    parser = commands.add_parser(
        "audit",
        help="look over recorded figures: edited, cut off, faster than possible, stale",
        description="Recompute what can be recomputed in files of records, and refuse what cannot be true.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="RECORDS", help="files that `crossattn bench` wrote")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Audit files and print what is found -> 0, 1 where a line is refused, 2 where a file cannot be read."""
    refused = False
    for path in arguments.files:
        try:
            text = path.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            print(f"crossattn audit: {path} cannot be read: {error}", file=sys.stderr)
            return 2
        remarks = list(audit(text))
        for remark in (remark for remark in remarks if remark.refused):
            print(f"{path}, line {remark.line}: refused: {remark.text}")
        for remark in [remark for remark in remarks if not remark.refused][:1]:  # a whole suite grows stale at once
            print(f"{path}, line {remark.line}: stale: {remark.text}")
        wrong, stale = (len({r.line for r in remarks if r.refused is kind}) for kind in (True, False))
        print(f"{path}: {len(text.splitlines())} lines, {wrong} refused, {stale} stale")
        refused |= wrong > 0
    return int(refused)


def audit(text: str, root: Path = records.ROOT) -> Iterator[Remark]:
    """Look over the lines of a file of records, as text -> remarks in the order of the lines."""
    found = {}
    for number, line in enumerate(text.splitlines(), start=1):
        try:
            found[number] = _parsed(line)
        except ValueError as error:
            yield Remark(number, True, str(error))
    values = {(record.case, record.metric): record.value for record in found.values()}
    seen = {}
    for number, record in found.items():
        first = seen.setdefault((record.suite, record.case, record.metric), number)
        problems = [f"the same case and metric as line {first}"] if first != number else []
        for problem in problems + list(_problems(record, values)):
            yield Remark(number, True, f"{record.case}, {record.metric}: {problem}")
        if records.is_stale(record, root):
            yield Remark(number, False, f"{record.case}, {record.metric}: its code has changed since {record.date}")


def _parsed(line):
    try:
        content = json.loads(line)
    except json.JSONDecodeError as error:
        where = "cut off" if error.pos >= len(line.rstrip()) - 1 else "not JSON"
        raise ValueError(f"{where} at character {error.pos} of {len(line)}: run the suite again") from None
    if not isinstance(content, dict):
        raise ValueError(f"a record is an object with named entries, got {line[:40]!r}")
    try:
        return records.Record(**content)
    except TypeError as error:
        raise ValueError(str(error).replace("Record.__init__() ", "a record ")) from None


def _problems(record, values):
    """Say what cannot be true of a record, given the values of its file by case and metric."""
    if any(sample < 0 for sample in record.samples):
        yield f"no sample may be negative, got {min(record.samples)}"
    if record.metric == "median_us":
        floor = values.get((record.case, "floor_us"))
        if floor is not None and record.value < FLOOR * floor:
            yield f"{record.value:.4g} us is faster than possible: the floor is {floor:.4g} us"
    if record.metric == "floor_us" and "shape" in record.more:
        yield from _wrong_floor(record, values)
    if record.metric.startswith("time over "):
        other = record.case.rpartition("/")[0] + "/" + record.metric.removeprefix("time over ")
        times = [values.get((case, "median_us")) for case in (record.case, other)]
        if all(times) and not math.isclose(record.value, times[0] / times[1], rel_tol=1e-3):
            yield f"the medians give {times[0] / times[1]:.4g}, and not {record.value:.4g}"


def _wrong_floor(record, values):
    """Compute a floor again, from the shape and from the counts that a record states."""
    try:
        shape = cost.Shape(**record.more["shape"])
    except (TypeError, ValueError) as error:
        yield f"its shape is none: {error}"
        return
    counts = {"flop": cost.flops(shape), "bytes": cost.moved(shape), "exponentials": cost.exponentials(shape)}
    for name, count in counts.items():
        if record.more.get(name) != count:
            yield f"{name} must be {count} for its shape, got {record.more.get(name)}"
    if all(("ceilings", rate) in values for rate in RATES) and record.value > 1.001 * _slowest(counts, values):
        yield f"the ceilings of this file give at most {_slowest(counts, values):.4g} us, and not {record.value:.4g}"


def _slowest(counts, values):
    """Return the floor in microseconds by the medians of the ceilings, which are never above their best."""
    matrix, copy, read, exp = (values["ceilings", rate] for rate in RATES)
    rates = {"flop": matrix, "bytes": max(copy, read), "exponentials": exp}
    return max(1e6 * counts[name] / rate for name, rate in rates.items())
