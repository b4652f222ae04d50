"""What suites do with models that are trained by recipes: train them or read their runs, and bring seeds together."""

import json
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
    figures: Callable[[Any], tuple[Any, Mapping[tuple[str, str], float]]],
) -> Iterator[Measurement]:
    """Train by a recipe of tasks.captioning or tasks.vqa with every seed, and measure each model.

    A run that lies finished in runs/<task>-<recipe>-seed<n> is read; what is not there is trained, there. figures gives
    a model's reading, what of its weights points, and its figures by case and metric; cases of the task's first recipe
    are called so, those of another have its name at the end.

    Raises ValueError for a finished run that was trained by another recipe than the one of that name.
    """
    trained = [_run(task, recipe, seed, runs) for seed in seeds]
    readings, found = zip(*map(figures, trained), strict=True)
    end = "" if recipe == next(iter(task.RECIPES)) else f"/{recipe}"
    about = {
        "readings": [asdict(reading) for reading in readings],
        **{name: [one.about[name] for one in trained] for name in ("trained_on", "threads")},
        "recipe": asdict(task.RECIPES[recipe]),
    }
    for case, metric in found[0]:
        yield Measurement(
            case=case + end,
            metric=metric,
            unit=UNITS.get(metric, "%"),
            samples=[float(one[case, metric]) for one in found],
            seeds=list(seeds),
            more=about,
        )


def _run(task, recipe, seed, runs):
    folder = runs / f"{task.__name__.rpartition('.')[2]}-{recipe}-seed{seed}"
    if not (folder / task.SHIPPED.name).exists():
        return to_its_end(task.learn(task.RECIPES[recipe], seed=seed, folder=folder, about={"recipe": recipe}))
    there = task.load(folder)
    wanted = {**task.description(task.RECIPES[recipe]), "plan": asdict(task.RECIPES[recipe].plan)}
    if not json.loads(json.dumps(wanted)).items() <= there.about.items():  # as a file writes it
        raise ValueError(f"{folder} was not trained as {recipe} is: move it away, and it is trained anew")
    return there
