"""All attacks in one class with honest notebooks, graded by the command as an instructor runs it."""

import base64
import csv
import ctypes
import os
import re
import secrets
import socket
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from crossattn_ref.judge.sandbox import missing
from crossattn_ref.judge.verdict import seed
from tests.judge.attacks import classroom
from tests.judge.attacks.attack import SECRETS, Outcome
from tests.judge.attacks.catalogue import ATTACKS, NO_CASE
from tests.judge.attacks.classroom import ALICE, KEY, SUBJECT
from tests.judge.attacks.honest import HONEST, honest
from tests.judge.attacks.weakened import table

pytestmark = pytest.mark.skipif(missing() is not None, reason=f"no sandbox: {missing()}")

FULL = 4.0
ODD = ("=1+1", "-rf", "a,b", "{student_id}", "x;=cmd!A0", "é")  # names that are graded as any other
UNFIT = ("*", "[a]lice", "new\nline", " pad ", "\x1b[2J", os.fsdecode(b"bad\xff"))  # and those that cannot be
MALLORY = {f"mallory-{number:03}": attack for number, attack in enumerate(ATTACKS)}
STUDENTS = {f"honest-{number:02}": cells for number, cells in enumerate(HONEST.values())}


@dataclass(frozen=True)
class Class:
    """A graded class: how the command ended, and what it left behind."""

    course: Path
    status: int
    printed: str
    outcomes: dict[str, Outcome]
    scores: dict[str, float]
    triage: dict[str, dict[str, str]]
    lost: tuple[str, ...]
    left: tuple[str, ...]
    sent: bool


@pytest.fixture(scope="session")
def graded(tmp_path_factory):
    """Hand everything in, grade it once, and look around."""
    course = tmp_path_factory.mktemp("class-of-attacks") / "course"
    course.mkdir()
    classroom.found(course)
    nonce = secrets.token_hex(8)
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(socket.AF_UNIX) as hidden:
        hidden.bind(f"\0here-{nonce}")
        hidden.listen()
        _everybody_hands_in(course, nonce, server.getsockname()[1])
        before, mine = classroom.state(course), _processes()
        ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # what is left behind comes to this process, and is seen
        done = classroom.run(course, "crossattn_ref", "grade", SUBJECT, "--workers", "2")
        left = _left(course, before, mine, nonce)
        ctypes.CDLL(None).prctl(36, 0, 0, 0, 0)
        sent = any(_called(listener) for listener in (server, hidden))
    return _class(course, done, left, sent)


def _everybody_hands_in(course, nonce, port):
    changes = {
        "@COURSE@": str(course), "@ABOVE@": str(course.parent), "@NONCE@": nonce, "@PORT@": str(port),
        "@TABLE@": table(seed(KEY.encode(), "attention/softmax", b"what was handed in before")),
    }  # fmt: skip
    for student in ("alice", "zed", *ODD, *UNFIT):
        classroom.hand_in(course, student, honest(f"# {ALICE}"))
    for student, cells in STUDENTS.items():
        classroom.hand_in(course, student, cells)
    for student, attack in MALLORY.items():
        if attack.accomplice:
            classroom.hand_in(
                course, f"{student}-", classroom.filled({**honest(), "after": attack.accomplice}, changes)
            )
        classroom.hand_in(course, student, classroom.filled(attack.cells, changes), attack)


def _class(course, done, left, sent):
    scores = classroom.scores(course)
    with (course / "_build" / "grading" / SUBJECT / "triage.csv").open(newline="", encoding="utf-8") as file:
        triage = {row["student"]: row for row in csv.DictReader(file)}
    innocent = ["alice", "zed", *ODD, *STUDENTS, *(f"{name}-" for name, attack in MALLORY.items() if attack.accomplice)]
    lost = tuple(name for name in innocent if round(scores.get(name, -1), 2) != FULL)
    outcomes = {}
    for student in MALLORY:
        said, pictures = classroom.shown(course, student)
        row = triage.get(student, {})
        outcomes[student] = Outcome(
            points=scores.get(student, 0.0),
            said=f"{said}\n{row.get('why', '')}",
            lost=lost if row else (student,),
            ended=done.returncode == 0,
            left=left,
            sent=b"something" if sent else b"",
            pictures=tuple(map(base64.b64decode, pictures)),
        )
    return Class(course, done.returncode, done.stdout + done.stderr, outcomes, scores, triage, lost, left, sent)


def _processes():
    found = psutil.Process().children(recursive=True)
    return {(one.pid, one.create_time()) for one in found if one.status() != psutil.STATUS_ZOMBIE}


def _left(course, before, mine, nonce):
    """Name the processes and files that are there now and should not be."""
    end = time.monotonic() + 10
    while (new := _processes() - mine) and time.monotonic() < end:
        time.sleep(0.1)
    after = classroom.state(course)
    changed = [name for name in {*before, *after} if before.get(name) != after.get(name)]
    strewn = [str(path) for place in ("/tmp", "/dev/shm", "/var/tmp") for path in Path(place).glob(f"*{nonce}*")]
    return (*map(str, new), *changed, *strewn)


def _called(listener):
    listener.setblocking(False)
    try:
        listener.accept()[0].close()
    except BlockingIOError:
        return False
    return True


def test_there_are_at_least_eighty_attacks_and_each_is_named_once():
    assert len({attack.name for attack in ATTACKS}) == len(ATTACKS) >= 80


def test_the_page_on_the_judge_says_how_many_there_are():
    (said,) = re.findall(
        r"`attacks/` holds (\d+) hostile submissions", (classroom.ROOT / "book" / "judge.md").read_text()
    )
    assert int(said) == len(ATTACKS)


def test_the_command_ends_normally(graded):
    assert graded.status == 0, graded.printed[-2000:]
    assert "Traceback" not in graded.printed
    assert "Warning" not in graded.printed


@pytest.mark.parametrize("student", MALLORY, ids=lambda student: MALLORY[student].name)
def test_an_attack_earns_nothing_and_gets_nothing(graded, student):
    attack, outcome = MALLORY[student], graded.outcomes[student]
    assert outcome.points == pytest.approx(attack.earns, abs=0.01)
    assert not attack.evidence(outcome)
    assert not any(secret in outcome.said for secret in SECRETS)


@pytest.mark.parametrize("name", HONEST)
def test_an_honest_notebook_among_them_keeps_its_points(graded, name):
    student = f"honest-{list(HONEST).index(name):02}"
    assert graded.scores[student] == FULL, graded.triage[student]["why"]


def test_nobody_honest_lost_a_point(graded):
    assert graded.lost == ()


def test_everybody_is_in_the_list_and_those_who_need_a_human_are_named_first(graded):
    names = {*MALLORY, *STUDENTS}
    assert names <= set(graded.triage)
    called_out = {name for name, row in graded.triage.items() if row["needs_human"] == "yes"}
    missed = {attack.name for name, attack in MALLORY.items() if attack.human and name not in called_out}
    assert not missed
    assert not called_out & set(STUDENTS)
    assert all(graded.triage[name]["why"] for name in called_out)


def test_a_name_that_nbgrader_takes_for_a_pattern_or_nobody_can_show_is_refused_and_said(graded):
    refused = {name: row for name, row in graded.triage.items() if row["state"] == "refused"}
    assert len(refused) == len(UNFIT)
    assert all(row["needs_human"] == "yes" and "rename" in row["why"] for row in refused.values())
    assert not set(UNFIT) & set(graded.scores)


def test_nothing_outlives_the_run_and_nothing_of_the_course_has_changed(graded):
    assert graded.left == ()


def test_nobody_was_called(graded):
    assert not graded.sent


def test_what_is_printed_moves_no_cursor_and_starts_no_formula(graded):
    assert "\x1b[2J" not in graded.printed
    cells = [value for row in graded.triage.values() for value in row.values()]
    assert not any(value.lstrip().startswith(("=", "+", "-", "@")) or not value.isprintable() for value in cells)


def test_no_secret_is_anywhere_but_where_it_was_put(graded):
    for place in ("autograded", "_build/grading/attention"):
        for path in (graded.course / place).rglob("*"):
            if path.is_file() and "mallory" in str(path):
                assert not any(secret.encode() in path.read_bytes() for secret in SECRETS[:1] + SECRETS[3:5]), path


def test_every_row_that_is_no_case_says_why():
    assert all(len(reason.split()) >= 3 for reason in NO_CASE.values())
