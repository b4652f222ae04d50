"""Processes that judge, beside the one that writes: notebooks go out, verdicts come back.

A process that dies takes nothing with it: what it had not finished is given to another. This file and what it imports
is all that a judging process loads; nbgrader is not among it.
"""

import contextlib
import importlib
import multiprocessing
import os
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass

from crossattn_ref.judge.assignment import Notebook
from crossattn_ref.judge.examiner import Examiner
from crossattn_ref.judge.verdict import Verdict, unjudged


@dataclass(frozen=True)
class Task:
    """One notebook to be judged: what it was to answer, and its code cells, (id, source), as they came."""

    assignment: Notebook
    cells: list[tuple[str, str]]


class Judges:
    """Some processes that judge, each with an examiner of its own."""

    def __init__(self, examiner: Examiner, workers: int):
        self._examiner = examiner
        self._workers = workers
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
        self._pool = self._started(self._workers)
        for number, (task, future) in self._out.items():
            if not _finished(future):
                self._out[number] = task, self._pool.submit(_verdict, task)

    def _alone(self, task):
        with self._started(1) as pool:
            try:
                return pool.submit(_verdict, task).result()
            except BrokenProcessPool:
                return unjudged(task.assignment, "the process that judged it died, twice")

    def _started(self, workers):
        context = multiprocessing.get_context("spawn" if sys.platform == "win32" else "forkserver")
        with _one_thread_each():
            pool = ProcessPoolExecutor(workers, context, initializer=_begin, initargs=(self._examiner,))
            pool.submit(os.getpid)  # starts a process now, in this environment
        return pool


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


_own: Examiner | None = None  # of a judging process


def _begin(examiner: Examiner) -> None:
    global _own  # noqa: PLW0603 a process is set up once
    _own = examiner
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent():
    """Leave as soon as the process that writes is gone, however it went."""
    multiprocessing.parent_process().join()
    os._exit(1)


def _verdict(task: Task) -> Verdict:
    for library in task.assignment.libraries:  # while the kernel loads them too
        if library not in sys.modules:
            threading.Thread(target=importlib.import_module, args=(library,), daemon=True).start()
    return _own.verdict(task.assignment, task.cells)
