"""What a class gets wrong: which misconception, how often, over attempts; and which wrong answers nobody has named.

An attempt is one content of one answer: grading the same thing again adds nothing. Students appear as codes.
"""

import csv
import hmac
import html
import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from crossattn_ref import plot
from crossattn_ref.judge.verdict import Verdict

UNEXPLAINED = "unexplained"
MOST = 12  # bars in one plot


@dataclass(frozen=True)
class Attempt:
    """One answer of one student: what it scored, the mistakes named in it, its signature where none was."""

    student: str
    exercise: str
    score: float
    mistakes: tuple[str, ...]
    signature: str
    content: str


@dataclass(frozen=True)
class Row:
    """How often one mistake, or one group of equal unexplained answers, was seen in an exercise, and by whom first."""

    exercise: str
    mistake: str
    students: int
    attempts: int
    share_of_students: float
    example: str


def code(key: bytes, student: str) -> str:
    """Name a student by a code that only the course can trace back. Her folder may bear bytes that are no text."""
    return hmac.new(key, student.encode(errors="surrogateescape"), "sha256").hexdigest()[
        :12
    ]  # a folder's name is bytes


def attempts(key: bytes, student: str, verdict: Verdict) -> list[Attempt]:
    """Take the attempts out of a verdict, without those that were not begun."""
    return [
        Attempt(
            code(key, student),
            report.exercise,
            report.score,
            tuple(mistake.name for mistake in report.diagnosis),
            verdict.signatures.get(cell, ""),
            f"{report.seed:x}",  # drawn from the content: the same answer, the same seed
        )
        for cell, report in verdict.reports.items()
        if report.score or report.diagnosis or verdict.signatures.get(cell)
    ]


class Log:
    """A record of attempts, one JSON line each, to which new ones are added; what is there already is left alone."""

    def __init__(self, path: Path):
        self._path = path
        self._known = {self._name(attempt) for attempt in read(path)}
        if path.exists() and path.read_bytes()[-1:] not in (b"", b"\n"):
            with path.open("a") as file:
                file.write("\n")  # behind a last line that was cut short

    def note(self, new: Iterable[Attempt]) -> None:
        """Add what is not there yet."""
        fresh = [attempt for attempt in new if self._name(attempt) not in self._known]
        self._known.update(map(self._name, fresh))
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(asdict(attempt)) + "\n" for attempt in fresh)

    @staticmethod
    def _name(attempt):
        return hash((attempt.student, attempt.exercise, attempt.content))


def read(path: Path) -> list[Attempt]:
    """Read a record; a last line that was cut short is left out."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            fields = json.loads(line)
            found.append(Attempt(**{**fields, "mistakes": tuple(fields["mistakes"])}))
        except (ValueError, TypeError, KeyError):
            continue
    return found


def tally(record: Iterable[Attempt]) -> list[Row]:
    """Count the mistakes of each exercise, most students first; unexplained answers count by signature."""
    students, seen, first = defaultdict(set), defaultdict(Counter), {}
    tried = defaultdict(set)
    for attempt in record:
        tried[attempt.exercise].add(attempt.student)
        named = attempt.mistakes or ((f"{UNEXPLAINED} {attempt.signature}",) if attempt.signature else ())
        for mistake in named[:1]:  # several that answer alike are one mistake; the first gives it its name
            students[attempt.exercise, mistake].add(attempt.student)
            first.setdefault((attempt.exercise, mistake), attempt.student)
            seen[attempt.exercise][mistake] += 1
    rows = [
        Row(name, mistake, len(who), seen[name][mistake], len(who) / len(tried[name]), first[name, mistake])
        for (name, mistake), who in students.items()
    ]
    return sorted(rows, key=lambda row: (row.exercise, -row.students, -row.attempts, row.mistake))


def write(folder: Path, subject: str, record: list[Attempt]) -> Path:
    """Write mistakes.csv and report.html into a folder -> the path of the report."""
    rows = tally(record)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "mistakes.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [column.name for column in fields(Row)])
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)
    parts = [_section(exercise, rows, record) for exercise in dict.fromkeys(a.exercise for a in record)]
    page = folder / "report.html"
    page.write_text(_PAGE.format(subject=html.escape(subject), body="".join(parts)), encoding="utf-8")
    return page


def until_solved(record: Iterable[Attempt], exercise: str) -> dict[str, int]:
    """Count students by the number of attempts that they needed, in the order in which attempts were graded."""
    needed, tries = {}, Counter()
    for attempt in record:
        if attempt.exercise == exercise and needed.get(attempt.student, "not yet") == "not yet":
            tries[attempt.student] += 1
            number = str(tries[attempt.student]) if tries[attempt.student] < 5 else "5 or more"
            needed[attempt.student] = number if attempt.score == 1 else "not yet"
    counts = Counter(needed.values())
    return {label: counts[label] for label in ("1", "2", "3", "4", "5 or more", "not yet")}


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>Mistakes in {subject}</title>
<style>
:root {{ color-scheme: light dark; }}
@media (prefers-color-scheme: dark) {{ :root {{ --ca-ours: #c3aef5; --ca-other: #9a9a9a; }} }}
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 48rem; margin: 2rem auto; padding: 0 1rem; }}
h2 {{ margin-top: 2.5rem; }} .wide {{ overflow-x: auto; }} svg {{ max-width: 100%; height: auto; }}
table {{ border-collapse: collapse; width: 100%; }} th, td {{ text-align: left; padding: .25rem .5rem; }}
tr:nth-child(even) {{ background: #8882; }} .n {{ text-align: right; }} code {{ white-space: nowrap; }}
</style></head><body>
<h1>Mistakes in {subject}</h1>
<p>Each count is of students who made the mistake in at least one attempt; an attempt is one content of an answer.
A group of unexplained answers gave the same numbers on the same questions: the largest may deserve a name in the
catalogue. Look at the one that was seen first; whose it is stands under the same code in triage.csv.</p>
{body}
</body></html>
"""


def _section(exercise, rows, record):
    solved = until_solved(record, exercise)
    tried = sum(solved.values())
    mine = [row for row in rows if row.exercise == exercise]
    done = tried - solved["not yet"]
    parts = [f"<h2>{html.escape(exercise)}</h2>", _attempts_needed(exercise, solved, done, tried)]
    if not mine:
        return "".join([*parts, "<p>No mistake was seen that could be told from not answering.</p>"])
    return "".join([*parts, _most_often(exercise, mine, tried), _table(mine)])


def _attempts_needed(exercise, solved, done, tried):
    return plot.bars(
        {label: float(count) for label, count in solved.items()},
        xlabel="attempts until all points were earned",
        ylabel="students",
        title=f"{done} of {tried} students have solved it, {solved['1']} at the first attempt",
        alt=f"Students by attempts in {exercise}: " + ", ".join(f"{name} {count}" for name, count in solved.items()),
    )._repr_html_()


def _most_often(exercise, mine, tried):
    shown = {str(number): float(row.students) for number, row in enumerate(mine[:MOST], start=1)}
    named = ", ".join(f"{row.mistake} {row.students}" for row in mine[:MOST])
    return plot.bars(
        shown,
        xlabel="mistake, by its number in the table",
        ylabel="students",
        title=f"Most often: {mine[0].mistake} ({mine[0].students} of {tried} students)",
        alt=f"Students by mistake in {exercise}: {named}",
    )._repr_html_()


def _table(mine):
    head = "<th class=n>no.</th><th>mistake</th><th class=n>students</th><th class=n>attempts</th><th>seen first</th>"
    cells = "".join(
        f"<tr><td class=n>{number}</td><td>{html.escape(row.mistake)}</td><td class=n>{row.students}</td>"
        f"<td class=n>{row.attempts}</td><td><code>{row.example}</code></td></tr>"
        for number, row in enumerate(mine, start=1)
    )
    return f"<div class=wide><table><tr>{head}</tr>{cells}</table></div>"
