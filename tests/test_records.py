"""Records: read back as written, replaced in one step, refused when malformed, stale when their code changes."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest

from crossattn_ref import records
from crossattn_ref.records import Record, code_of, files_of, is_stale, read, replace


def record(**changes):
    plain = {
        "suite": "made-up",
        "case": "small/forward",
        "metric": "ours",
        "value": 2.0,
        "samples": [1.0, 2.0, 5.0],
        "unit": "us",
        "seeds": [0, 1, 2],
        "command": "crossattn bench made-up",
        "files": ["crossattn_ref/__init__.py"],
        "code": code_of(["crossattn_ref/__init__.py"]),
        "versions": {"python": "3.11"},
        "hardware": {"cpu": "one", "threads": 1},
        "date": "2026-01-01T00:00:00+00:00",
    }
    return Record(**(plain | changes))


def test_records_are_read_back_as_they_were_written(tmp_path):
    written = [record(), record(metric="ratio", value=0.5, samples=[0.5], more={"note": "größer"})]
    replace(written, tmp_path)
    assert read("made-up", tmp_path) == written
    lines = (tmp_path / "made-up.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line)["metric"] for line in lines] == ["ours", "ratio"]


def test_one_record_is_found_by_its_case_and_metric_or_the_command_is_named(tmp_path):
    replace([record(), record(metric="ratio", value=0.5, samples=[0.5])], tmp_path)
    assert records.find("made-up", "small/forward", "ratio", tmp_path).value == 0.5
    with pytest.raises(ValueError, match=r"must hold 'large', 'ratio': run crossattn bench made-up"):
        records.find("made-up", "large", "ratio", tmp_path)


def test_a_suite_that_was_never_run_has_no_records(tmp_path):
    assert read("made-up", tmp_path) == []


def test_a_new_record_takes_the_place_of_the_old_and_leaves_the_others(tmp_path):
    other, newer = record(case="large"), record(value=7.0, samples=[7.0])
    replace([record(), other], tmp_path)
    replace([newer], tmp_path)
    assert read("made-up", tmp_path) == [newer, other]


def test_records_of_several_suites_go_each_into_its_own_file(tmp_path):
    replace([record(), record(suite="another", case="large")], tmp_path)
    assert read("made-up", tmp_path) == [record()]
    assert read("another", tmp_path) == [record(suite="another", case="large")]


def test_a_whole_suite_drops_the_records_of_cases_that_are_gone(tmp_path):
    replace([record(), record(case="large")], tmp_path)
    replace([record()], tmp_path, whole=True)
    assert read("made-up", tmp_path) == [record()]


def test_a_file_is_replaced_in_one_step_and_nothing_is_left_beside_it(tmp_path, monkeypatch):
    replace([record()], tmp_path)
    seen = []
    real = Path.replace

    def watched(source, target):
        seen.append(read("made-up", tmp_path))
        return real(source, target)

    monkeypatch.setattr(Path, "replace", watched)
    replace([record(value=7.0, samples=[7.0])], tmp_path)
    assert seen == [[record()]]
    assert [path.name for path in tmp_path.iterdir()] == ["made-up.jsonl"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"value": 3.0}, r"value must be the median of the samples, got 3\.0"),
        ({"samples": []}, "value must be the median of the samples"),
        ({"samples": [1.0, float("nan"), 5.0]}, "value and samples must be finite numbers, got nan"),
        ({"value": float("inf"), "samples": [float("inf")]}, "must be finite numbers, got inf"),
        ({"value": "2.0"}, r"must be finite numbers, got '2\.0'"),
        ({"value": True, "samples": [True]}, "must be finite numbers, got True"),
        ({"metric": ""}, "metric must be a text that is not empty, got ''"),
        ({"unit": None}, "unit must be a text that is not empty, got None"),
    ],
)
def test_what_could_not_have_been_measured_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        record(**changes)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"suite": "made-up"}', "made-up.jsonl, line 2: .*missing"),
        ('{"suite": "made-up", ', "made-up.jsonl, line 2: "),
        ("[]", "made-up.jsonl, line 2: "),
        ("", "made-up.jsonl, line 2: "),
    ],
)
def test_a_malformed_line_is_named(tmp_path, line, message):
    replace([record()], tmp_path)
    path = tmp_path / "made-up.jsonl"
    path.write_text(path.read_text("utf-8") + line + "\n", "utf-8")
    with pytest.raises(ValueError, match=message):
        read("made-up", tmp_path)


def test_an_edited_median_is_found_out(tmp_path):
    replace([record()], tmp_path)
    path = tmp_path / "made-up.jsonl"
    path.write_text(path.read_text("utf-8").replace('"value": 2.0', '"value": 1.0'), "utf-8")
    with pytest.raises(ValueError, match=r"line 1: value must be the median"):
        read("made-up", tmp_path)


# Whose code a record was measured with


@pytest.fixture
def project(tmp_path):
    """Make a project in which top imports middle, middle imports below, and aside is imported by nobody."""
    sources = {
        "__init__.py": '"""A package."""',
        "top.py": "import json\nfrom crossattn_ref.part import middle\n",
        "part/__init__.py": "",
        "part/middle.py": "def late():\n    import crossattn_ref.below\n",
        "below.py": "from crossattn_ref.part.middle import late",
        "aside.py": "",
    }
    for name, source in sources.items():
        path = tmp_path / "crossattn_ref" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(source)
    return tmp_path


def test_files_are_followed_through_every_import_and_no_further(project):
    names = ["__init__.py", "below.py", "part/__init__.py", "part/middle.py", "top.py"]
    assert files_of("crossattn_ref.top", root=project) == [f"crossattn_ref/{name}" for name in names]
    assert files_of("json", root=project) == []


def test_a_record_is_stale_once_its_code_changes_and_not_before(project):
    files = files_of("crossattn_ref.top", root=project)
    measured = record(files=files, code=code_of(files, project))
    assert not is_stale(measured, project)
    (project / "crossattn_ref" / "aside.py").write_text("x = 1")
    assert not is_stale(measured, project)
    (project / "crossattn_ref" / "below.py").write_text("x = 1")
    assert is_stale(measured, project)


def test_a_record_is_stale_when_its_code_is_gone(project):
    measured = record(files=["crossattn_ref/aside.py"], code=code_of(["crossattn_ref/aside.py"], project))
    (project / "crossattn_ref" / "aside.py").unlink()
    assert is_stale(measured, project)


def test_code_tells_apart_what_moves_from_one_file_to_the_next(project):
    files = ["crossattn_ref/aside.py", "crossattn_ref/below.py"]
    codes = set()
    for sources in (("ab", "c"), ("a", "bc"), ("", "abc")):
        for name, source in zip(files, sources, strict=True):
            (project / name).write_text(source)
        codes.add(code_of(files, project))
    assert len(codes) == 3


def test_records_need_nothing_but_the_standard_library():
    check = "import sys; import crossattn_ref.records; sys.exit(bool({'numpy', 'torch'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


def test_every_record_that_is_kept_can_be_read():
    for path in records.FOLDER.glob("*.jsonl"):
        for kept in read(path.stem):
            assert kept.suite == path.stem
            assert dataclasses.asdict(kept)["files"]
