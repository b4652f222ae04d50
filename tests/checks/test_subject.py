import logging
import sys
import warnings

import numpy as np
import pytest

from crossattn_ref.checks.subject import Foreign, LocalSubject


def call(answer, *args):
    return LocalSubject(answer).call(*args)


def test_an_answer_gets_a_copy_that_keeps_order_and_lock():
    given = np.asfortranarray(np.zeros((3, 5)))
    locked = np.zeros(3)
    locked.flags.writeable = False

    def writes(x, y):
        x[0, 0] = 1
        return np.array([x.flags.f_contiguous, y.flags.writeable], float)

    assert call(writes, given, locked).value.tolist() == [1.0, 0.0]
    assert given[0, 0] == 0


@pytest.mark.parametrize(
    ("value", "kind"),
    [([1.0], "a list"), ((i for i in ()), "a generator"), ({1: 2}, "a dict"), (np.ma.ones(3), "a MaskedArray")],
    ids=lambda value: str(value)[:20],
)
def test_what_is_not_plain_data_is_known_by_its_kind_alone(value, kind):
    assert call(lambda: value).value == Foreign(kind)


def test_an_array_of_a_class_of_its_own_comes_back_plain():
    class Agreeable(np.ndarray):  # noqa: PLW1641 equality alone is what it lies about
        def __eq__(self, other):
            return True

    value = call(lambda: np.zeros(3).view(Agreeable)).value
    assert type(value) is np.ndarray


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(3), KeyboardInterrupt(), RecursionError("deep")])
def test_whatever_an_answer_raises_becomes_part_of_the_outcome(error):
    def raises():
        raise error

    outcome = call(raises)
    assert outcome.error.kind == type(error).__name__
    assert outcome.error.message == str(error)
    assert outcome.error.line == "raise error"


def test_an_error_names_the_line_of_the_answer_and_not_a_line_of_numpy():
    def adds(x):
        return np.concatenate([x, np.zeros((2, 2))])

    assert call(adds, np.zeros(3)).error.line == "return np.concatenate([x, np.zeros((2, 2))])"


def test_prints_warnings_and_errors_on_stderr_are_kept_and_nothing_escapes(capfd):
    def noisy():
        print("out")
        print("err", file=sys.stderr)
        warnings.warn("careful", stacklevel=1)
        logging.getLogger("answer").warning("logged")

    said = call(noisy).said
    assert "out" in said
    assert "err" in said
    assert "UserWarning: careful" in said
    captured = capfd.readouterr()
    assert captured.out == ""
    assert captured.err == ""


def test_a_learners_test_gets_the_function_and_a_fresh_rng_from_the_seed():
    def draws(target, rng):
        return target(rng.standard_normal())

    subject = LocalSubject(draws)
    assert subject.probe(abs, 7).value == subject.probe(abs, 7).value != subject.probe(abs, 8).value


def test_an_answer_may_be_handed_a_function_and_arrays_which_are_copies():
    given = np.ones(3)
    outcome = LocalSubject(lambda model, x: float(model(x.cumsum(out=x)).sum())).probe(lambda x: 2 * x, 0, given)
    assert outcome.value == 12
    assert given.tolist() == [1, 1, 1]


def test_a_dict_by_strings_is_plain_data_and_any_other_is_foreign():
    made = LocalSubject(lambda value: value).call
    assert made({"a": 1, "b": [2]}).value == {"a": 1, "b": Foreign("a list")}
    assert made({1: 2}).value == Foreign("a dict")
