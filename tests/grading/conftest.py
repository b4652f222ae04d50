"""Every assignment graded once, by nbgrader: its sample class, its solutions, and its release as handed out."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from sample_class import grade


@dataclass(frozen=True)
class Graded:
    """A graded course folder, and the results by student."""

    folder: Path
    results: dict[str, grade.Result]


def _hand_in_folder(course, assignment, student, folder):
    shutil.copytree(folder / assignment, course / "submitted" / student / assignment)


@pytest.fixture(scope="session")
def graded(tmp_path_factory):
    """Return a function that grades an assignment, once in a session."""
    done = {}

    def grade_once(assignment):
        if assignment not in done:
            course = tmp_path_factory.mktemp(assignment) / "course"
            grade.prepare(course, assignment)
            handed_in = grade.submissions(assignment)
            for submission in handed_in:
                grade.hand_in(course, assignment, submission)
            _hand_in_folder(course, assignment, "the-solutions", course / "solutions")
            _hand_in_folder(course, assignment, "as-handed-out", course / "exercises")
            grade.grade(course, assignment)
            if handed_in:  # there is a class that gets its pages back
                grade.give_back(course, assignment)
            results = {result.student: result for result in grade.results(course, assignment)}
            done[assignment] = Graded(course, results)
        return done[assignment]

    return grade_once
