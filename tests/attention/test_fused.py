"""The Triton kernels where there is no GPU: run by the interpreter, refused otherwise, and how problems are cut."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from crossattn_ref.attention import fused
from crossattn_ref.attention.fused import tiles
from crossattn_ref.attention.inputs import Lengths

HERE = Path(__file__).parent


@pytest.mark.parametrize("half", ["forward", "backward"])
def test_the_kernels_keep_their_promises_in_the_interpreter(half):
    """Triton decides when it is imported whether kernels are compiled or interpreted: so in a process of its own."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider"]
    command += ["-o", "pythonpath=. tests/attention/interpreted", HERE / "interpreted" / f"{half}.py"]
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    run = subprocess.run(command, cwd=HERE.parents[1], env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "passed" in run.stdout


# What it refuses, each with what can be done

Q, K, V = torch.zeros(2, 6, 5, 16), torch.zeros(2, 3, 7, 16), torch.zeros(2, 3, 7, 16)
FP8 = torch.float8_e4m3fn
WIDE = torch.zeros(2, 3, 7, 257)
ON_GPU = [x.to("meta") for x in (Q, K, V)]  # what has no memory is refused as what lies in that of the CPU is


@pytest.mark.usefixtures("shapes_unchecked")
@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: fused.attention(Q, K, V), RuntimeError, r"needs q on a GPU, got device cpu; chunked\.attention"),
        (lambda: fused.attention(*ON_GPU), RuntimeError, r"needs q on a GPU, got device meta; chunked\.attention"),
        (lambda: fused.attention(ON_GPU[0], K, V), ValueError, "must lie on one device, got meta, cpu and cpu"),
        (lambda: fused.attention(Q.double(), K.double(), V.double()), TypeError, r"got torch\.float64; chunked"),
        (lambda: fused.attention(*(x.to(FP8) for x in (Q, K, V))), TypeError, r"got torch\.float8_e4m3fn; convert it"),
        (lambda: fused.attention(Q, K, WIDE), ValueError, r"at most 256, got 257; chunked\.attention takes it"),
        (lambda: fused.attention(Q, K, V, torch.ones(5, 7) > 0), TypeError, r"got a tensor of torch\.bool; chunked"),
        (lambda: fused.attention(Q, K, V, [3, 4]), TypeError, "mask must be Lengths or None, got list; chunked"),
        (lambda: fused.attention(Q[:, :4], K, V), ValueError, r"the heads of k \(3\) must divide the heads of q \(4\)"),
        (lambda: fused.attention(Q, K, V.half()), TypeError, "k and v must have the same dtype"),
        (lambda: fused.attention(Q, K, V, Lengths(torch.tensor([3, 8]))), ValueError, r"0 and Nk \(7\), got 8"),
        (lambda: fused.attention(Q, K, V, Lengths(torch.tensor([3]))), ValueError, r"per sample \(B = 2\), got 1"),
    ],
)
def test_a_bad_call_is_told_the_name_the_rule_and_the_value(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_without_triton_the_import_names_what_runs_anywhere():
    lines = "import sys; sys.modules['triton'] = None; import crossattn_ref.attention.fused"
    run = subprocess.run([sys.executable, "-c", lines], capture_output=True, text=True, check=False)
    assert "attention.fused needs triton, which is not installed: install crossattn-ref[gpu]" in run.stderr
    assert "or use attention.chunked" in run.stderr


# How a problem is cut

TABLES = [tiles.FORWARD, tiles.TO_QUERIES, tiles.TO_KEYS]
CPU = torch.device("cpu")


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_problem_finds_a_tile_as_wide_as_its_heads(table, dtype):
    for rows in (1, 16, 17, 64, 65, 10**6):
        for width in range(1, 257):
            tile = tiles.choose(table, rows, dtype, (width, 1))
            assert tile == tiles.choose(table, rows, dtype, (1, width))
            assert tile.queries >= 16
            assert tile.keys >= 16


@pytest.mark.parametrize(("width", "expected"), [(1, 16), (16, 16), (17, 32), (80, 128), (128, 128), (129, 256)])
def test_a_head_fits_into_the_next_power_of_two(width, expected):
    assert tiles.block(width) == expected


def test_keys_are_split_until_the_last_wave_is_full():
    assert tiles.count_splits(132, 1000, CPU, 1) == 1  # as many programs as places
    assert tiles.count_splits(110, 1000, CPU, 1) == 1  # nearly
    assert tiles.count_splits(66, 1000, CPU, 1) == 2
    assert tiles.count_splits(8, 1000, CPU, 1) == 16  # 128 of 132 places
    assert tiles.count_splits(7, 1000, CPU, 1) == 18  # 126; 113 would fill as many of six waves
    assert tiles.count_splits(100, 1000, CPU, 1) == 1  # 200 would be two waves, no better than one of 100
    assert tiles.count_splits(8, 1000, CPU, 2) == 32
    assert tiles.count_splits(1, 6, CPU, 1) == 3  # a part is no shorter than two blocks
    assert tiles.count_splits(1, 1, CPU, 1) == 1
    assert tiles.count_splits(1, 10**6, CPU, 1) <= 128


def test_rows_that_start_and_end_at_16_bytes_are_read_where_they_lie():
    q = torch.zeros(2, 3, 5, 24, dtype=torch.float16)
    odd = q[:1].as_strided((1, 3, 5, 24), (7, 120, 24, 1))  # along an axis of one place nobody steps
    for x in (q, q[:, :, ::2], q.transpose(1, 2), q[..., 8:], q[:1, :1].expand(2, 3, 5, 24), odd, q[:, :0]):
        assert tiles.aligned(x) is x
    assert tiles.strides(q, q.float()) == [45, 15, 3, 90, 30, 6]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_other_rows_are_copied_and_filled_up_with_zeros(dtype):
    q = torch.randn(2, 3, 5, 24).to(dtype)
    longer = torch.cat([q, q[..., :1]], dim=-1)
    for x in (q[..., 1:], q[..., :-1], q[..., :1], q[..., 1:9], q[..., ::2], q.mT, longer[..., :8], longer):
        copy, width = tiles.aligned(x), x.shape[-1]
        assert copy.is_contiguous()
        assert tiles.aligned(copy) is copy
        assert width <= copy.shape[-1] < width + tiles.unit(dtype)
        assert torch.equal(tiles.narrow(copy, width), x)
        assert (copy[..., width:] == 0).all()
