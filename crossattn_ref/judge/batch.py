"""Grading a class: stage what was handed in, judge it in several processes, let nbgrader record it, list the rest."""

import contextlib
import csv
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import nbformat

from crossattn_ref.judge import statistics
from crossattn_ref.judge.course import Course, opened
from crossattn_ref.judge.plugins import Judge, code_cells, examiner
from crossattn_ref.judge.pool import Judges, Task
from crossattn_ref.judge.recorder import configured, one_engine, record
from crossattn_ref.judge.sandbox import NoSandbox, missing
from crossattn_ref.judge.staging import Handed, stage, students

_UNGRADED = ("missing", "refused")


@dataclass
class Submission:
    """One student's notebook on its way: what was handed in, what it earned, and what somebody should look at."""

    handed: Handed
    points: float = 0.0
    flags: list[str] = field(default_factory=list)

    @property
    def needs_human(self) -> bool:
        """Whether somebody should look: something could not be read or was refused, or a process broke off."""
        return self.handed.state in ("unreadable", "refused", "renamed") or bool(self.flags)


@dataclass(frozen=True)
class Graded:
    """A graded class, and where its lists lie."""

    submissions: list[Submission]
    isolation: str
    triage: Path
    report: Path


def grade(
    folder: Path,
    subject: str,
    *,
    only: tuple[str, ...] = (),
    workers: int = 1,
    unsafe: bool = False,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> Graded:
    """Grade an assignment of a course folder, as laid out for nbgrader: submitted/<student>/<assignment>/*.ipynb.

    progress(done, of) is told how far it is. Raises BadCourse or NoSandbox, with the remedy, before anything is
    written, and NotRecorded where disk or gradebook fail; what a submission does never raises. submitted/ is only read.
    """
    if not unsafe and (reason := missing()):
        raise NoSandbox(reason)
    course = opened(folder, subject)
    course.config.Judge.unsafe = unsafe
    who = students(course.folder, only)
    pipeline = _Pipeline(course, workers, unsafe=unsafe)
    with contextlib.closing(pipeline), one_engine():
        class_ = []
        for number, own in enumerate(pipeline.run(who), start=1):
            class_ += own
            progress(number, len(who))
    triage = _triage(course, class_)
    report = statistics.write(course.results, subject, statistics.read(course.results / "attempts.jsonl"))
    return Graded(class_, "none" if unsafe else "bubblewrap", triage, report)


class _Pipeline:
    """Students on their way: staged, then judged in other processes, then written down here, in the order they came.

    Only so many are on the way at once that no process waits for another; a class of any size fits into memory.
    """

    def __init__(self, course: Course, workers: int, *, unsafe: bool):
        settings = Judge(**{**course.config.Judge, "unsafe": unsafe})
        self._course = course
        self._examiner = examiner(settings)
        self._judges = Judges(self._examiner, workers)
        self._ahead = 4 * workers
        self._config = configured(course)
        self._attempts = statistics.Log(course.results / "attempts.jsonl")
        self._assignments = {name: course.assignment(name) for name in course.released}

    def run(self, who: Iterable[str]) -> Iterator[list[Submission]]:
        """Grade students one after the other -> the submissions of each."""
        waiting = deque()
        for student in who:
            waiting.append(self._begun(student))
            if len(waiting) > self._ahead:
                yield self._ended(waiting.popleft())
        while waiting:
            yield self._ended(waiting.popleft())

    def close(self) -> None:
        """Let the judging processes go."""
        self._judges.close()

    def _begun(self, student):
        """Stage what a student handed in, and have it judged -> each submission with the number of its verdict."""
        course = self._course
        handed = stage(course.folder, course.subject, student, course.released, course.staged)
        return [(Submission(one), self._submit(one)) for one in handed]

    def _submit(self, handed):
        if handed.state in _UNGRADED:
            return None
        path = self._course.staged / handed.student / self._course.subject / f"{handed.notebook}.ipynb"
        cells = code_cells(nbformat.read(path, as_version=4))
        return self._judges.submit(Task(self._assignments[handed.notebook], cells))

    def _ended(self, own):
        """Wait for the verdicts on a student, and let nbgrader write them down. This process alone writes."""
        verdicts = {one.handed.notebook: self._judges.verdict(number) for one, number in own if number is not None}
        for one, number in own:
            if number is not None:
                one.points = sum(verdicts[one.handed.notebook].points.values())
                one.flags += verdicts[one.handed.notebook].flags
        submissions = [one for one, _ in own]
        if verdicts:
            student = submissions[0].handed.student
            with self._examiner.holding(verdicts):
                problem = record(self._config, student)
            submissions[0].flags += [problem] if problem else []
            key = self._examiner.key
            self._attempts.note(a for verdict in verdicts.values() for a in statistics.attempts(key, student, verdict))
        return submissions


def _triage(course: Course, class_: Iterable[Submission]) -> Path:
    """Write the list of all submissions, first those that somebody should look at, with the reasons.

    What an earlier run said of students who are not in this one stays.
    """
    path = course.results / "triage.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [_row(submission) for submission in class_]
    now = {row[1] for row in rows}
    if path.exists():
        with path.open(newline="", encoding="utf-8") as file:
            rows += [row for row in list(csv.reader(file))[1:] if len(row) == len(_COLUMNS) and row[1] not in now]
    partial = path.with_suffix(".partial")
    with partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(_COLUMNS)
        writer.writerows(sorted(rows, key=lambda row: (row[0] != "yes", *row[1:3])))
    partial.replace(path)
    return path


_COLUMNS = ("needs_human", "student", "notebook", "state", "points", "why")


def _row(submission: Submission) -> list[str]:
    handed = submission.handed
    row = ["yes" if submission.needs_human else "no", handed.student, handed.notebook, handed.state]
    why = "; ".join([*handed.remarks, *submission.flags])
    return [str(harmless(value)) for value in [*row, round(submission.points, 2), why]]


def harmless(value: object) -> object:
    """Keep a spreadsheet from reading text as a formula: a quote goes before what would start one."""
    return f"'{value}" if isinstance(value, str) and value.lstrip()[:1] in ("=", "+", "-", "@") else value
