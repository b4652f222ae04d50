"""What an assignment asks: read from its own source notebooks, never from a submission.

Read as JSON: nbformat takes more than a second to load, and every command and process would wait for it.
"""

import ast
import json
import re
from dataclasses import dataclass, field
from pathlib import Path

from crossattn_ref.checks.table import NEEDS, find

_MULTIHEAD = tuple(f"attention/{name}.py" for name in ("__init__", "inputs", "dense", "multihead"))
_BLOCKS = (*_MULTIHEAD, "models/__init__.py", "models/blocks.py", "models/past.py")
_DEFINITION = ("attention/__init__.py", "attention/reference.py")
IMPORTABLE = {  # what notebooks may import of crossattn_ref
    "encoder": _MULTIHEAD,
    "cross-attention": _MULTIHEAD,
    "translation": _BLOCKS,
    "vqa": _DEFINITION,
    "gpu-efficiency": ("checks/interpreted.py",),
    "bridges": (*_MULTIHEAD, "attention/reference.py"),
}
_IMPORTS = re.compile(r"^\s*(from|import) crossattn_ref\.(?!checks)", re.MULTILINE)


@dataclass(frozen=True)
class CheckCell:
    """A graded cell: check("<exercise>", <answer>, points=<points>)."""

    cell: str
    exercise: str
    answer: str
    points: float


@dataclass(frozen=True)
class Notebook:
    """One notebook of an assignment: its graded cells by grade_id, the source of its locked cells, what it may import.

    libraries are loaded before it starts; modules are the files of crossattn_ref that it finds beside the checks.
    Where an earlier exercise asks for what they do, it finds none: lent are those that come with a cell, by its name.
    """

    name: str
    checks: dict[str, CheckCell]
    locked: dict[str, str]
    libraries: tuple[str, ...]
    modules: tuple[str, ...]
    lent: dict[str, tuple[str, ...]] = field(default_factory=dict)


class NoAssignment(Exception):
    """There is no such assignment, or it cannot be read; the message says which and what to do."""


def read(path: Path) -> Notebook:
    """Read a source notebook. Raises NoAssignment where it is missing or has a graded cell without a check call."""
    try:
        book = json.loads(path.read_text("utf-8"))
        cells = [(_source(cell), cell["metadata"].get("nbgrader", {})) for cell in book["cells"] if _is_code(cell)]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise NoAssignment(f"{path}: not a readable notebook ({error})") from error
    locked = {meta["grade_id"]: source for source, meta in cells if meta.get("locked")}
    checks = {}
    for source, meta in cells:
        if meta.get("grade") and not meta.get("solution"):
            checks[meta["grade_id"]] = _check(path, meta, source)
    modules = IMPORTABLE.get(path.parent.name, ())
    libraries = libraries_of(*(check.exercise for check in checks.values()))
    borrower = _borrower(cells, checks) if modules else None
    if borrower:
        return Notebook(path.stem, checks, locked, libraries, (), {borrower: modules})
    return Notebook(path.stem, checks, locked, libraries, modules)


def libraries_of(*exercises: str) -> tuple[str, ...]:
    """Name the libraries that answers to some exercises find, NumPy first."""
    if any(find(name).wanted == "tensor" for name in exercises):
        return ("numpy", "torch", "jaxtyping")
    return ("numpy", *dict.fromkeys(package for name in exercises for package in NEEDS.get(name, ())))


def _borrower(cells, checks):
    """Name the first cell that imports more than the checks, where it comes after a check."""
    asked = False
    for source, meta in cells:
        if _IMPORTS.search(source):
            return meta["grade_id"] if asked else None
        asked |= meta.get("grade_id") in checks
    return None


def _is_code(cell):
    return cell["cell_type"] == "code"


def _source(cell):
    """Read a cell's text, which a file holds as one string or line by line."""
    return "".join(cell["source"])


def _check(path, meta, source):
    """Read the call in the last line of a graded cell."""
    tree = ast.parse(source)
    call = getattr(tree.body[-1], "value", None) if tree.body else None
    if not (isinstance(call, ast.Call) and getattr(call.func, "id", "") == "check" and len(call.args) == 2):
        raise NoAssignment(f'{path}: cell {meta["grade_id"]} must end in check("<exercise>", <name>, points=...)')
    exercise, answer = ast.literal_eval(call.args[0]), call.args[1].id
    return CheckCell(meta["grade_id"], exercise, answer, float(meta["points"]))
