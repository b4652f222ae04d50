"""Attention in torch: by hand, against the oracle, properties, gradients, precision, errors."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import TypeCheckError
from torch.nn import functional

from crossattn_ref.attention import reference
from crossattn_ref.attention.dense import attention, attention_weights
from crossattn_ref.attention.inputs import Lengths

B, H, HKV, NQ, NK, DK, DV = 2, 6, 3, 5, 7, 11, 13
DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
MASKS = ["none", "padding", "causal", "per query", "per head", "per sample and query", "Lengths", "Lengths causal"]
drawn = settings(deadline=None, max_examples=60)


def sequences(seed=3, *, batch=B, n_heads=H, n_kv_heads=HKV, n_queries=NQ, n_keys=NK, widths=(DK, DV), scale=1.0):
    shapes = [(n_heads, n_queries, widths[0]), (n_kv_heads, n_keys, widths[0]), (n_kv_heads, n_keys, widths[1])]
    generator = torch.Generator().manual_seed(seed)
    q, k, v = (torch.randn(batch, *shape, generator=generator, dtype=torch.float64) for shape in shapes)
    return scale * q, k, v


def some_mask(kind, seed, q, k):
    """Build a mask of a kind; rows and columns may be False throughout."""
    (batch, n_heads, n_queries, _), n_keys = q.shape, k.shape[2]
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(0, n_keys + 1, (batch,), generator=generator)
    lead = {"per query": (), "per head": (1, n_heads), "per sample and query": (batch, 1)}
    if kind == "none":
        return None
    if kind == "padding":
        return (torch.arange(n_keys) < lengths[:, None])[:, None, None]
    if kind == "causal":
        return torch.ones(n_queries, n_keys, dtype=torch.bool).tril(n_keys - n_queries)
    if kind.startswith("Lengths"):
        return Lengths(lengths, "bottom-right" if kind.endswith("causal") else None)
    mask = torch.rand(*lead[kind], n_queries, n_keys, generator=generator) < 0.6
    return mask & (torch.rand(*lead[kind], n_queries, 1, generator=generator) < 0.8)


def written_out(mask, q, k):
    """Give the same mask as NumPy's bool (B, H, Nq, Nk)."""
    shape = (*q.shape[:-1], k.shape[-2])
    if mask is None:
        return np.ones(shape, dtype=bool)
    mask = mask.mask(shape[0], *shape[2:]) if isinstance(mask, Lengths) else mask
    return mask.expand(shape).numpy()


def repeated(q, *tensors):
    """Copy each key head for the query heads that share it."""
    return [tensor.repeat_interleave(q.shape[1] // tensor.shape[1], dim=1) for tensor in tensors]


def gradients(function, tensors, grad_out):
    tensors = [tensor.clone().requires_grad_() for tensor in tensors]
    return torch.autograd.grad(function(*tensors), tensors, grad_out)


@st.composite
def cases(draw, kinds=tuple(MASKS)):
    """Draw q, k, v, a mask as it is given, and the seed of the draw."""
    seed, n_kv_heads = draw(st.integers(0, 2**31)), draw(st.sampled_from([1, 2, 3]))
    q, k, v = sequences(
        seed,
        batch=draw(st.integers(1, 3)),
        n_heads=n_kv_heads * draw(st.sampled_from([1, 2, 3])),
        n_kv_heads=n_kv_heads,
        n_queries=draw(st.integers(1, 6)),
        n_keys=draw(st.integers(1, 7)),
        widths=draw(st.sampled_from([(4, 4), (3, 5), (5, 1)])),
        scale=draw(st.sampled_from([0.1, 1.0, 30.0])),
    )
    return q, k, v, some_mask(draw(st.sampled_from(kinds)), seed, q, k), seed


# By hand


def test_one_query_and_two_keys_are_worked_out_by_hand():
    q, k = torch.ones(1, 1, 1, 4), torch.tensor([[[[0.0] * 4, [0.5] * 4]]])
    v = torch.tensor([[[[0.0, 1.0, 5.0], [1.0, 0.0, 5.0]]]])
    p = math.e / (1 + math.e)  # q k = 0 and 2, divided by sqrt(4): the scores are 0 and 1
    torch.testing.assert_close(attention_weights(q, k), torch.tensor([[[[1 - p, p]]]]))
    torch.testing.assert_close(attention(q, k, v), torch.tensor([[[[p, 1 - p, 5.0]]]]))


def test_query_heads_in_a_row_share_one_key_head():
    q, k = torch.zeros(1, 4, 1, 1), torch.zeros(1, 2, 1, 1)
    v = torch.tensor([[[[10.0]], [[20.0]]]])
    assert attention(q, k, v).flatten().tolist() == [10.0, 10.0, 20.0, 20.0]


# Against an independent implementation: the oracle in NumPy, which shares no line with this one


@drawn
@given(cases())
def test_attention_and_its_gradients_equal_the_oracle(case):
    q, k, v, mask, seed = case
    grad_out = torch.randn(*q.shape[:-1], v.shape[-1], generator=torch.Generator().manual_seed(seed)).double()
    arrays = [tensor.numpy() for tensor in (q, *repeated(q, k, v))]
    full = written_out(mask, q, k)
    np.testing.assert_allclose(attention(q, k, v, mask).numpy(), reference.attention(*arrays, full), atol=1e-12)
    ours = gradients(lambda *qkv: attention(*qkv, mask), (q, k, v), grad_out)
    theirs = reference.attention_backward(grad_out.numpy(), *arrays, full)
    for mine, full_heads in zip(ours, theirs, strict=True):
        summed = full_heads.reshape(*mine.shape[:2], -1, *mine.shape[2:]).sum(axis=2)  # over heads that share
        np.testing.assert_allclose(mine.numpy(), summed, atol=1e-10)


@drawn
@given(cases())
def test_weights_equal_the_oracles(case):
    q, k, _, mask, _ = case
    theirs = reference.attention_weights(q.numpy(), repeated(q, k)[0].numpy(), written_out(mask, q, k))
    np.testing.assert_allclose(attention_weights(q, k, mask).numpy(), theirs, atol=1e-12)


@pytest.mark.parametrize("kind", ["none", "padding", "causal"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_attention_equals_torchs_with_grouped_heads(kind, dtype, tolerance):
    q, k, v = (tensor.to(dtype) for tensor in sequences(widths=(DK, DK)))
    mask = some_mask(kind, 5, q, k)
    theirs = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)
    torch.testing.assert_close(attention(q, k, v, mask), theirs, rtol=0, atol=tolerance)


@pytest.mark.parametrize("kind", MASKS)
def test_gradients_equal_finite_differences(kind):
    q, k, v = sequences(batch=2, n_heads=2, n_kv_heads=1, n_queries=3, n_keys=4, widths=(2, 3))
    inputs = [tensor.requires_grad_() for tensor in (q, k, v)]
    mask = some_mask(kind, 4, q, k)
    assert torch.autograd.gradcheck(lambda *qkv: attention(*qkv, mask), inputs)
    assert torch.autograd.gradcheck(lambda *qk: attention_weights(*qk, mask), inputs[:2])


# Properties


@drawn
@given(cases())
def test_rows_of_weights_sum_to_one_or_see_nothing_and_are_zero(case):
    q, k, _, mask, _ = case
    weights, full = attention_weights(q, k, mask).numpy(), written_out(mask, q, k)
    np.testing.assert_allclose(weights.sum(axis=-1), full.any(axis=-1), atol=1e-12)
    assert (weights[~full] == 0).all()


@drawn
@given(cases(), st.randoms(use_true_random=False))
def test_permuting_keys_together_with_values_changes_nothing(case, random):
    q, k, v, mask, _ = case
    order = random.sample(range(k.shape[2]), k.shape[2])
    full = torch.from_numpy(written_out(mask, q, k))
    permuted = attention(q, k[:, :, order], v[:, :, order], full[..., order])
    torch.testing.assert_close(permuted, attention(q, k, v, full), rtol=0, atol=1e-12)


@pytest.mark.parametrize("length", range(NK + 1))
def test_masking_keys_equals_deleting_them(length):
    q, k, v = sequences()
    masked = attention(q, k, v, Lengths(torch.full((B,), length)))
    torch.testing.assert_close(masked, attention(q, k[:, :, :length], v[:, :, :length]), rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("widths", [(DK, DV), (8, 8)])
@pytest.mark.parametrize("kind", ["padding", "per query", "per head", "per sample and query", "Lengths causal"])
@pytest.mark.parametrize("poison", ["nan", "inf", "-inf", "largest"])
def test_places_that_nobody_may_see_send_and_receive_nothing(kind, dtype, widths, poison):
    q, k, v = (tensor.to(dtype) for tensor in sequences(widths=widths))
    poison = torch.finfo(dtype).max if poison == "largest" else float(poison)
    mask = written_out(some_mask(kind, 8, q, k), q, k)
    mask[:, :, :, 2] = mask[0, :, 3] = mask[1, 2] = False
    blind = torch.from_numpy(~mask.any(axis=-1))
    hidden = torch.from_numpy(~mask.reshape(B, HKV, -1, NK).any(axis=2))
    poisoned = [tensor.clone() for tensor in (q, k, v)]
    for tensor, places in zip(poisoned, (blind, hidden, hidden), strict=True):
        tensor[places] = poison
    mask = torch.from_numpy(mask)
    grad_out = torch.ones(*q.shape[:-1], widths[1], dtype=dtype)
    grad_poisoned = grad_out.masked_fill(blind[..., None], poison)
    torch.testing.assert_close(attention(*poisoned, mask), attention(q, k, v, mask))
    torch.testing.assert_close(attention_weights(*poisoned[:2], mask), attention_weights(q, k, mask))
    clean = gradients(lambda *qkv: attention(*qkv, mask), (q, k, v), grad_out)
    grads = gradients(lambda *qkv: attention(*qkv, mask), poisoned, grad_poisoned)
    for grad, expected, unseen in zip(grads, clean, (blind, hidden, hidden), strict=True):
        torch.testing.assert_close(grad, expected)
        assert (grad[unseen] == 0).all()


@drawn
@given(
    cases(kinds=("per query", "per head", "per sample and query", "causal", "Lengths causal")),
    st.sampled_from([math.nan, math.inf, -math.inf, 1e308]),
)
def test_what_a_query_does_not_see_has_no_effect_on_it_or_on_its_gradients(case, poison):
    q, k, v, mask, seed = case
    full = torch.from_numpy(written_out(mask, q, k))
    hidden = torch.rand(k.shape[:3], generator=torch.Generator().manual_seed(seed)) < 0.3
    notices = (full & repeated(q, hidden)[0][:, :, None]).any(dim=-1)  # (B, H, Nq): queries that see poison
    grad_out = torch.ones(*q.shape[:-1], v.shape[-1]).double().masked_fill(notices[..., None], 0)
    poisoned = q, k.masked_fill(hidden[..., None], poison), v.masked_fill(hidden[..., None], poison)
    torch.testing.assert_close(attention(*poisoned, mask)[~notices], attention(q, k, v, mask)[~notices])
    weights = [attention_weights(q, keys, mask)[~notices] for keys in (poisoned[1], k)]
    torch.testing.assert_close(*weights)
    grads = [gradients(lambda *qkv: attention(*qkv, mask), qkv, grad_out)[0] for qkv in (poisoned, (q, k, v))]
    torch.testing.assert_close(grads[0][~notices], grads[1][~notices])


def test_a_nan_that_is_visible_reaches_those_who_see_it_as_in_the_oracle():
    q, k, v = sequences(n_kv_heads=H)
    k[0, 1, 2, 3], v[1, 0, 4, 5], q[1, 2, 0, 0] = math.nan, math.inf, math.nan
    mask = torch.ones(NQ, NK, dtype=torch.bool).tril(1)
    ours, theirs = attention(q, k, v, mask), reference.attention(q.numpy(), k.numpy(), v.numpy(), mask.numpy())
    assert np.isnan(theirs).any()
    assert np.isfinite(theirs[0, 1, 0]).all()
    np.testing.assert_allclose(ours.isnan().numpy(), np.isnan(theirs))
    finite = np.isfinite(theirs)
    np.testing.assert_allclose(ours.numpy()[finite], theirs[finite], atol=1e-12)


def test_batch_mates_have_no_effect():
    q, k, v = sequences()
    lengths = torch.tensor([4, NK])
    alone = attention(q[:1], k[:1], v[:1], Lengths(lengths[:1]))
    q[1], k[1], v[1] = 1e4, math.nan, math.inf
    torch.testing.assert_close(attention(q, k, v, Lengths(lengths))[:1], alone, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("widths", [(DK, DV), (8, 8)])
def test_a_query_that_sees_nothing_returns_zero_and_gets_no_gradient(dtype, widths):
    q, k, v = (tensor.to(dtype) for tensor in sequences(widths=widths))
    mask = torch.ones(B, 1, NQ, NK, dtype=torch.bool)
    mask[1], mask[0, 0, 2] = False, False
    grads = gradients(lambda *qkv: attention(*qkv, mask), (q, k, v), torch.ones(B, H, NQ, widths[1], dtype=dtype))
    for answer in (attention(q, k, v, mask), attention_weights(q, k, mask), grads[0]):
        assert (answer[1] == 0).all()
        assert (answer[0, :, 2] == 0).all()
        assert (answer[0, :, 3] != 0).any()
    assert all((grad[1] == 0).all() and grad.isfinite().all() for grad in grads)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("sizes", [(B, 0, NK), (B, NQ, 0), (0, NQ, NK), (B, 0, 0)])
def test_empty_sequences_and_batches_give_zeros_of_the_right_shape_with_zero_gradients(sizes, masked):
    batch, n_queries, n_keys = sizes
    q, k, v = sequences(batch=batch, n_queries=n_queries, n_keys=n_keys)
    mask = torch.ones(n_queries, n_keys, dtype=torch.bool) if masked else None
    out = attention(q, k, v, mask)
    assert out.shape == (batch, H, n_queries, DV)
    assert (out == 0).all()
    assert attention_weights(q, k, mask).shape == (batch, H, n_queries, n_keys)
    for grad, tensor in zip(gradients(attention, (q, k, v), torch.ones_like(out)), (q, k, v), strict=True):
        assert grad.shape == tensor.shape
        assert (grad == 0).all()


def test_inputs_are_never_written_to_and_need_not_be_contiguous():
    mask = some_mask("per sample and query", 2, *sequences()[:2])
    for poison in (0.0, math.nan):
        q, k, v = sequences()
        v[0, 0, 0] = poison
        before = [tensor.clone() for tensor in (q, k, v, mask)]
        expected = attention(q, k, v, mask)
        for tensor, copy in zip((q, k, v, mask), before, strict=True):
            assert torch.equal(tensor.nan_to_num(7.0), copy.nan_to_num(7.0))
        strided = [tensor.mT.contiguous().mT for tensor in (q, k, v, mask)]
        torch.testing.assert_close(attention(*strided), expected, equal_nan=True)


def test_gradients_flow_without_a_nan_in_between():
    q, k, v = (tensor.requires_grad_() for tensor in sequences())
    mask = torch.ones(NQ, NK, dtype=torch.bool).tril(-1)
    with torch.autograd.set_detect_anomaly(True):
        (attention(q, k, v, mask).sum() + attention_weights(q, k, mask).square().sum()).backward()


# Precision


@pytest.mark.parametrize("kind", ["none", "padding", "causal"])
@pytest.mark.parametrize(("dtype", "factor"), [(torch.float32, 16), (torch.bfloat16, 2), (torch.float16, 2)])
@pytest.mark.parametrize("widths", [(DK, DV), (16, 16)])
def test_the_error_is_not_much_above_that_of_the_formula_in_the_same_dtype(kind, dtype, factor, widths):
    q, k, v = (tensor.to(dtype) for tensor in sequences(n_keys=61, n_queries=59, widths=widths))
    mask = some_mask("Lengths causal" if kind == "causal" else kind, 11, q, k)
    full = torch.from_numpy(written_out(mask, q, k))

    def formula(q, k, v):
        k, v = repeated(q, k, v)
        scores = (q @ k.mT / math.sqrt(q.shape[-1])).masked_fill(~full, -math.inf)
        weights = scores.softmax(dim=-1).masked_fill(~full, 0)
        return weights, weights @ v

    exact_weights, exact = formula(q.double(), k.double(), v.double())
    plain_weights, plain = formula(q, k, v)
    ours, weights = attention(q, k, v, mask), attention_weights(q, k, mask)
    assert ours.dtype == weights.dtype == dtype
    assert (ours - exact).abs().max() <= factor * (plain - exact).abs().max()
    assert (weights - exact_weights).abs().max() <= factor * (plain_weights - exact_weights).abs().max()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("widths", [(1, 2), (1, 1)])
def test_scores_of_ten_thousand_are_harmless(dtype, widths):
    q = torch.tensor([1e4, -1e4], dtype=dtype).reshape(1, 1, 2, 1)
    k = torch.tensor([1.0, 1.0, -1.0], dtype=dtype).reshape(1, 1, 3, 1)
    v = torch.tensor([1.0, 2.0, 6.0], dtype=dtype).reshape(1, 1, 3, 1).expand(-1, -1, -1, widths[1])
    for mask in (None, torch.tensor([True, True, True])):
        assert attention(q, k, v, mask)[0, 0, :, 0].tolist() == [1.5, 6.0]
        assert attention_weights(q, k, mask)[0, 0].tolist() == [[0.5, 0.5, 0.0], [0.0, 0.0, 1.0]]
        grads = gradients(lambda *qkv, mask=mask: attention(*qkv, mask), (q, k, v), torch.ones_like(v[:, :, :2]))
        assert all(grad.isfinite().all() for grad in grads)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("widths", [(1, 2), (1, 1)])
def test_scores_beyond_the_range_of_half_precision_are_harmless_seen_or_not(dtype, widths):
    q, k = torch.full((1, 1, 1, 1), 1e3, dtype=dtype), torch.tensor([-300.0, 300.0], dtype=dtype).reshape(1, 1, 2, 1)
    v = torch.tensor([1.0, 6.0], dtype=dtype).reshape(1, 1, 2, 1).expand(-1, -1, -1, widths[1])
    for mask, weights in ((None, [0.0, 1.0]), ([True, True], [0.0, 1.0]), ([True, False], [1.0, 0.0])):
        mask = None if mask is None else torch.tensor(mask)  # noqa: PLW2901 (the same mask, as a tensor)
        assert attention_weights(q, k, mask).flatten().tolist() == weights
        assert attention(q, k, v, mask)[0, 0, 0, 0].item() == weights[0] * 1.0 + weights[1] * 6.0


def test_a_visible_key_keeps_its_weight_however_low_its_score():
    q, k = torch.tensor([[[[1e15]]]]), torch.tensor([[[[-1e10], [0.0], [1.0]]]])
    mask = torch.tensor([True, False, False])
    assert attention_weights(q, k, mask).flatten().tolist() == [1.0, 0.0, 0.0]
    assert attention(q, k, torch.tensor([[[[5.0], [6.0], [7.0]]]]), mask).item() == 5.0


# Cost


@pytest.mark.parametrize("kind", ["none", "padding", "Lengths", "per head"])
def test_grouped_heads_copy_no_keys_and_no_values(kind, made):
    q, k, v = sequences(n_queries=1, n_keys=997, widths=(16, 16))
    mask = torch.rand(B, H, 1, 997) < 0.6 if kind == "per head" else some_mask(kind, 1, q, k)
    with made:
        attention(q, k, v, mask)
    assert made.sizes
    assert max(made.sizes) < k.numel() / 2


# Errors: each states the name, the rule and the value


TOO_LONG = torch.tensor([3, 8])


def mask(*shape):
    return torch.ones(shape, dtype=torch.bool)


def other(tensor):
    return tensor.double() if tensor.dtype != torch.float64 else tensor.float()


@pytest.mark.usefixtures("shapes_unchecked")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda q, k, v: attention(q, v, v), ValueError, r"same width Dk, got q \(2, 6, 5, 11\) and k \(2, 3, 7, 13\)"),
        (lambda q, k, v: attention(q[:, :4], k, v), ValueError, r"heads of k \(3\) must divide the heads of q \(4\)"),
        (lambda q, k, v: attention(q, k, v[:, :, 1:]), ValueError, "k and v must be equal in B, Hkv and Nk"),
        (lambda q, k, v: attention(q, k.long(), v), TypeError, r"k must be a tensor of floating numbers.*int64"),
        (lambda q, k, v: attention(q, k, other(v)), TypeError, r"k and v must have the same dtype, got torch\.\w+ and"),
        (lambda q, k, v: attention(q, k, v, mask(NQ, NK).to(q)), TypeError, r"mask must be a boolean tensor.*float"),
        (lambda q, k, v: attention(q, k, v, mask(NQ, NK).long()), TypeError, r"mask must be a boolean tensor.*int64"),
        (lambda q, k, v: attention(q, k, v, mask(NK, NQ)), ValueError, r"\(2, 6, 5, 7\), got shape \(7, 5\)"),
        (lambda q, k, v: attention(q, k, v, mask(3, 1, NQ, NK)), ValueError, r"got shape \(3, 1, 5, 7\)"),
        (lambda q, k, v: attention(q[:1], k[:1], v[:1], mask(B, 1, 1, NK)), ValueError, r"shape \(2, 1, 1, 7\)"),
        (lambda q, k, v: attention(q, k, v, Lengths(TOO_LONG)), ValueError, r"between 0 and Nk \(7\), got 8"),
        (lambda q, k, v: attention_weights(q, v), ValueError, r"same width Dk"),
        (lambda q, k, v: attention_weights(q, other(k)), TypeError, r"q and k must have the same dtype"),
        (lambda q, k, v: attention_weights(q, k, mask(NQ, NK).to(q)), TypeError, r"mask must be a boolean tensor"),
    ],
)
def test_a_bad_call_is_told_the_name_the_rule_and_the_value(call, error, message, dtype):
    with pytest.raises(error, match=message):
        call(*(tensor.to(dtype) for tensor in sequences()))


def test_the_shapes_in_the_signature_are_executed():
    q, _, v = sequences()
    with pytest.raises(TypeCheckError):
        attention(q, v, v)
