"""What suites do with models that are trained by recipes: train them or read their runs, and bring seeds together."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Any

from crossattn_ref.bench.measure import Measurement

UNITS = {"train_seconds": "s", "parameters": "parameters"}  # all other figures of such suites are in percent


def to_its_end(trained: Any) -> Any:
    """Pass on what was trained to its end. Raises KeyboardInterrupt for what somebody stopped: that has no figures."""
    if trained.history.ended == "interrupted":
        raise KeyboardInterrupt
    return trained


def by_recipe(
    task: ModuleType,
    recipe: str,
    *,
    seeds: Sequence[int],
    runs: Path,
    best_reading: Callable,
    figures: Callable[[Any, Any], Mapping[tuple[str, str], float]],
    name: Callable[[str], str],
) -> Iterator[Measurement]:
    """Train by a recipe of tasks.captioning or tasks.vqa with every seed, and measure each model with its own reading.

    A run that lies finished in runs/<task>-<recipe>-seed<n> is read; what is not there is trained, there. The reading
    (layer and head that point) is chosen on the development split. figures gives a model's figures by case and metric,
    name the case that the record bears.
    """
    trained = [_run(task, recipe, seed, runs) for seed in seeds]
    readings = [best_reading(one, task.splits()["dev"]) for one in trained]
    about = {
        "readings": [asdict(reading) for reading in readings],
        "trained_on": [one.about["trained_on"] for one in trained],
        "recipe": asdict(task.RECIPES[recipe]),
    }
    found = [figures(one, reading) for one, reading in zip(trained, readings, strict=True)]
    for case, metric in found[0]:
        yield Measurement(
            case=name(case),
            metric=metric,
            unit=UNITS.get(metric, "%"),
            samples=[float(one[case, metric]) for one in found],
            seeds=list(seeds),
            more=about,
        )


def _run(task, recipe, seed, runs):
    folder = runs / f"{task.__name__.rpartition('.')[2]}-{recipe}-seed{seed}"
    if (folder / task.SHIPPED.name).exists():
        return task.load(folder)
    return to_its_end(task.learn(task.RECIPES[recipe], seed=seed, folder=folder, about={"recipe": recipe}))
