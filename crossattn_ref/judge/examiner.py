"""Verdicts for one notebook after another: found from an earlier run, or computed in a kernel that stays warm.

Nothing of nbgrader is needed here: a process that only judges starts in half a second.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from crossattn_ref.judge import sandbox
from crossattn_ref.judge.assignment import Notebook
from crossattn_ref.judge.store import Store, content
from crossattn_ref.judge.verdict import Verdict, judge, seed, unjudged

_KERNELS: dict[tuple, sandbox.Kernel] = {}  # one for each set of libraries, for the life of the process


def warm_kernel(assignment: Notebook, *, unsafe: bool = False) -> sandbox.Kernel:
    """Find this process's kernel for an assignment; start it where there is none, or none that lives."""
    about = (assignment.libraries, assignment.modules, unsafe)
    if about not in _KERNELS or not _KERNELS[about].alive:
        _KERNELS[about] = sandbox.start(assignment.libraries, assignment.modules, unsafe=unsafe)
    return _KERNELS[about]


@dataclass
class Examiner:
    """Judges notebooks of one course, with its key; verdicts are kept in a folder."""

    key: bytes
    results: Path
    limits: sandbox.Limits
    unsafe: bool = False

    def __post_init__(self):
        """Take the code's fingerprint, once."""
        self._store = Store(self.results, self.key, "none" if self.unsafe else "bubblewrap")
        self._held = {}

    def __getstate__(self):
        """Travel without the verdicts that are held: a task may leave while another student is recorded."""
        return self.__dict__ | {"_held": {}}

    def verdict(self, assignment: Notebook, cells: list[tuple[str, str]]) -> Verdict:
        """Judge a repaired notebook by the (id, source) of its code cells, or find the verdict of an earlier run.

        Raises NoSandbox where this machine can no longer hold any notebook; one that breaks its own sandbox is told so.
        """
        if assignment.name in self._held:
            return self._held[assignment.name]
        submission = content(cells)
        name = self._store.name(submission, assignment)
        return self._store.get(name) or self._new(name, submission, assignment, cells)

    @contextlib.contextmanager
    def holding(self, verdicts: dict[str, Verdict]) -> Iterator[None]:
        """Answer with verdicts that are known already, by the names of their notebooks."""
        self._held = verdicts
        try:
            yield
        finally:
            self._held = {}

    def _new(self, name, submission, assignment, cells):
        try:
            found = judge(
                submission, cells, assignment, self.key, warm_kernel(assignment, unsafe=self.unsafe), self.limits
            )
        except sandbox.NoSandbox as error:
            with warm_kernel(assignment, unsafe=self.unsafe).notebook(
                self.limits
            ):  # if none begins now, it is the machine
                return unjudged(assignment, f"its sandbox broke down, twice: {error}")
        asked = {check.exercise for check in assignment.checks.values()}
        self._store.put(name, found, {exercise: seed(self.key, exercise, submission) for exercise in asked})
        return found
