"""A course folder with a class in it, to be graded: each student hands in the solution, in a file of her own."""

import contextlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

from crossattn_ref.records import ROOT

STOCK = """
c = get_config()
c.CourseDirectory.source_directory = "solutions"
c.CourseDirectory.release_directory = "exercises"
"""  # nbgrader as it comes: a kernel for each notebook, with the checks inside


def course(folder: Path, subject: str, students: int, *, config: str | None = None) -> Path:
    """Make a course folder with an assignment of ours released in it, and a class that has handed in -> the folder.

    config is the text of its nbgrader_config.py; ours by default.
    """
    shutil.copytree(ROOT / "solutions" / subject, folder / "solutions" / subject)
    (folder / "nbgrader_config.py").write_text(config or (ROOT / "nbgrader_config.py").read_text("utf-8"), "utf-8")
    run(folder, "nbgrader", "generate_assignment", subject)
    for number in range(students):
        hand_in(folder, subject, f"student-{number:05}")
    return folder


def hand_in(folder: Path, subject: str, student: str) -> None:
    """Hand in a student's notebooks: the solutions, with her name in each answer, so that no two are the same."""
    place = folder / "submitted" / student / subject
    place.mkdir(parents=True)
    for source in sorted((folder / "solutions" / subject).glob("*.ipynb")):
        notebook = json.loads((folder / "exercises" / subject / source.name).read_text("utf-8"))
        answers = {cell["id"]: cell["source"] for cell in json.loads(source.read_text("utf-8"))["cells"]}
        for cell in notebook["cells"]:
            about = cell["metadata"].get("nbgrader", {})
            if about.get("solution"):
                mark = f"\n\n# {student}" if cell["cell_type"] == "code" else ""
                cell["source"] = "".join(answers[about["grade_id"]]) + mark
        (place / source.name).write_text(json.dumps(notebook), "utf-8")


def insist_on_all_points(folder: Path) -> None:
    """Raise RuntimeError where an honest notebook lost points, or none was graded: what fails is fast."""
    query = """
        select count(*), sum(grade.auto_score is null or grade.auto_score < cell.max_score)
        from grade join grade_cells as cell on grade.cell_id = cell.id where cell.cell_type = 'code'"""
    with contextlib.closing(sqlite3.connect(folder / "gradebook.db")) as database:
        graded, lost = database.execute(query).fetchone()
    if not graded or lost:
        raise RuntimeError(f"{lost} of {graded} checks of honest answers lost points in {folder}")


def run(folder: Path, module: str, *arguments: str) -> str:
    """Run a command of ours or of nbgrader in a course folder -> what it printed. Raises RuntimeError if it fails."""
    programs = Path(sys.executable).parent  # nbgrader starts alembic by its name
    environment = os.environ | {
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{module} {' '.join(arguments)} failed in {folder}:\n{done.stdout}{done.stderr}")
    return done.stdout
