"""A Triton kernel, run by Triton's interpreter in a process of its own, every access watched: no GPU is needed.

The interpreter has to be switched on before triton is imported, and stays on; so the process that asks never imports
it. It sends the source of the kernel and arrays, and gets back the output and what was counted. Run as a program, this
file is that other process; in a sandbox both lie inside.

Letters: B samples, Nq queries, Nk keys, D width; q and out (B, Nq, D), k and v (B, Nk, D), lengths (B,).
"""

import atexit
import builtins
import contextlib
import functools
import importlib.util
import inspect
import io
import linecache
import os
import select
import struct
import subprocess
import sys
import textwrap
import traceback
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np

from crossattn_ref.checks.subject import SAID, Tape

START, SECONDS = 300, 60  # for the other process, and for one launch
COUNTS = ("read", "visits", "largest", "strays")
SOMETHING_ELSE = 777.0  # what a stray load finds
GAP = 4096  # numbers between two arrays
_HEAD = struct.Struct("!Q")
_PROCESSES: dict[int, subprocess.Popen] = {}  # by the process that started it: a fork starts its own


def launched(kernel: Callable) -> Callable:
    """Make a function of a kernel: (q, k, v, lengths, BLOCK_Q, BLOCK_K) -> (out, read, visits, largest, strays).

    One program is started for each tile of BLOCK_Q queries and each sample, in single precision. Counted are: numbers
    of k and v that were read, loads of more than one place, places of the largest load, and places touched that belong
    to nothing that was given. What the kernel prints is printed, and what it raises is raised.

    Raises ModuleNotFoundError without triton and torch, TimeoutError after SECONDS.
    """

    def launch(q, k, v, lengths, BLOCK_Q, BLOCK_K):
        for name in ("triton", "torch"):
            if importlib.util.find_spec(name) is None:
                remedy = "run: pip install triton torch (Linux; in Colab both are there)"
                raise ModuleNotFoundError(f"a kernel needs triton and torch, and {name} is not installed; {remedy}")
        tiles = np.array([BLOCK_Q, BLOCK_K])
        message = {"source": np.array(source_of(kernel)), "q": q, "k": k, "v": v, "lengths": lengths, "tiles": tiles}
        reply = _asked(message)
        print(reply["said"], end="")
        if "error" in reply:
            kind, words = map(str, reply["error"])
            raise getattr(builtins, kind, RuntimeError)(words)
        return (reply["out"], *(int(reply[name]) for name in COUNTS))

    return launch


def source_of(answer: Callable) -> str:
    """Return the text of a kernel, whether or not it is decorated. Raises OSError where there is none."""
    if isinstance(getattr(answer, "source", None), str):
        return answer.source
    return textwrap.dedent(inspect.getsource(getattr(answer, "fn", answer)))


def _asked(message):
    """Ask the other process; one that does not answer in time is ended, and the next question starts another."""
    try:
        process = _PROCESSES.get(os.getpid()) or _started()
        _send(process.stdin, message)
        return _answer(process, SECONDS)
    except TimeoutError:
        _end()
        raise
    except (OSError, EOFError) as error:
        _end()
        raise RuntimeError("the process of the kernel ended: did it use too much memory?") from error


def _started():
    """Start the other process, and wait until it has imported what it needs."""
    environment = os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    command = [sys.executable, "-c", "from crossattn_ref.checks.interpreted import main; main()"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    process = _PROCESSES[os.getpid()] = subprocess.Popen(command, env=environment, **pipes)
    _answer(process, START)
    return process


def _answer(process, seconds):
    if not select.select([process.stdout], [], [], seconds)[0]:
        raise TimeoutError(f"it was still running after {seconds} seconds")
    return _received(process.stdout)


@atexit.register
def _end():
    if process := _PROCESSES.pop(os.getpid(), None):
        process.kill()
        process.communicate()


def _send(stream, message):
    buffer = io.BytesIO()
    np.savez(buffer, **message)
    stream.write(_HEAD.pack(buffer.tell()) + buffer.getvalue())
    stream.flush()


def _received(stream):
    """Read one message. Raises EOFError where the other side is gone."""
    head = stream.read(_HEAD.size)
    if len(head) < _HEAD.size:
        raise EOFError
    with np.load(io.BytesIO(stream.read(*_HEAD.unpack(head))), allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def main() -> None:
    """Run kernels until nobody asks any more."""
    replies, sys.stdout = os.fdopen(os.dup(1), "wb"), sys.stderr
    launch = _launcher()
    _send(replies, {})
    with contextlib.suppress(EOFError):
        while True:
            message, said = _received(sys.stdin.buffer), Tape(SAID)
            try:
                with contextlib.redirect_stdout(said), np.errstate(all="ignore"):
                    reply = launch(**message)
            except BaseException as error:  # noqa: BLE001 a kernel may end in anything
                reply = {"error": np.array(_words(error))}
            _send(replies, {**reply, "said": np.array(said.getvalue())})


def _launcher():
    """Import triton, with the interpreter on, and make the function that launches a kernel and counts."""
    import torch
    import triton
    import triton.language as tl
    from triton.runtime import interpreter

    @functools.cache
    def compiled(source):
        function = _defined(source, {"triton": triton, "tl": tl})
        return function if hasattr(function, "fn") else triton.jit(function)

    def launch(source, q, k, v, lengths, tiles):
        block_q, block_k = map(int, tiles)
        kernel = compiled(str(source))
        arrays = {"q": q, "k": k, "v": v, "out": np.full(q.shape, np.nan), "lengths": lengths}
        q, k, v, out, lengths = _laid_out(torch, arrays)
        counter = _Counter(dict(zip(arrays, (q, k, v, out, lengths), strict=True)))
        with counter.watching(interpreter.interpreter_builder):
            kernel[triton.cdiv(q.shape[1], block_q), len(q)](
                q, k, v, out, lengths, q.shape[1], k.shape[1], q.shape[2] ** -0.5,
                WIDTH=q.shape[2], BLOCK_Q=block_q, BLOCK_K=block_k,
            )  # fmt: skip
        return {"out": out.numpy(), **{name: np.array(getattr(counter, name)) for name in COUNTS}}

    return launch


def _laid_out(torch, arrays):
    """Copy arrays into one stretch of memory, far apart: what lies behind one of them is no matter of chance."""
    dtypes = [torch.float32 if x.dtype.kind == "f" else torch.int32 for x in arrays.values()]
    memory, end = torch.zeros(sum(GAP + x.size for x in arrays.values()) + GAP), 0
    for x, dtype in zip(arrays.values(), dtypes, strict=True):
        start, end = end + GAP, end + GAP + x.size
        place = memory[start:end].view(dtype).view(x.shape)
        place.copy_(torch.from_numpy(x))
        yield place


def _defined(source, names):
    """Define the function in a text, whose lines can be found again."""
    name = f"<kernel {hash(source)}>"
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    world = {**names, "__name__": "kernel"}
    exec(compile(source, name, "exec"), world)  # noqa: S102 this process is there for it
    return next(value for value in reversed(world.values()) if callable(value))


class _Counter:
    """Stands between a kernel and memory: counts what is read, and lets nothing through that was not given."""

    def __init__(self, tensors):
        self._spans = {name: (x.data_ptr(), x.data_ptr() + x.nbytes) for name, x in tensors.items()}
        self.read = self.visits = self.largest = self.strays = 0

    @contextlib.contextmanager
    def watching(self, builder):
        """Take the place of the interpreter's loads and stores."""
        load, store = builder.create_masked_load, builder.create_masked_store

        def watched_load(ptrs, mask, *rest):
            wanted = np.asarray(mask.data)
            inside = self._allowed(ptrs.data, wanted, ("q", "k", "v", "lengths"))
            found = load(ptrs, SimpleNamespace(data=inside), *rest)
            found.data[wanted & ~inside] = SOMETHING_ELSE
            memory = wanted & (self._within(ptrs.data, "k") | self._within(ptrs.data, "v"))
            self.read, self.visits = self.read + int(memory.sum()), self.visits + (ptrs.data.size > 1)
            self.largest = max(self.largest, ptrs.data.size)
            return found

        def watched_store(ptrs, value, mask, *rest):
            inside = self._allowed(ptrs.data, np.asarray(mask.data), ("out",))
            return store(ptrs, value, SimpleNamespace(data=inside), *rest)

        builder.create_masked_load, builder.create_masked_store = watched_load, watched_store
        try:
            yield
        finally:
            builder.create_masked_load, builder.create_masked_store = load, store

    def _allowed(self, places, mask, names):
        """Say which of the places that are touched belong to some of the arrays, and count the others."""
        inside = mask & np.logical_or.reduce([self._within(places, name) for name in names])
        self.strays += int((mask & ~inside).sum())
        return inside

    def _within(self, places, name):
        first, end = self._spans[name]
        return (places >= first) & (places < end)


def _words(error):
    """Say what a kernel ended in: kind, and message with the line of the kernel."""
    cause = error.__cause__ or error
    own = [frame for frame in traceback.extract_tb(cause.__traceback__) if frame.filename.startswith("<kernel ")]
    return [type(cause).__name__, str(cause)[:300] + (f", in: {own[-1].line}" if own else "")]
