"""What a class gets wrong: which misconception, how often, over attempts; and which wrong answers nobody has named.

An attempt is one content of one answer: grading the same thing again adds nothing. Students appear as codes.
"""

import csv
import hmac
import html
import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass
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
    """How often one mistake, or one group of equal unexplained answers, was seen in an exercise."""

    exercise: str
    mistake: str
    students: int
    attempts: int
    share_of_students: float


def code(key: bytes, student: str) -> str:
    """Name a student by a code that only the course can trace back."""
    return hmac.new(key, student.encode(), "sha256").hexdigest()[:12]


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


def note(path: Path, new: Iterable[Attempt]) -> None:
    """Add attempts to a record, one JSON line each; what is there already is left alone."""
    known = {(a.student, a.exercise, a.content) for a in read(path)}
    fresh = [a for a in new if (a.student, a.exercise, a.content) not in known]
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(asdict(attempt)) + "\n" for attempt in fresh)


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
    students, seen = defaultdict(set), defaultdict(Counter)
    tried = defaultdict(set)
    for attempt in record:
        tried[attempt.exercise].add(attempt.student)
        named = attempt.mistakes or ((f"{UNEXPLAINED} {attempt.signature}",) if attempt.signature else ())
        for mistake in named[:1]:  # several that answer alike are one mistake; the first gives it its name
            students[attempt.exercise, mistake].add(attempt.student)
            seen[attempt.exercise][mistake] += 1
    rows = [
        Row(exercise, mistake, len(who), seen[exercise][mistake], len(who) / len(tried[exercise]))
        for (exercise, mistake), who in students.items()
    ]
    return sorted(rows, key=lambda row: (row.exercise, -row.students, -row.attempts, row.mistake))


def write(folder: Path, subject: str, record: list[Attempt]) -> Path:
    """Write mistakes.csv and report.html into a folder -> the path of the report."""
    rows = tally(record)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "mistakes.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["exercise", "mistake", "students", "attempts", "share_of_students"])
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)
    parts = [_section(exercise, rows, record) for exercise in dict.fromkeys(a.exercise for a in record)]
    page = folder / "report.html"
    page.write_text(_PAGE.format(subject=html.escape(subject), body="".join(parts)), encoding="utf-8")
    return page


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Mistakes in {subject}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 48rem; margin: 2rem auto; padding: 0 1rem; color: #222; }}
table {{ border-collapse: collapse; width: 100%; }} th, td {{ text-align: left; padding: .25rem .5rem; }}
tr:nth-child(even) {{ background: #f4f4f4; }} td.n {{ text-align: right; }} svg {{ max-width: 100%; height: auto; }}
</style></head><body>
<h1>Mistakes in {subject}</h1>
<p>Each count is of students who made the mistake in at least one attempt. A group of unexplained answers gave the same
numbers on the same questions: the largest may deserve a name in the catalogue.</p>
{body}
</body></html>
"""


def _section(exercise, rows, record):
    tried = {a.student for a in record if a.exercise == exercise}
    solved = {a.student for a in record if a.exercise == exercise and a.score == 1}
    mine = [row for row in rows if row.exercise == exercise]
    head = f"<h2>{html.escape(exercise)}</h2><p>{len(solved)} of {len(tried)} students have solved it.</p>"
    if not mine:
        return f"{head}<p>No mistake was seen that could be told from not answering.</p>"
    shown = {row.mistake: float(row.students) for row in mine[:MOST]}
    worst = mine[0]
    picture = plot.bars(
        shown,
        xlabel="students",
        ylabel="mistake",
        title=f"Most often: {worst.mistake} ({worst.students} of {len(tried)} students)",
        alt=f"Students by mistake in {exercise}: " + ", ".join(f"{name} {count:.0f}" for name, count in shown.items()),
    )
    cells = "".join(
        f"<tr><td>{html.escape(row.mistake)}</td><td class=n>{row.students}</td><td class=n>{row.attempts}</td></tr>"
        for row in mine
    )
    table = f"<table><tr><th>mistake</th><th>students</th><th>attempts</th></tr>{cells}</table>"
    return f"{head}{picture._repr_html_()}{table}"
