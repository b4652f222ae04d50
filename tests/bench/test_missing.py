"""What a file lacks: a cut at the end of a line, a figure that is gone, lines of another run."""

import dataclasses
import itertools

import pytest

from crossattn_ref.bench.floors import METRICS, RATES
from crossattn_ref.bench.missing import missing
from crossattn_ref.records import Record

WAYS = ("plain", "chunked", "fused")


def record(case, metric, command="c", **changes):
    plain = {"value": 1.0, "samples": [1.0], "unit": "us", "seeds": [0], "files": ["a.py"], "code": "0" * 64}
    plain |= {"suite": "s", "versions": {"python": "3"}, "hardware": {"cores": 2}, "date": "2026-01-01"}
    return Record(case=case, metric=metric, command=command, **(plain | changes))


def whole():
    """Two rows of three ways, as the suite of the processor writes them."""
    ceilings = [record("ceilings", rate) for rate in RATES]
    cases = [f"{row}/{way}" for row in ("small", "large") for way in WAYS]
    return ceilings + [record(case, metric) for case, metric in itertools.product(cases, METRICS)]


def said(records):
    return [text for _, text in missing(dict(enumerate(records, start=1)))]


def saying(records, n):
    return [dataclasses.replace(one, more={"lines": n}) for one in records]


def test_a_whole_file_lacks_nothing():
    assert len(whole()) == 28
    assert said(whole()) == []
    assert said(saying(whole(), 28)) == []


@pytest.mark.parametrize("end", [n for n in range(1, 28) if n not in (4, 8, 12, 16)])
def test_a_file_that_is_cut_within_a_case_or_after_the_first_row_shows_it(end):
    assert said(whole()[:end])


@pytest.mark.parametrize("end", range(1, 28))
def test_a_file_that_says_how_many_lines_it_has_shows_every_cut(end):
    (found,) = [text for text in said(saying(whole(), 28)[:end]) if "lines" in text]
    assert found == f"c must have written 28 lines, got {end}"


@pytest.mark.parametrize("gone", range(28))
def test_every_figure_that_is_gone_is_missed(gone):
    lines = whole()
    case, metric = lines[gone].case, lines.pop(gone).metric
    assert f"{case} must have {metric} beside what it has" in said(lines)


def test_a_figure_is_wanted_where_every_case_that_shares_one_has_it():
    trained = [record("training", "seconds")]
    lines = trained + [record(case, metric) for case in ("a", "b", "c") for metric in ("right", "close")]
    assert said(lines) == []
    assert said(lines[:-1]) == ["c must have close beside what it has"]
    assert said([*lines, record("blank", "right"), record("blank too", "right")]) == []


@pytest.mark.parametrize("why", ["refused", "untried"])
def test_a_way_that_has_no_time_is_there_and_ratios_depend_on_the_others(why):
    lines = [*whole()[:-4], record("large/fused", why), record("small/fused", "time over plain")]
    assert said(lines) == []
    assert said(lines[:-2]) == ["large must have fused, as other rows have"]


def test_an_error_need_not_be_that_of_attention():
    assert said([record("a", "error"), record("a", "seconds")]) == []


def test_each_part_has_ways_of_its_own():
    other = [record("long/plain", metric, more={"part": "long"}) for metric in METRICS]
    assert said(whole() + other) == []


@pytest.mark.parametrize("name", ["files", "code", "versions", "hardware"])
def test_lines_of_one_run_are_of_one_code_and_machine(name):
    other = {"files": ["b.py"], "code": "1" * 64, "versions": {}, "hardware": {"cores": 64}}[name]
    lines = whole()
    lines[-1] = dataclasses.replace(lines[-1], **{name: other})
    assert said(lines) == [f"large/fused, error: {name} must be that of the first line of its run"]
    assert said([*whole(), record("x", "y", command="d", **{name: other})]) == []
