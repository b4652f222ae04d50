"""The suite that measures the checks: it must see one that accepts a mistake, and one that rejects a right answer."""

import dataclasses
import json

import numpy as np
import pytest

from crossattn_ref.bench import grader, rates
from crossattn_ref.checks import masks
from crossattn_ref.checks.report import Misconception

NAME = "masks/causal_mask"


@pytest.fixture
def planted(monkeypatch):
    """Call the right answer a mistake, and a mistake a right answer; give another mistake the wrong words."""
    exercise = masks.EXERCISES["causal_mask"]
    first, second, *others = exercise.misconceptions
    fake = Misconception("no mistake", exercise.reference, "with nothing wrong", "What is wrong here?")
    renamed = [fake, first, second, dataclasses.replace(first, name="the first under another name")]
    broken = dataclasses.replace(
        exercise, misconceptions=(*renamed, *others), alternatives=(*exercise.alternatives, second.wrong)
    )
    monkeypatch.setitem(masks.EXERCISES, "causal_mask", broken)


@pytest.mark.usefixtures("planted")
def test_a_false_accept_and_a_false_reject_are_seen():
    found = rates.rates(NAME, 0)
    assert found.accepted == [f"{NAME}: no mistake"]
    assert len(found.rejected) == 1


def test_a_sound_exercise_has_neither_and_all_its_mistakes_are_named():
    found = rates.rates(NAME, 0)
    assert len(found.pairs) == rates.PAIRS
    assert found == rates.Rates([], [], [], found.pairs, [], [])


@pytest.mark.usefixtures("planted")
def test_a_mistake_without_its_own_name_is_seen():
    assert f"{NAME}: no mistake" in rates.rates(NAME, 0).unnamed


def test_a_pair_that_is_accepted_and_one_that_nothing_explains_are_seen(monkeypatch):
    exercise = masks.EXERCISES["causal_mask"]
    strange = Misconception("strange", lambda n: np.arange(n * n).reshape(n, n) % 3 == 1, "with thirds", "Why thirds?")
    fake = Misconception("no mistakes", exercise.reference, "with nothing wrong", "What is wrong here?")
    judged = dataclasses.replace(exercise, compositions=lambda: [fake, strange])
    monkeypatch.setitem(masks.EXERCISES, "causal_mask", judged)
    monkeypatch.setattr(rates, "remembering", lambda exercise: dataclasses.replace(exercise, misconceptions=()))
    monkeypatch.setattr(rates, "is_explained", lambda report: bool(set(report.diagnosis) - {strange}))
    found = rates.rates(NAME, 0)
    assert found.pairs_accepted == [f"{NAME}: no mistakes"]
    assert found.pairs_unexplained == [f"{NAME}: strange"]


def test_mistakes_that_are_alike_count_once():
    assert grader.distinct("attention/symmetry_test") < 14
    assert grader.distinct(NAME) > 10


def test_a_sample_is_the_count_of_one_seed(tmp_path):
    measured = {m.metric: m for m in grader.measure(names=[NAME], seeds=(3, 4), folder=tmp_path)}
    assert measured["false_accepts"].samples == measured["false_rejects"].samples == [0.0, 0.0]
    assert measured["named"].samples == [100.0, 100.0]
    assert measured["named"].case == "numpy"
    assert measured["named"].more["exercises"] == 1


def test_a_part_measures_the_exercises_of_one_kind_alone(tmp_path):
    assert not list(grader.PARTS["torch"](names=[NAME], seeds=(3,), folder=tmp_path))
    assert {m.case for m in grader.PARTS["numpy"](names=[NAME], seeds=(3,), folder=tmp_path)} == {"numpy"}


def test_what_was_found_before_an_interruption_is_not_examined_again(tmp_path):
    list(grader.measure(names=[NAME], seeds=(3,), folder=tmp_path))
    (kept,) = tmp_path.iterdir()
    changed = json.loads(kept.read_text("utf-8"))
    changed["3"]["accepted"] = ["seen before"]
    kept.write_text(json.dumps(changed), "utf-8")
    measured = {m.metric: m for m in grader.measure(names=[NAME], seeds=(3, 4), folder=tmp_path)}
    assert measured["false_accepts"].samples == [1.0, 0.0]
    assert measured["false_accepts"].more["which"] == ["seen before"]


def test_what_was_found_with_another_check_does_not_count(tmp_path, monkeypatch):
    list(grader.measure(names=[NAME], seeds=(3,), folder=tmp_path))
    monkeypatch.setattr(grader.records, "code_of", lambda files: "another code" if files else "")
    list(grader.measure(names=[NAME], seeds=(3,), folder=tmp_path))
    assert len(list(tmp_path.iterdir())) == 2


def test_every_exercise_belongs_to_a_part(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(grader, "_case", lambda pool, case, names, *_: seen.extend(names) or ())
    list(grader.measure(folder=tmp_path))
    assert sorted(seen) == sorted(grader.exercises())
