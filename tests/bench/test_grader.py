"""The suite that measures the checks: it must see one that accepts a mistake, and one that rejects a right answer."""

import dataclasses

import numpy as np
import pytest

from crossattn_ref.bench import grader
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
    found = grader.rates(NAME, 0)
    assert found.accepted == [f"{NAME}: no mistake"]
    assert len(found.rejected) == 1


def test_a_sound_exercise_has_neither_and_all_its_mistakes_are_named():
    found = grader.rates(NAME, 0)
    assert len(found.pairs) == grader.PAIRS
    assert found == grader.Rates([], [], [], found.pairs, [], [])


@pytest.mark.usefixtures("planted")
def test_a_mistake_without_its_own_name_is_seen():
    assert f"{NAME}: no mistake" in grader.rates(NAME, 0).unnamed


def test_a_pair_that_is_accepted_and_one_that_nothing_explains_are_seen(monkeypatch):
    exercise = masks.EXERCISES["causal_mask"]
    strange = Misconception("strange", lambda n: np.arange(n * n).reshape(n, n) % 3 == 1, "with thirds", "Why thirds?")
    fake = Misconception("no mistakes", exercise.reference, "with nothing wrong", "What is wrong here?")
    judged = dataclasses.replace(exercise, compositions=lambda: [fake, strange])
    monkeypatch.setitem(masks.EXERCISES, "causal_mask", judged)
    monkeypatch.setattr(grader, "remembering", lambda exercise: dataclasses.replace(exercise, misconceptions=()))
    monkeypatch.setattr(grader, "is_explained", lambda report: bool(set(report.diagnosis) - {strange}))
    found = grader.rates(NAME, 0)
    assert found.pairs_accepted == [f"{NAME}: no mistakes"]
    assert found.pairs_unexplained == [f"{NAME}: strange"]


def test_mistakes_that_are_alike_count_once():
    assert grader.distinct("attention/symmetry_test") < 14
    assert grader.distinct(NAME) > 10


def test_a_sample_is_the_count_of_one_seed():
    measured = {m.metric: m for m in grader.measure(names=[NAME], seeds=(3, 4))}
    assert measured["false_accepts"].samples == measured["false_rejects"].samples == [0.0, 0.0]
    assert measured["named"].samples == [100.0, 100.0]
    assert measured["named"].case == "numpy"
    assert measured["named"].more["exercises"] == 1
