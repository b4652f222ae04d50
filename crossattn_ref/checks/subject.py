"""Whom a check talks to: a learner's answer, wherever it runs.

A check asks a Subject and gets Outcomes made of plain data. LocalSubject runs the answer in this process,
in a notebook or a browser; a grader can put the answer into a process of its own behind the same operations.
"""

import contextlib
import io
import traceback
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

HERE = Path(__file__).parent  # what runs an answer lies here, and no answer does
SAID = 4000  # characters kept of what one call prints


class Tape(io.StringIO):
    """A text stream that keeps its first characters and drops the rest, however much is printed."""

    def __init__(self, length: int):
        super().__init__()
        self._left = length

    def write(self, text: str) -> int:
        """Keep what still fits; claim to have written all of it."""
        kept = text[: self._left]
        self._left -= len(kept)
        super().write(kept)
        return len(text)


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

    A plain value is an array, a bool, a number, a string, None, a tuple of these, or a dict of these by strings.
    """

    value: object = None
    error: Raised | None = None
    said: str = ""


class Subject(Protocol):
    """The operations that a check may use. Arrays travel as copies; one marked read-only stays read-only.

    An answer that is a function is called; one that is a module is constructed, given weights, and run.
    """

    def call(self, *args: object) -> Outcome:
        """Call the answer."""

    def probe(self, target: Callable, seed: int, *args: object) -> Outcome:
        """Hand a function to the answer: as answer(target, rng), with a fresh rng from the seed, to a learner's test;
        as answer(target, *args) where there are args.
        """

    def construct(self, config: Mapping[str, object]) -> Outcome:
        """Make a module: answer(**config), in evaluation mode. Later operations are about this one."""

    def load_state(self, state: Mapping[str, np.ndarray]) -> Outcome:
        """Put weights into the module, by the names of its state_dict; the module takes on their dtype."""

    def forward(self, *args: object) -> Outcome:
        """Run the module."""

    def backward(self, grad_out: np.ndarray) -> Outcome:
        """Send a gradient back through the last forward -> the gradients of its floating arrays, as a tuple."""

    def get(self, name: str) -> Outcome:
        """Read a parameter of the module, or its gradient as "<name>.grad"; zeros where none came."""


class LocalSubject:
    """A function in this process, that takes and returns NumPy arrays."""

    def __init__(self, answer: Callable):
        self._answer = answer

    def call(self, *args):
        return run(self._answer, *(copied(arg) for arg in args))

    def probe(self, target, seed, *args):
        return run(self._answer, target, *(map(copied, args) if args else [np.random.default_rng(seed)]))


def run(function: Callable, *args: object, plain: Callable | None = None) -> Outcome:
    """Call a stranger's function: whatever it raises, prints or warns becomes part of the outcome.

    plain turns its result into plain data.
    """
    said = Tape(SAID)
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said), warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.showwarning = lambda message, category, *_: said.write(f"{category.__name__}: {message}\n")
            value = (plain or plain_data)(function(*args))
    except BaseException as error:  # noqa: BLE001 SystemExit included: an answer must not end the check
        return Outcome(error=_raised(error), said=said.getvalue())
    return Outcome(value, said=said.getvalue())


def _raised(error):
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if Path(frame.filename).parent != HERE and not _installed(frame.filename)]
    learner = [frame for frame in own if own and frame.filename == own[0].filename]
    line = learner[-1].line if learner else ""
    return Raised(type(error).__name__, str(error), line or "")


def _installed(file):
    """Tell whether a file belongs to a library: torch calls a module's forward, and no line of torch is at fault."""
    return "site-packages" in Path(file).parts


def copied(arg: object) -> object:
    """Copy an array with its order and its lock; pass anything else on."""
    if not isinstance(arg, np.ndarray):
        return arg
    copy = arg.copy(order="K")
    copy.flags.writeable = arg.flags.writeable
    return copy


def plain_data(value: object) -> object:
    """Turn a result into plain data: arrays of the plain class, and Foreign for what is not data."""
    if isinstance(value, np.ndarray) and not isinstance(value, np.ma.MaskedArray):
        return np.array(value, subok=False)
    if isinstance(value, np.generic):
        return np.array(value)[()]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, tuple):
        return tuple(plain_data(item) for item in value)
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {str(key): plain_data(item) for key, item in value.items()}
    return foreign(value)


def foreign(value: object) -> Foreign:
    """Name the kind of a value that is not data."""
    kind = type(value).__name__
    return Foreign(f"{'an' if kind[0].lower() in 'aeiou' else 'a'} {kind}")
