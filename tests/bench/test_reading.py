"""Records read strictly: what is damaged is refused with file, line and remedy, and is left as it is."""

import json

import pytest

from crossattn_ref import records
from crossattn_ref.bench import reading

LINE = (records.FOLDER / "multihead.jsonl").read_text("utf-8").splitlines()[0]


def changed(**changes):
    return json.dumps(json.loads(LINE) | changes)


def test_a_record_is_read_as_the_package_reads_it():
    assert reading.read(records.FOLDER / "multihead.jsonl") == records.read("multihead")


def test_no_file_holds_no_records(tmp_path):
    assert reading.read(tmp_path / "none.jsonl") == []


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (changed(value=10**400), r"value must be a finite number, got 1000\d+\.\.\.0+"),
        (changed(value=True), "value must be a finite number, got True"),
        (changed(samples=None), "samples must be a list of finite numbers, got None"),
        (changed(samples={}), r"samples must be a list of finite numbers, got \{\}"),
        (changed(seeds="q"), "seeds must be a list of integers from 0 to .*, got 'q'"),
        (changed(seeds=[-1]), "seeds must be a list of integers from 0"),
        (changed(files=[]), r"files must be a list of files of the project, .*, got \[\]"),
        (changed(files=["a.py", 5]), r"files must be a list of files .*, got \['a.py', 5\]"),
        (changed(files=["/dev/zero"]), "files must be a list of files"),
        (changed(files=["../../secret"]), "files must be a list of files"),
        (changed(files=["a\0"]), "files must be a list of files"),
        (changed(code="q"), "code must be a sha256 of 64 hexadecimal digits, got 'q'"),
        (changed(versions={"python": 3}), "versions must be an object of texts"),
        (changed(hardware=3), "hardware must be an object of texts and integers, got 3"),
        (changed(hardware={"cores": True}), "hardware must be an object of texts and integers"),
        (changed(date="yesterday"), "date must be a date in ISO 8601, got 'yesterday'"),
        (changed(more=None), "more must be an object with named entries"),
        (changed(more={"lines": "q"}), "more must be an object .*, of which lines is an integer"),
        (changed(case=""), "case must be a text that is not empty, got ''"),
        (changed(case="\ud800"), "a record must hold whole characters"),
        (LINE[:-40], r"cut off at character \d+ of"),
        ("[" * 100_000, "not JSON that can be read"),
        (changed(value=0).replace('"value": 0', '"value": ' + "9" * 5000), "not JSON that can be read"),
    ],
)  # fmt: skip
def test_a_line_of_the_wrong_kind_is_refused_with_name_rule_and_value(line, complaint):
    with pytest.raises(ValueError, match=complaint):
        reading.record(line)


def test_a_damaged_file_is_named_with_its_line_and_the_remedy(tmp_path):
    path = tmp_path / "s.jsonl"
    for damage in (LINE[:70].encode(), b"\xff\xfe"):
        path.write_bytes(LINE.encode() + b"\n" + damage)
        with pytest.raises(
            ValueError, match=r"s\.jsonl, line 2, must be a record \(.*\): restore it from git, or delete"
        ):
            reading.read(path)
    with pytest.raises(ValueError, match=r"must be a file that can be read .*: restore it from git"):
        reading.read(tmp_path)
