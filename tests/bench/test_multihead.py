"""The suite multihead: every shape runs, both layers agree before they are timed, a mistake is not timed."""

import statistics

import pytest
import torch

from crossattn_ref.attention import dense
from crossattn_ref.bench import multihead
from crossattn_ref.bench.multihead import SHAPES, Shape, measure

SMALL = Shape(name="small", B=2, H=3, Nq=5, Nk=7, D=33, Dm=13, mask="padding")
OWN = Shape(name="own", B=2, H=4, Nq=5, Nk=5, D=36, Dm=36, own_memory=True)


def figures(*shapes, seeds=(0, 1)):
    return list(measure(shapes=shapes, seeds=seeds, seconds=0.0))


def test_each_case_has_our_time_torchs_time_and_their_ratio_for_every_seed():
    found = figures(SMALL)
    cases = ["small/forward"] * 3 + ["small/forward and backward"] * 3
    assert [figure.case for figure in found] == cases
    assert [figure.metric for figure in found] == ["ours", "torch", "ratio"] * 2
    ours, torchs, ratio = found[:3]
    assert len(ours.samples) == len(torchs.samples) == 2 * 5
    halves = [statistics.median(o.samples[i : i + 5]) for i in (0, 5) for o in (ours, torchs)]
    assert ratio.samples == pytest.approx([halves[0] / halves[1], halves[2] / halves[3]], rel=1e-2)
    assert ratio.seeds == [0, 1]
    assert ratio.more["shape"]["Dm"] == 13


def test_torchs_fast_path_is_a_case_apart_and_is_what_torch_takes(monkeypatch):
    native, calls = torch._native_multi_head_attention, []
    monkeypatch.setattr(torch, "_native_multi_head_attention", lambda *args: calls.append(1) or native(*args))
    by_case = {}
    for figure in measure(shapes=[OWN], seeds=(0,), seconds=0.0):
        by_case[figure.case] = len(calls)
    assert by_case["own/forward"] == by_case["own/forward and backward"] == 0
    assert by_case["own/forward on torch's fast path"] > 0


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_both_layers_agree_on_every_shape_of_the_suite(shape):
    calls = multihead._calls(shape, "forward", 0)
    torch.testing.assert_close(*(call() for call in calls), rtol=0, atol=1e-4)


def test_a_layer_that_computes_something_else_is_not_timed(monkeypatch):
    monkeypatch.setattr(multihead, "MultiHeadAttention", lambda *args, **options: _Unscaled(*args, **options))
    with pytest.raises(AssertionError, match="not close"):
        figures(SMALL)


class _Unscaled(multihead.MultiHeadAttention):
    def __init__(self, *args, **options):
        super().__init__(*args, attend=lambda q, k, v, mask: dense.attention(100 * q, k, v, mask), **options)


def test_the_number_of_threads_is_fixed_and_given_back():
    before = torch.get_num_threads()
    torch.set_num_threads(multihead.THREADS + 1)
    running = measure(shapes=[SMALL], seeds=(0,), seconds=0.0)
    next(running)
    during = torch.get_num_threads()
    running.close()
    after = torch.get_num_threads()
    torch.set_num_threads(before)
    assert (during, after) == (multihead.THREADS, multihead.THREADS + 1)
