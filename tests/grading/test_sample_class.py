"""The sample class, graded for real: what each made-up student gets, reads, and is called in the CSV."""

import csv
import html
import re
import subprocess
import sys

import nbformat
import pytest
from nbgrader.api import Gradebook

from crossattn_ref.checks import misconceptions
from sample_class import grade

FULL = {
    "check-softmax": 2,
    "check-attention": 3,
    "check-reverse": 1,
    "check-symmetry_test": 2,
    "check-softmax_backward": 2,
}
LESS = object()  # some of the points, or none; never all

# What each student loses. Everything else is right, and earns every point.
LOST = {
    "right": {},
    "einsum": {},
    "warns": {},
    "stretch": {},
    "no-scale": {"check-attention": LESS},
    "softmax-over-queries": {"check-attention": LESS},
    "overflows": {"check-softmax": LESS, "check-attention": LESS},
    "unfinished": {"check-attention": 0, "check-symmetry_test": 0, "check-softmax_backward": 0},
    "raises": {"check-attention": 0},
    "syntax-error": {"check-softmax_backward": 0},
}
MISTAKES = {
    "no-scale": ("check-attention", "attention/attention", "no scale"),
    "softmax-over-queries": ("check-attention", "attention/attention", "softmax over queries"),
    "overflows": ("check-softmax", "attention/softmax", "no max subtraction"),
}


@pytest.fixture
def course(graded):
    return graded("attention")


def _feedback(course, student, notebook="attention"):
    page = (course.folder / "feedback" / student / "attention" / f"{notebook}.html").read_text()
    return " ".join(html.unescape(re.sub("<[^>]*>", "", page)).split())


def test_the_class_is_the_one_described_here():
    assert {submission.student for submission in grade.submissions("attention")} == set(LOST)


@pytest.mark.parametrize("student", LOST)
def test_a_student_gets_the_points_for_what_she_wrote(course, student):
    earned = course.results[student].core
    assert set(earned) == set(FULL)
    for check, points in FULL.items():
        if LOST[student].get(check) is LESS:
            assert 0 <= earned[check] < points, check
        else:
            assert earned[check] == LOST[student].get(check, points), check


@pytest.mark.parametrize("student", LOST)
def test_points_for_the_stretch_exercise_stand_apart(course, student):
    assert course.results[student].stretch == {"check-attention_backward": 3 if student == "stretch" else 0}


@pytest.mark.parametrize("student", LOST)
def test_a_reason_is_given_for_exactly_the_points_that_were_lost(course, student):
    assert set(course.results[student].reasons) == set(LOST[student])


@pytest.mark.parametrize("student", MISTAKES)
def test_feedback_names_the_misconception_and_asks_its_question(course, student):
    check, exercise, name = MISTAKES[student]
    known = next(misconception for misconception in misconceptions(exercise) if misconception.name == name)
    assert known.symptom in course.results[student].reasons[check]
    assert known.symptom in _feedback(course, student)
    assert known.hint in _feedback(course, student)


def test_feedback_repeats_a_warning_that_cost_nothing(course):
    assert "this is slow for long memories" in _feedback(course, "warns").split("Your code printed or warned:")[1]


def test_feedback_says_what_is_not_written_yet_and_what_was_raised(course):
    assert "not written yet" in _feedback(course, "unfinished")
    assert "name 'values' is not defined" in course.results["raises"].reasons["check-attention"]
    assert "SyntaxError" in _feedback(course, "syntax-error")


@pytest.mark.parametrize("student", LOST)
def test_no_feedback_shows_the_inside_of_the_checks(course, student):
    assert not re.search(r"crossattn_ref[/\\]", _feedback(course, student))


def test_no_page_of_feedback_runs_or_loads_anything(course):
    for path in (course.folder / "feedback").rglob("*.html"):
        page = path.read_text("utf-8")
        assert "default-src 'none'" in page
        assert not re.search(r"<(script|link|iframe)", page)


def test_every_notebook_that_was_handed_in_has_a_feedback_page(course):
    def stems(folder, suffix):
        return {path.relative_to(folder).with_suffix("") for path in folder.rglob(f"*{suffix}")}

    handed_in = stems(course.folder / "submitted", ".ipynb")
    assert stems(course.folder / "feedback", ".html") == handed_in
    assert len(handed_in) > len(LOST)


def test_the_csv_holds_every_student_once_with_the_sum_of_her_points(course):
    with (course.folder / "grades.csv").open(newline="") as file:
        rows = {row["student_id"]: row for row in csv.DictReader(file)}
    assert set(rows) == {*LOST, "the-solutions", "as-handed-out"}
    for student, result in course.results.items():
        total = sum(result.core.values()) + sum(result.stretch.values())
        assert float(rows[student]["score"]) == pytest.approx(total), student


def test_the_question_in_words_waits_for_a_human_where_it_was_answered(course):
    with Gradebook(f"sqlite:///{(course.folder / 'gradebook.db').as_posix()}") as gradebook:
        waiting = {
            submission.student.id
            for submission in gradebook.assignment_submissions("attention")
            if submission.needs_manual_grade
        }
    assert waiting == {*LOST, "the-solutions"} - {"unfinished"}


def test_the_table_names_every_student_and_every_reason(course):
    results = list(course.results.values())
    text = grade.table(results, {result.student: "somebody" for result in results})
    for result in results:
        assert result.student in text
        assert all(f"{check.removeprefix('check-')}: " in text for check in result.reasons)


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ({"no-such-cell": "pass"}, r"cell \(no-such-cell\) must be one that students write: softmax, attention"),
        ({"check-softmax": "pass"}, r"cell \(check-softmax\) must be one that students write"),
        ({"setup": "pass"}, r"cell \(setup\) must be one that students write"),
    ],
)
def test_a_patch_for_a_cell_that_students_do_not_write_is_refused(course, written, message):
    released = nbformat.read(course.folder / "exercises" / "attention" / "attention.ipynb", as_version=4)
    with pytest.raises(ValueError, match=message):
        grade.fill_in(released, written)


def test_a_patch_for_a_cell_without_its_stub_is_refused(course):
    released = nbformat.read(course.folder / "exercises" / "attention" / "attention.ipynb", as_version=4)
    grade.fill_in(released, {"softmax": "return x"})
    with pytest.raises(ValueError, match=r"cell \(softmax\) must hold one line that starts with 'raise"):
        grade.fill_in(released, {"softmax": "return x"})


def test_a_folder_that_holds_something_else_is_never_replaced(tmp_path):
    kept = tmp_path / "thesis.tex"
    kept.write_text("three years of work")
    with pytest.raises(ValueError, match="must be empty, new, or a folder that this program made"):
        grade.prepare(tmp_path, "attention")
    assert kept.exists()


def test_a_failing_nbgrader_command_raises_with_its_log(tmp_path):
    with pytest.raises(RuntimeError, match=r"nbgrader autograde nothing failed(.|\n)*nothing"):
        grade.nbgrader(tmp_path, "autograde", "nothing")


def test_the_help_shows_examples():
    command = [sys.executable, grade.ROOT / "sample_class" / "grade.py", "--help"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "python sample_class/grade.py --out" in text
