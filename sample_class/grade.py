"""Grade the sample class: made-up submissions, nbgrader, feedback pages and a CSV of the marks.

Each submission is a small patch against the released notebooks, sample_class/<assignment>/<student>.toml:
`about` says who this is, `like` names a submission to start from, and a table for each notebook holds what the
student wrote, by the id of the cell. Code takes the place of the line that raises NotImplementedError; text
replaces its cell.
"""

import argparse
import os
import shutil
import subprocess
import sys
import textwrap
import tomllib
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbgrader.api import Gradebook
from nbgrader.utils import rmtree

from crossattn_ref.judge import sandbox

ROOT = Path(__file__).resolve().parents[1]
MARK = "README.txt"
STUB = "raise NotImplementedError"
EXAMPLES = """
examples:
  python sample_class/grade.py                    grade everybody, into _build/sample-class
  python sample_class/grade.py --out ../try       the same, into another folder
"""


@dataclass(frozen=True)
class Submission:
    """What one student wrote: cells[notebook][grade_id]."""

    student: str
    about: str
    cells: dict[str, dict[str, str]]


@dataclass(frozen=True)
class Result:
    """One student's automatic points by graded cell, core and stretch apart, and why some were lost."""

    student: str
    core: dict[str, float]
    stretch: dict[str, float]
    reasons: dict[str, str]


def submissions(assignment: str) -> list[Submission]:
    """Read the made-up submissions of an assignment."""
    files = sorted((ROOT / "sample_class" / assignment).glob("*.toml"))
    patches = {file.stem: tomllib.loads(file.read_text(encoding="utf-8")) for file in files}
    return [Submission(student, patch["about"], _cells(patch, patches)) for student, patch in patches.items()]


def _cells(patch, patches):
    cells = _cells(patches[patch["like"]], patches) if "like" in patch else {}
    for notebook, written in patch["cells"].items():
        cells[notebook] = {**cells.get(notebook, {}), **written}
    return cells


def fill_in(released: nbformat.NotebookNode, written: dict[str, str]) -> None:
    """Write a student's cells into a released notebook.

    Raises ValueError for a cell that the notebook does not have, or that leaves a student nothing to write.
    """
    open_cells = {cell.metadata.nbgrader.grade_id: cell for cell in released.cells if _is_open(cell)}
    for name, text in written.items():
        if name not in open_cells:
            raise ValueError(f"cell ({name}) must be one that students write: {', '.join(open_cells)}")
        cell = open_cells[name]
        cell.source = text.strip() if cell.cell_type == "markdown" else _in_place_of_stub(name, cell.source, text)


def _is_open(cell):
    return cell.metadata.get("nbgrader", {}).get("solution", False)


def _in_place_of_stub(name, source, code):
    stubs = [line for line in source.splitlines() if line.lstrip().startswith(STUB)]
    if len(stubs) != 1:
        raise ValueError(f"cell ({name}) must hold one line that starts with '{STUB}', found {len(stubs)}")
    indent = stubs[0][: len(stubs[0]) - len(stubs[0].lstrip())]
    return source.replace(stubs[0], textwrap.indent(code.strip("\n"), indent))


def nbgrader(course: Path, *arguments: str) -> None:
    """Run one stock nbgrader command in a course folder. Raises RuntimeError with its log if it fails."""
    programs = Path(sys.executable).parent  # nbgrader starts alembic by its name
    environment = {**os.environ, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}
    command = [sys.executable, "-m", "nbgrader", *arguments]
    run = subprocess.run(command, cwd=course, env=environment, capture_output=True, text=True, check=False)
    if run.returncode:
        raise RuntimeError(f"nbgrader {' '.join(arguments)} failed in {course}:\n{run.stdout}{run.stderr}")


def prepare(course: Path, assignment: str) -> None:
    """Make a course folder, with nbgrader's configuration and the source and release of one assignment.

    A folder that was made before is replaced. Raises ValueError for any other folder that holds something.
    """
    if course.exists() and any(course.iterdir()):
        if not (course / MARK).exists():
            raise ValueError(f"out ({course}) must be empty, new, or a folder that this program made")
        rmtree(course)
    course.mkdir(parents=True, exist_ok=True)
    (course / MARK).write_text("sample_class/grade.py made this folder and replaces it when it runs again.\n")
    shutil.copytree(ROOT / "solutions" / assignment, course / "solutions" / assignment)
    shutil.copy(ROOT / "nbgrader_config.py", course)
    nbgrader(course, "generate_assignment", assignment)


def hand_in(course: Path, assignment: str, submission: Submission) -> None:
    """Put the released notebooks that a student worked on, filled in, where nbgrader collects them."""
    target = course / "submitted" / submission.student / assignment
    target.mkdir(parents=True)
    for name, written in submission.cells.items():
        notebook = nbformat.read(course / "exercises" / assignment / f"{name}.ipynb", as_version=4)
        fill_in(notebook, written)
        nbformat.write(notebook, target / f"{name}.ipynb")


def grade(course: Path, assignment: str) -> None:
    """Autograde what was handed in.

    The class is our own, so where there is no sandbox it is graded without one, and each report says so.
    """
    nbgrader(course, "autograde", assignment, f"--Judge.unsafe={sandbox.missing() is not None}")


def give_back(course: Path, assignment: str) -> None:
    """Write feedback pages, and export the marks to grades.csv."""
    nbgrader(course, "generate_feedback", assignment)
    nbgrader(course, "export", "--to", "grades.csv")


def results(course: Path, assignment: str) -> list[Result]:
    """Read the automatic points out of the gradebook, and the reasons out of the graded notebooks."""
    with Gradebook(f"sqlite:///{(course / 'gradebook.db').as_posix()}") as gradebook:
        found = [_result(course, submission) for submission in gradebook.assignment_submissions(assignment)]
    return sorted(found, key=lambda result: (-sum(result.core.values()), result.student))


def _result(course, submission):
    core, stretch, reasons = {}, {}, {}
    for notebook in submission.notebooks:
        part = stretch if notebook.name == "stretch" else core
        part.update({grade.name: grade.auto_score for grade in notebook.grades if grade.cell.cell_type == "code"})
    for path in (course / "autograded" / submission.student.id / submission.assignment.name).glob("*.ipynb"):
        for cell in nbformat.read(path, as_version=4).cells:
            if reason := _reason(cell):
                reasons[cell.metadata.nbgrader.grade_id] = reason
    return Result(submission.student.id, core, stretch, reasons)


def _reason(cell):
    """Say in a line why a check took points away; say nothing where it did not."""
    if cell.cell_type != "code" or not cell.metadata.get("nbgrader", {}).get("grade"):
        return ""
    earned = [float(output.data["text/plain"]) for output in cell.outputs if output.output_type == "execute_result"]
    if earned == [cell.metadata.nbgrader.points]:
        return ""
    report = next(output.data["text/plain"] for output in cell.outputs if output.output_type == "display_data")
    said = [" ".join(paragraph.split()) for paragraph in report.split("\n\n")[1:]]
    return next(text.split(" Hint: ")[0] for text in said if not text.startswith(("passed ", "FAILED ")))


def table(found: list[Result], about: dict[str, str]) -> str:
    """Lay the class out as text: points, who this is, and a line for each check that took points away."""
    width = max(len(result.student) for result in found)
    lines = [f"{'student':{width}}  points  stretch"]
    for result in found:
        core, stretch = sum(result.core.values()), sum(result.stretch.values())
        lines.append(f"{result.student:{width}}  {core:6.3g}  {stretch:7.3g}  {about[result.student]}")
        lines += [
            f"{'':{width + 19}}{name.removeprefix('check-')}: {textwrap.shorten(text, 110)}"
            for name, text in result.reasons.items()
        ]
    return "\n".join(lines)


def main() -> None:
    """Grade the class of one assignment; print a table and keep it as summary.txt."""
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0], epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--assignment", default="attention", help="which assignment (default: attention)")
    parser.add_argument("--out", type=Path, default=ROOT / "_build" / "sample-class", help="course folder to make")
    arguments = parser.parse_args()
    course, assignment = arguments.out.resolve(), arguments.assignment
    handed_in = submissions(assignment)
    prepare(course, assignment)
    for submission in handed_in:
        hand_in(course, assignment, submission)
    if reason := sandbox.missing():
        print(f"The sample class is our own, and is graded without a sandbox here: {reason}")
    grade(course, assignment)
    give_back(course, assignment)
    summary = table(results(course, assignment), {submission.student: submission.about for submission in handed_in})
    (course / "summary.txt").write_text(f"{summary}\n", encoding="utf-8")
    print(summary)


if __name__ == "__main__":
    main()
