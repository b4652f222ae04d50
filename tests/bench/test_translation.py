"""The suite of translators: every case and metric that others read, on a corpus and a recipe that cost little."""

from dataclasses import replace

import pytest

from crossattn_ref import records
from crossattn_ref.bench import suites, translation
from crossattn_ref.data.translation import splits
from crossattn_ref.tasks import translation as task


@pytest.fixture
def small(monkeypatch):
    corpus = {name: pairs[:20] for name, pairs in splits().items()}
    recipe = task.RECIPES["glass-box"]
    quick = replace(recipe, plan=replace(recipe.plan, n_steps=2, validate_every=2))
    monkeypatch.setattr(translation, "splits", lambda: corpus)
    monkeypatch.setitem(task.RECIPES, "glass-box", quick)
    return quick


@pytest.mark.usefixtures("small")
def test_the_grammar_is_measured_on_every_split_for_every_seed():
    found = {(m.case, m.metric): m for m in translation.grammar("glass-box", seeds=(0, 1))}
    for metric in ("aer", "exact_match", "train_seconds", "parameters"):
        assert found["grammar/glass-box", metric].seeds == [0, 1]
    for split in ("dev", "held_out", "rare", "chain"):
        assert 0 <= found[f"grammar/glass-box/{split}", "aer"].value <= 100
    assert all(len(m.samples) == 2 for m in found.values())
    reading = found["grammar/glass-box", "aer"].more["readings"][0]
    assert reading["layer"] == 0
    assert ("grammar/glass-box/links/noun", "possible") in found


@pytest.mark.usefixtures("small")
def test_a_part_is_recorded_without_touching_the_others(tmp_path, monkeypatch):
    monkeypatch.setattr(translation, "SEEDS", (0,))
    monkeypatch.setitem(translation.PARTS, "grammar/glass-box", lambda: translation.grammar("glass-box", seeds=(0,)))
    first = list(suites.run("translation", part="grammar/glass-box", folder=tmp_path))
    written = records.read("translation", tmp_path)
    monkeypatch.setitem(translation.PARTS, "grammar/standard", lambda: iter([]))
    list(suites.run("translation", part="grammar/standard", folder=tmp_path))

    assert records.read("translation", tmp_path) == written
    assert {(r.case, r.metric, r.value) for r in written} == {(r.case, r.metric, r.value) for r in first}
    assert first[0].command == "crossattn bench translation --part grammar/glass-box"
    with pytest.raises(ValueError, match=r"part must be one of grammar/glass-box, .*, got 'all'"):
        list(suites.run("translation", part="all", folder=tmp_path))
    with pytest.raises(ValueError, match="part must be one of none in multihead"):
        list(suites.run("multihead", part="all", folder=tmp_path))


def test_text_without_a_run_says_how_to_make_one(tmp_path):
    with pytest.raises(FileNotFoundError, match="crossattn train translation --data multi30k"):
        list(translation.text(runs=tmp_path))
