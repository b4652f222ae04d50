"""Records looked over by somebody who does not believe them: the command `crossattn audit`.

Each line is read anew (reading): its types, and its median, computed again. What follows from its shape is computed
anew (floors): a time below the floor of its own file, or a ratio that its two times do not give, is refused. So is what
a file lacks, where the rest of it tells (missing). A line whose code has changed since is marked.
"""

import argparse
import math
import statistics
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from crossattn_ref import records
from crossattn_ref.bench import floors, missing, reading

RATIOS = (  # what a ratio is called, what it divides, how, and what that is called
    ("time over ", "median_us", statistics.median, "medians"),
    ("total over ", "call_us", sum, "sums"),
)
REMEDY = "restore the file from git, or run its suite again"
EXAMPLES = """
examples:
  crossattn audit book/measurements/attention-cpu.jsonl
  crossattn audit book/measurements/*.jsonl

what it cannot see:
  figures that were invented together: a time with its samples, its ratios and, where it has them, its ceilings;
  samples of other suites that were changed with their median, and ratios that are not of two medians or totals;
  units, seeds and dates; code, files, versions and hardware that were changed in every line of a run alike;
  lines that are gone where nothing is left to tell: whole cases, ways in the first row, whole rows at the end. A run
  recorded since 0.1.0 says in each line how many it wrote (more.lines), and then every line that is gone is missed

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
        remarks = list(audit(text, suite=path.stem))
        for remark in (remark for remark in remarks if remark.refused):
            print(f"{path}, line {remark.line}: refused: {remark.text}")
        for remark in [remark for remark in remarks if not remark.refused][:1]:  # a whole suite grows stale at once
            print(f"{path}, line {remark.line}: stale: {remark.text}")
        wrong, stale = (len({r.line for r in remarks if r.refused is kind}) for kind in (True, False))
        print(f"{path}: {len(text.splitlines())} lines, {wrong} refused, {stale} stale")
        refused |= wrong > 0
    return int(refused)


def audit(text: str, root: Path = records.ROOT, *, suite: str | None = None) -> Iterator[Remark]:
    """Look over the lines of a file of records, as text -> remarks in the order of the lines.

    suite is what all of them must belong to, if it is known.
    """
    found, remarks = _read(text)
    remarks += [Remark(number, True, what) for number, what in missing.missing(found)]
    figures = {(record.case, record.metric): record for record in found.values()}
    seen = {}
    for number, record in found.items():
        about = f"{record.case}, {record.metric}"
        first = seen.setdefault((record.suite, record.case, record.metric), number)
        if first != number:
            remarks.append(Remark(number, True, f"{about}: the same case and metric as line {first}"))
        if suite not in (None, record.suite):
            remarks.append(Remark(number, True, f"{about}: suite must be {suite}, as the file, got {record.suite!r}"))
        remarks += [Remark(number, True, f"{about}: {problem}") for problem in _problems(record, figures)]
        remarks += [Remark(number, refused, f"{about}: {text}") for refused, text in _age(record, root)]
    yield from sorted(remarks, key=lambda remark: remark.line)


def _read(text):
    """Read lines -> records by the number of their line, and remarks on the others."""
    found, remarks = {}, []
    for number, line in enumerate(text.splitlines(), start=1):
        try:
            found[number] = reading.record(line)
        except ValueError as error:
            remarks.append(Remark(number, True, f"{error}: {REMEDY}"))
    if not text:
        remarks.append(Remark(1, True, f"a file must hold a record, and this one is empty: {REMEDY}"))
    return found, remarks


def _age(record, root):
    """Say whether the code of a record has changed since, or, which is refused, cannot be read."""
    try:
        if records.is_stale(record, root):
            yield False, f"its code has changed since {record.date}"
    except OSError as error:
        yield True, f"files must be files of the project that can be read: {error}"


def _problems(record, figures):
    """Say what cannot be true of a record, given the others of its file by case and metric."""
    if any(sample < 0 for sample in record.samples):
        yield f"no sample may be negative, got {min(record.samples)}"
    if (record.metric.endswith("_us") or record.metric in floors.RATES) and 0 in record.samples:
        yield "nothing takes no time, and no ceiling is 0"
    yield from floors.problems(record, figures)
    for kind, *how in RATIOS:
        if record.metric.startswith(kind):
            other = record.case.rpartition("/")[0] + "/" + record.metric.removeprefix(kind)
            yield from _wrong_ratio(record, other, figures, *how)


def _wrong_ratio(record, other, figures, metric, of, name):
    """Divide two cases of the same metric again; sums over as many samples as both have."""
    pair = [figures.get((case, metric)) for case in (record.case, other)]
    if any(pair) and not all(pair):
        yield f"{metric} of {other} and of {record.case} must be in the file, or of neither"
    if all(pair):
        n = min(len(one.samples) for one in pair) if of is sum else None
        time, other_time = (of(map(float, one.samples[:n])) for one in pair)
        ratio = time / other_time if other_time else math.inf
        if not math.isclose(record.value, ratio, rel_tol=1e-3):
            yield f"the {name} give {ratio:.4g}, and not {record.value:.4g}"
