"""What nbgrader is configured with: a repair in front of its own preprocessors, and the judge in place of a kernel.

nbgrader keeps everything else: the gradebook, late rules, marks given by hand, the formgrader, feedback, exports.
"""

import base64
import json
import math
from pathlib import Path

import nbformat
from nbgrader.preprocessors import NbGraderPreprocessor
from traitlets import Bool, Integer, Unicode

from crossattn_ref.judge import assignment as assignments
from crossattn_ref.judge import sandbox
from crossattn_ref.judge.repair import repaired
from crossattn_ref.judge.store import Store, content, course_key
from crossattn_ref.judge.verdict import Verdict, judge, seed

_KERNELS: dict[tuple, sandbox.Kernel] = {}  # one for each set of libraries, for the life of the process


class Repair(NbGraderPreprocessor):
    """Put a submission back into the shape of its release."""

    course = Unicode(".", help="folder of the course").tag(config=True)
    release = Unicode("exercises", help="folder of the released notebooks, in the course").tag(config=True)

    def preprocess(self, nb, resources):
        """Replace the notebook by its repaired form."""
        about = resources["nbgrader"]
        path = Path(self.course) / self.release / about["assignment"] / f"{about['notebook']}.ipynb"
        result = repaired(json.loads(nbformat.writes(nb)), nbformat.read(path, as_version=4))
        for remark in result.remarks:
            self.log.warning("%s/%s: %s", about["student"], about["notebook"], remark)
        result.notebook.metadata.kernelspec = nb.metadata.get("kernelspec", {})
        return result.notebook, resources


class Judge(NbGraderPreprocessor):
    """Grade the check cells in the sandbox, and write into each one report and one finite score."""

    course = Unicode(".", help="folder of the course").tag(config=True)
    source = Unicode("solutions", help="folder of the source notebooks, in the course").tag(config=True)
    results = Unicode("_build/grading/results", help="folder of verdicts, in the course").tag(config=True)
    key = Unicode("course.key", help="file with the course's secret, in the course").tag(config=True)
    unsafe = Bool(False, help="run strangers' code without a sandbox; recorded in every result").tag(config=True)
    cpu_seconds = Integer(60, help="processor time of all cells of a notebook").tag(config=True)
    check_cpu_seconds = Integer(20, help="processor time of one check").tag(config=True)

    def preprocess(self, nb, resources):
        """Find or compute the verdict, and put it into the outputs of the cells."""
        about = resources["nbgrader"]
        verdict = self.verdict(nb, about["assignment"], about["notebook"])
        for cell in nb.cells:
            if cell.cell_type == "code":
                _write(cell, verdict)
        return nb, resources

    def verdict(self, nb, subject: str, notebook: str) -> Verdict:
        """Judge a repaired notebook, or find the verdict of an earlier run."""
        course = Path(self.course)
        assignment = assignments.read(course / self.source / subject / f"{notebook}.ipynb")
        cells = [(cell.id, cell.source) for cell in nb.cells if cell.cell_type == "code"]
        key = course_key(course / self.key)
        store = Store(course / self.results, key, "none" if self.unsafe else "bubblewrap")
        submission = content(cells)
        name = store.name(submission, assignment)
        found = store.get(name)
        if found is None:
            limits = sandbox.Limits(cpu_seconds=self.cpu_seconds, check_cpu_seconds=self.check_cpu_seconds)
            found = judge(submission, cells, assignment, key, self._kernel(assignment), limits)
            store.put(name, found, {c.exercise: seed(key, c.exercise, submission) for c in assignment.checks.values()})
        return found

    def _kernel(self, assignment):
        about = (assignment.libraries, assignment.modules, self.unsafe)
        if about not in _KERNELS or not _KERNELS[about].alive:
            _KERNELS[about] = sandbox.start(assignment.libraries, assignment.modules, unsafe=self.unsafe)
        return _KERNELS[about]


def _write(cell, verdict):
    """Write what nbgrader reads: the first execute_result of a graded cell is its points; a report precedes it."""
    cell.execution_count = None
    report = verdict.reports.get(cell.id)
    if report is not None:
        most = float(cell.metadata.nbgrader.points)
        points = verdict.points[cell.id]
        points = min(max(points, 0.0), most) if math.isfinite(points) else 0.0
        text = report.text(most)
        isolation = "" if verdict.isolation != "none" else "\n\n  Graded without a sandbox (--unsafe)."
        cell.outputs = [
            nbformat.v4.new_output("display_data", {"text/plain": text + isolation}),
            nbformat.v4.new_output("execute_result", {"text/plain": repr(points)}),
        ]
        return
    ran = verdict.cells.get(cell.id)
    if ran is None:
        return
    cell.outputs = [nbformat.v4.new_output("stream", text=ran.said, name="stdout")] if ran.said else []
    for picture in ran.pictures:
        encoded = base64.b64encode(picture).decode()
        cell.outputs.append(nbformat.v4.new_output("display_data", {"image/png": encoded}))
    if ran.error:
        kind, _, message = ran.error.partition(": ")
        cell.outputs.append(nbformat.v4.new_output("error", ename=kind, evalue=message, traceback=[ran.error]))
