"""What torch implementations of attention are given: lengths, masks, and sequences that fit."""

import pytest
import torch

from crossattn_ref.attention.inputs import Lengths, check_sequences, is_finite, read_mask

B, H, HKV, NQ, NK, DK, DV = 2, 6, 3, 5, 7, 11, 13
SCORES = (B, H, NQ, NK)


def rows(*lines):
    return torch.tensor([[character == "x" for character in line] for line in lines])


# By hand


@pytest.mark.parametrize("causal", [None, "top-left", "bottom-right"])
def test_a_block_of_the_mask_is_what_stands_there_in_the_whole(causal):
    lengths = Lengths(torch.tensor([0, 3, 11]), causal)
    whole = lengths.mask(3, NQ, 11).expand(3, 1, NQ, 11)
    for top, left in ((0, 0), (2, 0), (0, 4), (3, 7)):
        block = lengths.block(slice(top, NQ), slice(left, 11), NQ).expand(3, 1, NQ - top, 11 - left)
        assert torch.equal(block, whole[:, :, top:, left:])


def test_lengths_without_a_direction_hide_the_padding_of_each_sample():
    mask = Lengths(torch.tensor([3, 1, 0])).mask(3, 5, 4)
    assert mask.shape == (3, 1, 1, 4)
    assert torch.equal(mask[:, 0, 0], rows("xxx.", "x...", "...."))


def test_top_left_counts_from_the_first_query_and_the_first_key():
    mask = Lengths(torch.tensor([4, 2]), "top-left").mask(2, 3, 5)
    assert torch.equal(mask[0, 0], rows("x....", "xx...", "xxx.."))
    assert torch.equal(mask[1, 0], rows("x....", "xx...", "xx..."))


def test_bottom_right_counts_from_the_last_query_and_the_last_real_key():
    mask = Lengths(torch.tensor([4, 2]), "bottom-right").mask(2, 3, 5)
    assert torch.equal(mask[0, 0], rows("xx...", "xxx..", "xxxx."))
    assert torch.equal(mask[1, 0], rows(".....", "x....", "xx..."))


def test_both_directions_are_one_where_there_are_as_many_queries_as_keys():
    masks = [Lengths(torch.tensor([NK]), causal).mask(1, NK, NK) for causal in ("top-left", "bottom-right")]
    assert torch.equal(*masks)
    assert torch.equal(masks[0][0, 0], torch.ones(NK, NK, dtype=torch.bool).tril())


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64])
@pytest.mark.parametrize("causal", [None, "top-left", "bottom-right"])
def test_lengths_may_be_integers_of_any_kind(dtype, causal):
    lengths = torch.tensor([4, 2])
    expected = Lengths(lengths, causal).mask(2, 5, 7)
    assert torch.equal(Lengths(lengths.to(dtype), causal).mask(2, 5, 7), expected)


def test_lengths_of_no_samples_and_of_empty_memories_are_masks_too():
    assert Lengths(torch.zeros(0, dtype=torch.long)).mask(0, 5, 7).shape == (0, 1, 1, 7)
    assert Lengths(torch.tensor([0, 0]), "bottom-right").mask(2, 3, 0).shape == (2, 1, 3, 0)


@pytest.mark.parametrize("shape", [(), (1,), (NK,), (NQ, 1), (NQ, NK), (1, 1, NK), (B, 1, 1, NK), (H, 1, 1)])
def test_a_mask_is_read_into_four_axes_that_broadcast_to_the_scores(shape):
    mask = torch.rand(shape, generator=torch.Generator().manual_seed(1)) < 0.5
    read = read_mask(mask, SCORES)
    assert read.ndim == 4
    assert read.shape[-1] == NK
    assert torch.equal(read.expand(SCORES), mask.expand(SCORES))
    assert read_mask(None, SCORES) is None


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_numbers_are_finite_until_one_is_nan_or_inf_or_overflows_when_squared(dtype):
    ordinary, empty = torch.full((97, 101), 1e3, dtype=dtype), torch.zeros(0, 3, dtype=dtype)
    assert is_finite(ordinary, empty)
    for number in (float("nan"), float("inf"), -float("inf"), torch.finfo(dtype).max):
        other = torch.zeros(3, 5, dtype=dtype)
        other[1, 2] = number
        assert is_finite(ordinary, other) == (dtype == torch.float16 and number == 65504.0)


# Errors: each states the name, the rule and the value


def zeros(*shape, dtype=torch.float32):
    return torch.zeros(shape, dtype=dtype)


Q, K, V = zeros(B, H, NQ, DK), zeros(B, HKV, NK, DK), zeros(B, HKV, NK, DV)
LEAD = r"mask must broadcast to the scores \(B, H, Nq, Nk\) = \(2, 6, 5, 7\), got shape "

BAD_CALLS = [
    (lambda: Lengths([3, 4]), TypeError, "keys must be a tensor of integers, got list"),
    (lambda: Lengths(torch.tensor([3.0])), TypeError, r"keys must be integers, got dtype torch\.float32"),
    (lambda: Lengths(torch.tensor([True])), TypeError, r"keys must be integers, got dtype torch\.bool"),
    (lambda: Lengths(torch.tensor(3)), ValueError, r"keys must have one axis, \(B,\), got shape \(\)"),
    (lambda: Lengths(torch.tensor([[3]])), ValueError, r"keys must have one axis, \(B,\), got shape \(1, 1\)"),
    (lambda: Lengths(torch.tensor([3, -2])), ValueError, "keys must be at least 0, got -2"),
    (lambda: Lengths(torch.tensor([3]), "left"), ValueError, "causal must be None, .* got 'left'"),
    (lambda: Lengths(torch.tensor([3]), True), ValueError, "causal must be None, .* got True"),
    (lambda: Lengths(torch.tensor([3, 8])).mask(2, 5, 7), ValueError, r"keys must lie between 0 and Nk \(7\), got 8"),
    (lambda: Lengths(torch.tensor([3])).mask(2, 5, 7), ValueError, r"one length per sample \(B = 2\), got 1"),
    (lambda: read_mask(Lengths(torch.tensor([3, 8])), SCORES), ValueError, r"between 0 and Nk \(7\), got 8"),
    (lambda: read_mask(Lengths(torch.tensor([3])), SCORES), ValueError, r"one length per sample \(B = 2\), got 1"),
    (lambda: read_mask(zeros(NQ, NK), SCORES), TypeError, r"mask must be a boolean tensor.*got dtype torch\.float32"),
    (lambda: read_mask(zeros(NQ, NK, dtype=torch.int64), SCORES), TypeError, r"got dtype torch\.int64"),
    (lambda: read_mask([True] * NK, SCORES), TypeError, "mask must be a boolean tensor, .* got list"),
    (lambda: read_mask(zeros(NK, NQ, dtype=torch.bool), SCORES), ValueError, LEAD + r"\(7, 5\)"),
    (lambda: read_mask(zeros(B, NK, dtype=torch.bool), SCORES), ValueError, LEAD + r"\(2, 7\)"),
    (lambda: read_mask(zeros(B, 1, 1, 1, NK, dtype=torch.bool), SCORES), ValueError, LEAD + r"\(2, 1, 1, 1, 7\)"),
    (lambda: read_mask(zeros(B, 1, 1, NK, dtype=torch.bool), (1, H, NQ, NK)), ValueError, r"shape \(2, 1, 1, 7\)"),
    (lambda: read_mask(zeros(1, HKV, NQ, NK, dtype=torch.bool), SCORES), ValueError, LEAD + r"\(1, 3, 5, 7\)"),
    (lambda: check_sequences(Q.numpy(), K, V), TypeError, "q must be a tensor of floating numbers, got ndarray"),
    (lambda: check_sequences(Q, K.long(), V), TypeError, r"k must be a tensor of floating.*torch\.int64"),
    (lambda: check_sequences(Q, K, V.to(torch.complex64)), TypeError, r"v must be a tensor of floating.*complex64"),
    (lambda: check_sequences(Q, K.double(), V), TypeError, r"q and k .* same dtype, got torch\.float32 and .*float64"),
    (lambda: check_sequences(Q, K, V.half()), TypeError, r"k and v .* same dtype, got torch\.float32 and .*float16"),
    (lambda: check_sequences(Q[0], K, V), ValueError, r"q must have four axes.*got shape \(6, 5, 11\)"),
    (lambda: check_sequences(Q, K[0], V), ValueError, r"k must have four axes.*got shape \(3, 7, 11\)"),
    (lambda: check_sequences(Q, K, V[None]), ValueError, r"v must have four axes.*got shape \(1, 2, 3, 7, 13\)"),
    (lambda: check_sequences(Q[:1], K, V), ValueError, r"q and k must have the same batch size B.*\(1, 6, 5, 11\)"),
    (lambda: check_sequences(Q[:, :4], K, V), ValueError, r"heads of k \(3\) must divide the heads of q \(4\)"),
    (lambda: check_sequences(Q, K[:, :0], V[:, :0]), ValueError, r"heads of k \(0\) must divide the heads of q \(6\)"),
    (lambda: check_sequences(Q[:, :1], K, V), ValueError, r"heads of k \(3\) must divide the heads of q \(1\)"),
    (lambda: check_sequences(Q, V, V), ValueError, r"same width Dk, got q \(2, 6, 5, 11\) and k \(2, 3, 7, 13\)"),
    (lambda: check_sequences(Q[..., :0], K[..., :0], V), ValueError, "width Dk of q and k must be at least 1"),
    (lambda: check_sequences(Q, K, V[:, :, :6]), ValueError, r"equal in B, Hkv and Nk, got k .*and v \(2, 3, 6, 13\)"),
    (lambda: check_sequences(Q, K, V[:, :1]), ValueError, r"equal in B, Hkv and Nk"),
    (lambda: check_sequences(Q, K, V[:1]), ValueError, r"equal in B, Hkv and Nk"),
]


@pytest.mark.usefixtures("shapes_unchecked")
@pytest.mark.parametrize(("call", "error", "message"), BAD_CALLS)
def test_a_bad_call_is_told_the_name_the_rule_and_the_value(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_lengths_are_frozen():
    lengths = Lengths(torch.tensor([3]))
    with pytest.raises(AttributeError):
        lengths.causal = "top-left"
