"""The judge with one wall taken down, each by a name. An attack that succeeds here and fails on the judge shows that wall."""

import contextlib
import json
import math
import os
import pickle
import socket
import time
from collections.abc import Iterator
from unittest import mock

from crossattn_ref.checks.table import examine, reference
from crossattn_ref.judge import channel as channels
from crossattn_ref.judge import remote, verdict
from crossattn_ref.judge.assignment import CheckCell, Notebook
from crossattn_ref.judge.channel import Channel
from crossattn_ref.judge.sandbox import Kernel, Limits
from tests.judge.attacks.attack import Attack, Outcome

LIMITS = Limits(
    cpu_seconds=3, cell_cpu_seconds=1, check_cpu_seconds=2, wall_factor=2, patience=2, total_cpu_seconds=8,
    memory_bytes=2**30,
)  # fmt: skip
EXERCISES = {"softmax": "attention/softmax", "symmetry_test": "attention/symmetry_test"}
ASSIGNMENT = Notebook(
    "attention", {f"check-{name}": CheckCell(f"check-{name}", about, name, 2.0) for name, about in EXERCISES.items()},
    {}, ("numpy",), (),
)  # fmt: skip


def _naive(self, count, deadline=None):
    """Receive whatever comes, in whatever form."""
    size, blob = channels._HEAD.unpack(self._exactly(channels._HEAD.size, deadline))
    body = self._exactly(size + blob, deadline)
    if body[:1] == b"\x80":
        return pickle.loads(body), []
    return channels._unpack(json.loads(bytes(body[:size])), channels._parts(memoryview(body[size:]))), []


def _welcoming(self, size, deadline, count=0, fds=None):
    """Take so many bytes, and every descriptor that comes along."""
    while len(self._came) < size:
        self._wait(deadline)
        piece, _, _, _ = socket.recv_fds(self.sock, 2**16, 253)
        if not piece:
            raise channels.Broken("the other side is gone")
        self._came += piece
    taken = self._came[:size]
    del self._came[:size]
    return taken


def _patient(self, deadline):
    """Wait for each byte as long as for a whole message."""
    self.sock.settimeout(10)


def _in_its_own_words(target, args, named, *, tensors):
    try:
        return {"value": target(*args, **named), "said": ""}
    except Exception as error:  # noqa: BLE001 as the judge does
        return {"error": [type(error).__name__, str(error)], "said": ""}


def _halves(value, parts):
    return value if isinstance(value, str) else _strict_unpack(value, parts)


_strict_unpack = channels._unpack

# Each wall by the name of its absence: what is put in whose place.
WEAKENED: dict[str, list[tuple[object, str, object]]] = {
    "any form": [(Channel, "receive_with_fds", _naive)],
    "pickle on the channel": [(Channel, "receive_with_fds", _naive)],
    "messages of any size": [(channels, "MOST", 2**40), (channels, "TEXT", 2**40)],
    "answers of any size": [(remote, "ANSWERED", math.inf)],
    "descriptors welcome": [(Channel, "_exactly", _welcoming)],
    "patience for every byte": [(Channel, "_wait", _patient)],
    "anything as text": [(verdict, "_text", lambda value, most: str(value)[:most])],
    "pictures without end": [(verdict, "SHOWN", math.inf), (verdict, "PICTURES", 10**6)],
    "pictures of any kind": [(verdict, "_pictures", lambda given: given)],
    "findings of any length": [(verdict, "MESSAGE", 10**9)],
    "half characters": [(channels, "_unpack", _halves)],
    "a seed that is known": [(verdict, "seed", lambda *_: 0)],
    "a known order": [(verdict, "by_lot", lambda *_: None)],
    "errors in their own words": [(remote, "_answered", _in_its_own_words)],
    "questions without end": [(remote, "ASKS", 10**9)],
    "questions of any size": [(remote, "ELEMENTS", math.inf)],
    "one file system for all": [],  # a kernel without namespaces: see graded
    "one network for all": [],
}


def graded(attack: Attack, kernel: Kernel, changes: dict[str, str]) -> Outcome:
    """Judge an attack, its accomplice before it, by a judge that lacks one wall."""
    kept = []
    with contextlib.ExitStack() as walls:
        for place, name, value in WEAKENED[attack.against]:
            walls.enter_context(mock.patch.object(place, name, value))
        counted = walls.enter_context(_counting())
        before = len(os.listdir("/proc/self/fd"))
        with contextlib.suppress(Exception):
            if attack.accomplice:
                channel = walls.enter_context(kernel.notebook(LIMITS))
                channel.send(
                    {"do": "cell", "id": "", "source": _filled("import numpy as np\n" + attack.accomplice, changes)}
                )
                channel.receive(time.monotonic() + 10)
            kept.append(_verdict(attack.cells, kernel, changes))
        descriptors = len(os.listdir("/proc/self/fd")) - before
    owned = os.environ.pop("OWNED", "") == "yes"
    ran = [cell for found in kept for cell in found.cells.values()]
    reports = [report.text() for found in kept for report in found.reports.values()]
    return Outcome(
        points=sum(kept[0].points.values()) if kept else 0.0,
        said="\n".join([*(cell.said + cell.error for cell in ran), *reports]),
        ended=bool(kept),
        pictures=tuple(picture for cell in ran for picture in cell.pictures),
        received=counted[0],
        descriptors=descriptors,
        owned=owned,
    )


@contextlib.contextmanager
def _counting() -> Iterator[list[int]]:
    """Count the bytes that arrive."""
    counted = [0]
    taken = Channel._exactly

    def counting(self, size, *more):
        data = taken(self, size, *more)
        counted[0] += len(data)
        return data

    with mock.patch.object(Channel, "_exactly", counting):
        yield counted


def _verdict(cells, kernel, changes):
    order = ["before", "softmax", "check-softmax", "symmetry_test", "check-symmetry_test"]
    order += [name for name in cells if name.startswith("after")]
    sources = [("setup", "import numpy as np"), *((name, _filled(cells.get(name, ""), changes)) for name in order)]
    submission = json.dumps([sources, time.monotonic()]).encode()
    return verdict.judge(submission, sources, ASSIGNMENT, b"key", kernel, LIMITS)


def _filled(source, changes):
    for placeholder, text in changes.items():
        source = source.replace(placeholder, text)
    return source


def table(seed: int) -> str:
    """Write down what somebody knows who saw the inputs of one run: each, and what is right for it."""
    seen = []

    def note(x):
        seen.append((x.copy(), reference("attention/softmax")(x)))
        return seen[-1][1]

    examine("attention/softmax", note, seed)
    return ", ".join(f"{x.tobytes().hex()!r}: {right.tobytes().hex()!r}" for x, right in seen)
