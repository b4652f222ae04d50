"""The oracle itself: answers by hand, two independent oracles, properties, gradients, errors."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from crossattn_ref.attention.reference import (
    attention,
    attention_backward,
    attention_weights,
    causal_mask,
    check_sequences,
    padding_mask,
    read_mask,
    softmax,
)

E = np.e
B, H, NQ, NK, DK, DV = 2, 3, 5, 7, 11, 13
SIZES = st.sampled_from([1, 2, 3, 5, 7])
BATCHES = st.sampled_from([(), (2,), (2, 3), (3, 1, 2)])
drawn = settings(deadline=None, max_examples=60)


@st.composite
def cases(draw, batch=BATCHES, n_queries=SIZES, n_keys=SIZES, masked=True):
    """Draw grad_out, q, k, v and a mask, in which whole rows and whole columns may be False."""
    batch, n_queries, n_keys = draw(batch), draw(n_queries), draw(n_keys)
    width, value_width, scale = draw(SIZES), draw(SIZES), draw(st.sampled_from([0.1, 1.0, 30.0]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    q, k = scale * rng.normal(size=(*batch, n_queries, width)), rng.normal(size=(*batch, n_keys, width))
    v, grad_out = rng.normal(size=(*batch, n_keys, value_width)), rng.normal(size=(*batch, n_queries, value_width))
    mask = rng.random((*batch, n_queries, n_keys)) < draw(st.sampled_from([0.2, 0.5, 0.9]))
    mask &= rng.random((*batch, n_queries, 1)) < 0.8
    mask &= rng.random((*batch, 1, n_keys)) < 0.8
    return grad_out, q, k, v, mask if masked else None


def sequences(rng, *batch, dtype=np.float64):
    shapes = [(NQ, DK), (NK, DK), (NK, DV)]
    return [rng.normal(size=(*batch, *shape)).astype(dtype) for shape in shapes]


@pytest.fixture
def rng():
    return np.random.default_rng(20)


# By hand


def test_softmax_of_two_scores_is_worked_out_by_hand():
    np.testing.assert_allclose(softmax(np.array([0.0, 1.0])), [1 / (1 + E), E / (1 + E)], rtol=1e-15)


def test_one_query_and_two_keys_are_worked_out_by_hand():
    q, k, v = np.full((1, 4), 1.0), np.array([[0.0] * 4, [0.5] * 4]), np.array([[0.0, 1.0, 5.0], [1.0, 0.0, 5.0]])
    # q k = 0 and 2, divided by sqrt(4): the scores are 0 and 1.
    np.testing.assert_allclose(attention_weights(q, k), [[1 / (1 + E), E / (1 + E)]], rtol=1e-15)
    np.testing.assert_allclose(attention(q, k, v), [[E / (1 + E), 1 / (1 + E), 5.0]], rtol=1e-15)


def test_gradients_of_one_query_and_two_keys_are_worked_out_by_hand():
    q, k, v = np.full((1, 4), 1.0), np.array([[0.0] * 4, [0.5] * 4]), np.array([[0.0], [3.0]])
    # The output is 3 p with p = sigmoid(s_2 - s_1), so that d out / d s_2 = 3 p (1 - p) = -d out / d s_1.
    p = E / (1 + E)
    grad_q, grad_k, grad_v = attention_backward(np.ones((1, 1)), q, k, v)
    slope = 3 * p * (1 - p) / 2  # sqrt(4) = 2
    np.testing.assert_allclose(grad_q, [[0.5 * slope] * 4], rtol=1e-14)
    np.testing.assert_allclose(grad_k, [[-slope] * 4, [slope] * 4], rtol=1e-14)
    np.testing.assert_allclose(grad_v, [[1 - p], [p]], rtol=1e-14)


def test_padding_mask_is_written_out_by_hand():
    expected = [[[[True, True, True]]], [[[True, False, False]]], [[[False, False, False]]]]
    np.testing.assert_array_equal(padding_mask(np.array([3, 1, 0]), 3), expected)
    assert padding_mask(np.array([2], dtype=np.uint8), np.int64(2)).dtype == bool
    assert padding_mask(np.zeros(0, dtype=int), 3).shape == (0, 1, 1, 3)
    assert padding_mask(np.array([0, 0]), 0).shape == (2, 1, 1, 0)


def test_causal_mask_is_written_out_by_hand():
    expected = [[True, False, False], [True, True, False], [True, True, True]]
    np.testing.assert_array_equal(causal_mask(3), expected)
    assert causal_mask(0).shape == (0, 0)
    assert causal_mask(0).dtype == bool


# Against independent implementations


@drawn
@given(cases())
def test_attention_and_its_gradients_equal_those_of_torch(case):
    grad_out, q, k, v, mask = case
    tensors = [torch.from_numpy(array).requires_grad_() for array in (q, k, v)]
    out = functional.scaled_dot_product_attention(*tensors, attn_mask=torch.from_numpy(mask))
    grads = torch.autograd.grad(out, tensors, torch.from_numpy(grad_out))
    np.testing.assert_allclose(attention(q, k, v, mask), out.detach().numpy(), rtol=0, atol=1e-12)
    for ours, theirs in zip(attention_backward(grad_out, q, k, v, mask), grads, strict=True):
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-12, atol=1e-11)


@drawn
@given(cases(masked=False))
def test_attention_without_a_mask_equals_torchs(case):
    _, q, k, v, _ = case
    theirs = functional.scaled_dot_product_attention(*map(torch.from_numpy, (q, k, v)))
    np.testing.assert_allclose(attention(q, k, v), theirs.numpy(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("axis", [0, 1, 2, -1, -2, -3])
def test_softmax_equals_torchs_along_every_axis(rng, axis):
    x = 5 * rng.normal(size=(2, 3, 5))
    np.testing.assert_allclose(softmax(x, axis), torch.from_numpy(x).softmax(axis).numpy(), rtol=1e-14)


@settings(deadline=None, max_examples=20)
@given(cases(batch=st.sampled_from([(), (2,)])))
def test_gradients_equal_finite_differences(case):
    grad_out, q, k, v, mask = case
    arrays, step = [q, k, v], 1e-6
    grads = attention_backward(grad_out, *arrays, mask)
    for i, grad in enumerate(grads):
        for place in np.ndindex(arrays[i].shape):
            sides = []
            for sign in (1, -1):
                moved = [array.copy() for array in arrays]
                moved[i][place] += sign * step
                sides.append((attention(*moved, mask) * grad_out).sum())
            assert grad[place] == pytest.approx((sides[0] - sides[1]) / (2 * step), rel=1e-4, abs=1e-5)


# Properties


@drawn
@given(cases())
def test_rows_of_weights_sum_to_one_or_see_nothing_and_are_zero(case):
    _, q, k, _, mask = case
    weights = attention_weights(q, k, mask)
    np.testing.assert_allclose(weights.sum(axis=-1), mask.any(axis=-1), atol=1e-12)
    assert (weights >= 0).all()
    assert (weights[~mask] == 0).all()


@drawn
@given(cases(), st.randoms(use_true_random=False))
def test_permuting_keys_together_with_values_changes_nothing(case, random):
    _, q, k, v, mask = case
    order = random.sample(range(k.shape[-2]), k.shape[-2])
    permuted = attention(q, k[..., order, :], v[..., order, :], mask[..., order])
    np.testing.assert_allclose(permuted, attention(q, k, v, mask), atol=1e-12)


@drawn
@given(cases(), st.randoms(use_true_random=False))
def test_permuting_queries_permutes_the_outputs(case, random):
    _, q, k, v, mask = case
    order = random.sample(range(q.shape[-2]), q.shape[-2])
    permuted = attention(q[..., order, :], k, v, mask[..., order, :])
    np.testing.assert_allclose(permuted, attention(q, k, v, mask)[..., order, :], atol=1e-12)


@drawn
@given(cases(n_keys=st.sampled_from([2, 3, 5, 7])), st.randoms(use_true_random=False))
def test_masking_a_key_equals_deleting_it(case, random):
    grad_out, q, k, v, mask = case
    kept = sorted(random.sample(range(k.shape[-2]), random.randrange(k.shape[-2])))
    only_kept = np.zeros(k.shape[-2], dtype=bool)
    only_kept[kept] = True
    deleted = q, k[..., kept, :], v[..., kept, :], mask[..., kept]
    masked = q, k, v, mask & only_kept
    np.testing.assert_allclose(attention(*masked), attention(*deleted), atol=1e-12)
    for of_masked, of_deleted in zip(
        attention_backward(grad_out, *masked), attention_backward(grad_out, *deleted), strict=True
    ):
        if of_masked.shape != of_deleted.shape:
            assert (of_masked[..., ~only_kept, :] == 0).all()
            of_masked = of_masked[..., kept, :]  # noqa: PLW2901 (the gradients of the keys that were kept)
        np.testing.assert_allclose(of_masked, of_deleted, atol=1e-11)


@drawn
@given(cases(), st.sampled_from([np.nan, np.inf, -np.inf, 1e308, -3.0]), st.integers(0, 2**32 - 1))
def test_what_a_query_does_not_see_has_no_effect_on_it(case, poison, seed):
    grad_out, q, k, v, mask = case
    hidden = np.random.default_rng(seed).random((*k.shape[:-2], 1, k.shape[-2])) < 0.5
    sees_no_hidden = ~(mask & hidden).any(axis=-1)  # (*batch, Nq): these queries must not notice
    poisoned_k, poisoned_v = (np.where(hidden.swapaxes(-1, -2), poison, array) for array in (k, v))
    clean, poisoned = (q, k, v, mask), (q, poisoned_k, poisoned_v, mask)
    np.testing.assert_array_equal(attention(*poisoned)[sees_no_hidden], attention(*clean)[sees_no_hidden])
    weights = [attention_weights(q, keys, mask)[sees_no_hidden] for keys in (poisoned_k, k)]
    np.testing.assert_array_equal(*weights)
    grads = [attention_backward(grad_out, *sequences)[0][sees_no_hidden] for sequences in (poisoned, clean)]
    np.testing.assert_array_equal(*grads)


@drawn
@given(cases(), st.sampled_from([np.nan, np.inf, -np.inf, 1e308]), st.integers(0, 2**32 - 1))
def test_places_that_nobody_may_see_send_and_receive_nothing(case, poison, seed):
    grad_out, q, k, v, mask = case
    rng = np.random.default_rng(seed)
    blind = rng.random((*q.shape[:-1], 1)) < 0.4
    hidden = rng.random((*k.shape[:-1], 1)) < 0.4
    mask = mask & ~blind & ~hidden.swapaxes(-1, -2)
    poisoned = np.where(blind, poison, q), np.where(hidden, poison, k), np.where(hidden, poison, v), mask
    np.testing.assert_array_equal(attention(*poisoned), attention(q, k, v, mask))
    np.testing.assert_array_equal(attention_weights(poisoned[0], poisoned[1], mask), attention_weights(q, k, mask))
    grads = attention_backward(np.where(blind, poison, grad_out), *poisoned)
    for of_poisoned, of_clean in zip(grads, attention_backward(grad_out, q, k, v, mask), strict=True):
        np.testing.assert_array_equal(of_poisoned, of_clean)
    assert (grads[0][np.broadcast_to(blind, q.shape)] == 0).all()
    assert (grads[1][np.broadcast_to(hidden, k.shape)] == 0).all()
    assert (grads[2][np.broadcast_to(hidden, v.shape)] == 0).all()


@drawn
@given(cases(batch=st.just((3,))), st.integers(0, 2))
def test_batch_mates_have_no_effect(case, i):
    grad_out, *arrays = case
    others = [array.copy() for array in (grad_out, *arrays)]
    for array in others:
        array[np.arange(3) != i] = False if array.dtype == bool else np.nan
    np.testing.assert_array_equal(attention(*others[1:])[i], attention(*arrays)[i])
    for ours, alone in zip(attention_backward(*others), attention_backward(grad_out, *arrays), strict=True):
        np.testing.assert_array_equal(ours[i], alone[i])


@drawn
@given(cases(batch=st.sampled_from([(2,), (2, 3), (3, 1, 2)])))
def test_leading_axes_are_a_batch_of_separate_problems(case):
    grad_out, *arrays = case
    out, weights = attention(*arrays), attention_weights(arrays[0], arrays[1], arrays[3])
    grads = attention_backward(grad_out, *arrays)
    for place in np.ndindex(arrays[0].shape[:-2]):
        q, k, v, mask = (array[place] for array in arrays)
        np.testing.assert_allclose(out[place], attention(q, k, v, mask), atol=1e-12)
        np.testing.assert_allclose(weights[place], attention_weights(q, k, mask), atol=1e-12)
        for grad, alone in zip(grads, attention_backward(grad_out[place], q, k, v, mask), strict=True):
            np.testing.assert_allclose(grad[place], alone, atol=1e-11)


@pytest.mark.parametrize("shape", [(), (1,), (NK,), (NQ, 1), (NQ, NK), (1, 1, NK), (B, 1, 1, NK), (H, 1, 1)])
def test_a_mask_is_spread_over_the_axes_that_it_leaves_out(rng, shape):
    q, k, v = sequences(rng, B, H)
    mask = rng.random(shape) < 0.6
    spread = np.broadcast_to(mask, (B, H, NQ, NK)).copy()
    np.testing.assert_array_equal(attention(q, k, v, mask), attention(q, k, v, spread))


def test_padding_equals_cutting_each_memory_to_its_length(rng):
    q, k, v = sequences(rng, B, H)
    out = attention(q, k, v, padding_mask(np.array([4, NK]), NK))
    np.testing.assert_allclose(out[0], attention(q[0], k[0, :, :4], v[0, :, :4]), atol=1e-14)
    np.testing.assert_array_equal(out[1], attention(q, k, v)[1])


def test_a_causal_query_reads_its_past_only(rng):
    _, k, v = sequences(rng)
    q = rng.normal(size=(NK, DK))
    out = attention(q, k, v, causal_mask(NK))
    for i in range(NK):
        np.testing.assert_allclose(out[i], attention(q[i : i + 1], k[: i + 1], v[: i + 1])[0], atol=1e-14)


# Nothing to see


@pytest.mark.parametrize("batch", [(), (B, H)])
def test_a_query_that_sees_nothing_returns_zero_and_gets_no_gradient(rng, batch):
    q, k, v = sequences(rng, *batch)
    mask = np.ones((NQ, NK), dtype=bool)
    mask[2] = False
    grad_q, grad_k, grad_v = attention_backward(np.ones((*batch, NQ, DV)), q, k, v, mask)
    assert (attention(q, k, v, mask)[..., 2, :] == 0).all()
    assert (attention_weights(q, k, mask)[..., 2, :] == 0).all()
    assert (grad_q[..., 2, :] == 0).all()
    assert (np.delete(grad_q, 2, axis=-2) != 0).any()
    rest = [np.delete(array, 2, axis=-2) for array in (np.ones((*batch, NQ, DV)), q)]
    _, rest_k, rest_v = attention_backward(*rest, k, v)
    np.testing.assert_allclose(grad_k, rest_k, atol=1e-14)
    np.testing.assert_allclose(grad_v, rest_v, atol=1e-14)


@pytest.mark.parametrize(
    ("batch", "n_queries", "n_keys"), [((B,), 0, NK), ((B,), NQ, 0), ((0,), NQ, NK), ((0,), 0, 0), ((), 0, 0)]
)
def test_empty_sequences_and_batches_give_arrays_of_the_right_shape(rng, batch, n_queries, n_keys):
    q, k = rng.normal(size=(*batch, n_queries, DK)), rng.normal(size=(*batch, n_keys, DK))
    v, grad_out = rng.normal(size=(*batch, n_keys, DV)), rng.normal(size=(*batch, n_queries, DV))
    out, weights = attention(q, k, v), attention_weights(q, k)
    assert out.shape == (*batch, n_queries, DV)
    assert weights.shape == (*batch, n_queries, n_keys)
    assert (out == 0).all()
    grads = attention_backward(grad_out, q, k, v)
    for grad, array in zip(grads, (q, k, v), strict=True):
        assert grad.shape == array.shape
        assert (grad == 0).all()


def test_softmax_over_an_empty_axis_is_empty():
    assert softmax(np.zeros((3, 0))).shape == (3, 0)
    assert softmax(np.zeros((0, 3))).shape == (0, 3)


def test_softmax_with_nothing_to_choose_from_is_zero():
    np.testing.assert_array_equal(softmax(np.array([[-np.inf, -np.inf], [-np.inf, 0.0]])), [[0.0, 0.0], [0.0, 1.0]])


# Numbers: large, low-precision, not finite


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_scores_of_ten_thousand_are_harmless(dtype):
    q, k, v = (np.array(rows, dtype=dtype) for rows in ([[1e4], [-1e4]], [[1.0], [1.0], [-1.0]], [[1.0], [2.0], [6.0]]))
    np.testing.assert_array_equal(attention_weights(q, k), np.array([[0.5, 0.5, 0.0], [0.0, 0.0, 1.0]], dtype=dtype))
    np.testing.assert_array_equal(attention(q, k, v), np.array([[1.5], [6.0]], dtype=dtype))
    assert all(np.isfinite(grad).all() for grad in attention_backward(np.ones((2, 1), dtype=dtype), q, k, v))
    np.testing.assert_array_equal(softmax(np.array([1e4, 1e4, -1e4], dtype=dtype)), [0.5, 0.5, 0.0])


def test_a_visible_key_keeps_its_weight_however_low_its_score():
    weights = attention_weights(np.array([[1e155]]), np.array([[-1e150], [0.0], [1.0]]), np.array([True, False, False]))
    np.testing.assert_array_equal(weights, [[1.0, 0.0, 0.0]])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.longdouble])
def test_every_function_returns_the_dtype_that_it_was_given_and_computes_in_float64(rng, dtype):
    q, k, v = sequences(rng, B, dtype=dtype)
    grad_out = rng.normal(size=(B, NQ, DV)).astype(dtype)
    exact = [array.astype(np.float64) for array in (grad_out, q, k, v)]
    pairs = [
        (softmax(q), softmax(exact[1])),
        (attention(q, k, v), attention(*exact[1:])),
        (attention_weights(q, k), attention_weights(*exact[1:3])),
        *zip(attention_backward(grad_out, q, k, v), attention_backward(*exact), strict=True),
    ]
    for ours, in_float64 in pairs:
        assert ours.dtype == dtype
        np.testing.assert_array_equal(ours, in_float64.astype(dtype))


def test_sequences_of_different_precision_answer_in_the_widest(rng):
    q, k, v = sequences(rng)
    assert attention(q.astype(np.float16), k.astype(np.float16), v.astype(np.float32)).dtype == np.float32
    assert attention_weights(q.astype(np.float16), k.astype(np.float32)).dtype == np.float32


def test_a_nan_in_a_visible_value_reaches_its_column_only_and_those_who_see_it(rng):
    q, k, v = sequences(rng)
    mask = np.ones((NQ, NK), dtype=bool)
    mask[3, 1] = False
    clean = attention(q, k, v, mask)
    v[1, 4] = np.nan
    out = attention(q, k, v, mask)
    reached = np.zeros((NQ, DV), dtype=bool)
    reached[:, 4], reached[3, 4] = True, False
    np.testing.assert_array_equal(np.isnan(out), reached)
    np.testing.assert_array_equal(out[~reached], clean[~reached])


def test_a_nan_in_a_visible_key_reaches_the_rows_that_see_it_and_no_other(rng):
    q, k, v = sequences(rng)
    mask = np.ones((NQ, NK), dtype=bool)
    mask[3, 1] = mask[0, 2] = False
    clean, clean_weights = attention(q, k, v, mask), attention_weights(q, k, mask)
    k[1, 4] = np.nan
    out, weights = attention(q, k, v, mask), attention_weights(q, k, mask)
    assert np.isnan(out[[0, 1, 2, 4]]).all()
    np.testing.assert_array_equal(out[3], clean[3])
    np.testing.assert_array_equal(weights[3], clean_weights[3])
    np.testing.assert_array_equal(np.isnan(weights), mask & (np.arange(NQ) != 3)[:, None])


def test_a_nan_in_a_query_reaches_its_own_row_and_no_other(rng):
    q, k, v = sequences(rng, B)
    clean = attention(q, k, v)
    q[1, 2, 0] = np.nan
    out = attention(q, k, v)
    assert np.isnan(out[1, 2]).all()
    out[1, 2] = clean[1, 2]
    np.testing.assert_array_equal(out, clean)


def test_an_infinite_value_is_carried_away_by_those_who_see_it(rng):
    q, k, v = sequences(rng)
    v[1, 4], v[2, 5] = np.inf, -np.inf
    mask = np.ones((NQ, NK), dtype=bool)
    mask[3, 1] = False
    out = attention(q, k, v, mask)
    np.testing.assert_array_equal(out[:, 4] == np.inf, mask[:, 1])
    assert (out[:, 5] == -np.inf).all()
    assert np.isfinite(np.delete(out, [4, 5], axis=1)).all()


def test_a_nan_in_a_gradient_reaches_the_places_that_its_query_sees_and_no_other(rng):
    q, k, v = sequences(rng)
    grad_out = rng.normal(size=(NQ, DV))
    mask = np.ones((NQ, NK), dtype=bool)
    mask[3, 1] = False
    clean = attention_backward(grad_out, q, k, v, mask)
    grad_out[3, 6] = np.nan
    grad_q, grad_k, grad_v = attention_backward(grad_out, q, k, v, mask)
    np.testing.assert_array_equal(np.isnan(grad_q).any(axis=-1), np.arange(NQ) == 3)
    np.testing.assert_array_equal(np.isnan(grad_k).any(axis=-1), np.arange(NK) != 1)
    np.testing.assert_array_equal(np.isnan(grad_v), mask[3][:, None] & (np.arange(DV) == 6))
    np.testing.assert_array_equal(grad_k[1], clean[1][1])


@pytest.mark.parametrize("score", [np.nan, np.inf])
def test_a_score_of_nan_or_plus_inf_spreads_along_its_axis_only(rng, score):
    x = rng.normal(size=(NQ, NK))
    clean = softmax(x)
    x[2, 3] = score
    spread = softmax(x)
    np.testing.assert_array_equal(np.isnan(spread), np.broadcast_to((np.arange(NQ) == 2)[:, None], x.shape))
    np.testing.assert_array_equal(np.delete(spread, 2, axis=0), np.delete(clean, 2, axis=0))


def test_a_caller_who_turns_floating_point_warnings_into_errors_is_not_disturbed(rng):
    q, k, v = sequences(rng)
    k[0], v[1], v[2, 0], q[1] = np.nan, np.inf, 1e308, 1e4
    with np.errstate(all="raise"):
        attention(q, k, v)
        attention_weights(q, k)
        attention_backward(np.full((NQ, DV), 1e308), q, k, v)
        softmax(np.array([1e4, -1e4, np.nan]))


# Inputs as they come


def functions(arrays):
    grad_out, q, k, v, mask = arrays
    return [
        softmax(q),
        attention(q, k, v, mask),
        attention_weights(q, k, mask),
        *attention_backward(grad_out, q, k, v, mask),
    ]


@pytest.mark.parametrize("poison", [0.0, np.nan])
def test_inputs_are_never_written_to_and_may_be_read_only_or_in_fortran_order(rng, poison):
    q, k, v = sequences(rng, B, H)
    v[0, 0, 0] = poison
    arrays = [rng.normal(size=(B, H, NQ, DV)), q, k, v, rng.random((B, H, NQ, NK)) < 0.6]
    before = [array.copy() for array in arrays]
    expected = functions(arrays)
    for array, copy in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(array, copy)
        array.flags.writeable = False
    strided = [np.repeat(array, 2, axis=-1)[..., ::2] for array in arrays]
    for inputs in (arrays, [np.asfortranarray(array) for array in arrays], strided):
        for ours, from_plain in zip(functions(inputs), expected, strict=True):
            np.testing.assert_allclose(ours, from_plain, atol=1e-13)
            assert ours.flags.writeable


def test_nested_lists_of_numbers_are_arrays_too():
    np.testing.assert_allclose(attention([[1.0]], [[0.0], [1.0]], [[0.0], [1.0]], [[True, False]]), [[0.0]])


def test_what_is_checked_is_neither_copied_nor_converted(rng):
    q, k, v = (rng.standard_normal(shape).astype(np.float32) for shape in ((NQ, DK), (NK, DK), (NK, DV)))
    assert all(checked is given for checked, given in zip(check_sequences(q, k, v), (q, k, v), strict=True))
    mask = rng.random((1, NK)) < 0.5
    spread = read_mask(mask, (B, H, NQ, NK))
    assert spread.shape == (B, H, NQ, NK)
    assert np.shares_memory(spread, mask)
    assert read_mask(None, (NQ, NK)).all()


def test_results_share_no_memory_with_inputs(rng):
    q, k, v = sequences(rng)
    arrays = [rng.normal(size=(NQ, DV)), q, k, v, np.ones((NQ, NK), dtype=bool)]
    assert not any(np.shares_memory(result, array) for result in functions(arrays) for array in arrays)


# Errors: each states the name, the rule and the value


def zeros(*shape, dtype=float):
    return np.zeros(shape, dtype=dtype)


Q, K, V = zeros(B, NQ, DK), zeros(B, NK, DK), zeros(B, NK, DV)
INTEGERS, OBJECTS = zeros(B, NK, DK, dtype=int), np.full((B, NK, DK), None)
LEAD = r"mask must broadcast to the scores \(\*batch, Nq, Nk\) = \(2, 5, 7\), got shape "

BAD_CALLS = [
    (lambda: attention(Q, zeros(B, NK, DV), V), ValueError, r"q and k must have the same width .*11\).*13\)"),
    (lambda: attention(Q[0, 0], K, V), ValueError, r"q must have at least two axes.*\(11,\)"),
    (lambda: attention(Q, K[0, 0], V), ValueError, r"k must have at least two axes.*\(11,\)"),
    (lambda: attention(Q, K, V[0, 0]), ValueError, r"v must have at least two axes.*\(13,\)"),
    (lambda: attention(Q, K, V[:, :6]), ValueError, r"k and v must hold one value per key.*7, 11\).*6, 13\)"),
    (lambda: attention(Q[:1], K, V), ValueError, r"q and k must have the same batch axes.*\(1, 5, 11\).*\(2, 7, 11\)"),
    (lambda: attention(Q[0], K, V), ValueError, r"q and k must have the same batch axes.*\(5, 11\).*\(2, 7, 11\)"),
    (lambda: attention(Q, K, V[:1]), ValueError, r"k and v must have the same batch axes.*\(2, 7, 11\).*\(1, 7, 13\)"),
    (lambda: attention(Q[..., :0], K[..., :0], V), ValueError, r"width Dk of q and k must be at least 1.*\(2, 5, 0\)"),
    (lambda: attention_weights(Q, V), ValueError, r"q and k must have the same width .*11\).*13\)"),
    (lambda: attention_weights(Q, K[:1]), ValueError, r"q and k must have the same batch axes"),
    (lambda: attention(Q.astype(int), K, V), TypeError, r"q must hold floating numbers, got dtype int64"),
    (lambda: attention(Q, INTEGERS, V), TypeError, r"k must hold floating numbers, got dtype int64"),
    (lambda: attention(Q, OBJECTS, V), TypeError, r"k must hold floating numbers, got dtype object"),
    (lambda: attention(Q, K, V.astype(complex)), TypeError, r"v must hold floating numbers, got dtype complex128"),
    (lambda: attention(Q, K, V.astype(bool)), TypeError, r"v must hold floating numbers, got dtype bool"),
    (lambda: attention(Q, None, V), TypeError, r"k must hold floating numbers, got dtype object"),
    (lambda: attention(Q, K, V, zeros(NQ, NK)), TypeError, r"mask must be boolean, True = may look, got dtype float64"),
    (lambda: attention(Q, K, V, zeros(NQ, NK, dtype=int)), TypeError, r"mask must be boolean.*got dtype int64"),
    (lambda: attention(Q, K, V, np.full((NQ, NK), None)), TypeError, r"mask must be boolean.*got dtype object"),
    (lambda: attention(Q, K, V, zeros(NK, NQ, dtype=bool)), ValueError, LEAD + r"\(7, 5\)"),
    (lambda: attention(Q, K, V, zeros(B, 1, 1, NK, dtype=bool)), ValueError, LEAD + r"\(2, 1, 1, 7\)"),
    (lambda: attention(Q[:1], K[:1], V[:1], zeros(B, 1, NK, dtype=bool)), ValueError, r"got shape \(2, 1, 7\)"),
    (lambda: attention_weights(Q, K, zeros(NQ, 6, dtype=bool)), ValueError, LEAD + r"\(5, 6\)"),
    (lambda: attention_weights(Q, K, zeros(NQ, NK)), TypeError, r"mask must be boolean"),
    (lambda: attention_backward(zeros(B, NQ, DK), Q, K, V), ValueError, r"grad_out .*\(2, 5, 13\), got \(2, 5, 11\)"),
    (lambda: attention_backward(zeros(B, NQ, DV, dtype=int), Q, K, V), TypeError, r"grad_out must hold floating"),
    (lambda: attention_backward(zeros(B, NQ, DV), Q, K, V, zeros(NQ, NK)), TypeError, r"mask must be boolean"),
    (lambda: softmax(INTEGERS), TypeError, r"x must hold floating numbers, got dtype int64"),
    (lambda: softmax(OBJECTS), TypeError, r"x must hold floating numbers, got dtype object"),
    (lambda: softmax(Q, 3), ValueError, r"axis \(3\) must name an axis of x, which has shape \(2, 5, 11\)"),
    (lambda: softmax(Q, -4), ValueError, r"axis \(-4\) must name an axis of x"),
    (lambda: softmax(np.float64(1.0)), ValueError, r"axis \(-1\) must name an axis of x, which has shape \(\)"),
    (lambda: softmax(Q, 1.0), TypeError, r"axis must be an integer, got 1\.0"),
    (lambda: padding_mask(np.array([3.0]), 7), TypeError, r"lengths must be integers, got dtype float64"),
    (lambda: padding_mask(np.array([True]), 7), TypeError, r"lengths must be integers, got dtype bool"),
    (lambda: padding_mask(np.array([[3]]), 7), ValueError, r"lengths must have one axis, \(B,\), got shape \(1, 1\)"),
    (lambda: padding_mask(3, 7), ValueError, r"lengths must have one axis, \(B,\), got shape \(\)"),
    (lambda: padding_mask(np.array([3, 8]), 7), ValueError, r"lengths must lie between 0 and n_keys \(7\), got 8"),
    (lambda: padding_mask(np.array([3, -1]), 7), ValueError, r"lengths must lie between 0 and n_keys \(7\), got -1"),
    (lambda: padding_mask(np.array([0]), -1), ValueError, r"n_keys must be at least 0, got -1"),
    (lambda: padding_mask(np.array([3]), 7.0), TypeError, r"n_keys must be an integer, got 7\.0"),
    (lambda: causal_mask(-1), ValueError, r"n_queries must be at least 0, got -1"),
    (lambda: causal_mask(3.0), TypeError, r"n_queries must be an integer, got 3\.0"),
]


@pytest.mark.parametrize(("call", "error", "message"), BAD_CALLS)
def test_a_bad_call_is_told_the_name_the_rule_and_the_value(call, error, message):
    with pytest.raises(error, match=message):
        call()
