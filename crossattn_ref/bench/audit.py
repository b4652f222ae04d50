"""Records looked over by somebody who does not believe them: the command `crossattn audit`.

Each line is read anew: its median is computed again, and so is what follows from its shape; a time below the floor
of its own file, or a ratio that its two times do not give, is refused. A line whose code has changed since is marked.
A floor is computed anew from the ceilings of its file, those that were measured beside it where there are several.
"""

import argparse
import json
import math
import statistics
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from crossattn_ref import cost, records

FLOOR = 0.97  # of the floor: a clock and a ceiling are measured, too
RATES = ("matrix_rate", "copy_bandwidth", "read_bandwidth", "exp_rate")
RATIOS = (  # what a ratio is called, what it divides, how, and what that is called
    ("time over ", "median_us", statistics.median, "medians"),
    ("total over ", "call_us", sum, "sums"),
)
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
    figures = {(record.case, record.metric): record for record in found.values()}
    seen = {}
    for number, record in found.items():
        first = seen.setdefault((record.suite, record.case, record.metric), number)
        problems = [f"the same case and metric as line {first}"] if first != number else []
        for problem in problems + list(_problems(record, figures)):
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
    if not isinstance(content.get("more", {}), dict):
        raise ValueError(f"more must be an object with named entries, got {content['more']!r}")
    try:
        return records.Record(**content)
    except TypeError as error:
        raise ValueError(str(error).replace("Record.__init__() ", "a record ")) from None


def _problems(record, figures):
    """Say what cannot be true of a record, given the others of its file by case and metric."""
    if any(sample < 0 for sample in record.samples):
        yield f"no sample may be negative, got {min(record.samples)}"
    if (record.metric.endswith("_us") or record.metric in RATES) and 0 in record.samples:
        yield "nothing takes no time, and no ceiling is 0"
    if record.metric == "median_us":
        floor = figures.get((record.case, "floor_us"))
        if floor is not None and record.value < FLOOR * floor.value:
            yield f"{record.value:.4g} us is faster than possible: the floor is {floor.value:.4g} us"
    if record.metric == "floor_us":
        yield from _wrong_floor(record, figures)
    for kind, *how in RATIOS:
        if record.metric.startswith(kind):
            other = record.case.rpartition("/")[0] + "/" + record.metric.removeprefix(kind)
            yield from _wrong_ratio(record, other, figures, *how)


def _wrong_ratio(record, other, figures, metric, of, name):
    """Divide two cases of the same metric again; sums over as many samples as both have."""
    pair = [figures.get((case, metric)) for case in (record.case, other)]
    if all(pair):
        n = min(len(one.samples) for one in pair) if of is sum else None
        time, other_time = (of(one.samples[:n]) for one in pair)
        ratio = time / other_time if other_time else math.inf
        if not math.isclose(record.value, ratio, rel_tol=1e-3):
            yield f"the {name} give {ratio:.4g}, and not {record.value:.4g}"


def _wrong_floor(record, figures):
    """Compute a floor again, from the shape and from the counts that a record states, and the best of the ceilings."""
    counts = {name: record.more[name] for name in ("flop", "bytes", "exponentials") if name in record.more}
    if "shape" in record.more:
        try:
            right = cost.counts(cost.Shape(**record.more["shape"]), backward=record.more.get("pass") == "backward")
        except (TypeError, ValueError) as error:
            yield f"its shape is none: {error}"
            return
        for name, count in right.items():
            if counts.get(name) != count:
                yield f"{name} must be {count} for its shape, got {counts.get(name)}"
        counts = right
    for name, count in counts.items():
        if not isinstance(count, int | float):
            yield f"{name} must be a number, got {count!r}"
            return
    beside = str(record.more.get("ceilings", "ceilings"))
    if counts and all((beside, rate) in figures for rate in RATES):
        matrix, copy, read, exp = (max(figures[beside, rate].samples) for rate in RATES)
        rates = {"flop": matrix, "bytes": max(copy, read), "exponentials": exp}
        floor = max(1e6 * count / rates[name] if rates[name] else math.inf for name, count in counts.items())
        if not math.isclose(record.value, floor, rel_tol=1e-3):
            yield f"the {beside} of this file give {floor:.4g} us, and not {record.value:.4g}"
