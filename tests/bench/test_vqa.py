"""The suite of answers: every case and metric that others read, from runs that cost little."""

from dataclasses import replace

import numpy as np
import pytest

from crossattn_ref.bench import vqa as suite
from crossattn_ref.data import vqa as data
from crossattn_ref.tasks import evaluate_answers, vqa

LAYER = {"d_model": 24, "n_heads": 2, "d_ff": 24, "dropout": 0.0}


@pytest.fixture
def small(monkeypatch):
    """Let recipes, splits and the corpus be small."""
    drawn = data.splits(np.random.default_rng(7), train=0, dev=11, test=13, held_out=17)
    monkeypatch.setattr(vqa, "splits", lambda: drawn)
    monkeypatch.setattr(vqa, "PART", 13)
    recipe = vqa.Recipe(layer=LAYER, stem="patches", n_layers=1, n_parameters=None, batch=7, n_scenes=13)
    quick = replace(recipe, plan=replace(recipe.plan, n_steps=2, validate_every=2))
    for fusion in ("cross", "co-attention"):
        monkeypatch.setitem(vqa.RECIPES, fusion, replace(quick, fusion=fusion))
    return drawn


def test_every_case_that_others_read_is_measured_for_every_seed(small, tmp_path):
    found = {(m.case, m.metric): m for m in suite.by_recipe("cross", seeds=(0, 1), runs=tmp_path)}
    for split in ("test", "held-out"):
        for case in (f"scenes/{split}", f"scenes/{split}/verify_rel"):
            assert found[case, "accuracy"].seeds == [0, 1]
            assert (case, "pointing") in found
            assert (case, "pointing_of_weights") in found
        assert (f"scenes/{split}/blank", "accuracy") in found
        assert (f"scenes/{split}/verify_rel/blank", "accuracy") in found
    trained = vqa.load(tmp_path / "vqa-cross-seed1")
    expected = evaluate_answers.accuracy(trained, small["held-out"])
    assert found["scenes/held-out", "accuracy"].samples[1] == expected["all"]
    assert found["scenes/held-out/count", "accuracy"].samples[1] == expected["count"]
    looked = {name: evaluate_answers.attention(trained, vqa.numbered(small[name])) for name in ("dev", "test")}
    plain = evaluate_answers.best_reading(looked["dev"], small["dev"], among=("all", "mark"))
    by_weights = evaluate_answers.pointing(looked["test"], small["test"], plain)
    assert found["scenes/test", "pointing_of_weights"].samples[1] == by_weights["all"]
    other = {(m.case, m.metric) for m in suite.by_recipe("co-attention", seeds=(0,), runs=tmp_path)}
    assert {("scenes/test/co-attention", "accuracy"), ("scenes/test/exist/co-attention", "pointing")} <= other


def test_the_guesser_has_learnt_from_the_words_of_the_corpus_alone(small):
    found = {m.case: m for m in suite.guesses() if m.metric == "accuracy"}
    learnt = found["scenes/test/question-only"].more["questions_learnt_from"]
    assert learnt == sum(len(vqa.draw_part(i, 13, **vqa.RECIPES["cross"].drawing)) for i in range(suite.N_PARTS))
    kinds = [question.kind for question in small["test"].questions]
    mean = np.mean([found[f"scenes/test/{kind}/question-only"].value for kind in kinds])
    assert found["scenes/test/question-only"].value == pytest.approx(mean)


def test_who_points_at_random_is_measured_for_every_kind(small):
    found = {m.case: m.value for m in suite.guesses() if m.metric == "pointing"}
    for split in ("test", "held-out"):
        expected = evaluate_answers.pointing_by_chance(small[split])
        for name in ("any-tile", "any-object"):
            assert found[f"scenes/{split}/{name}"] == expected[name]["all"]
            assert found[f"scenes/{split}/verify_rel/{name}"] == expected[name]["verify_rel"]


def test_the_steps_of_all_recipes_are_timed_beside_those_of_cross_attention(small, monkeypatch):
    for name, recipe in vqa.RECIPES.items():
        monkeypatch.setitem(vqa.RECIPES, name, replace(recipe, layer=LAYER, n_parameters=None, n_layers=1, batch=3))
    found = {m.case: m for m in suite.steps(seconds=0)}
    assert set(found) == {f"scenes/step/{recipe}" for recipe in vqa.RECIPES}
    assert found["scenes/step/cross"].value == 1
    times = {case: np.median(m.more["microseconds"]) for case, m in found.items()}
    for case, measurement in found.items():
        assert measurement.value == pytest.approx(times[case] / times["scenes/step/cross"])
