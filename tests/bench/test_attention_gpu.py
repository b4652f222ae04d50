"""The suite attention-gpu, tried out on a CPU: every way that runs there is right, and what does not says why."""

import functools
import json
import math
import re
import statistics
import subprocess
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional
from torch.nn.attention.flex_attention import flex_attention

from crossattn_ref import records
from crossattn_ref.__main__ import main
from crossattn_ref.attention import chunked, dense
from crossattn_ref.attention.multihead import Memory
from crossattn_ref.bench import attention_gpu, audit, backends, beam_step, gpu, gpu_rows, lines, shape_stream
from crossattn_ref.bench.attention_gpu import BACKWARD, DECODE, DENSE, EVERYDAY, RAGGED, SHORT
from crossattn_ref.bench.gpu_rows import Row
from crossattn_ref.cost import Machine, Shape

CPU = torch.device("cpu")
SMALL = Row(shape=Shape(B=2, H=3, Nq=5, Nk=7, D=16), ways=tuple(backends.WAYS))
PADDED = Row(shape=Shape(B=2, H=3, Nq=5, Nk=7, D=16, lengths=(3, 7)), law="uniform", ways=tuple(backends.WAYS))
BACK = Row(shape=Shape(B=2, H=3, Nq=5, Nk=7, D=16), backward=True, ways=tuple(backends.WAYS))
ROWS = [*DECODE, *RAGGED, *SHORT, *DENSE, *BACKWARD, *EVERYDAY]
EVERY = {"fused", "default", "cudnn", "flash", "efficient", "math", "varlen", "jagged", "flex"}
NO_BACKEND = "RuntimeError: No (available kernel|viable backend)"
REFUSES = {  # on a CPU, and with which words
    "fused": "RuntimeError: fused.attention needs q on a GPU, got device cpu",
    "cudnn": NO_BACKEND,
    "efficient": NO_BACKEND,
    "varlen": "NotImplementedError: Could not run 'aten::_flash_attention_forward' .* 'CPU' backend",
    # not compiled, it is right there, as another test shows, and what counts bytes on a CPU does not know it
    "flex": "NotImplementedError: (There was no rule registered for HigherOrderOperator flex|FlexAttention does not)",
}
LITTLE = beam_step.Size(
    n_layers=2, d_model=24, n_heads=2, d_ff=29, n_tokens=31, n_memory=11, n_written=7, n_sources=3, width=5,
    dtype=torch.float32,
)  # fmt: skip
has_no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="says what happens where there is no GPU")


@pytest.fixture(autouse=True)
def uncompiled(monkeypatch):
    """Let FlexAttention run as it is: compiling it takes longer than all the rest."""
    monkeypatch.setattr(backends, "_compiled", lambda: flex_attention)
    yield
    torch._dynamo.reset()


RATES = {"matrix_rate": [7e12, 8e12], "copy_bandwidth": [3e12], "read_bandwidth": [2e12], "exp_rate": [1e12]}
MACHINE = Machine(name="made up", rates={"float32": 8e12}, bandwidth=3e12, exp_rate=1e12, source="this file")


@pytest.fixture(autouse=True)
def made_up_ceilings(monkeypatch):
    """Let ceilings be what no CPU reaches: those of a busy machine are no ceilings."""
    monkeypatch.setattr(gpu, "ceilings_of", lambda device: (RATES, MACHINE))


def figures(measurements):
    return {(m.case, m.metric): m for row in measurements for m in row}


# Rows


@pytest.fixture
def measured():
    return _measured()


@functools.cache
def _measured():
    return figures(gpu_rows.measure("small", [SMALL, PADDED, BACK], device=CPU, samples=3))


@pytest.mark.parametrize("row", [SMALL, PADDED, BACK], ids=lambda row: row.name)
def test_every_way_has_its_figures_or_its_reason_and_no_time_lies_below_its_floor(row, measured):
    found = measured
    for way in backends.WAYS:
        case = f"{row.name}/{way}"
        if (case, "refused") in found:
            continue  # the next test says which and why
        assert found[case, "median_us"].value > found[case, "floor_us"].value > 0
        assert len(found[case, "median_us"].samples) == 3
        assert found[case, "peak_bytes"].value >= 4 * 2 * 3 * 5 * 16  # at least its output
        assert 0 < found[case, "error"].value < 1e-5


@pytest.mark.parametrize("row", [SMALL, PADDED, BACK], ids=lambda row: row.name)
def test_what_refuses_says_why_and_nothing_else_refuses(row, measured):
    reasons = {case.rpartition("/")[2]: m.more["reason"] for (case, metric), m in measured.items()
               if metric == "refused" and case.startswith(f"{row.name}/")}  # fmt: skip
    assert reasons.keys() == REFUSES.keys()
    assert all(re.match(REFUSES[way], reasons[way]) for way in REFUSES), reasons


def test_a_row_that_comes_when_the_time_is_up_is_not_tried_and_not_refused():
    found = figures(gpu_rows.measure("small", [SMALL], device=CPU, until=time.monotonic()))
    untried = {case.rpartition("/")[2] for case, metric in found if metric == "untried"}
    assert untried == set(SMALL.ways)
    assert {metric for case, metric in found if case.startswith(SMALL.name)} == {"untried"}
    assert "--part small" in found[f"{SMALL.name}/math", "untried"].more["reason"]


def test_ways_that_come_when_the_time_is_up_are_not_tried(monkeypatch):
    ups = iter([False, False, False, True, True])  # the row is begun, two ways are tried, and two come late
    monkeypatch.setattr(lines, "is_up", lambda until: next(ups))
    row = Row(shape=SMALL.shape, ways=("math", "default", "flash", "jagged"))
    found = figures(gpu_rows.measure("small", [row], device=CPU, samples=3, until=5))
    ends = {case.rpartition("/")[2]: metric for case, metric in found if metric in ("median_us", "untried")}
    assert ends == {"math": "median_us", "default": "median_us", "flash": "untried", "jagged": "untried"}


def test_the_kernel_that_was_seen_is_written_down(measured):
    assert any("flash" in name for name in measured[f"{SMALL.name}/flash", "median_us"].more["kernels"])


def test_counts_and_floors_are_those_of_the_pass(measured):
    forward, back, padded = (measured[f"{row.name}/math", "floor_us"] for row in (SMALL, BACK, PADDED))
    assert forward.more["flop"] == 4 * 2 * 3 * 5 * 7 * 16
    assert forward.value == pytest.approx(1e6 * 4 * 2 * 3 * 2 * (5 + 7) * 16 / 3e12)  # bytes, at the bandwidth
    assert (back.more["flop"], back.more["bytes"]) == (2.5 * forward.more["flop"], 2 * forward.more["bytes"])
    assert back.value == pytest.approx(2 * forward.value)
    assert padded.more["flop"] == 4 * 3 * 5 * 16 * (3 + 7)


# Ways that a row on a CPU does not show


def of_samples(x):
    """Answer sample by sample with torch's function, each with its real keys alone."""
    ends = [x.k.shape[2]] * len(x.k) if x.lengths is None else x.lengths.tolist()
    one_by_one = zip(x.q, x.k, x.v, ends, strict=True)
    return torch.stack([functional.scaled_dot_product_attention(q, k[:, :n], v[:, :n]) for q, k, v, n in one_by_one])


@pytest.mark.parametrize("row", [SMALL, PADDED], ids=lambda row: row.name)
@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_flexattention_is_given_what_it_needs(row):
    x = backends.draw(row.shape, CPU)
    torch.testing.assert_close(backends.flex_way(x)(), of_samples(x))


@pytest.mark.parametrize("row", [SMALL, PADDED], ids=lambda row: row.name)
def test_varlen_is_given_what_it_needs(row, monkeypatch):
    def by_hand(q, k, v, starts_q, starts_k, most_q, most_k):
        assert (starts_q.dtype, starts_k.dtype) == (torch.int32, torch.int32)
        assert (most_q, most_k) == (starts_q.diff().max(), starts_k.diff().max())
        parts = [[slice(*ends) for ends in starts.unfold(0, 2, 1).tolist()] for starts in (starts_q, starts_k)]
        answers = [
            functional.scaled_dot_product_attention(*(x.transpose(0, 1) for x in (q[i], k[j], v[j])))
            for i, j in zip(*parts, strict=True)
        ]
        return torch.cat([answer.transpose(0, 1) for answer in answers])

    monkeypatch.setattr(backends, "varlen_attn", by_hand)
    x = backends.draw(row.shape, CPU)
    torch.testing.assert_close(backends.varlen_way(x)(), of_samples(x))


def test_exact_answers_and_gradients_are_those_of_autograd():
    x = backends.draw(SMALL.shape, CPU)
    grad_out = torch.randn_like(x.q)
    tensors = [tensor.double().requires_grad_() for tensor in (x.q, x.k, x.v)]
    out = functional.scaled_dot_product_attention(*tensors)
    places = [(0, 0), (1, 2)]
    for place, (one,) in backends.exact(x, places).items():
        torch.testing.assert_close(one, out[place].detach(), rtol=0, atol=1e-12)
    grads = torch.autograd.grad(out, tensors, grad_out.double())
    for place, those in backends.exact_gradients(x, grad_out, places).items():
        for one, grad in zip(those, grads, strict=True):
            torch.testing.assert_close(one, grad[place], rtol=0, atol=1e-12)


def test_what_is_wrong_or_was_never_written_is_refused(monkeypatch):
    def wrong(value):
        return lambda x: backends.Prepared(lambda q, k, v: torch.full_like(q, value), (x.q, x.k, x.v))

    monkeypatch.setitem(backends.WAYS, "zeros", wrong(0.0))
    monkeypatch.setitem(backends.WAYS, "unwritten", wrong(math.nan))

    def last_head(x):
        signs = torch.tensor([1.0, 1.0, -1.0]).view(3, 1, 1)
        return backends.Prepared(lambda q, k, v: signs * dense.attention(q, k, v, x.mask), (x.q, x.k, x.v))

    monkeypatch.setitem(backends.WAYS, "last head", last_head)
    unpadded = lambda x: backends.chunked_way(backends.Inputs(x.q, x.k, x.v, None))  # noqa: E731
    monkeypatch.setitem(backends.WAYS, "unpadded", unpadded)
    row = Row(shape=PADDED.shape, ways=("zeros", "unwritten", "unpadded", "last head"))
    found = figures(gpu_rows.measure("wrong", [row], device=CPU, samples=3))
    reasons = {case.rpartition("/")[2]: m.more["reason"] for (case, metric), m in found.items() if metric == "refused"}
    assert "wrong: the error against float64 is 1, allowed are 1e-05" in reasons["zeros"]
    assert "wrong: the answer is not finite everywhere" in reasons["unwritten"]
    assert "wrong: the error against float64 is" in reasons["unpadded"]
    assert "wrong: the error against float64 is" in reasons["last head"]


def test_ours_is_divided_by_every_other_that_answered(monkeypatch):
    monkeypatch.setitem(backends.WAYS, "fused", backends.chunked_way)
    row = Row(shape=SMALL.shape, ways=("fused", "math", "default", "cudnn"))
    found = figures(gpu_rows.measure("small", [row], device=CPU, samples=3))
    ratios = {m.metric: m.value for (case, _), m in found.items() if "time over" in m.metric}
    ours, math_ = (found[f"{SMALL.name}/{way}", "median_us"].value for way in ("fused", "math"))
    assert ratios.keys() == {"time over math", "time over default"}
    assert ratios["time over math"] == pytest.approx(ours / math_, rel=1e-3)


def test_a_wrong_gradient_is_refused(monkeypatch):
    def halved(x):
        return backends.Prepared(lambda q, k, v: dense.attention(q, (k + k.detach()) / 2, v), (x.q, x.k, x.v))

    monkeypatch.setitem(backends.WAYS, "halved", halved)
    found = figures(gpu_rows.measure("wrong", [Row(shape=SMALL.shape, backward=True, ways=("halved",))], device=CPU))
    assert "wrong: the error against float64 is 0.5" in found[f"{BACK.name}/halved", "refused"].more["reason"]


# The table


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_row_shows_ours_and_every_backend_of_torch(row):
    assert row.shape.dtype == "bfloat16"
    assert set(row.ways) >= EVERY
    assert set(row.ways) <= set(backends.WAYS)


def test_a_step_and_a_stream_show_them_too():
    assert set(gpu_rows.FORWARD) >= EVERY  # what a step is computed by unless told otherwise
    assert set(shape_stream.PATIENCE) >= EVERY


def test_parts_come_by_what_they_wait_for_and_say_how_far_the_run_is(monkeypatch, capsys):
    ends = []
    for part in attention_gpu.PARTS:
        monkeypatch.setitem(attention_gpu.PARTS, part, lambda until: ends.append(until) or iter([[]]))
    monkeypatch.setattr(gpu, "needed", lambda: CPU)
    before = time.monotonic()
    assert len(list(attention_gpu.measure())) == 8
    said = capsys.readouterr().err.splitlines()
    assert [line.split(", ")[1] for line in said] == [
        "everyday", "decode", "ragged", "short", "beams", "stream", "dense", "backward",
    ]  # fmt: skip
    assert said[2] == "part 3 of 8, ragged, after 0 s of at most 540"
    (end,) = set(ends)
    assert before + attention_gpu.BUDGET <= end <= time.monotonic() + attention_gpu.BUDGET < before + 600


def test_waiting_for_a_stream_leaves_the_other_parts_most_of_the_time():
    assert sum(shape_stream.PATIENCE.values()) < attention_gpu.BUDGET / 2


def test_no_two_rows_share_a_name():
    assert len({row.name for row in ROWS}) == len(ROWS)


def test_the_memories_that_are_decoded_from_are_larger_than_200_megabytes():
    assert all(row.counts["bytes"] > 200e6 and row.shape.Nq == 1 for row in DECODE)


@pytest.mark.parametrize("row", RAGGED, ids=lambda row: row.name)
def test_ragged_lengths_fill_the_longest_memory_and_leave_room_in_the_others(row):
    lengths = row.shape.lengths
    assert (len(lengths), max(lengths), min(lengths) >= 1) == (32, row.shape.Nk, True)
    assert max(lengths) / np.mean(lengths) > (1.6 if row.law == "uniform" else 2.5)


# A decoding step


def test_a_folded_step_is_a_copied_one_and_reads_fewer_bytes():
    step = beam_step.folded(LITTLE, CPU)
    copied = beam_step.duplicated(step, LITTLE.width)
    torch.testing.assert_close(step(), copied(), rtol=0, atol=1e-4)
    torch.testing.assert_close(step().double(), beam_step.in_float64(step), rtol=0, atol=1e-4)
    assert step().shape == (15, 31)
    assert LITTLE.bytes(folded=False) - LITTLE.bytes(folded=True) == 4 * 2 * 2 * (15 - 3) * 11 * 24


def test_the_weights_that_are_counted_are_those_that_a_step_reads():
    step = beam_step.folded(LITTLE, CPU)
    unread = ("cross_attention.k_proj", "cross_attention.v_proj")
    matrices = [
        weight.nbytes for layer in step.layers for name, weight in layer.named_parameters()
        if weight.ndim == 2 and not name.startswith(unread)
    ]  # fmt: skip
    read = [m.keys.nbytes + m.values.nbytes for m in (*step.written, *step.memories)]
    assert sum(matrices) + sum(read) + step.output.nbytes == LITTLE.bytes(folded=True)


def test_a_step_that_reads_another_source_is_far_from_right_however_long_the_memories():
    size = replace(LITTLE, n_memory=1500)
    step = beam_step.folded(size, CPU)
    wrong = replace(step, memories=[Memory(m.keys.roll(1, 0), m.values.roll(1, 0)) for m in step.memories])
    right = beam_step.in_float64(step)
    assert (wrong().double() - right).norm() / right.norm() > 5 * beam_step.WORST


def test_a_step_has_its_figures_each_way():
    attends = {"default": dense.attention, "chunked": chunked.attention}
    found = figures(beam_step.measure(size=LITTLE, written=(3, 7), device=CPU, attends=attends, samples=3))
    name = "Whisper-size step B3 beam5 after 7"
    for way in ("folded, default", "duplicated, default", "folded, chunked", "duplicated, chunked"):
        assert found[f"{name}/{way}", "median_us"].value > 0
        assert found[f"{name}/{way}", "error"].value < 1e-5
    ratio = found[f"{name}/folded, default", "time over duplicated, default"].value
    times = (
        statistics.median(found[f"{name}/{way}, default", "median_us"].samples) for way in ("folded", "duplicated")
    )
    assert ratio == pytest.approx(next(times) / next(times))


def test_a_step_that_answers_wrongly_is_refused():
    found = figures(
        beam_step.measure(
            size=LITTLE, written=(7,), device=CPU, samples=3,
            attends={"default": dense.attention, "wrong": lambda q, k, v, mask: -dense.attention(q, k, v, mask)},
        )
    )  # fmt: skip
    line = found["Whisper-size step B3 beam5 after 7/folded, wrong", "refused"]
    assert "wrong: the error against float64 is" in line.more["reason"]


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_a_step_shows_every_way_and_what_refuses_says_why(monkeypatch):
    monkeypatch.setattr(gpu, "torch_peak", lambda call: 1)  # whose way to count FlexAttention does not know
    found = figures(beam_step.measure(size=LITTLE, written=(7,), device=CPU, samples=3))
    ends = {case.rpartition("/")[2]: m for (case, metric), m in found.items() if metric in ("median_us", "refused")}
    assert ends.keys() == {f"{reading}, {way}" for reading in ("folded", "duplicated") for way in EVERY}
    for name, line in ends.items():
        way = name.partition(", ")[2]
        words = None if way == "flex" else REFUSES.get(way)
        assert (line.metric == "refused") == (words is not None), line
        assert words is None or re.match(words, line.more["reason"]), line


def test_a_step_that_writes_nothing_is_refused(monkeypatch):
    monkeypatch.setattr(gpu, "poison", lambda *sizes: poisoned.extend(tensor.shape for tensor in sizes))
    poisoned, unwritten = [], lambda q, k, v, mask: torch.full_like(q, math.nan)
    found = figures(beam_step.measure(size=LITTLE, written=(7,), device=CPU, samples=3, attends={"none": unwritten}))
    assert "wrong: the error against float64 is nan" in found[f"{LITTLE.name}/folded, none", "refused"].more["reason"]
    assert (LITTLE.rows, LITTLE.n_tokens) in poisoned  # as its answer is


def test_a_memory_is_handed_to_packed_ways_as_it_lies():
    step = beam_step.folded(LITTLE, CPU)
    for one in (step, beam_step.duplicated(step, LITTLE.width)):
        keys = one.memories[0].keys
        x = backends.Inputs(keys[:, :, :1], keys, keys, None)
        assert backends.jagged_way(x).tensors[1].data_ptr() == keys.data_ptr()


def test_a_layer_cannot_hand_a_mask_to_ways_that_take_none():
    q = torch.ones(2, 3, 5, 16)
    with pytest.raises(TypeError, match="mask must be None in a layer that attends by math, got Tensor"):
        backends.attention_by("math")(q, q, q, torch.ones(5, 5, dtype=torch.bool))


def test_a_step_that_comes_when_the_time_is_up_is_not_tried():
    found = figures(beam_step.measure(size=LITTLE, written=(7,), device=CPU, until=time.monotonic()))
    assert {metric for case, metric in found if case.startswith(LITTLE.name)} == {"untried"}


# A stream of shapes


def test_the_shapes_of_a_stream_are_all_different_and_the_same_in_every_process():
    shapes = shape_stream.shapes(201)
    assert len({(s.B, s.Nq, s.Nk) for s in shapes}) == 201
    assert shapes == shape_stream.shapes(201)
    assert all(max(s.lengths) == s.Nk for s in shapes)


def test_the_shapes_of_a_stream_are_different_however_few_there_are(monkeypatch):
    monkeypatch.setattr(shape_stream, "MOST", {"B": 2, "Nq": 3, "Nk": 2})
    assert len({(s.B, s.Nq, s.Nk) for s in shape_stream.shapes(12)}) == 12


def test_every_call_of_a_stream_is_timed_in_a_process_of_its_own():
    found = figures(shape_stream.measure(ways={"math": 600}, n=3, device=CPU, dtype="float32"))
    calls = found["stream of 3 shapes/math", "call_us"]
    assert (len(calls.samples), calls.more["shapes"], calls.more["ended"]) == (3, 3, "")
    assert any("attention_math" in kernel for kernel in calls.more["kernels"])
    assert found["stream of 3 shapes/math", "start_us"].value > 0
    assert 0 < found["stream of 3 shapes/math", "error"].value < gpu_rows.WORST["float32"]


@pytest.fixture
def few(monkeypatch):
    """Let shapes be small enough for a CPU."""
    monkeypatch.setattr(shape_stream, "MOST", {"B": 2, "Nq": 3, "Nk": 5})


def written(capsys):
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


@pytest.mark.usefixtures("few")
def test_a_process_writes_the_time_and_error_of_every_call_and_the_kernels_of_the_last(capsys):
    shape_stream.first_calls("flash", 3, device=CPU, dtype="float32", seconds=600)
    *calls, last = written(capsys)
    assert len(calls) == 3
    assert all(took > 0 and 0 <= error < gpu_rows.WORST["float32"] for took, error in calls)
    assert any("flash" in name for name in last["kernels"])


@pytest.mark.usefixtures("few")
def test_a_process_stops_of_itself_when_its_seconds_are_over(capsys):
    shape_stream.first_calls("math", 3, device=CPU, dtype="float32", seconds=0)
    assert len(written(capsys)) == 2  # a call, and its kernels


@pytest.mark.usefixtures("few")
def test_a_process_ends_at_a_wrong_answer_and_at_one_that_was_never_written(monkeypatch, capsys):
    poisoned = []
    monkeypatch.setattr(gpu, "poison", lambda *sizes: poisoned.append(sizes))
    for value, what in ((0.0, "the error against float64 is 1"), (math.nan, "the answer is not finite everywhere")):
        monkeypatch.setitem(backends.WAYS, "wrong", lambda x, value=value: lambda: torch.full_like(x.q, value))
        with pytest.raises(ValueError, match=f"wrong: {what}"):
            shape_stream.first_calls("wrong", 3, device=CPU, dtype="float32", seconds=600)
    assert written(capsys) == []
    assert [len(sizes) for sizes in poisoned] == [3, 3]


@pytest.mark.usefixtures("few")
def test_a_process_that_is_refused_a_later_shape_still_says_its_kernels(monkeypatch, capsys):
    answers = iter([backends.WAYS["math"], backends.WAYS["cudnn"]])
    monkeypatch.setitem(backends.WAYS, "fickle", lambda x: next(answers)(x))
    with pytest.raises(RuntimeError, match=NO_BACKEND.partition(": ")[2]):
        shape_stream.first_calls("fickle", 3, device=CPU, dtype="float32", seconds=600)
    call, last = written(capsys)
    assert len(call) == 2
    assert any("attention_math" in name for name in last["kernels"])


def test_a_process_that_ends_before_its_first_call_is_a_refusal_with_its_last_words(monkeypatch):
    ended = subprocess.CompletedProcess([], 1, stdout="", stderr="Traceback\nRuntimeError: no kernel\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: ended)
    found = figures(shape_stream.measure(ways={"cudnn": 60}, n=3, device=CPU))
    assert found["stream of 3 shapes/cudnn", "refused"].more["reason"] == "RuntimeError: no kernel"


def test_a_process_that_is_stopped_leaves_what_it_has_done(monkeypatch):
    def late(*_, timeout, **__):
        assert timeout == 3 + shape_stream.STARTING
        raise subprocess.TimeoutExpired([], 1, output=b"[7.0, 0.1]\n[5.0, 0.2]\n[3.")

    monkeypatch.setattr(subprocess, "run", late)
    unseen = ["not seen: the process was stopped"]
    assert shape_stream.stream("math", 3, seconds=3) == shape_stream.Stream(
        [7.0, 5.0], [0.1, 0.2], unseen, f"stopped after {3 + shape_stream.STARTING:.0f} seconds"
    )


@pytest.mark.parametrize(
    ("code", "complaint", "why"),
    [
        (0, "a warning\n", "cut off after 3 seconds of calls"),
        (1, "Traceback\nRuntimeError: no kernel\n", "RuntimeError: no kernel"),
    ],
)
def test_a_process_that_ends_early_says_over_how_many_shapes_it_came_and_why(code, complaint, why, monkeypatch):
    out = '[7.0, 0.1]\n[5.0, 0.3]\n[4.0, 0.2]\n{"kernels": ["k"]}\n'
    ended = subprocess.CompletedProcess([], code, stdout=out, stderr=complaint)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: ended)
    found = figures(shape_stream.measure(ways={"cudnn": 3}, n=200, device=CPU))
    calls = found["stream of 200 shapes/cudnn", "call_us"]
    assert calls.samples == [5.0, 4.0]
    assert calls.more == {"part": "stream", "shapes": 2, "ended": why, "kernels": ["k"]}
    assert found["stream of 200 shapes/cudnn", "error"].value == 0.3


def test_a_way_that_is_wrong_later_in_the_stream_has_no_times(monkeypatch):
    out, complaint = "[7.0, 0.1]\n[5.0, 0.1]\n", "ValueError: wrong: the error against float64 is 1, allowed are 0.02"
    ended = subprocess.CompletedProcess([], 1, stdout=out, stderr=complaint)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: ended)
    found = figures(shape_stream.measure(ways={"cudnn": 3}, n=3, device=CPU))
    assert found["stream of 3 shapes/cudnn", "refused"].more["reason"] == complaint
    assert len(found) == 1


def test_a_stream_has_no_more_time_than_the_run_has_left(monkeypatch):
    given = {}
    one = shape_stream.Stream([1.0, 1.0], [0.0, 0.0], ["k"])
    monkeypatch.setattr(shape_stream, "stream", lambda way, n, *, seconds, **_: given.update({way: seconds}) or one)
    ways, until = {"fused": 5.0, "default": 60.0}, time.monotonic() + 30
    list(shape_stream.measure(ways=ways, n=1, device=CPU, until=until))
    assert given["fused"] == 5
    assert 0 < given["default"] <= 30
    found = figures(shape_stream.measure(ways=ways, n=1, device=CPU, until=time.monotonic()))
    assert {metric for _, metric in found} == {"untried"}


def test_a_stream_that_takes_too_long_is_cut_off_and_compared_as_far_as_both_came(monkeypatch):
    times = {"fused": [9.0, 1.0, 2.0, 3.0], "default": [9.0, 30.0, 30.0]}
    stream = lambda way, n, **_: shape_stream.Stream(times[way], [0.0] * len(times[way]), ["k"])  # noqa: E731
    monkeypatch.setattr(shape_stream, "stream", stream)
    found = figures(shape_stream.measure(ways={"fused": 1, "default": 1}, n=3, device=CPU))
    ratio = found["stream of 3 shapes/fused", "total over default"]
    assert (ratio.value, ratio.more["shapes"]) == (pytest.approx(3 / 60), 2)


# The command


@has_no_gpu
def test_without_a_gpu_the_command_says_so_and_leaves_the_records_alone(tmp_path, capsys):
    path = tmp_path / "attention-gpu.jsonl"
    path.write_text(there := (records.FOLDER / "multihead.jsonl").read_text("utf-8"), "utf-8")
    assert main(["bench", "attention-gpu", "--folder", str(tmp_path)]) == 2
    complaint = capsys.readouterr().err
    assert "attention-gpu must run on a GPU that torch and triton can use" in complaint
    assert "crossattn bench attention-cpu" in complaint
    assert len(complaint.splitlines()) == 1
    assert path.read_text("utf-8") == there


@pytest.mark.parametrize("part", attention_gpu.PARTS)
@has_no_gpu
def test_so_does_every_part(part, tmp_path, capsys):
    assert main(["bench", "attention-gpu", "--part", part, "--folder", str(tmp_path)]) == 2
    assert "must run on a GPU" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_what_was_measured_is_kept_when_a_later_row_breaks_off_and_passes_the_audit(tmp_path, monkeypatch):
    def broken():
        yield from gpu_rows.measure("small", [SMALL], device=CPU, samples=3)
        raise KeyboardInterrupt

    monkeypatch.setitem(attention_gpu.PARTS, "decode", broken)
    assert main(["bench", "attention-gpu", "--part", "decode", "--folder", str(tmp_path)]) == 130
    kept = records.read("attention-gpu", tmp_path)
    assert {(SMALL.name + "/math", "median_us"), ("ceilings of small", "exp_rate")} <= {
        (r.case, r.metric) for r in kept
    }
    assert not [r for r in audit.audit((tmp_path / "attention-gpu.jsonl").read_text()) if r.refused]
