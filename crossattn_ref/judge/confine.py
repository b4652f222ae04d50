"""Walls around one notebook, put up by the process that becomes it: namespaces, limits, a filter of system calls.

This file runs inside the sandbox. Standard library alone.
"""

import ctypes
import os
import platform
import resource
import signal
import struct

HOME = "/home/jovyan"

_libc = ctypes.CDLL(None, use_errno=True)
_NEWNS, _NEWCGROUP, _NEWUTS, _NEWIPC, _NEWUSER, _NEWPID, _NEWNET = (
    0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000,
)  # fmt: skip
NAMESPACES = _NEWUSER | _NEWPID | _NEWNS | _NEWNET | _NEWIPC | _NEWUTS | _NEWCGROUP
_NOSUID_NODEV, _NOEXEC, _READ_ONLY, _REMOUNT, _PRIVATE = 2 | 4, 8, 1, 32, 0x4000 | 0x40000
_SET_PDEATHSIG, _SET_DUMPABLE, _SET_SECCOMP, _CAPBSET_DROP, _SET_CHILD_SUBREAPER, _NO_NEW_PRIVS = 1, 4, 22, 24, 36, 38
_NOBODY = 65534


def become_nobody() -> None:
    """Give up being root, and every way back: what is started from here on gains nothing by a set-uid file."""
    if os.getuid() == 0:
        os.setgroups([])
        os.setresgid(_NOBODY, _NOBODY, _NOBODY)
        os.setresuid(_NOBODY, _NOBODY, _NOBODY)
    _prctl(_NO_NEW_PRIVS, 1)
    _prctl(_SET_DUMPABLE, 0)  # nobody attaches to this process


def new_namespaces() -> None:
    """Leave for new namespaces of every kind; the next child will be process 1 of its own."""
    uid, gid = os.getuid(), os.getgid()
    _must(_libc.unshare(NAMESPACES))
    _write_own("setgroups", "deny")
    _write_own("uid_map", f"{uid} {uid} 1")
    _write_own("gid_map", f"{gid} {gid} 1")


def expendable() -> None:
    """Let a machine whose memory runs out end this process and its children before any other."""
    _write_own("oom_score_adj", "1000")


def _write_own(name, text):
    _prctl(_SET_DUMPABLE, 1)  # the files of an undumpable process belong to root
    with open(f"/proc/self/{name}", "w") as file:  # noqa: PTH123 the fewest imports here
        file.write(text)
    _prctl(_SET_DUMPABLE, 0)


def die_with_parent() -> None:
    """End when the parent does."""
    _prctl(_SET_PDEATHSIG, signal.SIGKILL)


def furnish(file_bytes: int) -> None:
    """Give this mount namespace empty folders of its own where a notebook may write, and none of the processes."""
    _must(_libc.mount(None, b"/", None, _PRIVATE, None))
    for place, size in (("/tmp", file_bytes), (HOME, file_bytes), ("/dev/shm", file_bytes)):  # noqa: S108 inside
        _cover(place, f"size={size},nr_inodes=20000,mode=1777")
    for place in ("/dev/pts", "/proc"):
        _cover(place, "size=4096,mode=755")
        _must(_libc.mount(None, place.encode(), None, _NOSUID_NODEV | _NOEXEC | _READ_ONLY | _REMOUNT, None))


def _cover(place, options):
    _must(_libc.mount(b"tmpfs", place.encode(), b"tmpfs", _NOSUID_NODEV | _NOEXEC, options.encode()))


def drop_capabilities() -> None:
    """Give up the rights that come with a user namespace of one's own."""
    for capability in range(64):
        _libc.prctl(_CAPBSET_DROP, capability, 0, 0, 0)  # an error where a kernel knows fewer
    _must(_libc.capset(struct.pack("=II", 0x20080522, 0), bytes(24)))
    _prctl(_SET_DUMPABLE, 0)


def adopt_orphans() -> None:
    """Become the parent of all descendants whose own parent ends."""
    _prctl(_SET_CHILD_SUBREAPER, 1)


def limit(limits: dict) -> None:
    """Bound what this process and each of its children may use."""
    for kind, value in (
        (resource.RLIMIT_AS, limits["memory_bytes"]),
        (resource.RLIMIT_FSIZE, limits["file_bytes"]),
        (resource.RLIMIT_NPROC, limits["processes"]),
        (resource.RLIMIT_NOFILE, 128),  # a socket holds memory that counts as nobody's
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(kind)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)  # noqa: PLW2901 never above what there is
        resource.setrlimit(kind, (value, value))
    limit_cpu(limits["cpu_seconds"])


def limit_cpu(seconds: int) -> None:
    """Bound the processor time of this process, counted from now."""
    used = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
    allowed = int(used) + 1 + seconds
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    allowed = allowed if hard == resource.RLIM_INFINITY else min(allowed, hard)
    resource.setrlimit(resource.RLIMIT_CPU, (allowed, allowed))


# System calls that no notebook needs, with their numbers on x86-64 and 64-bit ARM, and the error that each returns.
# They reach into other processes, make namespaces and mounts, keep memory that belongs to no process or notes that
# outlive one, or open parts of the kernel that have often been the way out of a sandbox.
_EPERM, _ENOSYS, _UNKNOWN_FAMILY = 1, 38, 97
CALLS = {
    "ptrace": (101, 117, _EPERM), "process_vm_readv": (310, 270, _EPERM), "process_vm_writev": (311, 271, _EPERM),
    "pidfd_getfd": (438, 438, _EPERM), "kcmp": (312, 272, _EPERM),
    "unshare": (272, 97, _EPERM), "setns": (308, 268, _EPERM), "mount": (165, 40, _EPERM), "umount2": (166, 39, _EPERM),
    "pivot_root": (155, 41, _EPERM), "chroot": (161, 51, _EPERM), "open_tree": (428, 428, _EPERM),
    "move_mount": (429, 429, _EPERM), "fsopen": (430, 430, _EPERM), "fsconfig": (431, 431, _EPERM),
    "fsmount": (432, 432, _EPERM), "fspick": (433, 433, _EPERM), "mount_setattr": (442, 442, _EPERM),
    "statmount": (457, 457, _ENOSYS), "listmount": (458, 458, _ENOSYS),
    "clone3": (435, 435, _ENOSYS),  # its flags cannot be read here; the C library goes back to clone
    "add_key": (248, 217, _EPERM), "request_key": (249, 218, _EPERM), "keyctl": (250, 219, _EPERM),
    "memfd_create": (319, 279, _ENOSYS), "memfd_secret": (447, 447, _ENOSYS), "shmget": (29, 194, _ENOSYS),
    "msgget": (68, 186, _ENOSYS), "semget": (64, 190, _ENOSYS), "mq_open": (240, 180, _ENOSYS),
    "bpf": (321, 280, _EPERM), "perf_event_open": (298, 241, _EPERM), "userfaultfd": (323, 282, _EPERM),
    "io_uring_setup": (425, 425, _ENOSYS), "io_uring_enter": (426, 426, _ENOSYS),
    "io_uring_register": (427, 427, _ENOSYS), "syslog": (103, 116, _EPERM),
}  # fmt: skip
# By machine: the column above, its number in an audit, clone, socket, socketpair, setsockopt.
_MACHINES = {"x86_64": (0, 0xC000003E, 56, 41, 53, 54), "aarch64": (1, 0xC00000B7, 220, 198, 199, 208)}
_FAMILIES = (1, 2, 10)  # of sockets: UNIX, and the internet that cannot be reached
_BUFFERS = (7, 8)  # options of a socket: how much it may hold, in memory of the kernel's that counts as nobody's

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06  # classic BPF, on 32-bit words
_ALLOW, _KILL, _ERROR = 0x7FFF0000, 0x80000000, 0x00050000
_NUMBER, _MACHINE, _FIRST_ARGUMENT, _THIRD_ARGUMENT = 0, 4, 16, 32  # places in what a filter reads


def filtered() -> bool:
    """Whether there is a filter of system calls for this machine."""
    return platform.machine() in _MACHINES


def filter_calls() -> None:
    """Refuse the system calls that no notebook needs, for this process and all that it starts."""
    if not filtered():
        return
    program = b"".join(struct.pack("=HBBI", *step) for step in _program(*_MACHINES[platform.machine()]))
    steps = ctypes.create_string_buffer(program, len(program))
    filter_ = struct.pack("=HxxxxxxQ", len(program) // 8, ctypes.addressof(steps))
    _must(_libc.prctl(_SET_SECCOMP, 2, filter_, 0, 0))


def _program(column, machine, clone, socket, socketpair, setsockopt):
    """Write the filter: (operation, steps to skip if true, steps to skip if false, operand) each."""
    yield (_LOAD, 0, 0, _MACHINE)
    yield (_EQUAL, 1, 0, machine)
    yield (_RETURN, 0, 0, _KILL)  # calls in another machine's numbers
    yield (_LOAD, 0, 0, _NUMBER)
    yield (_AT_LEAST, 0, 1, 0x40000000)
    yield (_RETURN, 0, 0, _ERROR | _ENOSYS)  # the numbers of x32
    for *numbers, error in CALLS.values():
        yield (_EQUAL, 0, 1, numbers[column])
        yield (_RETURN, 0, 0, _ERROR | error)
    yield (_EQUAL, 0, 5, setsockopt)
    yield (_LOAD, 0, 0, _THIRD_ARGUMENT)
    yield (_EQUAL, 2, 0, _BUFFERS[0])
    yield (_EQUAL, 1, 0, _BUFFERS[1])
    yield (_RETURN, 0, 0, _ALLOW)
    yield (_RETURN, 0, 0, _ERROR)  # as if it had been done
    yield (_EQUAL, 0, 3, clone)
    yield (_LOAD, 0, 0, _FIRST_ARGUMENT)
    yield (_ANY_BIT, 6 + len(_FAMILIES), 0, NAMESPACES)
    yield (_RETURN, 0, 0, _ALLOW)
    yield (_EQUAL, 1, 0, socketpair)
    yield (_EQUAL, 0, 2 + len(_FAMILIES), socket)
    yield (_LOAD, 0, 0, _FIRST_ARGUMENT)
    for left, family in zip(range(len(_FAMILIES), 0, -1), _FAMILIES, strict=True):
        yield (_EQUAL, left, 0, family)
    yield (_RETURN, 0, 0, _ERROR | _UNKNOWN_FAMILY)
    yield (_RETURN, 0, 0, _ALLOW)
    yield (_RETURN, 0, 0, _ERROR | _EPERM)


def _must(result):
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _prctl(option, value):
    _must(_libc.prctl(option, value, 0, 0, 0))
