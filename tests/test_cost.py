"""The cost model: by hand, against torch's own counter, against the loops that it counts."""

import itertools

import pytest
import torch
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from crossattn_ref import cost
from crossattn_ref.cost import MACHINES, Machine, Shape

WHISPER = Shape(B=8, H=20, Nq=448, Nk=1500, D=64, dtype="bfloat16")
SLOW = Machine(name="slow", rates={"float32": 10.0}, bandwidth=4.0, exp_rate=2.0, source="made up")


def test_one_query_and_two_keys_are_counted_by_hand():
    shape = Shape(Nq=1, Nk=2, D=3)
    assert cost.flops(shape) == 2 * (2 * 3) + 2 * (2 * 3)  # two dot products of 3, two scaled rows of 3 added up
    assert cost.exponentials(shape) == 2
    assert cost.moved(shape) == 4 * (3 + 2 * 3 + 2 * 3 + 3)  # q, k, v and the output
    assert cost.weights(shape) == 8
    assert SLOW.times(shape) == {"products": 2.4, "memory": 18.0, "exponentials": 1.0}
    assert (SLOW.floor(shape), SLOW.bound(shape)) == (18.0, "memory")


def test_operations_are_those_that_torch_counts_forward():
    q, k, v = (torch.empty(8, 20, n, 64, device="meta") for n in (448, 1500, 1500))
    with FlopCounterMode(display=False) as counter:
        functional.scaled_dot_product_attention(q, k, v)
    assert counter.get_total_flops() == cost.flops(WHISPER)


def test_grouped_heads_and_lengths_are_counted_as_a_loop_over_every_pair_would():
    shape = Shape(B=3, H=6, Hkv=2, Nq=5, Nk=7, D=11, dtype="float16", lengths=(0, 7, 4))
    pairs = sum(1 for b, h, i, j in itertools.product(range(3), range(6), range(5), range(7)) if j < (0, 7, 4)[b])
    assert cost.flops(shape) == 4 * 11 * pairs
    assert cost.exponentials(shape) == pairs
    real = 0 + 7 + 4
    assert cost.moved(shape) == 2 * (2 * 3 * 6 * 5 * 11 + 2 * 2 * real * 11)
    assert cost.weights(shape) == 2 * 3 * 6 * 5 * 7  # padding takes its place in a matrix


def test_a_published_floor_comes_out():
    """One query over 1,500 remembered keys, 32 samples, 20 heads: 246 MB, and one operation for each byte."""
    step = Shape(B=32, H=20, Nq=1, Nk=1500, D=64, dtype="bfloat16")
    assert cost.moved(step) == pytest.approx(246e6, rel=0.01)
    assert cost.intensity(step) == pytest.approx(1.0, rel=0.01)
    assert MACHINES["H200"].bound(step) == "memory"
    assert MACHINES["H200"].bound(Shape(H=8, Nq=1024, Nk=131_072, D=64, dtype="bfloat16")) in (
        "products",
        "exponentials",
    )


def test_nothing_costs_nothing():
    assert cost.intensity(Shape(Nq=0, Nk=0, D=3)) == 0
    assert cost.backward_flops(WHISPER) == 2.5 * cost.flops(WHISPER)
    assert cost.backward_moved(WHISPER) == 2 * cost.moved(WHISPER)
    once, back = cost.counts(WHISPER), cost.counts(WHISPER, backward=True)
    assert once == {name: count / factor for (name, count), factor in zip(back.items(), (2.5, 2, 1), strict=True)}
    assert list(once.values()) == [cost.flops(WHISPER), cost.moved(WHISPER), cost.exponentials(WHISPER)]


@pytest.mark.parametrize("machine", MACHINES.values(), ids=lambda machine: machine.name)
def test_every_machine_names_its_source_and_has_a_ridge_above_one(machine):
    assert "data sheet" in machine.source
    assert all(machine.ridge(dtype) > 1 for dtype in machine.rates)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"Nq": -1}, "Nq must be an integer of at least 0, got -1"),
        ({"B": 2.0}, r"B must be an integer of at least 0, got 2\.0"),
        ({"H": 6, "Hkv": 4}, r"Hkv \(4\) must divide H \(6\)"),
        ({"H": 6, "Hkv": 0}, r"Hkv \(0\) must divide H \(6\)"),
        ({"dtype": "float8"}, "dtype must be one of float64, .* got 'float8'"),
        ({"lengths": [1, 2]}, r"one length per sample \(B = 1\), got 2"),
        ({"lengths": [8]}, r"between 0 and Nk \(7\), got 8"),
    ],
)
def test_a_shape_that_is_none_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Shape(**({"Nq": 5, "Nk": 7, "D": 3} | arguments))


def test_a_dtype_without_a_rate_is_refused():
    with pytest.raises(ValueError, match="T4 has a rate for float16, float32, got dtype 'bfloat16'"):
        MACHINES["T4"].floor(WHISPER)
