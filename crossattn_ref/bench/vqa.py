"""Answerers of questions about scenes, which bring question and picture together in three ways; three seeds each.

All have the same number of parameters and the same corpus, and train about as long as each other: whose step is dearer
gets fewer of them ("step" measures what one costs). "mean" is cross-attention once more, with the mean of the words in
the place of their largest numbers; "supervised" is co-attention that is told where to look, with fewer steps. Measured
are answers about scenes like those of training ("test") and about scenes with a colour and a shape that training never
shows together ("held-out"), beside two who do not look: the most frequent answer to the same words ("question-only"),
and the model before blank pictures. Layer, head and rows that point are chosen on the development split, for each seed:
"pointing" is that of the best reading, "pointing_of_weights" that of the best one that knows the weights alone, and not
what hangs on them.

A run that lies finished in runs/vqa-<recipe>-seed<n>, as `crossattn train vqa` leaves it, is read; what is not there is
trained, there. A record says in `trained_on` where each of its models was trained.

The parts "easy-vqa" and "nlvr" read pictures and questions of others, from a folder: see picture_questions.
"""

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import torch

from crossattn_ref.bench import picture_questions, trained
from crossattn_ref.bench.measure import Measurement, side_by_side
from crossattn_ref.data.vqa import question_only
from crossattn_ref.models.vqa import count_parameters
from crossattn_ref.tasks import evaluate_answers, vqa
from crossattn_ref.tasks.evaluate_answers import Reading
from crossattn_ref.tasks.vqa import RECIPES

PACKAGES = ("numpy", "torch")
SEEDS = (0, 1, 2)
RUNS = Path("runs")
SPLITS = ("test", "held-out")
N_PARTS = 8  # of the corpus, from which question_only learns


def hardware() -> dict[str, int]:
    """Say how many threads torch may use."""
    return {"threads": torch.get_num_threads()}


def measure(*, seeds: Sequence[int] = SEEDS, runs: Path = RUNS) -> Iterator[Measurement]:
    """Measure every recipe, what its steps cost, and the guesser that only reads the question."""
    for recipe in RECIPES:
        yield from by_recipe(recipe, seeds=seeds, runs=runs)
    yield from steps()
    yield from guesses()


def by_recipe(recipe: str, *, seeds: Sequence[int] = SEEDS, runs: Path = RUNS) -> Iterator[Measurement]:
    """Train by a recipe with every seed, where there is no finished run, and measure on every split.

    The cases of cross-attention are "scenes/test" and "scenes/held-out", with the kind of question behind it, such as
    "scenes/test/verify_rel"; those of another recipe have its name at the end.
    """
    yield from trained.by_recipe(vqa, recipe, seeds=seeds, runs=runs, figures=_figures)


def steps(*, seconds: float = 60) -> Iterator[Measurement]:
    """Measure how long a step of training takes, forward and backward, as a multiple of that of cross-attention.

    All ways are timed in turn on the same batches, so a machine that does something else meanwhile slows all of them.
    """
    calls = {recipe: _a_step(RECIPES[recipe]) for recipe in RECIPES}
    samples = dict(zip(calls, side_by_side(list(calls.values()), seconds=seconds), strict=True))
    for recipe, times in samples.items():
        yield Measurement(
            case=f"scenes/step/{recipe}",
            metric="time over cross",
            unit="times",
            samples=[statistics.median(times) / statistics.median(samples["cross"])],
            seeds=[0],
            more={"microseconds": times},
        )


def guesses() -> Iterator[Measurement]:
    """Measure who does not look: the most frequent answer to the same words, and pointing at random; no seed decides.

    The answers are learnt from a part of the corpus.
    """
    recipe = RECIPES["cross"]
    parts = [vqa.draw_part(i, vqa.PART, **recipe.drawing) for i in range(N_PARTS)]
    train = [question for part in parts for question in part.questions]
    for split in SPLITS:
        asked = vqa.splits()[split].questions
        shares = question_only(train, asked)
        counted = sum(shares[question.kind] for question in asked) / len(asked)
        by_kind = {kind: 100 * share for kind, share in {"all": counted, **shares}.items()}
        yield from _unseeing(f"scenes/{split}", "question-only", "accuracy", by_kind, questions_learnt_from=len(train))
        for name, by_kind in evaluate_answers.pointing_by_chance(vqa.splits()[split]).items():
            yield from _unseeing(f"scenes/{split}", name, "pointing", by_kind)


PARTS: dict[str, Callable[..., Iterator[Measurement]]] = {
    **{name: partial(by_recipe, name) for name in RECIPES},
    "step": steps,
    "question-only": guesses,
    "easy-vqa": picture_questions.easy_vqa,
    "nlvr": picture_questions.nlvr,
}


def _unseeing(case, name, metric, by_kind, **more) -> Iterator[Measurement]:
    for (which, _), value in _named(case, metric, by_kind, name).items():
        yield Measurement(case=which, metric=metric, unit="%", samples=[value], seeds=[0], more=more)


def _a_step(recipe) -> Callable[[], None]:
    """Return what computes the gradients of one batch, the same for every recipe."""
    drawn = vqa.numbered(vqa.draw_part(0, recipe.batch, **recipe.drawing))
    task, model = vqa.Answering(recipe, drawn, drawn), vqa.new_answerer(recipe, seed=0)
    (batch,) = task.epoch(0)

    def step():
        loss, n = task.loss(model, batch)
        (loss / n).backward()

    return step


def _figures(answerer) -> tuple[Reading, Mapping[tuple[str, str], float]]:
    """Choose how the weights of one answerer are read, and measure it -> the reading and {(case, metric): figure}."""
    dev = vqa.splits()["dev"]
    weights = evaluate_answers.attention(answerer, vqa.numbered(dev))
    best = evaluate_answers.best_reading(weights, dev)
    plain = evaluate_answers.best_reading(weights, dev, among=("all", "mark"))
    found = {
        ("scenes", "train_seconds"): answerer.about["train_seconds"],
        ("scenes", "parameters"): count_parameters(answerer.model),
    }
    for split in SPLITS:
        asked, case = vqa.splits()[split], f"scenes/{split}"
        found |= _named(case, "accuracy", evaluate_answers.accuracy(answerer, asked))
        weights = evaluate_answers.attention(answerer, vqa.numbered(asked))
        found |= _named(case, "pointing", evaluate_answers.pointing(weights, asked, best))
        found |= _named(case, "pointing_of_weights", evaluate_answers.pointing(weights, asked, plain))
        found |= _named(case, "accuracy", evaluate_answers.blind_accuracy(answerer, asked), "blank")
    return best, found


def _named(case, metric, by_kind, *end):
    """Name figures by kind of question, which that of all of them does without: case/kind/end."""
    return {
        ("/".join([case, *([] if kind == "all" else [kind]), *end]), metric): value for kind, value in by_kind.items()
    }
