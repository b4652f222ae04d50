"""Suites by name: run, recorded whole, refused when unknown."""

import dataclasses
import importlib
import json

import pytest

from crossattn_ref import records
from crossattn_ref.bench import measure, multihead, suites, throughput


@pytest.fixture
def quick(monkeypatch):
    """Let the suite multihead measure two figures that cost nothing."""
    one = measure.Measurement(case="small/forward", metric="ours", unit="us", samples=[1.0, 2.0, 4.0], seeds=[0, 1, 2])
    two = measure.Measurement(case="small/forward", metric="ratio", unit="1", samples=[0.5], seeds=[0], more={"a": 1})
    monkeypatch.setattr(multihead, "measure", lambda: iter([one, two]))


@pytest.mark.usefixtures("quick")
def test_a_suite_is_recorded_with_what_is_needed_to_doubt_it(tmp_path):
    yielded = list(suites.run("multihead", folder=tmp_path))
    first, second = records.read("multihead", tmp_path)
    assert [one.more for one in yielded] == [{}, {"a": 1}]
    assert [dataclasses.replace(one, more={}) for one in yielded] == [
        dataclasses.replace(one, more={}) for one in (first, second)
    ]
    assert (first.value, first.samples, first.unit) == (2.0, [1.0, 2.0, 4.0], "us")
    assert first.command == "crossattn bench multihead"
    assert "crossattn_ref/attention/dense.py" in first.files
    assert "crossattn_ref/bench/multihead.py" in first.files
    assert "crossattn_ref/bench/suites.py" not in first.files  # another suite in the table makes no record stale
    assert not records.is_stale(first)
    assert set(first.versions) == {"python", "torch"}
    assert first.hardware["threads"] == 1
    assert (first.more, second.more) == ({"lines": 2}, {"a": 1, "lines": 2})
    keys = ["suite", "case", "metric", "value", "samples", "unit", "seeds", "command"]
    keys += ["code", "versions", "hardware", "date"]
    line = json.loads((tmp_path / "multihead.jsonl").read_text("utf-8").splitlines()[0])
    assert set(keys) <= set(line)


@pytest.mark.usefixtures("quick")
def test_two_suites_share_a_file_and_each_replaces_its_own_cases_alone(tmp_path, monkeypatch):
    list(suites.run("multihead", folder=tmp_path))
    monkeypatch.setattr(throughput, "SUITE", "multihead")
    timed = measure.Measurement(case="throughput/numpy", metric="ratio", unit="1", samples=[4.5], seeds=[])
    monkeypatch.setattr(throughput, "measure", lambda: iter([timed]))
    list(suites.run("throughput", folder=tmp_path))
    both = records.read("multihead", tmp_path)
    assert [r.case for r in both] == ["small/forward", "small/forward", "throughput/numpy"]
    assert both[2].command == "crossattn bench throughput"
    monkeypatch.setattr(multihead, "measure", lambda: iter([timed_anew]))
    timed_anew = measure.Measurement(case="other", metric="ours", unit="us", samples=[1.0], seeds=[0])
    list(suites.run("multihead", folder=tmp_path))
    assert sorted(r.case for r in records.read("multihead", tmp_path)) == ["other", "throughput/numpy"]
    assert list(tmp_path.iterdir()) == [tmp_path / "multihead.jsonl"]


@pytest.mark.usefixtures("quick")
def test_a_suite_that_breaks_off_leaves_the_old_records_alone(tmp_path):
    list(suites.run("multihead", folder=tmp_path))
    before = (tmp_path / "multihead.jsonl").read_bytes()
    running = suites.run("multihead", folder=tmp_path)
    next(running)
    running.close()
    assert (tmp_path / "multihead.jsonl").read_bytes() == before


def test_a_damaged_file_is_refused_before_anything_is_measured_and_left_alone(tmp_path, monkeypatch):
    def never():
        raise AssertionError

    monkeypatch.setattr(multihead, "measure", never)
    path = tmp_path / "multihead.jsonl"
    path.write_text("{}\n" + '{"suite": "multi', "utf-8")
    with pytest.raises(
        ValueError, match=r"multihead\.jsonl, line 1, must be a record .*: restore it from git, or delete"
    ):
        list(suites.run("multihead", folder=tmp_path))
    assert path.read_text("utf-8") == "{}\n" + '{"suite": "multi'


def test_what_was_measured_while_its_file_was_damaged_lies_beside_it(tmp_path, monkeypatch):
    path = tmp_path / "multihead.jsonl"

    def meanwhile():
        yield measure.Measurement(case="new", metric="ours", unit="us", samples=[7.0], seeds=[0])
        path.write_text("damaged", "utf-8")

    monkeypatch.setattr(multihead, "measure", meanwhile)
    with pytest.raises(ValueError, match=r"line 1, must be a record .* lies in .*beside.multihead\.jsonl"):
        list(suites.run("multihead", folder=tmp_path))
    assert path.read_text("utf-8") == "damaged"
    assert [(r.case, r.value) for r in records.read("multihead", tmp_path / "beside")] == [("new", 7.0)]


@pytest.mark.usefixtures("quick")
def test_a_run_says_how_many_lines_it_wrote_when_another_takes_some_of_them_too(tmp_path, monkeypatch):
    def lines():
        return [
            (r.command.rpartition(" ")[2], r.case, r.more.get("lines")) for r in records.read("multihead", tmp_path)
        ]

    list(suites.run("multihead", folder=tmp_path))
    path = tmp_path / "multihead.jsonl"
    old = json.loads(path.read_text("utf-8").splitlines()[0]) | {"case": "old", "command": "c old", "more": {}}
    path.write_text(path.read_text("utf-8") + json.dumps(old) + "\n", "utf-8")
    timed = measure.Measurement(case="small/forward", metric="ratio", unit="1", samples=[4.5], seeds=[])
    monkeypatch.setattr(throughput, "SUITE", "multihead")
    monkeypatch.setattr(throughput, "measure", lambda: iter([timed]))
    list(suites.run("throughput", folder=tmp_path))
    assert lines() == [("multihead", "small/forward", 1), ("old", "old", None), ("throughput", "small/forward", 1)]


def test_a_list_is_recorded_at_once_and_kept_when_the_suite_breaks_off(tmp_path, monkeypatch):
    def one(case):
        return measure.Measurement(case=case, metric="ours", unit="us", samples=[1.0], seeds=[0])

    def broken():
        yield [one("first/a"), one("first/b")]
        yield [one("second/a")]
        raise KeyboardInterrupt

    monkeypatch.setattr(multihead, "measure", lambda: iter([one("before")]))
    list(suites.run("multihead", folder=tmp_path))
    monkeypatch.setattr(multihead, "measure", broken)
    running = suites.run("multihead", folder=tmp_path)
    next(running)
    assert [record.case for record in records.read("multihead", tmp_path)] == ["first/a", "first/b"]
    with pytest.raises(KeyboardInterrupt):
        list(running)
    assert [record.case for record in records.read("multihead", tmp_path)] == ["first/a", "first/b", "second/a"]


def test_an_unknown_suite_and_a_folder_in_no_project_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"suite must be one of .*multihead.*, got 'nothing'"):
        list(suites.run("nothing"))
    with pytest.raises(ValueError, match="folder must lie in an existing folder"):
        list(suites.run("multihead", folder=tmp_path / "no" / "where"))


@pytest.mark.parametrize("suite", suites.SUITES)
def test_every_suite_of_the_table_can_be_measured(suite):
    module = importlib.import_module(f"crossattn_ref.bench.{suite.replace('-', '_')}")
    assert callable(module.measure)
    assert measure.versions(*module.PACKAGES)
    assert isinstance(module.hardware(), dict)
