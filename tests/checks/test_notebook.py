import importlib.metadata
import math

import numpy as np
import pytest

from crossattn_ref.checks import check, examine, exercises, for_release, misconceptions, reference


def _exits(x):
    raise SystemExit("bye")


BAD = {
    "not a function or a class": (3, "not a function"),
    "a result, not the function": (np.zeros(3), "not a function or a class"),
    "None": (lambda x: None, "returned nothing (None)"),
    "a list": (lambda x: list(x), "returned a list"),
    "a pair": (lambda x: (x, x), "a tuple of 2"),
    "a generator": (lambda x: (row for row in x), "returned a generator"),
    "the wrong shape": (lambda x: x.sum(-1), "returned shape"),
    "an exit": (_exits, "SystemExit"),
    "an error": (lambda x: x @ "no", "at: "),
    "too few arguments": (lambda: None, "TypeError"),
    "a stub": (reference, "ValueError"),
}


@pytest.mark.parametrize(("answer", "says"), BAD.values(), ids=BAD)
def test_a_bad_answer_gets_no_points_and_a_message_that_helps(answer, says, capfd):
    assert check("attention/softmax", answer, points=2) == 0.0
    printed = capfd.readouterr()
    assert says in printed.out
    assert "Traceback" not in printed.out
    assert printed.err == ""


@pytest.mark.parametrize("name", exercises())
def test_an_unwritten_answer_is_told_so_in_one_line(name, capsys):
    def stub(*args, **config):
        raise NotImplementedError("your turn")

    assert check(name, stub) == 0.0
    assert "Nothing passed: it is not written yet" in capsys.readouterr().out


@pytest.mark.parametrize("name", exercises())
def test_a_right_answer_earns_all_points_exactly(name):
    earned = check(name, reference(name), points=3)
    assert earned == 3.0
    assert isinstance(earned, float)


def test_points_are_finite_and_between_zero_and_all():
    for name in exercises():
        for mistake in misconceptions(name)[::7]:
            earned = check(name, mistake.wrong, points=2)
            assert math.isfinite(earned)
            assert 0 <= earned < 2


def test_an_unknown_exercise_lists_the_known_ones_and_guesses(capsys):
    assert check("atention/softmax", abs) == 0.0
    printed = capsys.readouterr().out
    assert "Did you mean 'attention/softmax'?" in printed
    assert all(name in printed for name in exercises())
    with pytest.raises(ValueError, match="there is no exercise 'nonsense'"):
        examine("nonsense", abs)


@pytest.mark.parametrize("points", [-1, math.nan, math.inf, "2", True, None])
def test_points_that_are_no_points_are_refused(points, capsys):
    assert check("attention/softmax", reference("attention/softmax"), points=points) == 0.0
    assert "points must be" in capsys.readouterr().out


def test_a_notebook_of_another_release_is_told_the_remedy(capsys):
    installed = importlib.metadata.version("crossattn-ref")
    for_release("999.1.0")("attention/softmax", reference("attention/softmax"))
    assert f"release 999.1.0 of the course, and crossattn_ref {installed} is installed" in " ".join(
        capsys.readouterr().out.split()
    )
    for_release(installed)("attention/softmax", reference("attention/softmax"))
    assert "installed" not in capsys.readouterr().out


def test_the_smallest_failing_input_can_be_pasted_and_fails(capsys):
    """The report prints the input as code; run it, and the answer is wrong on it."""

    def clipped(x):
        exp = np.exp(np.clip(x, -0.5, 0.5))
        return exp / exp.sum(-1, keepdims=True)

    check("attention/softmax", clipped)
    printed = capsys.readouterr().out
    code = printed[printed.index("    x = ") :].split("\n\n")[0]
    space = {"np": np}
    exec("\n".join(line.strip() for line in code.splitlines()), space)  # noqa: S102 our own report is what is tested
    assert np.abs(clipped(space["x"]) - reference("attention/softmax")(space["x"])).max() > 1e-3
