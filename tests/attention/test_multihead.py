"""Attention in several heads: by hand, against a loop over heads in NumPy, properties, gradients, memory, errors."""

import copy
import math

import numpy as np
import pytest
import torch
from jaxtyping import TypeCheckError

from crossattn_ref.attention import dense, multihead, reference
from crossattn_ref.attention.inputs import Lengths
from crossattn_ref.attention.multihead import Memory, MultiHeadAttention

B, H, HKV, NQ, NK, D, DM = 2, 6, 3, 5, 7, 66, 13
DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
LENGTHS = torch.tensor([4, NK])


def layer(seed=0, dtype=torch.float64, **options):
    torch.manual_seed(seed)
    options = {"d_memory": DM, "n_kv_heads": HKV} | options
    module = MultiHeadAttention(D, H, **options).to(dtype)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return module


def inputs(seed=1, dtype=torch.float64, width=DM):
    generator = torch.Generator().manual_seed(seed)
    shapes = (B, NQ, D), (B, NK, width)
    return [torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for shape in shapes]


def parameter_gradients(module, out):
    return dict(zip(dict(module.named_parameters()), torch.autograd.grad(out, list(module.parameters())), strict=True))


# By hand


def test_two_heads_of_width_one_are_worked_out_by_hand():
    module = MultiHeadAttention(2, 2, bias=False)
    for projection in (module.q_proj, module.k_proj, module.v_proj):
        torch.nn.init.eye_(projection.weight)
    module.out_proj.weight.data = torch.tensor([[1.0, 0.0], [0.0, 10.0]])
    x, memory = torch.tensor([[[1.0, 0.0]]]), torch.tensor([[[0.0, 0.0], [1.0, 1.0]]])
    # Head 1 has the scores 0 and 1, head 2 the scores 0 and 0; each carries away its own column of the memory.
    p = math.e / (1 + math.e)
    torch.testing.assert_close(module(x, memory), torch.tensor([[[p, 5.0]]]))
    torch.testing.assert_close(module.weights(x, memory), torch.tensor([[[[1 - p, p]], [[0.5, 0.5]]]]))


# Against an independent implementation


def by_loops(module, x, memory, mask):
    """Compute the layer in NumPy, one sample and one head at a time."""
    projections = {name: parameter.detach().double().numpy() for name, parameter in module.named_parameters()}
    x, memory = x.double().numpy(), memory.double().numpy()
    width = D // module.n_heads

    def project(name, row, head):
        rows = slice(head * width, (head + 1) * width)
        return row @ projections[f"{name}.weight"][rows].T + projections.get(f"{name}.bias", np.zeros(D))[rows]

    out, weights = np.zeros(x.shape), np.zeros((len(x), module.n_heads, x.shape[1], memory.shape[1]))
    for b in range(len(x)):
        for h in range(module.n_heads):
            shared = h * module.n_kv_heads // module.n_heads
            q, k = project("q_proj", x[b], h), project("k_proj", memory[b], shared)
            weights[b, h] = reference.attention_weights(q, k, mask[b])
            out[b, :, h * width : (h + 1) * width] = weights[b, h] @ project("v_proj", memory[b], shared)
    return out @ projections["out_proj.weight"].T + projections.get("out_proj.bias", 0.0), weights


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("n_kv_heads", [None, 1, 2, 3])
@pytest.mark.parametrize("d_memory", [None, DM])
def test_the_layer_equals_a_loop_over_samples_and_heads(bias, n_kv_heads, d_memory):
    module = layer(bias=bias, n_kv_heads=n_kv_heads, d_memory=d_memory)
    x, memory = inputs(width=d_memory or D)
    mask = torch.rand(B, NQ, NK, generator=torch.Generator().manual_seed(5)) < 0.7
    mask[1, 3] = False
    out, weights = by_loops(module, x, memory, mask.numpy())
    np.testing.assert_allclose(module(x, memory, mask[:, None]).detach().numpy(), out, atol=1e-12)
    np.testing.assert_allclose(module.weights(x, memory, mask[:, None]).detach().numpy(), weights, atol=1e-12)


def test_gradients_equal_finite_differences():
    torch.manual_seed(0)
    module = MultiHeadAttention(4, 2, d_memory=3, n_kv_heads=1).double()
    x, memory = torch.randn(2, 2, 4).double().requires_grad_(), torch.randn(2, 3, 3).double().requires_grad_()
    mask = Lengths(torch.tensor([2, 0]))
    assert torch.autograd.gradcheck(lambda *inputs: module(*inputs, mask), (x, memory))
    names, parameters = zip(*module.named_parameters(), strict=True)

    def of_parameters(*parameters):
        return torch.func.functional_call(module, dict(zip(names, parameters, strict=True)), (x, memory, mask))

    assert torch.autograd.gradcheck(of_parameters, parameters)


# Properties


def test_without_a_memory_x_reads_itself():
    module, (x, _) = layer(d_memory=None), inputs()
    torch.testing.assert_close(module(x), module(x, x), rtol=0, atol=0)
    torch.testing.assert_close(module.weights(x), module.weights(x, x), rtol=0, atol=0)


def test_the_output_is_made_of_the_weights_and_the_projected_values():
    module, (x, memory) = layer(), inputs()
    mask = Lengths(LENGTHS)
    values = module.remember(memory).values.repeat_interleave(H // HKV, dim=1)
    heads = module.weights(x, memory, mask) @ values
    torch.testing.assert_close(module(x, memory, mask), module.out_proj(heads.transpose(1, 2).reshape(B, NQ, D)))


def test_the_order_of_the_memory_does_not_matter_and_queries_do_not_meet():
    module, (x, memory) = layer(), inputs()
    order = torch.randperm(NK, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(module(x, memory[:, order]), module(x, memory))
    torch.testing.assert_close(module(x[:, 2:3], memory), module(x, memory)[:, 2:3])


def test_padding_equals_cutting_the_memory():
    module, (x, memory) = layer(), inputs()
    out = module(x, memory, Lengths(LENGTHS))
    torch.testing.assert_close(out[:1], module(x[:1], memory[:1, :4]), rtol=0, atol=1e-12)
    torch.testing.assert_close(out[1:], module(x[1:], memory[1:]), rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("poison", [math.nan, math.inf, "largest"])
def test_padding_in_the_memory_has_no_effect_on_output_or_gradients(dtype, poison):
    module, (x, memory) = layer(dtype=dtype), inputs(dtype=dtype)
    x[1, 2] = 0.0
    mask = Lengths(LENGTHS).mask(B, NQ, NK).repeat(1, H, NQ, 1)
    mask[1, :, 2] = False
    mask[:, 1:, :, 1] = mask[:, 1:, 1] = False  # what one head sees is seen
    poison = torch.finfo(dtype).max if poison == "largest" else poison
    answers = []
    for number in (0.0, poison):
        x[1, 2], memory[0, 4:] = number, number
        source = memory.clone().requires_grad_()
        out = module(x, source, mask)
        grads = torch.autograd.grad(out.square().sum(), [source, *module.parameters()])
        answers.append((out, module.weights(x, memory, mask), *grads))
    for clean, poisoned in zip(*answers, strict=True):
        torch.testing.assert_close(poisoned, clean)
    assert (answers[1][2][0, 4:] == 0).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_sample_that_is_all_padding_reads_zeros_and_leaves_the_others_alone(dtype):
    module, (x, memory) = layer(dtype=dtype), inputs(dtype=dtype)
    out = module(x, memory, Lengths(torch.tensor([0, NK])))
    assert out.dtype == dtype
    torch.testing.assert_close(out[0], module.out_proj.bias.expand(NQ, D))
    torch.testing.assert_close(out[1:], module(x[1:], memory[1:]))
    grads = parameter_gradients(module, out[0].sum())
    assert all((grad == 0).all() for name, grad in grads.items() if name != "out_proj.bias")
    assert (grads["out_proj.bias"] == NQ).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_as_exact_as_its_projections(dtype):
    module, (x, memory) = layer(dtype=dtype), inputs(dtype=dtype)
    exact = copy.deepcopy(module).double()(x.double(), memory.double(), Lengths(LENGTHS))
    plain_q, plain_k, plain_v = (
        projection(source).reshape(B, -1, heads, D // H).transpose(1, 2)
        for projection, source, heads in (
            (module.q_proj, x, H),
            (module.k_proj, memory, HKV),
            (module.v_proj, memory, HKV),
        )
    )
    scores = plain_q @ plain_k.repeat_interleave(2, dim=1).mT / math.sqrt(D // H)
    scores = scores.masked_fill(~Lengths(LENGTHS).mask(B, NQ, NK), -math.inf)
    heads = scores.softmax(dim=-1) @ plain_v.repeat_interleave(2, dim=1)
    plain = module.out_proj(heads.transpose(1, 2).reshape(B, NQ, D))
    ours = module(x, memory, Lengths(LENGTHS))
    assert ours.dtype == dtype
    assert (ours - exact).abs().max() <= 2 * (plain - exact).abs().max()


def test_autocast_is_welcome():
    module, (x, memory) = layer(dtype=torch.float32), inputs(dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = module(x.bfloat16(), memory, Lengths(LENGTHS))
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.float(), module(x, memory, Lengths(LENGTHS)), rtol=0.1, atol=0.5)


def test_dropout_acts_after_the_output_projection_and_in_training_only():
    module, (x, memory) = layer(dropout=0.4), inputs()
    torch.manual_seed(3)
    trained = module(x, memory)
    plain = module.eval()(x, memory)
    kept = trained != 0
    assert 0.4 < kept.double().mean() < 0.8
    torch.testing.assert_close(trained[kept], plain[kept] / 0.6)


def test_how_attention_is_computed_is_an_argument():
    calls = []

    def attend(q, k, v, mask):
        calls.append((tuple(q.shape), tuple(k.shape), mask))
        return dense.attention(q, k, v, mask)

    (x, memory), mask = inputs(), Lengths(LENGTHS)
    torch.testing.assert_close(layer(attend=attend)(x, memory, mask), layer()(x, memory, mask), rtol=0, atol=0)
    assert calls == [((B, H, NQ, D // H), (B, HKV, NK, D // H), mask)]


def test_positions_mark_queries_and_keys_in_output_and_weights():
    def positions(q, k):
        return q + 1, k * torch.arange(k.shape[2])[:, None]

    plain, marked, (x, memory) = layer(), layer(positions=positions), inputs()
    remembered = plain.remember(memory)
    q, k = positions(plain.q_proj(x).reshape(B, NQ, H, D // H).transpose(1, 2), remembered.keys)
    heads = dense.attention(q, k, remembered.values)
    torch.testing.assert_close(marked(x, memory), plain.out_proj(heads.transpose(1, 2).reshape(B, NQ, D)))
    torch.testing.assert_close(marked.weights(x, memory), dense.attention_weights(q, k))


def test_a_layer_can_be_copied_and_its_weights_loaded_elsewhere():
    module, (x, memory) = layer(), inputs()
    other = layer(seed=9)
    other.load_state_dict(module.state_dict())
    for same in (copy.deepcopy(module), other):
        torch.testing.assert_close(same(x, memory), module(x, memory), rtol=0, atol=0)
    names = [f"{name}_proj.{part}" for name in ("q", "k", "v", "out") for part in ("weight", "bias")]
    assert list(module.state_dict()) == names


# Memory


def test_a_remembered_memory_stands_for_the_memory():
    module, (x, memory) = layer(), inputs()
    remembered, mask = module.remember(memory), Lengths(LENGTHS)
    torch.testing.assert_close(module(x, remembered, mask), module(x, memory, mask), rtol=0, atol=0)
    torch.testing.assert_close(module.weights(x, remembered, mask), module.weights(x, memory, mask), rtol=0, atol=0)


def test_a_memory_grows_by_appending():
    module, (x, memory) = layer(), inputs()
    past = None
    for i in range(NK):
        past = module.remember(memory[:, i : i + 1], past)
    torch.testing.assert_close(module(x, past), module(x, memory), rtol=0, atol=1e-12)
    beginning = module.remember(memory[:, :3])
    module.remember(memory[:, 3:], beginning)
    assert beginning.keys.shape == (B, HKV, 3, D // H)


def test_step_by_step_equals_all_at_once_under_a_causal_mask():
    module, (x, _) = layer(d_memory=None), inputs()
    at_once, past = module(x, mask=torch.ones(NQ, NQ, dtype=torch.bool).tril()), None
    for i in range(NQ):
        past = module.remember(x[:, i : i + 1], past)
        torch.testing.assert_close(module(x[:, i : i + 1], past), at_once[:, i : i + 1], rtol=0, atol=1e-12)


def test_reading_a_remembered_memory_projects_no_key_again():
    module, (x, memory) = layer(), inputs()
    calls = []
    for name in ("k_proj", "v_proj", "q_proj"):
        getattr(module, name).register_forward_hook(lambda *_, name=name: calls.append(name))
    remembered = module.remember(memory)
    for _ in range(3):
        module(x, remembered)
    assert calls == ["k_proj", "v_proj", "q_proj", "q_proj", "q_proj"]


# Cost


@pytest.mark.parametrize("masked", [False, True])
def test_forward_never_makes_the_weights(masked, made, monkeypatch):
    def forbidden(*_):
        raise AssertionError

    monkeypatch.setattr(multihead.dense, "attention_weights", forbidden)
    module = MultiHeadAttention(16, 2)
    x, memory = torch.randn(B, 101, 16), torch.randn(B, 103, 16)
    with made:
        module(x, memory, Lengths(torch.tensor([7, 103])) if masked else None)
    assert 0 < max(made.sizes) < 101 * 103
    assert not any(name for name in vars(module) if "weight" in name)


# Errors: each states the name, the rule and the value


@pytest.mark.parametrize(
    ("sizes", "options", "message"),
    [
        ((13, 3), {}, r"d_model \(13\) must be divisible by n_heads \(3\)"),
        ((12, 6), {"n_kv_heads": 4}, r"n_heads \(6\) must be divisible by n_kv_heads \(4\)"),
        ((12, 3), {"n_kv_heads": 6}, r"n_heads \(3\) must be divisible by n_kv_heads \(6\)"),
        ((12, 0), {}, "n_heads must be at least 1, got 0"),
        ((0, 3), {}, "d_model must be at least 1, got 0"),
        ((12, -3), {}, "n_heads must be at least 1, got -3"),
        ((12, 3), {"n_kv_heads": 0}, "n_kv_heads must be at least 1, got 0"),
        ((12, 3), {"d_memory": 0}, "d_memory must be at least 1, got 0"),
        ((12, 3), {"dropout": 1.5}, r"dropout .*between 0 and 1.*1\.5"),
    ],
)
def test_sizes_that_do_not_fit_are_refused_when_the_layer_is_made(sizes, options, message):
    with pytest.raises(ValueError, match=message):
        MultiHeadAttention(*sizes, **options)


def bad_calls(dtype):
    """List calls that must fail, as (arguments of forward, error, message)."""
    x, memory = inputs(dtype=dtype)
    other = torch.float32 if dtype != torch.float32 else torch.float64
    remembered = layer(dtype=dtype).remember(memory)
    return {
        "width of the memory": ((x, x), ValueError, r"memory must have the width 13, got shape \(2, 5, 66\)"),
        "width of x": ((memory, memory), ValueError, r"x must have the width 66, got shape \(2, 7, 13\)"),
        "no memory, d_memory != d_model": ((x,), ValueError, r"memory must have the width 13, got shape \(2, 5, 66\)"),
        "axes of x": ((x[0], memory), ValueError, r"x must have three axes.*got shape \(5, 66\)"),
        "axes of the memory": ((x, memory[0]), ValueError, r"memory must have three axes.*got shape \(7, 13\)"),
        "batch": ((x, memory[:1]), ValueError, r"memory must have the batch size of x \(2\), got 1"),
        "batch remembered": ((x[:1], remembered), ValueError, r"memory must hold .*\(1, 3, 11\), got \(2, 3, 11\)"),
        "no tensor": ((x, [1.0]), TypeError, "memory must be a tensor, got list"),
        "dtype": ((x.to(other), memory), TypeError, f"x must have the dtype of the layer .{dtype}., got {other}"),
        "float mask": ((x, memory, torch.ones(NQ, NK)), TypeError, r"mask must be a boolean.*torch\.float32"),
        "integer mask": ((x, memory, torch.ones(NQ, NK).int()), TypeError, r"mask must be a boolean.*torch\.int32"),
        "mask turned round": ((x, memory, torch.ones(NK, NQ) > 0), ValueError, r"\(2, 6, 5, 7\), got shape \(7, 5\)"),
        "mask without axes": ((x, memory, torch.ones(B, NK) > 0), ValueError, r"\(2, 6, 5, 7\), got shape \(2, 7\)"),
        "mask of a larger batch": (
            (x, memory, torch.ones(3, 1, 1, NK) > 0),
            ValueError,
            r"mask must broadcast to the scores \(B, H, Nq, Nk\) = \(2, 6, 5, 7\), got shape \(3, 1, 1, 7\)",
        ),
        "length": ((x, memory, Lengths(torch.tensor([3, 8]))), ValueError, r"between 0 and Nk \(7\), got 8"),
        "lengths": ((x, memory, Lengths(torch.tensor([3]))), ValueError, r"one length per sample \(B = 2\), got 1"),
    }


@pytest.mark.usefixtures("shapes_unchecked")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bad", bad_calls(torch.float32))
@pytest.mark.parametrize("method", ["forward", "weights"])
def test_a_bad_call_is_told_the_name_the_rule_and_the_value(method, bad, dtype):
    arguments, error, message = bad_calls(dtype)[bad]
    with pytest.raises(error, match=message):
        getattr(layer(dtype=dtype), method)(*arguments)


@pytest.mark.usefixtures("shapes_unchecked")
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_past_that_does_not_fit_is_refused(dtype):
    module, (x, memory) = layer(dtype=dtype), inputs(dtype=dtype)
    with pytest.raises(ValueError, match=r"past must hold keys of .*\(1, 3, 11\), got \(2, 3, 11\)"):
        module.remember(memory[:1], module.remember(memory))
    with pytest.raises(ValueError, match=r"past must hold keys of .*\(2, 3, 11\), got \(2, 6, 11\)"):
        module.remember(memory, layer(dtype=dtype, n_kv_heads=H).remember(memory))
    with pytest.raises(ValueError, match=r"memory must have the width 13, got shape \(2, 5, 66\)"):
        module.remember(x)


def test_the_shapes_in_the_signature_are_executed():
    module, (x, memory) = layer(), inputs()
    with pytest.raises(TypeCheckError):
        module(x, memory[:1])
    with pytest.raises(TypeCheckError):
        Memory(memory, memory)
