"""One notebook inside the sandbox: its cells one after the other, and each check in a fork at its own position.

Everything here shares a process with a stranger's code, which may change any of it: nothing here decides a point.
"""

import ast
import builtins
import contextlib
import importlib
import io
import linecache
import os
import random
import signal
import socket
import sys
import tempfile
import traceback
import types
import warnings
from collections.abc import Callable
from pathlib import Path

import confine
import numpy as np
from channel import Broken, Channel
from shell import Shell, plain_python

from crossattn_ref.checks.subject import Foreign, LocalSubject, Outcome, Tape, foreign, run

PICTURES, PICTURE_BYTES = 8, 2**20  # for the marker's eyes
CELL_OUTPUT = 20_000  # characters kept of what one cell prints
_FORGOTTEN = (
    "channel",
    "confine",
    "kernel",
    "session",
    "shell",
    "__main__",
)  # names that a notebook may want for itself


def warm() -> None:
    """Load and run once, before any notebook, what every notebook needs."""
    for name in ("IPython.core.inputtransformer2", "IPython.display", "numpy.random", "numpy.linalg", "numpy.ma"):
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    if "torch" in sys.modules:
        _warm_torch(sys.modules["torch"])
    ours, theirs = socket.socketpair()
    there, here = Channel(theirs), Channel(ours)
    for _ in range(20):
        here.send({"operation": "call", "args": (np.eye(2), 1.0)})
        args = there.receive()["args"]
        there.send(_described(LocalSubject(lambda x, y: x * y).call(*args)))
        here.receive()
    here.close()
    there.close()


def _warm_torch(torch):
    """Let torch do once what it puts off until the first time: it reads files then that a notebook cannot see."""
    torch.set_num_threads(1)
    subject = importlib.import_module("crossattn_ref.checks.tensors").TensorSubject(torch.nn.Linear)
    for dtype in (np.float16, np.float32, np.float64):
        subject.construct({"in_features": 2, "out_features": 3})
        subject.load_state({"weight": np.ones((3, 2), dtype), "bias": np.ones(3, dtype)})
        subject.forward(np.ones((4, 2), dtype))
        subject.backward(np.ones((4, 3), dtype))
    x = torch.ones(2, 3, 4, requires_grad=True)
    layer = torch.nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)
    (layer(x) @ x.transpose(-1, -2)).softmax(-1).bfloat16().sum().backward()


class TooLong(BaseException):
    """A cell has used up its time. The next one still runs."""


class Session:
    """Serves the cells and checks of one notebook over a channel, in names that are the notebook's alone."""

    def __init__(self, channel: Channel, limits: dict):
        self._channel = channel
        self._limits = limits
        self._checks = {}
        self._ours = {name: sys.modules.pop(name, None) for name in _FORGOTTEN}
        self.space = _fresh_names(Shell(self.run))
        quiet = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(quiet, fd)
        os.close(quiet)
        for alarm in (signal.SIGPROF, signal.SIGALRM):
            signal.signal(alarm, self._too_long)

    def serve(self) -> None:
        """Do what the judge asks, until it goes."""
        with contextlib.suppress(Broken):
            self._channel.send("begun")
            while True:
                message, fds = self._channel.receive_with_fds(1)
                if message["do"] == "cell":
                    self._channel.send(self._cell(message["id"], message["source"]))
                elif message["do"] == "check":
                    self._fork(message["number"], fds[0])
                elif message["do"] == "lend":
                    self._lend(message["files"])
                else:
                    self._end(message["number"])

    def run(self, source: str, name: str) -> object:
        """Execute code in the notebook's names; errors in it are the caller's -> the value of a last expression."""
        filename = f"<cell {name}>"
        linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
        tree = ast.parse(source, filename)
        last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, filename, "exec"), self.space)  # noqa: S102 the reason for all these walls
        return last and eval(compile(ast.Expression(last.value), filename, "eval"), self.space)  # noqa: S307 as above

    def _cell(self, name, source):
        said, error = Tape(CELL_OUTPUT), ""
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            try:
                self._begin()
                self._show(source, name)
            except BaseException as raised:  # noqa: BLE001 a cell may raise anything, and the next one still runs
                error = _last_lines(raised)
            finally:
                self._begin(0)
        return {"said": "" if said.closed else said.getvalue(), "error": error, "pictures": _pictures()}

    def _show(self, source, name):
        """Run a cell, and show its last value as a notebook does."""
        value = self.run(plain_python(source), name)
        if not source.rstrip().endswith(";"):
            sys.displayhook(value)

    def _begin(self, seconds=None):
        """Set the alarms of a cell: for its processor time, and for the clock, should it sleep."""
        seconds = self._limits["cell_cpu_seconds"] if seconds is None else seconds
        signal.setitimer(signal.ITIMER_PROF, seconds, 1 if seconds else 0)
        signal.setitimer(signal.ITIMER_REAL, self._limits["wall_factor"] * seconds, 1 if seconds else 0)

    def _too_long(self, _, frame):
        """Stop a cell, again and again where it goes on; what this file does itself is left alone."""
        while frame is not None and frame.f_code is not Session._show.__code__:
            frame = frame.f_back
        if frame is not None:
            raise TooLong(f"it used more than {self._limits['cell_cpu_seconds']} s")

    def _lend(self, files):
        """Put files where crossattn_ref finds them, in a folder of the notebook's own."""
        with contextlib.suppress(Exception):  # a notebook that has spoilt its own folders goes without
            place = Path(tempfile.mkdtemp())
            for name, text in files.items():
                (place / name).parent.mkdir(parents=True, exist_ok=True)
                (place / name).write_text(text, encoding="utf-8")
            importlib.import_module("crossattn_ref").__path__.append(str(place))
        self._channel.send("lent")

    def _fork(self, number, fd):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python 3.12 warns of threads, which a notebook may have left behind
            child = os.fork()
        if child == 0:
            try:
                self._channel.close()
                os.setpgid(0, 0)
                _limit_check(self._limits["check_cpu_seconds"])
                _answer(Channel(socket.socket(fileno=fd)), self.space)
            finally:
                os._exit(0)
        os.close(fd)
        self._checks[number] = child

    def _end(self, number):
        child = self._checks.pop(number, None)
        if child is not None:
            for kill in (os.killpg, os.kill):
                with contextlib.suppress(OSError):
                    kill(child, signal.SIGKILL)
            with contextlib.suppress(OSError):
                os.waitpid(child, 0)
        self._channel.send("ended")


def _limit_check(seconds):
    """Interrupt an answer that has used up the time of its check, with an error of its own; end one that goes on."""

    def too_long(_, frame):
        while frame is not None and frame.f_code is not run.__code__:
            frame = frame.f_back
        if frame is not None:
            raise TooLong(f"it used more than {seconds} s of processor time")

    signal.signal(signal.SIGPROF, too_long)
    signal.setitimer(signal.ITIMER_PROF, seconds, 0.2)
    confine.limit_cpu(seconds + 1 + seconds // 4)


def _fresh_names(shell):
    """Make the module that the cells are run in, with what IPython puts there; begin every random sequence anew."""
    module = types.ModuleType("__main__")
    sys.modules["__main__"] = module
    sys.path[0] = ""  # as in a notebook: the folder that it runs in
    sys.argv = ["notebook"]
    module.__dict__.update(__builtins__=builtins, get_ipython=lambda: shell, In=[], Out={})
    if "IPython.display" in sys.modules:
        module.__dict__["display"] = sys.modules["IPython.display"].display
        sys.modules["IPython"].get_ipython = module.__dict__["get_ipython"]  # scripts made of notebooks import it
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 an answer that draws from it gets the same numbers at each regrade
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)
    return module.__dict__


def _answer(channel: Channel, space: dict) -> None:
    """Serve the operations of a Subject on one answer, until the judge has asked enough."""
    with contextlib.suppress(Broken):
        message = channel.receive()
        answer, tensors = space.get(message["name"]), message["tensors"]
        shown = run(lambda: f"{answer!r:.80}").value or "nothing" if message["name"] in space else None
        channel.send({"callable": callable(answer), "shown": shown})
        if "torch" in sys.modules:
            sys.modules["torch"].set_num_threads(1)  # those that a cell has started are not in this fork
        subject = _subject(answer, tensors=tensors)
        while True:
            message = channel.receive()
            operation, args = message["operation"], message["args"]
            if operation == "probe":
                args = (_remote_function(channel, tensors=tensors), *args)
            _reply(channel, getattr(subject, operation)(*args))


def _subject(answer, *, tensors):
    if not tensors:
        return LocalSubject(answer)
    from crossattn_ref.checks.tensors import TensorSubject

    return TensorSubject(answer)


def _remote_function(channel: Channel, *, tensors: bool) -> Callable:
    """Make a function whose calls the judge answers, with arguments by name as well: arrays (or tensors) in and out."""
    torch = sys.modules.get("torch") if tensors else None

    def plain(arg):
        return arg.detach().numpy() if torch and isinstance(arg, torch.Tensor) else arg

    def target(*args, **named):
        channel.send({"ask": tuple(map(plain, args)), "named": {name: plain(arg) for name, arg in named.items()}})
        reply = channel.receive()
        sys.stderr.write(reply["said"])
        if "error" in reply:
            raise _error(*reply["error"])
        value = reply["value"]
        return torch.from_numpy(value) if torch and isinstance(value, np.ndarray) else value

    return target


def _error(kind, message):
    """Make the error that the judge's function ended in, where it is one of Python's or NumPy's own."""
    known = next((getattr(home, kind) for home in (builtins, np.exceptions, np.linalg) if hasattr(home, kind)), None)
    return known(message) if isinstance(known, type) and issubclass(known, Exception) else ValueError(message)


def _reply(channel, outcome):
    try:
        channel.send(_described(outcome))
    except ValueError:  # too large, or nested too deeply
        channel.send(_described(Outcome(foreign(outcome.value), outcome.error, outcome.said)))


def _described(outcome):
    error = outcome.error and {"kind": outcome.error.kind, "message": outcome.error.message, "line": outcome.error.line}
    return {"value": _wire(outcome.value), "error": error, "said": outcome.said}


def _wire(value):
    """Write down what is not plain data by its kind."""
    if isinstance(value, tuple):
        return tuple(_wire(item) for item in value)
    if isinstance(value, dict):
        return {"named": {key: _wire(item) for key, item in value.items()}}
    return {"foreign": value.kind} if isinstance(value, Foreign) else value


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
    with contextlib.suppress(BaseException):
        for number in pyplot.get_fignums()[:PICTURES]:
            buffer = io.BytesIO()
            pyplot.figure(number).savefig(buffer, format="png", dpi=80)
            if buffer.tell() <= PICTURE_BYTES:
                pictures.append(buffer.getvalue())
        pyplot.close("all")
    return pictures
