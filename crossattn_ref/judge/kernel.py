"""What runs inside the sandbox: a process that loads libraries once and forks a fresh one for each notebook.

It holds nothing secret, and never reads a byte of a notebook. A child closes itself into namespaces of its own, gives
up every right, and only then begins. Standard library, NumPy and the files beside this one alone.

    python kernel.py CONTROL_FD LIBRARY...
"""

import contextlib
import gc
import importlib
import os
import select
import signal
import socket
import sys
import time

import confine
from channel import KILLED, Broken, Channel
from session import Session, warm

LINUX = sys.platform == "linux"  # elsewhere this runs without a sandbox alone
WATCH = 200  # milliseconds between two looks at what a notebook uses
GRACE = 500  # and for one that broke off to say how it ends


def main(*, sandboxed: bool = True) -> None:
    """Load libraries, become nobody, and fork a child for each pair of sockets that arrives."""
    control = Channel(socket.socket(fileno=int(sys.argv[1])))
    for library in sys.argv[2:]:
        importlib.import_module(library)
    warm()
    if sandboxed:
        confine.become_nobody()
    gc.collect()
    gc.freeze()  # what is here now stays, and no child copies it to find that out
    control.send({"namespaces": sandboxed and _possible(), "filter": confine.filtered()})
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # children that end are forgotten
    quiet = os.open(os.devnull, os.O_RDWR)
    os.dup2(quiet, 2)
    os.close(quiet)
    while True:
        try:
            limits, fds = control.receive_with_fds(2)
        except Broken:
            return  # the judge is gone
        if _forked() == 0:
            control.close()
            with contextlib.suppress(BaseException):
                _warden(limits, *fds)
            os._exit(0)
        for fd in fds:
            os.close(fd)


def _forked():
    """Fork; where that fails, both sockets of the notebook close, and the judge hears of it."""
    try:
        return os.fork()
    except OSError:
        return None


def _possible():
    """Find out whether a child can have namespaces of its own here."""
    child = os.fork()
    if child == 0:
        try:
            confine.new_namespaces()
            inner = os.fork()
            if inner == 0:
                confine.furnish(2**20)
                os._exit(0)
            os._exit(os.waitstatus_to_exitcode(os.waitpid(inner, 0)[1]))
        finally:
            os._exit(1)
    return os.waitpid(child, 0)[1] == 0


def _warden(limits, channel_fd, leash_fd):
    """Start a notebook in namespaces of its own; end all of it when it is let go, or uses too much.

    The leash tells the judge why it ended. No process of the notebook ever holds it.
    """
    leash = socket.socket(fileno=leash_fd)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        processes = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY) if LINUX else None
        if LINUX:
            confine.expendable()
            confine.adopt_orphans()
        if limits["namespaces"]:
            confine.new_namespaces()
        first = os.fork()
        if first == 0:
            leash.close()
            if LINUX:
                os.close(processes)
            _first_process(limits, channel_fd)
        os.close(channel_fd)
        reason = _watched(first, leash, Meter(processes, first), limits)
    except OSError as error:
        reason = f"the sandbox failed: {error}"
    with contextlib.suppress(OSError):
        leash.sendall(reason.encode())


def _watched(first, leash, meter, limits):
    """Wait until a notebook is let go or uses too much; end what is left of it -> the reason, if there is one."""
    watch = select.poll()
    watch.register(leash.fileno(), select.POLLIN | select.POLLHUP)
    reason = ""
    while not reason and not watch.poll(WATCH):
        reason = meter.excess(limits)
    rest = [] if limits["namespaces"] else meter.family(first)
    status = None if reason or leash.recv(1) else _ended(first)
    if status is None:
        os.kill(first, signal.SIGKILL)  # process 1 of its namespace: everything in it ends
        status = os.waitpid(first, 0)[1]
    while rest:  # without a namespace they are ended one by one
        for pid in rest:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, 0):
                pass
        rest = [pid for pid in meter.family(os.getpid()) if pid != os.getpid()]
    return reason or _ending(status)


def _ended(first):
    """Wait a little for a notebook that has broken off to end by itself -> its status, None where it goes on."""
    for _ in range(GRACE):
        pid, status = os.waitpid(first, os.WNOHANG)
        if pid:
            return status
        time.sleep(0.001)
    return None


def _ending(status):
    """Say how a notebook's first process ended by itself: with the status of the one that runs the cells."""
    if not os.WIFEXITED(status):
        return ""
    code = os.WEXITSTATUS(status)
    if code <= 128:
        return f"it ended itself with status {code}"
    number = code - 128
    if number == signal.SIGXCPU:
        return "it used more processor time than it may"
    return KILLED if number == signal.SIGKILL else f"it was ended by {signal.Signals(number).name}"


class Meter:
    """Processor time and memory of a process and all that descend from it, read from the outside."""

    def __init__(self, processes: int, root: int):
        self._processes = processes
        self._root = root
        self._spent = {}

    def excess(self, limits: dict) -> str:
        """Say what is used beyond the limits of one notebook; empty where nothing is."""
        resident = passed_on = 0
        for pid, (_, start, ticks, buried, pages) in self.family(self._root).items():
            self._spent[pid, start] = ticks
            passed_on += ticks + buried
            resident += pages * os.sysconf("SC_PAGE_SIZE")
        if resident > limits["memory_bytes"]:
            return f"its processes together used more than {limits['memory_bytes']} bytes of memory"
        if max(sum(self._spent.values()), passed_on) > limits["total_cpu_seconds"] * os.sysconf("SC_CLK_TCK"):
            return f"its processes together used more than {limits['total_cpu_seconds']} s of processor time"
        return ""

    def family(self, root: int) -> dict[int, tuple[int, int, int, int, int]]:
        """Find a process and all that descend from it -> what _stat says of each."""
        everybody = {}
        for name in os.listdir(self._processes) if LINUX else ():  # noqa: PTH208 a descriptor
            if name.isdigit():
                with contextlib.suppress(OSError, IndexError, ValueError):
                    everybody[int(name)] = self._stat(name)
        found, before = {root}, 0
        while len(found) > before:
            before = len(found)
            found |= {pid for pid, (parent, *_) in everybody.items() if parent in found}
        return {pid: everybody[pid] for pid in found if pid in everybody}

    def _stat(self, name):
        """Read a process -> its parent, start, ticks of processor time, those of its dead, resident pages."""
        fd = os.open(f"{name}/stat", os.O_RDONLY, dir_fd=self._processes)
        try:
            fields = os.read(fd, 4096).rpartition(b")")[2].split()
        finally:
            os.close(fd)
        parent, user, system, users, systems, start, pages = (int(fields[i]) for i in (1, 11, 12, 13, 14, 19, 21))
        return parent, start, user + system, users + systems, pages


def _first_process(limits, channel_fd):
    """Be process 1: arrange the file system, start the notebook, wait for it. Never returns."""
    try:
        if LINUX:
            confine.die_with_parent()
        if limits["namespaces"]:
            confine.furnish(limits["file_bytes"])
            confine.drop_capabilities()
        os.environ["HOME"] = limits["home"]
        os.chdir(limits["home"])
        session = os.fork()
        if session == 0:
            os.setsid()
            confine.limit(limits)
            if LINUX:
                confine.filter_calls()
            Session(Channel(socket.socket(fileno=channel_fd)), limits).serve()
            os._exit(0)
        os.close(channel_fd)
        while True:  # process 1 buries every orphan
            pid, status = os.wait()
            if pid == session:
                code = os.waitstatus_to_exitcode(status)
                os._exit(code if code >= 0 else 128 - code)
    finally:
        os._exit(1)


if __name__ == "__main__":
    main()
