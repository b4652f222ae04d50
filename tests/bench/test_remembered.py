"""Mistakes that remember: each question is put to each of them once, and nobody can tell."""

import numpy as np
import pytest

from crossattn_ref.bench.remembered import remembering
from crossattn_ref.checks.exercise import Exercise, Property, examine
from crossattn_ref.checks.report import Misconception
from crossattn_ref.checks.subject import LocalSubject
from crossattn_ref.checks.table import find


class Counted:
    def __init__(self, factor):
        self.factor, self.calls = factor, 0

    def __call__(self, x):
        self.calls += 1
        return self.factor * x


def counted_exercise():
    tripled = Misconception("tripled", Counted(3), "with three in place of two", "How many times is twice?")
    properties = (Property("doubles", 1, lambda ask, rng: ask.matches(x=rng.standard_normal(3))),)
    return Exercise(reference=Counted(2), plain=Counted(2), properties=properties, misconceptions=(tripled,)), tripled


def test_a_mistake_is_asked_once_however_many_answers_are_examined():
    exercise, tripled = counted_exercise()
    known = remembering(exercise)
    for _ in range(5):
        assert examine("test", known, LocalSubject(lambda x: 3 * x)).diagnosis == (tripled,)
    assert tripled.wrong.calls == 1


def test_what_was_asked_before_makes_no_difference_to_a_function():
    exercise, tripled = counted_exercise()
    known = remembering(exercise)
    for order in ([0, 1], [1], [1, 0], [0]):
        subject = known.local(tripled.wrong)
        assert [subject.call(np.full(2, x)).value.tolist() for x in order] == [[3 * x, 3 * x] for x in order]
    assert tripled.wrong.calls == 2


def test_another_seed_asks_another_question():
    exercise, tripled = counted_exercise()
    known = remembering(exercise)
    for seed in range(5):
        assert examine("test", known, LocalSubject(lambda x: 3 * x), seed).diagnosis == (tripled,)
    assert tripled.wrong.calls == 5


def test_what_is_examined_is_asked_every_time():
    exercise, _ = counted_exercise()
    known, answer = remembering(exercise), Counted(2)
    for _ in range(5):
        examine("test", known, LocalSubject(answer))
    assert answer.calls == 5


def test_an_array_that_may_not_be_written_into_is_another_question():
    def writes(x):
        x += 1.0
        return x

    locked = np.zeros(2)
    locked.flags.writeable = False
    subject = remembering(counted_exercise()[0]).local(writes)
    assert subject.call(np.zeros(2)).error is None
    assert subject.call(locked).error.kind == "ValueError"
    assert subject.call(np.zeros(2, np.float32)).value.dtype == np.float32
    assert subject.call(np.zeros(2, np.int64)).error.kind == "UFuncTypeError"


@pytest.mark.parametrize(
    "name", ["masks/masked_attention", "heads/MultiHeadAttention", "cross-attention/source_swap_test"]
)
def test_reports_are_those_of_the_plain_exercise(name):
    exercise = find(name)
    known = remembering(exercise)
    for mistake in exercise.misconceptions[::7]:
        plain, remembered = (examine(name, e, exercise.local(mistake.wrong), 11) for e in (exercise, known))
        assert str(plain) == str(remembered)
        assert plain.diagnosis == remembered.diagnosis
