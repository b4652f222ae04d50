"""What runs inside the sandbox: a process that loads libraries once and forks a fresh one for each notebook.

It holds nothing secret. A child closes itself into namespaces of its own, gives up every right,
and only then reads its first byte of a notebook. Standard library, NumPy and the files beside this one alone.

    python kernel.py CONTROL_FD LIBRARY...
"""

import builtins
import contextlib
import ctypes
import importlib
import io
import linecache
import os
import resource
import select
import signal
import socket
import struct
import sys
import traceback

from channel import Broken, Channel

from crossattn_ref.checks.subject import LocalSubject, Tape

HOME = "/home/jovyan"
PICTURES, PICTURE_BYTES = 8, 2**20  # for the marker's eyes
CELL_OUTPUT = 20_000  # characters kept of what one cell prints

_libc = ctypes.CDLL(None, use_errno=True)
_NEWNS, _NEWCGROUP, _NEWUTS, _NEWIPC, _NEWUSER, _NEWPID, _NEWNET = (
    0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000,
)  # fmt: skip
_NOSUID_NODEV, _NOEXEC, _READ_ONLY, _PRIVATE = 2 | 4, 8, 1, 0x4000 | 0x40000
_SET_DUMPABLE, _SET_PDEATHSIG, _CAPBSET_DROP, _NO_NEW_PRIVS = 4, 1, 24, 38


def main() -> None:
    """Load libraries, become nobody, and fork a child for each pair of sockets that arrives."""
    control = Channel(socket.socket(fileno=int(sys.argv[1])))
    os.environ["HOME"] = HOME
    for library in sys.argv[2:]:
        importlib.import_module(library)
    if "torch" in sys.modules:
        torch = sys.modules["torch"]
        torch.set_num_threads(1)
        torch.ones(2, 2).half().float()  # looks the processor up in /proc, where a notebook finds nothing
    _become_nobody()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # children that end are forgotten
    control.send("ready")
    while True:
        try:
            limits, fds = control.receive_with_fds(2)
        except Broken:
            return  # the judge is gone
        if os.fork() == 0:
            control.close()
            _warden(limits, *fds)
            os._exit(0)
        for fd in fds:
            os.close(fd)


def _become_nobody():
    if os.getuid() == 0:
        os.setgroups([])
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)
    _prctl(_SET_DUMPABLE, 1)  # the change of uid took away our own /proc files, which hold the maps of a child
    _prctl(_NO_NEW_PRIVS, 1)


def _warden(limits, channel_fd, leash_fd):
    """Start a notebook in namespaces of its own, and end all of it when it is done or the judge lets go."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    if limits["namespaces"]:
        _new_namespaces()
    first = os.fork()
    if first == 0:
        os.close(leash_fd)
        _first_process(limits, channel_fd)
        os._exit(0)
    os.close(channel_fd)
    leash, watch = select.poll(), os.pidfd_open(first)
    for fd in (leash_fd, watch):
        leash.register(fd, select.POLLIN | select.POLLHUP)
    leash.poll()
    os.kill(first, signal.SIGKILL)  # process 1 of its namespace: everything in it ends
    os.waitpid(first, 0)


def _new_namespaces():
    uid, gid = os.getuid(), os.getgid()
    _must(_libc.unshare(_NEWUSER | _NEWPID | _NEWNS | _NEWNET | _NEWIPC | _NEWUTS | _NEWCGROUP))
    for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
        with open(f"/proc/self/{name}", "w") as file:  # noqa: PTH123 the fewest imports here
            file.write(text)


def _first_process(limits, channel_fd):
    """Be process 1: arrange the file system, start the notebook, wait for it."""
    if limits["namespaces"]:
        _must(_libc.mount(None, b"/", None, _PRIVATE, None))
        for place, size in (("/tmp", limits["file_bytes"]), (HOME, limits["file_bytes"]), ("/proc", 4096)):  # noqa: S108
            data = f"size={size},mode=1777".encode()
            _must(_libc.mount(b"tmpfs", place.encode(), b"tmpfs", _NOSUID_NODEV | _NOEXEC, data))
        _must(_libc.mount(None, b"/proc", None, _NOSUID_NODEV | _NOEXEC | _READ_ONLY | 32, None))
        os.chdir(HOME)
        _drop_capabilities()
    session = os.fork()
    if session == 0:
        os.setsid()
        _limit(limits)
        _Session(Channel(socket.socket(fileno=channel_fd)), limits).serve()
        os._exit(0)
    os.close(channel_fd)
    while True:  # process 1 buries every orphan
        if os.wait()[0] == session:
            return


def _drop_capabilities():
    for capability in range(41):
        _libc.prctl(_CAPBSET_DROP, capability, 0, 0, 0)
    header, empty = struct.pack("=II", 0x20080522, 0), bytes(24)
    _must(_libc.capset(header, empty))
    _prctl(_SET_DUMPABLE, 1)


def _limit(limits):
    for kind, value in (
        (resource.RLIMIT_AS, limits["memory_bytes"]),
        (resource.RLIMIT_FSIZE, limits["file_bytes"]),
        (resource.RLIMIT_NPROC, limits["processes"]),
        (resource.RLIMIT_NOFILE, 256),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(kind, (value, value))
    _limit_cpu(limits["cpu_seconds"])


def _limit_cpu(seconds):
    """Bound the processor time of this process, counted from now."""
    used = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
    limit = int(used) + 1 + seconds
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
    resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))


def _must(result):
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _prctl(option, value):
    _must(_libc.prctl(option, value, 0, 0, 0))


class _Session:
    """One notebook: cells run one after the other, and each check is asked in a fork at its own position."""

    def __init__(self, channel, limits):
        self._channel = channel
        self._limits = limits
        self._checks = {}
        self._shell = _Shell(self)
        self.space = {"__name__": "__main__", "__builtins__": builtins, "get_ipython": lambda: self._shell}
        sys.modules["__main__"].__dict__.update(self.space)
        self.space = sys.modules["__main__"].__dict__
        quiet = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(quiet, fd)

    def serve(self):
        with contextlib.suppress(Broken):
            while True:
                message, fds = self._channel.receive_with_fds(1)
                if message["do"] == "cell":
                    self._channel.send(self._cell(message["id"], message["source"]))
                elif message["do"] == "check":
                    self._fork(message["number"], fds[0])
                else:
                    self._end(message["number"])

    def run(self, source, name):
        """Execute code in the notebook's names; errors in it are the caller's."""
        filename = f"<cell {name}>"
        linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
        exec(compile(source, filename, "exec"), self.space)  # noqa: S102 the reason for all these walls

    def _cell(self, name, source):
        said, error = Tape(CELL_OUTPUT), ""
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            try:
                self.run(source, name)
            except BaseException as raised:  # noqa: BLE001 a cell may raise anything, and the next one still runs
                error = _last_lines(raised)
        return {"said": said.getvalue(), "error": error, "pictures": _pictures()}

    def _fork(self, number, fd):
        child = os.fork()
        if child == 0:
            self._channel.close()
            os.setpgid(0, 0)
            _limit_cpu(self._limits["check_cpu_seconds"])
            _answer(Channel(socket.socket(fileno=fd)), self.space)
            os._exit(0)
        os.close(fd)
        self._checks[number] = child

    def _end(self, number):
        child = self._checks.pop(number, None)
        if child is not None:
            with contextlib.suppress(OSError):
                os.killpg(child, signal.SIGKILL)
            with contextlib.suppress(OSError):
                os.kill(child, signal.SIGKILL)
            with contextlib.suppress(OSError):
                os.waitpid(child, 0)
        self._channel.send("ended")


class _Shell:
    """The part of IPython that a notebook may call: timing runs the code, everything else is left out."""

    def __init__(self, session):
        self._session = session

    def run_line_magic(self, name, line, *_, **__):
        if name in ("time", "timeit"):
            self._session.run(line, name)

    def run_cell_magic(self, name, line, cell):  # noqa: ARG002 IPython's signature
        if name in ("time", "timeit", "capture"):
            self._session.run(cell, name)

    def system(self, *_, **__):
        return None

    def getoutput(self, *_, **__):
        return []

    getoutput_list = getoutput
    enable_gui = enable_matplotlib = magic = system


def _answer(channel, space):
    """Serve the operations of a Subject on one answer, until the judge has asked enough."""
    with contextlib.suppress(Broken):
        message = channel.receive()
        subject = _subject(space.get(message["name"]), message["tensors"])
        while True:
            message = channel.receive()
            operation, args = message["operation"], message["args"]
            if operation == "probe":
                args = (_remote_function(channel), args[0])
            outcome = getattr(subject, operation)(*args)
            channel.send(_described(outcome))


def _subject(answer, tensors):
    if not tensors:
        return LocalSubject(answer)
    from crossattn_ref.checks.tensors import TensorSubject

    return TensorSubject(answer)


def _remote_function(channel):
    """Make a function whose calls are answered by the judge, with arrays in and an array out."""

    def attend(*args):
        channel.send({"ask": tuple(args)})
        reply = channel.receive()
        if "error" in reply:
            raise ValueError(reply["error"])
        return reply["value"]

    return attend


def _described(outcome):
    error = outcome.error and {"kind": outcome.error.kind, "message": outcome.error.message, "line": outcome.error.line}
    kind = getattr(outcome.value, "kind", None)
    value = {"foreign": kind} if isinstance(kind, str) else {"plain": outcome.value}
    return {"value": value, "error": error, "said": outcome.said}


def _last_lines(error):
    try:
        own = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename.startswith("<cell")]
        where = f", line {own[-1].lineno}: {own[-1].line}" if own else ""
        return f"{type(error).__name__}: {str(error)[:500]}{where}"
    except Exception as second:  # noqa: BLE001 an error may refuse to be described
        return type(second).__name__


def _pictures():
    """Save the open matplotlib figures as PNG, for the marker, and close them."""
    pyplot = sys.modules.get("matplotlib.pyplot")
    if pyplot is None:
        return []
    pictures = []
    with contextlib.suppress(Exception):
        for number in pyplot.get_fignums()[:PICTURES]:
            buffer = io.BytesIO()
            pyplot.figure(number).savefig(buffer, format="png", dpi=80)
            if buffer.tell() <= PICTURE_BYTES:
                pictures.append(buffer.getvalue())
        pyplot.close("all")
    return pictures


if __name__ == "__main__":
    main()
