"""Programs that answer questions about a scene, step by step, and the words for what they look for.

A program is a tuple of an operation and what it works on, which may be programs themselves:
("query", "colour", ("only", ("find", {"shape": "circle"}))) asks for the colour of the only circle.
"""

from collections.abc import Callable, Mapping

from crossattn_ref.data.scenes import COLOURS, SHAPES, SIZES, Object, Scene

Description = Mapping[str, str]
Program = tuple

ANSWERS = ("no", "yes", "0", "1", "2", "3", "4", *SIZES, *COLOURS, *SHAPES)
BESIDE: dict[str, tuple[str, Callable[[Object, Object], bool]]] = {
    "left": ("left of", lambda thing, other: thing.column < other.column),
    "right": ("right of", lambda thing, other: thing.column > other.column),
    "above": ("above", lambda thing, other: thing.row < other.row),
    "below": ("below", lambda thing, other: thing.row > other.row),
}


class Ambiguous(Exception):
    """A program asks for the only object of a kind where there is none, or more than one."""


def run(program: Program, scene: Scene) -> str:
    """Answer a question. Raises Ambiguous where a referent is not the only one of its kind."""
    return _value(program, scene)


def cells_read(program: Program, scene: Scene) -> frozenset[int]:
    """Find the cells of the objects that the answer is read from: those that the last operation looks at."""
    looked_at = (_value(part, scene) for part in program[1:] if isinstance(part, tuple))
    return frozenset(thing.cell for part in looked_at for thing in ((part,) if isinstance(part, Object) else part))


def phrase(about: Description, *, many: bool = False) -> str:
    """Say what is looked for: "small red circle", "red things"."""
    noun = about.get("shape", "thing") + "s" * many
    return " ".join([about[attribute] for attribute in ("size", "colour") if attribute in about] + [noun])


def _find(scene, about):
    return tuple(thing for thing in scene if all(getattr(thing, name) == value for name, value in about.items()))


def _beside(scene, where, other):
    return tuple(thing for thing in scene if BESIDE[where][1](thing, other))


def _only(things):
    if len(things) != 1:
        raise Ambiguous(f"there are {len(things)}, not one")
    return things[0]


_LOOK = {"find": _find, "beside": _beside}  # these search the scene; the others think about what was found
_THINK = {
    "only": _only,
    "query": lambda attribute, thing: getattr(thing, attribute),
    "exist": lambda things: "yes" if things else "no",
    "count": lambda things: str(len(things)),
    "more": lambda first, second: "yes" if len(first) > len(second) else "no",
    "is_beside": lambda where, thing, other: "yes" if BESIDE[where][1](thing, other) else "no",
}


def _value(program, scene):
    operation, *parts = program
    values = [_value(part, scene) if isinstance(part, tuple) else part for part in parts]
    return _LOOK[operation](scene, *values) if operation in _LOOK else _THINK[operation](*values)
