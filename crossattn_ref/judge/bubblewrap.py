"""The command line of the sandbox: what bubblewrap shows inside, and what not."""

import functools
import importlib.metadata
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]  # crossattn_ref
PLACE = "/srv/notebook"  # where the kernel lies inside
HOME = "/home/jovyan"  # where a notebook runs
INSIDE = ("kernel.py", "session.py", "shell.py", "confine.py", "channel.py")
BESIDES = ("matplotlib", "ipython")  # what honest notebooks import beside NumPy and torch
SHARED = ("__init__.py", "checks/subject.py", "checks/tensors.py")  # of crossattn_ref: nothing that knows an answer


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


def command(fd: int, libraries: tuple[str, ...], modules: tuple[str, ...], file_bytes: int) -> list[str]:
    """Write the command line that starts the kernel, which finds its socket at fd, inside the walls."""
    inside = ["bwrap", *_walls(), *_read_only("/usr"), *_links(), "--proc", "/proc", "--dev", "/dev"]
    inside += ["--remount-ro", "/dev", *_folders(HOME)]
    for place in ("/tmp", HOME, "/dev/shm"):  # noqa: S108 inside
        inside += ["--perms", "1777", "--size", str(file_bytes), "--tmpfs", place]
    inside += [*_read_only(sys.base_prefix), *_hidden(), *_files(libraries, modules), "--remount-ro", "/"]
    inside += ["--clearenv", *(part for name, text in VARIABLES.items() for part in ("--setenv", name, text))]
    python = Path(sys.base_prefix) / "bin" / f"python{sysconfig.get_python_version()}"
    return [*inside, str(python), "-s", "-S", f"{PLACE}/kernel.py", str(fd), *libraries]


VARIABLES = {
    "PATH": "/usr/bin:/bin",
    "LANG": "C.UTF-8",
    "HOME": HOME,
    "PYTHONPATH": f"{PLACE}/lib:{PLACE}/site-packages",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONHASHSEED": "0",  # sets in the same order at each regrade
    "MPLBACKEND": "Agg",
    "MPLCONFIGDIR": "/tmp/matplotlib",  # noqa: S108 inside the sandbox
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}


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


def exposed(course: Path) -> str | None:
    """Say why strangers' code must not run beside a course that lies there, and the remedy; None where it may."""
    root = next((root for root in _shown() if course.is_relative_to(root)), None)
    if root is None or any(course.is_relative_to(place) for place in _covered()):
        return None
    return f"{course} lies below {root}, which every submission can read: run this in the course folder, or move it"


def _shown():
    return Path("/usr"), Path(sys.base_prefix)


def _covered():
    """List what lies below a folder that is shown and must not be seen: other packages, this project, the course."""
    places = {Path(sysconfig.get_path("purelib", vars={"base": sys.base_prefix})), PACKAGE.parent, Path.cwd()}
    places |= set(Path("/usr/local/lib").glob("python3*/*-packages"))
    places |= {path for root in _shown() for path in root.glob("lib*/python3*/dist-packages") if path.is_dir()}
    return [path for path in sorted(places) if path.is_dir() and any(path.is_relative_to(root) for root in _shown())]


def _hidden():
    return [part for path in _covered() for part in ("--tmpfs", str(path))]


def _read_only(path, inside=None):
    inside = inside or path
    return [*_folders(str(Path(inside).parent)), "--ro-bind", str(path), inside]


def _folders(path):
    """Make the folders on the way, readable: bubblewrap's own would shut out everybody but root."""
    parents = [str(p) for p in reversed([Path(path), *Path(path).parents]) if str(p) != "/"]
    return [part for parent in parents for part in ("--perms", "0755", "--dir", parent)]


def _files(libraries, modules):
    lib = f"{PLACE}/lib"
    binds = [*_folders(lib), *_folders(f"{PLACE}/site-packages")]
    for name in INSIDE:
        binds += ["--ro-bind", str(PACKAGE / "judge" / name), f"{PLACE}/{name}"]
    for path in _site_entries(libraries):
        binds += ["--ro-bind", str(path), f"{PLACE}/site-packages/{path.name}"]
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
