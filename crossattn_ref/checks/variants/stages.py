"""An answer as a line of stages: a mistake replaces one of them, and a mistake of two stages replaces both."""

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping

from crossattn_ref.checks.report import Misconception
from crossattn_ref.checks.variants.softmax import quiet

AT_RANDOM = "dropout goes on"  # the mistake of which no two runs are alike, so that no replay tells it

Stages = Mapping[str, tuple[Misconception, ...]]


def staged(answer: Callable, **stages: Iterable[tuple]) -> Stages:
    """Make the mistakes of one stage each, from (name, what takes the stage's place, symptom, hint[, alike]).

    What takes the stage's place may be a dict, where a mistake of one idea touches several stages.
    """
    return {
        stage: tuple(
            Misconception(name, _with(answer, _replaced(stage, wrong)), *words) for name, wrong, *words in entries
        )
        for stage, entries in stages.items()
    }


def flat(stages: Stages) -> tuple[Misconception, ...]:
    """List the mistakes of all stages."""
    return tuple(itertools.chain.from_iterable(stages.values()))


def pairs(answer: Callable, stages: Stages) -> Iterator[Misconception]:
    """Make the mistakes that two stages make together. A mistake that touches a stage of the other's is left out."""
    for first, second in itertools.combinations(stages.values(), 2):
        for a, b in itertools.product(first, second):
            if not set(replaced(a)) & set(replaced(b)):
                wrong = _with(answer, {**replaced(a), **replaced(b)})
                yield Misconception(
                    f"{a.name}, {b.name}", wrong, f"{a.symptom}, and {b.symptom}", f"{a.hint} And: {b.hint}"
                )


def replaced(mistake: Misconception) -> Mapping[str, Callable]:
    """Tell which stages a mistake replaces, and with what."""
    return mistake.wrong.replaced


def _replaced(stage, wrong):
    return wrong if isinstance(wrong, Mapping) else {stage: wrong}


def _with(answer, stages):
    wrong = quiet(functools.partial(answer, **stages))
    wrong.replaced = stages
    return wrong
