"""Writing a student down in nbgrader's gradebook: by nbgrader itself, in the one process that writes."""

import contextlib
import functools
import logging
import warnings
from collections.abc import Iterator

import nbgrader.api
import sqlalchemy
from nbgrader.converters import Autograde
from nbgrader.converters.base import NbGraderException
from nbgrader.coursedir import CourseDirectory
from sqlalchemy.exc import SAWarning
from tornado.log import app_log
from traitlets.config import Config

from crossattn_ref.judge.course import Course


class NotRecorded(Exception):
    """The gradebook or the disk does not take what it is given; the message says why, and the remedy."""


@contextlib.contextmanager
def one_engine() -> Iterator[None]:
    """Let nbgrader's gradebooks share one database engine.

    nbgrader opens its gradebook nine times for each student, with a new engine each time, which prepares every
    statement anew: a third of the time that recording takes.
    """
    original = nbgrader.api.create_engine
    nbgrader.api.create_engine = functools.cache(original)
    try:
        yield
    finally:
        nbgrader.api.create_engine = original


def configured(course: Course) -> Config:
    """Configure nbgrader for writing down what was staged."""
    config = Config(course.config)
    config.CourseDirectory.submitted_directory = str(course.staged.relative_to(course.folder))
    config.CourseDirectory.assignment_id = course.subject
    config.Autograde.force = True
    return config


def record(config: Config, student: str) -> str:
    """Have nbgrader write a student down -> nothing, or what it could not do; the next one is graded all the same.

    Raises NotRecorded where it is the disk or the database that fails.
    """
    config = Config(config)
    config.CourseDirectory.student_id = student
    converter = _Recording(coursedir=CourseDirectory(config=config), config=config)
    converter.log.setLevel(logging.CRITICAL)
    with warnings.catch_warnings(), _hushed(app_log):
        warnings.simplefilter("ignore", SAWarning)  # nbgrader's own habits with sessions, harmless and on every run
        try:
            converter.start()
        except NbGraderException as error:
            _raise_if_ours(converter.problem)
            return f"nbgrader could not record it: {converter.problem or error}"[:300]
    return ""


@contextlib.contextmanager
def _hushed(logger):
    """Keep nbgrader from printing the traceback of an error of the database: whoever grades is told in one line."""
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


@contextlib.contextmanager
def on_a_disk_that_may_fail() -> Iterator[None]:
    """Raise NotRecorded, with the remedy, for what disk and database raise."""
    try:
        yield
    except (OSError, sqlalchemy.exc.OperationalError) as error:
        _raise_if_ours(error)


def _raise_if_ours(problem):
    again = "What was graded so far is kept: run the same command again then"
    if isinstance(problem, OSError):
        raise NotRecorded(f"a file could not be read or written ({problem}): make room or give access. {again}")
    if isinstance(problem, sqlalchemy.exc.OperationalError):
        remedy = "close what has it open" if "locked" in str(problem.orig) else "see whether the disk is full"
        raise NotRecorded(f"the gradebook cannot be written ({problem.orig}): {remedy}. {again}")


class _Recording(Autograde):
    """nbgrader's own, which keeps the error that it stumbled over: nbgrader itself only logs it."""

    problem = None

    def init_assignment(self, assignment_id, student_id):
        with self._kept():
            super().init_assignment(assignment_id, student_id)

    def convert_single_notebook(self, notebook_filename):
        with self._kept():
            super().convert_single_notebook(notebook_filename)

    @contextlib.contextmanager
    def _kept(self):
        try:
            yield
        except Exception as error:
            self.problem = error
            raise
