"""What grading a class costs: seconds per student with one and two judging processes, the writer's own, and memory.

Seconds are those between the first student and the last: the start of the command is no part of them. The writer's own
is what a second run takes, which finds every verdict. Memory is the proportional set size of a judging process together
with its sandbox, the largest that was seen. All in turn, round after round.
"""

import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from crossattn_ref.bench import classroom
from crossattn_ref.bench.measure import Measurement
from crossattn_ref.judge import batch, sandbox

if TYPE_CHECKING:  # what runs inside the sandbox, where alone it can be imported, ages a record too
    from crossattn_ref.judge import confine, kernel, session, shell  # noqa: F401

PACKAGES = ("nbgrader", "numpy", "torch")
SUBJECTS = {"numpy": "attention", "torch": "encoder"}


def hardware() -> dict[str, str]:
    """Say what isolation was reached."""
    return {"isolation": "none" if sandbox.missing() else "bubblewrap"}


def measure(*, students: int = 25, rounds: int = 3) -> Iterator[Measurement]:
    """Grade a class of each kind with one worker, with two, and again."""
    for kind, subject in SUBJECTS.items():
        with tempfile.TemporaryDirectory(prefix="class-") as folder:
            course = classroom.course(Path(folder) / "course", subject, students)
            samples = [_round(course, subject) for _ in range(rounds)]
        for case, metric, unit in samples[0]:
            values = [one[case, metric, unit] for one in samples]
            about = {"assignment": subject, "students": students}
            yield Measurement(case=f"{kind}/{case}", metric=metric, unit=unit, samples=values, seeds=[], more=about)


def _round(course, subject):
    """Grade a class anew with one worker, anew with two, and once more -> each figure by case, metric and unit."""
    found = {}
    for workers in (1, 2):
        shutil.rmtree(course / "_build", ignore_errors=True)
        seconds, memory = _graded(course, subject, workers)
        found[f"workers/{workers}", "seconds", "s per student"] = seconds
        found[f"workers/{workers}", "memory_per_worker", "MiB"] = memory / workers
    found["writer", "seconds", "s per student"], _ = _graded(course, subject, 1)
    return found


def _graded(course, subject, workers):
    """Grade -> seconds per student after the first, and the largest memory of all judging processes, in MiB."""
    moments, memory, over = [], [0.0], threading.Event()
    watch = threading.Thread(target=_watch, args=(memory, over))
    watch.start()
    try:
        batch.grade(course, subject, workers=workers, progress=lambda *_: moments.append(time.perf_counter()))
    finally:
        over.set()
        watch.join()
    classroom.insist_on_all_points(course)
    return (moments[-1] - moments[0]) / (len(moments) - 1), max(memory)


def _watch(memory, over):
    while not over.wait(0.2):
        memory.append(judging_memory() / 2**20)


def judging_memory() -> int:
    """Add up the proportional set sizes of all processes below this one, in bytes."""
    total = 0
    for process in psutil.Process().children(recursive=True):
        try:
            total += process.memory_full_info().pss
        except psutil.Error:
            continue  # it has just ended
    return total
