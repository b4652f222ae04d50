"""No page gives a graded answer away: neither on the exercise's own page above it, nor on any page before."""

import ast
import contextlib
import functools
import re
from dataclasses import replace
from types import FunctionType

import pytest

from crossattn_ref.checks import exercises
from crossattn_ref.checks.exercise import examine
from crossattn_ref.checks.table import find

FENCE = re.compile(r"^(`{3,})(\{code-cell\}|python)[^\n]*\n(.*?)^\1\s*$", re.DOTALL | re.MULTILINE)
OPTIONS = re.compile(r"\A(?:---\n.*?^---\n|(?::[^\n]*\n)+)", re.DOTALL | re.MULTILINE)
DEFINITIONS = (ast.Import, ast.ImportFrom, ast.FunctionDef)
LOOKS_UP_SOURCE = re.compile(r"getsource|\w\?\?")
INCLUDE = re.compile(r"literalinclude\} (\S+)\n((?::.*\n)*)")
ANSWER = """
def share(x):
    exp = np.exp(x - x.max(axis=-1, keepdims=True))
    return exp / exp.sum(axis=-1, keepdims=True)
"""


def exercises_of(subject: str) -> list[str]:
    return [exercise for exercise in exercises() if exercise.startswith(f"{subject}/")]


@functools.cache
def functions_of(text: str) -> list[tuple[int, str, FunctionType]]:
    """Every function that a page's code defines, and where: cells are run, code that is only shown is defined."""
    world, found = {"__name__": "a page"}, []
    for fence in FENCE.finditer(text):
        tree = ast.parse(OPTIONS.sub("", fence[3]))
        if fence[2] == "python":
            tree.body = [node for node in tree.body if isinstance(node, DEFINITIONS)]
        exec(compile(tree, "a page", "exec"), world)  # noqa: S102 (what the book's build runs, too)
        own = [(name, thing) for name, thing in world.items() if getattr(thing, "__globals__", None) is world]
        known = {id(function) for *_, function in found}
        found += [(fence.start(), name, function) for name, function in own if id(function) not in known]
    return found


def given_away(text: str, subject: str, end: int | None = None) -> list[str]:
    """Name each function in a text, up to its end, that is a full answer to an exercise of the subject."""
    return [
        f"{name} answers {exercise}"
        for place, name, function in functions_of(text)
        for exercise in exercises_of(subject)
        if place < (len(text) if end is None else end) and answers(exercise, function)
    ]


def answers(exercise: str, function: FunctionType) -> bool:
    """Tell whether a function earns all points. Which mistake it makes otherwise is not asked: that takes long."""
    unexplained = replace(find(exercise), misconceptions=(), compositions=tuple)
    return examine(exercise, unexplained, unexplained.local(function)).score == 1.0


def source_shown(text: str, subject: str) -> list[str]:
    """Name each place that shows a whole file of the package, or the function of an exercise of the subject."""
    graded = {exercise.split("/")[1] for exercise in exercises_of(subject)}
    shown = LOOKS_UP_SOURCE.findall(text)
    for path, options in INCLUDE.findall(text):
        named = re.search(r":pyobject: (\S+)", options)
        if "crossattn_ref" in path and (named is None or graded & set(named[1].split("."))):
            shown.append(f"{path} {options}")
    return shown


@pytest.fixture
def text(name, root):
    page = root / f"{name}.md"
    return page.read_text(encoding="utf-8") if page.exists() else ""


@pytest.fixture
def end(subject, name, pages, text):
    """How far a reader has come on a page when the first graded exercise of a subject is put to her."""
    home = f"book/{subject}"
    if pages.index(name) > pages.index(home):
        return 0
    return text.index(f":label: ex-{subject}-") if name == home else len(text)


def test_no_page_shows_the_source_of_an_answer_that_is_still_to_come(text, end, subject):
    assert source_shown(text[:end], subject) == []


def test_no_function_of_a_page_answers_an_exercise_that_is_still_to_come(text, end, subject, root, shapes_unchecked):
    with contextlib.chdir(root / "book"):
        assert end == 0 or given_away(text, subject, end) == []


@pytest.mark.parametrize("kind", ["{code-cell}", "python"])
def test_an_answer_on_a_page_would_be_noticed(kind):
    page = f"Some words.\n\n```{kind}\nimport numpy as np\n```\n\n```{kind}\n{ANSWER}```\n"
    assert given_away(page, "attention") == ["share answers attention/softmax"]
    assert given_away(page, "attention", end=page.index("def share") - 30) == []


@pytest.mark.parametrize("option", [":pyobject: softmax\n", ":language: python\n:pyobject: softmax\n", ""])
def test_an_answer_taken_from_the_package_would_be_noticed(option):
    page = f"```{{literalinclude}} ../crossattn_ref/attention/reference.py\n{option}```\n"
    assert len(source_shown(page, "attention")) == 1


def test_another_function_of_the_package_may_be_shown():
    page = "```{literalinclude} ../crossattn_ref/attention/reference.py\n:pyobject: padding_mask\n```\n"
    assert source_shown(page, "attention") == []


def test_a_half_built_version_is_no_answer():
    page = "```{code-cell}\n:tags: [hide-input]\nimport numpy as np\ndef half(x):\n    return np.exp(x)\n```\n"
    assert [name for _, name, _ in functions_of(page)] == ["half"]
    assert given_away(page, "attention") == []


def test_each_subject_has_a_chapter_with_something_above_its_first_exercise(subject, root):
    chapter = root / "book" / f"{subject}.md"
    assert chapter.read_text(encoding="utf-8").index(f":label: ex-{subject}-") > 1000
