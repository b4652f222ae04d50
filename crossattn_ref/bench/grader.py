"""The checks as a classifier: how many mistakes they accept, how many right answers they reject, how many they name.

Every known mistake and every other right way of each exercise is examined with every seed. Mistakes that were declared
alike count once. Cases are the exercises that run on NumPy alone, and those that need torch.
"""

import multiprocessing
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from crossattn_ref.bench.measure import Measurement
from crossattn_ref.checks import (  # modules that load when asked for stand here, so that their change ages a record
    alternatives,
    attention,  # noqa: F401
    cross_attention,  # noqa: F401
    encoder,  # noqa: F401
    examine,
    exercises,
    heads,  # noqa: F401
    masks,  # noqa: F401
    misconceptions,
    multihead,  # noqa: F401
    reference,
)
from crossattn_ref.checks.table import find

PACKAGES = ("numpy", "torch")
SEEDS = tuple(range(100))


@dataclass(frozen=True)
class Rates:
    """What the checks of one exercise did with one seed; each a list of names."""

    accepted: list[str]  # mistakes that earned all points
    rejected: list[str]  # right answers that did not
    unnamed: list[str]  # mistakes that were rejected under another name, or under none


def hardware() -> dict[str, int]:
    """Say nothing more: no figure here depends on the machine."""
    return {}


def measure(*, names: Sequence[str] = (), seeds: Sequence[int] = SEEDS) -> Iterator[Measurement]:
    """Examine everything with every seed, on all cores; one sample for each seed."""
    names = list(names) or exercises()
    torch = [name for name in names if find(name).wanted == "tensor"]
    numpy = [name for name in names if name not in torch]
    with multiprocessing.get_context("spawn").Pool(os.cpu_count(), initializer=_one_thread) as pool:
        for case, chosen in (("numpy", numpy), ("torch", torch)):
            if chosen:
                yield from _case(pool, case, chosen, seeds)


def rates(name: str, seed: int) -> Rates:
    """Examine every mistake and every right answer of an exercise once."""
    accepted, unnamed = [], []
    for mistake in misconceptions(name):
        report = examine(name, mistake.wrong, seed)
        if report.score == 1:
            accepted.append(f"{name}: {mistake.name}")
        elif mistake.name not in (m.name for m in report.diagnosis) and not _alike(mistake, report.diagnosis):
            unnamed.append(f"{name}: {mistake.name}")
    right = (reference(name), *alternatives(name))
    rejected = [f"{name}: {i}" for i, answer in enumerate(right) if examine(name, answer, seed).score < 1]
    return Rates(accepted, rejected, unnamed)


def distinct(name: str) -> int:
    """Count the mistakes of an exercise that can be told apart."""
    return len({mistake.alike or mistake.name for mistake in misconceptions(name)})


def _alike(mistake, diagnosis):
    return bool(mistake.alike) and any(mistake.alike in (named.alike, named.name) for named in diagnosis)


def _case(pool, case, names, seeds):
    found = pool.map(partial(_rates_of_all, names), seeds)
    wrong = sum(len(misconceptions(name)) for name in names)
    right = sum(1 + len(alternatives(name)) for name in names)
    about = {"exercises": len(names), "mistakes": wrong, "distinct": sum(map(distinct, names)), "right_answers": right}
    figures = {
        "false_accepts": ("mistakes", [len(r.accepted) for r in found], [n for r in found for n in r.accepted]),
        "false_rejects": ("right answers", [len(r.rejected) for r in found], [n for r in found for n in r.rejected]),
        "named": ("%", [100 * (1 - len(r.unnamed) / wrong) for r in found], [n for r in found for n in r.unnamed]),
    }
    for metric, (unit, samples, which) in figures.items():
        more = {**about, "which": sorted(set(which))}
        yield Measurement(
            case=case, metric=metric, unit=unit, samples=list(map(float, samples)), seeds=list(seeds), more=more
        )


def _rates_of_all(names, seed):
    parts = [rates(name, seed) for name in names]
    return Rates(*([name for p in parts for name in getattr(p, part)] for part in ("accepted", "rejected", "unnamed")))


def _one_thread():
    import torch

    torch.set_num_threads(1)
