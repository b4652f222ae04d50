"""Where strangers' code runs: bubblewrap around a kernel process, and around each notebook namespaces of its own.

Inside there is Python, the libraries an assignment needs, and nothing else: no grader, no reference answer,
no other submission, no network, no variable of the caller's environment. The root is read-only.
"""

import contextlib
import functools
import importlib.metadata
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from crossattn_ref.judge.channel import Broken, Channel

PACKAGE = Path(__file__).resolve().parents[1]  # crossattn_ref
PLACE = "/srv/notebook"  # where the kernel lies inside
BESIDES = ("matplotlib", "ipython")  # what honest notebooks import beside NumPy and torch
SHARED = ("__init__.py", "checks/subject.py", "checks/tensors.py")  # of crossattn_ref: nothing that knows an answer


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one notebook may use. Processor time is counted, so that a busy machine costs nobody points."""

    cpu_seconds: int = 60  # all cells of the notebook together
    check_cpu_seconds: int = 20  # each check
    wall_factor: float = 5.0  # and never longer than so many times that, by the clock
    memory_bytes: int = 4 * 2**30
    processes: int = 64
    file_bytes: int = 64 * 2**20
    namespaces: bool = True

    def wall(self, cpu_seconds: float) -> float:
        """The moment of time.monotonic() at which something allowed so much processor time is given up."""
        return time.monotonic() + 10 + self.wall_factor * cpu_seconds


class NoSandbox(Exception):
    """This machine cannot hold strangers' code; the message says why, and what would help."""


class Kernel:
    """A process in the sandbox that has loaded its libraries and starts a fresh child for each notebook."""

    def __init__(self, process: subprocess.Popen, control: Channel, isolation: str):
        self.isolation = isolation
        self._process = process
        self._control = control

    @contextlib.contextmanager
    def notebook(self, limits: Limits) -> Iterator[Channel]:
        """Start a notebook's own process -> the channel to it. On leaving, everything it started is killed."""
        mine, its = socket.socketpair()
        leash, its_leash = socket.socketpair()
        try:
            namespaces = limits.namespaces and self.isolation != "none"
            self._control.send(asdict(limits) | {"namespaces": namespaces}, (its.fileno(), its_leash.fileno()))
            its.close()
            its_leash.close()
            yield Channel(mine)
        finally:
            for sock in (leash, mine, its, its_leash):
                sock.close()

    @property
    def alive(self) -> bool:
        """Whether the process still runs."""
        return self._process.poll() is None

    def close(self) -> None:
        """End the process and all that it started."""
        self._control.close()
        self._process.kill()
        self._process.wait()


def start(libraries: tuple[str, ...], modules: tuple[str, ...] = (), *, unsafe: bool = False) -> Kernel:
    """Start a kernel with libraries loaded, "numpy" or "numpy", "torch".

    modules are the files of crossattn_ref, as paths inside it, that notebooks may import beside the inert checks.
    unsafe runs it without a sandbox, in a process of its own; the caller has to record that.
    Raises NoSandbox where bubblewrap is missing or does not work.
    """
    if not unsafe and (reason := missing()):
        raise NoSandbox(reason)
    ours, its = socket.socketpair()
    with its:
        command = _command(its.fileno(), libraries, modules, unsafe=unsafe)
        process = subprocess.Popen(
            command,
            pass_fds=(its.fileno(),),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=_environment(unsafe=unsafe),
            start_new_session=True,
        )
    control = Channel(ours)
    try:
        control.receive(time.monotonic() + 120)
    except Broken as error:
        process.kill()
        said = process.stderr.read().decode(errors="replace").strip().splitlines()
        raise NoSandbox(f"the kernel did not start: {said[-1] if said else error}") from error
    return Kernel(process, control, "none" if unsafe else "bubblewrap")


@functools.cache
def missing() -> str | None:
    """Say what keeps the sandbox from working here, and the remedy; None where it works."""
    if not sys.platform.startswith("linux"):
        return (
            "grading for marks needs Linux with bubblewrap: run it in a virtual machine or a container, "
            "or pass --unsafe to run strangers' code without a sandbox, which every result then says"
        )
    if shutil.which("bwrap") is None:
        return "bubblewrap is missing. Install it (apt-get install bubblewrap), or pass --unsafe"
    trial = subprocess.run(
        ["bwrap", *_walls(), *_read_only("/usr"), *_links(), "/usr/bin/true"],
        capture_output=True,
        check=False,
        text=True,
    )
    if trial.returncode:
        return (
            f"bubblewrap does not work here ({trial.stderr.strip()[:200]}). "
            "Allow unprivileged user namespaces, or run as root, or pass --unsafe"
        )
    return None


def _command(fd, libraries, modules, *, unsafe):
    if unsafe:
        return [sys.executable, "-s", "-c", _UNSAFE.format(place=str(PACKAGE / "judge")), str(fd), *libraries]
    inside = ["bwrap", *_walls(), *_read_only("/usr"), *_links(), "--proc", "/proc", "--dev", "/dev"]
    inside += ["--tmpfs", "/tmp", *_folders("/home/jovyan"), "--tmpfs", "/home/jovyan"]  # noqa: S108 inside
    inside += [*_read_only(sys.base_prefix), *_hidden(), *_files(libraries, modules), "--remount-ro", "/"]
    inside += ["--clearenv", *(part for name, text in _VARIABLES.items() for part in ("--setenv", name, text))]
    python = Path(sys.base_prefix) / "bin" / f"python{sysconfig.get_python_version()}"
    return [*inside, str(python), "-s", "-S", f"{PLACE}/kernel.py", str(fd), *libraries]


_VARIABLES = {
    "PATH": "/usr/bin:/bin",
    "LANG": "C.UTF-8",
    "HOME": "/home/jovyan",
    "PYTHONPATH": f"{PLACE}/lib",
    "PYTHONDONTWRITEBYTECODE": "1",
    "MPLBACKEND": "Agg",
    "MPLCONFIGDIR": "/tmp/matplotlib",  # noqa: S108 inside the sandbox
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}
_UNSAFE = "import sys; sys.path.insert(0, {place!r}); import kernel; kernel.HOME = '.'; kernel.main()"


def _environment(*, unsafe):
    if not unsafe:
        return {"PATH": os.environ.get("PATH", os.defpath)}
    return {**{k: v for k, v in _VARIABLES.items() if k != "PYTHONPATH"}, "PYTHONPATH": str(PACKAGE.parent)}


def _walls():
    """Unshare everything. Root keeps the right to become nobody, which the kernel does before all else."""
    walls = ["--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"]
    walls += ["--die-with-parent", "--new-session", "--hostname", "notebook", "--cap-drop", "ALL"]
    if os.getuid() == 0:
        return [*walls, "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
    return [*walls, "--unshare-user", "--uid", "65534", "--gid", "65534"]


def _links():
    """Rebuild the links of a merged /usr; where /lib is a folder of its own, show it."""
    found = []
    for name in ("lib", "lib64", "lib32", "bin", "sbin"):
        path = Path("/") / name
        if path.is_symlink():
            found += ["--symlink", str(path.readlink()), str(path)]
        elif path.exists():
            found += _read_only(str(path))
    return [*found, *(_read_only("/etc/ld.so.cache") if Path("/etc/ld.so.cache").exists() else [])]


def _hidden():
    """Cover what lies below a folder that is shown and must not be seen: other packages, this project, the course."""
    shown = [Path("/usr"), Path(sys.base_prefix)]
    places = {Path(sysconfig.get_path("purelib", vars={"base": sys.base_prefix})), PACKAGE.parent, Path.cwd()}
    places |= set(Path("/usr/local/lib").glob("python3*/*-packages"))
    places |= {path for root in shown for path in root.glob("lib*/python3*/dist-packages") if path.is_dir()}
    below = [path for path in sorted(places) if path.is_dir() and any(path.is_relative_to(root) for root in shown)]
    return [part for path in below for part in ("--tmpfs", str(path))]


def _read_only(path, inside=None):
    inside = inside or path
    return [*_folders(str(Path(inside).parent)), "--ro-bind", str(path), inside]


def _folders(path):
    """Make the folders on the way, readable: bubblewrap's own would shut out everybody but root."""
    parents = [str(p) for p in reversed([Path(path), *Path(path).parents]) if str(p) != "/"]
    return [part for parent in parents for part in ("--perms", "0755", "--dir", parent)]


def _files(libraries, modules):
    lib = f"{PLACE}/lib"
    binds = [*_folders(lib)]
    for name in ("kernel.py", "channel.py"):
        binds += ["--ro-bind", str(PACKAGE / "judge" / name), f"{PLACE}/{name}"]
    for path in _site_entries(libraries):
        binds += ["--ro-bind", str(path), f"{lib}/{path.name}"]
    for name in (*SHARED, *modules):
        binds += _read_only(str(PACKAGE / name), f"{lib}/crossattn_ref/{name}")
    return [*binds, "--ro-bind", str(PACKAGE / "judge" / "inert.py"), f"{lib}/crossattn_ref/checks/__init__.py"]


@functools.cache
def _site_entries(libraries):
    """Find what the libraries and all that they depend on have put into site-packages, and nothing beside it."""
    names, queue = set(), [*libraries, *BESIDES]
    while queue:
        name = queue.pop()
        key = name.lower().replace("_", "-")
        if key in names:
            continue
        try:
            requirements = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        names.add(key)
        queue += [_required(text) for text in requirements if "extra ==" not in text]
    entries = set()
    for name in names:
        distribution = importlib.metadata.distribution(name)
        tops = {file.parts[0] for file in distribution.files or () if file.parts[0] not in ("..", "__pycache__")}
        entries |= {Path(distribution.locate_file(top)) for top in tops}
    return tuple(sorted(path for path in entries if path.exists() and path.suffix != ".pth"))


def _required(text):
    for stop, character in enumerate(text):
        if character in " <>=!~;[(":
            return text[:stop]
    return text
