"""The table of attention-gpu, filled from records that are made up here: figures, kernels, wins and losses."""

import statistics

import pytest

from crossattn_ref.bench import attention_gpu, beam_step, gpu_table, shape_stream
from crossattn_ref.cost import Machine
from crossattn_ref.records import Record

DECODE, RAGGED, DENSE = (attention_gpu.ROWS[part][0] for part in ("decode", "ragged", "dense"))
STREAM, STEP = shape_stream.name_of(shape_stream.N_SHAPES), beam_step.Size(n_written=beam_step.WRITTEN[0])
CEILINGS = {"matrix_rate": 700e12, "copy_bandwidth": 4e12, "read_bandwidth": 4.2e12, "exp_rate": 3e12}


def record(case, metric, *samples, **more):
    return Record(
        suite="attention-gpu", case=case, metric=metric, value=statistics.median(samples), samples=list(samples),
        unit="us", seeds=[0], command="crossattn bench attention-gpu", files=[], code="0", versions={}, hardware={},
        date="2026-01-01", more=more,
    )  # fmt: skip


def timed(row, way, microseconds, kernel="void at::native::(anonymous namespace)::k_of<float, 3>(int)"):
    return record(f"{row.name}/{way}", "median_us", microseconds, **row.counts, kernels=[kernel])


def refused(name, way, metric="refused"):
    return record(f"{name}/{way}", metric, 1.0, reason=f"RuntimeError: {way} cannot")


def table(part, *found):
    beside = [record(f"ceilings of {part}", name, 0.5 * best, best, 0.7 * best) for name, best in CEILINGS.items()]
    return gpu_table.text([*beside, *found])


def block(text, name):
    """Return the lines of a row."""
    lines = text.splitlines()
    at = lines.index(name) + 1
    return [line.strip() for line in lines[at : next((i for i in range(at, len(lines)) if lines[i][:1] != " "), None)]]


def test_without_records_every_row_stands_with_its_prediction_and_the_command_that_fills_the_table():
    text = gpu_table.text([])
    names = [entry.name for entry in gpu_table.entries()]
    assert len(names) == sum(map(len, attention_gpu.ROWS.values())) + len(beam_step.WRITTEN) + 1
    for name in names:
        (predicted,) = block(text, name)
        assert predicted.startswith("predicted: at least ")
    assert text.endswith("Not measured yet: make bench SUITE=attention-gpu fills this table, on a GPU.")


def test_rows_stand_in_the_order_of_the_suite():
    found = list(dict.fromkeys(entry.part for entry in gpu_table.entries()))
    assert found == list(attention_gpu.PARTS)
    assert found.index("everyday") < found.index("decode") < found.index("dense")


def test_a_prediction_is_the_floor_and_what_is_waited_for_and_a_program_that_does_not_split():
    machine = Machine(name="made up", rates={"bfloat16": 1e15}, bandwidth=1e12, exp_rate=1e15, source="this file")
    row = attention_gpu.ROWS["short"][0]  # eight heads, one query, so 8 of 132 multiprocessors work
    microseconds = 1e6 * 2 * 2 * 8 * (1 + 131_072) * 128 / 1e12
    assert gpu_table.predicted(row, machine) == (
        f"at least {microseconds:.1f} µs, waits for memory; {microseconds * 132 / 8:.1f} µs without splits"
    )
    assert gpu_table.predicted(DENSE, machine).endswith("waits for products")


def test_what_waits_for_the_memory_shows_its_share_of_a_copy_and_all_else_its_operations():
    at_half = 1e6 * DECODE.counts["bytes"] / CEILINGS["copy_bandwidth"] / 0.5
    found = block(table("decode", timed(DECODE, "fused", at_half)), DECODE.name)
    assert found[1].split() == ["fused", f"{at_half:.1f}", "µs", "50%", "of", "a", "copy", "k_of"]
    of_products = 1e6 * DENSE.counts["flop"] / 321e12
    found = block(table("dense", timed(DENSE, "fused", of_products)), DENSE.name)
    assert found[1].split()[3:5] == ["321", "TFLOP/s"]


def test_every_way_stands_with_its_kernel_the_fastest_first_and_what_refused_with_its_reason():
    found = block(
        table("decode", timed(DECODE, "math", 90.0, "gemm"), timed(DECODE, "fused", 60.0, "read_kernel"),
              timed(DECODE, "cudnn", 70.0, "cudnn_sdpa"), refused(DECODE.name, "flash"),
              refused(DECODE.name, "flex", "untried")),
        DECODE.name,
    )  # fmt: skip
    assert [(line.split()[0], line.split()[-1]) for line in found[1:4]] == [
        ("fused", "read_kernel"), ("cudnn", "cudnn_sdpa"), ("math", "gemm"),
    ]  # fmt: skip
    assert found[4:6] == ["flash refuses: RuntimeError: flash cannot", "flex was not tried: RuntimeError: flex cannot"]
    assert found[6:] == ["won: fused beside the best other, cudnn: 1.17 times as fast"]


def test_a_row_whose_lengths_differ_is_held_against_the_best_masked_backend_and_the_best_of_all():
    found = [
        timed(RAGGED, way, time) for way, time in {"fused": 60, "varlen": 50, "efficient": 120, "math": 900}.items()
    ]
    assert block(table("ragged", *found), RAGGED.name)[-2:] == [
        "won: fused beside the best masked backend, efficient: 2.00 times as fast",
        "LOST: fused beside the best other, varlen: 1.20 times as long",
    ]


def test_a_row_that_ours_refuses_is_lost_and_one_that_it_was_not_tried_on_is_not():
    other = timed(DECODE, "cudnn", 70.0)
    assert "LOST: ours refuses, and cudnn does not" in table("decode", other, refused(DECODE.name, "fused"))
    assert "LOST" not in table("decode", other, refused(DECODE.name, "fused", "untried"))


def test_a_way_that_was_timed_after_all_is_not_said_to_be_untried():
    text = table("decode", timed(DECODE, "cudnn", 70.0), refused(DECODE.name, "cudnn", "untried"))
    assert "was not tried" not in text
    assert "70.0 µs" in text


def test_a_step_with_folded_beams_is_held_against_the_best_with_copies():
    ways = {"folded, fused": 900.0, "folded, cudnn": 800.0, "duplicated, cudnn": 2400.0, "duplicated, math": 9000.0}
    found = [record(f"{STEP.name}/{way}", "median_us", time, bytes=10**9) for way, time in ways.items()]
    lines = block(table("beams", *found), STEP.name)
    assert lines[-1] == "won: folded, cudnn beside the best other, duplicated, cudnn: 3.00 times as fast"
    assert "31% of a copy" in lines[1]  # 10^9 bytes in 800 µs, of 4 * 10^12 a second
    assert lines[0].endswith(f"{STEP.bytes(folded=False) / STEP.bytes(folded=True):.1f} times as long")


def test_a_stream_shows_its_times_and_over_how_many_shapes_they_came():
    found = [
        record(f"{STREAM}/fused", "start_us", 3000.0), record(f"{STREAM}/default", "start_us", 9000.0),
        record(f"{STREAM}/fused", "call_us", 10.0, 20.0, 90.0, shapes=3, kernels=["read_kernel"], ended=""),
        record(f"{STREAM}/default", "call_us", 300.0, shapes=1, kernels=["cudnn_sdpa"], ended="cut off"),
        record(f"{STREAM}/fused", "total over default", 0.1, shapes=1),
        record(f"{STREAM}/fused", "total over flex", 1.25, shapes=3), refused(STREAM, "flash"),
    ]  # fmt: skip
    lines = block(table("stream", *found), STREAM)
    assert lines[1:] == [
        "fused: 0.1 ms for 3 shapes, median 20 µs, the one before them 3 ms",
        "read_kernel",
        "default: 0.3 ms for 1 shapes, median 300 µs, the one before them 9 ms",
        "cudnn_sdpa",
        "cut off",
        "flash refuses: RuntimeError: flash cannot",
        "won: fused beside default, 1 shapes: 10.00 times as fast",
        "LOST: fused beside flex, 3 shapes: 1.25 times as long",
    ]


def test_a_row_that_is_missing_among_others_says_so():
    assert block(table("decode", timed(DECODE, "fused", 60.0)), DENSE.name)[1] == (
        "not measured: make bench SUITE=attention-gpu"
    )


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("void pytorch_flash::flash_fwd_kernel<Flash_fwd_traits<64, 128>, false>(Flash_params)", "flash_fwd_kernel"),
        ("read_kernel", "read_kernel"),
        ("fmha_cutlassF_bf16_aligned_64x64_rf_sm80(Params)", "fmha_cutlassF_bf16_aligned_64x64_rf_sm80"),
        ("not seen: CUPTI is not allowed here", "not seen: CUPTI is not allowed here"),
    ],
)
def test_a_kernel_is_named_without_types_and_parameters(name, short):
    assert gpu_table.kernel(name) == short


def test_no_line_is_wider_than_the_page():
    found = [timed(row, way, 1e6, "k" * 99) for row in attention_gpu.RAGGED for way in ("efficient", "fused")]
    assert max(map(len, table("ragged", *found, refused(DECODE.name, "flash" * 20)).splitlines())) <= gpu_table.WIDTH
