"""The gallery: a text-conditioned denoiser, and a spectrogram encoder against Whisper's."""

import pytest
import torch

from crossattn_ref.models.blocks import LayerConfig, sinusoidal_positions
from crossattn_ref.models.gallery import Denoiser, SpectrogramEncoder

B, H, D, DM, F, T, NK = 2, 3, 66, 13, 11, 17, 7
CONFIG = LayerConfig(d_model=D, n_heads=H, d_memory=DM, d_ff=19, dropout=0.0)


def drawn(*shape, seed=1):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_the_denoiser_gives_a_picture_back_and_listens_to_level_and_real_words_alone():
    model = Denoiser(CONFIG, side=15, patch=5).eval()
    noisy, level, text = drawn(B, 3, 15, 15), torch.tensor([0.2, 0.7]), drawn(B, NK, DM, seed=2)
    real = torch.tensor([[True] * NK, [True] * 4 + [False] * 3])
    out = model(noisy, level, text, real)
    assert out.shape == noisy.shape
    torch.testing.assert_close(model(noisy[1:], level[1:], text[1:, :4]), out[1:])
    for other in (model(noisy, level + 0.1, text, real), model(noisy, level, text.flip(0), real)):
        assert (other - out).abs().amax(dim=(1, 2, 3)).min() > 1e-6


def test_what_the_denoiser_says_of_a_patch_lies_where_the_patch_lies():
    model = Denoiser(CONFIG, side=15, patch=5).eval()
    with torch.no_grad():
        model.out.weight.zero_()
        model.out.bias.copy_(torch.arange(75.0))
        out = model(drawn(1, 3, 15, 15), torch.zeros(1), drawn(1, NK, DM))[0]
    expected = torch.arange(75.0).reshape(3, 5, 5)
    for row in range(3):
        for column in range(3):
            tile = out[:, 5 * row : 5 * row + 5, 5 * column : 5 * column + 5]
            torch.testing.assert_close(tile, expected)


def test_a_few_steps_teach_the_denoiser_to_draw_what_the_text_says():
    """Two texts, two plain colours: after training, the guess depends on the text in the right direction."""
    torch.manual_seed(0)
    model = Denoiser(LayerConfig(d_model=16, n_heads=2, d_memory=2, d_ff=16, dropout=0.0), side=4, patch=2, n_layers=1)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    text = torch.eye(2)[:, None]  # two texts of one word
    clean = torch.stack([torch.ones(3, 4, 4), -torch.ones(3, 4, 4)])
    generator = torch.Generator().manual_seed(0)
    for _ in range(150):
        noise, level = torch.randn(2, 3, 4, 4, generator=generator), torch.rand(2, generator=generator)
        share = level[:, None, None, None]
        loss = (model((1 - share) * clean + share * noise, level, text) - noise).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    noise = torch.randn(1, 3, 4, 4, generator=generator).expand(2, -1, -1, -1)
    drawn_from_noise = noise - 0.9 * model(noise, torch.full((2,), 0.9), text)
    assert drawn_from_noise[0].mean() > drawn_from_noise[1].mean()


def test_the_spectrogram_encoder_equals_whispers():
    transformers = pytest.importorskip("transformers", reason="pip install crossattn-ref[parity]")
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    options = transformers.WhisperConfig(
        d_model=D, encoder_layers=1, encoder_attention_heads=H, encoder_ffn_dim=19, num_mel_bins=F, dropout=0.0,
        max_source_positions=9, activation_function="relu", decoder_layers=1, decoder_attention_heads=H,
    )  # fmt: skip
    theirs = WhisperEncoder(options).eval().double()
    ours = SpectrogramEncoder(LayerConfig(d_model=D, n_heads=H, d_ff=19, dropout=0.0), n_frequencies=F, n_layers=1)
    ours = ours.double()
    theirs.embed_positions.weight.data = sinusoidal_positions(9, D).double()
    layer, their = ours.layers[0], theirs.layers[0]
    with torch.no_grad():
        pairs = [(ours.first, theirs.conv1), (ours.second, theirs.conv2), (ours.norm, theirs.layer_norm)]
        pairs += [
            (getattr(layer.self_attention, name), getattr(their.self_attn, name))
            for name in ("q_proj", "k_proj", "v_proj", "out_proj")
        ]
        pairs += [
            (layer.around_self_attention.layer_norm, their.self_attn_layer_norm),
            (layer.around_feed_forward.layer_norm, their.final_layer_norm),
            (layer.feed_forward.inner, their.fc1),
            (layer.feed_forward.outer, their.fc2),
        ]
        for mine, other in pairs:
            mine.weight.copy_(other.weight)
            mine.bias.copy_(torch.zeros_like(mine.bias) if other.bias is None else other.bias)
    spectrogram = drawn(B, F, 18).double()
    torch.testing.assert_close(ours(spectrogram), theirs(spectrogram).last_hidden_state, rtol=0, atol=1e-10)


def test_an_odd_number_of_frames_is_rounded_up_and_another_number_of_frequencies_is_refused():
    model = SpectrogramEncoder(LayerConfig(d_model=D, n_heads=H, d_ff=19, dropout=0.0), n_frequencies=F)
    assert model(drawn(B, F, T)).shape == (B, 9, D)
    with pytest.raises(ValueError, match=r"spectrogram must be \(B, 11, T\)"):
        model(drawn(B, 10, T))


def test_a_side_that_patches_do_not_fill_is_refused():
    with pytest.raises(ValueError, match=r"side \(16\) must be a multiple of patch \(5\)"):
        Denoiser(CONFIG, side=16, patch=5)
