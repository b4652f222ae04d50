"""The list of a graded class: every submission, its state and why, first those that somebody should look at."""

import csv
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from crossattn_ref.judge.staging import Handed
from crossattn_ref.judge.statistics import code

COLUMNS = ("needs_human", "student", "notebook", "state", "points", "why", "code")


@dataclass
class Submission:
    """One student's notebook on its way: what was handed in, what it earned, and what somebody should look at."""

    handed: Handed
    points: float = 0.0
    flags: list[str] = field(default_factory=list)

    @property
    def needs_human(self) -> bool:
        """Whether somebody should look: something could not be read or was refused, or a process broke off."""
        return self.handed.state in ("misplaced", "unreadable", "refused", "renamed") or bool(self.flags)


def write(path: Path, class_: Iterable[Submission], key: bytes) -> None:
    """Write the list as CSV. What an earlier run said of students who are not in this one stays.

    With the course's key each student gets the code under which the statistics count her.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [_row(submission, key) for submission in class_]
    now = {row[1] for row in rows}
    if path.exists():
        with path.open(newline="", encoding="utf-8") as file:
            rows += [row for row in list(csv.reader(file))[1:] if len(row) == len(COLUMNS) and row[1] not in now]
    partial = path.with_suffix(".partial")
    with partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows(sorted(rows, key=lambda row: (row[0] != "yes", *row[1:3])))
    partial.replace(path)


def _row(submission: Submission, key: bytes) -> list[str]:
    handed = submission.handed
    row = ["yes" if submission.needs_human else "no", handed.student, handed.notebook, handed.state]
    why = "; ".join([*handed.remarks, *submission.flags])
    return [str(harmless(value)) for value in [*row, round(submission.points, 2), why, code(key, handed.student)]]


_FORMULA = re.compile(r"(^|[;,|])(\s*)([=+\-@\uff1d\uff0b\uff0d\uff20])")  # also where a spreadsheet would cut


def harmless(value: object) -> object:
    """Keep a spreadsheet from reading text as a formula: a quote goes before what would start one."""
    return _FORMULA.sub(r"\1\2'\3", printable(value)) if isinstance(value, str) else value


def printable(text: str) -> str:
    """Keep text from moving a cursor, beginning a line, or not being text: what cannot be shown becomes a "?"."""
    return "".join(character if character.isprintable() else "?" for character in text)
