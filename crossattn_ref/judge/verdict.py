"""Grading one notebook: a pure function of the submission, the assignment, the course key and the environment."""

import contextlib
import hashlib
import hmac
import socket
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from crossattn_ref.checks.exercise import Exercise, examine, signature
from crossattn_ref.checks.report import Finding, Report
from crossattn_ref.checks.table import find
from crossattn_ref.judge.assignment import CheckCell, Notebook
from crossattn_ref.judge.channel import Broken, Channel, Gone
from crossattn_ref.judge.remote import RemoteSubject, bounded, by_lot
from crossattn_ref.judge.sandbox import Kernel, Limits, NoSandbox

PACKAGE = Path(__file__).resolve().parents[1]
CELL_SOURCE = 200_000  # characters of one cell; nobody types more
PICTURES, PICTURE_BYTES, PICTURE_SIDE = 8, 2**20, 4000  # kept of a cell: how many, how large, pixels a side
SIGNED = 2**20  # bytes of answers that a signature is made from
MESSAGE = 1000  # characters kept of a finding: it may repeat what an answer returned
SHOWN = 16 * 2**20  # characters and bytes of pictures kept of a notebook
_TOO_MUCH = f"not kept: the notebook shows more than {SHOWN // 2**20} MiB"
_PNG = b"\x89PNG\r\n\x1a\n"
_IHDR = struct.Struct("!16xII")  # where a PNG says how wide and high it is


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
    Where something else on this machine may have ended it, all is done once more: what a submission does to itself it
    does again. Raises NoSandbox where the sandbox itself fails, twice: that is no fault of the submission.
    """
    started = time.monotonic()
    try:
        verdict, killed = _judged(submission, cells, assignment, key, kernel, limits)
    except NoSandbox:
        killed = True
    if killed:
        verdict, _ = _judged(submission, cells, assignment, key, kernel, limits)
    _fill_up(verdict, assignment)
    verdict.seconds = time.monotonic() - started
    return verdict


def unjudged(assignment: Notebook, reason: str) -> Verdict:
    """Make the verdict on a notebook that could not be judged: no points, and a human has to look."""
    verdict = Verdict(flags=[reason])
    _fill_up(verdict, assignment)
    return verdict


def _fill_up(verdict, assignment):
    """Report each check that was not reached."""
    for check in assignment.checks.values():
        if check.cell not in verdict.reports:
            verdict.reports[check.cell] = Report(check.exercise, 0.0, (), remarks=(_unreached(verdict),))
            verdict.points[check.cell] = 0.0


def _judged(submission, cells, assignment, key, kernel, limits):
    """Judge once -> the verdict, and whether a process was killed, nobody knows by whom."""
    verdict, killed = Verdict(isolation=kernel.isolation), False
    room = SHOWN
    try:
        with kernel.notebook(limits) as channel:
            deadline = limits.wall(limits.cpu_seconds)
            for number, (name, source) in enumerate(cells):
                check = assignment.checks.get(name)
                if name in assignment.lent:
                    _lend(channel, assignment.lent[name], deadline)
                if check and name not in verdict.reports:
                    drawn = seed(key, check.exercise, submission)
                    with _fork(channel, number, deadline) as asked:
                        soon = min(deadline, limits.wall(limits.check_cpu_seconds))
                        killed |= _check(asked, check, drawn, soon, verdict).gone
                elif not check:
                    ran = _cell(channel, name, assignment.locked.get(name, source), deadline)
                    room -= sum(map(len, (ran.said, ran.error, *ran.pictures)))
                    verdict.cells[name] = ran if room >= 0 else Ran(error=_TOO_MUCH)
    except Broken as error:
        killed |= isinstance(error, Gone)
        verdict.flags.append(f"the notebook's process stopped: {error}")
    return verdict, killed


def _lend(channel: Channel, modules: tuple[str, ...], deadline: float) -> None:
    """Hand a notebook what it may import from here on."""
    files = {name: (PACKAGE / name).read_text(encoding="utf-8") for name in modules}
    channel.send({"do": "lend", "files": files}, deadline=deadline)
    channel.receive(deadline)


def _cell(channel: Channel, name: str, source: str, deadline: float) -> Ran:
    if len(source) > CELL_SOURCE:
        return Ran(error=f"not run: a cell of {len(source)} characters; at most {CELL_SOURCE} are")
    channel.send({"do": "cell", "id": name, "source": source}, deadline=deadline)
    reply = channel.receive(deadline)
    try:
        return Ran(_text(reply["said"], 20_000), _text(reply["error"], 2_000), _pictures(reply["pictures"]))
    except (KeyError, TypeError) as error:
        raise Broken(f"a malformed answer ({error})") from error


def _text(value, most):
    if not isinstance(value, str):  # to write anything else down could take this process as long as a stranger likes
        raise TypeError(f"a {type(value).__name__} where text belongs")
    return value[:most]


def _pictures(given):
    """Keep what is a PNG of a size that a marker's browser can show."""
    pictures = [p for p in given if isinstance(p, bytes) and len(p) <= PICTURE_BYTES and p.startswith(_PNG)]
    return [p for p in pictures if max(_IHDR.unpack_from(p.ljust(_IHDR.size, b"\xff"))) <= PICTURE_SIDE][:PICTURES]


@contextlib.contextmanager
def _fork(channel: Channel, number: int, deadline: float) -> Iterator[Channel]:
    """Fork the notebook's process as it stands -> a channel to the fork, which ends on leaving."""
    mine, its = socket.socketpair()
    with mine:
        with its:
            channel.send({"do": "check", "number": number}, (its.fileno(),), deadline)
        yield Channel(mine)
    channel.send({"do": "end", "number": number}, deadline=deadline)
    channel.receive(deadline)


def _check(channel: Channel, check: CheckCell, drawn: int, deadline: float, verdict: Verdict) -> RemoteSubject:
    """Ask an answer every property of its exercise, note the report (one that nothing explains is signed) -> it."""
    exercise = find(check.exercise)
    subject = RemoteSubject(channel, check.answer, tensors=exercise.wanted == "tensor", deadline=deadline)
    try:
        with bounded():
            report, signed = _report(check.exercise, exercise, subject, drawn)
    except Exception as error:  # noqa: BLE001 whatever a stranger's numbers do to a check, the class goes on
        why = f"the check itself failed on this answer: {type(error).__name__}: {str(error)[:300]}"
        report, signed = _nothing_passed(check.exercise, exercise, why, drawn), ""
        verdict.flags.append(f"{check.exercise}: {why}")
    if subject.broken:
        verdict.flags.append(f"{check.exercise}: the answer's process stopped during its check: {subject.broken}")
    verdict.reports[check.cell], verdict.signatures[check.cell] = report, signed
    verdict.points[check.cell] = check.points * report.score if report.score < 1 else check.points
    return subject


def _report(name: str, exercise: Exercise, subject: RemoteSubject, drawn: int) -> tuple[Report, str]:
    if subject.problem:
        return _nothing_passed(name, exercise, subject.problem, drawn), ""
    by_lot(name, exercise, subject, drawn)
    report = examine(name, exercise, subject, drawn)
    unexplained = report.score < 1 and not report.diagnosis
    return told(report), _signed(exercise, subject) if unexplained and not subject.broken else ""


def _signed(exercise, subject):
    """Sign an answer that sends no more than a signature is worth: it is made number by number."""
    subject.room = min(subject.room, subject.taken + SIGNED)
    return signature(exercise, subject)


def told(report: Report) -> Report:
    """Keep of a report what a learner may see and a file can hold: no drawn input, no function."""
    findings = tuple(replace(f, counterexample={}, message=f.message[:MESSAGE]) for f in report.findings)
    return replace(report, findings=findings, diagnosis=tuple(replace(m, wrong=None) for m in report.diagnosis))


def _nothing_passed(name, exercise, why, drawn):
    findings = tuple(Finding(prop.name, prop.share, False, None, why) for prop in exercise.properties)
    return Report(name, 0.0, findings, seed=drawn)


def _unreached(verdict):
    return verdict.flags[-1] if verdict.flags else "This check was not reached."
