"""The suite of translators: every case and metric that others read, on a corpus and a recipe that cost little."""

import contextlib
import json
from dataclasses import replace

import pytest

from crossattn_ref import records
from crossattn_ref.__main__ import main
from crossattn_ref.bench import suites, translation
from crossattn_ref.data import corpora
from crossattn_ref.data.translation import splits
from crossattn_ref.tasks import evaluate
from crossattn_ref.tasks import translation as task
from crossattn_ref.train import loop
from crossattn_ref.train.loop import Plan

TEXT = task.Recipe(
    sizes={"d_model": 8, "n_heads": 2, "d_ff": 8, "n_encoder_layers": 1, "n_decoder_layers": 1},
    n_tokens=60,
    n_subwords=30,
    plan=Plan(n_steps=2, validate_every=1),
)


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


@pytest.fixture
def corpus(tmp_path):
    """A corpus in the format of Multi30k, in which every sentence is its own translation."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    for split, n in (("train", 31), ("val", 7), ("test_2016_flickr", 5)):
        lines = [" ".join("abcdefg"[(i * k + k) % 7] for k in range(1, 3 + i % 4)) for i in range(n)]
        for language in ("en", "de"):
            (folder / f"{split}.lc.norm.tok.{language}").write_text("\n".join(lines) + "\n")
    return folder


def trained(runs, corpus, recipe, seed, suffix=""):
    about = {"data": "multi30k", "recipe": recipe}
    folder = runs / f"multi30k-en-de{suffix}-seed{seed}"
    task.learn(TEXT, task.corpus("multi30k", folder=corpus), seed=seed, folder=folder, about=about)
    return folder


def test_the_recipe_that_is_better_on_the_development_split_has_the_case_without_a_name(tmp_path, corpus):
    folders = [trained(tmp_path, corpus, "text", seed) for seed in (0, 1)]
    other = trained(tmp_path, corpus, "text-long", 2, suffix="-text-long")
    list(translation.text(runs=tmp_path, corpus=corpus))
    for folder, bleu in zip([*folders, other], (3.0, 5.0, 4.5), strict=True):
        scores = json.loads((folder / "scores.json").read_text())
        (folder / "scores.json").write_text(json.dumps(scores | {"dev_bleu": bleu}))
    found = {(m.case, m.metric): m for m in translation.text(runs=tmp_path, corpus=corpus)}
    better, worse = "multi30k/en-de/test2016/beam5", "multi30k/en-de/test2016/beam5/text"
    for metric in ("bleu", "chrf", "parameters", "train_seconds"):
        assert (found[better, metric].seeds, found[worse, metric].seeds) == ([2], [0, 1])
    assert found["multi30k/en-de/val/beam5/text", "bleu"].samples == [3.0, 5.0]
    assert "tok:none" in found[better, "bleu"].more["signature"]
    assert "nc:6" in found[better, "chrf"].more["signature"]
    assert found[better, "bleu"].more["runs"][0]["alpha"] in evaluate.ALPHAS
    (history,) = found[better, "train_seconds"].more["history"]
    assert [row["step"] for row in history] == [1, 2]


def test_the_test_split_is_scored_once_and_with_what_the_development_split_chose(tmp_path, corpus, monkeypatch):
    folder, seen = trained(tmp_path, corpus, "text", 0), []
    translations, n_test = evaluate.translations, 5

    def noting(ready, sentences, **options):
        seen.append((len(sentences), options["alpha"], options["width"]))
        return translations(ready, sentences, **options)

    monkeypatch.setattr(evaluate, "translations", noting)
    first = list(translation.text(runs=tmp_path, corpus=corpus))
    alpha = json.loads((folder / "scores.json").read_text())["about"]["alpha"]
    assert [one for one in seen if one[0] == n_test] == [(n_test, alpha, 5)]
    seen.clear()
    assert list(translation.text(runs=tmp_path, corpus=corpus)) == first
    assert not seen


def test_a_run_that_is_not_finished_is_passed_over(tmp_path, corpus):
    trained(tmp_path, corpus, "text", 0)
    unfinished = trained(tmp_path, corpus, "text", 1)
    (unfinished / "translator.safetensors").unlink()
    found = {(m.case, m.metric): m for m in translation.text(runs=tmp_path, corpus=corpus)}
    assert found["multi30k/en-de/test2016/beam5", "bleu"].seeds == [0]
    assert not (unfinished / "scores.json").exists()


def test_a_corpus_is_handed_to_the_part_that_reads_one_and_the_signature_is_printed(
    tmp_path, corpus, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(corpora, "_fetched", None)  # nothing is fetched
    trained(tmp_path / "runs", corpus, "text", 0)
    records_folder = tmp_path / "measurements"
    asked = ["bench", "translation", "--part", "multi30k", "--corpus", str(corpus), "--folder", str(records_folder)]
    assert main(asked) == 0
    shown = capsys.readouterr().out
    assert "tok:none" in shown
    assert "nc:6" in shown
    found = records.find("translation", "multi30k/en-de/test2016/beam5", "bleu", records_folder)
    assert found.command == "crossattn bench translation --part multi30k"
    assert str(tmp_path) not in json.dumps(found.more)
    assert main(["bench", "multihead", "--corpus", str(corpus)]) == 2
    assert "corpus must be left out: crossattn bench multihead reads none" in capsys.readouterr().err


@pytest.mark.usefixtures("small")
def test_a_run_that_is_stopped_gives_no_figure_and_leaves_the_records_as_they_were(tmp_path, monkeypatch, capsys):
    @contextlib.contextmanager
    def asked():
        yield lambda: True

    monkeypatch.setattr(loop, "asked_to_stop", asked)
    assert main(["bench", "translation", "--part", "grammar/glass-box", "--folder", str(tmp_path)]) == 130
    assert "what was not finished is not recorded" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
