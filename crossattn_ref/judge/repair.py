"""Putting a submission back into the shape of its release, so that no notebook can stop a class from being graded.

The release is the skeleton: its cells, their order and their metadata. Into it go the learner's answers, found by
grade_id, by cell id, or by the function that they define, and the learner's own cells, each behind the cell that it
followed. Cells that were split, duplicated, renamed, retyped, deleted, stripped or changed though locked fall into
place.
"""

import copy
import itertools
import re
from dataclasses import dataclass, field

import nbformat
from nbformat import NotebookNode

MOST_CELLS = 500
MOST_CHARACTERS = 2_000_000  # of all sources together
_IMPORT = re.compile(r"^(?:import|from)[ \t].*", re.MULTILINE)
_DEFINITION = re.compile(r"^(?:def|class)[ \t]+(\w+)", re.MULTILINE)  # read as text: no parser meets a stranger's code


@dataclass
class Repaired:
    """A notebook in the shape of its release, what had to be mended, and how many of its cells were found."""

    notebook: NotebookNode
    remarks: list[str] = field(default_factory=list)
    found: int = 0
    of: int = 0


def repaired(submitted: object, release: NotebookNode) -> Repaired:
    """Put the answers of a submission, whatever its state, into a copy of the release.

    submitted is parsed JSON of any form; what is not a cell with text in it is left out.
    """
    result = Repaired(copy.deepcopy(release))
    cells = _cells(submitted, result.remarks)
    skeleton = {cell.metadata.nbgrader.grade_id: cell for cell in result.notebook.cells if "nbgrader" in cell.metadata}
    places = _places(cells, skeleton, result.remarks)
    result.of, result.found = len(skeleton), len(set(places) - {None})
    for cell in skeleton.values():
        if cell.metadata.nbgrader.solution:
            _put_answer(cell, cells, places, result.remarks)
    result.notebook.cells = _with_own_cells(result.notebook.cells, cells, places)
    for index, cell in enumerate(result.notebook.cells):
        cell.id = cell.metadata.get("nbgrader", {}).get("grade_id") or f"own-{index}"
    return result


@dataclass
class _Cell:
    source: str
    kind: str
    grade_id: str
    id: str


def _cells(submitted, remarks):
    """Read cells out of whatever was handed in, old notebook formats included."""
    raw = _raw_cells(submitted)
    if raw is None:
        remarks.append("it holds no list of cells")
        return []
    found = [cell for cell in map(_cell, raw[:MOST_CELLS]) if cell is not None]
    if len(raw) > MOST_CELLS:
        remarks.append(f"it holds {len(raw)} cells; the first {MOST_CELLS} were read")
    while sum(len(cell.source) for cell in found) > MOST_CHARACTERS:
        longest = max(found, key=lambda cell: len(cell.source))
        remarks.append(f"a cell of {len(longest.source)} characters was left out")
        found.remove(longest)
    return found


def _raw_cells(submitted):
    if not isinstance(submitted, dict):
        return None
    if isinstance(submitted.get("cells"), list):
        return submitted["cells"]
    sheets = submitted.get("worksheets")  # of notebook formats before 4
    sheets = [sheet for sheet in sheets if isinstance(sheet, dict)] if isinstance(sheets, list) else []
    parts = [sheet["cells"] for sheet in sheets if isinstance(sheet.get("cells"), list)]
    return list(itertools.chain(*parts)) if parts else None


def _cell(raw):
    if not isinstance(raw, dict):
        return None
    source = raw.get("source", raw.get("input", ""))
    if isinstance(source, list):
        source = "".join(part for part in source if isinstance(part, str))
    if not isinstance(source, str):
        return None
    source = source.encode("utf-8", "replace").decode()  # lone surrogates could not be written again
    metadata = raw.get("metadata")
    nbgrader = metadata.get("nbgrader") if isinstance(metadata, dict) else None
    grade_id = nbgrader.get("grade_id") if isinstance(nbgrader, dict) else None
    kind = "code" if raw.get("cell_type") == "code" else "markdown"
    return _Cell(source, kind, _name(grade_id), _name(raw.get("id")))


def _name(value):
    """Take a name for what it is; of another form (a list in a list in a list ...) it names nothing."""
    return value if isinstance(value, str) else ""


def _places(cells, skeleton, remarks):
    """Say of each submitted cell which cell of the release it is, None for the learner's own."""
    places = [cell.grade_id if cell.grade_id in skeleton else None for cell in cells]
    for name in skeleton:  # a cell that lost its metadata keeps its id; one that lost both still defines the function
        if name in places:
            continue
        by_id = [i for i, cell in enumerate(cells) if places[i] is None and cell.id == name]
        wanted = _defined(skeleton[name].source) if skeleton[name].metadata.nbgrader.solution else set()
        by_content = [
            i for i, cell in enumerate(cells) if places[i] is None and wanted and wanted <= _defined(cell.source)
        ]
        for index in by_id or by_content[-1:]:
            places[index] = name
            remarks.append(f"cell {name}: found without its nbgrader metadata")
        if name not in places and skeleton[name].metadata.nbgrader.get("locked") is not True:
            remarks.append(f"cell {name}: missing")
        elif name not in places and skeleton[name].metadata.nbgrader.grade:
            remarks.append(f"cell {name}: deleted, and put back")
    return places


def _defined(source):
    """Names of the functions and classes that code defines at its top level."""
    return set(_DEFINITION.findall(source))


def _put_answer(cell, cells, places, remarks):
    """Take the last version that is not the untouched stub: when a notebook runs, the last definition holds.

    Those before it become cells of the learner's own, and run before it: a cell that is split gives its name to both
    halves.
    """
    name, stub = cell.metadata.nbgrader.grade_id, cell.source
    versions = [i for i, place in enumerate(places) if place == name]
    if len(versions) > 1:
        remarks.append(f"cell {name}: there {len(versions)} times; the last one that was worked on counts")
    if any(cells[i].kind != cell.cell_type for i in versions):
        remarks.append(f"cell {name}: its type was changed, and changed back")
    answers = [i for i in versions if cells[i].source.strip() != stub.strip()]
    if answers:
        cell.source = cells[answers[-1]].source
    for i in answers[:-1]:
        if cells[i].source != cell.source:
            places[i] = None


def _with_own_cells(skeleton, cells, places):
    """Put each of the learner's own cells behind the cell of the release that it followed.

    So are imports that she has added to a locked cell, which comes back as it was released.
    """
    locked = {cell.metadata.nbgrader.grade_id: cell for cell in skeleton if _is_locked_code(cell)}
    behind = {}
    last = ""
    for cell, place in zip(cells, places, strict=True):
        last = place or last
        if place is None and cell.source.strip():
            behind.setdefault(last, []).append(_own(cell))
        elif place in locked:
            behind.setdefault(last, []).extend(_imports_added(cell, locked[place]))
    ordered = list(behind.get("", []))
    for cell in skeleton:
        ordered.append(cell)
        ordered += behind.get(cell.metadata.get("nbgrader", {}).get("grade_id"), [])
    return ordered


def _is_locked_code(cell):
    about = cell.metadata.get("nbgrader", {})
    return cell.cell_type == "code" and about.get("locked") and not about.get("grade")


def _imports_added(cell, given):
    known = set(_IMPORT.findall(given.source))
    added = [line for line in dict.fromkeys(_IMPORT.findall(cell.source)) if line not in known]
    return [nbformat.v4.new_code_cell("\n".join(added))] if added and cell.kind == "code" else []


def _own(cell):
    make = nbformat.v4.new_code_cell if cell.kind == "code" else nbformat.v4.new_markdown_cell
    return make(cell.source)
