"""The encoder-decoder: against torch's own, step by step against at once, beams on one memory, errors."""

import math

import pytest
import torch
from torch import nn

from crossattn_ref.attention.multihead import MultiHeadAttention
from crossattn_ref.models.blocks import sinusoidal_positions
from crossattn_ref.models.translation import Translator, TranslatorConfig

B, NK, NQ, SRC, TGT, D, H, DFF, WIDTH = 3, 7, 5, 37, 41, 22, 11, 13, 2
LENGTHS = torch.tensor([NK, 4, 1])


def translator(seed=0, **options):
    torch.manual_seed(seed)
    sizes = {"n_src_tokens": SRC, "n_tgt_tokens": TGT, "d_model": D, "n_heads": H, "d_ff": DFF, "dropout": 0.0}
    model = Translator(TranslatorConfig(**(sizes | {"n_encoder_layers": 2, "n_decoder_layers": 3} | options))).double()
    for name, parameter in model.named_parameters():
        if "bias" in name or "norm" in name:  # as drawn they are 0 and 1, which would hide their absence
            parameter.data += 0.3 * torch.randn_like(parameter)
    return model


def sentences(seed=1):
    generator = torch.Generator().manual_seed(seed)
    src = torch.randint(SRC, (B, NK), generator=generator)
    return src, torch.randint(TGT, (B, NQ), generator=generator)


# Against torch.nn.Transformer


def torchs(model):
    """Build nn.Transformer with the same weights: True = masked there, and its last norms only where we have them."""
    config = model.config
    options = {"dropout": 0.0, "activation": config.activation, "batch_first": True, "norm_first": config.norm == "pre"}
    encoder = nn.TransformerEncoder(
        nn.TransformerEncoderLayer(D, H, DFF, **options), 2, nn.LayerNorm(D), enable_nested_tensor=False
    )
    theirs = nn.Transformer(D, H, 0, 3, DFF, custom_encoder=encoder, **options).double()
    for ours, layers in ((model.encoder, theirs.encoder.layers), (model.decoder, theirs.decoder.layers)):
        for one, other in zip(ours, layers, strict=True):
            _copy_layer(one, other)
    if config.norm == "pre":
        theirs.encoder.norm.load_state_dict(model.encoder_norm.state_dict())
        theirs.decoder.norm.load_state_dict(model.decoder_norm.state_dict())
    else:
        theirs.encoder.norm = theirs.decoder.norm = None
    return theirs


def _copy_layer(ours, theirs):
    pairs = [(ours.self_attention, theirs.self_attn, ours.around_self_attention, theirs.norm1)]
    norms = [(ours.around_feed_forward, theirs.norm3 if hasattr(theirs, "norm3") else theirs.norm2)]
    if hasattr(theirs, "multihead_attn"):
        pairs.append((ours.cross_attention, theirs.multihead_attn, ours.around_cross_attention, theirs.norm2))
    for attention, other, around, norm in pairs:
        norms.append((around, norm))
        projections = attention.q_proj, attention.k_proj, attention.v_proj
        other.in_proj_weight.data = torch.cat([projection.weight.data for projection in projections])
        other.in_proj_bias.data = torch.cat([projection.bias.data for projection in projections])
        other.out_proj.load_state_dict(attention.out_proj.state_dict())
    for around, norm in norms:
        norm.load_state_dict(around.layer_norm.state_dict())
    theirs.linear1.load_state_dict(ours.feed_forward.inner.state_dict())
    theirs.linear2.load_state_dict(ours.feed_forward.outer.state_dict())


@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_logits_equal_those_of_torchs_transformer_with_the_same_weights(norm, activation):
    model, (src, tgt) = translator(norm=norm, activation=activation), sentences()
    hidden = torch.arange(NK) >= LENGTHS[:, None]
    x, y = (
        embedding.tokens.weight[tokens] * math.sqrt(D) + sinusoidal_positions(tokens.shape[1], D)
        for embedding, tokens in ((model.src_embedding, src), (model.tgt_embedding, tgt))
    )
    later = torch.ones(NQ, NQ, dtype=torch.bool).triu(1)
    out = torchs(model)(x, y, tgt_mask=later, src_key_padding_mask=hidden, memory_key_padding_mask=hidden)
    expected = out @ model.tgt_embedding.tokens.weight.T + model.output.bias
    torch.testing.assert_close(model(src, LENGTHS, tgt), expected, rtol=0, atol=1e-6)  # positions are in float32


# Properties


def test_padding_and_neighbours_change_nothing():
    model, (src, tgt) = translator(), sentences()
    together = model(src, LENGTHS, tgt)
    for i, length in enumerate(LENGTHS.tolist()):
        alone = model(src[i : i + 1, :length], LENGTHS[i : i + 1], tgt[i : i + 1])
        torch.testing.assert_close(together[i : i + 1], alone, rtol=0, atol=1e-12)


def test_no_prediction_sees_its_answer_and_each_sees_the_source_and_what_came_before():
    model, (src, tgt) = translator(), sentences()
    logits, later, other = model(src, LENGTHS, tgt), tgt.clone(), src.clone()
    later[:, 3] = (later[:, 3] + 1) % TGT
    changed = (model(src, LENGTHS, later) - logits).abs().amax(dim=(0, 2))
    assert (changed[:3] == 0).all()
    assert (changed[3:] > 1e-6).all()
    other[:, 0] = (other[:, 0] + 1) % SRC
    assert ((model(other, LENGTHS, tgt) - logits).abs().amax(dim=2) > 1e-6).all()


def test_an_empty_sentence_is_read_as_nothing_and_translated_all_the_same():
    model, (src, tgt) = translator(), sentences()
    lengths = torch.tensor([NK, 0, 2])
    logits = model(src, lengths, tgt)
    assert logits.isfinite().all()
    torch.testing.assert_close(model(src.roll(1, dims=1), lengths, tgt)[1], logits[1], rtol=0, atol=1e-12)


@pytest.mark.parametrize("positions", ["sinusoidal", "learned"])
def test_the_order_of_the_source_matters(positions):
    model, (src, tgt) = translator(positions=positions), sentences()
    swapped = src[:, [1, 0, *range(2, NK)]]
    assert not torch.allclose(model(swapped, LENGTHS, tgt)[0], model(src, LENGTHS, tgt)[0], atol=1e-3)


def test_tied_and_shared_embeddings_are_one_matrix_and_count_once():
    tied = translator(n_src_tokens=TGT, shared=True)
    assert tied.output.weight is tied.tgt_embedding.tokens.weight is tied.src_embedding.tokens.weight
    untied = translator(n_src_tokens=TGT, tied=False)
    count = lambda model: sum(parameter.numel() for parameter in model.parameters())  # noqa: E731 (used twice)
    assert count(untied) - count(tied) == 2 * TGT * D


def test_weights_are_those_that_the_memory_is_read_with():
    """Cut the decoder open at one layer: the exact weights times the values are what its attention returns."""
    model, (src, tgt) = translator(n_cross_heads=1), sentences()
    memory, taken = model.encode(src, LENGTHS), []
    for layer in model.decoder:
        layer.cross_attention.register_forward_hook(lambda _, inputs, out: taken.append(out))
    model.decode(tgt, memory, LENGTHS)
    weights = model.cross_weights(tgt, memory, LENGTHS)
    assert [tuple(w.shape) for w in weights] == [(B, 1, NQ, NK)] * 3
    for layer, w, out in zip(model.decoder, weights, taken, strict=False):
        attention = layer.cross_attention
        expected = attention.out_proj(w[:, 0] @ attention.v_proj(memory))
        torch.testing.assert_close(out, expected, rtol=0, atol=1e-12)
        assert (w[1, ..., 4:] == 0).all()


# Step by step


@pytest.mark.parametrize("options", [{}, {"norm": "post"}, {"positions": "learned", "n_cross_heads": 2}])
def test_steps_give_what_the_whole_sentence_gives_for_every_beam(options):
    model, (src, tgt) = translator(**options), sentences()
    rows = torch.stack([tgt, tgt.flip(0)], dim=1).flatten(0, 1)  # (B * WIDTH, Nq)
    memory = model.encode(src, LENGTHS)
    expected = model.decode(rows, memory.repeat_interleave(WIDTH, 0), LENGTHS.repeat_interleave(WIDTH))
    state = model.start(memory, LENGTHS, width=WIDTH)
    for i in range(NQ):
        logits, state = model.step(rows[:, i], state)
        torch.testing.assert_close(logits, expected[:, i], rtol=0, atol=1e-12)


def test_chosen_rows_go_on_with_their_own_past_and_the_memory_stays_where_it_is():
    model, (src, tgt) = translator(), sentences()
    memory = model.encode(src, LENGTHS)
    _, state = model.step(tgt[:, 0], model.start(memory, LENGTHS))
    rows = torch.arange(B).repeat_interleave(3)
    wide = state.select(rows)
    assert all(one is other for one, other in zip(wide.memories, state.memories, strict=True))
    tokens = torch.tensor([5, 6, 7] * B)
    _, wide = model.step(tokens, wide)
    order = torch.tensor([2, 0, 0, 4, 4, 3, 8, 7, 6])
    logits, _ = model.step(torch.full((3 * B,), 9), wide.select(order))
    for row, before in enumerate(order.tolist()):
        i = before // 3
        whole = torch.tensor([[tgt[i, 0], tokens[before], 9]])
        expected = model.decode(whole, memory[i : i + 1], LENGTHS[i : i + 1])[0, -1]
        torch.testing.assert_close(logits[row], expected, rtol=0, atol=1e-12)


def test_sentences_that_are_done_can_leave():
    model, (src, tgt) = translator(), sentences()
    memory = model.encode(src, LENGTHS)
    _, state = model.step(tgt[:, 0].repeat_interleave(WIDTH), model.start(memory, LENGTHS, width=WIDTH))
    kept = torch.tensor([2, 1])
    tokens = torch.tensor([4, 5, 6, 7])
    logits, _ = model.step(tokens, state.keep(kept))
    for row, token in enumerate(tokens.tolist()):
        i = int(kept[row // WIDTH])
        expected = model.decode(torch.tensor([[tgt[i, 0], token]]), memory[i : i + 1], LENGTHS[i : i + 1])[0, -1]
        torch.testing.assert_close(logits[row], expected, rtol=0, atol=1e-12)


def test_the_source_is_projected_once_per_layer_however_many_steps_and_beams():
    model, (src, tgt) = translator(), sentences()
    memory, calls = model.encode(src, LENGTHS), []
    for layer in model.decoder:
        layer.cross_attention.k_proj.register_forward_hook(lambda _, inputs, out: calls.append(inputs[0].shape))
    state = model.start(memory, LENGTHS, width=WIDTH)
    for i in range(NQ):
        _, state = model.step(tgt[:, i].repeat_interleave(WIDTH), state)
    assert calls == [(B, NK, D)] * 3
    assert all(memory.keys.shape == (B, H, NK, D // H) for memory in state.memories)
    assert all(past.memory.keys.shape == (B, H, NQ * WIDTH, D // H) for past in state.pasts)


def test_attention_may_be_computed_another_way():
    calls = []

    def counted(q, k, v, mask=None):
        calls.append(k.shape)
        return torch.zeros(*q.shape[:-1], v.shape[-1], dtype=q.dtype)

    config = TranslatorConfig(n_src_tokens=SRC, n_tgt_tokens=TGT, d_model=D, n_heads=H)
    src, tgt = sentences()
    Translator(config, attend=counted)(src, LENGTHS, tgt)
    assert len(calls) == 2 + 2 * 2
    assert isinstance(Translator(config).decoder[0].cross_attention, MultiHeadAttention)


# Errors


def test_rows_of_another_sentence_are_refused():
    model, (src, _) = translator(), sentences()
    state = model.start(model.encode(src, LENGTHS), LENGTHS, width=WIDTH)
    for rows in ([0, 1, 2, 3, 4], [0, 2, 1, 3, 4, 5], [2, 3, 0, 1, 4, 5], []):
        with pytest.raises(ValueError, match="rows must give each of 3 sentences equally many of its own"):
            state.select(torch.tensor(rows, dtype=torch.int64))


@pytest.mark.parametrize("positions", ["sinusoidal", "learned"])
def test_a_sentence_longer_than_the_positions_is_refused_with_both_numbers(positions):
    model, (src, tgt) = translator(n_positions=5, positions=positions), sentences()
    with pytest.raises(ValueError, match=r"at most n_positions \(5\) tokens, got 7"):
        model.encode(src, LENGTHS)
    state = model.start(model.encode(src[:, :5], LENGTHS.clamp(max=5)), LENGTHS.clamp(max=5))
    for i in range(5):
        _, state = model.step(tgt[:, i], state)
    with pytest.raises(ValueError, match="got 6"):
        model.step(tgt[:, 0], state)


@pytest.mark.usefixtures("shapes_unchecked")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_src_tokens": 0}, "n_src_tokens must be at least 1, got 0"),
        ({"n_decoder_layers": 0}, "n_decoder_layers must be at least 1, got 0"),
        ({"shared": True}, "need one vocabulary .* got n_src_tokens = 37 and n_tgt_tokens = 41"),
        ({"activation": "tanh"}, "activation must be one of relu, gelu, silu, got 'tanh'"),
        ({"positions": "rotary"}, "positions must be .* got 'rotary'"),
        ({"norm": "none"}, "norm must be .* got 'none'"),
        ({"n_cross_heads": 3}, r"d_model \(22\) must be divisible by n_heads \(3\)"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        translator(**options)


def test_a_beam_of_no_width_is_refused():
    model, (src, _) = translator(), sentences()
    with pytest.raises(ValueError, match="width must be at least 1, got 0"):
        model.start(model.encode(src, LENGTHS), LENGTHS, width=0)
