"""The checks as a classifier: how many mistakes they accept, how many right answers they reject, how many they name.

Every known mistake and every other right way of each exercise is examined with every seed, and some of the answers
that make two mistakes at once. Mistakes that were declared alike count once. Cases are the exercises that run on NumPy
alone, and those that need torch.
"""

import multiprocessing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from functools import partial

import numpy as np

from crossattn_ref.bench.measure import Measurement, cores
from crossattn_ref.bench.remembered import remembering
from crossattn_ref.checks import (  # modules that load when asked for stand here, so that their change ages a record
    alternatives,
    attention,  # noqa: F401
    bridges,  # noqa: F401
    captioning,  # noqa: F401
    cost,  # noqa: F401
    cross_attention,  # noqa: F401
    cross_attention_layer,  # noqa: F401
    decoder_layer,  # noqa: F401
    decoding,  # noqa: F401
    encode_decode,  # noqa: F401
    encoder,  # noqa: F401
    encoder_layer,  # noqa: F401
    exercises,
    gpu_efficiency,  # noqa: F401
    heads,  # noqa: F401
    latent_resampler,  # noqa: F401
    long_memories,  # noqa: F401
    masks,  # noqa: F401
    misconceptions,
    multihead,  # noqa: F401
    online_softmax,  # noqa: F401
    summarization,  # noqa: F401
    translation,  # noqa: F401
    vqa,  # noqa: F401
)
from crossattn_ref.checks.exercise import examine
from crossattn_ref.checks.report import Misconception, Report
from crossattn_ref.checks.table import find

PACKAGES = ("numpy", "torch")
SEEDS = tuple(range(100))
PAIRS = 3  # of an exercise's compositions, drawn anew for each seed


@dataclass(frozen=True)
class Rates:
    """What the checks of one exercise did with one seed; each a list of names."""

    accepted: list[str]  # mistakes that earned all points
    rejected: list[str]  # right answers that did not
    unnamed: list[str]  # mistakes that were rejected under another name, or under none
    pairs: list[str]  # answers with two mistakes that were examined
    pairs_accepted: list[str]  # those that earned all points
    pairs_unexplained: list[str]  # those for which nothing was found that answers alike


def hardware() -> dict[str, int]:
    """Say nothing more: no figure here depends on the machine."""
    return {}


def measure(*, names: Sequence[str] = (), seeds: Sequence[int] = SEEDS) -> Iterator[Measurement]:
    """Examine everything with every seed, on all cores; one sample for each seed."""
    names = list(names) or exercises()
    torch = [name for name in names if find(name).wanted == "tensor"]
    numpy = [name for name in names if name not in torch]
    with multiprocessing.get_context("spawn").Pool(cores(), initializer=_one_thread) as pool:
        for case, chosen in (("numpy", numpy), ("torch", torch)):
            if chosen:
                yield from _case(pool, case, chosen, seeds)


def rates(name: str, seed: int) -> Rates:
    """Examine every mistake, some pairs of mistakes and every right answer of an exercise once."""
    exercise = find(name)
    known = remembering(exercise)

    def judged(answer):
        return examine(name, known, exercise.local(answer), seed)

    mistakes = [(mistake, judged(mistake.wrong)) for mistake in exercise.misconceptions]
    pairs = [(pair, judged(pair.wrong)) for pair in _drawn(known.compositions(), seed)]
    right = [judged(answer) for answer in (exercise.reference, *exercise.alternatives)]
    return Rates(
        accepted=[f"{name}: {mistake.name}" for mistake, report in mistakes if report.score == 1],
        rejected=[f"{name}: {i}" for i, report in enumerate(right) if report.score < 1],
        unnamed=[f"{name}: {mistake.name}" for mistake, report in mistakes if not is_named(mistake, report)],
        pairs=[f"{name}: {pair.name}" for pair, _ in pairs],
        pairs_accepted=[f"{name}: {pair.name}" for pair, report in pairs if report.score == 1],
        pairs_unexplained=[
            f"{name}: {pair.name}" for pair, report in pairs if report.score < 1 and not is_explained(report)
        ],
    )


def is_named(mistake: Misconception, report: Report) -> bool:
    """Tell whether a report names a mistake, or one that was declared alike."""
    own = {mistake.name, mistake.alike} - {""}
    return any(own & {named.name, named.alike} for named in report.diagnosis)


def is_explained(report: Report) -> bool:
    """Tell whether a learner hears why: from a diagnosis, or from the error with which the answer ended everywhere."""
    ends = ("it raised ", "it writes into its input")
    return bool(report.diagnosis) or all(finding.message.startswith(ends) for finding in report.findings)


def distinct(name: str) -> int:
    """Count the mistakes of an exercise that can be told apart."""
    return len({mistake.alike or mistake.name for mistake in misconceptions(name)})


def _drawn(pairs, seed):
    return [pairs[i] for i in np.random.default_rng(seed).permutation(len(pairs))[:PAIRS]]


def _case(pool, case, names, seeds):
    found = pool.map(partial(_rates_of_all, names), seeds)
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


def _rates_of_all(names, seed):
    parts = [rates(name, seed) for name in names]
    return Rates(*([name for part in parts for name in getattr(part, f.name)] for f in fields(Rates)))


def _one_thread():
    import torch

    torch.set_num_threads(1)
