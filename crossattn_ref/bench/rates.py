"""One exercise with one seed: mistakes that its check accepts or cannot name, right answers that it rejects."""

from dataclasses import dataclass

import numpy as np

from crossattn_ref.bench.remembered import remembering
from crossattn_ref.checks.exercise import examine
from crossattn_ref.checks.report import Misconception, Report
from crossattn_ref.checks.table import find

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


def _drawn(pairs, seed):
    return [pairs[i] for i in np.random.default_rng(seed).permutation(len(pairs))[:PAIRS]]
