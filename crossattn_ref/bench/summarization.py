"""Summaries of generated news, by a model that may point at the text and by one that may not.

A run trains a model of tasks.summarization, some minutes on one core, and lets it summarize two splits: "test", about
anybody, and "strangers", about people whose names stand in no other text. Trained models are kept under _build until
the code changes, so that a measurement that was interrupted goes on where it stopped; the one that comes with the
package, weights/summarization.safetensors, is a copy of pointing-0 from there.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from crossattn_ref import interpret, records
from crossattn_ref.bench import measure as measuring
from crossattn_ref.bench.measure import Measurement
from crossattn_ref.bench.trained import to_its_end
from crossattn_ref.data import summarization as news
from crossattn_ref.data.translation import Pair
from crossattn_ref.models import stored
from crossattn_ref.tasks import summarization
from crossattn_ref.tasks.summarization import MODELS, PLAN, Trained, collate
from crossattn_ref.train.loop import Plan

PACKAGES = ("torch",)
SEEDS = (0, 1, 2)
SPLITS = ("test", "strangers")
UNITS = {"exact_match": "%", "name": "%", "aer": "%"}
NAME = 1  # the place of the surname in a summary
AT_ONCE = 100  # texts


def hardware() -> dict[str, int]:
    """Say how many threads torch uses."""
    return {"threads": torch.get_num_threads()}


def measure(*, seeds: Sequence[int] = SEEDS, plan: Plan = PLAN, folder: Path | None = None) -> Iterator[Measurement]:
    """Train every model with every seed, or take what lies in folder (by default under _build) from the same code."""
    code = records.code_of(records.files_of(__name__))
    folder = records.ROOT / "_build" / "summarization" / code[:12] if folder is None else folder
    splits = news.splits()
    for kind in MODELS:
        runs = [_kept(kind, seed, splits, plan, folder) for seed in seeds]
        for split in SPLITS:
            found = [scores(trained, splits[split]) for trained, _ in runs]
            for metric, unit in UNITS.items():
                samples = [score[metric] for score in found]
                yield Measurement(
                    case=f"{kind}/{split}", metric=metric, unit=unit, samples=samples, seeds=list(seeds),
                    more={"texts": len(splits[split])},
                )  # fmt: skip
        seconds = [about["train_seconds"] for _, about in runs]
        yield Measurement(case=kind, metric="train_seconds", unit="s", samples=seconds, seeds=list(seeds))


def scores(trained: Trained, pairs: Sequence[Pair]) -> dict[str, float]:
    """Summarize, and compare: summaries right in every word, surnames right, and the alignment error rate; in %."""
    parts = [pairs[first : first + AT_ONCE] for first in range(0, len(pairs), AT_ONCE)]
    written = [summary for part in parts for summary in trained.summarize([pair.src for pair in part])]
    links = [found for part in parts for found in _links(trained, part)]
    sure, possible = [pair.sure for pair in pairs], [pair.possible for pair in pairs]
    return {
        "exact_match": 100 * float(np.mean([tuple(w) == pair.tgt for w, pair in zip(written, pairs, strict=True)])),
        "name": 100 * float(np.mean([_named(w, pair) for w, pair in zip(written, pairs, strict=True)])),
        "aer": 100 * interpret.alignment_error_rate(links, sure, possible),
    }


def _named(written, pair):
    return len(written) > NAME and written[NAME] == pair.tgt[NAME]


@torch.no_grad()
def _links(trained, pairs):
    batch = collate(pairs, trained.vocabulary)
    memory = trained.model.encode(batch.src, batch.lengths)
    weights = [layer.numpy() for layer in trained.model.cross_weights(batch.tgt, memory, batch.lengths)]
    return interpret.attention_links(weights, [len(pair.src) for pair in pairs], [len(pair.tgt) for pair in pairs])


def _kept(kind, seed, splits, plan, folder):
    """Train a model, or take it from the folder -> (it, what is said about it)."""
    path = folder / f"{kind}-{seed}.safetensors"
    if not path.exists():
        before = time.perf_counter()
        trained = to_its_end(summarization.learn(kind, splits, seed=seed, plan=plan))
        about = {
            "command": "crossattn bench summarization",
            "seed": seed,
            "plan": asdict(plan),
            "train_seconds": round(time.perf_counter() - before, 1),
            "dev": trained.history.rows[-1],
            "strangers": scores(trained, splits["strangers"]),
            "versions": measuring.versions(*PACKAGES),
        }
        summarization.save(trained, path, about)
    return summarization.load(path), stored.read(path)[1]
