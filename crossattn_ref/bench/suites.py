"""The suites by name, and how one is run and recorded.

A suite is a module of this package, named as the suite with _ for -. It offers measure(), which yields Measurements,
or lists of them, each of which is recorded as soon as it is there, so that a run that breaks off keeps it; PACKAGES,
whose releases matter; and hardware(), what to say of the machine beside its processor. It may offer PARTS, callables by
name that yield what measure does: then each can be measured alone. One whose cases belong to another suite names that
as SUITE. Running a suite or a part of it replaces what the same command recorded, and nothing else.
"""

import dataclasses
import datetime
import importlib
import inspect
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from crossattn_ref import records
from crossattn_ref.bench import measure, reading

SUITES = {
    "attention-cpu": "ways to compute attention on one CPU thread: time, memory, the floor, the error",
    "attention-gpu": "ways to compute attention on a GPU, ours and torch's: time, memory, the floor, what was refused",
    "captioning": "captions of scenes, what was never shown together included: exact match, objects, where words look",
    "decoding": "a beam search beside transformers' generate, at the size of a Marian model, on one CPU thread",
    "grader": "the checks as a classifier: false accepts, false rejects, mistakes named, over 100 seeds",
    "judge-agreement": "the judge beside the check in a notebook: every known answer of every exercise, both ways",
    "judge-cost": "seconds per student and memory with one and two judging processes, and what writing takes",
    "judge-faults": "grading disturbed at random moments: killed, a full disk, a locked gradebook, a clock that jumps",
    "judge-scale": "a class of 2,000 graded end to end by one judging process: time, and memory as it goes",
    "multihead": "MultiHeadAttention beside torch.nn.MultiheadAttention, forward and backward, on one CPU thread",
    "planted-bugs": "34 mistakes, each planted in a small translator: what training shows, and what decoding does",
    "summarization": "news about strangers: a model that may point at the text, and one that may not",
    "throughput": "a class graded by stock nbgrader and by the judge, in turn; recorded in the suite grader",
    "training": "a step of training beside one of torch.nn.Transformer wired to the same task, on one CPU thread",
    "translation": "translators trained from nothing: exact match, alignment error, BLEU, and the time it took",
    "vqa": "questions about scenes, by cross-attention, concatenation and co-attention: each kind, and where they look",
}


def run(
    suite: str, *, part: str | None = None, folder: Path = records.FOLDER, corpus: Path | None = None
) -> Iterator[records.Record]:
    """Measure a suite or a part of it, yield each record as it comes, and replace them in its file when all are there.

    What comes as a list is put there at once, and what the same command found before goes. In the file, each line says
    in more["lines"] how many its run wrote, so that an audit sees when some are gone.

    corpus is where a corpus lies that may not come with the course, for the parts that read one.
    Raises ValueError for an unknown suite or part, where folder lies in no project, for a corpus that is not read, and
    where the file is damaged: before anything is measured, or, if that happens later, with the new figures beside it.
    """
    if suite not in SUITES:
        raise ValueError(f"suite must be one of {', '.join(SUITES)}, got {suite!r}")
    if not Path(folder).parent.is_dir():
        raise ValueError(f"folder must lie in an existing folder, got {folder}: run this in a copy of the project")
    name = f"crossattn_ref.bench.{suite.replace('-', '_')}"
    module = importlib.import_module(name)
    parts = getattr(module, "PARTS", {})
    if part is not None and part not in parts:
        raise ValueError(f"part must be one of {', '.join(parts) or 'none'} in {suite}, got {part!r}")
    command = f"crossattn bench {suite}" + (f" --part {part}" if part else "")
    measuring = parts[part] if part else module.measure
    if corpus is not None and "corpus" not in inspect.signature(measuring).parameters:
        raise ValueError(f"corpus must be left out: {command} reads none")
    into = getattr(module, "SUITE", suite)
    reading.read(_path(into, folder))
    found, about = [], None
    for measured in measuring() if corpus is None else measuring(corpus=corpus):
        about = about or _about(into, name, module, command)
        new = [_record(one, about) for one in (measured if isinstance(measured, list) else [measured])]
        found += new
        if isinstance(measured, list):
            _replace(into, command, found, folder)
        yield from new
    _replace(into, command, found, folder)


def _replace(suite, command, found, folder):
    """Put what a command has found in the place of what it found before; beside a file that was damaged meanwhile."""
    try:
        before = reading.read(_path(suite, folder))
    except ValueError as error:
        beside = Path(folder) / "beside"
        records.replace(_counted([], command, found), beside)
        what = f"What was measured lies in {_path(suite, beside)}, to take the place of lines of the same command"
        raise ValueError(f"{error}. {what}") from error
    records.replace(_counted(before, command, found), folder, whole=True)


def _counted(before, command, found):
    """Merge records of a file with those just found; those that say how many lines their run wrote say so anew."""
    measured = {(record.case, record.metric) for record in found}
    others = [record for record in before if record.command != command]
    kept = [record for record in others if (record.case, record.metric) not in measured]
    gone = Counter(record.command for record in others) - Counter(record.command for record in kept)
    counted = [_saying(r, r.more["lines"] - gone[r.command]) if "lines" in r.more else r for r in kept]
    return counted + [_saying(record, len(measured)) for record in found]


def _saying(record, n):
    return dataclasses.replace(record, more=record.more | {"lines": n})


def _path(suite, folder):
    return Path(folder) / f"{suite}.jsonl"


def _about(into, name, module, command):
    """Gather what is the same for all records of a run."""
    files = records.files_of(name)
    return {
        "suite": into,
        "command": command,
        "files": files,
        "code": records.code_of(files),
        "versions": measure.versions(*module.PACKAGES),
        "hardware": measure.hardware(**module.hardware()),
    }


def _record(measurement, about):
    return records.Record(
        case=measurement.case,
        metric=measurement.metric,
        value=measurement.value,
        samples=measurement.samples,
        unit=measurement.unit,
        seeds=measurement.seeds,
        date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        more=measurement.more,
        **about,
    )
