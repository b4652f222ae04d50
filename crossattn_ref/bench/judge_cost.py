"""What grading a class costs: seconds per student with one and two judging processes, the writer's own, and memory.

Seconds are those of the steady state, between a student near the start and the last one: the start of the command is
no part of them. The writer's own is what a second run takes, which finds every verdict. Memory is the proportional
set size of a judging process together with its sandbox, the largest that was seen.
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
SKIPPED = 5  # students at the start, while processes still load


def hardware() -> dict[str, str]:
    """Say what isolation was reached."""
    return {"isolation": "none" if sandbox.missing() else "bubblewrap"}


def measure(*, students: int = 25) -> Iterator[Measurement]:
    """Grade a class of each kind with one worker, with two, and again."""
    for case, subject in SUBJECTS.items():
        with tempfile.TemporaryDirectory(prefix="class-") as folder:
            course = classroom.course(Path(folder) / "course", subject, students)
            about = {"assignment": subject, "students": students}
            for workers in (1, 2):
                shutil.rmtree(course / "_build", ignore_errors=True)
                seconds, memory = _graded(course, subject, workers)
                more = about | {"workers": workers}
                yield _figure(f"{case}/workers/{workers}", "seconds", "s per student", seconds, more)
                yield _figure(f"{case}/workers/{workers}", "memory_per_worker", "MiB", [max(memory) / workers], more)
            seconds, _ = _graded(course, subject, 1)
            yield _figure(f"{case}/writer", "seconds", "s per student", seconds, about)


def _figure(case, metric, unit, samples, more):
    return Measurement(case=case, metric=metric, unit=unit, samples=samples, seeds=[], more=more)


def _graded(course, subject, workers):
    """Grade -> seconds per student in the steady state, and samples of the memory of all judging processes."""
    moments, memory, over = [], [0.0], threading.Event()
    watch = threading.Thread(target=_watch, args=(memory, over))
    watch.start()
    try:
        batch.grade(course, subject, workers=workers, progress=lambda *_: moments.append(time.perf_counter()))
    finally:
        over.set()
        watch.join()
    return [(moments[-1] - moments[SKIPPED]) / (len(moments) - 1 - SKIPPED)], memory


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
