"""A class of 2,000 graded from end to end by `crossattn grade`, on one judging process, with its memory as it goes.

Every student hands in the assignment on attention, answered in full, no two alike. The growth is that of the process
that writes, between the moment when a tenth of the class is graded and the end.
"""

import contextlib
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from crossattn_ref.bench import classroom
from crossattn_ref.bench.measure import Measurement
from crossattn_ref.judge import batch, sandbox  # noqa: F401 what is run in other processes ages a record too

if TYPE_CHECKING:  # as does what runs inside the sandbox, where alone it can be imported
    from crossattn_ref.judge import confine, kernel, session, shell  # noqa: F401

PACKAGES = ("nbgrader", "numpy")
SUBJECT = "attention"


def hardware() -> dict[str, str]:
    """Say what isolation was reached."""
    return {"isolation": "none" if sandbox.missing() else "bubblewrap"}


def measure(*, students: int = 2000) -> Iterator[Measurement]:
    """Grade the class once."""
    with tempfile.TemporaryDirectory(prefix="class-") as folder:
        course = classroom.course(Path(folder) / "course", SUBJECT, students)
        (course / "course.key").write_text("the key of a course")  # so that what goes wrong goes wrong again
        seconds, sizes, load = _graded(course)
        try:
            classroom.insist_on_all_points(course)
        except RuntimeError as error:
            raise RuntimeError(f"{error}: {_lost(course)}") from error
        graded = len(list(course.glob("autograded/*/*/*.ipynb")))
    figures = {
        "seconds": ("s per student", seconds / students),
        "graded": ("notebooks", graded),
        "memory_of_writer": ("MiB", max(sizes)),
        "growth": ("MiB", sizes[-1] - sizes[len(sizes) // 10]),
    }
    about = {"assignment": SUBJECT, "students": students, "workers": 1, "load_of_the_machine": load}
    for metric, (unit, value) in figures.items():
        yield Measurement(case=f"{students}", metric=metric, unit=unit, samples=[float(value)], seeds=[], more=about)


def _lost(course):
    """Say which checks lost points, and what the judge kept about them -> a few lines."""
    query = """
        select assignment.student_id, base.name, grade.auto_score, cell.max_score
        from grade join submitted_notebook as notebook on grade.notebook_id = notebook.id
        join submitted_assignment as assignment on notebook.assignment_id = assignment.id
        join grade_cells as cell on grade.cell_id = cell.id
        join base_cell as base on base.id = cell.id
        where cell.cell_type = 'code' and (grade.auto_score is null or grade.auto_score < cell.max_score)"""
    with contextlib.closing(sqlite3.connect(course / "gradebook.db")) as database:
        rows = database.execute(query).fetchmany(5)
    feedback = [path for row in rows for path in course.glob(f"autograded/{row[0]}/*/*.ipynb")]
    said = [
        line.strip()[:300] for path in feedback for line in path.read_text("utf-8").splitlines() if "FAILED" in line
    ]
    return "\n".join([*map(str, rows), *said])


def _graded(course):
    """Run the command -> its seconds, the writing process's resident memory each second, in MiB, and the load.

    The load is the mean number of processes that wanted a processor, on the whole machine: this command wants two.
    """
    start, sizes, loads = time.perf_counter(), [], []
    command = [sys.executable, "-m", "crossattn_ref", "grade", SUBJECT, "--workers", "1"]
    environment = os.environ | {"PYTHONPATH": str(classroom.ROOT)}
    with subprocess.Popen(
        command, cwd=course, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as run:
        writer = psutil.Process(run.pid)
        while run.poll() is None:
            sizes.append(writer.memory_info().rss / 2**20)
            loads.append(os.getloadavg()[0])
            time.sleep(1)
    if run.returncode:
        raise RuntimeError(f"crossattn grade ended with {run.returncode}")
    return time.perf_counter() - start, sizes[:-1], round(statistics.mean(loads), 1)
