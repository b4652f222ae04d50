"""A class graded by stock `nbgrader autograde`, with the checks inside each kernel, and by `crossattn grade`, in turn.

The same honest notebooks, an empty result folder each time, one judging process. A sample is what one whole command
took, its start included, divided by the number of students; the ratio is that of the medians.
These cases stand in the suite `grader`, beside what its checks decide.
"""

import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from crossattn_ref.bench import classroom
from crossattn_ref.bench.measure import Measurement
from crossattn_ref.judge import batch, sandbox  # noqa: F401 what is run in other processes ages a record too

if TYPE_CHECKING:  # as does what runs inside the sandbox, where alone it can be imported
    from crossattn_ref.judge import confine, kernel, session, shell  # noqa: F401

SUITE = "grader"
PACKAGES = ("nbgrader", "numpy", "torch")
SUBJECTS = {"throughput/numpy": "attention", "throughput/torch": "encoder"}


def hardware() -> dict[str, str]:
    """Say what isolation was reached."""
    return {"isolation": "none" if sandbox.missing() else "bubblewrap"}


def measure(*, students: int = 12, rounds: int = 3) -> Iterator[Measurement]:
    """Grade a class of each kind, both ways in turn."""
    for case, subject in SUBJECTS.items():
        stock, ours = _in_turn(subject, students, rounds)
        notebooks = len(list((classroom.ROOT / "solutions" / subject).glob("*.ipynb")))
        about = {"assignment": subject, "students": students, "notebooks_each": notebooks, "workers": 1}
        ratio = statistics.median(stock) / statistics.median(ours)
        figures = {
            "stock": ("s per student", stock),
            "judge": ("s per student", ours),
            "ratio_to_stock": ("times as fast", [ratio]),
        }
        for metric, (unit, samples) in figures.items():
            yield Measurement(case=case, metric=metric, unit=unit, samples=samples, seeds=[], more=about)


def _in_turn(subject, students, rounds):
    with tempfile.TemporaryDirectory(prefix="class-") as folder:
        stock = classroom.course(Path(folder) / "stock", subject, students, config=classroom.STOCK)
        ours = classroom.course(Path(folder) / "ours", subject, students)
        turns = [
            (stock, ("nbgrader", "autograde", subject)),
            (ours, ("crossattn_ref", "grade", subject, "--workers", "1")),
        ]
        samples = [[], []]
        for number in range(rounds):
            for which in (0, 1) if number % 2 == 0 else (1, 0):
                samples[which].append(_seconds(*turns[which]) / students)
        return samples


def _seconds(course, command):
    """Time a command in a fresh copy of a course."""
    with tempfile.TemporaryDirectory(prefix="class-") as folder:
        fresh = Path(shutil.copytree(course, Path(folder) / "course"))
        start = time.perf_counter()
        classroom.run(fresh, *command)
        seconds = time.perf_counter() - start
        classroom.insist_on_all_points(fresh)
        return seconds
