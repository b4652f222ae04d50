"""The judge beside the check in a notebook: every known answer of every exercise, examined both ways with one seed.

Reports are compared to the letter. A few wrong answers draw at random, and no two of their reports need agree: of
those, the diagnosis is compared, and that they are rejected.

An answer goes in by its place in the catalogue: the sandbox of this suite, and no other, shows the checks inside.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from crossattn_ref.bench.measure import Measurement
from crossattn_ref.checks import (
    alternatives,
    every,  # noqa: F401  so that a change of a module that loads when asked for ages the record
    exercises,
    misconceptions,
    reference,
)
from crossattn_ref.checks.exercise import examine
from crossattn_ref.checks.report import Report
from crossattn_ref.checks.table import find
from crossattn_ref.judge import bubblewrap, sandbox, verdict
from crossattn_ref.judge.assignment import CheckCell, Notebook, libraries_of
from crossattn_ref.judge.sandbox import Kernel, Limits

if TYPE_CHECKING:  # what runs inside the sandbox, where alone it can be imported, ages a record too
    from crossattn_ref.judge import confine, kernel, session, shell  # noqa: F401

PACKAGES = ("numpy", "torch")
KEY = b"the key of a course"
AGAIN = 9  # times that an answer is asked to show that it draws at random
PATIENT = Limits(cpu_seconds=6000, check_cpu_seconds=600, total_cpu_seconds=60000)
CATALOGUE = """
from crossattn_ref.checks.table import find
exercise = find({name!r})
known = [exercise.reference, *exercise.alternatives, *(mistake.wrong for mistake in exercise.misconceptions)]
for number in {numbers!r}:
    globals()[f"answer_{{number}}"] = known[number]
"""


def hardware() -> dict[str, str]:
    """Say what isolation was reached."""
    return {"isolation": "none" if sandbox.missing() else "bubblewrap"}


def measure(*, names: Sequence[str] = (), seeds: Sequence[int] = (0,)) -> Iterator[Measurement]:
    """Examine every answer of each exercise both ways; a sample for each seed."""
    with contextlib.ExitStack() as stack:
        kernels = {
            libraries: stack.enter_context(contextlib.closing(open_kernel(libraries)))
            for libraries in {libraries_of(name) for name in names or exercises()}
        }
        for name in names or exercises():
            start = time.perf_counter()
            count = len(answers(name))
            found = [disagreements(kernels[libraries_of(name)], name, range(count), seed) for seed in seeds]
            more = {"answers": count, "which": found, "seconds": round(time.perf_counter() - start, 1)}
            samples = [float(len(which)) for which in found]
            yield Measurement(
                case=name, metric="disagreements", unit="answers", samples=samples, seeds=list(seeds), more=more
            )


def answers(name: str) -> list:
    """List every answer that is known: the right one, the other right ones, the wrong ones."""
    return [reference(name), *alternatives(name), *(mistake.wrong for mistake in misconceptions(name))]


def open_kernel(libraries: tuple[str, ...]) -> Kernel:
    """Start a kernel that shows the checks inside, so that an answer can be named that is no text."""
    package = Path(bubblewrap.PACKAGE)
    paths = (path.relative_to(package).as_posix() for path in sorted(package.glob("**/*.py")))
    files = [path for path in paths if path.startswith(("attention/", "checks/", "models/", "cost.py"))]
    shown = tuple(path for path in files if path != "checks/__init__.py" and path not in bubblewrap.SHARED)
    return sandbox.start(libraries, shown)


def disagreements(kernel: Kernel, name: str, numbers: Sequence[int], seed: int) -> list[str]:
    """Examine answers of an exercise, by their places, in this process and in a sandbox -> where reports differ."""
    submission = f"seed {seed}".encode()
    checks = {f"check-{i}": CheckCell(f"check-{i}", name, f"answer_{i}", 6.0) for i in numbers}
    cells = [("catalogue", CATALOGUE.format(name=name, numbers=list(numbers))), *((cell, "") for cell in checks)]
    there = verdict.judge(submission, cells, Notebook("all", checks, {}, ("numpy",), ()), KEY, kernel, PATIENT)
    drawn, known = verdict.seed(KEY, name, submission), answers(name)
    exercise = find(name)

    def here(i):
        return verdict.told(examine(name, exercise, exercise.local(known[i]), drawn))

    different = [i for i in numbers if not _alike(partial(here, i), there.reports[f"check-{i}"])]
    return [f"{name}, answer {i}" for i in different] + there.flags


def _alike(here: Callable[[], Report], there: Report) -> bool:
    """Compare reports to the letter; of an answer that draws at random, as its own reports show, what is no chance."""
    report = here()
    if said(report) == said(there):
        return True
    at_random = any(said(here()) != said(report) for _ in range(AGAIN))
    return at_random and decided(report) == decided(there)


def decided(report: Report) -> tuple:
    """What a report decides: whether the answer is right, and which mistake it makes."""
    return report.score == 1, [mistake.name for mistake in report.diagnosis]


def said(report: Report) -> tuple:
    """What a report says to a learner: score, findings, diagnosis, remarks, and the text of it all."""
    names = [mistake.name for mistake in report.diagnosis]
    return report.score, report.findings, names, report.remarks, report.text(6)
