"""A course folder with secrets in it, honest notebooks, and one hostile notebook for each attack, handed in for real."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import nbformat
from nbgrader.api import Gradebook

from tests.judge.attacks.attack import SECRETS, Attack

ROOT = Path(__file__).resolve().parents[3]
SUBJECT = "attention"
KEPT = ("setup", "softmax", "check-softmax", "symmetry_test", "check-symmetry_test", "question")
LIMITS = """
c.Judge.cpu_seconds, c.Judge.cell_cpu_seconds, c.Judge.check_cpu_seconds = 3, 1, 2
c.Judge.total_cpu_seconds, c.Judge.wall_factor, c.Judge.patience = 6, 2.0, 2.0
c.Judge.memory_bytes = 2**30
"""
CALLER, SOLUTION, ALICE, GRADEBOOK, KEY, _ = SECRETS


def found(course: Path, tests: Mapping[str, str] | None = None) -> None:
    """Set a course up: a short assignment, released, a gradebook, a key; a secret in each.

    tests are the sources of graded cells, by name, that stand there in place of the checks of the course.
    """
    notebook = nbformat.read(ROOT / "solutions" / SUBJECT / f"{SUBJECT}.ipynb", as_version=4)
    notebook.cells = [cell for cell in notebook.cells if cell.id in KEPT]
    for cell in notebook.cells:
        cell.source = cell.source.replace("### BEGIN SOLUTION", f"### BEGIN SOLUTION\n    # {SOLUTION}")
        cell.source = (tests or {}).get(cell.id, cell.source)
    place = course / "solutions" / SUBJECT
    place.mkdir(parents=True)
    nbformat.write(notebook, place / f"{SUBJECT}.ipynb")
    assert SOLUTION in (place / f"{SUBJECT}.ipynb").read_text()
    (course / "nbgrader_config.py").write_text((ROOT / "nbgrader_config.py").read_text() + LIMITS)
    run(course, "nbgrader", "generate_assignment", SUBJECT)
    (course / "course.key").write_text(KEY)
    with Gradebook(f"sqlite:///{course / 'gradebook.db'}") as gradebook:
        gradebook.add_student(GRADEBOOK)


def run(course: Path, module: str, *arguments: str) -> subprocess.CompletedProcess:
    """Run a command in a course folder, with a secret in its environment."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "SECRET_OF_THE_CALLER": CALLER}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(
        command, cwd=course, env=environment, capture_output=True, text=True, timeout=400, check=False
    )


def release(course: Path) -> dict:
    """Read the release, as parsed JSON."""
    return json.loads((course / "exercises" / SUBJECT / f"{SUBJECT}.ipynb").read_text())


def hand_in(course: Path, student: str, cells: Mapping[str, str], attack: Attack | None = None) -> None:
    """Hand a notebook in: the release with these answers, and cells of one's own behind them."""
    folder = course / "submitted" / student / SUBJECT
    folder.mkdir(parents=True)
    notebook = release(course)
    answers = {cell["id"]: cell for cell in notebook["cells"]}
    for name, source in cells.items():
        if name in answers:
            answers[name]["source"] = source
        else:
            new = {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None}
            notebook["cells"].append({**new, "id": re.sub(r"\W", "-", name), "source": source})
    if attack is not None:
        for name, content in attack.files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(content)
        if attack.damage:
            attack.damage(notebook, folder)
    if not (folder / f"{SUBJECT}.ipynb").exists() and not (folder / f"{SUBJECT}.ipynb").is_symlink():
        (folder / f"{SUBJECT}.ipynb").write_text(json.dumps(notebook))


def filled(cells: Mapping[str, str], changes: Mapping[str, str]) -> dict[str, str]:
    """Put what is known only now into the sources of cells."""
    sources = dict(cells)
    for placeholder, text in changes.items():
        sources = {name: source.replace(placeholder, text) for name, source in sources.items()}
    return sources


def state(course: Path) -> dict[str, str]:
    """Say what is in a course folder, but for what grading writes."""
    written = ("gradebook.db", "autograded", "_build", "course.key", "feedback", "report.json")
    return {
        str(path.relative_to(course)): _content(path)
        for path in sorted(course.rglob("*"))
        if not path.relative_to(course).parts[0].startswith(written)
    }


def _content(path):
    if path.is_symlink():
        return f"link to {path.readlink()}"
    if not path.is_file():
        return "a folder, or something odd"
    size = path.stat().st_size
    return f"{size} bytes" if size > 2**22 else hashlib.sha256(path.read_bytes()).hexdigest()


def scores(course: Path) -> dict[str, float]:
    """Read the automatic points of every student who has a submission in the gradebook."""
    with Gradebook(f"sqlite:///{course / 'gradebook.db'}") as gradebook:
        return {
            submission.student.id: sum(g.auto_score or 0 for book in submission.notebooks for g in book.grades)
            for submission in gradebook.assignment_submissions(SUBJECT)
        }


def shown(course: Path, student: str) -> tuple[str, tuple[str, ...]]:
    """Gather what is shown of a student's run: texts, and pictures as base64."""
    path = course / "autograded" / student / SUBJECT / f"{SUBJECT}.ipynb"
    if not path.exists():
        return "", ()
    outputs = [o for cell in json.loads(path.read_text())["cells"] for o in cell.get("outputs", [])]
    data = [output.get("data", {}) for output in outputs]
    texts = [output.get("text", "") or "".join(output.get("traceback", [])) for output in outputs]
    texts = ["".join(text) for text in texts] + ["".join(d.get("text/plain", "")) for d in data]
    return "\n".join(texts), tuple(d["image/png"] for d in data if "image/png" in d)


def emptied(course: Path, target: Path) -> Path:
    """Copy a course without its submissions."""
    return Path(shutil.copytree(course, target, ignore=shutil.ignore_patterns("submitted", "autograded", "_build")))
