"""Answerers of questions that others ask, as parts of the suite vqa: easy-VQA, and NLVR; three seeds each.

Both read a folder of the user's. Of easy-VQA a tenth of the training pictures is set apart, recipes are chosen on that,
and each model answers the test set once. NLVR is trained on its training set where the folder has it and tested on the
development set; where it has none, the development set is cut into folds, other ones for every seed, and each statement
is judged by a model that was trained on the other folds. All statements of one presentation lie in one fold.

Beside every accuracy stand those who do not look: tasks.evaluate_picture_questions says which.

A run that lies finished in runs/, as `crossattn train vqa --data` leaves it, is read; what is not there is trained.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from crossattn_ref.bench.measure import Measurement
from crossattn_ref.bench.trained import to_its_end
from crossattn_ref.data.picture_corpora import nlvr_file
from crossattn_ref.models.vqa import count_parameters
from crossattn_ref.tasks import picture_questions
from crossattn_ref.tasks.evaluate_picture_questions import right
from crossattn_ref.tasks.picture_questions import RECIPES, SHIPPED, Corpus, Recipe
from crossattn_ref.tasks.trained import Trained

SEEDS = (0, 1, 2)
RUNS = Path("runs")
N_FOLDS = 5
IN_FOLDS = (
    replace(  # smaller and shorter: there is little to learn from, and on the public test set more steps added none
        RECIPES["nlvr"],
        side=48,
        patch=12,
        layer={"d_model": 32, "n_heads": 4, "d_ff": 64, "dropout": 0.1},
        plan=replace(RECIPES["nlvr"].plan, n_steps=150, n_warmup=30, validate_every=150),
    )
)


def easy_vqa(*, corpus: Path | None = None, seeds: Sequence[int] = SEEDS, runs: Path = RUNS) -> Iterator[Measurement]:
    """Train on easy-VQA with every seed and answer its test set, "all" questions and each kind of answer."""
    yield from _trained("easy-vqa", "easy-vqa/test", _there(corpus), seeds, runs)


def nlvr(*, corpus: Path | None = None, seeds: Sequence[int] = SEEDS, runs: Path = RUNS) -> Iterator[Measurement]:
    """Judge the statements of NLVR's development set: trained on the training set, or cross-validated without."""
    if _has_training_set(_there(corpus)):
        yield from _trained("nlvr", "nlvr/dev", corpus, seeds, runs)
    else:
        yield from cross_validated(corpus, seeds=seeds, runs=runs)


def cross_validated(folder: Path, *, seeds: Sequence[int] = SEEDS, runs: Path = RUNS) -> Iterator[Measurement]:
    """Judge every statement of the development set by a model that was trained on the folds without it."""
    examples, found = picture_questions.nlvr(folder, "dev", side=IN_FOLDS.side), []
    for seed in seeds:
        corpora = [
            picture_questions.numbered(rest, dev=fold, test=fold)
            for rest, fold in picture_questions.folds(examples, N_FOLDS, seed=seed)
        ]
        names = [f"nlvr-fold{number}-seed{seed}" for number in range(N_FOLDS)]
        found.append([
            (_run(IN_FOLDS, corpus, seed, runs / name), corpus) for name, corpus in zip(names, corpora, strict=True)
        ])  # fmt: skip
    yield from _measured("nlvr/dev/cross-validated", found, seeds, {"folds": N_FOLDS, "recipe": asdict(IN_FOLDS)})


def _trained(data, case, folder, seeds, runs):
    recipe = RECIPES[data]
    corpus = picture_questions.corpus(data, folder, side=recipe.side)
    found = [[(_run(recipe, corpus, seed, runs / f"{data}-seed{seed}"), corpus)] for seed in seeds]
    yield from _measured(case, found, seeds, {"recipe": asdict(recipe)})


def _run(recipe: Recipe, corpus: Corpus, seed: int, folder: Path) -> Trained:
    if not (folder / SHIPPED.name).exists():
        return to_its_end(picture_questions.learn(recipe, corpus, seed=seed, folder=folder))
    there = picture_questions.load(folder)
    if tuple(there.about["words"]) != corpus.words.words or tuple(there.about["answers"]) != corpus.answers:
        raise ValueError(f"{folder} was trained on another corpus: move it away, and it is trained anew")
    return there


def _measured(case, found, seeds, about) -> Iterator[Measurement]:
    """Measure models, several a seed where there are folds -> accuracies, seconds of training and parameters."""
    trained = [one for models in found for one, _ in models]
    about |= {name: [one.about[name] for one in trained] for name in ("trained_on", "threads", "dev")}
    accuracies = [_accuracies(models) for models in found]
    for name in accuracies[0]:
        samples = [found[name] for found in accuracies]
        yield Measurement(case=case + name, metric="accuracy", unit="%", samples=samples, seeds=list(seeds), more=about)
    whole = {
        ("train_seconds", "s"): [sum(one.about["train_seconds"] for one, _ in models) for models in found],
        ("parameters", "parameters"): [float(count_parameters(models[0][0].model)) for models in found],
    }
    for (metric, unit), samples in whole.items():
        yield Measurement(case=case, metric=metric, unit=unit, samples=samples, seeds=list(seeds), more=about)


def _accuracies(models) -> Mapping[str, float]:
    """Compute accuracies over the test questions of all models of one seed, by the end of their case's name."""
    parts = [right(trained, corpus, "test") for trained, corpus in models]
    found = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    kinds = np.concatenate([_kinds(corpus) for _, corpus in models])
    shares = {"" if name == "model" else f"/{name}": hits.mean() for name, hits in found.items()}
    if len(set(kinds)) > 1:
        shares |= {f"/{kind}": found["model"][kinds == kind].mean() for kind in sorted(set(kinds))}
    return {name: 100 * float(share) for name, share in shares.items()}


def _kinds(corpus):
    """Say of each test question what kind of answer it has: "yes-or-no", "shape" or "colour", as in easy-VQA."""
    kind = dict.fromkeys(("yes", "no", "true", "false"), "yes-or-no")
    kind |= dict.fromkeys(("circle", "rectangle", "triangle"), "shape")
    of_answer = [kind.get(answer, "colour") for answer in corpus.answers]
    return np.array([*of_answer, "unseen"])[corpus.splits["test"].answers]


def _there(folder):
    if folder is None:
        raise ValueError("corpus must name the folder into which you have unpacked the corpus: --corpus FOLDER")
    return folder


def _has_training_set(folder):
    try:
        return nlvr_file(folder, "train").is_file()
    except FileNotFoundError:
        return False
