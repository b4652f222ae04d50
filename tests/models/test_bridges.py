"""Bridges: against Idefics' resampler and gated layer and BLIP-2's Q-Former, gates that are shut, masks by hand."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from crossattn_ref.models import bridges
from crossattn_ref.models.blocks import LayerConfig
from crossattn_ref.models.bridges import GatedLayer, LatentResampler, QFormer, media_mask

B, H, NQ, NK, L, D, DM = 2, 3, 5, 7, 4, 66, 13


def randomised(module, seed=0):
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator, dtype=torch.float64).mul(0.2)
    return module.double()


def drawn(*shape, seed=1):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def config(**options):
    return LayerConfig(**({"d_model": D, "n_heads": H, "d_ff": 4 * D, "dropout": 0.0} | options))


REAL = torch.tensor([[True] * NK, [True] * 4 + [False] * 3])


def copy(pairs):
    for ours, theirs in pairs:
        ours.weight.data = theirs.weight.data.clone()
        if ours.bias is not None:
            ours.bias.data = torch.zeros_like(ours.bias) if theirs.bias is None else theirs.bias.data.clone()


def test_the_resampler_equals_that_of_idefics():
    idefics = pytest.importorskip("transformers.models.idefics.perceiver", reason="pip install crossattn-ref[parity]")
    from transformers import IdeficsConfig

    options = IdeficsConfig(vision_config={"embed_dim": D}, perceiver_config={"qk_layer_norms_perceiver": False})
    theirs = randomised(idefics.IdeficsPerceiverResampler(options, D, depth=2, n_heads=H, head_dim=D // H, n_latents=L))
    ours = LatentResampler(config(), n_latents=L, n_layers=2).double()
    ours.latents.data = theirs.latents.data.clone()
    copy([(ours.norm, theirs.layer_norm)])
    for layer, (attention, mlp) in zip(ours.layers, theirs.blocks, strict=True):
        copy([
            (layer.memory_norm, attention.context_layer_norm),
            (layer.latents_norm, attention.latents_layer_norm),
            (layer.attention.q_proj, attention.q_proj),
            (layer.attention.k_proj, attention.k_proj),
            (layer.attention.v_proj, attention.v_proj),
            (layer.attention.out_proj, attention.output_proj),
            (layer.around_feed_forward.layer_norm, mlp.ln),
            (layer.feed_forward.inner, mlp.fc),
            (layer.feed_forward.outer, mlp.c_proj),
        ])  # fmt: skip
    memory = drawn(B, NK, D)
    torch.testing.assert_close(ours(memory), theirs(memory), rtol=0, atol=1e-11)


def test_hiding_rows_of_a_memory_equals_deleting_them_and_nothing_seen_is_no_nan():
    for make in (
        LatentResampler(config(d_memory=DM), n_latents=L, n_layers=2),
        QFormer(config(d_memory=DM), n_queries=L, n_layers=2),
    ):
        ours, memory = randomised(make), drawn(B, NK, DM)
        out = ours(memory, REAL)
        assert out.shape == (B, L, D)
        torch.testing.assert_close(out[1:], ours(memory[1:, :4]))
        nothing = ours(memory, torch.zeros_like(REAL))
        torch.testing.assert_close(nothing, ours(drawn(B, NK, DM, seed=9), torch.zeros_like(REAL)))
        assert nothing.isfinite().all()


@pytest.mark.parametrize("n", [1, NK, 101])
def test_a_memory_of_any_length_is_summed_up_in_as_many_rows(n):
    assert LatentResampler(config(), n_latents=L)(torch.randn(B, n, D)).shape == (B, L, D)


def test_the_q_former_equals_that_of_blip_2():
    transformers = pytest.importorskip("transformers", reason="pip install crossattn-ref[parity]")
    options = transformers.Blip2QFormerConfig(
        hidden_size=D, num_hidden_layers=2, num_attention_heads=H, intermediate_size=17, encoder_hidden_size=DM,
        cross_attention_frequency=1, hidden_act="gelu", layer_norm_eps=1e-5, vocab_size=19,
    )  # fmt: skip
    from transformers.models.blip_2.modeling_blip_2 import Blip2QFormerModel

    theirs = randomised(Blip2QFormerModel(options).eval())
    ours = QFormer(config(d_memory=DM, d_ff=17, activation=functional.gelu), n_queries=L, n_layers=2).double()
    copy([(ours.norm, theirs.layernorm)])
    for layer, their in zip(ours.layers, theirs.encoder.layer, strict=True):
        for mine, other in ((layer.self_attention, their.attention), (layer.cross_attention, their.crossattention)):
            inner = other.attention
            copy([(mine.q_proj, inner.query), (mine.k_proj, inner.key), (mine.v_proj, inner.value)])
            copy([(mine.out_proj, other.output.dense)])
        copy([
            (layer.around_self_attention.layer_norm, their.attention.output.LayerNorm),
            (layer.around_cross_attention.layer_norm, their.crossattention.output.LayerNorm),
            (layer.around_feed_forward.layer_norm, their.output_query.LayerNorm),
            (layer.feed_forward.inner, their.intermediate_query.dense),
            (layer.feed_forward.outer, their.output_query.dense),
        ])  # fmt: skip
    memory, queries = drawn(B, NK, DM), drawn(L, D, seed=2)
    ours.queries.data = queries
    expected = theirs(
        query_embeds=queries.expand(B, -1, -1), encoder_hidden_states=memory, encoder_attention_mask=REAL.long()
    )
    torch.testing.assert_close(ours(memory, REAL), expected.last_hidden_state, rtol=0, atol=1e-11)


def test_the_gated_layer_equals_that_of_idefics_with_our_norms_and_feed_forward():
    modeling = pytest.importorskip("transformers.models.idefics.modeling_idefics")
    from transformers import IdeficsConfig

    options = IdeficsConfig(
        hidden_size=D, num_attention_heads=H, intermediate_size=17, qk_layer_norms=False, dropout=0.0,
        vision_config={"embed_dim": DM}, alpha_type="float", alpha_initializer="ones",
    )  # fmt: skip
    options._attn_implementation = "eager"
    ours = randomised(GatedLayer(config(d_memory=DM, d_ff=17)))
    theirs = modeling.IdeficsGatedCrossAttentionLayer(options, layer_idx=0).eval()
    theirs.input_layernorm, theirs.post_attention_layernorm = nn.LayerNorm(D), nn.LayerNorm(D)
    theirs.mlp = ours.feed_forward
    theirs = randomised(theirs)
    for name in ("q_proj", "k_proj", "v_proj"):
        copy([(getattr(ours.attention, name), getattr(theirs.cross_attn, name))])
    copy([(ours.attention.out_proj, theirs.cross_attn.o_proj), (ours.attention_norm, theirs.input_layernorm)])
    copy([(ours.feed_forward_norm, theirs.post_attention_layernorm)])
    ours.attention_gate.data = theirs.alpha_cross_attn.data[0].clone()
    ours.feed_forward_gate.data = theirs.alpha_dense.data[0].clone()
    x, media = drawn(B, NQ, D), drawn(B, NK, DM, seed=2)
    is_image = torch.tensor([[False, True, False, True, False], [False, False, True, False, False]])
    seen = media_mask(is_image, n_images=7, n_latents=1)
    additive = torch.zeros(seen.shape, dtype=torch.float64).masked_fill(~seen, torch.finfo(torch.float64).min)
    expected = theirs(
        x, image_hidden_states=media, image_attention_mask=additive, cross_attention_gate=seen.any(-1)[:, 0].long()
    )
    torch.testing.assert_close(ours(x, media, seen), expected, rtol=0, atol=1e-11)


def test_a_shut_gate_is_the_identity_and_only_the_gates_get_a_gradient():
    layer = GatedLayer(config(d_memory=DM)).double()
    x, media = drawn(B, NQ, D).requires_grad_(), drawn(B, NK, DM)
    out = layer(x, media)
    assert torch.equal(out, x)
    out.pow(3).sum().backward()
    with_gradient = {name for name, p in layer.named_parameters() if p.grad is not None and p.grad.any()}
    assert with_gradient == {"attention_gate", "feed_forward_gate"}


def test_a_word_before_every_picture_is_only_thought_about():
    layer, x = randomised(GatedLayer(config(d_memory=DM))), drawn(B, NQ, D)
    mask = media_mask(torch.tensor([[False, False, True, False, False]] * B), n_images=1, n_latents=NK)
    before, after = layer(x, drawn(B, NK, DM), mask), layer(x, drawn(B, NK, DM, seed=5), mask)
    torch.testing.assert_close(before[:, :2], after[:, :2], rtol=0, atol=0)
    assert (before[:, 2:] - after[:, 2:]).abs().amax(-1).min() > 1e-6
    thought = x + layer.feed_forward_gate.tanh() * layer.feed_forward(layer.feed_forward_norm(x))
    torch.testing.assert_close(before[:, :2], thought[:, :2])


def test_a_media_mask_is_worked_out_by_hand():
    text = torch.tensor([[False, True, False, True, False], [False] * 5])
    mask = media_mask(text, n_images=2, n_latents=3)
    assert mask.shape == (2, 1, 5, 6)
    rows = ["......", "xxx...", "xxx...", "...xxx", "...xxx"]
    assert ["".join("x" if seen else "." for seen in row) for row in mask[0, 0].tolist()] == rows
    assert not mask[1].any()


def test_more_images_than_there_is_room_for_and_sizes_below_one_are_refused():
    with pytest.raises(ValueError, match=r"n_images \(1\) must be at least the images of a text, and one has 2"):
        media_mask(torch.tensor([[True, True]]), n_images=1, n_latents=1)
    with pytest.raises(ValueError, match="n_latents must be at least 1, got 0"):
        LatentResampler(config(), n_latents=0)
    with pytest.raises(ValueError, match="n_layers must be at least 1, got 0"):
        QFormer(config(), n_queries=1, n_layers=0)
    assert bridges.ResamplerLayer(config())(torch.zeros(B, L, D), torch.zeros(B, NK, D)).shape == (B, L, D)
