"""The suite of captions: every case and metric that others read, from runs that cost little."""

from dataclasses import replace

import numpy as np
import pytest

from crossattn_ref import records
from crossattn_ref.bench import captioning as suite
from crossattn_ref.bench import suites
from crossattn_ref.data import captioning as data
from crossattn_ref.tasks import captioning, evaluate_captions

LAYER = {"d_model": 24, "n_heads": 2, "d_ff": 24, "dropout": 0.0}


@pytest.fixture
def small(monkeypatch):
    """Let recipes and splits be small."""
    drawn = data.splits(np.random.default_rng(7), train=0, dev=11, test=13, held_out=17)
    monkeypatch.setattr(captioning, "splits", lambda: drawn)
    recipe = captioning.Recipe(layer=LAYER, stem="patches", n_layers=1, batch=7, n_scenes=23)
    for name, rivals in (("scenes", "seen"), ("plain", "all")):
        quick = replace(recipe, rivals=rivals, plan=replace(recipe.plan, n_steps=2, validate_every=2))
        monkeypatch.setitem(captioning.RECIPES, name, quick)
    return drawn


def test_every_case_that_others_read_is_measured_for_every_seed(small, tmp_path):
    found = {(m.case, m.metric): m for m in suite.by_recipe("scenes", seeds=(0, 1), runs=tmp_path)}
    for split in ("test", "held-out"):
        for metric in ("exact_match", "object_f1", "pointing", "mass"):
            measured = found[f"scenes/{split}", metric]
            assert measured.seeds == [0, 1]
            assert all(0 <= sample <= 100 for sample in measured.samples)
        assert (f"scenes/{split}/blank", "object_f1") in found
    assert found["scenes", "train_seconds"].unit == "s"
    assert len(found["scenes/test", "pointing"].more["readings"]) == 2


def test_figures_are_those_of_the_run_of_each_seed_and_a_finished_run_is_read(small, tmp_path, monkeypatch):
    first = list(suite.by_recipe("scenes", seeds=(0, 1), runs=tmp_path))
    monkeypatch.setattr(captioning, "learn", None)  # to train again would fail
    again = list(suite.by_recipe("scenes", seeds=(1, 0), runs=tmp_path))
    assert [m.samples[::-1] for m in again] == [m.samples for m in first]
    trained = captioning.load(tmp_path / "captioning-scenes-seed1")
    (f1,) = (m for m in first if (m.case, m.metric) == ("scenes/held-out", "object_f1"))
    assert f1.samples[1] == evaluate_captions.scores(trained, small["held-out"])["object_f1"]
    assert f1.more["trained_on"] == [trained.about["trained_on"]] * 2


@pytest.mark.usefixtures("small")
def test_another_recipe_has_cases_of_its_own_and_is_recorded_beside_the_first(tmp_path, monkeypatch):
    for name in ("scenes", "plain"):
        monkeypatch.setitem(suite.PARTS, name, lambda name=name: suite.by_recipe(name, seeds=(0,), runs=tmp_path))
        list(suites.run("captioning", part=name, folder=tmp_path))
    written = {(record.case, record.metric) for record in records.read("captioning", tmp_path)}
    assert {
        ("scenes/test", "exact_match"),
        ("scenes/test/plain", "exact_match"),
        ("scenes/plain", "parameters"),
    } <= written
