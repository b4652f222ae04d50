"""Processes that judge: each verdict comes back, whatever happens to the process that was at it."""

import os
import pickle
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from crossattn_ref.judge.assignment import CheckCell, Notebook
from crossattn_ref.judge.examiner import Examiner
from crossattn_ref.judge.pool import Judges, Task
from crossattn_ref.judge.sandbox import Limits
from crossattn_ref.judge.verdict import Verdict

ROOT = Path(__file__).resolve().parents[2]
ABOUT = Notebook("made-up", {"check": CheckCell("check", "attention/softmax", "softmax", 2.0)}, {}, ("numpy",), ())


@dataclass
class Pretender:
    """An examiner that does as a cell says: returns, fails, dies, or dies the first time."""

    folder: Path = Path()

    def verdict(self, assignment, cells):
        ((_, said),) = cells
        mark = self.folder / said
        if said == "dies" or (said.startswith("dies once") and not mark.exists()):
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if said == "fails":
            raise OSError(28, "No space left on device")
        return Verdict(flags=[said])


pretender = Pretender()


@pytest.fixture
def judges(tmp_path):
    pretender.folder = tmp_path
    made = Judges((), 2)
    yield made
    made.close()


def task(said):
    return Task(pretender, ABOUT, [("cell", said)])


def test_verdicts_come_back_by_their_numbers(judges):
    numbers = {judges.submit(task(str(i))): str(i) for i in range(20)}
    assert {number: judges.verdict(number).flags for number in reversed(numbers)} == {
        number: [said] for number, said in numbers.items()
    }


def test_a_process_that_dies_takes_nothing_with_it(judges):
    said = ["a", "dies once, b", "c", "dies once, d", *(str(i) for i in range(10))]
    numbers = [judges.submit(task(text)) for text in said]
    assert [judges.verdict(number).flags for number in numbers] == [[text] for text in said]


def test_what_kills_each_process_that_judges_it_is_given_up_and_flagged_and_costs_nobody_else(judges):
    said = ["a", "dies", "b", "dies", "c"]
    found = [judges.verdict(number) for number in [judges.submit(task(text)) for text in said]]
    assert [verdict.flags for verdict in found if verdict.reports == {}] == [["a"], ["b"], ["c"]]
    given_up = found[1]
    assert given_up.flags == ["the process that judged it died, twice"]
    assert given_up.points == {"check": 0.0}
    assert "died, twice" in given_up.reports["check"].text()


def test_a_process_that_died_before_anybody_asked_is_replaced(judges):
    judges.verdict(judges.submit(task("a")))
    for pid in list(judges._pool._processes):
        os.kill(pid, signal.SIGKILL)
    time.sleep(0.5)
    assert judges.verdict(judges.submit(task("b"))).flags == ["b"]


def test_an_error_of_our_own_is_raised_here(judges):
    with pytest.raises(OSError, match="No space left"):
        judges.verdict(judges.submit(task("fails")))


def test_a_judging_process_loads_nothing_of_nbgrader():
    """A second or two for each process; and what is not loaded can do no harm."""
    ask = "import sys, crossattn_ref.judge.pool; print(*(m for m in sys.modules if '.' not in m))"
    told = subprocess.run([sys.executable, "-c", ask], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert not {"nbgrader", "nbformat", "nbconvert", "sqlalchemy", "torch"} & set(told.split())


def test_when_the_process_that_writes_is_killed_those_that_judge_leave(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        "import time\n"
        "from crossattn_ref.judge.pool import Judges\nfrom tests.judge.test_pool import task\n"
        "if __name__ == '__main__':\n"
        "    judges = Judges((), 2)\n"
        "    judges.verdict(judges.submit(task('x')))\n    print('begun', flush=True)\n    time.sleep(60)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, program], cwd=tmp_path, env=environment, stdout=subprocess.PIPE) as writer:
        assert writer.stdout.readline() == b"begun\n"
        below = psutil.Process(writer.pid).children(recursive=True)
        assert below
        writer.kill()
    _, alive = psutil.wait_procs(below, timeout=10)
    assert alive == []


def test_an_examiner_travels_without_the_verdicts_that_it_holds_for_somebody_else(tmp_path):
    """A task is written down for its process whenever that has room, also while another student is recorded."""
    here, held = Examiner(b"key", tmp_path, Limits()), Verdict(points={"check": 2.0})
    with here.holding({ABOUT.name: held}):
        there = pickle.loads(pickle.dumps(here))
        assert here.verdict(ABOUT, []) is held
    assert there._held == {}
