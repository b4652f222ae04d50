"""What an attack is: answers that a submission holds, what they are after, and how one sees whether they got it."""

import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

SECRETS = (
    "a-secret-of-the-caller",
    "a-secret-of-the-solution",
    "a-secret-of-alice",
    "a-secret-of-the-gradebook",
    "a-secret-of-the-course-key",
    "hidden-tests",
)

WRONG = "def softmax(x):\n    return x"


@dataclass(frozen=True)
class Outcome:
    """What became of a class that mallory is in."""

    points: float = 0.0  # that mallory's answers earned
    said: str = ""  # all that was shown of mallory's run: output, errors, reports
    lost: tuple[str, ...] = ()  # honest ones whose points are not what their answers earn
    ended: bool = True  # whether the grader came to its end by itself
    waits: int = 0  # how often it waited for mallory until the time was up
    left: tuple[str, ...] = ()  # what is there afterwards and should not be: processes, files of the course
    sent: bytes = b""  # what a server on this machine was sent
    pictures: tuple[bytes, ...] = ()  # that were kept for a marker to see
    received: int = 0  # bytes that the judge took in
    descriptors: int = 0  # that the judge has more of than before
    owned: bool = False  # whether code of mallory's ran in the judge


def earned(outcome: Outcome) -> bool:
    """Points for wrong answers."""
    return outcome.points > 0


def leaked(outcome: Outcome) -> bool:
    """Something was shown that should have stayed hidden."""
    return any(secret in outcome.said for secret in SECRETS)


def harmed(outcome: Outcome) -> bool:
    """Somebody else lost points, or was not graded at all."""
    return not outcome.ended or bool(outcome.lost)


def outlived(outcome: Outcome) -> bool:
    """Something is left."""
    return bool(outcome.left)


def stalled(outcome: Outcome) -> bool:
    """The grader was held up again and again, or for ever."""
    return outcome.waits >= 3 or not outcome.ended


def says(*words: str) -> Callable[[Outcome], bool]:
    """Make evidence out of what the attack itself reports: all of these words were shown."""
    return lambda outcome: all(word in outcome.said for word in words)


@dataclass(frozen=True)
class Attack:
    """A submission that is after something it has not earned.

    cells are the sources of answers and of cells of its own, by name; files lie beside the notebook when it is handed
    in; damage changes the notebook, as parsed JSON, and its folder, before that. row is where it was first noted ("A"
    to "D" as in the table of the project, "own" where it is added here). against names who it is shown to succeed
    against: "stock", or a way in which the judge is weakened; evidence tells from an outcome whether it succeeded.
    human says that the list must name it for somebody to look at. accomplice is a notebook that is graded before.
    earns is what its answers deserve: one may be wrong and still show a property, as rows that add up to one.
    """

    name: str
    row: str
    gains: str
    cells: Mapping[str, str]
    evidence: Callable[[Outcome], bool] = earned
    against: str = "stock"
    files: Mapping[str, str] = field(default_factory=dict)
    damage: Callable[[dict, Path], None] | None = None
    accomplice: str = ""
    human: bool = False
    earns: float = 0.0
    linger: float = 0.0


def attack(name: str, row: str, gains: str, softmax: str = WRONG, **about: object) -> Attack:
    """Make an attack whose wrong softmax, or whose other cells, are given as text; the text may be indented."""
    cells = {"softmax": softmax} | about.pop("cells", {})
    return Attack(name, row, gains, {key: textwrap.dedent(text) for key, text in cells.items()}, **about)


def before(code: str) -> str:
    """Put code in front of the wrong softmax."""
    return f"{textwrap.dedent(code)}\n{WRONG}"
