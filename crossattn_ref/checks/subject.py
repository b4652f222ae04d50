"""Whom a check talks to: a learner's answer, wherever it runs.

A check asks a Subject and gets Outcomes made of plain data. LocalSubject runs the answer in this process,
in a notebook or a browser; a grader can put the answer into a process of its own behind the same operations.
"""

import contextlib
import io
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np


@dataclass(frozen=True)
class Raised:
    """An error of the answer: its kind, its message, and the line of the answer that it came from."""

    kind: str
    message: str
    line: str = ""


@dataclass(frozen=True)
class Foreign:
    """A value that is not plain data, known by its kind alone: "a list", "a generator"."""

    kind: str


@dataclass(frozen=True)
class Outcome:
    """What came of one question: a plain value or an error, and what was printed or warned on the way.

    A plain value is an array, a bool, a number, a string, None, or a tuple of these.
    """

    value: object = None
    error: Raised | None = None
    said: str = ""


class Subject(Protocol):
    """The operations that a check may use. Arrays travel as copies; one marked read-only stays read-only."""

    def call(self, *args: object) -> Outcome:
        """Call the answer."""

    def probe(self, target: Callable, seed: int) -> Outcome:
        """Hand a function to the learner's own test, as answer(target, rng), with a fresh rng from the seed."""


class LocalSubject:
    """An answer in this process."""

    def __init__(self, answer: Callable):
        self._answer = answer

    def call(self, *args):
        return _run(self._answer, *(_copy(arg) for arg in args))

    def probe(self, target, seed):
        return _run(self._answer, target, np.random.default_rng(seed))


def _run(function, *args):
    """Call a stranger's function: whatever it raises, prints or warns becomes part of the outcome."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said), warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.showwarning = lambda message, category, *_: said.write(f"{category.__name__}: {message}\n")
            value = _plain(function(*args))
    except BaseException as error:  # noqa: BLE001 SystemExit included: an answer must not end the check
        return Outcome(error=_raised(error), said=said.getvalue())
    return Outcome(value, said=said.getvalue())


def _raised(error):
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.filename != __file__]
    learner = [frame for frame in own if own and frame.filename == own[0].filename]
    line = learner[-1].line if learner else ""
    return Raised(type(error).__name__, str(error), line or "")


def _copy(arg):
    if not isinstance(arg, np.ndarray):
        return arg
    copy = arg.copy(order="K")
    copy.flags.writeable = arg.flags.writeable
    return copy


def _plain(value):
    if isinstance(value, np.ndarray) and not isinstance(value, np.ma.MaskedArray):
        return np.array(value, subok=False)
    if isinstance(value, np.generic):
        return np.array(value)[()]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, tuple):
        return tuple(_plain(item) for item in value)
    kind = type(value).__name__
    return Foreign(f"{'an' if kind[0].lower() in 'aeiou' else 'a'} {kind}")
