"""The forward kernels in Triton's interpreter; test_fused.py runs this file in a process of its own."""

import math

import numpy as np
import pytest
import torch
from cases import assert_close, make

from crossattn_ref.attention import fused
from crossattn_ref.attention.fused import forward
from crossattn_ref.attention.inputs import Lengths
from crossattn_ref.attention.multihead import MultiHeadAttention

CODES = {None: 0, "top-left": 1, "bottom-right": 2}
LENGTHS = [(1, 1), (1, 300), (17, 64), (64, 128), (65, 31), (113, 203), (128, 127), (129, 129), (239, 1)]
HEADS = [((2, 2), torch.float32), ((6, 3), torch.float16), ((3, 1), torch.float32)]  # (H, Hkv)
ALIGNED = [(None, torch.float32), ("top-left", torch.float16), ("bottom-right", torch.float32)]
pytestmark = pytest.mark.usefixtures("marked")


def answer(case, **kwargs):
    causal = CODES[case.mask.causal] if case.mask else 0
    return forward.read(*case.sequences, case.mask.keys if case.mask else None, causal, **kwargs)


# By hand


def test_two_keys_of_scores_0_and_1_share_as_one_to_e():
    q, k = torch.tensor([[[[2.0, 0, 0, 0]]]]), torch.tensor([[[[0.0, 0, 0, 0], [1, 0, 0, 0]]]])
    out = fused.attention(q, k, torch.tensor([[[[1.0], [0.0]]]]))
    torch.testing.assert_close(out, torch.full((1, 1, 1, 1), 1 / (1 + math.e)))


def test_logs_are_those_of_the_sum_of_exp_in_base_2():
    case = make(1, (1, 1), (3, 5), (16, 16), torch.float32)
    expected = torch.logsumexp(case.q @ case.k.mT / 4, dim=-1) / math.log(2)
    torch.testing.assert_close(answer(case)[1], expected)


# Against the oracle in float64


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("lengths", LENGTHS)
def test_awkward_lengths_give_the_answer_of_the_oracle(lengths, dtype):
    case = make(1, (2, 1), lengths, (32, 16), dtype)
    assert_close([fused.attention(*case.sequences)], case)


@pytest.mark.parametrize(("heads", "dtype"), HEADS)
@pytest.mark.parametrize("causal", [None, "top-left", "bottom-right"])
@pytest.mark.parametrize("lengths", [(1, 67), (67, 61)])
def test_lengths_alignments_and_grouped_heads_give_the_answer_of_the_oracle(lengths, causal, heads, dtype):
    ends = [0, lengths[1] // 3, lengths[1]]
    case = make(3, heads, lengths, (16, 32), dtype, causal=causal, ends=ends)
    assert_close([fused.attention(*case.sequences, case.mask)], case)


@pytest.mark.parametrize("widths", [(1, 1), (11, 13), (32, 32), (80, 80), (96, 24), (128, 64), (192, 128), (256, 256)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_heads_may_have_any_width_up_to_256(widths, dtype):
    case = make(1, (2, 1), (5, 41), widths, dtype, ends=[37])
    assert_close([fused.attention(*case.sequences, case.mask)], case)


@pytest.mark.parametrize(("causal", "dtype"), ALIGNED)
def test_any_number_of_splits_gives_the_same_answer(causal, dtype):
    case = make(2, (2, 1), (3, 600), (32, 16), dtype, causal=causal, ends=[589, 130])
    for n_splits in (1, 2, 3, 19):  # the last is more than are combined at once
        out, logs = answer(case, n_splits=n_splits)
        assert_close([out], case)
        torch.testing.assert_close(logs, answer(case, n_splits=1)[1], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("scale", [1e-3, 30.0])
def test_scores_may_be_tiny_or_large(scale):
    case = make(1, (2, 2), (19, 83), (32, 32), torch.float32, scale=scale)
    for n_splits in (1, 3):
        assert_close([answer(case, n_splits=n_splits)[0]], case)


def test_a_short_query_over_a_long_memory_is_split_without_being_asked(marked):
    case = make(1, (1, 1), (2, 1000), (16, 16), torch.float32)
    assert_close([fused.attention(*case.sequences)], case)
    assert max(room.numel() for room in marked) > 512 + 4 * 32  # the parts of the answer, 32 numbers each


# Properties


@pytest.mark.parametrize("poison", [math.nan, math.inf, 3e38])
@pytest.mark.parametrize("causal", [None, "top-left", "bottom-right"])
@pytest.mark.parametrize("n_splits", [1, 3])
@pytest.mark.filterwarnings("ignore:(invalid value|overflow) encountered:RuntimeWarning")  # NumPy's, about inf
def test_what_nobody_may_see_has_no_effect(causal, poison, n_splits):
    case = make(3, (4, 2), (7, 150), (16, 16), torch.float32, causal=causal, ends=[0, 3, 140])
    clean, _ = answer(case, n_splits=n_splits)
    seen = torch.from_numpy(case.seen())
    hidden, blind = ~seen.any(dim=2)[:, ::2, :, None], ~seen.any(dim=3)[..., None]
    case.k.masked_fill_(hidden, poison), case.v.masked_fill_(hidden, poison), case.q.masked_fill_(blind, poison)
    out, logs = answer(case, n_splits=n_splits)
    assert torch.equal(out, clean)
    assert (out.masked_select(blind) == 0).all()
    assert (logs[blind[..., 0]] == math.inf).all()


def test_a_nan_that_a_query_sees_reaches_it():
    case = make(1, (2, 2), (5, 100), (16, 16), torch.float32, ends=[97])
    case.v[0, 0, 3, 2] = math.nan
    out = fused.attention(*case.sequences, case.mask)
    assert out[0, 0, :, 2].isnan().all()
    assert out[0, 1].isfinite().all()


@pytest.mark.parametrize("sizes", [(2, 0, 7), (2, 5, 0), (0, 5, 7)])
@pytest.mark.parametrize("masked", [False, True])
def test_empty_sequences_and_batches_give_zeros(sizes, masked):
    batch, *lengths = sizes
    ends = [0] * batch if masked else None
    case = make(batch, (2, 1), lengths, (16, 16), torch.float32, ends=None)
    mask = Lengths(torch.tensor(ends, dtype=torch.long)) if masked else None
    out = fused.attention(*case.sequences, mask)
    assert out.shape == (batch, 2, lengths[0], 16)
    assert (out == 0).all()


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64])
def test_lengths_may_be_integers_of_any_kind_and_lie_apart(dtype):
    case = make(3, (2, 1), (4, 29), (16, 16), torch.float32, ends=[29, 0, 13])
    apart = torch.stack([case.mask.keys, torch.full((3,), 99)], dim=1).to(dtype)[:, 0]
    assert_close([fused.attention(*case.sequences, Lengths(apart))], case)


CHANGED = [  # lengths as they are by then, and what they count as where there are 7 keys
    (torch.int32, [70, -3, 2], [7, 0, 2]),
    (torch.int32, [-(2**31), 3, 2**31 - 1], [0, 3, 7]),
    (torch.int64, [70, -3, 2], [7, 0, 2]),
    (torch.int64, [2**32 + 3, 1, -(2**32) + 5], [7, 1, 0]),
]


@pytest.mark.parametrize("causal", [None, "top-left", "bottom-right"])
@pytest.mark.parametrize(("dtype", "later", "ends"), CHANGED)
def test_lengths_changed_in_place_count_no_key_that_there_is_not(dtype, later, ends, causal):
    case = make(3, (2, 1), (5, 7), (16, 16), torch.float32, causal=causal, ends=ends)
    lengths = Lengths(torch.tensor([7, 0, 1], dtype=dtype), causal)
    lengths.keys.copy_(torch.tensor(later))
    assert_close([fused.attention(*case.sequences, lengths)], case)
    assert_close([forward.read(*case.sequences, lengths.keys, CODES[causal], n_splits=2)[0]], case)


LAYOUTS = {
    "columns apart": lambda x: x.mT.contiguous().mT,
    "rows of odd length": lambda x: torch.cat([x, x[..., :1]], dim=-1)[..., :-1],
    "rows at odd places": lambda x: torch.cat([x[..., :1], x], dim=-1)[..., 1:],
    "one sample, at an odd step": lambda x: x[:1].as_strided((1, *x.shape[1:]), (1, *x.stride()[1:])),
    "every second sample": lambda x: x.repeat_interleave(2, dim=0)[::2],
    "one for all": lambda x: x[:1, :1].expand(len(x), x.shape[1], -1, -1),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_inputs_need_not_be_contiguous_and_are_never_written_to(layout):
    tensors = [LAYOUTS[layout](x) for x in make(2, (4, 2), (7, 33), (16, 16), torch.float16).sequences]
    before = [x.clone() for x in tensors]
    torch.testing.assert_close(fused.attention(*tensors), fused.attention(*(x.contiguous() for x in tensors)))
    assert all(map(torch.equal, tensors, before))


@pytest.mark.parametrize("strides", [(2**31 + 8, 16, 32), (16, 2**31 + 8, 32), (32, 16, 2**30 + 8)])
def test_strides_beyond_32_bits_find_their_rows(strides, tmp_path):
    shape = (2, 2, 3, 16)
    n = 1 + sum((size - 1) * stride for size, stride in zip(shape, (*strides, 1), strict=True))
    rooms = [torch.from_numpy(np.memmap(tmp_path / name, np.float16, "w+", shape=(n,))) for name in "qkv"]  # sparse
    tensors = [room.as_strided(shape, (*strides, 1)) for room in rooms]
    for seed, x in enumerate(tensors):
        x.copy_(torch.randn(shape, generator=torch.Generator().manual_seed(seed)))
    torch.testing.assert_close(fused.attention(*tensors), fused.attention(*(x.contiguous() for x in tensors)))


def test_a_layer_takes_it_as_its_algorithm():
    torch.manual_seed(0)
    layer = MultiHeadAttention(32, 2, n_kv_heads=1)
    other = MultiHeadAttention(32, 2, n_kv_heads=1, attend=fused.attention)
    other.load_state_dict(layer.state_dict())
    x, memory = torch.randn(2, 5, 32), torch.randn(2, 7, 32)
    mask = Lengths(torch.tensor([3, 7]))
    torch.testing.assert_close(layer(x, memory, mask), other(x, memory, mask))
