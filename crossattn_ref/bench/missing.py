"""What a file of records lacks: metrics that each other case of its kind has, ways that each other row has, lines.

A file that was cut at the end of a line is whole line by line. What it lost shows in what is left of the same run.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping

from crossattn_ref.bench.floors import METRICS, RATES
from crossattn_ref.records import Record

TOGETHER = (set(METRICS), set(RATES))  # of a case all or none, whatever other cases have
SHARED = ("files", "code", "versions", "hardware")  # by the lines of one run
WITHOUT_TIME = ("refused", "untried")  # what is said of a way that has no time
BY_CHANCE = ("time over ", "total over ", "call_us", *WITHOUT_TIME)  # what a case has depends on how others ended
Found = Mapping[int, Record]


def missing(found: Found) -> Iterator[tuple[int, str]]:
    """Say what the records of a file, by line, show to be missing: the line that shows it, and what."""
    runs = defaultdict(dict)
    for number, record in found.items():
        runs[record.command][number] = record
    for run in runs.values():
        yield from _figures(run)
        yield from _ways(run)
        yield from _lines(run)
        yield from _others(run)


def _figures(run):
    """Find cases without a figure that each other case has that has one of theirs."""
    cases = defaultdict(dict)
    for number, record in run.items():
        cases[record.case][record.metric] = number
    for case, metrics in cases.items():
        others = [other for name, other in cases.items() if name != case]
        wanted = set().union(*(all_ for all_ in TOGETHER if all_ & metrics.keys() - {"error"}))
        for metric in metrics:
            like = [other.keys() for other in others if metric in other]
            wanted |= set.intersection(*map(set, like)) if like else set()
        lacking = sorted(name for name in wanted - metrics.keys() if not name.startswith(BY_CHANCE))
        if lacking:
            yield max(metrics.values()), f"{case} must have {', '.join(lacking)} beside what it has"


def _ways(run):
    """Find rows, ROW/WAY, without a way that another row of the same part has, timed or not."""
    parts = defaultdict(lambda: defaultdict(dict))
    for number, record in run.items():
        if record.metric in ("median_us", *WITHOUT_TIME):
            row, _, way = record.case.rpartition("/")
            parts[str(record.more.get("part"))][row][way] = number
    for rows in parts.values():
        ways = {way for row in rows.values() for way in row}
        for row, present in rows.items():
            if lacking := sorted(ways - present.keys()):
                yield max(present.values()), f"{row} must have {', '.join(lacking)}, as other rows have"


def _lines(run):
    """Count the lines of a run again, where they say how many there are."""
    n = len({(record.case, record.metric) for record in run.values()})
    for number, record in run.items():
        if "lines" in record.more and record.more["lines"] != n:
            yield number, f"{record.command} must have written {record.more['lines']!r} lines, got {n}"
            return


def _others(run):
    """Find lines that another run wrote: of other code, or on another machine."""
    first = next(iter(run.values()))
    for number, record in run.items():
        for name in SHARED:
            if getattr(record, name) != getattr(first, name):
                yield number, f"{record.case}, {record.metric}: {name} must be that of the first line of its run"
