"""Where strangers' code runs: bubblewrap around a kernel process, and around each notebook namespaces of its own.

Inside there is Python, the libraries an assignment needs, and nothing else: no grader, no reference answer,
no other submission, no network, no variable of the caller's environment. The root is read-only.
"""

import contextlib
import functools
import os
import select
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace

from crossattn_ref.judge import cgroup
from crossattn_ref.judge.bubblewrap import HOME, PACKAGE, VARIABLES, command, missing
from crossattn_ref.judge.channel import KILLED, Broken, Channel, Gone

ONE_EACH = "one for each notebook"
START = 30  # seconds within which a notebook must begin, and end when it is let go
_UNSAFE = "import sys; sys.path.insert(0, {place!r}); import kernel; kernel.main(sandboxed=False)"


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one notebook may use. Processor time is counted, so that a busy machine costs nobody points."""

    cpu_seconds: int = 60  # all cells of the notebook together
    cell_cpu_seconds: int = 30  # each cell: one that takes longer is stopped, and the next one runs
    check_cpu_seconds: int = 20  # each check
    total_cpu_seconds: int = 300  # all processes of the notebook together
    wall_factor: float = 5.0  # and never longer than so many times that, by the clock,
    patience: float = 10.0  # and so many seconds more
    memory_bytes: int = 4 * 2**30  # each process, and all together
    processes: int = 64
    file_bytes: int = 64 * 2**20  # each file, and each folder that can be written
    namespaces: bool = True

    def wall(self, cpu_seconds: float) -> float:
        """The moment of time.monotonic() at which something allowed so much processor time is given up."""
        return time.monotonic() + self.patience + self.wall_factor * cpu_seconds


class NoSandbox(Exception):
    """This machine cannot hold strangers' code; the message says why, and what would help."""


class Kernel:
    """A process in the sandbox that has loaded its libraries and starts a fresh child for each notebook.

    isolation says what was reached: "none", or "bubblewrap", also with "cgroup", with "no filter of system calls", and
    with "one for each notebook" where a child cannot have namespaces of its own and each notebook starts a sandbox.
    """

    def __init__(
        self,
        process: subprocess.Popen,
        control: Channel,
        isolation: str,
        again: Callable[[], "Kernel"],
        group: cgroup.Group | None = None,
    ):
        self.isolation = isolation
        self._process = process
        self._control = control
        self._again = again
        self._group = group

    @contextlib.contextmanager
    def notebook(self, limits: Limits) -> Iterator[Channel]:
        """Start a notebook's own process -> the channel to it. On leaving, everything it started has ended.

        Raises NoSandbox where none can be started or the kernel dies, and Broken, with the reason, for what ends the
        notebook alone: Gone, where it was killed and nobody knows by whom. A kernel that has died is started again.
        """
        if ONE_EACH in self.isolation:
            alone = replace(limits, namespaces=False)
            with contextlib.closing(self._again()) as fresh, fresh._opened(alone) as channel:
                yield channel
            return
        if not self.alive:
            self._renew()
        with self._opened(limits) as channel:
            yield channel

    def _renew(self):
        self.close()
        fresh = self._again()
        self.isolation, self._process, self._control = fresh.isolation, fresh._process, fresh._control
        self._group = fresh._group

    @contextlib.contextmanager
    def _opened(self, limits):
        mine, its = socket.socketpair()
        leash, its_leash = socket.socketpair()
        with mine, leash, _home(self.isolation) as home:
            with its, its_leash:
                about = asdict(limits) | {"namespaces": limits.namespaces and self.isolation != "none", "home": home}
                self._begin(about, (its.fileno(), its_leash.fileno()))
            channel = Channel(mine)
            try:
                channel.receive(time.monotonic() + START)
            except Broken as error:
                raise NoSandbox(f"the sandbox could not start a notebook: {self._let_go(leash) or error}") from error
            try:
                yield channel
            except Broken as error:
                reason = self._let_go(leash)
                if not self.alive:
                    raise NoSandbox(f"the kernel died: {reason or error}") from error
                if reason == KILLED:
                    raise Gone(reason) from error
                if reason:
                    raise Broken(reason) from error
                raise
            finally:
                self._let_go(leash, b".")

    def _begin(self, about, fds):
        try:
            self._control.send(about, fds, time.monotonic() + START)
        except Broken as error:
            raise NoSandbox(f"the kernel is gone: {error}") from error

    def _let_go(self, leash, word=b""):
        """End a notebook, and wait until all of it has ended -> the reason why it ended by itself, if it did."""
        said = b""
        with contextlib.suppress(BrokenPipeError):
            leash.sendall(word)
        with contextlib.suppress(OSError):
            leash.shutdown(socket.SHUT_WR)
            leash.settimeout(START)
            while piece := leash.recv(4096):
                said += piece
            return said.decode(errors="replace")
        self.close()  # what does not end, ends with everything around it
        return said.decode(errors="replace")

    @property
    def alive(self) -> bool:
        """Whether the kernel still listens."""
        control = select.poll()
        with contextlib.suppress(ValueError):  # closed
            control.register(self._control.sock.fileno(), 0)
            return self._process.poll() is None and not control.poll(0)
        return False

    def close(self) -> None:
        """End the process and all that it started."""
        self._control.close()
        self._process.kill()
        self._process.wait()
        if self._group is not None:
            self._group.close()


def start(libraries: tuple[str, ...], modules: tuple[str, ...] = (), *, unsafe: bool = False) -> Kernel:
    """Start a kernel with libraries loaded, "numpy" or "numpy", "torch".

    modules are the files of crossattn_ref, as paths inside it, that notebooks may import beside the inert checks.
    unsafe runs it without a sandbox, in a process of its own; the caller has to record that.
    Raises NoSandbox where bubblewrap is missing or does not work.
    """
    if not unsafe and (reason := missing()):
        raise NoSandbox(reason)
    ours, its = socket.socketpair()
    group = None if unsafe else cgroup.group(Limits.memory_bytes, 2 * Limits.processes)
    with its:
        inside = _unsafe if unsafe else functools.partial(command, modules=modules, file_bytes=Limits.file_bytes)
        line = inside(its.fileno(), libraries)
        process = subprocess.Popen(
            group.command(line) if group else line,
            pass_fds=(its.fileno(),),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=_environment(unsafe=unsafe),
            start_new_session=True,
        )
    control = Channel(ours)
    try:
        reached = control.receive(time.monotonic() + 120)
    except Broken as error:
        control.close()
        process.kill()
        said = process.communicate()[1].decode(errors="replace").strip().splitlines()
        if group:
            group.close()
        raise NoSandbox(f"the kernel did not start: {said[-1] if said else error}") from error
    process.stderr.close()
    again = functools.partial(start, libraries, modules, unsafe=unsafe)
    return Kernel(process, control, "none" if unsafe else _isolation(reached, group), again, group)


def _unsafe(fd, libraries):
    return [sys.executable, "-s", "-c", _UNSAFE.format(place=str(PACKAGE / "judge")), str(fd), *libraries]


def _environment(*, unsafe):
    if not unsafe:
        return {"PATH": os.environ.get("PATH", os.defpath)}
    return VARIABLES | {"PYTHONPATH": str(PACKAGE.parent)}


def _isolation(reached, group):
    parts = ["bubblewrap", *(["cgroup"] if group else [])]
    if not reached["filter"]:
        parts.append("no filter of system calls")
    if not reached["namespaces"]:
        parts.append(ONE_EACH)
    return ", ".join(parts)


@contextlib.contextmanager
def _home(isolation):
    """Name the folder that a notebook runs in: in the sandbox its own; without one a new one, removed afterwards."""
    if isolation != "none":
        yield HOME
        return
    with tempfile.TemporaryDirectory(prefix="notebook-", ignore_cleanup_errors=True) as folder:
        yield folder
