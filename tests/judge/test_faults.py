"""Grading that is disturbed, once in each way: it says so in one line, and run again it ends as if nothing had been.

`crossattn bench judge-faults` does the same at many random moments.
"""

import contextlib
import fcntl
import random
import shutil
import time
from pathlib import Path

import psutil
import pytest

from crossattn_ref.bench import classroom, judge_faults
from crossattn_ref.bench.judge_faults import gradebook, start
from crossattn_ref.judge.sandbox import missing

pytestmark = [
    pytest.mark.skipif(missing() is not None, reason=f"no sandbox: {missing()}"),
    pytest.mark.xdist_group("faults"),
]


@pytest.fixture(scope="module")
def blank(tmp_path_factory):
    """A class of three that nobody has graded yet."""
    course = classroom.course(tmp_path_factory.mktemp("class") / "course", judge_faults.SUBJECT, 3)
    (course / "course.key").write_text("the key of a course")
    return course


@pytest.fixture(scope="module")
def peace(blank, tmp_path_factory):
    """The gradebook of a run that nothing disturbed, and how long it took."""
    course = Path(shutil.copytree(blank, tmp_path_factory.mktemp("peace") / "course"))
    seconds = judge_faults._seconds(course)
    return gradebook(course), seconds


@pytest.fixture
def course(blank, tmp_path):
    return Path(shutil.copytree(blank, tmp_path / "course"))


def again(course):
    """Run the command in peace -> the gradebook."""
    with start(course) as run:
        assert run.wait() == 0, run.stderr.read()
    return gradebook(course)


def complaint(run):
    """Wait for a run that fails -> the one line with which it does, behind the progress bar."""
    said = run.stderr.read()
    assert run.wait() == 2, said
    assert "Traceback" not in said, said
    (line,) = [line for line in said.splitlines() if line.startswith("crossattn grade: ")]
    return line


def outlives(run, course):
    """List what still runs of a command a moment after it has ended."""
    for _ in range(100):
        mine = [p for p in psutil.process_iter() if _belongs(p, run, course)]
        if not mine:
            return []
        time.sleep(0.05)
    return mine


def _belongs(process, run, course):
    with contextlib.suppress(psutil.Error):
        return process.pid != run.pid and process.cwd() == str(course)
    return False


def test_the_class_earned_something(peace):
    scores, _ = peace
    assert len({student for student, _, _ in scores}) == 3
    assert sum(score or 0 for score, *_ in scores.values()) > 20


def test_a_judging_process_that_is_killed_costs_nothing(course, peace):
    moment = random.Random(0).uniform(0.5, 0.9) * peace[1]
    with judge_faults.judging_process_killed(course, moment, random.Random(1)) as run:
        pass
    assert run.returncode == 0
    assert gradebook(course) == peace[0]


def test_a_sandbox_that_is_killed_is_no_fault_of_who_was_in_it(course, peace):
    with start(course) as run:
        time.sleep(0.6 * peace[1])
        for process in psutil.Process(run.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if "bwrap" in process.name():
                    process.kill()
        assert run.wait() == 0, run.stderr.read()
    assert gradebook(course) == peace[0]


def test_a_command_that_is_killed_leaves_nothing_running_and_goes_on_where_it_was(course, peace):
    with judge_faults.command_killed(course, 0.7 * peace[1], random.Random(0)) as run:
        pass
    assert outlives(run, course) == []
    assert again(course) == peace[0]


def test_a_full_disk_is_said_in_one_line_and_nothing_is_lost(course, peace):
    rng = random.Random()
    rng.randrange = lambda *_: 40_000  # room for a notebook, not for the gradebook's journal
    with judge_faults.disk_full(course, 0, rng) as run:
        line = complaint(run)
    assert "run the same command again" in line
    assert again(course) == peace[0]


def test_a_gradebook_that_is_locked_for_a_moment_is_waited_for(course, peace):
    rng = random.Random()
    rng.choice = lambda _: 1.0
    with judge_faults.gradebook_locked(course, 0.6 * peace[1], rng) as run:
        pass
    assert run.returncode == 0
    assert gradebook(course) == peace[0]


def test_a_gradebook_that_stays_locked_is_said_in_one_line(course, peace):
    config = course / "nbgrader_config.py"
    config.write_text(config.read_text().replace("timeout=60", "timeout=1"))
    with contextlib.closing(judge_faults.sqlite3.connect(course / "gradebook.db")) as database:
        database.execute("begin exclusive")
        with start(course) as run:
            assert "close what has it open" in complaint(run)
    assert again(course) == peace[0]


def test_a_clock_that_jumps_changes_nothing(course, peace):
    with judge_faults.clock_jumps(course, 0, random.Random(0)) as run:
        pass
    assert run.returncode == 0
    assert gradebook(course) == peace[0]


def test_two_runs_in_one_folder_do_not_meet(course, peace):
    place = course / "_build" / "grading" / "lock"
    place.parent.mkdir(parents=True, exist_ok=True)
    with place.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with start(course) as second:
            assert "another crossattn grade is at work" in complaint(second)
    with start(course) as first:
        while f":{place.stat().st_ino} " not in Path("/proc/locks").read_text():
            assert first.poll() is None, "it never took the lock that keeps others out"
        said = first.stderr.read()
        assert first.wait() == 0, said
    assert gradebook(course) == peace[0]
