"""The command `crossattn bench`, as it is typed."""

import subprocess
import sys

import pytest

from crossattn_ref import records
from crossattn_ref.__main__ import main
from crossattn_ref.bench import measure, multihead


def test_without_a_suite_the_suites_are_listed(capsys):
    assert main(["bench"]) == 0
    assert "multihead " in capsys.readouterr().out


def test_a_suite_is_measured_printed_and_recorded(tmp_path, capsys, monkeypatch):
    figure = measure.Measurement(case="small/forward", metric="ours", unit="us", samples=[1.0, 2.0, 4.0], seeds=[0])
    monkeypatch.setattr(multihead, "measure", lambda: iter([figure]))
    assert main(["bench", "multihead", "--folder", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "small/forward" in out
    assert "2 us" in out
    assert "(1 to 4)" in out
    assert f"recorded in {tmp_path / 'multihead.jsonl'}" in out
    assert len(records.read("multihead", tmp_path)) == 1


def test_an_unknown_suite_is_answered_with_the_known_ones_and_status_2(capsys):
    assert main(["bench", "nothing"]) == 2
    complaint = capsys.readouterr().err
    assert complaint.startswith("crossattn bench: suite must be one of ")
    assert "multihead" in complaint


@pytest.mark.parametrize("arguments", [["--help"], ["bench", "--help"]])
def test_help_shows_the_command(arguments):
    command = [sys.executable, "-m", "crossattn_ref", *arguments]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "bench" in run.stdout
    assert "examples:" in run.stdout or arguments == ["--help"]
