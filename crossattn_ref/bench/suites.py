"""The suites by name, and how one is run and recorded.

A suite is a module of this package, named as the suite with _ for -. It offers measure(), which yields Measurements,
PACKAGES, whose releases matter, and hardware(), what to say of the machine beside its processor.
One whose cases belong to another suite names that as SUITE. Running a suite replaces what its own command recorded.
"""

import datetime
import importlib
from collections.abc import Iterator
from pathlib import Path

from crossattn_ref import records
from crossattn_ref.bench import measure

SUITES = {
    "attention-cpu": "ways to compute attention on one CPU thread: time, memory, the floor, the error",
    "grader": "the checks as a classifier: false accepts, false rejects, mistakes named, over 100 seeds",
    "judge-agreement": "the judge beside the check in a notebook: every known answer of every exercise, both ways",
    "judge-cost": "seconds per student and memory with one and two judging processes, and what writing takes",
    "judge-faults": "grading disturbed at random moments: killed, a full disk, a locked gradebook, a clock that jumps",
    "judge-scale": "2,000 submissions graded end to end: time, memory as it goes, on one worker and on two",
    "multihead": "MultiHeadAttention beside torch.nn.MultiheadAttention, forward and backward, on one CPU thread",
    "throughput": "a class graded by stock nbgrader and by the judge, in turn; recorded in the suite grader",
}


def run(suite: str, *, folder: Path = records.FOLDER) -> Iterator[records.Record]:
    """Measure a suite, yield each record as it comes, and replace those of an earlier run when all are there.

    Raises ValueError for an unknown suite, and where folder lies in no project.
    """
    if suite not in SUITES:
        raise ValueError(f"suite must be one of {', '.join(SUITES)}, got {suite!r}")
    if not Path(folder).parent.is_dir():
        raise ValueError(f"folder must lie in an existing folder, got {folder}: run this in a copy of the project")
    name = f"crossattn_ref.bench.{suite.replace('-', '_')}"
    module = importlib.import_module(name)
    found = []
    for measurement in module.measure():
        found.append(_record(suite, name, module, measurement))
        yield found[-1]
    into = getattr(module, "SUITE", suite)
    others = [record for record in records.read(into, folder) if record.command != _command(suite)]
    records.replace([*others, *found], folder, whole=True)


def _command(suite):
    return f"crossattn bench {suite}"


def _record(suite, name, module, measurement):
    files = records.files_of(name)
    return records.Record(
        suite=getattr(module, "SUITE", suite),
        case=measurement.case,
        metric=measurement.metric,
        value=measurement.value,
        samples=measurement.samples,
        unit=measurement.unit,
        seeds=measurement.seeds,
        command=_command(suite),
        files=files,
        code=records.code_of(files),
        versions=measure.versions(*module.PACKAGES),
        hardware=measure.hardware(**module.hardware()),
        date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        more=measurement.more,
    )
