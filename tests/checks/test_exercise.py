from dataclasses import replace

import numpy as np
import pytest

from crossattn_ref import checks
from crossattn_ref.checks.compare import Violation
from crossattn_ref.checks.exercise import Exercise, Property, examine, signature
from crossattn_ref.checks.report import Misconception
from crossattn_ref.checks.subject import LocalSubject


def _doubles(ask, rng):
    ask.matches(x=rng.standard_normal(3))


def _keeps_zero(ask, rng):
    ask.matches(x=np.zeros(3))


TRIPLED = Misconception("tripled", lambda x: 3 * x, "with three in place of two", "How many times is twice?")
SHIFTED = Misconception("shifted", lambda x: 2 * x + 1, "with one added", "What becomes of zero?")
DOUBLING = Exercise(
    reference=lambda x: 2 * x,
    plain=lambda x: x + x,
    properties=(Property("doubles", 3, _doubles), Property("keeps zero", 1, _keeps_zero)),
    misconceptions=(TRIPLED, SHIFTED),
    compositions=lambda: [Misconception("both", lambda x: 3 * x + 1, "with both", "Which two?")],
)


def judge(answer, exercise=DOUBLING, seed=0):
    return examine("test/doubling", exercise, LocalSubject(answer), seed)


def test_the_score_is_the_share_of_the_properties_that_passed():
    assert judge(lambda x: x + x).score == 1
    assert judge(lambda x: 3 * x).score == 0.25
    assert judge(lambda x: 2 * x + 1).score == 0


def test_a_known_mistake_is_named_in_every_finding_that_failed_and_in_no_other():
    report = judge(TRIPLED.wrong)
    assert report.diagnosis == (TRIPLED,)
    assert [finding.misconception for finding in report.findings] == ["tripled", None]


def test_a_mistake_of_two_is_looked_for_when_no_single_one_explains_the_answer():
    assert [m.name for m in judge(lambda x: 1 + x * 3).diagnosis] == ["both"]


@pytest.mark.parametrize(
    "answer", [lambda x: 3.1 * x, lambda x: 2 * x**2, lambda x: -x], ids=["near", "square", "sign"]
)
def test_an_unknown_mistake_is_not_named(answer):
    report = judge(answer)
    assert report.diagnosis == ()
    assert report.score < 1
    failed = next(finding for finding in report.findings if not finding.passed)
    assert "wrong" in failed.message
    assert set(failed.counterexample) == {"x"}


def test_an_answer_that_equals_a_mistake_on_one_property_only_is_not_named_for_it():
    assert judge(lambda x: 3 * x if x.any() else x + 7).diagnosis == ()


def test_nothing_is_earned_once_a_gate_fails():
    gated = Exercise(
        reference=DOUBLING.reference,
        plain=DOUBLING.plain,
        properties=(DOUBLING.properties[0], Property("keeps zero", 1, _keeps_zero, gate=True)),
    )
    assert judge(lambda x: 2 * x + (not x.any()), gated).score == 0
    assert judge(lambda x: 2 * x, gated).score == 1


def test_an_answer_may_compute_in_float32():
    assert judge(lambda x: (2 * x).astype(np.float32)).score == 1


def test_a_question_in_half_precision_forgives_its_rounding_and_no_other():
    def in_half(ask, rng):
        ask.matches(x=rng.standard_normal(5).astype(np.float16))

    thirds = Exercise(reference=lambda x: x / 3, plain=lambda x: x / 3, properties=(Property("thirds", 1, in_half),))
    assert judge(lambda x: x / 3, thirds).score == 1
    assert judge(lambda x: x.astype(np.float64) / 3, thirds).score == 1
    assert judge(lambda x: x / 3.1, thirds).score == 0


def test_of_compositions_that_come_to_the_same_one_is_named():
    both = [Misconception(name, lambda x: 3 * x + 1, "with both", "Which two?") for name in ("one way", "another")]
    report = judge(lambda x: 1 + x * 3, replace(DOUBLING, compositions=lambda: both))
    assert [m.name for m in report.diagnosis] == ["one way"]


def test_a_mistake_that_raises_is_named_and_the_error_shown():
    raising = Misconception("no zeros", lambda x: 2 * x if x.any() else x @ "no", "when zeros fail", "What of zero?")
    text = str(judge(lambda x: x + x if x.any() else x @ "zero", replace(DOUBLING, misconceptions=(raising,))))
    assert "what one gets when zeros fail" in text
    assert "keeps zero: it raised " in text


def test_a_mistake_that_fails_everywhere_in_one_way_is_named_as_well():
    fewer = Misconception("shorter", lambda x: x[1:], "with one number fewer", "How many numbers?")
    shapes = replace(DOUBLING, misconceptions=(fewer,))
    text = str(judge(lambda x: x[:2] * 0 + x[1:], shapes))
    assert "Nothing passed: it returned shape (2,), where (3,) is wanted" in text
    assert "with one number fewer" in text


def test_a_result_further_off_than_float32_would_be_is_wrong():
    assert judge(lambda x: 2 * x + 1e-5).score == 0


def test_the_reference_gets_its_own_copy_so_that_an_answer_cannot_change_the_question():
    def zeroes_its_input(x):
        x[:] = 0
        return x

    assert judge(zeroes_its_input).score == 0.25  # right for zeros, wrong for the rest


def test_a_keyboard_interrupt_ends_the_check_and_is_no_crash():
    asked = []

    def slow(x):
        asked.append(x)
        raise KeyboardInterrupt

    report = judge(slow)
    assert len(asked) == 1
    assert report.score == 0
    assert "Interrupted" in str(report)


def test_what_an_answer_prints_or_warns_is_told_and_costs_nothing():
    def chatty(x):
        print("hello from inside")
        return 2 * x

    report = judge(chatty)
    assert report.score == 1
    assert "hello from inside" in str(report)


def test_a_property_that_fails_says_why():
    def never(ask, rng):
        raise Violation("it is Monday", {"day": 1})

    report = judge(lambda x: x, Exercise(reference=DOUBLING.reference, properties=(Property("not today", 1, never),)))
    assert report.findings[0].message == "it is Monday"
    assert report.findings[0].counterexample == {"day": 1}


def test_equal_mistakes_have_equal_signatures_however_they_are_written():
    def sign(answer):
        return signature(DOUBLING, LocalSubject(answer))

    assert sign(lambda x: 5 * x) == sign(lambda x: x + 2 * x + 2 * x) == sign(lambda x: (5 * x).astype(np.float32))
    assert len({sign(lambda x, f=f: f * x) for f in (2, 3, 4, 5)}) == 4
    assert sign(lambda x: 5 * x) != sign(lambda x: (5 * x).sum())


@pytest.mark.parametrize("name", [name for name in checks.exercises() if name.endswith("_test")])
@pytest.mark.parametrize("verdict", [True, False])
def test_a_learners_test_that_always_says_the_same_earns_nothing(name, verdict):
    assert checks.examine(name, lambda *args: verdict).score == 0
