"""Marks as a table that survives names with commas and does nothing when a spreadsheet opens it."""

import csv
from pathlib import Path

from nbgrader.api import Gradebook, MissingEntry
from nbgrader.plugins.export import ExportPlugin

from crossattn_ref.judge.triage import harmless

COLUMNS = (
    "assignment", "duedate", "timestamp", "student_id", "last_name", "first_name", "email",
    "raw_score", "late_submission_penalty", "score", "max_score",
)  # fmt: skip


class SafeCsv(ExportPlugin):
    """nbgrader's own columns, quoted as CSV wants it; text that would start a formula gets a quote in front."""

    def export(self, gradebook: Gradebook) -> None:
        """Write every student's score in every assignment, 0 where nothing was handed in, to the file named by --to."""
        path = Path(self.to or "grades.csv")
        partial = path.with_suffix(".partial")
        with partial.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            for assignment in gradebook.assignments:
                for student in gradebook.students:
                    if self._wanted(assignment.name, self.assignment) and self._wanted(student.id, self.student):
                        writer.writerow(self._row(gradebook, assignment, student))
        partial.replace(path)

    @staticmethod
    def _wanted(name, names):
        return not names or name in map(str, names)

    @staticmethod
    def _row(gradebook, assignment, student):
        try:
            submission = gradebook.find_submission(assignment.name, student.id)
            raw, penalty, time = submission.score, submission.late_submission_penalty or 0.0, submission.timestamp
        except MissingEntry:
            raw, penalty, time = 0.0, 0.0, None
        about = (assignment.name, assignment.duedate, time, student.id)
        person = (student.last_name, student.first_name, student.email)
        scores = (raw, penalty, max(0.0, raw - penalty), assignment.max_score)
        return ["" if value is None else harmless(value) for value in (*about, *person, *scores)]
