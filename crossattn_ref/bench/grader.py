"""The checks as a classifier: how many mistakes they accept, how many right answers they reject, how many they name.

Every known mistake and every other right way of each exercise is examined with every seed, and some of the answers
that make two mistakes at once. Mistakes that were declared alike count once. Cases are the exercises that run on NumPy
alone, those that need torch, and kernels in Triton's interpreter.

A seed of an exercise takes a second or so of one core. What was found is kept under _build until the check of that
exercise changes, so that a measurement that was interrupted goes on where it stopped.
"""

import dataclasses
import json
import multiprocessing
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import tqdm

from crossattn_ref import records
from crossattn_ref.bench.measure import Measurement, cores
from crossattn_ref.bench.rates import Rates, rates
from crossattn_ref.checks import (
    alternatives,
    every,  # noqa: F401  so that a change of a module that loads when asked for ages the record
    exercises,
    misconceptions,
)
from crossattn_ref.checks.table import NEEDS, find, module_of
from crossattn_ref.files import write_whole

PACKAGES = ("numpy", "torch")
SEEDS = {"numpy": range(100), "torch": range(100), "kernel": range(3)}  # the interpreter takes minutes for a seed
TABLE = "crossattn_ref/checks/table.py"  # changes with every new exercise, and with it nothing of those that were there


def hardware() -> dict[str, int]:
    """Say nothing more: no figure here depends on the machine."""
    return {}


def measure(
    case: str | None = None, *, names: Sequence[str] = (), seeds: Sequence[int] = (), folder: Path | None = None
) -> Iterator[Measurement]:
    """Examine everything, or the exercises of one case, with every seed, on all cores; one sample for each seed.

    What lies in folder (by default under _build) from the same code is not examined again.
    """
    names = list(names) or exercises()
    folder = records.ROOT / "_build" / "grader" if folder is None else folder
    folder.mkdir(parents=True, exist_ok=True)
    with multiprocessing.get_context("spawn").Pool(cores(), initializer=_one_thread) as pool:
        for one, usual in SEEDS.items():
            chosen = [name for name in names if _runs_on(name) == one]
            if chosen and case in (None, one):
                yield from _case(pool, one, chosen, seeds or usual, folder)


def _runs_on(name):
    return "kernel" if name in NEEDS else "torch" if find(name).wanted == "tensor" else "numpy"


PARTS = {case: partial(measure, case) for case in SEEDS}


def distinct(name: str) -> int:
    """Count the mistakes of an exercise that can be told apart."""
    return len({mistake.alike or mistake.name for mistake in misconceptions(name)})


def _case(pool, case, names, seeds, folder):
    places = {name: _place(name, folder) for name in names}
    found = {name: _read(place) for name, place in places.items()}
    todo = [(name, seed) for name in names for seed in seeds if str(seed) not in found[name]]
    for name, seed, shown in tqdm.tqdm(pool.imap_unordered(_examined, todo), case, len(todo), unit=" seeds"):
        found[name][str(seed)] = shown
        _write(places[name], found[name])
    yield from _figures(case, names, [_together(found[name][str(seed)] for name in names) for seed in seeds], seeds)


def _place(name, folder):
    """Say where the findings on an exercise lie: another place for every change of what they rest on."""
    files = records.files_of("crossattn_ref.bench.rates", module_of(name))
    code = records.code_of(file for file in files if file != TABLE)
    return folder / f"{name.replace('/', '-')}-{code[:12]}.json"


def _read(path):
    found = json.loads(path.read_text("utf-8")) if path.exists() else {}
    return {seed: Rates(**fields) for seed, fields in found.items()}


def _write(path, found):
    write_whole(path, json.dumps({seed: dataclasses.asdict(shown) for seed, shown in found.items()}))


def _examined(one):
    name, seed = one
    return name, seed, rates(name, seed)


def _together(parts):
    parts = list(parts)
    fields = [field.name for field in dataclasses.fields(Rates)]
    return Rates(*([name for part in parts for name in getattr(part, field)] for field in fields))


def _figures(case, names, found, seeds):
    wrong = sum(len(misconceptions(name)) for name in names)
    right = sum(1 + len(alternatives(name)) for name in names)
    about = {"exercises": len(names), "mistakes": wrong, "distinct": sum(map(distinct, names)), "right_answers": right}
    figures = {
        "false_accepts": ("mistakes", [len(r.accepted) for r in found], [n for r in found for n in r.accepted]),
        "false_rejects": ("right answers", [len(r.rejected) for r in found], [n for r in found for n in r.rejected]),
        "named": ("%", [_share(r.unnamed, wrong) for r in found], [n for r in found for n in r.unnamed]),
        "pairs_accepted": (
            "pairs",
            [len(r.pairs_accepted) for r in found],
            [n for r in found for n in r.pairs_accepted],
        ),
        "pairs_explained": (
            "%",
            [_share(r.pairs_unexplained, len(r.pairs)) for r in found],
            [n for r in found for n in r.pairs_unexplained],
        ),
    }
    for metric, (unit, samples, which) in figures.items():
        more = {**about, "which": sorted(set(which))}
        yield Measurement(
            case=case, metric=metric, unit=unit, samples=list(map(float, samples)), seeds=list(seeds), more=more
        )


def _share(failed, total):
    return 100 * (1 - len(failed) / max(total, 1))


def _one_thread():
    import torch

    torch.set_num_threads(1)
