"""Attention in NumPy without its weights: merging by hand, against the oracle, properties, memory, errors."""

import itertools
import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossattn_ref.attention import online, reference
from crossattn_ref.attention.online import Partial, attention, attention_backward, empty, merge, partial
from crossattn_ref.bench.memory import numpy_peak

NQ, NK, DK, DV = 5, 7, 11, 13
CHUNKS = [1, 2, 3, 5, 7, 100]
POISONS = [math.nan, math.inf, -math.inf, 1e308]
drawn = settings(deadline=None, max_examples=60)


def sequences(rng, batch=(2, 3), nq=NQ, nk=NK, scale=1.0):
    shapes = (*batch, nq, DK), (*batch, nk, DK), (*batch, nk, DV)
    q, k, v = (rng.standard_normal(shape) for shape in shapes)
    return scale * q, k, v


def some_mask(rng, kind, batch, nq, nk):
    lead = {"per query": (nq,), "per place": (*batch, nq), "padding": (*batch[:1], *(1,) * (len(batch) - 1), 1)}
    return None if kind == "none" else rng.random((*lead[kind], nk)) < 0.6


@st.composite
def cases(draw):
    """Draw q, k, v, a mask with rows and columns that may be False throughout, grad_out, and a chunk size."""
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    batch = draw(st.sampled_from([(), (2,), (2, 3)]))
    nq, nk = draw(st.integers(1, 6)), draw(st.integers(0, 9))
    q, k, v = sequences(rng, batch, nq, nk, draw(st.sampled_from([0.1, 1.0, 1000.0])))
    kinds = ["none", "per query", "per place", "padding"] if batch else ["none", "per query"]
    mask = some_mask(rng, draw(st.sampled_from(kinds)), batch, nq, nk)
    return (q, k, v, mask), rng.standard_normal((*batch, nq, DV)), draw(st.integers(1, 10))


# By hand


def test_two_keys_in_two_blocks_are_worked_out_by_hand():
    first = Partial(np.array([0.0]), np.array([1.0]), np.array([[10.0]]))  # one key: score 0, value 10
    second = Partial(np.array([1.0]), np.array([1.0]), np.array([[20.0]]))  # one key: score 1, value 20
    both = merge(first, second)
    assert both.top == 1
    assert both.total == pytest.approx(1 / math.e + 1)
    assert both.out()[0, 0] == pytest.approx((10 / math.e + 20) / (1 / math.e + 1))


def test_a_key_that_scores_a_thousand_more_takes_over_and_nothing_overflows():
    low = Partial(np.array([-500.0]), np.array([3.0]), np.array([[30.0]]))
    high = Partial(np.array([500.0]), np.array([1.0]), np.array([[7.0]]))
    for both in (merge(low, high), merge(high, low)):
        assert (both.top, both.total, both.summed[0, 0]) == (500, 1, 7)


# Against the oracle


@drawn
@given(cases())
def test_the_answer_and_its_gradients_equal_the_oracles_for_every_chunk_size(case):
    args, grad_out, chunk_size = case
    np.testing.assert_allclose(attention(*args, chunk_size=chunk_size), reference.attention(*args), atol=1e-12)
    ours = attention_backward(grad_out, *args, chunk_size=chunk_size)
    for mine, theirs in zip(ours, reference.attention_backward(grad_out, *args), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("chunk_size", CHUNKS)
def test_gradients_equal_finite_differences(chunk_size):
    rng = np.random.default_rng(3)
    args = list(sequences(rng, ()))
    mask = rng.random((NQ, NK)) < 0.7
    grad_out, step = rng.standard_normal((NQ, DV)), 1e-6
    grads = attention_backward(grad_out, *args, mask, chunk_size=chunk_size)
    for place, grad in enumerate(grads):
        direction = rng.standard_normal(grad.shape)
        ends = []
        for sign in (1, -1):
            moved = list(args)
            moved[place] = args[place] + sign * step * direction
            ends.append((attention(*moved, mask, chunk_size=chunk_size) * grad_out).sum())
        assert (ends[0] - ends[1]) / (2 * step) == pytest.approx((grad * direction).sum(), rel=1e-5)


# Merging


@st.composite
def partials(draw, count):
    """Draw what the same queries know of several blocks of keys, some of them empty, some hidden from some queries."""
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    q = draw(st.sampled_from([1.0, 300.0])) * rng.standard_normal((NQ, DK))
    sizes = [draw(st.integers(0, 4)) for _ in range(count)]
    k, v = rng.standard_normal((sum(sizes), DK)), rng.standard_normal((sum(sizes), DV))
    mask = rng.random((NQ, sum(sizes))) < 0.5
    ends = np.cumsum([0, *sizes])
    blocks = [slice(*pair) for pair in itertools.pairwise(ends)]
    return [partial(q, k[block], v[block], mask[:, block]) for block in blocks], (q, k, v, mask)


def assert_same(one, other):
    for mine, theirs in zip(one, other, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-12, atol=1e-12)


@drawn
@given(partials(3))
def test_merging_is_associative_and_commutative(drawn_partials):
    (a, b, c), _ = drawn_partials
    assert_same(merge(merge(a, b), c), merge(a, merge(b, c)))
    assert_same(merge(a, b), merge(b, a))


@drawn
@given(partials(3))
def test_blocks_merged_in_any_order_give_attention(drawn_partials):
    (a, b, c), args = drawn_partials
    for order in ((a, b, c), (c, a, b), (b, c, a)):
        np.testing.assert_allclose(merge(merge(*order[:2]), order[2]).out(), reference.attention(*args), atol=1e-12)


@drawn
@given(partials(1))
def test_what_has_met_nothing_changes_nothing_on_either_side(drawn_partials):
    (a,), _ = drawn_partials
    nothing = empty(NQ, DV)
    assert_same(merge(a, nothing), a)
    assert_same(merge(nothing, a), a)
    assert_same(merge(nothing, nothing), nothing)
    assert (nothing.out() == 0).all()


# Properties


@pytest.mark.parametrize("poison", POISONS)
@pytest.mark.parametrize("chunk_size", CHUNKS)
def test_what_stands_in_places_that_nobody_may_see_has_no_effect(poison, chunk_size):
    rng = np.random.default_rng(5)
    q, k, v = sequences(rng)
    mask = rng.random((2, 3, NQ, NK)) < 0.6
    mask[..., 2], mask[0, :, 3] = False, False
    grad_out = rng.standard_normal((2, 3, NQ, DV))
    blind, hidden = ~mask.any(axis=-1), ~mask.any(axis=-2)
    wild = [np.where(places[..., None], poison, x) for x, places in ((q, blind), (k, hidden), (v, hidden))]
    wild_grad = np.where(blind[..., None], poison, grad_out)
    expected = attention(q, k, v, mask, chunk_size=chunk_size)
    np.testing.assert_array_equal(attention(*wild, mask, chunk_size=chunk_size), expected)
    clean = attention_backward(grad_out, q, k, v, mask, chunk_size=chunk_size)
    ours = attention_backward(wild_grad, *wild, mask, chunk_size=chunk_size)
    for grad, right, unseen in zip(ours, clean, (blind, hidden, hidden), strict=True):
        np.testing.assert_array_equal(grad, right)
        assert (grad[unseen] == 0).all()


@pytest.mark.parametrize("poison", POISONS[:3])
@pytest.mark.parametrize("chunk_size", [1, 3, 100])
def test_what_is_wild_and_seen_reaches_those_who_see_it_as_in_the_oracle(poison, chunk_size):
    rng = np.random.default_rng(6)
    q, k, v = sequences(rng)
    k[0, 1, 2, 3], v[1, 0, 4, 5], q[1, 2, 0, 0] = poison, poison, poison
    mask = np.tri(NQ, NK, 1, dtype=bool)
    ours, theirs = attention(q, k, v, mask, chunk_size=chunk_size), reference.attention(q, k, v, mask)
    assert not np.isfinite(theirs).all()
    np.testing.assert_allclose(ours, theirs, atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_the_answer_has_the_dtype_that_was_given_and_is_the_oracles_to_the_last_bit_but_one(dtype):
    rng = np.random.default_rng(7)
    args = [x.astype(dtype) for x in sequences(rng)]
    ours, theirs = attention(*args, chunk_size=3), reference.attention(*args)
    assert ours.dtype == dtype
    np.testing.assert_allclose(ours, theirs, rtol=2 * np.finfo(dtype).eps, atol=2 * np.finfo(dtype).eps)
    assert {grad.dtype for grad in attention_backward(ours, *args, chunk_size=3)} == {np.dtype(dtype)}


def test_inputs_are_never_written_to():
    arrays = [*sequences(np.random.default_rng(8)), np.random.default_rng(9).random((NQ, NK)) < 0.5]
    for array in arrays:
        array.flags.writeable = False
    out = attention(*arrays, chunk_size=2)
    attention_backward(out, *arrays, chunk_size=2)


# Memory


def test_extra_memory_stays_as_it_is_while_the_keys_double_three_times():
    rng = np.random.default_rng(10)
    peaks = []
    for nk in (1024, 2048, 4096, 8192):
        q, k, v = (rng.standard_normal((n, 64)) for n in (512, nk, nk))
        peaks.append(numpy_peak(lambda q=q, k=k, v=v: attention(q, k, v)))
    assert max(peaks) - min(peaks) < 4096


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_extra_memory_is_at_most_a_fortieth_of_the_plain_formulas(dtype):
    rng = np.random.default_rng(11)
    q, k, v = (rng.standard_normal((n, 64)).astype(dtype) for n in (512, 8192, 8192))

    def frugal():
        """The plain formula, written so that one matrix of Nq by Nk is all it needs."""
        weights = q @ k.T
        weights /= dtype(8)
        weights -= weights.max(axis=-1, keepdims=True)
        np.exp(weights, out=weights)
        weights /= weights.sum(axis=-1, keepdims=True)
        return weights @ v

    assert 40 * numpy_peak(lambda: attention(q, k, v)) <= numpy_peak(frugal)


def test_backward_needs_no_more_than_the_gradients_and_a_block():
    rng = np.random.default_rng(12)
    extra = []
    for nk in (1024, 8192):
        q, k, v = (rng.standard_normal((n, 64)) for n in (128, nk, nk))
        peak = numpy_peak(lambda q=q, k=k, v=v: attention_backward(q, q, k, v))
        extra.append(peak - k.nbytes - v.nbytes - q.nbytes)
    assert max(extra) - min(extra) < 65_536  # small objects that Python keeps for later; the keys grew by 7 MB


def test_the_module_needs_no_torch():
    code = "import sys; sys.modules['torch'] = None; import crossattn_ref.attention.online"
    subprocess.run([sys.executable, "-c", code], check=True)


# Errors: each states the name, the rule and the value

Q, K, V = sequences(np.random.default_rng(13))
OUT = np.zeros((2, 3, NQ, DV))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: attention(Q, K, V, chunk_size=0), ValueError, "chunk_size must be at least 1, got 0"),
        (lambda: attention(Q, K, V, chunk_size=2.0), TypeError, r"chunk_size must be an integer, got 2\.0"),
        (lambda: attention(Q, V, V), ValueError, "q and k must have the same width Dk"),
        (lambda: attention(Q, K, V[:, :, 1:]), ValueError, r"one value per key \(the same Nk\)"),
        (lambda: attention(Q, K.astype(int), V), TypeError, "k must hold floating numbers, got dtype int64"),
        (lambda: attention(Q, K, V, np.ones((NQ, NK))), TypeError, "mask must be boolean"),
        (lambda: attention(Q[:1], K[:1], V[:1], np.ones((2, 1, 1, NK), bool)), ValueError, r"shape \(2, 1, 1, 7\)"),
        (lambda: attention_backward(OUT[0], Q, K, V), ValueError, r"the output, \(2, 3, 5, 13\), got \(3, 5, 13\)"),
        (
            lambda: attention_backward(OUT > 0, Q, K, V),
            TypeError,
            "grad_out must hold floating numbers, got dtype bool",
        ),
        (lambda: partial(Q, K, V, np.ones((NQ, NK))), TypeError, "mask must be boolean"),
    ],
)
def test_a_bad_call_is_told_the_name_the_rule_and_the_value(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_it_shares_no_arithmetic_with_the_oracle():
    assert not {"attention", "softmax", "_weights", "_weighted_sum", "_softmax"} & {
        name for name, thing in vars(online).items() if getattr(thing, "__module__", "") == reference.__name__
    }
