"""Attention in torch without its weights: against the dense one and the oracle, memory, gradients, errors."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from crossattn_ref.attention import chunked, dense, reference
from crossattn_ref.attention.chunked import attention
from crossattn_ref.attention.inputs import Lengths
from crossattn_ref.attention.multihead import MultiHeadAttention
from crossattn_ref.bench.memory import torch_peak

B, H, HKV, NQ, NK, DK, DV = 2, 6, 3, 5, 7, 11, 13
CHUNKS = [1, 2, 3, 5, 7, 100]
DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
MASKS = ["none", "padding", "rows", "per query", "per head", "per place", "Lengths", "top-left", "bottom-right"]
drawn = settings(deadline=None, max_examples=80)


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
    shapes = {"padding": (batch, 1, 1, n_keys), "rows": (n_queries, 1), "per query": (n_queries, n_keys)}
    shapes |= {"per head": (1, n_heads, n_queries, n_keys), "per place": (batch, n_heads, n_queries, n_keys)}
    if kind == "none":
        return None
    if kind in shapes:
        return torch.rand(shapes[kind], generator=generator) < 0.6
    return Lengths(lengths, None if kind == "Lengths" else kind)


def gradients(function, tensors, grad_out):
    tensors = [tensor.clone().requires_grad_() for tensor in tensors]
    return torch.autograd.grad(function(*tensors), tensors, grad_out)


@st.composite
def cases(draw):
    seed, n_kv_heads = draw(st.integers(0, 2**31)), draw(st.sampled_from([1, 2, 3]))
    q, k, v = sequences(
        seed,
        batch=draw(st.integers(1, 3)),
        n_heads=n_kv_heads * draw(st.sampled_from([1, 2, 3])),
        n_kv_heads=n_kv_heads,
        n_queries=draw(st.integers(1, 6)),
        n_keys=draw(st.integers(0, 9)),
        widths=draw(st.sampled_from([(4, 4), (3, 5), (5, 1)])),
        scale=draw(st.sampled_from([0.1, 1.0, 30.0])),
    )
    return (q, k, v), some_mask(draw(st.sampled_from(MASKS)), seed, q, k), draw(st.integers(1, 10))


# Against independent implementations: torch's kernel by way of dense, and the oracle in NumPy


@drawn
@given(cases())
def test_the_answer_and_its_gradients_equal_the_dense_ones_for_every_chunk_size(case):
    tensors, mask, chunk_size = case
    grad_out = torch.randn_like(dense.attention(*tensors, mask))
    ours = attention(*tensors, mask, chunk_size=chunk_size)
    torch.testing.assert_close(ours, dense.attention(*tensors, mask), rtol=0, atol=1e-12)
    mine = gradients(lambda *qkv: attention(*qkv, mask, chunk_size=chunk_size), tensors, grad_out)
    theirs = gradients(lambda *qkv: dense.attention(*qkv, mask), tensors, grad_out)
    for grad, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(grad, other, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("chunk_size", CHUNKS)
@pytest.mark.parametrize("causal", [None, "top-left", "bottom-right"])
def test_lengths_and_their_causal_alignments_equal_the_oracle_under_the_mask_written_out(causal, chunk_size):
    q, k, v = sequences(n_kv_heads=H, n_keys=11)
    for lengths in ([0, 11], [3, 8], [5, 1]):
        mask = Lengths(torch.tensor(lengths), causal)
        full = torch.zeros(B, 1, NQ, 11, dtype=torch.bool)
        for b, length in enumerate(lengths):  # as the docstring of Lengths says it, place by place
            for i in range(NQ):
                last = {None: 10, "top-left": i, "bottom-right": i + length - NQ}[causal]
                full[b, 0, i, : max(0, min(length, last + 1))] = True
        expected = reference.attention(q.numpy(), k.numpy(), v.numpy(), full.numpy())
        ours = attention(q, k, v, mask, chunk_size=chunk_size)
        torch.testing.assert_close(ours, torch.from_numpy(expected), rtol=0, atol=1e-12)


@pytest.mark.parametrize("chunk_size", [1, 3, 100])
@pytest.mark.parametrize("kind", ["none", "per place", "bottom-right"])
def test_gradients_equal_finite_differences(kind, chunk_size):
    tensors = [tensor.requires_grad_() for tensor in sequences(n_heads=4, n_kv_heads=2, n_queries=3, widths=(3, 2))]
    mask = some_mask(kind, 4, *tensors[:2])
    assert torch.autograd.gradcheck(lambda *qkv: attention(*qkv, mask, chunk_size=chunk_size), tensors)


# Properties


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("chunk_size", [3, 100])
@pytest.mark.parametrize("kind", ["padding", "per place", "bottom-right"])
@pytest.mark.parametrize("poison", ["nan", "inf", "-inf", "largest"])
def test_places_that_nobody_may_see_send_and_receive_nothing(kind, dtype, chunk_size, poison):
    q, k, v = (tensor.to(dtype) for tensor in sequences())
    poison = torch.finfo(dtype).max if poison == "largest" else float(poison)
    mask = some_mask(kind, 8, q, k)
    if isinstance(mask, torch.Tensor):
        mask[..., 2] = False
        mask[(0,) * (mask.ndim - 2)][min(3, mask.shape[-2] - 1)] = False
    full = (mask.mask(B, NQ, NK) if isinstance(mask, Lengths) else mask).expand(B, H, NQ, NK)
    blind, hidden = ~full.any(dim=-1), ~full.reshape(B, HKV, -1, NK).any(dim=2)
    assert blind.any()
    assert hidden.any()
    grad_out = torch.ones(B, H, NQ, DV, dtype=dtype)
    wild = [x.masked_fill(places[..., None], poison) for x, places in ((q, blind), (k, hidden), (v, hidden))]
    wild_grad = grad_out.masked_fill(blind[..., None], poison)

    def attend(*qkv):
        return attention(*qkv, mask, chunk_size=chunk_size)

    assert torch.equal(attend(*wild), attend(q, k, v))
    clean, grads = gradients(attend, (q, k, v), grad_out), gradients(attend, wild, wild_grad)
    for grad, expected, unseen in zip(grads, clean, (blind, hidden, hidden), strict=True):
        torch.testing.assert_close(grad, expected)
        assert (grad[unseen] == 0).all()


@pytest.mark.parametrize("poison", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("chunk_size", [1, 3, 100])
def test_what_is_wild_and_seen_reaches_those_who_see_it_as_in_the_oracle(poison, chunk_size):
    q, k, v = sequences(n_kv_heads=H)
    k[0, 1, 2, 3], v[1, 0, 4, 5], q[1, 2, 0, 0] = poison, poison, poison
    mask = torch.ones(NQ, NK, dtype=torch.bool).tril(1)
    expected = torch.from_numpy(reference.attention(q.numpy(), k.numpy(), v.numpy(), mask.numpy()))
    assert not expected.isfinite().all()
    ours = attention(q, k, v, mask, chunk_size=chunk_size)
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-12, equal_nan=True)


@pytest.mark.parametrize("kind", ["per query", "per place", "top-left"])
def test_a_hidden_nan_that_others_see_stays_away_from_the_gradients_of_those_who_do_not(kind):
    q, k, v = sequences()
    mask = some_mask(kind, 8, q, k)
    full = (mask.mask(B, NQ, NK) if isinstance(mask, Lengths) else mask).expand(B, H, NQ, NK)
    notices = full[..., 2]  # (B, H, NQ)
    assert notices.any()
    assert not notices.all()
    wild = [q, k.clone(), v.clone()]
    wild[1][:, :, 2] = wild[2][:, :, 2] = math.nan
    grad_out = torch.ones(B, H, NQ, DV).double().masked_fill(notices[..., None], 0)
    attend = [lambda *qkv: attention(*qkv, mask, chunk_size=2)] * 2
    mine, clean = (gradients(f, x, grad_out)[0][~notices] for f, x in zip(attend, (wild, (q, k, v)), strict=True))
    torch.testing.assert_close(mine, clean)


@pytest.mark.parametrize("sizes", [(B, 0, NK), (B, NQ, 0), (0, NQ, NK), (B, 0, 0)])
@pytest.mark.parametrize("masked", [False, True])
def test_empty_sequences_and_batches_give_zeros_with_zero_gradients(sizes, masked):
    batch, n_queries, n_keys = sizes
    q, k, v = sequences(batch=batch, n_queries=n_queries, n_keys=n_keys)
    mask = torch.ones(n_queries, n_keys, dtype=torch.bool) if masked else None
    out = attention(q, k, v, mask)
    assert out.shape == (batch, H, n_queries, DV)
    assert (out == 0).all()
    for grad in gradients(lambda *qkv: attention(*qkv, mask), (q, k, v), torch.ones_like(out)):
        assert (grad == 0).all()


def test_inputs_need_not_be_contiguous_and_are_never_written_to():
    q, k, v = sequences()
    mask = some_mask("per place", 2, q, k)
    strided = [tensor.transpose(1, 2).contiguous().transpose(1, 2) for tensor in (q, k, v)]
    before = [tensor.clone() for tensor in strided]
    grad_out = torch.randn(B, H, NQ, DV).double()
    for ours, expected in zip(
        gradients(lambda *qkv: attention(*qkv, mask.mT.contiguous().mT, chunk_size=3), strided, grad_out),
        gradients(lambda *qkv: dense.attention(*qkv, mask), (q, k, v), grad_out),
        strict=True,
    ):
        torch.testing.assert_close(ours, expected)
    keys = k.transpose(1, 2).contiguous().transpose(1, 2).requires_grad_()  # not contiguous, as gradcheck's never are
    (grad,) = torch.autograd.grad(attention(q, keys, v, mask, chunk_size=3), keys, grad_out)
    torch.testing.assert_close(grad, gradients(lambda x: dense.attention(q, x, v, mask), [k], grad_out)[0])
    assert all(map(torch.equal, strided, before))


@pytest.mark.parametrize(("dtype", "factor"), [(torch.float32, 16), (torch.bfloat16, 2), (torch.float16, 2)])
@pytest.mark.parametrize("kind", ["none", "per query"])
def test_the_error_is_not_much_above_that_of_the_formula_in_the_same_dtype(kind, dtype, factor):
    exact = sequences(n_keys=61, n_queries=59, n_kv_heads=H)
    q, k, v = (tensor.to(dtype) for tensor in exact)
    mask = some_mask(kind, 11, q, k)

    def formula(q, k, v):
        scores = q @ k.mT / math.sqrt(q.shape[-1])
        return (scores if mask is None else scores.masked_fill(~mask, -math.inf)).softmax(dim=-1) @ v

    right = formula(q.double(), k.double(), v.double())
    ours = attention(q, k, v, mask, chunk_size=16)
    assert ours.dtype == dtype
    assert (ours - right).abs().max() <= factor * (formula(q, k, v) - right).abs().max()


def test_a_layer_takes_it_as_its_algorithm():
    torch.manual_seed(0)
    layers = [MultiHeadAttention(33, 3, d_memory=13, attend=attend) for attend in (dense.attention, attention)]
    layers[1].load_state_dict(layers[0].state_dict())
    x, memory = torch.randn(2, 5, 33), torch.randn(2, 7, 13)
    outs = [layer(x, memory, Lengths(torch.tensor([3, 7]))) for layer in layers]
    torch.testing.assert_close(*outs)
    for out in outs:
        out.square().sum().backward()
    for one, other in zip(*(layer.parameters() for layer in layers), strict=True):
        torch.testing.assert_close(one.grad, other.grad)


def test_gradients_of_gradients_are_refused():
    q, k, v = (tensor.requires_grad_() for tensor in sequences())
    (grad,) = torch.autograd.grad(attention(q, k, v).square().sum(), q, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


# Memory


def _peaks(call, kinds=("none", "Lengths", "bottom-right")):
    for kind in kinds:
        yield (
            kind,
            [
                torch_peak(lambda q=q, k=k, v=v, kind=kind: call(q, k, v, some_mask(kind, 1, q, k)))
                for n_keys in (1024, 2048, 4096, 8192)
                for q, k, v in [[x.float() for x in sequences(n_queries=128, n_keys=n_keys, widths=(16, 16))]]
            ],
        )


def test_extra_memory_stays_as_it_is_while_the_keys_double_three_times():
    for kind, peaks in _peaks(lambda *args: attention(*args, chunk_size=128)):
        assert len(set(peaks)) == 1, kind
    (_, naive), *_ = _peaks(lambda q, k, v, _: dense.attention_weights(q, k) @ v.repeat_interleave(2, dim=1), ["none"])
    assert naive[3] > 7 * naive[0]


def test_backward_makes_the_gradients_and_a_block():
    extra = []
    for n_keys in (1024, 8192):
        q, k, v = (x.float().requires_grad_() for x in sequences(n_queries=128, n_keys=n_keys, widths=(16, 16)))

        def call(q=q, k=k, v=v):
            return torch.autograd.grad(attention(q, k, v, chunk_size=128).sum(), (q, k, v))

        extra.append(torch_peak(call) - 4 * (q.numel() + k.numel() + v.numel()))
    assert extra[0] == extra[1]


# Errors

Q, K, V = (tensor.float() for tensor in sequences())


@pytest.mark.usefixtures("shapes_unchecked")
@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: attention(Q, K, V, chunk_size=0), ValueError, "chunk_size must be at least 1, got 0"),
        (lambda: attention(Q, K, V, chunk_size=1.5), TypeError, r"chunk_size must be an integer, got 1\.5"),
        (lambda: attention(Q[:, :4], K, V), ValueError, r"the heads of k \(3\) must divide the heads of q \(4\)"),
        (lambda: attention(Q, K, V.double()), TypeError, r"k and v must have the same dtype"),
        (lambda: attention(Q, K, V, torch.ones(NQ, NK)), TypeError, r"mask must be a boolean tensor.*float32"),
        (lambda: attention(Q[:1], K[:1], V[:1], torch.ones(B, 1, 1, NK) > 0), ValueError, r"shape \(2, 1, 1, 7\)"),
        (lambda: attention(Q, K, V, Lengths(torch.tensor([3, 8]))), ValueError, r"between 0 and Nk \(7\), got 8"),
        (lambda: attention(Q, K, V, Lengths(torch.tensor([3]))), ValueError, r"one length per sample \(B = 2\), got 1"),
    ],
)
def test_a_bad_call_is_told_the_name_the_rule_and_the_value(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_keys_beyond_the_longest_are_never_multiplied(made):
    q, k, v = sequences(n_keys=100)
    with made:
        attention(q, k, v, Lengths(torch.tensor([3, 5])), chunk_size=7)
    assert max(made.sizes) <= max(B * H * 7 * 7, q.numel() // DK * DV)
    assert chunked.CHUNK_SIZE > 7
