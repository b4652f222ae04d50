"""`crossattn grade` told something that cannot be done: one line with the remedy, exit status 2, nothing half written."""

import shutil
import sqlite3
import sys
from pathlib import Path

import pytest

from crossattn_ref.__main__ import main
from crossattn_ref.bench import classroom
from crossattn_ref.judge import batch, bubblewrap, command, plugins, pool, sandbox
from crossattn_ref.judge.sandbox import NoSandbox


@pytest.fixture(scope="module")
def blank(tmp_path_factory):
    """A class of one that nobody has graded yet."""
    return classroom.course(tmp_path_factory.mktemp("class") / "course", "attention", 1)


@pytest.fixture
def course(blank, tmp_path, monkeypatch):
    monkeypatch.setattr(batch, "missing", lambda: None)  # what is refused here is refused before any sandbox
    monkeypatch.setattr(pool, "missing", lambda: "no process is started early")
    return Path(shutil.copytree(blank, tmp_path / "course"))


def tree(folder):
    """Everything in a folder, byte by byte; what a reader of the gradebook leaves beside it is no part of it."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.suffix not in (".db-wal", ".db-shm")]
    return {path.relative_to(folder): path.read_bytes() for path in files if path.name != "gradebook.db"}


def rows(course):
    """The gradebook, row by row."""
    if not (course / "gradebook.db").exists():
        return None
    try:
        with sqlite3.connect(course / "gradebook.db") as database:
            return list(database.iterdump())
    except sqlite3.Error:
        return (course / "gradebook.db").read_bytes()


def refused(capsys, course, *arguments):
    """Run the command, which must fail -> its one line. Nothing may have changed."""
    before = tree(course), rows(course)
    assert main(["grade", *arguments, "--course", str(course)]) == 2
    assert (tree(course), rows(course)) == before
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err


def configuration(text):
    return lambda course: (course / "nbgrader_config.py").write_text(text)


def forget(course):
    with sqlite3.connect(course / "gradebook.db") as database:
        for table in ("source_cell", "grade_cells", "solution_cells", "notebook", "assignment"):
            database.execute(f"DELETE FROM {table}")


DAMAGE = {
    "no configuration": (lambda c: (c / "nbgrader_config.py").unlink(), "nbgrader_config.py does not exist"),
    "a configuration that is no Python": (configuration("c ="), "cannot be read (SyntaxError"),
    "a configuration that fails": (configuration("1 / 0"), "cannot be read (ZeroDivisionError"),
    "nothing submitted": (lambda c: shutil.rmtree(c / "submitted"), "collect the submissions as submitted/<student>/"),
    "a file for a folder": (
        lambda c: (shutil.rmtree(c / "submitted"), (c / "submitted").write_text("")),
        "collect the",
    ),
    "no release": (lambda c: shutil.rmtree(c / "exercises"), "release the assignment first"),
    "a broken release": (lambda c: (c / "exercises/attention/attention.ipynb").write_text("{"), "make it anew"),
    "no source": (lambda c: (c / "solutions/attention/attention.ipynb").unlink(), "not a readable notebook"),
    "a broken source": (
        lambda c: (c / "solutions/attention/attention.ipynb").write_text("{"),
        "not a readable notebook",
    ),
    "no gradebook": (lambda c: (c / "gradebook.db").unlink(), "nbgrader generate_assignment attention --force"),
    "an assignment that was never entered": (forget, "nbgrader generate_assignment attention --force"),
    "something else for a gradebook": (
        lambda c: (c / "gradebook.db").write_text("x" * 5000),
        "gradebook cannot be used",
    ),
}


@pytest.mark.parametrize(("damage", "says"), DAMAGE.values(), ids=DAMAGE)
def test_a_course_folder_that_is_not_in_order_is_refused_in_one_line(capsys, course, damage, says):
    damage(course)
    assert says in refused(capsys, course, "attention")


def test_a_gradebook_of_another_version_is_refused_with_the_command_that_helps(capsys, course):
    with sqlite3.connect(course / "gradebook.db") as database:
        database.execute("ALTER TABLE grade DROP COLUMN extra_credit")
    assert "no grade.extra_credit); back it up, then run: nbgrader db upgrade" in refused(capsys, course, "attention")


def test_an_unknown_name_is_answered_with_the_known_ones(capsys, course):
    assert "Assignments in solutions/: attention" in refused(capsys, course, "atention")
    assert "there are: student-00000" in refused(capsys, course, "attention", "--student", "nobody")
    assert "--workers (0) must be at least 1" in refused(capsys, course, "attention", "--workers", "0")


def test_a_folder_that_does_not_exist_is_named(capsys, tmp_path):
    assert main(["grade", "attention", "--course", str(tmp_path / "nowhere")]) == 2
    assert "nowhere/nbgrader_config.py does not exist" in capsys.readouterr().err


def test_a_missing_sandbox_is_said_with_the_remedy(capsys, course, monkeypatch):
    monkeypatch.setattr(batch, "missing", lambda: "bubblewrap is missing. Install it")
    assert "bubblewrap is missing. Install it" in refused(capsys, course, "attention")


def test_a_course_below_what_submissions_can_read_is_refused_unless_it_is_covered(capsys, course, monkeypatch):
    monkeypatch.setattr(sys, "base_prefix", str(course.parent))
    remedy = "which every submission can read: run this in the course folder, or move it"
    assert remedy in refused(capsys, course, "attention")
    with pytest.raises(NoSandbox, match="every submission can read"):
        plugins.examiner(plugins.Judge(course=str(course)))
    monkeypatch.chdir(course)
    assert bubblewrap.exposed(course) is None
    assert bubblewrap.exposed(Path("/usr/share/courses")) is not None


def test_a_sandbox_that_breaks_for_good_ends_the_run_in_one_line(capsys, course, monkeypatch):
    def breaks(*_, **__):
        raise NoSandbox("no more namespaces: raise user.max_user_namespaces")

    monkeypatch.setattr(batch, "_graded", breaks)
    assert main(["grade", "attention", "--course", str(course)]) == 2
    assert capsys.readouterr().err == "crossattn grade: no more namespaces: raise user.max_user_namespaces\n"


def test_a_run_that_is_stopped_says_how_to_go_on(capsys, course, monkeypatch):
    def stopped(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(batch, "_graded", stopped)
    assert main(["grade", "attention", "--course", str(course)]) == 130
    assert "run the same command again" in capsys.readouterr().err


@pytest.mark.skipif(sandbox.missing() is not None, reason=f"no sandbox: {sandbox.missing()}")
def test_whatever_students_did_the_command_ends_with_0_and_names_who_needs_a_human(capsys, course):
    place = course / "submitted" / "student-00000" / "attention"
    (place / "attention.ipynb").write_text("{")
    (place / "stretch.ipynb").unlink()
    assert main(["grade", "attention", "--course", str(course), "--workers", "1"]) == 0
    out = capsys.readouterr().out
    assert "1 unreadable, 1 missing" in out
    assert "look at student-00000, attention: attention.ipynb cannot be read" in out


def test_a_bar_ends_where_the_class_ends(capsys):
    bar = command._Bar()
    for done in (1, 2, 3):
        bar(done, 3)
    assert "3/3" in capsys.readouterr().err
