"""The parts of the suite vqa that read corpora of others: every case, from tiny corpora in the real form."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from crossattn_ref.__main__ import main
from crossattn_ref.bench import picture_questions as suite
from crossattn_ref.data.picture_corpora import nlvr
from crossattn_ref.tasks import picture_questions
from crossattn_ref.tasks.evaluate_picture_questions import right
from tests.tasks.test_picture_questions import QUICK, write_easy_vqa

NLVR = Path(__file__).parents[1] / "data" / "nlvr"
FOUR_BOXES = replace(QUICK, side=16, vary="boxes")


def test_easy_vqa_is_measured_for_every_seed_beside_those_who_do_not_look(tmp_path, monkeypatch):
    monkeypatch.setitem(picture_questions.RECIPES, "easy-vqa", QUICK)
    folder = write_easy_vqa(tmp_path / "corpus")
    found = {(m.case, m.metric): m for m in suite.easy_vqa(corpus=folder, seeds=(0, 1), runs=tmp_path)}
    accuracies = {case for case, metric in found if metric == "accuracy"}
    ends = ("", "/blank", "/question-only", "/majority", "/yes-or-no", "/colour")
    assert accuracies == {f"easy-vqa/test{end}" for end in ends}
    assert all(one.seeds == [0, 1] and len(one.samples) == 2 for one in found.values())
    assert found["easy-vqa/test", "train_seconds"].samples[1] > 0
    corpus = picture_questions.corpus("easy-vqa", folder, side=16)
    trained = picture_questions.load(tmp_path / "easy-vqa-seed1")
    expected = right(trained, corpus, "test")
    said = [corpus.answers[answer] for answer in corpus.splits["test"].answers]
    of_two = [hit for hit, answer in zip(expected["model"], said, strict=True) if answer in ("yes", "no")]
    assert found["easy-vqa/test", "accuracy"].samples[1] == pytest.approx(100 * expected["model"].mean())
    assert found["easy-vqa/test/yes-or-no", "accuracy"].samples[1] == pytest.approx(100 * np.mean(of_two))
    assert found["easy-vqa/test/blank", "accuracy"].samples[1] == pytest.approx(100 * expected["blank"].mean())
    assert found["easy-vqa/test", "accuracy"].more["threads"][0] >= 1


def test_a_run_that_is_there_is_read_and_one_of_another_corpus_is_refused(tmp_path, monkeypatch):
    monkeypatch.setitem(picture_questions.RECIPES, "easy-vqa", QUICK)
    folder = write_easy_vqa(tmp_path / "corpus")
    first = [m.samples for m in suite.easy_vqa(corpus=folder, seeds=(0,), runs=tmp_path)]
    monkeypatch.setattr(picture_questions, "learn", None)  # whoever trains again fails
    assert first == [m.samples for m in suite.easy_vqa(corpus=folder, seeds=(0,), runs=tmp_path)]
    text = (folder / "train" / "questions.json").read_text()
    (folder / "train" / "questions.json").write_text(text.replace("green", "mauve"))
    with pytest.raises(ValueError, match="was trained on another corpus: move it away"):
        list(suite.easy_vqa(corpus=folder, seeds=(0,), runs=tmp_path))


@pytest.fixture
def small_folds(monkeypatch):
    monkeypatch.setattr(suite, "IN_FOLDS", FOUR_BOXES)
    monkeypatch.setattr(suite, "N_FOLDS", 3)


def test_nlvr_without_a_training_set_is_cross_validated(tmp_path, small_folds):
    found = {(m.case, m.metric): m for m in suite.nlvr(corpus=NLVR, seeds=(0, 1), runs=tmp_path)}
    case = "nlvr/dev/cross-validated"
    assert {name for name, metric in found if metric == "accuracy"} == {
        case, f"{case}/blank", f"{case}/question-only", f"{case}/majority"
    }  # fmt: skip
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"nlvr-fold{fold}-seed{seed}" for fold in range(3) for seed in (0, 1)
    ]
    truths = {one.identifier: one.truth for one in nlvr(NLVR / "dev.json")}
    held = [len(part.answers) for _, part in picture_questions.folds(picture_questions.nlvr(NLVR, "dev", side=16), 3)]
    assert sum(held) == len(truths)
    expected = [100 * _right_of_seed(tmp_path, seed) / len(truths) for seed in (0, 1)]
    assert found[case, "accuracy"].samples == pytest.approx(expected)
    assert found[case, "accuracy"].more["folds"] == 3


def _right_of_seed(runs, seed):
    """Count right judgements, model by model, from what the folders hold."""
    hits = 0
    read = picture_questions.nlvr(NLVR, "dev", side=16)
    for number, (rest, fold) in enumerate(picture_questions.folds(read, 3, seed=seed)):
        corpus = picture_questions.numbered(rest, test=fold)
        trained = picture_questions.load(runs / f"nlvr-fold{number}-seed{seed}")
        assert tuple(trained.about["words"]) == corpus.words.words  # of these folds, and no others
        hits += right(trained, corpus, "test")["model"].sum()
    return hits


def test_the_majority_is_that_of_the_other_folds(tmp_path, small_folds):
    found = {m.case: m for m in suite.nlvr(corpus=NLVR, seeds=(1,), runs=tmp_path) if m.metric == "accuracy"}
    read, hits = picture_questions.nlvr(NLVR, "dev", side=16), 0
    for rest, fold in picture_questions.folds(read, 3, seed=1):
        usual = Counter(rest.answers).most_common(1)[0][0]
        hits += fold.answers.count(usual)
    assert found["nlvr/dev/cross-validated/majority"].samples == [pytest.approx(100 * hits / 12)]


def test_nlvr_with_a_training_set_is_trained_on_that_and_tested_on_dev(tmp_path, monkeypatch):
    monkeypatch.setitem(picture_questions.RECIPES, "nlvr", FOUR_BOXES)
    lines = (NLVR / "dev.json").read_text().splitlines()
    (tmp_path / "nlvr").mkdir()
    (tmp_path / "nlvr" / "dev.json").write_text("\n".join(lines[:3]))
    (tmp_path / "nlvr" / "train.json").write_text("\n".join(lines))
    found = {(m.case, m.metric): m for m in suite.nlvr(corpus=tmp_path / "nlvr", seeds=(0,), runs=tmp_path)}
    assert ("nlvr/dev", "accuracy") in found
    assert found["nlvr/dev", "accuracy"].samples[0] in [pytest.approx(100 * n / 3) for n in range(4)]
    assert not any("cross-validated" in case for case, _ in found)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "corpus must name the folder into which you have unpacked the corpus: --corpus FOLDER"),
        (["--corpus", "nowhere"], "is not there: name the folder into which you have unpacked the corpus"),
    ],
)
@pytest.mark.parametrize("part", ["easy-vqa", "nlvr"])
def test_the_command_says_in_one_line_which_folder_it_needs(part, arguments, message, tmp_path, capsys):
    assert main(["bench", "vqa", "--part", part, "--folder", str(tmp_path), *arguments]) == 2
    told = capsys.readouterr().err
    assert message in told
    assert told.count("\n") == 1
