"""No page gives a graded answer away: neither on the exercise's own page above it, nor on any page before."""

import ast
import re
from pathlib import Path
from types import FunctionType

import pytest

from crossattn_ref.checks import examine, exercises

FENCE = re.compile(r"^(`{3,})(\{code-cell\}|python)[^\n]*\n(.*?)^\1\s*$", re.DOTALL | re.MULTILINE)
OPTIONS = re.compile(r"\A(?:---\n.*?^---\n|(?::[^\n]*\n)+)", re.DOTALL | re.MULTILINE)
DEFINITIONS = (ast.Import, ast.ImportFrom, ast.FunctionDef)
ANSWER = """
def share(x):
    exp = np.exp(x - x.max(axis=-1, keepdims=True))
    return exp / exp.sum(axis=-1, keepdims=True)
"""
SHOWS_SOURCE = re.compile(r"literalinclude\}|getsource|\w\?\?|:pyobject:")


def text_before(subject: str, name: str, pages: list[str], root: Path) -> str:
    """What a reader has seen of a page when the first graded exercise of a subject comes up; "" if nothing."""
    home = f"book/{subject}"
    if pages.index(name) > pages.index(home) or name.startswith("exercises/"):
        return ""
    text = (root / f"{name}.md").read_text(encoding="utf-8")
    return text[: text.index(f":label: ex-{subject}-")] if name == home else text


def functions_of(text: str) -> dict[str, FunctionType]:
    """Every function that a page's code defines: cells are run in order, code that is only shown is defined."""
    world = {"__name__": "a page"}
    for _, kind, code in FENCE.findall(text):
        tree = ast.parse(OPTIONS.sub("", code))
        if kind == "python":
            tree.body = [node for node in tree.body if isinstance(node, DEFINITIONS)]
        exec(compile(tree, "a page", "exec"), world)  # noqa: S102 (what the book's build runs, too)
    own = {name: thing for name, thing in world.items() if getattr(thing, "__globals__", None) is world}
    assert own or "def " not in "".join(code for *_, code in FENCE.findall(text))
    return own


def given_away(text: str, subject: str) -> list[str]:
    """Name each function in a text that is a full answer to an exercise of the subject."""
    return [
        f"{name} answers {exercise}"
        for name, function in functions_of(text).items()
        for exercise in exercises()
        if exercise.startswith(f"{subject}/") and examine(exercise, function).score == 1.0
    ]


@pytest.fixture
def text(subject, name, pages, root, monkeypatch):
    monkeypatch.chdir((root / name).parent)
    return text_before(subject, name, pages, root)


def test_no_page_shows_the_source_of_the_package_before_the_exercise(text):
    assert SHOWS_SOURCE.findall(text) == []


def test_no_function_of_a_page_answers_an_exercise_that_is_still_to_come(text, subject, capsys):
    answers = given_away(text, subject)
    capsys.readouterr()
    assert answers == []


@pytest.mark.parametrize("kind", ["{code-cell}", "python"])
def test_an_answer_on_a_page_would_be_noticed(kind):
    page = f"Some words.\n\n```{kind}\nimport numpy as np\n```\n\n```{kind}\n{ANSWER}```\n"
    assert given_away(page, "attention") == ["share answers attention/softmax"]


def test_a_half_built_version_is_no_answer():
    page = "```{code-cell}\n:tags: [hide-input]\nimport numpy as np\ndef half(x):\n    return np.exp(x)\n```\n"
    assert list(functions_of(page)) == ["half"]
    assert given_away(page, "attention") == []


def test_each_subject_has_a_page_and_something_above_its_first_exercise(subject, pages, root):
    assert len(text_before(subject, f"book/{subject}", pages, root)) > 1000
