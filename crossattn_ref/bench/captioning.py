"""Captioners of scenes, trained from nothing by several recipes, three seeds each.

Measured are captions of scenes like those of training ("test") and of scenes with a colour and a shape that training
never shows together ("held-out"), beside the captions that the same model writes of blank pictures. Layer and head that
point are chosen on the development split, for each seed.

A run that lies finished in runs/captioning-<recipe>-seed<n>, as `crossattn train captioning` leaves it, is read; what
is not there is trained, there. A record says in `trained_on` where each of its models was trained.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import torch

from crossattn_ref.bench import trained
from crossattn_ref.bench.measure import Measurement
from crossattn_ref.models.vqa import count_parameters
from crossattn_ref.tasks import captioning, evaluate_captions
from crossattn_ref.tasks.captioning import RECIPES
from crossattn_ref.tasks.evaluate_captions import Reading

PACKAGES = ("numpy", "torch")
SEEDS = (0, 1, 2)
RUNS = Path("runs")
SPLITS = ("test", "held-out")


def hardware() -> dict[str, int]:
    """Say how many threads torch may use."""
    return {"threads": torch.get_num_threads()}


def measure(*, seeds: Sequence[int] = SEEDS, runs: Path = RUNS) -> Iterator[Measurement]:
    """Measure every recipe."""
    for recipe in RECIPES:
        yield from by_recipe(recipe, seeds=seeds, runs=runs)


def by_recipe(recipe: str, *, seeds: Sequence[int] = SEEDS, runs: Path = RUNS) -> Iterator[Measurement]:
    """Train by a recipe with every seed, where there is no finished run, and measure on every split.

    The cases of the recipe "scenes" are "scenes/test" and "scenes/held-out", those of another have its name at the end.
    """
    yield from trained.by_recipe(captioning, recipe, seeds=seeds, runs=runs, figures=_figures)


PARTS: dict[str, Callable[[], Iterator[Measurement]]] = {name: partial(by_recipe, name) for name in RECIPES}


def _figures(captioner) -> tuple[Reading, Mapping[tuple[str, str], float]]:
    """Choose how the weights of one captioner are read, and measure it -> the reading and {(case, metric): figure}."""
    reading = evaluate_captions.read_on_dev(captioner)
    found = {
        ("scenes", "train_seconds"): captioner.about["train_seconds"],
        ("scenes", "parameters"): count_parameters(captioner.model),
    }
    for split in SPLITS:
        drawn, case = captioning.splits()[split], f"scenes/{split}"
        found |= {(case, name): value for name, value in evaluate_captions.scores(captioner, drawn).items()}
        weights = evaluate_captions.cross_weights(captioner, drawn.images, drawn.words)
        found[case, "pointing"] = evaluate_captions.pointing(weights, drawn, reading)
        found[case, "mass"] = evaluate_captions.mass(weights, drawn, reading)
        blind = evaluate_captions.blind_scores(captioner, drawn)
        found |= {(f"{case}/blank", name): value for name, value in blind.items()}
    return reading, found
