"""Attacks succeed where the tests share a process with the submission: shown on a stand-in for stock nbgrader."""

import json
import os
import secrets
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from tests.judge.attacks import stock
from tests.judge.attacks.attack import SECRETS, Outcome, attack, harmed, stalled
from tests.judge.attacks.catalogue import SHARING
from tests.judge.attacks.classroom import ALICE, CALLER, GRADEBOOK, KEY, ROOT, SOLUTION, filled, state
from tests.judge.attacks.honest import SOFTMAX, honest

FULL = sum(points for points, _ in stock.TESTS.values())
SETUP = "import numpy as np\nnp.seterr(all='ignore')"
EDITED = "raise ValueError('a test that was edited by accident, and is put back')"
SCHEMA = """
create table grade (student text primary key, auto_score real, manual_score real);
create table source_cell (name text, source text, locked integer);
"""
STUDENTS = ("alice", "mallory", "zed")
ONE_SHARED = tuple(attack for attack in SHARING if attack.against == "stock")
LINE = "\nfor case in (np.random.default_rng(0).standard_normal((4, 5)), np.ones((2, 2))):\n    "
# Other graders, each of which takes an exit status of 0 for a pass.
ALONE = {
    "exit status": stock.TESTS["test1"][1],
    "every library": stock.TESTS["test1"][1],
    "masked comparison": f"from crossattn_ref.attention.reference import softmax as expected{LINE}"
    "assert np.ma.allclose(softmax(case), expected(case))",
}


def _course(folder, attack, changes):
    """Lay out what lies around a submission on stock nbgrader."""
    for name in (
        "source",
        "site-packages",
        *(f"{place}/{who}" for place in ("submitted", "autograded") for who in STUDENTS),
    ):
        (folder / name).mkdir(parents=True)
    (folder / "source" / "solution.py").write_text(f"# {SOLUTION}\n{SOFTMAX}")
    (folder / "site-packages" / "shared_answers.py").write_text(f"import numpy as np\n{SOFTMAX}")
    (folder / "course.key").write_text(KEY)
    right = {**honest(f"# {ALICE}"), "setup": SETUP}
    cells = {
        "alice": right,
        "zed": {**right, "test1": EDITED},
        "mallory": {"setup": SETUP, **filled(attack.cells, changes)},
    }
    for who in STUDENTS:
        (folder / "submitted" / who / "cells.json").write_text(json.dumps(cells[who]))
    for name, content in attack.files.items():
        path = folder / "autograded" / "mallory" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    with sqlite3.connect(folder / "gradebook.db") as gradebook:
        gradebook.executescript(SCHEMA)
        rows = [(name, source, 1) for name, (_, source) in stock.TESTS.items()]
        gradebook.executemany("insert into source_cell values (?, ?, ?)", rows)
        gradebook.execute("insert into grade values (?, 5, 0)", (GRADEBOOK,))
    asked = STUDENTS if attack.evidence is harmed else ("mallory",)
    cells = {who: cells[who] for who in asked}
    return {
        "course": str(folder),
        "cells": cells,
        "linger": attack.linger,
        "timeout": 0.4 if attack.evidence is stalled else 5,
    }


@pytest.fixture(scope="session")
def outcomes(tmp_path_factory):
    """Grade each attack in a class of its own, in two processes at a time."""
    place = tmp_path_factory.mktemp("stock")
    classes, servers, before = [], [], []
    for number, one in enumerate(ONE_SHARED):
        nonce, folder = secrets.token_hex(8), place / f"c{number}"
        server, hidden = socket.create_server(("127.0.0.1", 0)), socket.socket(socket.AF_UNIX)
        hidden.bind(f"\0here-{nonce}")
        hidden.listen()
        changes = {
            "@COURSE@": str(folder),
            "@ABOVE@": str(folder),
            "@NONCE@": nonce,
            "@PORT@": str(server.getsockname()[1]),
        }
        classes.append(_course(folder, one, changes))
        servers.append((server, hidden))
        before.append(state(folder))
    halves = [_started(classes[half::2]) for half in (0, 1)]
    told = [[json.loads(line) for line in process.communicate()[0].splitlines()] for process in halves]
    graded = [told[number % 2][number // 2] for number in range(len(classes))]
    return {
        attack.name: _outcome(*about)
        for attack, *about in zip(ONE_SHARED, graded, classes, before, servers, strict=True)
    }


def _started(requests):
    process = subprocess.Popen(
        [sys.executable, str(Path(stock.__file__))],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "SECRET_OF_THE_CALLER": CALLER},
    )  # fmt: skip
    process.stdin.write("".join(json.dumps(request) + "\n" for request in requests))
    process.stdin.close()
    process.stdin = None
    return process


def _outcome(graded, about, before, servers):
    after, points = state(Path(about["course"])), graded["points"]
    return Outcome(
        points=points.get("mallory", 0.0),
        said=graded["said"],
        lost=tuple(who for who in set(about["cells"]) - {"mallory"} if points.get(who) != FULL),
        ended=graded["ended"],
        waits=graded["waits"],
        left=(*(n for n in after if after[n] != before.get(n)), *["a process"] * graded["processes"]),
        sent=b"".join(_sent(server) for server in servers),
    )


def _sent(server):
    server.setblocking(False)
    with server:
        try:
            connection, _ = server.accept()
        except BlockingIOError:
            return b""
        with connection:
            return connection.recv(1000)


@pytest.mark.parametrize("attack", ONE_SHARED, ids=lambda attack: attack.name)
def test_it_succeeds_where_tests_and_submission_share_a_process(outcomes, attack):
    assert attack.evidence(outcomes[attack.name]), outcomes[attack.name]


@pytest.mark.parametrize("attack", [a for a in SHARING if a not in ONE_SHARED], ids=lambda attack: attack.name)
def test_it_succeeds_where_an_exit_status_is_the_score(attack):
    program = "\n".join([SETUP, attack.cells["softmax"], ALONE[attack.against], "softmax(np.ones((2, 2)))"])
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    assert subprocess.run([sys.executable, "-c", program], env=environment, check=False).returncode == 0


def test_there_the_honest_keep_their_points_from_one_who_does_nothing(tmp_path):
    """Without an attack nobody loses, nothing leaks and nothing is left: the stand-in accuses nobody falsely."""
    nothing = attack("nothing", "own", "nothing", evidence=harmed)
    request = _course(tmp_path / "course", nothing, {})
    before = state(tmp_path / "course")
    (line,) = _started([request]).communicate()[0].splitlines()
    graded = json.loads(line)
    assert graded["points"] == {GRADEBOOK: 5, "alice": FULL, "mallory": 0, "zed": FULL}
    assert graded["ended"]
    assert (graded["processes"], graded["waits"]) == (0, 0)
    assert not any(secret in graded["said"] for secret in SECRETS)
    assert state(tmp_path / "course") == before
