"""How nbgrader releases and grades the assignments: solutions/ is the source, exercises/ the release."""

from pathlib import Path

import crossattn_ref.judge

c = get_config()
root = Path(__file__).resolve().parent

c.CourseDirectory.course_id = "cross-attention"
c.CourseDirectory.source_directory = "solutions"
c.CourseDirectory.release_directory = "exercises"
# nbgrader copies every file that is not a notebook from source to release: none of ours may carry an answer along.
c.CourseDirectory.ignore = [".ipynb_checkpoints", "__pycache__", "*.pyc", "feedback", "*.py", "*.md"]
# Several processes may write; one that finds the file locked waits for a minute instead of failing.
c.CourseDirectory.db_url = f"sqlite:///{(root / 'gradebook.db').as_posix()}?timeout=60"

c.ClearSolutions.code_stub = {"python": 'raise NotImplementedError("your turn")'}
c.ClearSolutions.text_stub = "*Your answer goes here.*"

# A locked cell that a submission has lost comes back before it is graded.
c.OverwriteCells.add_missing_cells = True
c.Execute.timeout = 120  # seconds for one cell
c.Execute.shutdown_kernel = "immediate"

# A submission is put back into the shape of its release, which leaves nothing to deduplicate or to validate, and is
# judged in a sandbox; nbgrader keeps the rest.
_JUDGE, _NBGRADER = "crossattn_ref.judge.plugins", "nbgrader.preprocessors"
c.Autograde.sanitize_preprocessors = [
    f"{_NBGRADER}.ClearOutput",
    f"{_JUDGE}.Repair",
    *(f"{_NBGRADER}.{name}" for name in ("OverwriteKernelspec", "OverwriteCells")),
]
c.Autograde.autograde_preprocessors = [
    f"{_JUDGE}.Judge",
    "nbconvert.preprocessors.ClearMetadataPreprocessor",
    *(f"{_NBGRADER}.{name}" for name in ("LimitOutput", "SaveAutoGrades", "AssignLatePenalties")),
    f"{_JUDGE}.Quiet",
]

# Feedback shows what was earned and why; what a learner wrote is escaped, and no page asks a third party.
# Of feedback alone: the formgrader reads this file, too, and its pages for marking by hand have their own template.
c.GenerateFeedback.HTMLExporter.template_name = "course-feedback"
c.GenerateFeedback.HTMLExporter.extra_template_basedirs = [str(Path(crossattn_ref.judge.__file__).parent / "templates")]
c.ExportApp.plugin_class = "crossattn_ref.judge.export.SafeCsv"
