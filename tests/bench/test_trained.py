"""Suites that train: a run that somebody stopped has no figures, and is not taken for a finished one."""

import contextlib
from dataclasses import replace

import numpy as np
import pytest

from crossattn_ref.bench import captioning as captions_suite
from crossattn_ref.bench import picture_questions as pictures_suite
from crossattn_ref.bench import summarization as summaries_suite
from crossattn_ref.bench import vqa as answers_suite
from crossattn_ref.data import captioning as caption_data
from crossattn_ref.data import summarization as news
from crossattn_ref.data import vqa as question_data
from crossattn_ref.tasks import captioning, picture_questions, vqa
from crossattn_ref.train import loop
from crossattn_ref.train.loop import Plan
from tests.tasks.test_picture_questions import QUICK, write_easy_vqa

LAYER = {"d_model": 24, "n_heads": 2, "d_ff": 24, "dropout": 0.0}


@pytest.fixture
def stopped(monkeypatch):
    """Stop every training after its first step, as Ctrl-C does."""

    @contextlib.contextmanager
    def asked():
        yield lambda: True

    monkeypatch.setattr(loop, "asked_to_stop", asked)


def captions(runs, monkeypatch):
    drawn = caption_data.splits(np.random.default_rng(7), train=0, dev=3, test=3, held_out=3)
    monkeypatch.setattr(captioning, "splits", lambda: drawn)
    recipe = captioning.Recipe(layer=LAYER, stem="patches", n_layers=1, batch=7, n_scenes=23)
    monkeypatch.setitem(captioning.RECIPES, "scenes", replace(recipe, plan=replace(recipe.plan, n_steps=3)))
    return captions_suite.by_recipe("scenes", seeds=(0,), runs=runs)


def answers(runs, monkeypatch):
    drawn = question_data.splits(np.random.default_rng(7), train=0, dev=3, test=3, held_out=3)
    monkeypatch.setattr(vqa, "splits", lambda: drawn)
    recipe = vqa.Recipe(layer=LAYER, stem="patches", n_layers=1, n_parameters=None, batch=7, n_scenes=13)
    monkeypatch.setitem(vqa.RECIPES, "cross", replace(recipe, plan=replace(recipe.plan, n_steps=3)))
    return answers_suite.by_recipe("cross", seeds=(0,), runs=runs)


def easy_vqa(runs, monkeypatch):
    monkeypatch.setitem(picture_questions.RECIPES, "easy-vqa", QUICK)
    return pictures_suite.easy_vqa(corpus=write_easy_vqa(runs / "corpus"), seeds=(0,), runs=runs)


def summaries(runs, monkeypatch):
    monkeypatch.setattr(news, "SIZES", {"train": 200, "dev": 5, "test": 7, "strangers": 5})
    return summaries_suite.measure(seeds=(0,), plan=Plan(n_steps=3, n_warmup=1, validate_every=3), folder=runs)


@pytest.mark.usefixtures("stopped")
@pytest.mark.parametrize("suite", [captions, answers, easy_vqa, summaries])
def test_a_run_that_is_stopped_gives_no_figure_and_no_weights_of_a_finished_one(suite, tmp_path, monkeypatch):
    with pytest.raises(KeyboardInterrupt):
        list(suite(tmp_path, monkeypatch))
    assert not [path for path in tmp_path.rglob("*.safetensors") if not path.name.startswith("weights-")]


@pytest.mark.parametrize(
    ("suite", "task", "recipe"),
    [(captions, captioning, "scenes"), (answers, vqa, "cross")],
    ids=["captions", "answers"],
)
@pytest.mark.parametrize("other", [{"n_scenes": 29}, {"plan": {"n_steps": 4}}], ids=["scenes", "steps"])
def test_a_finished_run_of_another_recipe_is_not_measured_as_one_of_this(
    suite, task, recipe, other, tmp_path, monkeypatch
):
    assert list(suite(tmp_path, monkeypatch))
    assert list(suite(tmp_path, monkeypatch))  # read, and not trained again
    now = task.RECIPES[recipe]
    changed = {name: replace(now.plan, **value) if name == "plan" else value for name, value in other.items()}
    monkeypatch.setitem(task.RECIPES, recipe, replace(now, **changed))
    measured = (captions_suite if task is captioning else answers_suite).by_recipe(recipe, seeds=(0,), runs=tmp_path)
    with pytest.raises(ValueError, match=rf"{recipe}-seed0 was not trained as {recipe} is: move it away"):
        list(measured)
