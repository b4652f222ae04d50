"""One kernel of each kind for all tests of the judge, and ways to put code into it."""

import inspect
import json
import os
import textwrap
import time

import psutil
import pytest

from crossattn_ref.judge import sandbox
from crossattn_ref.judge.sandbox import Kernel, Limits

SECRET = "a-secret-of-the-caller"
SHORT = Limits(cpu_seconds=3, cell_cpu_seconds=1, check_cpu_seconds=1, wall_factor=2, patience=1)


def skip_without_sandbox():
    if reason := sandbox.missing():
        pytest.skip(reason)


def _start(libraries, modules=()):
    skip_without_sandbox()
    os.environ["SECRET_OF_THE_CALLER"] = SECRET
    try:
        return sandbox.start(libraries, modules)
    finally:
        del os.environ["SECRET_OF_THE_CALLER"]


@pytest.fixture(scope="session")
def kernel():
    """A kernel with NumPy."""
    started = _start(("numpy",))
    yield started
    started.close()


@pytest.fixture(scope="session")
def torch_kernel():
    """A kernel with torch."""
    started = _start(("numpy", "torch", "jaxtyping"))
    yield started
    started.close()


def run_cells(kernel: Kernel, *sources: str, limits: Limits = Limits()) -> list[dict]:  # noqa: B008 frozen
    """Run cells one after the other in a notebook of their own -> what each said, and the error it ended in."""
    replies = []
    with kernel.notebook(limits) as channel:
        for number, source in enumerate(sources):
            channel.send({"do": "cell", "id": str(number), "source": textwrap.dedent(source)})
            replies.append(channel.receive(time.monotonic() + 60))
    return replies


@pytest.fixture
def inside(kernel):
    """Return a function that runs a function's source inside the sandbox, in a notebook of its own, on some arguments."""

    def ask(question, *args):
        source = textwrap.dedent(inspect.getsource(question))
        (reply,) = run_cells(kernel, f"{source}\nimport json\nprint(json.dumps({question.__name__}(*{args!r})))")
        assert reply["error"] == "", reply
        return json.loads(reply["said"])

    return ask


@pytest.fixture
def cells(kernel):
    """Return a function that runs cells in a notebook of the NumPy kernel."""

    def run(*sources, limits=Limits()):  # noqa: B008 frozen
        return run_cells(kernel, *sources, limits=limits)

    return run


def zygote(kernel: Kernel) -> psutil.Process:
    """Find the process that loads the libraries, seen from the outside."""
    started = psutil.Process(kernel._process.pid)
    if kernel.isolation == "none":
        return started
    return next(process for process in started.children(recursive=True) if process.name() != "bwrap")


def family(kernel: Kernel) -> list[psutil.Process]:
    """List the processes of a kernel's notebooks, seen from the outside: none when all is quiet."""
    return zygote(kernel).children(recursive=True)
