"""Grading one notebook: a pure function of the submission, the assignment, the course key and the environment."""

import contextlib
import hashlib
import hmac
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from IPython.core.inputtransformer2 import TransformerManager

from crossattn_ref.checks.exercise import examine, signature
from crossattn_ref.checks.report import Report
from crossattn_ref.checks.table import find
from crossattn_ref.judge.assignment import CheckCell, Notebook
from crossattn_ref.judge.channel import Broken, Channel
from crossattn_ref.judge.remote import RemoteSubject
from crossattn_ref.judge.sandbox import Kernel, Limits

CELL_SOURCE = 200_000  # characters of one cell; nobody types more


@dataclass
class Ran:
    """What one cell did: what it printed, the error it ended in, PNG pictures."""

    said: str = ""
    error: str = ""
    pictures: list[bytes] = field(default_factory=list)


@dataclass
class Verdict:
    """The outcome for one notebook: reports by graded cell, what each cell did, and what a human should look at."""

    reports: dict[str, Report] = field(default_factory=dict)
    signatures: dict[str, str] = field(default_factory=dict)
    points: dict[str, float] = field(default_factory=dict)
    cells: dict[str, Ran] = field(default_factory=dict)
    flags: list[str] = field(default_factory=list)
    seconds: float = 0.0
    isolation: str = ""


def seed(key: bytes, exercise: str, submission: bytes) -> int:
    """Draw the seed of a check: the same for a regrade, another for a changed submission, unknown without the key."""
    digest = hashlib.sha256(submission).hexdigest()
    return int.from_bytes(hmac.new(key, f"{exercise}\0{digest}".encode(), "sha256").digest()[:12], "big")


def judge(
    submission: bytes, cells: list[tuple[str, str]], assignment: Notebook, key: bytes, kernel: Kernel, limits: Limits
) -> Verdict:
    """Run the cells of a submission, (id, source) in order, and ask each check at its own position.

    submission is what the learner handed in, byte for byte: with the course key it decides the inputs.
    A cell that is locked runs with the assignment's source. Where the process dies, what was shown before counts.
    """
    started = time.monotonic()
    verdict = Verdict(isolation=kernel.isolation)
    try:
        with kernel.notebook(limits) as channel:
            _run(channel, submission, cells, assignment, key, limits, verdict)
    except Broken as error:
        verdict.flags.append(f"the notebook's process stopped: {error}")
    for check in assignment.checks.values():
        if check.cell not in verdict.reports:
            verdict.reports[check.cell] = Report(check.exercise, 0.0, (), remarks=(_unreached(verdict),))
            verdict.points[check.cell] = 0.0
    verdict.seconds = time.monotonic() - started
    return verdict


def _run(channel, submission, cells, assignment, key, limits, verdict):
    deadline = limits.wall(limits.cpu_seconds)
    for number, (name, source) in enumerate(cells):
        check = assignment.checks.get(name)
        if check:
            drawn = seed(key, check.exercise, submission)
            report, verdict.signatures[name] = _check(channel, number, check, drawn, limits, deadline)
            verdict.reports[name] = report
            verdict.points[name] = check.points * report.score if report.score < 1 else check.points
            if any("process stopped" in finding.message for finding in report.findings):
                verdict.flags.append(f"{check.exercise}: the answer's process stopped during its check")
        else:
            verdict.cells[name] = _cell(channel, name, assignment.locked.get(name, source), deadline)


def _cell(channel: Channel, name: str, source: str, deadline: float) -> Ran:
    if len(source) > CELL_SOURCE:
        return Ran(error=f"not run: a cell of {len(source)} characters; at most {CELL_SOURCE} are")
    channel.send({"do": "cell", "id": name, "source": plain_python(source)})
    reply = channel.receive(deadline)
    try:
        pictures = [picture for picture in reply["pictures"] if picture.startswith(b"\x89PNG\r\n\x1a\n")]
        return Ran(str(reply["said"])[:20_000], str(reply["error"])[:2_000], pictures[:8])
    except (KeyError, TypeError, AttributeError) as error:
        raise Broken(f"a malformed answer ({error})") from error


def _check(
    channel: Channel, number: int, check: CheckCell, drawn: int, limits: Limits, deadline: float
) -> tuple[Report, str]:
    """Fork the notebook's process as it stands, and ask the fork; a wrong answer that nothing explains is signed."""
    exercise = find(check.exercise)
    until = min(deadline, limits.wall(limits.check_cpu_seconds))
    with _fork(channel, number, deadline) as asked:
        subject = RemoteSubject(asked, check.answer, tensors=exercise.wanted == "tensor", deadline=until)
        report = examine(check.exercise, exercise, subject, drawn)
        unexplained = report.score < 1 and not report.diagnosis
        return _told(report), signature(exercise, subject) if unexplained and not subject.broken else ""


def _told(report: Report) -> Report:
    """Keep of a report what a learner may see and a file can hold: no drawn input, no function."""
    findings = tuple(replace(finding, counterexample={}) for finding in report.findings)
    return replace(report, findings=findings, diagnosis=tuple(replace(m, wrong=None) for m in report.diagnosis))


@contextlib.contextmanager
def _fork(channel: Channel, number: int, deadline: float) -> Iterator[Channel]:
    mine, its = socket.socketpair()
    with mine:
        with its:
            channel.send({"do": "check", "number": number}, (its.fileno(),))
        yield Channel(mine)
    channel.send({"do": "end", "number": number})
    channel.receive(deadline)


def plain_python(source: str) -> str:
    """Turn magics and shell lines into plain calls, by IPython's own transformer: text in, text out, nothing runs."""
    try:
        return TransformerManager().transform_cell(source)
    except SyntaxError:
        return source  # the cell's own error, which it will raise where it runs


def _unreached(verdict):
    return verdict.flags[-1] if verdict.flags else "This check was not reached."
