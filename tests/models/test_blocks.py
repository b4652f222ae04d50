"""Positions, feed-forward, encoder and decoder layers: by hand, against NumPy, properties, errors."""

import cmath
import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from crossattn_ref.attention import dense, reference
from crossattn_ref.attention.inputs import Lengths
from crossattn_ref.attention.multihead import MultiHeadAttention
from crossattn_ref.models.blocks import (
    DecoderLayer,
    EncoderLayer,
    FeedForward,
    LayerConfig,
    LearnedPositions,
    Residual,
    rotary,
    rotate,
    sinusoidal_positions,
)

B, H, NQ, NK, D, DM, DFF = 2, 3, 5, 7, 66, 13, 17
NORMS = ["pre", "post"]
DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


def config(**options):
    return LayerConfig(**({"d_model": D, "n_heads": H, "d_ff": DFF, "d_memory": DM, "dropout": 0.0} | options))


def randomised(module, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator, dtype=torch.float64).mul(0.3)
    return module.to(dtype)


def inputs(dtype=torch.float64):
    generator = torch.Generator().manual_seed(1)
    shapes = (B, NQ, D), (B, NK, DM)
    return [torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for shape in shapes]


# Positions


def test_sinusoidal_positions_are_written_out_by_hand():
    expected = [
        [0.0, 1.0, 0.0, 1.0],
        [math.sin(1), math.cos(1), math.sin(0.01), math.cos(0.01)],
        [math.sin(2), math.cos(2), math.sin(0.02), math.cos(0.02)],
    ]
    torch.testing.assert_close(sinusoidal_positions(3, 4), torch.tensor(expected), rtol=0, atol=1e-7)


def test_sinusoidal_positions_equal_the_equation_entry_by_entry():
    n, d_model = 1009, 38
    positions = sinusoidal_positions(n, d_model)
    assert positions.dtype == torch.get_default_dtype()
    for place in (0, 1, 7, 1008):
        for i in range(d_model // 2):
            angle = place / 10_000 ** (2 * i / d_model)
            assert positions[place, 2 * i] == pytest.approx(math.sin(angle), abs=1e-6)
            assert positions[place, 2 * i + 1] == pytest.approx(math.cos(angle), abs=1e-6)


def test_a_step_between_sinusoidal_positions_is_one_rotation_wherever_it_is_taken():
    positions = sinusoidal_positions(101, 6).double().numpy()
    step, _, rank, _ = np.linalg.lstsq(positions[:50], positions[3:53], rcond=None)
    assert rank == 6
    np.testing.assert_allclose(positions[60:80] @ step, positions[63:83], atol=1e-4)


def test_sinusoidal_positions_may_be_none_and_may_have_another_base():
    assert sinusoidal_positions(0, 4).shape == (0, 4)
    assert sinusoidal_positions(2, 4, base=100.0)[1, 2] == pytest.approx(math.sin(0.1))


def test_learned_positions_are_rows_of_a_table_that_is_trained():
    positions = LearnedPositions(NK, D)
    assert positions.vectors.shape == (NK, D)
    assert torch.equal(positions(3), positions.vectors[:3])
    assert torch.equal(positions(3, first=4), positions.vectors[4:])
    positions(3, first=2).sum().backward()
    assert torch.equal(positions.vectors.grad[:, 0], torch.tensor([0.0, 0.0, 1.0, 1.0, 1.0, 0.0, 0.0]))


def test_rotation_of_one_pair_is_worked_out_by_hand():
    x = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 2.0]])
    expected = [[1.0, 0.0], [math.cos(1), math.sin(1)], [-2 * math.sin(2), 2 * math.cos(2)]]
    torch.testing.assert_close(rotate(x), torch.tensor(expected))


def test_rotation_is_a_product_of_complex_numbers():
    x = torch.randn(B, H, NK, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    rotated = rotate(x, first=11, base=500.0)
    for place in range(NK):
        for i in range(3):
            turn = cmath.exp(1j * (11 + place) / 500.0 ** (2 * i / 6))
            expected = torch.complex(x[..., place, 2 * i], x[..., place, 2 * i + 1]) * turn
            torch.testing.assert_close(rotated[..., place, 2 * i], expected.real)
            torch.testing.assert_close(rotated[..., place, 2 * i + 1], expected.imag)


def test_rotary_scores_depend_on_the_distance_only():
    generator = torch.Generator().manual_seed(1)
    q, k = (torch.randn(1, 1, 1, 6, dtype=torch.float64, generator=generator).expand(1, 1, NK, 6) for _ in range(2))
    q, k = rotary(q, k)
    scores = (q @ k.mT)[0, 0]
    for distance in range(1 - NK, NK):
        diagonal = scores.diagonal(distance)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal))
    assert scores[0].unique().numel() == NK


def test_rotary_queries_are_the_last_of_the_keys():
    generator = torch.Generator().manual_seed(1)
    q, k = (torch.randn(B, heads, NK, 6, generator=generator) for heads in (2, 1))
    all_q, all_k = rotary(q, k)
    new_q, new_k = rotary(q[:, :, -2:], k)
    torch.testing.assert_close(new_q, all_q[:, :, -2:])
    torch.testing.assert_close(new_k, all_k)


def test_rotary_positions_in_a_layer_make_order_matter_in_output_and_weights():
    torch.manual_seed(0)
    module = MultiHeadAttention(D, H, positions=rotary).double()
    x, order = inputs()[0], [1, 0, 2, 3, 4]
    assert not torch.allclose(module(x[:, order])[:, order], module(x), atol=1e-3)
    q, k = (projection(x).reshape(B, NQ, H, D // H).transpose(1, 2) for projection in (module.q_proj, module.k_proj))
    torch.testing.assert_close(module.weights(x), dense.attention_weights(*rotary(q, k)))


def test_a_rotary_layer_gives_step_by_step_what_it_gives_at_once():
    torch.manual_seed(0)
    module = MultiHeadAttention(D, H, n_kv_heads=1, positions=rotary).double()
    x = inputs()[0]
    at_once, past = module(x, mask=torch.ones(NQ, NQ, dtype=torch.bool).tril()), None
    for i in range(NQ):
        past = module.remember(x[:, i : i + 1], past)
        torch.testing.assert_close(module(x[:, i : i + 1], past), at_once[:, i : i + 1], rtol=0, atol=1e-12)


# Feed-forward


def test_feed_forward_equals_its_equation_in_numpy():
    module, x = randomised(FeedForward(D, DFF)), inputs()[0]
    w_1, b_1, w_2, b_2 = (parameter.detach().numpy() for parameter in module.parameters())
    expected = np.maximum(0, x.numpy() @ w_1.T + b_1) @ w_2.T + b_2
    np.testing.assert_allclose(module(x).detach().numpy(), expected, atol=1e-12)


def test_the_activation_is_an_argument_and_dropout_acts_last():
    x = inputs()[0]
    module = randomised(FeedForward(D, DFF, dropout=0.5, activation=functional.gelu))
    plain = module.outer(functional.gelu(module.inner(x)))
    out = module(x)
    kept = out != 0
    assert 0.3 < kept.double().mean() < 0.7
    torch.testing.assert_close(out[kept], 2 * plain[kept])
    torch.testing.assert_close(module.eval()(x), plain)


# Layers, against NumPy


def normalised(x, layer_norm):
    centred = x - x.mean(axis=-1, keepdims=True)
    deviation = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-5)
    return centred / deviation * layer_norm.weight.detach().numpy() + layer_norm.bias.detach().numpy()


def linear(x, projection):
    return x @ projection.weight.detach().numpy().T + projection.bias.detach().numpy()


def attended(x, memory, module, mask):
    q, k, v = (
        linear(source, projection).reshape(B, -1, H, D // H).swapaxes(1, 2)
        for source, projection in ((x, module.q_proj), (memory, module.k_proj), (memory, module.v_proj))
    )
    heads = reference.attention(q, k, v, mask).swapaxes(1, 2).reshape(x.shape)
    return linear(heads, module.out_proj)


def thought(x, module):
    return linear(np.maximum(0, linear(x, module.inner)), module.outer)


def in_numpy(layer, norm, x, mask, *cross):
    """Compute a layer in NumPy, in the order of the paper ("post") or of its code ("pre")."""
    sublayers = [(layer.around_self_attention, lambda x: attended(x, x, layer.self_attention, mask))]
    if cross:
        memory, memory_mask = cross
        read = lambda x: attended(x, memory, layer.cross_attention, memory_mask)  # noqa: E731 (one of three)
        sublayers.append((layer.around_cross_attention, read))
    sublayers.append((layer.around_feed_forward, lambda x: thought(x, layer.feed_forward)))
    for around, sublayer in sublayers:
        x = x + sublayer(normalised(x, around.layer_norm)) if norm == "pre" else x + sublayer(x)
        x = normalised(x, around.layer_norm) if norm == "post" else x
    return x


@pytest.mark.parametrize("norm", NORMS)
def test_an_encoder_layer_equals_numpys(norm):
    layer, x = randomised(EncoderLayer(config(norm=norm))), inputs()[0]
    mask = reference.padding_mask(np.array([3, NQ]), NQ)
    out = layer(x, torch.from_numpy(mask)).detach().numpy()
    np.testing.assert_allclose(out, in_numpy(layer, norm, x.numpy(), mask), atol=1e-11)


@pytest.mark.parametrize("norm", NORMS)
def test_a_decoder_layer_equals_numpys(norm):
    layer, (x, memory) = randomised(DecoderLayer(config(norm=norm))), inputs()
    mask, memory_mask = reference.causal_mask(NQ), reference.padding_mask(np.array([4, NK]), NK)
    out = layer(x, memory, torch.from_numpy(mask), torch.from_numpy(memory_mask)).detach().numpy()
    expected = in_numpy(layer, norm, x.numpy(), mask, memory.numpy(), memory_mask)
    np.testing.assert_allclose(out, expected, atol=1e-11)


# Properties


@pytest.mark.parametrize("norm", NORMS)
def test_an_encoder_layer_without_positions_knows_no_order(norm):
    layer, x = randomised(EncoderLayer(config(norm=norm))), inputs()[0]
    order = [3, 0, 4, 1, 2]
    torch.testing.assert_close(layer(x[:, order]), layer(x)[:, order])


@pytest.mark.parametrize("norm", NORMS)
def test_a_decoder_layer_reads_its_memory_and_under_a_causal_mask_no_future(norm):
    layer, (x, memory) = randomised(DecoderLayer(config(norm=norm))), inputs()
    mask, memory_mask = torch.ones(NQ, NQ, dtype=torch.bool).tril(), Lengths(torch.tensor([4, NK]))
    out = layer(x, memory, mask, memory_mask)
    later, other, padded = x.clone(), memory.clone(), memory.clone()
    later[:, 3:], other[:, 0], padded[0, 4:] = math.nan, 1.0, math.nan
    torch.testing.assert_close(layer(later, memory, mask, memory_mask)[:, :3], out[:, :3])
    assert not torch.allclose(layer(x, other, mask, memory_mask), out, atol=1e-2)
    torch.testing.assert_close(layer(x, padded, mask, memory_mask), out)


def test_swapping_the_memories_of_two_samples_swaps_what_is_read():
    layer, (x, memory) = randomised(DecoderLayer(config())), inputs()
    x = x[:1].expand(B, -1, -1)
    torch.testing.assert_close(layer(x, memory.flip(0)), layer(x, memory).flip(0))
    assert not torch.allclose(layer(x, memory)[0], layer(x, memory)[1], atol=1e-2)


def test_a_decoder_layer_takes_a_remembered_memory():
    layer, (x, memory) = randomised(DecoderLayer(config(n_kv_heads=1))), inputs()
    mask = Lengths(torch.tensor([4, NK]))
    remembered = layer.cross_attention.remember(memory)
    torch.testing.assert_close(layer(x, remembered, None, mask), layer(x, memory, None, mask), rtol=0, atol=0)


def test_every_choice_of_the_config_reaches_its_place():
    def attend(q, k, v, mask):
        return dense.attention(q, k, v, mask)

    options = {"attend": attend, "positions": rotary, "n_kv_heads": 1, "activation": functional.gelu, "dropout": 0.25}
    layer = DecoderLayer(config(**options))
    assert layer.self_attention.attend is layer.cross_attention.attend is attend
    assert layer.self_attention.positions is rotary
    assert layer.cross_attention.positions is None
    assert layer.self_attention.n_kv_heads == layer.cross_attention.n_kv_heads == 1
    assert layer.cross_attention.k_proj.in_features == DM
    assert layer.self_attention.k_proj.in_features == D
    assert layer.feed_forward.activation is functional.gelu
    blocks = (layer.self_attention, layer.cross_attention, layer.feed_forward)
    assert {block.dropout.p for block in blocks} == {0.25}


@pytest.mark.parametrize("norm", NORMS)
def test_every_parameter_of_a_decoder_layer_gets_a_gradient(norm):
    layer, (x, memory) = randomised(DecoderLayer(config(norm=norm))), inputs()
    layer(x, memory).square().sum().backward()
    without = {name for name, parameter in layer.named_parameters() if (parameter.grad == 0).all()}
    assert without == set()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("norm", NORMS)
def test_layers_run_in_every_dtype_with_a_sample_that_is_all_padding(norm, dtype):
    layer, (x, memory) = randomised(DecoderLayer(config(norm=norm)), dtype=dtype), inputs(dtype)
    encoder = randomised(EncoderLayer(config(norm=norm)), dtype=dtype)
    nothing_in_0 = torch.tensor([0, 4])
    out = layer(x, memory, Lengths(nothing_in_0), Lengths(nothing_in_0))
    assert out.dtype == dtype
    assert out.isfinite().all()
    torch.testing.assert_close(out[1:], layer(x[1:], memory[1:], Lengths(nothing_in_0[1:]), Lengths(nothing_in_0[1:])))
    assert encoder(x, Lengths(nothing_in_0)).isfinite().all()
    rotated = rotate(x)
    assert rotated.dtype == dtype
    torch.testing.assert_close(rotated.double(), rotate(x.double()), rtol=0, atol=8 * torch.finfo(dtype).eps)


# Errors: each states the name, the rule and the value


def encoder_layer(**options):
    return EncoderLayer(config(**options))


X = torch.zeros(B, NQ, D)
BAD_CALLS = [
    (lambda: sinusoidal_positions(3, 13), ValueError, r"d_model \(13\) must be even"),
    (lambda: sinusoidal_positions(-1, 4), ValueError, "n must be at least 0, got -1"),
    (lambda: rotate(torch.zeros(5, 3)), ValueError, r"Dk \(3\) must be even"),
    (lambda: rotary(X[:, None], X[:, None, :3]), ValueError, r"queries \(5\) must be among the keys \(3\)"),
    (lambda: LearnedPositions(7, 4)(8), ValueError, r"first \(0\) and n \(8\) must lie within n_positions \(7\)"),
    (lambda: LearnedPositions(7, 4)(3, first=5), ValueError, r"first \(5\) and n \(3\) must lie within n_positions"),
    (lambda: LearnedPositions(7, 4)(3, first=-1), ValueError, r"first \(-1\) and n \(3\) must lie within"),
    (lambda: LearnedPositions(7, 4)(-1), ValueError, r"first \(0\) and n \(-1\) must lie within"),
    (lambda: config(norm="both"), ValueError, "norm must be .* got 'both'"),
    (lambda: config(d_ff=0), ValueError, "d_ff must be at least 1, got 0"),
    (lambda: encoder_layer(d_model=13), ValueError, r"d_model \(13\) must be divisible by n_heads \(3\)"),
    (lambda: encoder_layer(n_kv_heads=2), ValueError, r"n_heads \(3\) must be divisible by n_kv_heads \(2\)"),
    (lambda: encoder_layer()(X[..., :13]), ValueError, r"x must have the width 66, got shape \(2, 5, 13\)"),
    (lambda: encoder_layer()(X, torch.ones(NQ, NQ)), TypeError, "mask must be a boolean tensor"),
    (lambda: DecoderLayer(config())(X, X), ValueError, r"memory must have the width 13, got shape \(2, 5, 66\)"),
    (lambda: Residual(config())(X[..., :13], torch.sin), ValueError, r"x must have the width 66"),
]


@pytest.mark.usefixtures("shapes_unchecked")
@pytest.mark.parametrize(("call", "error", "message"), BAD_CALLS)
def test_a_bad_call_is_told_the_name_the_rule_and_the_value(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.usefixtures("shapes_unchecked")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("norm", NORMS)
def test_a_layer_refuses_what_does_not_fit_in_every_dtype(norm, dtype):
    layer, x = DecoderLayer(config(norm=norm)).to(dtype), X.to(dtype)
    memory, of_x = torch.zeros(B, NK, DM, dtype=dtype), torch.ones(NQ, NQ, dtype=torch.bool)
    for call, error, message in (
        (lambda: layer(x, x), ValueError, r"memory must have the width 13, got shape \(2, 5, 66\)"),
        (lambda: layer(x[..., :13], memory), ValueError, r"x must have the width 66"),
        (lambda: layer(x, memory, of_x.to(dtype)), TypeError, "mask must be a boolean tensor"),
        (lambda: layer(x, memory, of_x, of_x), ValueError, r"\(2, 3, 5, 7\), got shape \(5, 5\)"),
        (lambda: layer(x, memory, None, Lengths(torch.tensor([3, 8]))), ValueError, r"0 and Nk \(7\), got 8"),
    ):
        with pytest.raises(error, match=message):
            call()


def test_a_config_is_frozen_and_its_fields_are_named():
    with pytest.raises(AttributeError):
        config().d_model = 3
    with pytest.raises(TypeError):
        LayerConfig(128)
