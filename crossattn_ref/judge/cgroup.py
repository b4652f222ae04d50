"""Bounds on a whole sandbox, kept by Linux itself, where a control group (version 2) is delegated to whoever grades.

Limits of single processes and a look from outside, five times a second, always hold; this bounds all processes of a
sandbox together at every moment. A group is used where the folder above our own may be written and hands memory and
pids down, as under `systemd-run --user --scope -p Delegate=yes` with the command in a group below.
"""

import contextlib
import itertools
import os
import time
from pathlib import Path

NEEDED = {"memory", "pids"}
BESIDE = 2**30  # bytes for what a sandbox holds beside a notebook: the libraries, the files in memory
_NUMBERS = itertools.count()
_ENTER = 'echo $$ > "$0/cgroup.procs" && exec "$@"'


def delegated(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> Path | None:
    """Find the folder in which groups with limits may be made; None where there is none."""
    try:
        lines = own.read_text().splitlines()
        ours = next(line.removeprefix("0::/") for line in lines if line.startswith("0::/"))
        above = (root / ours).parent if ours else root
        handed_down = set((above / "cgroup.subtree_control").read_text().split())
    except (OSError, StopIteration):
        return None
    return above if handed_down >= NEEDED and os.access(above, os.W_OK) else None


class Group:
    """A control group for one sandbox."""

    def __init__(self, above: Path, memory_bytes: int, processes: int):
        self._folder = above / f"sandbox-{os.getpid()}-{next(_NUMBERS)}"
        self._folder.mkdir()
        try:
            for name, value in (("memory.max", memory_bytes), ("pids.max", processes)):
                (self._folder / name).write_text(str(value))
            with contextlib.suppress(OSError):  # no swap here
                (self._folder / "memory.swap.max").write_text("0")
        except OSError:
            self.close()
            raise

    def command(self, inside: list[str]) -> list[str]:
        """Put a process into the group before it becomes another command."""
        return ["/bin/sh", "-c", _ENTER, str(self._folder), *inside]

    def close(self) -> None:
        """Remove the group, as soon as the last process in it has ended."""
        for _ in range(50):
            with contextlib.suppress(OSError):
                self._folder.rmdir()
            if not self._folder.exists():
                return
            time.sleep(0.02)


def group(memory_bytes: int, processes: int) -> Group | None:
    """Make a group with limits, where that can be had; and remove what runs that were killed have left behind."""
    above = delegated()
    if above is None:
        return None
    for left in above.glob("sandbox-*"):
        with contextlib.suppress(OSError):  # one that is in use stays
            left.rmdir()
    try:
        return Group(above, memory_bytes + BESIDE, processes)
    except OSError:
        return None
