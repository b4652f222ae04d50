"""The same numbers as the modules that people use, with weights copied across, on rectangular shapes with padding."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from crossattn_ref.attention.dense import attention
from crossattn_ref.attention.inputs import Lengths
from crossattn_ref.attention.multihead import MultiHeadAttention
from crossattn_ref.models.blocks import DecoderLayer, EncoderLayer, LayerConfig

B, H, NQ, NK, D, DM, DFF = 2, 3, 5, 7, 66, 13, 17
PRECISIONS = pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
SRC_LENGTHS, TGT_LENGTHS = torch.tensor([4, NK]), torch.tensor([NQ, 3])
CAUSAL = torch.ones(NQ, NQ, dtype=torch.bool).tril()
MAY_LOOK = torch.tensor(  # (Nq, Nk), with no row and no column that is all True or all False
    [[i + 1 != j and (i * j) % 3 != 1 for j in range(NK)] for i in range(NQ)]
)


def randomised(module, dtype, seed=0):
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator, dtype=torch.float64).mul(0.2).to(dtype)
    return module.to(dtype)


def inputs(dtype, width=DM):
    generator = torch.Generator().manual_seed(1)
    shapes = (B, NQ, D), (B, NK, width)
    return [torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for shape in shapes]


def padded(lengths, n):
    """Build the opposite of our polarity: True = padding, do not look. (B, n)."""
    return torch.arange(n) >= lengths[:, None]


def copy_linear(ours, weight, bias):
    ours.weight.data = weight.data.clone()
    ours.bias.data = torch.zeros_like(ours.bias) if bias is None else bias.data.clone()


def copy_torchs_attention(ours, theirs):
    packed = theirs.in_proj_weight
    parts = (
        packed.chunk(3) if packed is not None else (theirs.q_proj_weight, theirs.k_proj_weight, theirs.v_proj_weight)
    )
    projections = ours.q_proj, ours.k_proj, ours.v_proj
    for projection, weight, bias in zip(projections, parts, theirs.in_proj_bias.chunk(3), strict=True):
        copy_linear(projection, weight, bias)
    copy_linear(ours.out_proj, theirs.out_proj.weight, theirs.out_proj.bias)


def copy_norms(pairs):
    for around, theirs in pairs:
        around.layer_norm.load_state_dict(theirs.state_dict())


def assert_same(ours, theirs, tolerance, wanted):
    """Compare two outputs, and their gradients with respect to what is wanted."""
    torch.testing.assert_close(ours, theirs, rtol=0, atol=tolerance)
    grads = [torch.autograd.grad(out.square().sum(), wanted) for out in (ours, theirs)]
    for mine, other in zip(*grads, strict=True):
        torch.testing.assert_close(mine, other, rtol=10 * tolerance, atol=100 * tolerance)


# torch.nn.MultiheadAttention: True = masked


@PRECISIONS
@pytest.mark.parametrize("width", [DM, D])
@pytest.mark.parametrize("mask", ["none", "padding", "attention", "both"])
def test_multihead_attention_equals_torchs_whose_masks_say_the_opposite(mask, width, dtype, tolerance):
    ours = MultiHeadAttention(D, H, d_memory=width).to(dtype)
    theirs = randomised(nn.MultiheadAttention(D, H, kdim=width, vdim=width, batch_first=True), dtype)
    copy_torchs_attention(ours, theirs)
    x, memory = (tensor.requires_grad_() for tensor in inputs(dtype, width))
    may_look, options = None, {}
    if mask in ("padding", "both"):
        may_look = ~padded(SRC_LENGTHS, NK)[:, None, None]
        options["key_padding_mask"] = padded(SRC_LENGTHS, NK)
    if mask in ("attention", "both"):
        may_look = MAY_LOOK if may_look is None else MAY_LOOK & may_look
        options["attn_mask"] = ~MAY_LOOK
    out, weights = theirs(x, memory, memory, average_attn_weights=False, **options)
    assert_same(ours(x, memory, may_look), out, tolerance, (x, memory))
    torch.testing.assert_close(ours.weights(x, memory, may_look), weights, rtol=0, atol=tolerance)
    fast, _ = theirs(x, memory, memory, need_weights=False, **options)
    torch.testing.assert_close(ours(x, memory, may_look), fast, rtol=0, atol=tolerance)


@PRECISIONS
def test_self_attention_equals_torchs_fast_path(dtype, tolerance, monkeypatch):
    native, calls = torch._native_multi_head_attention, []
    monkeypatch.setattr(torch, "_native_multi_head_attention", lambda *args: calls.append(args) or native(*args))
    ours = MultiHeadAttention(36, 4).to(dtype)  # the fast path wants an even number of heads
    theirs = randomised(nn.MultiheadAttention(36, 4, batch_first=True), dtype).eval()
    copy_torchs_attention(ours, theirs)
    x = torch.randn(B, NQ, 36, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(dtype)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x, x, x, need_weights=False)[0], rtol=0, atol=tolerance)
    assert len(calls) == 1


# F.scaled_dot_product_attention: True = may look, as here


@PRECISIONS
@pytest.mark.parametrize("n_kv_heads", [1, 2, 3, 6])
@pytest.mark.parametrize("masked", [False, True])
def test_grouped_heads_equal_torchs(masked, n_kv_heads, dtype, tolerance):
    generator = torch.Generator().manual_seed(2)
    shapes = (B, 6, NQ, 11), (B, n_kv_heads, NK, 11), (B, n_kv_heads, NK, 11)
    q, k, v = (torch.randn(s, generator=generator, dtype=torch.float64).to(dtype).requires_grad_() for s in shapes)
    mask = MAY_LOOK & ~padded(SRC_LENGTHS, NK)[:, None, None] if masked else None
    theirs = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)
    assert_same(attention(q, k, v, mask), theirs, tolerance, (q, k, v))


# torch.nn.TransformerEncoderLayer and DecoderLayer


def torch_options(norm):
    return {"dim_feedforward": DFF, "dropout": 0.0, "batch_first": True, "norm_first": norm == "pre"}


def config(norm, **options):
    return LayerConfig(**({"d_model": D, "n_heads": H, "d_ff": DFF, "dropout": 0.0, "norm": norm} | options))


def copy_torchs_layer(ours, theirs):
    copy_torchs_attention(ours.self_attention, theirs.self_attn)
    copy_linear(ours.feed_forward.inner, theirs.linear1.weight, theirs.linear1.bias)
    copy_linear(ours.feed_forward.outer, theirs.linear2.weight, theirs.linear2.bias)
    if hasattr(theirs, "multihead_attn"):
        copy_torchs_attention(ours.cross_attention, theirs.multihead_attn)
        arounds = ours.around_self_attention, ours.around_cross_attention, ours.around_feed_forward
        copy_norms(zip(arounds, (theirs.norm1, theirs.norm2, theirs.norm3), strict=True))
    else:
        copy_norms([(ours.around_self_attention, theirs.norm1), (ours.around_feed_forward, theirs.norm2)])


@PRECISIONS
@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.parametrize("masked", [False, True])
def test_an_encoder_layer_equals_torchs(masked, norm, dtype, tolerance):
    theirs = randomised(nn.TransformerEncoderLayer(D, H, **torch_options(norm)), dtype)
    ours = EncoderLayer(config(norm)).to(dtype)
    copy_torchs_layer(ours, theirs)
    x = inputs(dtype)[0].requires_grad_()
    mask, options = None, {}
    if masked:
        mask = ~padded(TGT_LENGTHS, NQ)[:, None, None] & CAUSAL
        options = {"src_key_padding_mask": padded(TGT_LENGTHS, NQ), "src_mask": ~CAUSAL}
    assert_same(ours(x, mask), theirs(x, **options), tolerance, (x,))


@PRECISIONS
@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.parametrize("masked", [False, True])
def test_a_decoder_layer_equals_torchs(masked, norm, dtype, tolerance):
    theirs = randomised(nn.TransformerDecoderLayer(D, H, **torch_options(norm)), dtype)
    ours = DecoderLayer(config(norm)).to(dtype)
    copy_torchs_layer(ours, theirs)
    x, memory = (tensor.requires_grad_() for tensor in inputs(dtype, D))
    masks, options = (), {}
    if masked:
        masks = ~padded(TGT_LENGTHS, NQ)[:, None, None] & CAUSAL, Lengths(SRC_LENGTHS)
        options = {
            "tgt_mask": ~CAUSAL,
            "tgt_key_padding_mask": padded(TGT_LENGTHS, NQ),
            "memory_key_padding_mask": padded(SRC_LENGTHS, NK),
        }
    assert_same(ours(x, memory, *masks), theirs(x, memory, **options), tolerance, (x, memory))


# transformers: Marian (post-norm) and Whisper (pre-norm), from random weights


@pytest.fixture
def marian():
    transformers = pytest.importorskip("transformers", reason="pip install crossattn-ref[parity]")
    heads = {"encoder_attention_heads": H, "decoder_attention_heads": H}
    sizes = {"d_model": D, "encoder_ffn_dim": DFF, "decoder_ffn_dim": DFF, "encoder_layers": 1, "decoder_layers": 1}
    rest = {"vocab_size": 23, "pad_token_id": 22, "decoder_start_token_id": 22, "eos_token_id": 0}
    options = {"activation_function": "relu", "max_position_embeddings": 19}
    return transformers.MarianModel(transformers.MarianConfig(**heads, **sizes, **rest, **options)).eval()


@pytest.fixture
def whisper():
    transformers = pytest.importorskip("transformers", reason="pip install crossattn-ref[parity]")
    heads = {"encoder_attention_heads": H, "decoder_attention_heads": H}
    sizes = {"d_model": D, "encoder_ffn_dim": DFF, "decoder_ffn_dim": DFF, "encoder_layers": 1, "decoder_layers": 1}
    rest = {"vocab_size": 23, "num_mel_bins": 11, "max_source_positions": NK, "max_target_positions": 19}
    tokens = {"pad_token_id": 22, "bos_token_id": 21, "eos_token_id": 20, "decoder_start_token_id": 19}
    options = {"activation_function": "relu"}
    return transformers.WhisperModel(transformers.WhisperConfig(**heads, **sizes, **rest, **tokens, **options)).eval()


def watched(module, model, **inputs):
    """Run a model and return what one of its modules was given and what it answered."""
    seen = []
    hook = module.register_forward_hook(lambda _, args, kwargs, out: seen.append((args, kwargs, out)), with_kwargs=True)
    model(**inputs)
    hook.remove()
    return seen[0]


def copy_hugging_face_attention(ours, theirs):
    for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
        projection = getattr(theirs, name)
        copy_linear(getattr(ours, name), projection.weight, projection.bias)


def copy_hugging_face_layer(ours, theirs):
    copy_hugging_face_attention(ours.self_attention, theirs.self_attn)
    copy_hugging_face_attention(ours.cross_attention, theirs.encoder_attn)
    copy_linear(ours.feed_forward.inner, theirs.fc1.weight, theirs.fc1.bias)
    copy_linear(ours.feed_forward.outer, theirs.fc2.weight, theirs.fc2.bias)
    arounds = ours.around_self_attention, ours.around_cross_attention, ours.around_feed_forward
    norms = theirs.self_attn_layer_norm, theirs.encoder_attn_layer_norm, theirs.final_layer_norm
    copy_norms(zip(arounds, norms, strict=True))


def assert_layer_is_ours(model, norm, dtype, tolerance, mask, **model_inputs):
    """Compare cross-attention and the whole decoder layer, on what the model itself hands them."""
    theirs = model.decoder.layers[0]
    cross, layer = MultiHeadAttention(D, H).to(dtype), DecoderLayer(config(norm)).to(dtype)
    copy_hugging_face_attention(cross, theirs.encoder_attn)
    copy_hugging_face_layer(layer, theirs)
    args, kwargs, (out, _) = watched(theirs.encoder_attn, model, **model_inputs)
    memory = kwargs["key_value_states"]
    assert memory.shape == (B, NK, D)
    torch.testing.assert_close(cross(args[0], memory, mask), out, rtol=0, atol=tolerance)
    args, _, out = watched(theirs, model, **model_inputs)
    torch.testing.assert_close(layer(args[0], memory, CAUSAL, mask), out, rtol=0, atol=tolerance)


@PRECISIONS
@pytest.mark.parametrize("attend", ["eager", "sdpa"])
def test_cross_attention_and_decoder_layer_equal_marians(marian, attend, dtype, tolerance):
    randomised(marian, dtype).set_attn_implementation(attend)
    generator = torch.Generator().manual_seed(3)
    source, target = (torch.randint(0, 20, (B, n), generator=generator) for n in (NK, NQ))
    attention_mask = (~padded(SRC_LENGTHS, NK)).long()  # 1 = may look: ours, as integers
    inputs = {"input_ids": source, "attention_mask": attention_mask, "decoder_input_ids": target}
    assert_layer_is_ours(marian, "post", dtype, tolerance, Lengths(SRC_LENGTHS), **inputs)


@PRECISIONS
@pytest.mark.parametrize("attend", ["eager", "sdpa"])
def test_cross_attention_and_decoder_layer_equal_whispers(whisper, attend, dtype, tolerance):
    randomised(whisper, dtype).set_attn_implementation(attend)
    generator = torch.Generator().manual_seed(3)
    features = torch.randn(B, 11, 2 * NK, generator=generator, dtype=torch.float64).to(dtype)
    target = torch.randint(0, 19, (B, NQ), generator=generator)
    inputs = {"input_features": features, "decoder_input_ids": target}
    assert_layer_is_ours(whisper, "pre", dtype, tolerance, None, **inputs)
