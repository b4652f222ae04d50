"""Translators, trained from nothing: the grammar with two recipes, three seeds each; Multi30k where runs are at hand.

Parts are measured one by one, each with its cases. Training is timed as the loop counts it, validation included,
on as many threads as torch takes. "multi30k" reads finished runs, runs/multi30k-en-de-seed<n>, made by
`crossattn train translation --data multi30k --seed <n>`, and scores the test split once for each.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from crossattn_ref.bench.measure import Measurement
from crossattn_ref.data.corpora import multi30k
from crossattn_ref.data.translation import splits
from crossattn_ref.tasks import evaluate
from crossattn_ref.tasks.translation import RECIPES, Trained, learn, load

PACKAGES = ("numpy", "torch", "tokenizers", "sacrebleu")
SEEDS = (0, 1, 2)
RUNS = Path("runs")


def hardware() -> dict[str, int]:
    """Say how many threads torch may use."""
    return {"threads": torch.get_num_threads()}


def measure(*, seeds: Sequence[int] = SEEDS) -> Iterator[Measurement]:
    """Measure what needs nothing but this package."""
    for recipe in ("glass-box", "standard"):
        yield from grammar(recipe, seeds=seeds)


def grammar(recipe: str, *, seeds: Sequence[int] = SEEDS) -> Iterator[Measurement]:
    """Train by a recipe with every seed, and measure on every split; layer and head are chosen on "dev" alone."""
    corpus = splits()
    found = [_grammar_figures(learn(RECIPES[recipe], corpus, seed=seed), corpus) for seed in seeds]
    about = {"recipe": asdict(RECIPES[recipe]), "readings": [reading for _, reading in found]}
    units = {"train_seconds": "s", "parameters": "parameters"}
    for case, metric in found[0][0]:
        yield Measurement(
            case=f"grammar/{recipe}{case}",
            metric=metric,
            unit=units.get(metric, "%"),
            samples=[float(figures[case, metric]) for figures, _ in found],
            seeds=list(seeds),
            more=about,
        )


def text(*, runs: Path = RUNS) -> Iterator[Measurement]:
    """Score the test split of Multi30k with a beam of 5, once for each run; FileNotFoundError where there is none."""
    folders = {int(path.name.rpartition("seed")[2]): path for path in sorted(runs.glob("multi30k-en-de-seed*"))}
    if not folders:
        raise FileNotFoundError(f"{runs} holds no multi30k-en-de-seed<n>: crossattn train translation --data multi30k")
    trained = {seed: load(folder) for seed, folder in folders.items()}
    pairs, scores = multi30k()["test"], []
    for one in trained.values():
        written = evaluate.translations(one, [pair.src for pair in pairs], width=5)
        scores.append(evaluate.bleu(written, [pair.tgt for pair in pairs]))
    about = {"signature": scores[0][1], "runs": [dict(one.about) for one in trained.values()]}
    samples = {"bleu": [score for score, _ in scores], "parameters": [float(_size(one)) for one in trained.values()]}
    for metric, values in samples.items():
        unit = "BLEU" if metric == "bleu" else "parameters"
        yield Measurement(
            case="multi30k/en-de/test2016/beam5", metric=metric, unit=unit, samples=values, seeds=list(folders),
            more=about,
        )  # fmt: skip


PARTS: dict[str, Callable[[], Iterator[Measurement]]] = {
    "grammar/glass-box": lambda: grammar("glass-box"),
    "grammar/standard": lambda: grammar("standard"),
    "multi30k": text,
}


def _grammar_figures(trained: Trained, corpus):
    """Measure one translator -> ({(rest of the case, metric): figure}, the reading that was chosen)."""
    reading = evaluate.best_reading(trained, corpus["dev"])
    figures = {
        ("", "train_seconds"): trained.history.seconds,
        ("", "parameters"): _size(trained),
    }
    for split in ("test", "dev", "held_out", "rare", "chain"):
        case = "" if split == "test" else f"/{split}"
        figures[case, "exact_match"] = evaluate.exact_match(trained, corpus[split])
        figures[case, "aer"] = evaluate.alignment_error(trained, corpus[split], reading)
    for name, share in evaluate.right_links(trained, corpus["test"], reading).items():
        figures[f"/links/{name}", "possible"] = share
    return figures, asdict(reading)


def _size(trained):
    return sum(parameter.numel() for parameter in trained.model.parameters())
