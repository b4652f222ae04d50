"""Grading disturbed at random moments, and run again: how often the gradebook then differs from an undisturbed one.

A class is graded once in peace. Then the same class, in a fresh folder each time, is disturbed, by lot at what moment,
and the same command is run again, undisturbed, until it ends with 0.
"""

import contextlib
import os
import random
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from crossattn_ref.bench import classroom
from crossattn_ref.bench.measure import Measurement
from crossattn_ref.judge import batch, sandbox  # noqa: F401 what is run in other processes ages a record too

if TYPE_CHECKING:  # as does what runs inside the sandbox, where alone it can be imported
    from crossattn_ref.judge import confine, kernel, session, shell  # noqa: F401

PACKAGES = ("nbgrader", "numpy")
SUBJECT = "masks"
JUMPS = """
import random, time
_time, _rng = time.time, random.Random(%d)
time.time = lambda: _time() + _rng.choice((-1e6, -3600, 0, 3600, 1e6))
"""  # a sitecustomize.py: the clock jumps at every look, in each process outside the sandbox


def hardware() -> dict[str, str]:
    """Say what isolation was reached."""
    return {"isolation": "none" if sandbox.missing() else "bubblewrap"}


def measure(*, students: int = 8, seeds: int = 10) -> Iterator[Measurement]:
    """Disturb grading in every way, with every seed."""
    with tempfile.TemporaryDirectory(prefix="class-") as folder:
        course = classroom.course(Path(folder) / "course", SUBJECT, students)
        (course / "course.key").write_text("the key of a course")
        peace = Path(shutil.copytree(course, Path(folder) / "peace"))
        seconds = _seconds(peace)
        for name, disturb in FAULTS.items():
            differs = []
            for seed in range(seeds):
                there = Path(shutil.copytree(course, Path(folder) / f"{disturb.__name__}-{seed}"))
                differs.append(float(disturbed(there, disturb, random.Random(seed), seconds) != gradebook(peace)))  # noqa: S311 no secret
                shutil.rmtree(there)
            more = {"students": students, "disturbed": len(differs), "differing": int(sum(differs))}
            yield Measurement(
                case=name, metric="differs", unit="gradebooks", samples=differs, seeds=list(range(seeds)), more=more
            )


def disturbed(course: Path, disturb: Callable, rng: random.Random, seconds: float) -> dict:
    """Grade a class while it is disturbed, at a moment within so many seconds, then in peace -> its gradebook."""
    with disturb(course, rng.uniform(0, seconds), rng):
        pass
    again = start(course)
    if again.wait():
        raise RuntimeError(f"the second run ended with {again.returncode}: {again.stderr.read()}")
    again.stderr.close()
    return gradebook(course)


def start(course: Path, **changes: object) -> subprocess.Popen:
    """Start the command in a course folder, on two judging processes."""
    command = [sys.executable, "-m", "crossattn_ref", "grade", SUBJECT, "--workers", "2"]
    environment = {**os.environ, "PYTHONPATH": str(classroom.ROOT)} | changes.pop("env", {})
    return subprocess.Popen(
        command, cwd=course, env=environment, text=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, **changes
    )


def gradebook(course: Path) -> dict[tuple, tuple]:
    """Read every score: (student, notebook, cell) -> automatic score, manual score, whether a human is needed."""
    query = """
        select assignment.student_id, base.name, cell.name,
               grade.auto_score, grade.manual_score, grade.needs_manual_grade
        from grade join submitted_notebook as notebook on grade.notebook_id = notebook.id
        join submitted_assignment as assignment on notebook.assignment_id = assignment.id
        join notebook as base on notebook.notebook_id = base.id join base_cell as cell on grade.cell_id = cell.id"""
    with contextlib.closing(sqlite3.connect(course / "gradebook.db")) as database:
        return {tuple(row[:3]): tuple(row[3:]) for row in database.execute(query)}


def _seconds(course):
    began = time.perf_counter()
    with start(course) as run:
        if run.wait():
            raise RuntimeError(run.stderr.read())
    return time.perf_counter() - began


@contextlib.contextmanager
def judging_process_killed(course: Path, moment: float, rng: random.Random) -> Iterator[subprocess.Popen]:
    """Kill one of the processes below the command."""
    with start(course) as run:
        time.sleep(moment)
        below = [
            process for process in psutil.Process(run.pid).children(recursive=True) if "bwrap" not in process.name()
        ]
        if below:
            with contextlib.suppress(psutil.NoSuchProcess):
                rng.choice(below).kill()
        yield run
        run.communicate()


@contextlib.contextmanager
def command_killed(course: Path, moment: float, rng: random.Random) -> Iterator[subprocess.Popen]:  # noqa: ARG001 as the others
    """Kill the command itself."""
    with start(course) as run:
        time.sleep(moment)
        run.send_signal(signal.SIGKILL)
        yield run


@contextlib.contextmanager
def disk_full(course: Path, moment: float, rng: random.Random) -> Iterator[subprocess.Popen]:  # noqa: ARG001 as the others
    """Let no file grow beyond a size drawn by lot, the gradebook and its journal included."""
    most = rng.randrange(30_000, 300_000)

    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # writing fails, as on a full disk, instead of killing
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))

    with start(course, preexec_fn=limit) as run:
        yield run
        run.communicate()


@contextlib.contextmanager
def gradebook_locked(course: Path, moment: float, rng: random.Random) -> Iterator[subprocess.Popen]:
    """Hold the gradebook for a while, sometimes for longer than the command waits."""
    config = course / "nbgrader_config.py"
    config.write_text(config.read_text().replace("timeout=60", "timeout=2"))
    with start(course) as run:
        time.sleep(moment)
        with contextlib.closing(sqlite3.connect(course / "gradebook.db", timeout=60)) as database:
            database.execute("begin exclusive")
            time.sleep(rng.choice((0.5, 5)))
            database.rollback()
        yield run
        run.communicate()


@contextlib.contextmanager
def clock_jumps(course: Path, moment: float, rng: random.Random) -> Iterator[subprocess.Popen]:  # noqa: ARG001 as the others
    """Let the clock jump forth and back, by up to days, at every look."""
    (course / "clock").mkdir()
    (course / "clock" / "sitecustomize.py").write_text(JUMPS % rng.randrange(1000))
    with start(course, env={"PYTHONPATH": f"{course / 'clock'}{os.pathsep}{classroom.ROOT}"}) as run:
        yield run
        run.communicate()


FAULTS = {
    "a judging process killed": judging_process_killed,
    "the command killed": command_killed,
    "a full disk": disk_full,
    "a locked gradebook": gradebook_locked,
    "a clock that jumps": clock_jumps,
}
