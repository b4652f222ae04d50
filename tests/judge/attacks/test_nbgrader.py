"""Stock nbgrader itself: what a damaged hand-in does to it, and that the stand-in for it is a fair one."""

import contextlib
import signal
import warnings

import pytest
from nbgrader.api import Gradebook
from nbgrader.converters import Autograde
from nbgrader.coursedir import CourseDirectory
from traitlets.config import Config

from tests.judge.attacks import classroom
from tests.judge.attacks.attack import Outcome
from tests.judge.attacks.classroom import SUBJECT
from tests.judge.attacks.damage import DAMAGED
from tests.judge.attacks.honest import honest
from tests.judge.attacks.points import POINTS
from tests.judge.attacks.stock import TESTS

STUDENTS = ("mallory", "zed")


@pytest.fixture(scope="session")
def released(tmp_path_factory):
    course = tmp_path_factory.mktemp("released") / "course"
    course.mkdir()
    classroom.found(course)
    return course


def autograded(course, *, execute):
    """Grade a class with nbgrader as it comes -> whether it came to its end."""
    config = Config()
    config.CourseDirectory.root = str(course)
    config.CourseDirectory.source_directory, config.CourseDirectory.release_directory = "solutions", "exercises"
    config.CourseDirectory.db_url = f"sqlite:///{course / 'gradebook.db'}"
    config.CourseDirectory.assignment_id = SUBJECT
    config.Execute.timeout = 20
    converter = Autograde(coursedir=CourseDirectory(config=config), config=config)
    if not execute:
        names = (
            "ClearMetadataPreprocessor",
            "LimitOutput",
            "SaveAutoGrades",
            "AssignLatePenalties",
            "CheckCellMetadata",
        )
        converter.autograde_preprocessors = [p for p in converter.autograde_preprocessors if p.__name__ in names]
    converter.log.setLevel("CRITICAL")
    with warnings.catch_warnings(), _given_up_after(60 if execute else 5):
        warnings.simplefilter("ignore")
        try:
            converter.start()
        except (Exception, SystemExit):  # noqa: BLE001 however it stops, it has stopped
            return False
    return True


@contextlib.contextmanager
def _given_up_after(seconds):
    def give_up(*_):
        raise TimeoutError("nobody ever writes into a fifo")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _fully_graded(course):
    """Name those of whom the gradebook knows every automatic score."""
    with Gradebook(f"sqlite:///{course / 'gradebook.db'}") as gradebook:
        return {
            submission.student.id
            for submission in gradebook.assignment_submissions(SUBJECT)
            for notebook in submission.notebooks
            if all(g.auto_score is not None or g.name == "question" for g in notebook.grades)
            and (course / "autograded" / submission.student.id / SUBJECT / f"{SUBJECT}.ipynb").exists()
        }


@pytest.mark.parametrize("attack", DAMAGED, ids=lambda attack: attack.name)
def test_a_damaged_hand_in_leaves_somebody_ungraded_on_stock_nbgrader(released, tmp_path, attack):
    course = classroom.emptied(released, tmp_path / "course")
    for student in STUDENTS:
        classroom.hand_in(course, student, honest(), attack if student == "mallory" else None)
    ended = autograded(course, execute=False)
    graded = _fully_graded(course)
    assert attack.evidence(Outcome(ended=ended, lost=tuple(who for who in STUDENTS if who not in graded)))


def test_an_undamaged_class_is_graded_there(released, tmp_path):
    course = classroom.emptied(released, tmp_path / "course")
    for student in STUDENTS:
        classroom.hand_in(course, student, honest())
    assert autograded(course, execute=False)
    assert _fully_graded(course) == set(STUDENTS)


SAME = {  # and the graded cell that each is shown on
    "comparisons replaced by no-ops": {"check-softmax": TESTS["test1"][1]},
    "assertions stripped by a transformer of the syntax tree": {"check-softmax": TESTS["test1"][1]},
    "the comparison of the checks patched": {},
}


@pytest.mark.parametrize("name", SAME)
def test_what_succeeds_on_the_stand_in_succeeds_on_nbgrader_itself(tmp_path, name):
    """With the tests in the notebook's process and nbgrader's own Execute, in a kernel, as stock courses run."""
    attack = next(a for a in POINTS if a.name == name)
    course = tmp_path / "course"
    course.mkdir()
    classroom.found(course, SAME[name])
    classroom.hand_in(course, "mallory", attack.cells)
    assert autograded(course, execute=True)
    assert classroom.scores(course)["mallory"] > 0
