"""What an assignment asks: read from its own source notebooks, never from a submission."""

import ast
import json
from dataclasses import dataclass
from pathlib import Path

import nbformat

from crossattn_ref.checks.table import find

_MULTIHEAD = tuple(f"attention/{name}.py" for name in ("__init__", "inputs", "dense", "multihead"))
IMPORTABLE = {"encoder": _MULTIHEAD, "cross-attention": _MULTIHEAD}  # what notebooks may import of crossattn_ref


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
    """

    name: str
    checks: dict[str, CheckCell]
    locked: dict[str, str]
    libraries: tuple[str, ...]
    modules: tuple[str, ...]


class NoAssignment(Exception):
    """There is no such assignment, or it cannot be read; the message says which and what to do."""


def read(path: Path) -> Notebook:
    """Read a source notebook. Raises NoAssignment where it is missing or has a graded cell without a check call."""
    try:
        book = nbformat.read(path, as_version=4)
    except (OSError, json.JSONDecodeError, nbformat.reader.NotJSONError, nbformat.ValidationError) as error:
        raise NoAssignment(f"{path}: not a readable notebook ({error})") from error
    cells = [(cell, cell.metadata.get("nbgrader", {})) for cell in book.cells if cell.cell_type == "code"]
    locked = {meta["grade_id"]: cell.source for cell, meta in cells if meta.get("locked")}
    checks = {}
    for cell, meta in cells:
        if meta.get("grade") and not meta.get("solution"):
            checks[meta["grade_id"]] = _check(path, meta, cell.source)
    torch = any(find(check.exercise).wanted == "tensor" for check in checks.values())
    modules = IMPORTABLE.get(path.parent.name, ())
    libraries = ("numpy", "torch", "jaxtyping") if torch else ("numpy",)
    return Notebook(path.stem, checks, locked, libraries, modules)


def _check(path, meta, source):
    """Read the call in the last line of a graded cell."""
    tree = ast.parse(source)
    call = getattr(tree.body[-1], "value", None) if tree.body else None
    if not (isinstance(call, ast.Call) and getattr(call.func, "id", "") == "check" and len(call.args) == 2):
        raise NoAssignment(f'{path}: cell {meta["grade_id"]} must end in check("<exercise>", <name>, points=...)')
    exercise, answer = ast.literal_eval(call.args[0]), call.args[1].id
    return CheckCell(meta["grade_id"], exercise, answer, float(meta["points"]))
