"""The audit: it lets true records through, and refuses each kind of lie by itself."""

import dataclasses
import json

import pytest

from crossattn_ref import records
from crossattn_ref.__main__ import main
from crossattn_ref.bench.audit import audit
from crossattn_ref.bench.floors import RATES
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


ROW = "B1 H1 3x5x7 float32"


def way(name, us, *, floor=448.0, row=ROW, more=None):
    """Write down the four figures of a way."""
    figures = {"median_us": us, "floor_us": floor, "peak_bytes": 84.0, "error": 1e-7}
    return [line(f"{row}/{name}", metric, value, more=more or MORE) for metric, value in figures.items()]


def truth():
    """One thing in a thousandth of a second each: a floor of 448 us by the bytes, and times above it."""
    ceilings = [line("ceilings", rate, 1e6) for rate in RATES]
    return [*ceilings, *way("a", 900.0), *way("b", 600.0), line(f"{ROW}/a", "time over b", 1.5)]


def remarks(*lines):
    return [remark.text for remark in audit("\n".join(lines), suite="s") if remark.refused]


def test_the_truth_passes():
    assert moved(SHAPE) == 448
    assert remarks(*truth()) == []


def a(metric, value, more=None, **changes):
    return line(f"{ROW}/a", metric, value, more=MORE if more is None else more, **changes)


@pytest.mark.parametrize(
    ("place", "lie", "complaint"),
    [
        (4, a("median_us", 400.0), "400 us is faster than possible: the floor is 448 us"),
        (4, a("median_us", 900.0, more={}), "more must state a shape, or flop, bytes or exponentials"),
        (12, a("time over b", 1.2), r"the medians give 1.5, and not 1.2"),
        (12, a("time over c", 1.5), f"median_us of {ROW}/c and of {ROW}/a must be in the file, or of neither"),
        (5, a("floor_us", 400.0), "the ceilings of this file give 448 us, and not 400"),
        (5, a("floor_us", 1.0, more={}), "more must state a shape, or flop, bytes or exponentials"),
        (
            5,
            a("floor_us", 448.0, MORE | {"ceilings": "none"}),
            "its ceilings, 'none', must be in the file",
        ),
        (5, a("floor_us", 448.0, MORE | {"ceilings": [1]}), "its ceilings, [1], must be in the file; matrix_rate"),
        (5, a("floor_us", 448.0, MORE | {"pass": "backward"}), "pass must be what its case says, got 'backward'"),
        (5, a("floor_us", 448.0, [1]).replace('"more": {}', '"more": []'), "more must be an object with"),
        (5, a("floor_us", 448.0, MORE | {"shape": [1]}), "its shape is none"),
        (0, line("ceilings", RATES[0], 0.0), "no ceiling is 0"),
        (0, line("ceilings", RATES[0], 0.0), "the ceilings of this file give inf us, and not 448"),
        (0, line("others", RATES[0], 1e6), "its ceilings, 'ceilings', must be in the file; matrix_rate is not"),
        (8, line(f"{ROW}/b", "median_us", 0.0, more=MORE), "the medians give inf, and not 1.5"),
        (5, a("floor_us", 448.0, {"bytes": 447}), "the ceilings of this file give 447 us, and not 448"),
        (5, a("floor_us", 448.0, {"bytes": "many"}), "bytes must be a number of at least 0, got 'many'"),
        (5, a("floor_us", 448.0, MORE | {"flop": 1}), "flop must be 420 for its shape, got 1"),
        (5, a("floor_us", 448.0, {"shape": {"Nq": -1}}), "its shape is none"),
        (4, a("median_us", 900.0, MORE | {"shape": MORE["shape"] | {"Nq": 10**400}}), "its shape is none"),
        (4, a("median_us", 900.0, MORE | {"shape": MORE["shape"] | {"Nq": 2}}), "its case must begin with its shape"),
        (6, a("peak_bytes", 83.0), "the output alone takes 84 bytes, got 83"),
        (7, a("error", 2e-4), "an error of at most 0.0001 is what rounding explains, got 0.0002"),
        (4, a("median_us", -1.0), "no sample may be negative, got -1"),
        (4, a("median_us", 900.0, samples=[1.0, 2.0]), "value must be the median"),
        (4, a("median_us", 900.0, samples=None), "samples must be a list of finite numbers, got None"),
        (4, line(f"{ROW}/b", "median_us", 900.0, more=MORE), "the same case and metric as line 5"),
        (4, a("median_us", 900.0)[:-30], "cut off at character"),
        (4, a("median_us", 900.0, suite="t"), "suite must be s, as the file, got 't'"),
        (4, a("median_us", 900.0, files=["crossattn_ref"]), "files must be files of the project that can be read"),
        (4, '{"suite": oops}', "not JSON at character 10"),
        (4, "[]", "a record is an object with named entries"),
        (4, "{}", "a record missing 13 required keyword-only arguments"),
        (4, a("median_us", 900.0, extra=1), "a record got an unexpected keyword argument 'extra'"),
        (4, a("median_us", float("nan")), "value must be a finite number, got nan"),
    ],
)
def test_a_lie_is_refused_and_named(place, lie, complaint):
    lines = truth()
    lines[place] = lie
    found = remarks(*lines)
    assert any(complaint in text for text in found), found


def test_a_file_that_holds_nothing_is_refused():
    (found,) = remarks()
    assert (
        found == "a file must hold a record, and this one is empty: restore the file from git, or run its suite again"
    )


def test_a_floor_is_held_against_the_ceilings_that_were_measured_beside_it():
    slower = [line("ceilings of b", rate, 5e5) for rate in RATES]
    beside = MORE | {"ceilings": "ceilings of b", "part": "b"}
    assert remarks(*truth(), *slower, *way("c", 900.0, floor=896.0, more=beside)) == []
    (found,) = remarks(*truth(), *slower, *way("c", 900.0, floor=448.0, more=beside))
    assert found == f"{ROW}/c, floor_us: the ceilings of b of this file give 896 us, and not 448"


def test_a_floor_follows_from_the_best_that_the_ceilings_once_did_and_of_the_pass():
    best = [line("ceilings", rate, 1e6, samples=[5e5, 1e6, 2e6]) for rate in RATES]
    more = MORE | {"pass": "backward", "flop": 1050, "bytes": 896}
    assert remarks(*best, *way("a", 900.0, floor=525.0, row=f"{ROW} backward", more=more)) == []


def test_a_ratio_of_totals_is_that_of_sums_as_far_as_both_came():
    ours = line("stream/fused", "call_us", 2.0, samples=[1.0, 2.0, 3.0])
    theirs = line("stream/default", "call_us", 30.0, samples=[20.0, 40.0])
    assert remarks(ours, theirs, line("stream/fused", "total over default", 0.05)) == []
    (found,) = remarks(ours, theirs, line("stream/fused", "total over default", 0.1))
    assert "the sums give 0.05, and not 0.1" in found


def test_totals_that_are_too_large_for_a_number_are_refused():
    many = [10**308] * 20
    ours = line("stream/fused", "call_us", 10**308, samples=many)
    theirs = line("stream/default", "call_us", 1.0, samples=[1.0] * 20)
    (found,) = remarks(ours, theirs, line("stream/fused", "total over default", 0.1))
    assert "the sums give inf, and not 0.1" in found


def test_a_record_of_other_code_is_stale_and_no_mistake(tmp_path, capsys):
    path = tmp_path / "s.jsonl"
    path.write_text(line("x", "seconds", 1.0, code="0" * 64) + "\n")
    assert main(["audit", str(path)]) == 0
    out = capsys.readouterr().out
    assert "line 1: stale: x, seconds: its code has changed since 2026-01-01" in out
    assert "1 lines, 0 refused, 1 stale" in out


def test_the_command_ends_with_1_for_a_refused_line_and_with_2_for_a_file_that_is_not_there(tmp_path, capsys):
    path = tmp_path / "s.jsonl"
    path.write_text("\n".join([*truth(), a("median_us", 1.0)[:-1]]))
    assert main(["audit", str(path)]) == 1
    assert "line 14: refused: cut off" in capsys.readouterr().out
    assert main(["audit", str(tmp_path / "none.jsonl")]) == 2
    assert "none.jsonl cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize("path", sorted(records.FOLDER.glob("*.jsonl")), ids=lambda path: path.stem)
def test_no_record_of_the_book_is_refused(path):
    assert [remark for remark in audit(path.read_text("utf-8"), suite=path.stem) if remark.refused] == []


# Whatever stands in a file ends in remarks

WRONG = [None, "", "q", -1, 0, 10**400, [], {}, True, "nan", float("nan"), "\ud800"]


def mutations(content):
    """Put each wrong thing in the place of each entry of a line, and of what lies in its more, and in its shape."""
    for name in content:
        for wrong in WRONG:
            yield name, content | {name: wrong}
    for name, inner in content["more"].items():
        for wrong in WRONG:
            yield f"more.{name}", content | {"more": content["more"] | {name: wrong}}
        for size in inner if name == "shape" else ():
            for wrong in WRONG:
                shape = {"shape": inner | {size: wrong}}
                yield f"more.shape.{size}", content | {"more": content["more"] | shape}


@pytest.mark.parametrize("path", sorted(records.FOLDER.glob("*.jsonl")), ids=lambda path: path.stem)
def test_no_entry_is_so_wrong_that_the_audit_raises(path, tmp_path):
    lines = path.read_text("utf-8").splitlines()[:9:4]
    for place in range(len(lines)):
        for _, mutated in mutations(json.loads(lines[place])):
            text = "\n".join([*lines[:place], json.dumps(mutated), *lines[place + 1 :]])
            for remark in audit(text, tmp_path):
                remark.text.encode("utf-8")


def test_no_entry_of_a_time_that_can_be_computed_anew_is_changed_unseen(tmp_path):
    lines = (records.FOLDER / "attention-cpu.jsonl").read_text("utf-8").splitlines()[:26]  # ceilings, and a row
    place = next(i for i, one in enumerate(lines) if json.loads(one)["metric"] == "median_us")
    content = json.loads(lines[place])
    assert not [remark for remark in audit("\n".join(lines), tmp_path) if remark.refused]
    unseen = set()
    for name, mutated in mutations(content):
        text = "\n".join([*lines[:place], json.dumps(mutated), *lines[place + 1 :]])
        if not any(remark.refused for remark in audit(text, tmp_path, suite="attention-cpu")):
            unseen.add((name, str(mutated.get(name, ""))))
    free = {"unit", "seeds", "date"}  # what nothing else in the file says again
    assert {name for name, _ in unseen} - free <= {"more.shape.lengths", "more.shape.Hkv"}, unseen
