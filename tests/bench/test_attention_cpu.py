"""The suite attention-cpu: every way is right before it is timed, ceilings are of this machine, threads are fixed."""

import pytest
import torch

from crossattn_ref.bench import attention_cpu, ceilings, suites
from crossattn_ref.bench.attention_cpu import error, measure, ways
from crossattn_ref.bench.audit import audit
from crossattn_ref.bench.floors import RATES
from crossattn_ref.cost import Shape

SMALL = Shape(B=2, H=3, Nq=5, Nk=7, D=11)


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def test_every_way_has_its_figures_and_no_time_lies_below_its_floor():
    found = {(m.case, m.metric): m for m in measure(shapes=[SMALL], seconds=0.0, ceilings_seconds=0.0)}
    assert {metric for case, metric in found if case == "ceilings"} == set(RATES)
    for name in ways(SMALL):
        case = f"B2 H3 5x7x11 float32/{name}"
        assert found[case, "median_us"].value > found[case, "floor_us"].value > 0
        assert found[case, "peak_bytes"].value >= 4 * 2 * 3 * 5 * 11  # at least its output
        assert 0 < found[case, "error"].value < 1e-5
        assert len(found[case, "median_us"].samples) >= 5
    assert found[case, "floor_us"].more["flop"] == 4 * 2 * 3 * 5 * 7 * 11
    ratio = found["B2 H3 5x7x11 float32/torch chunked", "time over torch sdpa"]
    assert ratio.value > 0


def test_what_is_recorded_passes_the_audit_until_a_line_is_gone(tmp_path, monkeypatch):
    monkeypatch.setattr(ceilings, "samples", lambda **_: {rate: [1e12] for rate in RATES})
    monkeypatch.setattr(attention_cpu, "side_by_side", lambda calls, **_: [[100.0 + i] for i, _ in enumerate(calls)])
    shapes = [Shape(Nq=n, Nk=7, D=11) for n in (3, 5)]
    monkeypatch.setattr(attention_cpu, "measure", lambda: measure(shapes=shapes))
    assert len(list(suites.run("attention-cpu", folder=tmp_path))) == 48
    lines = (tmp_path / "attention-cpu.jsonl").read_text("utf-8").splitlines()
    assert [remark for remark in audit("\n".join(lines), suite="attention-cpu") if remark.refused] == []
    assert [remark for remark in audit("\n".join(lines[:-1]), suite="attention-cpu") if remark.refused]


@pytest.mark.parametrize("shape", [SMALL, *attention_cpu.SHAPES[:1]], ids=attention_cpu.name_of)
def test_every_way_is_right(shape):
    for call in ways(shape).values():
        assert error(shape, call) < 1e-5


def test_what_is_wrong_or_was_never_written_is_not_timed():
    with pytest.raises(ValueError, match="the error against float64 must be at most 1e-05, got"):
        error(SMALL, lambda: torch.zeros(2, 3, 5, 11))
    with pytest.raises(ValueError, match="got nan"):
        error(SMALL, lambda: torch.full((2, 3, 5, 11), float("nan")))


def test_threads_that_are_not_fixed_are_refused(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS")
    with pytest.raises(ValueError, match="OMP_NUM_THREADS must be 1"):
        next(measure())


def test_a_machine_is_the_best_that_was_measured_so_that_no_floor_is_too_high():
    machine = ceilings.machine(
        {"matrix_rate": [1.0, 3.0], "copy_bandwidth": [5.0], "read_bandwidth": [4.0], "exp_rate": [7.0, 2.0]}
    )
    assert (machine.rates["float32"], machine.bandwidth, machine.exp_rate) == (3.0, 5.0, 7.0)
