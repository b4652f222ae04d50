"""The suites by name, and how one is run and recorded.

A suite is a module of this package, named as the suite with _ for -. It offers measure(), which yields Measurements,
PACKAGES, whose releases matter, and hardware(), what to say of the machine beside its processor.
"""

import datetime
import importlib
from collections.abc import Iterator
from pathlib import Path

from crossattn_ref import records
from crossattn_ref.bench import measure

SUITES = {
    "grader": "the checks as a classifier: false accepts, false rejects, mistakes named, over 100 seeds",
    "multihead": "MultiHeadAttention beside torch.nn.MultiheadAttention, forward and backward, on one CPU thread",
}


def run(suite: str, *, folder: Path = records.FOLDER) -> Iterator[records.Record]:
    """Measure a suite, yield each record as it comes, and replace the suite's file when all are there.

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
    records.replace(found, folder, whole=True)


def _record(suite, name, module, measurement):
    files = records.files_of(name)
    return records.Record(
        suite=suite,
        case=measurement.case,
        metric=measurement.metric,
        value=measurement.value,
        samples=measurement.samples,
        unit=measurement.unit,
        seeds=measurement.seeds,
        command=f"crossattn bench {suite}",
        files=files,
        code=records.code_of(files),
        versions=measure.versions(*module.PACKAGES),
        hardware=measure.hardware(**module.hardware()),
        date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        more=measurement.more,
    )
