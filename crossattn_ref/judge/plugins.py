"""What nbgrader is configured with: a repair in front of its own preprocessors, and the judge in place of a kernel.

nbgrader keeps everything else: the gradebook, late rules, marks given by hand, the formgrader, feedback, exports.
"""

import base64
import dataclasses
import functools
import json
import math
import re
from pathlib import Path

import nbformat
from nbgrader.preprocessors import NbGraderPreprocessor
from traitlets import Bool, Float, Integer, Unicode

from crossattn_ref.judge import assignment, sandbox
from crossattn_ref.judge.bubblewrap import exposed
from crossattn_ref.judge.examiner import Examiner
from crossattn_ref.judge.repair import repaired
from crossattn_ref.judge.store import course_key
from crossattn_ref.judge.verdict import Verdict


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
    cell_cpu_seconds = Integer(30, help="processor time of one cell").tag(config=True)
    check_cpu_seconds = Integer(20, help="processor time of one check").tag(config=True)
    total_cpu_seconds = Integer(300, help="processor time of all processes of a notebook").tag(config=True)
    wall_factor = Float(5.0, help="by the clock, at most so many times the processor time").tag(config=True)
    patience = Float(10.0, help="and so many seconds more").tag(config=True)
    memory_bytes = Integer(4 * 2**30, help="memory of a notebook, each process and all together").tag(config=True)

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
        source = Path(self.course) / self.source / subject / f"{notebook}.ipynb"
        return examiner(self).verdict(assignment.read(source), code_cells(nb))


def code_cells(nb: nbformat.NotebookNode) -> list[tuple[str, str]]:
    """List what a notebook says: the (id, source) of its code cells, in order."""
    return [(cell.id, cell.source) for cell in nb.cells if cell.cell_type == "code"]


def examiner(judge: Judge) -> Examiner:
    """Make what judges for a plugin as it is configured; the same one for the same settings."""
    course = Path(judge.course).resolve()
    if not judge.unsafe and (reason := exposed(course)):
        raise sandbox.NoSandbox(reason)
    named = {field.name for field in dataclasses.fields(sandbox.Limits)} & set(judge.trait_names(config=True))
    limits = sandbox.Limits(**{name: getattr(judge, name) for name in named})
    return _examiner(course_key(course / judge.key), course / judge.results, limits, judge.unsafe)


@functools.cache
def _examiner(*settings):
    return Examiner(*settings)


class Quiet(NbGraderPreprocessor):
    """Keep what a learner wrote in Markdown from running, linking or loading anything on the marker's page."""

    def preprocess_cell(self, cell, resources, cell_index):  # noqa: ARG002 nbconvert's signature
        """Put a space of no width where a tag, the target of a link, or the definition of one would begin."""
        if cell.cell_type == "markdown" and not cell.metadata.get("nbgrader", {}).get("locked"):
            cell.source = _ACTIVE.sub("\\g<0>\u200b", cell.source)
        return cell, resources


_ACTIVE = re.compile(r"<(?=[a-zA-Z/!?])|\](?=[(:])")


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
