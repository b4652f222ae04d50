"""The audit: it lets true records through, and refuses each kind of lie by itself."""

import dataclasses
import json

import pytest

from crossattn_ref import records
from crossattn_ref.__main__ import main
from crossattn_ref.bench.audit import RATES, audit
from crossattn_ref.cost import Shape, exponentials, flops, moved

SHAPE = Shape(Nq=3, Nk=5, D=7)
MORE = {
    "shape": dataclasses.asdict(SHAPE),
    "flop": flops(SHAPE),
    "bytes": moved(SHAPE),
    "exponentials": exponentials(SHAPE),
}


def line(case, metric, value, *, more=None, **changes):
    files = ["crossattn_ref/__init__.py"]
    plain = {"suite": "s", "unit": "us", "seeds": [0], "command": "c", "files": files, "code": records.code_of(files)}
    plain |= {"versions": {}, "hardware": {}, "date": "2026-01-01"}
    plain |= {"case": case, "metric": metric, "value": value, "samples": [value], "more": more or {}}
    return json.dumps(plain | changes)


def truth():
    """One thing in a thousandth of a second each: a floor of 420 us by the products, and times above it."""
    ceilings = [line("ceilings", rate, 1e6) for rate in RATES]
    times = [line("x/a", "median_us", 900.0), line("x/b", "median_us", 600.0), line("x/a", "time over b", 1.5)]
    return [*ceilings, *times, line("x/a", "floor_us", 448.0, more=MORE)]


def remarks(*lines):
    return [remark.text for remark in audit("\n".join(lines)) if remark.refused]


def test_the_truth_passes():
    assert moved(SHAPE) == 448
    assert remarks(*truth()) == []


@pytest.mark.parametrize(
    ("place", "lie", "complaint"),
    [
        (4, line("x/a", "median_us", 400.0), "400 us is faster than possible: the floor is 448 us"),
        (6, line("x/a", "time over b", 1.2), r"the medians give 1.5, and not 1.2"),
        (7, line("x/a", "floor_us", 400.0, more=MORE), "the ceilings of this file give 448 us, and not 400"),
        (
            7,
            line("x/a", "floor_us", 448.0, more=MORE | {"pass": "backward"}),
            "flop must be 1050 for its shape, got 420",
        ),
        (7, line("x/a", "floor_us", 448.0, more=[]).replace('"more": {}', '"more": []'), "more must be an object with"),
        (7, line("x/a", "floor_us", 448.0, more=MORE | {"shape": [1]}), "its shape is none"),
        (0, line("ceilings", RATES[0], 0.0), "no ceiling is 0"),
        (0, line("ceilings", RATES[0], 0.0), "the ceilings of this file give inf us, and not 448"),
        (5, line("x/b", "median_us", 0.0), "the medians give inf, and not 1.5"),
        (7, line("x/a", "floor_us", 448.0, more={"bytes": 447}), "the ceilings of this file give 447 us, and not 448"),
        (7, line("x/a", "floor_us", 448.0, more={"bytes": "many"}), "bytes must be a number, got 'many'"),
        (7, line("x/a", "floor_us", 500.0, more=MORE), "the ceilings of this file give 448 us, and not 500"),
        (7, line("x/a", "floor_us", 448.0, more=MORE | {"flop": 1}), "flop must be 420 for its shape, got 1"),
        (7, line("x/a", "floor_us", 448.0, more={"shape": {"Nq": -1}}), "its shape is none"),
        (4, line("x/a", "median_us", -1.0), "no sample may be negative, got -1"),
        (4, line("x/a", "median_us", 900.0, samples=[1.0, 2.0]), "value must be the median"),
        (4, line("x/b", "median_us", 900.0), "the same case and metric as line 5"),
        (4, line("x/a", "median_us", 900.0)[:-30], "cut off at character"),
        (4, '{"suite": oops}', "not JSON at character 10"),
        (4, "[]", "a record is an object with named entries"),
        (4, "{}", "a record missing 13 required keyword-only arguments"),
        (4, line("x/a", "median_us", 900.0, extra=1), "a record got an unexpected keyword argument 'extra'"),
        (4, line("x/a", "median_us", float("nan")), "must be finite numbers, got nan"),
    ],
)
def test_a_lie_is_refused_and_named(place, lie, complaint):
    lines = truth()
    lines[place] = lie
    found = remarks(*lines)
    assert any(complaint in text for text in found), found


def test_a_floor_is_held_against_the_ceilings_that_were_measured_beside_it():
    slower = [line("ceilings of b", rate, 5e5) for rate in RATES]
    beside = MORE | {"ceilings": "ceilings of b"}
    assert remarks(*truth(), *slower, line("y/a", "floor_us", 896.0, more=beside)) == []
    (found,) = remarks(*truth(), *slower, line("y/a", "floor_us", 448.0, more=beside))
    assert found == "y/a, floor_us: the ceilings of b of this file give 896 us, and not 448"


def test_a_floor_follows_from_the_best_that_the_ceilings_once_did_and_of_the_pass():
    best = [line("ceilings", rate, 1e6, samples=[5e5, 1e6, 2e6]) for rate in RATES]
    more = MORE | {"pass": "backward", "flop": 1050, "bytes": 896}
    assert remarks(*best, line("x/a", "floor_us", 525.0, more=more)) == []


def test_a_ratio_of_totals_is_that_of_sums_as_far_as_both_came():
    ours = line("stream/fused", "call_us", 2.0, samples=[1.0, 2.0, 3.0])
    theirs = line("stream/default", "call_us", 30.0, samples=[20.0, 40.0])
    assert remarks(ours, theirs, line("stream/fused", "total over default", 0.05)) == []
    (found,) = remarks(ours, theirs, line("stream/fused", "total over default", 0.1))
    assert "the sums give 0.05, and not 0.1" in found


def test_a_record_of_other_code_is_stale_and_no_mistake(tmp_path, capsys):
    path = tmp_path / "s.jsonl"
    path.write_text(line("x", "median_us", 1.0, code="0" * 64) + "\n")
    assert main(["audit", str(path)]) == 0
    out = capsys.readouterr().out
    assert "line 1: stale: x, median_us: its code has changed since 2026-01-01" in out
    assert "1 lines, 0 refused, 1 stale" in out


def test_the_command_ends_with_1_for_a_refused_line_and_with_2_for_a_file_that_is_not_there(tmp_path, capsys):
    path = tmp_path / "s.jsonl"
    path.write_text("\n".join([*truth(), line("x/a", "median_us", 1.0)[:-1]]))
    assert main(["audit", str(path)]) == 1
    assert "line 9: refused: cut off" in capsys.readouterr().out
    assert main(["audit", str(tmp_path / "none.jsonl")]) == 2
    assert "none.jsonl cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize("path", sorted(records.FOLDER.glob("*.jsonl")), ids=lambda path: path.stem)
def test_no_record_of_the_book_is_refused(path):
    assert [remark for remark in audit(path.read_text("utf-8")) if remark.refused] == []
