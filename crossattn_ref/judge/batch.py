"""Grading a class: stage what was handed in, judge it in several processes, let nbgrader record it, list the rest."""

import csv
import logging
import multiprocessing
import os
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
import sqlalchemy
from nbgrader.api import Gradebook, MissingEntry
from nbgrader.converters import Autograde
from nbgrader.coursedir import CourseDirectory
from traitlets.config import Config
from traitlets.config.loader import PyFileConfigLoader

from crossattn_ref.judge import assignment as assignments
from crossattn_ref.judge.plugins import Judge
from crossattn_ref.judge.sandbox import NoSandbox, missing
from crossattn_ref.judge.staging import BadCourse, Handed, releases, stage, students
from crossattn_ref.judge.verdict import Verdict

WORK = Path("_build") / "grading"  # below the course folder


@dataclass
class Submission:
    """One student's notebook on its way: what was handed in, and in which state it ended."""

    handed: Handed
    points: float = 0.0
    most: float = 0.0
    flags: list[str] = field(default_factory=list)

    @property
    def needs_human(self) -> bool:
        """Whether somebody should look: nothing could be read, the process broke off, or words wait for a mark."""
        return self.handed.state in ("unreadable", "refused", "renamed") or bool(self.flags)


@dataclass(frozen=True)
class Graded:
    """A graded class: its submissions, and where the results lie."""

    subject: str
    submissions: list[Submission]
    isolation: str
    triage: Path


def grade(
    course: Path,
    subject: str,
    *,
    only: tuple[str, ...] = (),
    workers: int = 1,
    unsafe: bool = False,
    progress: Callable[[str, int, int], None] = lambda *_: None,
) -> Graded:
    """Grade an assignment of a course folder, as laid out for nbgrader.

    progress(step, done, of) is told how far it is. Raises BadCourse or NoSandbox, with the remedy, before anything
    is written; what a submission does never raises.
    """
    course = course.resolve()
    if not unsafe and (reason := missing()):
        raise NoSandbox(reason)
    config = _config(course)
    released = releases(course, subject)
    who = students(course, only)
    _registered(config, subject, released)
    for name in released:
        assignments.read(course / "solutions" / subject / f"{name}.ipynb")
    staged = course / WORK / "staged"
    class_ = [
        Submission(handed)
        for student in _told(who, "staging", progress)
        for handed in stage(course, subject, student, released, staged)
    ]
    verdicts = _judged(course, subject, class_, workers, config, unsafe=unsafe)
    _record(course, subject, class_, config, verdicts, progress, unsafe=unsafe)
    return _summary(course, subject, class_, isolation="none" if unsafe else "bubblewrap")


def _told(items, step, progress):
    """Go through items, telling how far it is."""
    for number, item in enumerate(items):
        progress(step, number, len(items))
        yield item
    progress(step, len(items), len(items))


def _config(course):
    path = course / "nbgrader_config.py"
    if not path.exists():
        raise BadCourse(f"{path} does not exist: run this in the course folder, or pass --course FOLDER")
    config = PyFileConfigLoader(path.name, path=str(course)).load_config()
    config.CourseDirectory.root = str(course)
    return config


def _registered(config, subject, released):
    """Insist that the gradebook knows the assignment as it was released."""
    url = CourseDirectory(config=config).db_url
    remedy = f"run: nbgrader generate_assignment {subject} --force"
    try:
        with Gradebook(url, config.CourseDirectory.get("course_id", "")) as gradebook:
            gradebook.db.execute(sqlalchemy.text("PRAGMA journal_mode=WAL"))
            known = {notebook.name for notebook in gradebook.find_assignment(subject).notebooks}
    except MissingEntry as error:
        raise BadCourse(f"the gradebook does not know the assignment {subject!r}; {remedy}") from error
    except sqlalchemy.exc.SQLAlchemyError as error:
        kind = str(getattr(error, "orig", error))[:150]
        raise BadCourse(f"the gradebook cannot be used ({kind}): back it up, then run: nbgrader db upgrade") from error
    if absent := sorted(set(released) - known):
        raise BadCourse(f"the gradebook does not know the notebook {absent[0]!r} of {subject!r}; {remedy}")


def _judged(course, subject, class_, workers, config, *, unsafe):
    """Start judging everything that was staged -> the futures, in the order of the class."""
    tasks = [
        (str(course), subject, s.handed.student, s.handed.notebook)
        for s in class_
        if s.handed.state not in ("missing", "refused")
    ]
    context = multiprocessing.get_context("spawn")
    settings = dict(config.get("Judge", {}))
    with _one_thread_each():
        pool = ProcessPoolExecutor(workers, context, initializer=_begin, initargs=(settings, unsafe))
        futures = {task[2:]: pool.submit(_verdict, *task) for task in tasks}
    pool.shutdown(wait=False)
    return futures


@contextmanager
def _one_thread_each():
    """Processes share the cores among themselves; threads inside each would only fight over them."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


_judge: Judge | None = None  # in a worker process: its own judge, with its own kernels


def _begin(settings, unsafe):
    global _judge  # noqa: PLW0603 a worker process is set up once
    _judge = Judge(**settings, unsafe=unsafe)


def _verdict(course: str, subject: str, student: str, notebook: str) -> Verdict:
    _judge.course = course
    path = Path(course) / WORK / "staged" / student / subject / f"{notebook}.ipynb"
    return _judge.verdict(nbformat.read(path, as_version=4), subject, notebook)


def _record(course, subject, class_, config, verdicts, progress, *, unsafe):
    """Let nbgrader write each student down as soon as the verdicts are there. This process alone writes."""
    by_student: dict[str, list[Submission]] = {}
    for submission in class_:
        by_student.setdefault(submission.handed.student, []).append(submission)
    config = Config(config)
    config.CourseDirectory.submitted_directory = str((course / WORK / "staged").relative_to(course))
    config.CourseDirectory.assignment_id = subject
    config.Judge.course = str(course)
    config.Judge.unsafe = unsafe
    config.Repair.course = str(course)
    config.Autograde.force = True
    for student in _told(list(by_student), "grading", progress):
        for submission in by_student[student]:
            _settle(submission, verdicts.get((student, submission.handed.notebook)))
        if any(s.handed.state not in ("missing", "refused") for s in by_student[student]):
            _autograde(config, student)


def _settle(submission: Submission, future: Future | None):
    """Wait for a verdict and note what it says; one that a dead worker lost is computed again by the recorder."""
    if future is None:
        return
    try:
        verdict = future.result()
    except BrokenProcessPool:
        submission.flags.append("a worker of the judge died; judged again")
        return
    submission.points = sum(verdict.points.values())
    submission.flags += verdict.flags


def _autograde(config, student):
    config = Config(config)
    config.CourseDirectory.student_id = student
    converter = Autograde(coursedir=CourseDirectory(config=config), config=config)
    converter.log.setLevel(logging.ERROR)
    converter.start()


def _summary(course, subject, class_, isolation):
    place = course / WORK / subject
    place.mkdir(parents=True, exist_ok=True)
    rows = [
        {
            "student": s.handed.student,
            "notebook": s.handed.notebook,
            "state": s.handed.state,
            "points": round(s.points, 2),
            "needs_human": s.needs_human,
            "why": "; ".join([*s.handed.remarks, *s.flags]),
        }
        for s in sorted(class_, key=lambda s: (not s.needs_human, s.handed.student, s.handed.notebook))
    ]
    _replace(place / "triage.csv", lambda file: _csv(file, rows))
    return Graded(subject, class_, isolation, place / "triage.csv")


def _csv(file, rows: Iterable[dict]):
    writer = csv.DictWriter(file, list(rows[0]) if rows else ["student"])
    writer.writeheader()
    writer.writerows({key: harmless(value) for key, value in row.items()} for row in rows)


def harmless(value: object) -> object:
    """Keep a spreadsheet from reading text as a formula."""
    text = str(value)
    return f"'{text}" if isinstance(value, str) and text.lstrip()[:1] in ("=", "+", "-", "@", "\t", "\r") else value


def _replace(path, write):
    partial = path.with_suffix(".partial")
    with partial.open("w", newline="", encoding="utf-8") as file:
        write(file)
    partial.replace(path)
