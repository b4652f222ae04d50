"""Translators, trained from nothing: the grammar with two recipes, three seeds each; Multi30k where runs are at hand.

Parts are measured one by one, each with its cases. Training is timed as the loop counts it, validation included,
on as many threads as torch takes. "multi30k" reads finished runs, runs/multi30k-en-de-seed<n>, made by
`crossattn train translation --data multi30k --seed <n>`, and scores the test split once for each, on a GPU if there
is one.
"""

import json
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch

from crossattn_ref.bench.measure import Measurement
from crossattn_ref.bench.trained import UNITS, to_its_end
from crossattn_ref.data.corpora import multi30k
from crossattn_ref.data.translation import splits
from crossattn_ref.decode.prepared import for_decoding
from crossattn_ref.files import write_whole
from crossattn_ref.tasks import evaluate
from crossattn_ref.tasks.translation import RECIPES, Trained, learn, load

PACKAGES = ("numpy", "torch", "tokenizers", "sacrebleu")
SEEDS = (0, 1, 2)
RUNS = Path("runs")
FINISHED = "translator.safetensors"  # what a run of Multi30k has at its end
WIDTH = 5  # of the beam, for text
BATCH = 500  # sentences written at once


def hardware() -> dict[str, str | int]:
    """Say how many threads torch may use, and which GPU, if there is one."""
    gpu = {"gpu": torch.cuda.get_device_name()} if torch.cuda.is_available() else {}
    return {"threads": torch.get_num_threads()} | gpu


def measure(*, seeds: Sequence[int] = SEEDS) -> Iterator[Measurement]:
    """Measure what needs nothing but this package."""
    for recipe in ("glass-box", "standard"):
        yield from grammar(recipe, seeds=seeds)


def grammar(recipe: str, *, seeds: Sequence[int] = SEEDS) -> Iterator[Measurement]:
    """Train by a recipe with every seed, and measure on every split; layer and head are chosen on "dev" alone."""
    corpus = splits()
    found = [_grammar_figures(to_its_end(learn(RECIPES[recipe], corpus, seed=seed)), corpus) for seed in seeds]
    about = {"recipe": asdict(RECIPES[recipe]), "readings": [reading for _, reading in found]}
    for case, metric in found[0][0]:
        yield Measurement(
            case=f"grammar/{recipe}{case}",
            metric=metric,
            unit=UNITS.get(metric, "%"),
            samples=[float(figures[case, metric]) for figures, _ in found],
            seeds=list(seeds),
            more=about,
        )


def text(*, runs: Path = RUNS, corpus: Path | None = None) -> Iterator[Measurement]:
    """Score Multi30k with a beam of 5, once for each run that is finished; FileNotFoundError where there is none.

    What is chosen is chosen on the development split: the length penalty of each run, and, where there are runs of
    several recipes, the recipe whose case has no name of its own.
    """
    folders = [folder for folder in sorted(runs.glob("multi30k-en-de*-seed*")) if (folder / FINISHED).exists()]
    if not folders:
        raise FileNotFoundError(
            f"{runs} holds no finished multi30k-en-de-seed<n>: crossattn train translation --data multi30k"
        )
    splits, recipes = multi30k(folder=corpus), {}
    for folder in folders:
        run = _scored(folder, splits)
        recipes.setdefault(run["about"]["recipe"], []).append(run)
    best = max(recipes, key=lambda recipe: statistics.median(run["dev_bleu"] for run in recipes[recipe]))
    for recipe, found in recipes.items():
        yield from _text_measurements(found, "" if recipe == best else f"/{recipe}")


PARTS: dict[str, Callable[[], Iterator[Measurement]]] = {
    "grammar/glass-box": lambda: grammar("glass-box"),
    "grammar/standard": lambda: grammar("standard"),
    "multi30k": text,
}


def _scored(folder, splits):
    """Score a run, or read how it was scored before: nobody looks at the test split twice."""
    path = folder / "scores.json"
    if path.exists():
        return json.loads(path.read_text("utf-8"))
    trained = load(folder)
    ready = replace(trained, model=for_decoding(trained.model.to("cuda" if torch.cuda.is_available() else "cpu")))
    alpha, dev_bleu = evaluate.best_alpha(ready, splits["dev"], width=WIDTH, batch=BATCH)
    test = splits["test"]
    written = evaluate.translations(ready, [pair.src for pair in test], width=WIDTH, alpha=alpha, batch=BATCH)
    scores = {"dev_bleu": dev_bleu, "about": dict(trained.about) | {"alpha": alpha}, "parameters": _size(trained)}
    for metric in (evaluate.bleu, evaluate.chrf):
        scores[metric.__name__], scores[f"{metric.__name__}_signature"] = metric(written, [pair.tgt for pair in test])
    rows = [json.loads(line) for line in (folder / "history.jsonl").read_text("utf-8").splitlines()]
    scores |= {"history": rows, "train_seconds": rows[-1]["seconds"]}
    write_whole(path, json.dumps(scores).encode())
    return scores


def _text_measurements(runs, name):
    """Bring the runs of one recipe together."""
    about = {"runs": [run["about"] for run in runs]}
    more = {
        "bleu": {"signature": runs[0]["bleu_signature"]} | about,
        "chrf": {"signature": runs[0]["chrf_signature"]},
        "train_seconds": {"history": [run["history"] for run in runs]},
    }
    units = {"bleu": "BLEU", "chrf": "chrF", "parameters": "parameters", "train_seconds": "s", "dev_bleu": "BLEU"}
    for metric, unit in units.items():
        split = "val" if metric == "dev_bleu" else "test2016"
        yield Measurement(
            case=f"multi30k/en-de/{split}/beam{WIDTH}{name}",
            metric=metric.removeprefix("dev_"),
            unit=unit,
            samples=[float(run[metric]) for run in runs],
            seeds=[run["about"]["seed"] for run in runs],
            more=more.get(metric, {}),
        )


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
