"""Grading a class: stage what was handed in, judge it in several processes, let nbgrader record it, list the rest."""

import contextlib
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import nbformat

from crossattn_ref.judge import statistics, triage
from crossattn_ref.judge.assignment import Notebook
from crossattn_ref.judge.bubblewrap import exposed
from crossattn_ref.judge.course import WORK, Course, opened
from crossattn_ref.judge.plugins import Judge, code_cells, examiner
from crossattn_ref.judge.pool import Judges, Task
from crossattn_ref.judge.recorder import configured, on_a_disk_that_may_fail, one_engine, record
from crossattn_ref.judge.sandbox import NoSandbox, missing
from crossattn_ref.judge.staging import BadCourse, stage, students
from crossattn_ref.judge.triage import Submission

_UNGRADED = ("missing", "misplaced", "refused")


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
    judges: Judges | None = None,
    unsafe: bool = False,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> Graded:
    """Grade an assignment of a course folder, as laid out for nbgrader: submitted/<student>/<assignment>/*.ipynb.

    judges are processes that were started early; by default as many as workers are started here.
    progress(done, of) is told how far it is. Raises BadCourse or NoSandbox, with the remedy, before anything is
    written, and NotRecorded where disk or gradebook fail; what a submission does never raises. submitted/ is only read.
    """
    if not unsafe and (reason := missing()):
        raise NoSandbox(reason)
    course = opened(folder, subject)
    if not unsafe and (reason := exposed(course.folder)):
        raise NoSandbox(reason)
    course.config.Judge.unsafe = unsafe
    who = students(course.folder, only)
    with on_a_disk_that_may_fail(), _alone(course):
        assignments = {name: course.assignment(name) for name in course.released}
        judges = judges or Judges(assignments.values(), workers, unsafe=unsafe)
        with contextlib.closing(judges), one_engine():
            class_ = _graded(_Pipeline(course, assignments, judges), who, progress)
        list_ = course.results / "triage.csv"
        triage.write(list_, class_, examiner(Judge(**course.config.Judge)).key)
        report = statistics.write(course.results, subject, statistics.read(course.results / "attempts.jsonl"))
    return Graded(class_, "none" if unsafe else "bubblewrap", list_, report)


@contextlib.contextmanager
def _alone(course: Course) -> Iterator[None]:
    """Keep a second run out of the same folder; the lock goes with this process, however it ends."""
    place = course.folder / WORK / "lock"
    place.parent.mkdir(parents=True, exist_ok=True)
    with place.open("w") as file:
        if sys.platform != "win32":
            import fcntl

            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise BadCourse(
                    f"another crossattn grade is at work in {course.folder}: wait until it is done"
                ) from None
        yield


def _graded(pipeline, who, progress):
    """Grade students -> all that they handed in."""
    class_ = []
    for number, own in enumerate(pipeline.run(who), start=1):
        class_ += own
        progress(number, len(who))
    return class_


class _Pipeline:
    """Students on their way: staged, then judged in other processes, then written down here, in the order they came.

    Only so many are on the way at once that no process waits for another; a class of any size fits into memory.
    """

    def __init__(self, course: Course, assignments: dict[str, Notebook], judges: Judges):
        self._course = course
        self._assignments = assignments
        self._judges = judges
        self._ahead = 4 * judges.workers
        self._examiner = examiner(Judge(**course.config.Judge))
        self._config = configured(course)
        self._attempts = statistics.Log(course.results / "attempts.jsonl")

    def run(self, who: Iterable[str]) -> Iterator[list[Submission]]:
        """Grade students one after the other -> the submissions of each."""
        waiting = deque()
        for student in who:
            waiting.append(self._begun(student))
            if len(waiting) > self._ahead:
                yield self._ended(waiting.popleft())
        while waiting:
            yield self._ended(waiting.popleft())

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
        return self._judges.submit(Task(self._examiner, self._assignments[handed.notebook], cells))

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
