"""Grading a class: stage what was handed in, judge it in several processes, let nbgrader record it, list the rest."""

import contextlib
import csv
import logging
import multiprocessing
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

import nbformat
from nbgrader.converters import Autograde
from nbgrader.converters.base import NbGraderException
from nbgrader.coursedir import CourseDirectory
from sqlalchemy.exc import SAWarning
from traitlets.config import Config

from crossattn_ref.judge import statistics
from crossattn_ref.judge.course import Course, opened
from crossattn_ref.judge.plugins import Judge
from crossattn_ref.judge.sandbox import NoSandbox, missing
from crossattn_ref.judge.staging import Handed, stage, students
from crossattn_ref.judge.store import course_key
from crossattn_ref.judge.verdict import Verdict

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
    progress: Callable[[str, int, int], None] = lambda *_: None,
) -> Graded:
    """Grade an assignment of a course folder, as laid out for nbgrader: submitted/<student>/<assignment>/*.ipynb.

    progress(step, done, of) is told how far it is. Raises BadCourse or NoSandbox, with the remedy, before anything
    is written; what a submission does never raises. submitted/ is only read.
    """
    if not unsafe and (reason := missing()):
        raise NoSandbox(reason)
    course = opened(folder, subject)
    course.config.Judge.unsafe = unsafe
    who = students(course.folder, only)
    class_ = [
        Submission(handed)
        for student in _told(who, "staging", progress)
        for handed in stage(course.folder, subject, student, course.released, course.staged)
    ]
    with _judging(course, class_, workers) as verdicts:
        _record(course, class_, verdicts, progress)
    triage = _triage(course, class_)
    record = statistics.read(course.results / "attempts.jsonl")
    report = statistics.write(course.results, subject, record)
    return Graded(class_, "none" if unsafe else "bubblewrap", triage, report)


def _told(items, step, progress):
    """Go through items, telling how far it is."""
    for number, item in enumerate(items):
        progress(step, number, len(items))
        yield item
    progress(step, len(items), len(items))


@contextlib.contextmanager
def _judging(course: Course, class_: list[Submission], workers: int) -> Iterator[dict[tuple, Future]]:
    """Start judging everything that was staged, in the order of the class -> a future for each notebook."""
    tasks = [(s.handed.student, s.handed.notebook) for s in class_ if s.handed.state not in _UNGRADED]
    context = multiprocessing.get_context("spawn" if sys.platform == "win32" else "forkserver")
    with _one_thread_each():
        pool = ProcessPoolExecutor(workers, context, initializer=_begin, initargs=(dict(course.config.Judge),))
        futures = {task: pool.submit(_verdict, course.staged, course.subject, *task) for task in tasks}
    try:
        yield futures
    finally:
        pool.shutdown(cancel_futures=True)


@contextlib.contextmanager
def _one_thread_each():
    """Processes share the cores among themselves; threads inside each would only fight over them."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    before = {name: os.environ[name] for name in names if name in os.environ}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name in names:
            del os.environ[name]
        os.environ.update(before)


_judge: Judge | None = None  # of a worker process, with the kernels that it has started


def _begin(settings):
    global _judge  # noqa: PLW0603 a worker process is set up once
    _judge = Judge(**settings)


def _verdict(staged: Path, subject: str, student: str, notebook: str) -> Verdict:
    return _judged(_judge, staged, subject, student, notebook)


def _judged(judge, staged, subject, student, notebook):
    nb = nbformat.read(staged / student / subject / f"{notebook}.ipynb", as_version=4)
    return judge.verdict(nb, subject, notebook)


def _record(course, class_, verdicts, progress):
    """Let nbgrader write each student down as soon as the verdicts are there. This process alone writes."""
    config = Config(course.config)
    config.CourseDirectory.submitted_directory = str(course.staged.relative_to(course.folder))
    config.CourseDirectory.assignment_id = course.subject
    config.Autograde.force = True
    key = course_key(course.folder / config.Judge.get("key", Judge.key.default_value))
    groups = [(student, list(own)) for student, own in groupby(class_, key=lambda s: s.handed.student)]
    for student, own in _told(groups, "grading", progress):
        attempts = []
        for submission in own:
            future = verdicts.pop((student, submission.handed.notebook), None)
            if future is not None:
                attempts += _settle(course, submission, future, key)
        if any(submission.handed.state not in _UNGRADED for submission in own):
            if problem := _autograde(config, student):
                own[0].flags.append(problem)
            statistics.note(course.results / "attempts.jsonl", attempts)


def _settle(course: Course, submission: Submission, future: Future, key: bytes) -> list[statistics.Attempt]:
    """Wait for a verdict, note what it says, and take the attempts out of it. One that was lost is computed again."""
    handed = submission.handed
    try:
        verdict = future.result()
    except BrokenProcessPool:
        submission.flags.append("a process of the judge died; judged again")
        verdict = _judged(Judge(**course.config.Judge), course.staged, course.subject, handed.student, handed.notebook)
    submission.points = sum(verdict.points.values())
    submission.flags += verdict.flags
    return statistics.attempts(key, handed.student, verdict)


def _autograde(config: Config, student: str) -> str:
    """Have nbgrader write a student down -> nothing, or what it could not do; the next one is graded all the same."""
    config = Config(config)
    config.CourseDirectory.student_id = student
    converter = Autograde(coursedir=CourseDirectory(config=config), config=config)
    converter.log.setLevel(logging.CRITICAL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SAWarning)  # nbgrader's own habits with sessions, harmless and on every run
        try:
            converter.start()
        except NbGraderException as error:
            return f"nbgrader could not record it: {error}"
    return ""


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
