"""Control groups: used where one is delegated, left alone elsewhere; on a folder that looks like one."""

import os
import subprocess

import pytest

from crossattn_ref.judge import cgroup, sandbox
from crossattn_ref.judge.cgroup import Group, delegated, group
from tests.judge.conftest import run_cells


@pytest.fixture
def tree(tmp_path):
    """A tree of groups as Linux shows it, with this process in `session/judge`, and the file that says so."""
    session = tmp_path / "root" / "session"
    (session / "judge").mkdir(parents=True)
    (session / "cgroup.subtree_control").write_text("cpu memory pids\n")
    own = tmp_path / "own"
    own.write_text("4:memory:/elsewhere\n0::/session/judge\n")
    return tmp_path / "root", own


def test_the_folder_above_our_own_is_used_where_it_hands_memory_and_processes_down(tree):
    root, own = tree
    assert delegated(root, own) == root / "session"
    (root / "session" / "cgroup.subtree_control").write_text("cpu memory\n")
    assert delegated(root, own) is None


@pytest.mark.parametrize("text", ["", "4:memory:/elsewhere\n", "0::/not/there\n"], ids=["nothing", "version 1", "gone"])
def test_without_a_delegated_group_there_is_none(tree, text):
    root, own = tree
    own.write_text(text)
    assert delegated(root, own) is None


def test_a_folder_that_cannot_be_written_is_none(tree, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert delegated(*tree) is None


def test_a_group_holds_its_limits_and_takes_the_process_in_before_it_begins(tmp_path):
    made = Group(tmp_path, 5 * 2**20, 7)
    (folder,) = tmp_path.glob("sandbox-*")
    assert (folder / "memory.max").read_text() == str(5 * 2**20)
    assert (folder / "pids.max").read_text() == "7"
    said = subprocess.run(made.command(["/bin/sh", "-c", "echo $$"]), capture_output=True, text=True, check=True)
    assert (folder / "cgroup.procs").read_text() == said.stdout


def test_an_empty_group_is_removed_also_one_that_a_killed_run_left(tmp_path, monkeypatch):
    monkeypatch.setattr(cgroup, "delegated", lambda: tmp_path)
    (tmp_path / "sandbox-1-0").mkdir()
    in_use = tmp_path / "sandbox-2-0"
    in_use.mkdir()
    (in_use / "cgroup.procs").write_text("1\n")
    assert group(2**20, 7) is not None
    assert not (tmp_path / "sandbox-1-0").exists()
    assert in_use.exists()


def test_a_group_that_cannot_be_made_stops_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(cgroup, "delegated", lambda: tmp_path / "no" / "where")
    assert group(2**20, 7) is None


@pytest.mark.skipif(sandbox.missing() is not None, reason=f"no sandbox: {sandbox.missing()}")
def test_a_sandbox_enters_its_group_and_the_isolation_level_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(cgroup, "delegated", lambda: tmp_path)
    kernel = sandbox.start(("numpy",))
    try:
        assert kernel.isolation.startswith("bubblewrap, cgroup")
        (folder,) = tmp_path.glob("sandbox-*")
        assert int((folder / "cgroup.procs").read_text()) == kernel._process.pid
        assert int((folder / "memory.max").read_text()) > sandbox.Limits.memory_bytes
        assert run_cells(kernel, "print(1 + 1)")[0]["said"] == "2\n"
    finally:
        for file in folder.iterdir():
            file.unlink()  # Linux removes its own files with the folder
        kernel.close()
    assert not folder.exists()
