"""The sandbox, seen from the inside and from the outside: what is there, what is not, and where everything ends."""

import ctypes
import errno
import json
import os
import platform
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from crossattn_ref.judge import bubblewrap, confine, sandbox
from crossattn_ref.judge.channel import Broken
from crossattn_ref.judge.sandbox import Limits, NoSandbox
from tests.judge.conftest import SECRET, SHORT, family, run_cells, skip_without_sandbox, zygote

ROOT = Path(__file__).resolve().parents[2]


def until(condition, seconds=20.0):
    """Wait until a condition holds; tell whether it came to hold."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


@pytest.fixture(scope="module", autouse=True)
def zygote_at_first(kernel):
    return zygote(kernel).pid


# What can be seen.


def test_the_root_holds_a_python_its_libraries_and_nothing_else(inside):
    def folders():
        import os

        return sorted(os.listdir("/"))

    known = {"bin", "dev", "etc", "home", "lib", "lib32", "lib64", "libx32", "proc", "sbin", "srv", "tmp", "usr"}
    assert set(inside(folders)) <= known | {Path(sys.base_prefix).parts[1]}


def test_nothing_of_the_project_is_there_but_the_inert_checks(inside):
    def ours():
        import os

        found = []
        for folder, _, names in os.walk("/"):
            found += [f"{folder}/{name}" for name in names if "crossattn" in folder or name.endswith(".ipynb")]
        return sorted(found)

    kept = {"__init__.py", "checks/__init__.py", "checks/subject.py", "checks/tensors.py"}
    assert set(inside(ours)) == {f"/srv/notebook/lib/crossattn_ref/{name}" for name in kept}


def test_the_checks_that_are_there_know_nothing(cells):
    imports = ("from crossattn_ref.checks import reference", "from crossattn_ref.checks import misconceptions",
               "import crossattn_ref.attention.reference", "import crossattn_ref.checks.exercise",
               "import crossattn_ref.judge", "import nbgrader", "import pytest", "import nbformat")  # fmt: skip
    for source, reply in zip(imports, cells(*imports), strict=True):
        assert "Error" in reply["error"], source
    (reply,) = cells(
        "from crossattn_ref.checks import check, for_release; check('attention/softmax', 1), for_release('1')('a', 1)"
    )
    assert reply == {"said": "(0.0, 0.0)\n", "error": "", "pictures": []}


def test_the_repository_and_the_callers_folders_are_not_there(cells, tmp_path):
    (tmp_path / "other-submission.ipynb").write_text("{}")
    places = [
        ROOT,
        Path(__file__),
        tmp_path,
        Path.home() / ".bashrc",
        Path("/etc/passwd"),
        Path("/root/.ssh"),
        Path("/var"),
    ]
    (reply,) = cells(f"import os; print([place for place in {[str(p) for p in places]} if os.path.exists(place)])")
    assert reply["said"] == "[]\n"


def test_no_variable_of_the_callers_environment_is_there_and_none_tells_of_grading(inside):
    def variables():
        import os

        return dict(os.environ)

    seen = inside(variables)
    assert SECRET not in json.dumps(seen)
    assert set(seen) <= {*bubblewrap.VARIABLES, "PWD", "LC_CTYPE"}
    assert not any(word in json.dumps(seen).lower() for word in ("grad", "judge", "check", "sandbox"))


def test_no_process_can_be_seen_or_signalled_but_ones_own(inside):
    def seen():
        import os
        import signal

        alive = []
        for pid in range(1, 5000):
            try:
                os.kill(pid, 0)
                alive.append(pid)
            except ProcessLookupError:
                continue
        try:
            os.kill(-1, signal.SIGKILL)  # all that may be signalled, but oneself
        except ProcessLookupError:
            return {"alive": alive, "me": os.getpid(), "parent": os.getppid(), "proc": os.listdir("/proc")}

    assert inside(seen) == {"alive": [1, 2], "me": 2, "parent": 1, "proc": []}


def test_it_runs_as_nobody_without_capabilities_and_can_gain_none(inside):
    def rights():
        import ctypes
        import os

        libc = ctypes.CDLL(None, use_errno=True)
        header, data = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
        assert libc.capget(header, data) == 0
        bounding = sum(libc.prctl(23, capability, 0, 0, 0) == 1 for capability in range(41))
        return {
            "ids": [*os.getresuid(), *os.getresgid(), *os.getgroups()],
            "capabilities": list(data),
            "bounding": bounding,
            "no_new_privs": libc.prctl(39, 0, 0, 0, 0),
            "filter": libc.prctl(21, 0, 0, 0, 0),
            "setuid": libc.setresuid(0, 0, 0),
        }

    assert inside(rights) == {
        "ids": [65534] * 6, "capabilities": [0] * 6, "bounding": 0, "no_new_privs": 1, "filter": 2, "setuid": -1,
    }  # fmt: skip


def test_only_three_folders_can_be_written_and_nothing_in_them_runs(inside):
    def writable():
        import os

        found = []
        for folder, folders, names in os.walk("/"):
            for place in [folder, *(f"{folder}/{name}" for name in names)]:
                device = os.path.dirname(place) == "/dev" and not os.path.isdir(place)
                if os.access(place, os.W_OK) and not os.path.islink(place) and not device:
                    found.append(place)
            folders[:] = [name for name in folders if folder not in found]
        try:
            with open("/dev/shm/script", "w") as file:
                file.write("#!/bin/sh\n")
            os.chmod("/dev/shm/script", 0o755)
            os.execv("/dev/shm/script", ["script"])
        except PermissionError:
            return sorted(found)

    assert inside(writable) == ["/dev/shm", "/home/jovyan", "/tmp"]


def test_devices_are_the_harmless_ones(inside):
    def devices():
        import os

        return sorted(name for name in os.listdir("/dev") if not os.path.islink(f"/dev/{name}"))

    known = {"full", "null", "pts", "random", "shm", "tty", "urandom", "zero", "console"}
    assert set(inside(devices)) <= known


def test_the_descriptors_are_null_and_the_notebooks_own_channel(inside):
    def descriptors():
        import os
        import stat

        found = {}
        for fd in range(1024):
            try:
                mode = os.fstat(fd).st_mode
            except OSError:
                continue
            found[fd] = (
                "socket" if stat.S_ISSOCK(mode) else "null" if os.fstat(fd).st_rdev == os.makedev(1, 3) else oct(mode)
            )
        return list(found.values())

    assert inside(descriptors) == ["null", "null", "null", "socket"]


def test_the_channel_of_a_notebook_leads_to_the_judge_and_not_to_the_kernel(kernel):
    """Whatever a notebook writes there, the kernel does not hear it, and serves the next one."""
    source = "import os, socket\nfor fd in range(3, 1024):\n  try: os.write(fd, b'\\0' * 4096)\n  except OSError: pass"
    with pytest.raises(Broken):
        run_cells(kernel, source, "1")
    assert kernel.alive
    assert run_cells(kernel, "print(1)")[0]["said"] == "1\n"


def test_there_is_no_network(inside):
    server = socket.create_server(("127.0.0.1", 0))
    hidden = socket.socket(socket.AF_UNIX)
    hidden.bind("\0hidden-from-notebooks")
    hidden.listen()

    def reached(port):
        import socket

        found = []
        for address in (("127.0.0.1", port), ("127.0.0.2", port)):
            with socket.socket() as sock:
                sock.settimeout(1)
                found.append(sock.connect_ex(address) == 0)
        with socket.socket(socket.AF_UNIX) as sock:
            found.append(sock.connect_ex("\0hidden-from-notebooks") == 0)
        for kind in (16, 17, 38, 40):  # netlink, packet, alg, vsock
            try:
                socket.socket(kind, socket.SOCK_RAW if kind < 38 else socket.SOCK_STREAM)
                found.append(True)
            except OSError:
                found.append(False)
        return found

    with server, hidden:
        assert inside(reached, server.getsockname()[1]) == [False] * 7


@pytest.mark.skipif(not confine.filtered(), reason=f"there is no filter of system calls for {platform.machine()}")
@pytest.mark.parametrize("name", confine.CALLS)
def test_system_calls_that_no_notebook_needs_are_refused(cells, name):
    *numbers, error = confine.CALLS[name]
    number = numbers[confine._MACHINES[platform.machine()][0]]
    (reply,) = cells(
        f"import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\n"
        f"print(libc.syscall({number}, 0, 0, 0, 0, 0, 0), ctypes.get_errno())"
    )
    assert reply["said"] == f"-1 {error}\n"


@pytest.mark.skipif(not confine.filtered(), reason=f"there is no filter of system calls for {platform.machine()}")
@pytest.mark.parametrize("make", ["socket", "socketpair"])
def test_neither_one_socket_nor_a_pair_reaches_the_odd_corners_of_the_kernel(inside, make):
    def errors(make):
        import socket

        found = []
        for number in range(3, 50):
            try:
                getattr(socket, make)(number, socket.SOCK_STREAM, 0)
            except OSError as error:
                found.append(error.errno)
        return found

    pairs = [errno.EOPNOTSUPP] if make == "socketpair" else []  # of the internet (10) there is one socket, and no pair
    assert inside(errors, make) == [confine._UNKNOWN_FAMILY] * 7 + pairs + [confine._UNKNOWN_FAMILY] * 39


@pytest.mark.parametrize("flag", [1 << bit for bit in range(32) if confine.NAMESPACES >> bit & 1], ids=hex)
def test_no_new_namespace_is_to_be_had(cells, flag):
    number = confine._MACHINES[platform.machine()][2]
    (reply,) = cells(
        f"import ctypes, os\nlibc = ctypes.CDLL(None, use_errno=True)\n"
        f"print(libc.syscall({number}, {flag | signal.SIGCHLD}, 0, 0, 0, 0), ctypes.get_errno(), os.getpid())"
    )
    assert reply["said"] == "-1 1 2\n"


@pytest.mark.skipif(platform.machine() != "x86_64", reason="needs the 32-bit calls of x86-64")
def test_calls_in_the_numbers_of_another_machine_end_the_process(cells):
    (reply,) = cells(
        """
        import ctypes, mmap, os
        code = mmap.mmap(-1, 4096, prot=7)
        code.write(b"\\xb8\\x14\\0\\0\\0\\xcd\\x80\\xc3")  # mov eax, 20 (getpid); int 0x80; ret
        call = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))
        if (child := os.fork()) == 0:
            os._exit(call() > 0)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        """
    )
    assert reply["said"] == f"{-signal.SIGSYS}\n"


def test_a_socket_holds_what_it_held_whatever_it_is_told(cells):
    (reply,) = cells(
        """
        import socket
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            one, other = socket.socketpair()
            before = one.getsockopt(socket.SOL_SOCKET, option)
            one.setsockopt(socket.SOL_SOCKET, option, 2**20)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
            print(one.getsockopt(socket.SOL_SOCKET, option) == before, one.getsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED))
        """
    )
    assert reply["said"] == "True 1\nTrue 1\n"


def test_processes_that_are_gone_before_anybody_looks_count_as_well(kernel):
    limits = replace(Limits(), total_cpu_seconds=1)
    with pytest.raises(Broken, match="together used more than 1 s of processor time"):
        run_cells(
            kernel,
            """
            import os, time
            for _ in range(600):
                if (child := os.fork()) == 0:
                    end = time.process_time() + 0.005
                    while time.process_time() < end: pass
                    os._exit(0)
                os.waitpid(child, 0)
            """,
            limits=limits,
        )


def test_threads_processes_and_sockets_of_ones_own_still_work(cells):
    (reply,) = cells(
        """
        import concurrent.futures, multiprocessing, socket, subprocess, tempfile
        with concurrent.futures.ThreadPoolExecutor() as pool:
            print(sum(pool.map(abs, range(-5, 5))))
        with multiprocessing.get_context("fork").Pool(2) as pool:
            print(pool.map(abs, [-1, -2]))
        print(subprocess.run(["echo", "hello"], capture_output=True, text=True).stdout.strip())
        a, b = socket.socketpair(); a.send(b"x"); print(b.recv(1))
        with tempfile.NamedTemporaryFile() as file: print(file.write(b"abc"))
        """
    )
    assert (reply["said"], reply["error"]) == ("25\n[1, 2]\nhello\nb'x'\n3\n", "")


# Nothing passes from one notebook to the next.


def test_nothing_that_one_notebook_leaves_is_found_by_the_next(kernel):
    leave = """
        import builtins, os, sys, numpy as np
        for place in ("/tmp", "/dev/shm", os.path.expanduser("~"), "/dev", "/dev/pts", "/srv/notebook", "."):
            try: open(place + "/note", "w").write("for you")
            except OSError: pass
        builtins.note = np.note = sys.modules["note"] = os.environ["NOTE"] = "for you"
        np.array = None
        """
    find = """
        import builtins, glob, os, sys, numpy as np
        print(glob.glob("/*/note") + glob.glob("/*/*/note") + glob.glob("note"), "NOTE" in os.environ,
              hasattr(builtins, "note"), hasattr(np, "note"), "note" in sys.modules, np.array([1]))
        """
    run_cells(kernel, leave)
    assert run_cells(kernel, find)[0]["said"] == "[] False False False False [1]\n"


def test_two_notebooks_at_a_time_do_not_find_each_other(kernel):
    with kernel.notebook(Limits()) as one, kernel.notebook(Limits()) as two:
        one.send({"do": "cell", "id": "1", "source": """
import os, socket
open("/tmp/note", "w").write("x"); open("/dev/shm/note", "w").write("x")
server = socket.create_server(("127.0.0.1", 4321)) if hasattr(socket, "nothing") else socket.socket(socket.AF_UNIX)
server.bind("\\0meet"); server.listen()
"""})  # fmt: skip
        assert one.receive(time.monotonic() + 20)["error"] == ""
        two.send({"do": "cell", "id": "1", "source": """
import os, socket
print(os.listdir("/tmp"), os.listdir("/dev/shm"), os.listdir("/dev/pts"), socket.socket(socket.AF_UNIX).connect_ex("\\0meet") != 0)
"""})  # fmt: skip
        assert two.receive(time.monotonic() + 20)["said"] == "[] [] [] True\n"


def test_random_numbers_begin_anew_in_each_notebook_so_that_a_regrade_repeats(kernel):
    source = "import random, numpy as np; print(random.random(), np.random.rand(), list({'a', 'b', 'c', 'd'}))"
    said = [run_cells(kernel, source)[0]["said"] for _ in range(2)]
    assert said[0] == said[1]


# Limits.


def test_a_cell_that_never_ends_is_stopped_and_the_next_one_runs(cells):
    first, second = cells("while True: pass", "print('here')", limits=SHORT)
    assert first["error"].startswith("TooLong: it used more than 1 s")
    assert second["said"] == "here\n"


def test_a_cell_that_sleeps_is_stopped_and_the_next_one_runs(cells):
    first, second = cells("import time; time.sleep(1000)", "print('here')", limits=SHORT)
    assert first["error"].startswith("TooLong")
    assert second["said"] == "here\n"


def test_a_cell_that_ignores_every_interrupt_ends_with_its_processor_time(kernel):
    source = "import signal\nfor number in (signal.SIGPROF, signal.SIGALRM, signal.SIGXCPU): signal.signal(number, signal.SIG_IGN)"
    with pytest.raises(Broken, match="processor time"):
        run_cells(kernel, source, f"{source}\nwhile True: pass", limits=replace(SHORT, cpu_seconds=1))


def test_processor_time_is_counted_over_all_processes(kernel):
    source = """
        import os
        for _ in range(4): os.fork()
        while True: pass
        """
    limits = Limits(cpu_seconds=20, cell_cpu_seconds=20, total_cpu_seconds=1)
    with pytest.raises(Broken, match="together used more than 1 s of processor time"):
        run_cells(kernel, source, limits=limits)


def test_memory_beyond_the_limit_is_an_error_and_the_next_cell_runs(cells):
    limits = Limits(memory_bytes=2**30)
    first, second = cells("import numpy as np; np.ones(2**28)", "print('here')", limits=limits)
    assert "MemoryError" in first["error"]
    assert second["said"] == "here\n"


def test_memory_is_counted_over_all_processes(kernel):
    source = """
        import os, time
        for _ in range(4): os.fork()
        held = bytearray(os.urandom(2**20)) * 200
        time.sleep(60)
        """
    with pytest.raises(Broken, match="together used more than"):
        run_cells(kernel, source, limits=Limits(memory_bytes=2**30))


def test_a_fork_bomb_fills_its_own_notebook_and_no_other(kernel):
    bomb = """
        import os, time
        while True:
            try: os.fork()
            except OSError: time.sleep(1)
        """
    limits = Limits(cpu_seconds=10, cell_cpu_seconds=10, processes=32)
    with kernel.notebook(limits) as channel:
        channel.send({"do": "cell", "id": "bomb", "source": "".join(line[8:] + "\n" for line in bomb.splitlines())})
        assert until(lambda: len(family(kernel)) >= 30)
        assert len(family(kernel)) <= 32 + 2
        assert (
            run_cells(kernel, "import os; os.waitpid(os.fork() or os._exit(0), 0); print('here')")[0]["said"]
            == "here\n"
        )
    assert until(lambda: family(kernel) == [])


def test_files_are_bounded_one_by_one_and_together_and_in_number(cells):
    limits = Limits(file_bytes=2**20)
    large, many, empty, after = cells(
        "open('large', 'wb').write(bytes(2**21))",
        "for number in range(100): open(str(number), 'wb').write(bytes(2**16))",
        "for number in range(10**6): open(f'/tmp/{number}', 'w').close()",
        "print('here')",
        limits=limits,
    )
    assert "File too large" in large["error"]
    assert "No space left" in many["error"]
    assert "No space left" in empty["error"]
    assert after["said"] == "here\n"


def test_a_flood_of_output_keeps_its_beginning_and_costs_nothing(cells):
    source = "import os, sys\nfor _ in range(2000):\n  print('x' * 10**5); sys.stderr.write('y' * 10**5); os.write(1, b'z' * 10**5)"
    flood, after = cells(source, "print('here')")
    assert len(flood["said"]) == 20_000
    assert after["said"] == "here\n"


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import os; os._exit(3)", "it ended itself with status 3"),
        ("import os; os._exit(0)", "it ended itself with status 0"),
        ("import ctypes; ctypes.string_at(0)", "it was ended by SIGSEGV"),
        ("import os; os.abort()", "it was ended by SIGABRT"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "it was ended by SIGKILL"),
        ("import os, signal; os.kill(0, signal.SIGTERM)", "it was ended by SIGTERM"),
    ],
)
def test_a_notebook_that_ends_itself_is_broken_with_the_reason(kernel, source, reason):
    with pytest.raises(Broken, match=reason):
        run_cells(kernel, source)
    assert kernel.alive


def test_everything_has_ended_when_the_notebook_is_left(kernel):
    daemons = """
        import os, signal, time
        for _ in range(5):
            if os.fork() == 0:
                os.setsid()
                for number in range(1, 32):
                    try: signal.signal(number, signal.SIG_IGN)
                    except OSError: pass
                if os.fork() == 0:
                    while True: time.sleep(1)
                os._exit(0)
        """
    run_cells(kernel, daemons)
    assert until(lambda: family(kernel) == [])


def test_the_kernel_is_the_same_process_after_all_of_this(kernel, zygote_at_first):
    """Nothing above has ended it."""
    assert kernel.alive
    assert zygote(kernel).pid == zygote_at_first


# Starting and ending.


def test_a_kernel_that_dies_is_started_again_for_the_next_notebook():
    kernel = _started()
    try:
        zygote(kernel).kill()
        assert until(lambda: not kernel.alive)
        assert run_cells(kernel, "print(1)")[0]["said"] == "1\n"
    finally:
        kernel.close()


def test_a_kernel_that_dies_under_a_notebook_is_no_fault_of_the_notebook():
    kernel = _started()
    try:
        with pytest.raises(NoSandbox, match="died"), kernel.notebook(Limits()) as channel:  # noqa: PT012 it dies amid
            zygote(kernel).kill()
            channel.receive(time.monotonic() + 20)
    finally:
        kernel.close()


def test_closing_a_kernel_ends_all_of_its_notebooks():
    kernel = _started()
    with kernel.notebook(Limits()):
        processes = family(kernel)
        assert len(processes) == 3
        kernel.close()
    assert until(lambda: not any(process.is_running() for process in processes))


def test_when_the_judge_is_killed_everything_ends():
    program = """
import sys, time
from crossattn_ref.judge.sandbox import Limits, start
kernel = start(("numpy",))
with kernel.notebook(Limits()) as channel:
    channel.send({"do": "cell", "id": "1", "source": "import os; os.fork(); os.setsid()"})
    channel.receive()
    print("running", flush=True)
    time.sleep(1000)
"""
    skip_without_sandbox()
    judge = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})  # fmt: skip
    with judge:
        assert judge.stdout.readline() == "running\n"
        processes = psutil.Process(judge.pid).children(recursive=True)
        assert len(processes) >= 5
        judge.kill()
    assert until(lambda: not any(process.is_running() for process in processes))


def _started(libraries=("numpy",)):
    skip_without_sandbox()
    return sandbox.start(libraries)


def test_where_a_child_cannot_have_namespaces_each_notebook_gets_a_sandbox_of_its_own(monkeypatch):
    skip_without_sandbox()
    walls = [
        wall for wall in bubblewrap._walls() if wall not in ("--cap-add", "CAP_SETUID", "CAP_SETGID", "--unshare-user")
    ]
    alone = [
        *walls,
        "--unshare-user",
        "--disable-userns",
        *([] if "--uid" in walls else ["--uid", "65534", "--gid", "65534"]),
    ]
    monkeypatch.setattr(bubblewrap, "_walls", lambda: alone)
    kernel = sandbox.start(("numpy",))
    try:
        assert kernel.isolation == f"bubblewrap, {sandbox.ONE_EACH}"
        leave = (
            "open('/tmp/note', 'w').write('x'); open('/dev/shm/note', 'w').write('x'); import os; print(os.getuid())"
        )
        find = "import os; print(os.listdir('/tmp'), os.listdir('/dev/shm'), os.path.exists('/etc/passwd'))"
        assert run_cells(kernel, leave)[0]["said"] == "65534\n"
        assert run_cells(kernel, find)[0]["said"] == "[] [] False\n"
        with pytest.raises(Broken, match="SIGSEGV"):
            run_cells(kernel, "import ctypes; ctypes.string_at(0)")
    finally:
        kernel.close()


def test_without_a_sandbox_what_a_notebook_leaves_is_removed_and_its_processes_end():
    kernel = sandbox.start(("numpy",), unsafe=True)
    try:
        assert kernel.isolation == "none"
        source = "import os; open('note', 'w').write('x'); print(os.getcwd())\nif os.fork() == 0:\n    os.setsid()\n    while True: pass"
        folder = Path(run_cells(kernel, source)[0]["said"].strip())
        assert not folder.exists()
        assert until(lambda: family(kernel) == [])
    finally:
        kernel.close()


def test_a_library_that_is_missing_is_said_at_the_start():
    skip_without_sandbox()
    with pytest.raises(NoSandbox, match=r"did not start: .*no_such_library"):
        sandbox.start(("numpy", "no_such_library"))


def test_another_system_is_told_what_would_help(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert "needs Linux" in bubblewrap.missing.__wrapped__()
    assert "virtual machine or a container" in bubblewrap.missing.__wrapped__()


def test_a_missing_bubblewrap_is_said_with_the_command_that_installs_it(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    assert "apt-get install bubblewrap" in bubblewrap.missing.__wrapped__()
    monkeypatch.setattr(sandbox, "missing", bubblewrap.missing.__wrapped__)
    with pytest.raises(NoSandbox, match="bubblewrap is missing"):
        sandbox.start(("numpy",))


def test_a_bubblewrap_that_may_not_is_said_with_its_own_words(monkeypatch, tmp_path):
    program = tmp_path / "bwrap"
    program.write_text("#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2; exit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert "No permissions to create new namespace" in bubblewrap.missing.__wrapped__()
    assert "unprivileged user namespaces" in bubblewrap.missing.__wrapped__()


def test_many_notebooks_leave_no_descriptor_behind(kernel):
    def count():
        return len(os.listdir("/proc/self/fd")), len(os.listdir(f"/proc/{zygote(kernel).pid}/fd"))

    run_cells(kernel, "1")
    before = count()
    for _ in range(20):
        run_cells(kernel, "1")
        with pytest.raises(Broken):
            run_cells(kernel, "import os; os._exit(1)")
    assert count() == before


def test_a_size_of_what_is_asked_of_the_filter_fits_its_machine():
    """The filter is written by hand: every jump lands inside it."""
    for about in confine._MACHINES.values():
        program = list(confine._program(*about))
        for at, (_, if_true, if_false, _) in enumerate(program):
            assert at + 1 + max(if_true, if_false) < len(program) or program[at][0] == confine._RETURN
        assert program[-1][0] == confine._RETURN
    assert ctypes.sizeof(ctypes.c_void_p) == 8
