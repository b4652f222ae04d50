"""A cheap stand-in for stock nbgrader's design: the tests run in one process with the submission, next to the course.

Run as a program it grades classes of three, honest alice, mallory with an attack, honest zed, each in a course folder
of its own, as nbgrader 0.9.6 does: every cell in one IPython shell, hidden tests put back from the gradebook, a score
read off the outputs by nbgrader's own function, one timeout for each cell. In place of a Jupyter kernel it forks a
process that has the shell loaded, which saves a second for each student and changes nothing that matters here.

    python stock.py < requests > outcomes        one JSON object a line
"""

import contextlib
import ctypes
import io
import json
import os
import select
import signal
import sqlite3
import sys
import time
from pathlib import Path

import nbformat
import numpy as np
import psutil
from IPython.core.interactiveshell import InteractiveShell
from nbgrader.utils import determine_grade

PATIENCE = 20  # seconds until somebody pulls the plug
CELLS = ("setup", "softmax", "test1", "test2", "test3", "test4", "symmetry_test", "test5", "after")

TESTS = {
    "test1": (2, """
# hidden-tests: assertions
from crossattn_ref.attention.reference import softmax as expected
for case in (np.random.default_rng(0).standard_normal((4, 5)), np.ones((2, 2))):
    np.testing.assert_allclose(softmax(case), expected(case), rtol=1e-5)
    assert np.allclose(softmax(case).sum(-1), 1)
finished = True
"""),
    "test2": (3, """
# hidden-tests: partial credit
from shared_answers import softmax as expected
cases = [np.random.default_rng(1).standard_normal((1, 5)), np.full((2, 3), -np.inf)]
score = 0.0
for case in cases:
    got, want = softmax(case), expected(case)
    score += float(np.allclose(got, want, equal_nan=True))
3 * score / len(cases)
"""),
    "test3": (2, "from crossattn_ref.checks import check\ncheck('attention/softmax', softmax, points=2)"),
    "test4": (2, """
# hidden-tests: a global name that is also the argument's
x = np.random.default_rng(2).standard_normal((3, 4))
before = softmax(x)
np.testing.assert_allclose(before, expected(x), rtol=1e-5)
finished = True
"""),
    "test5": (2, "check('attention/symmetry_test', symmetry_test, points=2)"),
}  # fmt: skip


def main():
    """Load everything once, then grade a class for each request, in a process of its own."""
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # what is left behind comes to this process, and is seen
    shell = InteractiveShell.instance()
    shell.history_manager.enabled = False
    for line in sys.stdin:
        print(json.dumps(_graded(json.loads(line), shell)), flush=True)


def _graded(request, shell):
    """Grade one class -> what became of it: points, what was shown, whether it ended by itself, what is left."""
    course = Path(request["course"])
    began, report = time.monotonic(), course / "report.json"
    grader = os.fork()
    if grader == 0:
        with contextlib.suppress(BaseException):
            os.setsid()
            _grade_class(course, request["cells"], shell, report, request["timeout"])
        os._exit(0)
    ended = _wait(grader)
    seconds = time.monotonic() - began
    time.sleep(request["linger"])
    left = [child for child in psutil.Process().children(recursive=True) if child.status() != psutil.STATUS_ZOMBIE]
    for child in [*left, *psutil.Process().children(recursive=True)]:
        with contextlib.suppress(psutil.Error):
            child.kill()
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, 0):
            pass
    told = json.loads(report.read_text()) if report.exists() else {"points": {}, "said": "", "waits": 0}
    return {**told, "ended": ended, "seconds": seconds, "processes": len(left)}


def _wait(pid):
    """Wait for the grader -> whether it ended by itself, and well."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return status == 0
        time.sleep(0.005)
    return False


def _grade_class(course, cells, shell, report, timeout):
    said, points = [], {}
    for student in cells:
        points[student] = _grade(course, student, cells[student], shell, said, timeout)
        with sqlite3.connect(course / "gradebook.db", timeout=0.3) as gradebook:
            gradebook.execute("insert or replace into grade values (?, ?, 0)", (student, points[student]))
        told = {"points": _recorded(course), "said": "".join(said), "waits": _Kernel.waits}
        report.write_text(json.dumps(told))


def _recorded(course):
    with sqlite3.connect(course / "gradebook.db", timeout=0.3) as gradebook:
        rows = gradebook.execute("select student, auto_score, manual_score from grade").fetchall()
    return {student: manual or auto for student, auto, manual in rows}


def _grade(course, student, cells, shell, said, timeout):
    """Run a student's cells and the tests in one kernel -> the points; a kernel that dies leaves none at all."""
    cells = {**cells, **json.loads((course / "submitted" / student / "cells.json").read_text())}
    with sqlite3.connect(course / "gradebook.db", timeout=0.3) as gradebook:
        for name, source, locked in gradebook.execute("select name, source, locked from source_cell").fetchall():
            cells[name] = source if locked else cells.get(name, source)
    kernel = _Kernel(shell, course / "autograded" / student, timeout)
    try:
        points = 0.0
        for name in CELLS:
            if name in cells:
                outputs = kernel.run(cells[name])
                said += [output.get("text", "") + str(output.get("data", "")) for output in outputs]
                points += _score(name, cells[name], outputs) if name in TESTS else 0
        return points
    except EOFError:
        return 0.0  # DeadKernelError
    finally:
        kernel.close()


def _score(name, source, outputs):
    meta = {"nbgrader": {"grade": True, "grade_id": name, "points": TESTS[name][0], "solution": False, "locked": True}}
    cell = nbformat.v4.new_code_cell(source, metadata=meta, outputs=outputs)
    return determine_grade(cell)[0]


class _Kernel:
    """A process with a shell in it, in the folder of one student, that runs cells sent as lines of JSON."""

    waits = 0  # how often a cell was waited for until its time was up

    def __init__(self, shell, folder, timeout):
        self._timeout = timeout  # seconds for one cell; nbgrader's own is 30
        ours, its = os.pipe(), os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            os.close(its[1])
            os.close(ours[0])
            with contextlib.suppress(BaseException):
                _serve(shell, folder, its[0], ours[1])
            os._exit(0)
        os.close(its[0])
        os.close(ours[1])
        self._out, self._into = ours[0], its[1]
        self._busy = False
        self._said = b""

    def run(self, source):
        """Run a cell; interrupt it when its time is up -> its outputs."""
        if self._busy and not self._reply(self._timeout):
            return [nbformat.v4.new_output("error", ename="CellTimeoutError", evalue="", traceback=[])]
        os.write(self._into, json.dumps(source).encode() + b"\n")
        reply = self._reply(self._timeout)
        if reply is None:
            os.kill(self._pid, signal.SIGINT)
            reply = self._reply(self._timeout)
        if reply is None:
            return [nbformat.v4.new_output("error", ename="CellTimeoutError", evalue="", traceback=[])]
        return [nbformat.from_dict(output) for output in reply]

    def _reply(self, seconds):
        end = time.monotonic() + seconds
        while b"\n" not in self._said:
            if not select.select([self._out], [], [], max(end - time.monotonic(), 0))[0]:
                self._busy = True
                _Kernel.waits += 1
                return None
            if not (piece := os.read(self._out, 2**16)):
                raise EOFError
            self._said += piece
        line, _, self._said = self._said.partition(b"\n")
        self._busy = False
        return json.loads(line)

    def close(self):
        os.close(self._out)
        os.close(self._into)
        with contextlib.suppress(OSError):
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)


def _serve(shell, folder, requests, replies):
    os.chdir(folder)
    os.environ["NBGRADER_EXECUTION"] = "autograde"
    sys.path[:0] = [str(folder), str(folder.parents[1] / "site-packages")]
    for name in [name for name in sys.modules if name.startswith("crossattn_ref")]:
        del sys.modules[name]  # a new kernel imports them itself
    shell.user_ns["np"] = np
    with os.fdopen(requests) as lines:
        for line in lines:
            os.write(replies, json.dumps(_outputs(shell, json.loads(line))).encode() + b"\n")


def _outputs(shell, source):
    """Run a cell in the shell -> its outputs as a notebook keeps them."""
    said, warned = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(warned):
        ran = shell.run_cell(source, store_history=True)
    outputs = [{"output_type": "stream", "name": "stdout", "text": said.getvalue()}]
    if warned.getvalue():
        outputs.append({"output_type": "stream", "name": "stderr", "text": warned.getvalue()})
    if ran.error_before_exec or ran.error_in_exec:
        outputs.append({"output_type": "error", "ename": "error", "evalue": "", "traceback": []})
    elif ran.result is not None:
        outputs.append(
            {
                "output_type": "execute_result",
                "data": {"text/plain": shell.display_formatter.format(ran.result)[0].get("text/plain", "")},
                "execution_count": 1,
                "metadata": {},
            }
        )
    return outputs


if __name__ == "__main__":
    main()
