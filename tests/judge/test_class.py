"""A class graded for real: honest, broken and odd submissions, through `crossattn grade` and plain nbgrader."""

import csv
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbgrader.api import Gradebook

from crossattn_ref.judge.batch import grade
from crossattn_ref.judge.sandbox import missing
from crossattn_ref.judge.staging import BadCourse
from crossattn_ref.judge.triage import harmless

ROOT = Path(__file__).resolve().parents[2]
SUBJECT = "attention"
NBGRADER = [sys.executable, "-m", "nbgrader"]

pytestmark = pytest.mark.skipif(missing() is not None, reason=f"no sandbox: {missing()}")

RIGHT = "    exp = np.exp(x - x.max(axis=-1, keepdims=True))\n    return exp / exp.sum(axis=-1, keepdims=True)"
OVERFLOWS = "    return np.exp(x) / np.exp(x).sum(axis=-1, keepdims=True)"
NOBODY_NAMES_IT = "    exp = np.exp(x / 3)\n    return exp / exp.sum(axis=-1, keepdims=True)"


def environment():
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


def nbgrader(course, *arguments):
    return subprocess.run(
        [*NBGRADER, *arguments], cwd=course, env=environment(), capture_output=True, text=True, check=False
    )


def write(course, student, body, name="attention.ipynb"):
    """Hand in the release with softmax filled in."""
    notebook = nbformat.read(course / "exercises" / SUBJECT / "attention.ipynb", as_version=4)
    cell = next(c for c in notebook.cells if c.id == "softmax")
    cell.source = cell.source.replace('    raise NotImplementedError("your turn")', body)
    folder = course / "submitted" / student / SUBJECT
    folder.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, folder / name)
    return folder


@pytest.fixture(scope="session")
def blank(tmp_path_factory):
    """A course folder with the assignment released and nobody in it."""
    course = tmp_path_factory.mktemp("blank")
    shutil.copytree(ROOT / "solutions" / SUBJECT, course / "solutions" / SUBJECT)
    shutil.copy(ROOT / "nbgrader_config.py", course)
    made = nbgrader(course, "generate_assignment", SUBJECT)
    assert made.returncode == 0, made.stderr
    return course


@pytest.fixture
def course(blank, tmp_path):
    return Path(shutil.copytree(blank, tmp_path / "course"))


def scores(course):
    with Gradebook(f"sqlite:///{course / 'gradebook.db'}") as gradebook:
        return {
            (submission.student.id, grade.name): grade.auto_score
            for submission in gradebook.assignment_submissions(SUBJECT)
            for notebook in submission.notebooks
            for grade in notebook.grades
        }


def softmax_scores(course):
    return {student: score for (student, cell), score in scores(course).items() if cell == "check-softmax"}


def triage(course):
    with (course / "_build" / "grading" / SUBJECT / "triage.csv").open(newline="") as file:
        return {(row["student"], row["notebook"]): row for row in csv.DictReader(file)}


def fill(course):
    """A class of honest, broken and odd submissions -> what softmax must earn each of them."""
    write(course, "right", RIGHT)
    write(course, "overflows", OVERFLOWS)
    write(course, "renamed", RIGHT, "my homework (2).ipynb")
    (write(course, "broken", RIGHT) / "attention.ipynb").write_text('{"cells": [')
    write(course, "dies", "    import os\n    os._exit(3)")
    linked = write(course, "linked", RIGHT)
    (linked / "attention.ipynb").rename(linked / "elsewhere")
    (linked / "attention.ipynb").symlink_to(linked / "elsewhere")
    (course / "submitted" / "nothing").mkdir()
    stray = write(course, "stray", RIGHT)
    (stray / "crossattn_ref.py").write_text("def check(*_, **__): return 2.0")
    (stray / "timestamp.txt").write_text("not a time")
    copied = write(course, "copied", RIGHT)
    notebook = json.loads((copied / "attention.ipynb").read_text())
    notebook["cells"].append(next(c for c in notebook["cells"] if c["id"] == "check-softmax"))
    (copied / "attention.ipynb").write_text(json.dumps(notebook))
    return {"right": 2, "overflows": 1.33, "renamed": 2, "broken": 0, "dies": 0, "stray": 2, "copied": 2}


def test_every_submission_of_a_mixed_class_ends_in_a_state_with_a_reason(course):
    expected = fill(course)
    before = {p: p.lstat().st_mtime_ns for p in (course / "submitted").rglob("*")}
    graded = grade(course, SUBJECT, workers=2)
    found = softmax_scores(course)
    assert {student: round(score, 2) for student, score in found.items()} == expected
    assert {p: p.lstat().st_mtime_ns for p in (course / "submitted").rglob("*")} == before
    list_ = triage(course)
    core = {student: list_[student, "attention"] for student in [*expected, "linked", "nothing"]}
    assert {s: row["state"] for s, row in core.items()} == {
        **dict.fromkeys(("right", "overflows", "dies", "stray", "copied"), "ready"),
        "renamed": "renamed", "broken": "unreadable", "linked": "misplaced", "nothing": "missing",
    }  # fmt: skip
    assert {s for s, row in core.items() if row["needs_human"] == "yes"} == {"renamed", "broken", "dies", "linked"}
    assert "cannot be read" in core["broken"]["why"]
    assert "process stopped" in core["dies"]["why"]
    assert "not taken along: crossattn_ref.py" in core["stray"]["why"]
    assert core["renamed"]["why"] == "found as my homework (2).ipynb"
    assert graded.isolation == "bubblewrap"


def test_plain_nbgrader_autograde_gives_the_same_scores(course, tmp_path):
    """To everything that nbgrader finds: all of the mixed class but a file of another name, no JSON, and a link."""
    fill(course)
    write(course, "unknown", NOBODY_NAMES_IT)
    deleted = write(course, "deleted", RIGHT) / "attention.ipynb"
    notebook = json.loads(deleted.read_text())
    notebook["cells"] = [cell for cell in notebook["cells"] if cell["id"] != "check-softmax"]
    deleted.write_text(json.dumps(notebook))
    other = Path(shutil.copytree(course, tmp_path / "other", symlinks=True))
    for student in ("renamed", "broken", "linked"):
        shutil.rmtree(other / "submitted" / student)
    (other / "submitted" / "stray" / SUBJECT / "timestamp.txt").unlink()  # nbgrader stops at what is no time
    grade(course, SUBJECT)
    shutil.copy(course / "course.key", other)
    ran = nbgrader(other, "autograde", SUBJECT)
    assert ran.returncode == 0, ran.stderr
    assert len({student for student, _ in scores(other)}) == 7
    assert scores(other) == {key: score for key, score in scores(course).items() if key[0] not in ("renamed", "broken")}


def test_grading_again_changes_nothing_and_marks_given_by_hand_survive(course):
    write(course, "right", RIGHT)
    write(course, "overflows", OVERFLOWS)
    grade(course, SUBJECT)
    with Gradebook(f"sqlite:///{course / 'gradebook.db'}") as gradebook:
        mark = gradebook.find_grade("question", "attention", SUBJECT, "right")
        mark.manual_score = 1.5
        gradebook.db.commit()
    before = scores(course)
    results = {p: p.stat().st_mtime_ns for p in (course / "_build" / "grading" / "results").rglob("*.json")}
    grade(course, SUBJECT)
    assert scores(course) == before
    assert {p: p.stat().st_mtime_ns for p in (course / "_build" / "grading" / "results").rglob("*.json")} == results
    with Gradebook(f"sqlite:///{course / 'gradebook.db'}") as gradebook:
        assert gradebook.find_grade("question", "attention", SUBJECT, "right").manual_score == 1.5


def test_grading_one_student_keeps_what_the_list_says_of_the_others(course):
    write(course, "right", RIGHT)
    write(course, "overflows", OVERFLOWS)
    grade(course, SUBJECT)
    write(course, "overflows", RIGHT)
    grade(course, SUBJECT, only=("overflows",))
    assert {student: row["points"] for (student, name), row in triage(course).items() if name == "attention"} == {
        "right": "2.0",
        "overflows": "2.0",
    }


def test_a_result_says_what_it_depends_on(course):
    write(course, "overflows", OVERFLOWS)
    grade(course, SUBJECT)
    stored = [json.loads(p.read_text()) for p in (course / "_build" / "grading" / "results").rglob("*.json")]
    about = next(s for s in stored if "attention/softmax" in s["seeds"])
    assert about["verdict"]["isolation"] == "bubblewrap"
    assert set(about["environment"]) >= {"code", "numpy", "torch"}
    assert about["seeds"]["attention/softmax"] == about["verdict"]["reports"]["check-softmax"]["seed"]
    assert "array" not in json.dumps(about["verdict"]["reports"]["check-softmax"]["findings"])


def test_results_that_were_thrown_away_come_out_the_same(course):
    write(course, "overflows", OVERFLOWS)
    write(course, "unknown", NOBODY_NAMES_IT)

    def stored():
        results = {p.name: json.loads(p.read_text()) for p in (course / "_build/grading/results").rglob("*.json")}
        for result in results.values():
            del result["verdict"]["seconds"]
        return results

    grade(course, SUBJECT)
    first = stored(), scores(course)
    shutil.rmtree(course / "_build")
    (course / "gradebook.db").unlink()
    assert nbgrader(course, "generate_assignment", SUBJECT, "--force").returncode == 0
    grade(course, SUBJECT)
    assert (stored(), scores(course)) == first


def test_the_gradebook_lets_readers_in_while_it_is_written(course):
    write(course, "right", RIGHT)
    grade(course, SUBJECT)
    with sqlite3.connect(course / "gradebook.db") as database:
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_feedback_names_the_mistake_shows_no_drawn_input_and_runs_nothing(course):
    body = OVERFLOWS + "\n    # <script>alert(1)</script>"
    write(course, "overflows", body)
    grade(course, SUBJECT)
    made = nbgrader(course, "generate_feedback", SUBJECT)
    assert made.returncode == 0, made.stderr
    page = (course / "feedback" / "overflows" / SUBJECT / "attention.html").read_text()
    assert "without taking the largest score off first" in page
    assert "np.array(" not in page
    assert "<script" not in page
    assert "http" not in page.replace("http-equiv", "")


def test_an_export_is_safe_in_a_spreadsheet(course):
    write(course, "=cmd,x", RIGHT)
    grade(course, SUBJECT)
    made = nbgrader(course, "export")
    assert made.returncode == 0, made.stderr
    with (course / "grades.csv").open(newline="") as file:
        row = next(csv.DictReader(file))
    assert row["student_id"] == "'=cmd,x"
    assert float(row["score"]) == 2
    assert harmless("-1+1") == "'-1+1"
    assert harmless(-1) == -1


def test_statistics_count_students_by_mistake_and_group_what_nobody_named(course):
    for student in ("a", "b", "c"):
        write(course, student, OVERFLOWS + f"  # {student}")
    for student in ("d", "e"):
        write(course, student, NOBODY_NAMES_IT + f"  # {student}")
    for _ in range(2):
        graded = grade(course, SUBJECT)
    with (graded.report.parent / "mistakes.csv").open(newline="") as file:
        rows = {row["mistake"]: row for row in csv.DictReader(file) if row["exercise"] == "attention/softmax"}
    assert rows["no max subtraction"]["students"] == rows["no max subtraction"]["attempts"] == "3"
    (unnamed,) = [row for name, row in rows.items() if name.startswith("unexplained")]
    assert unnamed["students"] == "2"
    assert "Most often: no max subtraction" in graded.report.read_text()


# What the course folder or the caller can get wrong: one clear line with the remedy, and nothing half written.


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda c: (c / "nbgrader_config.py").unlink(), "nbgrader_config.py does not exist"),
        (lambda c: shutil.rmtree(c / "submitted"), "does not exist: collect the submissions"),
        (lambda c: shutil.rmtree(c / "exercises"), "release the assignment first"),
        (lambda c: (c / "gradebook.db").unlink(), "no gradebook at .*nbgrader generate_assignment attention --force"),
        (lambda c: (c / "gradebook.db").write_text("not a database" * 100), "the gradebook cannot be used"),
    ],
    ids=["no configuration", "nothing submitted", "no release", "no gradebook", "a broken gradebook"],
)
def test_a_course_folder_that_is_not_in_order_is_told_so_before_anything_is_written(course, damage, says):
    write(course, "right", RIGHT)
    damage(course)
    with pytest.raises(BadCourse, match=says):
        grade(course, SUBJECT)
    assert not (course / "_build").exists()
    assert not (course / "autograded").exists()


def test_an_unknown_student_or_assignment_is_named_with_the_known_ones(course):
    write(course, "right", RIGHT)
    with pytest.raises(BadCourse, match=r"no student 'rihgt'.*there are: right"):
        grade(course, SUBJECT, only=("rihgt",))
    with pytest.raises(BadCourse, match="Assignments in solutions/: attention"):
        grade(course, "atention")


def test_a_gradebook_of_an_older_version_is_refused_with_the_remedy(course):
    write(course, "right", RIGHT)
    with sqlite3.connect(course / "gradebook.db") as database:
        database.execute("DROP TABLE grade_cells")
    with pytest.raises(BadCourse, match="nbgrader db upgrade"):
        grade(course, SUBJECT)
