"""Files that are never half written: whatever goes wrong, the old content stays, and nothing else lies about."""

import errno
import os
from pathlib import Path

import pytest

from crossattn_ref.files import write_whole


def _full(*_):
    raise OSError(errno.ENOSPC, "no space left")


def _stopped(*_):
    raise KeyboardInterrupt


def test_bytes_and_text_arrive_as_they_are(tmp_path):
    path = tmp_path / "new" / "folder" / "file"
    for content, expected in ((b"\x00\r\n\xff", b"\x00\r\n\xff"), ("é\r\nü\n", "é\r\nü\n".encode()), ("", b"")):
        write_whole(path, content)
        assert path.read_bytes() == expected
    assert path.stat().st_mode & 0o777 == 0o644
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(("where", "what", "kind"), [("fsync", _full, OSError), ("fsync", _stopped, KeyboardInterrupt)])
def test_a_crash_while_writing_leaves_the_old_file_and_nothing_beside_it(tmp_path, monkeypatch, where, what, kind):
    path = tmp_path / "file"
    write_whole(path, "old")
    monkeypatch.setattr(os, where, what)
    with pytest.raises(kind):
        write_whole(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_crash_before_the_last_step_leaves_the_old_file_and_nothing_beside_it(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_whole(path, "old")
    monkeypatch.setattr(Path, "replace", _full)
    with pytest.raises(OSError, match="no space left"):
        write_whole(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_whoever_reads_meanwhile_finds_the_old_file(tmp_path, monkeypatch):
    path, seen = tmp_path / "file", []
    write_whole(path, "old")
    real = Path.replace

    def watched(source, target):
        seen.append((path.read_text(), Path(source).read_text()))
        return real(source, target)

    monkeypatch.setattr(Path, "replace", watched)
    write_whole(path, "new")
    assert seen == [("old", "new")]
    assert path.read_text() == "new"
