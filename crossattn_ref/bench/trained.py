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
    evaluate: ModuleType,
    figures: Callable[[Any, Any], Mapping[tuple[str, str], float]],
) -> Iterator[Measurement]:
    """Train by a recipe of tasks.captioning or tasks.vqa with every seed, and measure each model with its own reading.

    A run that lies finished in runs/<task>-<recipe>-seed<n> is read; what is not there is trained, there. The reading,
    what of its weights points, is chosen on the development split by evaluate, tasks.evaluate_captions or
    tasks.evaluate_answers. figures gives a model's figures by case and metric; cases of the task's first recipe are
    called so, those of another have its name at the end.

    Raises ValueError for a finished run that was trained by another recipe than the one of that name.
    """
    trained = [_run(task, recipe, seed, runs) for seed in seeds]
    readings = [evaluate.best_reading(one, task.splits()["dev"]) for one in trained]
    end = "" if recipe == next(iter(task.RECIPES)) else f"/{recipe}"
    about = {
        "readings": [asdict(reading) for reading in readings],
        "trained_on": [one.about["trained_on"] for one in trained],
        "recipe": asdict(task.RECIPES[recipe]),
    }
    found = [figures(one, reading) for one, reading in zip(trained, readings, strict=True)]
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
    if not _made_by(task.RECIPES[recipe], there.about):
        raise ValueError(f"{folder} was not trained as {recipe} is: move it away, and it is trained anew")
    return there


def _made_by(recipe, about):
    """Say whether what a run tells of its training is what a recipe asks for."""
    plan = json.loads(json.dumps(asdict(recipe.plan)))  # as a file writes it
    wanted = {**plan, **{name: getattr(recipe, name, None) for name in about["learning"]}}
    return all(wanted.get(name) == value for name, value in {**about["plan"], **about["learning"]}.items())
