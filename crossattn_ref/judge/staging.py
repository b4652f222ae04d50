"""From what students handed in to what may be graded: found, read, repaired, copied. Nothing here runs their code.

submitted/ is read and never written. Links are not followed, other files are not taken along.
"""

import json
import re
import shutil
import stat
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbgrader.utils import parse_utc

from crossattn_ref.judge.repair import repaired

LARGEST = 20 * 2**20  # bytes of one notebook file; pictures included
MOST_PARTS = 500_000  # lists and objects in it: each takes far more memory than the two bytes that it is written with
MOST_FILES = 50  # of other names, that a missing notebook is looked for in
_NOTEBOOKS = (".ipynb", ".json", ".txt")  # as browsers save them
_TIME = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d{1,6})? [A-Z]{1,5}")  # as nbgrader writes it


@dataclass
class Handed:
    """One notebook of one student: what was found, in which file, and what had to be mended or refused.

    state is "ready", "renamed", "missing", "misplaced" (what lies there is no notebook, or lies in another folder),
    "unreadable" or "refused"; remarks say why and what was mended.
    """

    student: str
    notebook: str
    state: str
    remarks: list[str] = field(default_factory=list)
    file: str = ""


class BadCourse(Exception):
    """The course folder cannot be graded as it is; the message says why, and the remedy."""


def releases(course: Path, subject: str, folder: str = "exercises") -> dict[str, NotebookNode]:
    """Read the released notebooks of an assignment by name. Raises BadCourse where there are none."""
    place = course / folder / subject
    paths = sorted(place.glob("*.ipynb"))
    if not paths:
        known = ", ".join(sorted(path.name for path in (course / "solutions").glob("*") if path.is_dir())) or "none"
        raise BadCourse(
            f"{place} holds no notebook: release the assignment first (nbgrader generate_assignment {subject}). "
            f"Assignments in solutions/: {known}"
        )
    try:
        return {path.stem: nbformat.read(path, as_version=4) for path in paths}
    except (OSError, ValueError, nbformat.ValidationError) as error:
        release = f"nbgrader generate_assignment {subject} --force"
        raise BadCourse(f"{place} holds a notebook that cannot be read ({error}); make it anew: {release}") from error


def students(course: Path, wanted: tuple[str, ...] = ()) -> list[str]:
    """List who handed in anything. Raises BadCourse for a missing folder, or a student who is not there."""
    place = course / "submitted"
    if not place.is_dir():
        raise BadCourse(f"{place} does not exist: collect the submissions as submitted/<student>/<assignment>/*.ipynb")
    folders = (path for path in place.iterdir() if path.is_dir() or path.is_symlink())
    there = sorted(path.name for path in folders if not path.name.startswith("."))
    if unknown := sorted(set(wanted) - set(there)):
        raise BadCourse(f"no student {unknown[0]!r} in {place}; there are: {', '.join(there[:20]) or 'none'}")
    return [name for name in there if not wanted or name in wanted]


def stage(course: Path, subject: str, student: str, released: dict[str, NotebookNode], target: Path) -> list[Handed]:
    """Copy a student's notebooks, repaired, to target/<student>/<subject>. What is missing is not made up."""
    folder = course / "submitted" / student / subject
    place = target / student / subject
    if problem := _unfit(student):
        return [Handed(student, name, "refused", [problem]) for name in released]
    shutil.rmtree(place, ignore_errors=True)
    files, others, problem = _files(folder)
    if problem:
        return [Handed(student, name, "refused", [problem]) for name in released]
    if not files and not others:
        return [Handed(student, name, "missing", [f"nothing was handed in for {subject}"]) for name in released]
    place.mkdir(parents=True)
    found = [_stage_one(student, name, release, files, place) for name, release in released.items()]
    if all(handed.state == "missing" for handed in found) and (others or set(files) - {"timestamp.txt"}):
        remark = f"there is no notebook in {subject}, but: {', '.join([*others, *files][:5])}"
        return [Handed(student, name, "misplaced", [remark]) for name in released]
    if "timestamp.txt" in files and (time := _timestamp(files["timestamp.txt"])):
        (place / "timestamp.txt").write_text(time)
    used = {f"{handed.notebook}.ipynb" for handed in found} | {handed.file for handed in found}
    stray = sorted(name for name in files if name != "timestamp.txt" and name not in used)
    if stray:
        found[0].remarks.append(f"not taken along: {', '.join(stray[:5])}")
    return found


def _unfit(student):
    """Say why nbgrader cannot grade somebody of this name, and of this name alone; None where it can."""
    if student.isprintable() and student == student.strip() and not set(student) & set("*?["):
        return None
    return "the folder's name holds what nbgrader takes for a pattern, or cannot be shown: rename it"


def _files(folder):
    """List a folder -> its plain files by name, the names of what is none, and why it cannot be taken, if it cannot.

    A link anywhere on the way is refused, not followed.
    """
    try:
        for path in (folder, folder.parent):
            if path.is_symlink():
                return {}, [], f"{path.name} is a link, and links are not followed"
        there = sorted(path for path in folder.iterdir() if not path.name.startswith(".")) if folder.is_dir() else []
        files = {path.name: path for path in there if stat.S_ISREG(path.lstat().st_mode)}
    except OSError as error:
        return {}, [], f"the folder cannot be read ({error.strerror}): give access to it"
    return files, [path.name for path in there if path.name not in files], ""


def _stage_one(student, name, release, files, place):
    handed = Handed(student, name, "ready")
    content = None
    if f"{name}.ipynb" in files:
        content = _read(files[f"{name}.ipynb"], handed)
    elif other := _renamed(release, files):
        handed.state, handed.file = "renamed", other.name
        handed.remarks.append(f"found as {other.name}")
        content = _read(other, handed)
    else:
        handed.state = "missing"
        handed.remarks.append(f"{name}.ipynb is not there")
        return handed
    result = repaired(content, release)
    if content is not None:
        handed.remarks += result.remarks
        if result.found < result.of / 2:
            handed.state = "unreadable"
            handed.remarks.insert(0, f"of {result.of} cells {result.found} are there: is it another notebook?")
    nbformat.write(result.notebook, place / f"{name}.ipynb")
    return handed


def _read(path, handed):
    try:
        if path.stat().st_size > LARGEST:
            raise ValueError(f"it has {path.stat().st_size} bytes; at most {LARGEST} are read")
        content = path.read_bytes()
        if (parts := content.count(b"[") + content.count(b"{")) > MOST_PARTS:
            raise ValueError(f"it is made of {parts} lists and objects; at most {MOST_PARTS} are read")
        return json.loads(content)
    except (ValueError, OSError, RecursionError) as error:
        handed.state = "unreadable"
        handed.remarks.append(f"{path.name} cannot be read ({str(error)[:120]}): graded as not answered")
        return None


def _renamed(release, files):
    """Find the notebook of another name that holds most of a release's cells."""
    wanted = {cell.metadata.nbgrader.grade_id for cell in release.cells if "nbgrader" in cell.metadata}
    best, most = None, len(wanted) / 2
    for path in [path for name, path in files.items() if name.lower().endswith(_NOTEBOOKS)][:MOST_FILES]:
        try:
            cells = _read(path, Handed("", "", ""))["cells"]
            held = {cell.get("metadata", {}).get("nbgrader", {}).get("grade_id") or cell.get("id") for cell in cells}
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            continue
        if len(wanted & held) > most:
            best, most = path, len(wanted & held)
    return best


def _timestamp(path):
    """Read a time as nbgrader writes it; on anything else it might stop."""
    try:
        with path.open(encoding="ascii") as file:
            text = file.read(100).strip()
        if not _TIME.fullmatch(text):
            return None
        parse_utc(text)
    except (ValueError, OSError, OverflowError):
        return None
    return text
