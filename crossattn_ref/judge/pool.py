"""Processes that judge, beside the one that writes: notebooks go out, verdicts come back.

A process that dies takes nothing with it: what it had not finished is given to another. This file and what it imports
is all that a judging process loads; nbgrader is not among it.
"""

import contextlib
import importlib
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

from crossattn_ref.judge.assignment import NoAssignment, Notebook, read
from crossattn_ref.judge.examiner import Examiner, warm_kernel
from crossattn_ref.judge.sandbox import NoSandbox, missing
from crossattn_ref.judge.verdict import Verdict, unjudged


@dataclass(frozen=True)
class Task:
    """One notebook to be judged: by which rules, what it was to answer, its code cells, (id, source), as they came."""

    examiner: Examiner
    assignment: Notebook
    cells: list[tuple[str, str]]


class Judges:
    """Some processes that judge, each with kernels of its own, which begin to load at once.

    Whoever has something else to load meanwhile starts them first.
    """

    def __init__(self, assignments: Iterable[Notebook], workers: int, *, unsafe: bool = False):
        self._expected = tuple(assignments)
        self._unsafe = unsafe
        self.workers = workers
        self._pool = self._started(workers)
        self._out = {}
        self._number = 0

    def submit(self, task: Task) -> int:
        """Have a notebook judged -> the number under which its verdict can be had."""
        self._number += 1
        self._out[self._number] = task, self._given(task)
        return self._number

    def verdict(self, number: int) -> Verdict:
        """Wait for a verdict. Where a process died meanwhile, the notebook is judged again, alone; then given up."""
        task, future = self._out.pop(number)
        try:
            return future.result()
        except BrokenProcessPool:
            self._renew()
            return self._alone(task)

    def close(self) -> None:
        """Let the processes go, without waiting for what nobody asked for."""
        self._pool.shutdown(cancel_futures=True)

    def _given(self, task):
        try:
            return self._pool.submit(_verdict, task)
        except BrokenProcessPool:  # noticed before anybody asked
            self._renew()
            return self._pool.submit(_verdict, task)

    def _renew(self):
        """Start other processes, and give them what was not finished."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._pool = self._started(self.workers)
        for number, (task, future) in self._out.items():
            if not _finished(future):
                self._out[number] = task, self._pool.submit(_verdict, task)

    def _alone(self, task):
        """Judge a notebook in a process of its own; what ends two of them is to blame, and no other notebook was."""
        for _ in range(2):
            with self._started(1) as pool, contextlib.suppress(BrokenProcessPool):
                return pool.submit(_verdict, task).result()
        return unjudged(task.assignment, "the process that judged it died, twice")

    def _started(self, workers):
        context = multiprocessing.get_context("spawn" if sys.platform == "win32" else "forkserver")
        with _one_thread_each():
            pool = ProcessPoolExecutor(workers, context, initializer=_begin, initargs=(self._expected, self._unsafe))
            for _ in range(workers):
                pool.submit(os.getpid)  # starts a process now, in this environment
        return pool


def started_early(course: Path, subject: str, workers: int, *, unsafe: bool = False) -> Judges | None:
    """Start the processes for an assignment before anything else is known; None where its source cannot be read."""
    if not unsafe and missing():
        return None
    try:
        assignments = [read(path) for path in sorted((course / "solutions" / subject).glob("*.ipynb"))]
    except NoAssignment:
        return None
    return Judges(assignments, workers, unsafe=unsafe) if assignments else None


def _finished(future: Future) -> bool:
    return future.done() and not future.cancelled() and not isinstance(future.exception(), BrokenProcessPool)


@contextlib.contextmanager
def _one_thread_each() -> Iterator[None]:
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


def _begin(assignments, unsafe):
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that writes, which then lets this one go
    threading.Thread(target=_end_with_parent, daemon=True).start()
    for library in {library for assignment in assignments for library in assignment.libraries}:  # as do the kernels
        threading.Thread(target=importlib.import_module, args=(library,), daemon=True).start()
    with contextlib.suppress(NoSandbox):  # raised again where it can be told, when something is to be judged
        for assignment in assignments:
            warm_kernel(assignment, unsafe=unsafe)


def _end_with_parent():
    """Leave as soon as the process that writes is gone, however it went."""
    multiprocessing.parent_process().join()
    os._exit(1)


def _verdict(task: Task) -> Verdict:
    return task.examiner.verdict(task.assignment, task.cells)
