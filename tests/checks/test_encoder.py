"""The exercises of the assignment "encoder": against torch's own layer, and what a learner reads."""

import secrets

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from crossattn_ref.checks import examine, reference
from crossattn_ref.checks.encoder_layer import _case, _padded, _seen
from crossattn_ref.checks.tensors import drawn_state
from crossattn_ref.checks.variants.encoder import EncoderLayer, Parts
from crossattn_ref.models import blocks

SEED = secrets.randbelow(2**32)
CONFIG = {"d_model": 15, "n_heads": 3, "d_ff": 7}


def said(report):
    """What a report says, whatever its line breaks."""
    return " ".join(str(report).split())


def torchs_own(layer, pre):
    """The same weights in torch's encoder layer, whose boolean masks mean the opposite of ours."""
    d_model, n_heads, d_ff = layer.self_attention_norm.bias.numel(), layer.self_attention.n_heads, layer.feed_forward[0]
    own = nn.TransformerEncoderLayer(
        d_model, n_heads, d_ff.out_features, dropout=0.0, batch_first=True, norm_first=pre, dtype=d_ff.weight.dtype
    )
    attention = layer.self_attention
    projections = (attention.q_proj, attention.k_proj, attention.v_proj)
    with torch.no_grad():
        own.self_attn.in_proj_weight.copy_(torch.cat([p.weight for p in projections]))
        own.self_attn.in_proj_bias.copy_(torch.cat([p.bias for p in projections]))
    for mine, theirs in (
        (attention.out_proj, own.self_attn.out_proj),
        (layer.self_attention_norm, own.norm1),
        (layer.feed_forward_norm, own.norm2),
        (layer.feed_forward[0], own.linear1),
        (layer.feed_forward[2], own.linear2),
    ):
        theirs.load_state_dict(mine.state_dict())
    return own


def loaded(make, dtype=torch.float64):
    layer = make(**CONFIG).to(dtype)
    state = drawn_state(Parts(**CONFIG), np.random.default_rng(SEED))
    layer.load_state_dict({name: torch.from_numpy(array).to(dtype) for name, array in state.items()})
    return layer


@pytest.mark.parametrize("make", [reference("encoder/EncoderLayer"), EncoderLayer], ids=["reference", "stages"])
def test_the_right_encoder_layer_is_torchs_own_with_the_norm_first(make):
    layer = loaded(make)
    x = torch.from_numpy(np.random.default_rng(SEED).standard_normal((2, 5, 15)))
    words = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    expected = torchs_own(layer, pre=True)(x, src_key_padding_mask=~words)
    torch.testing.assert_close(layer(x, words[:, None, None]), expected, rtol=0, atol=1e-12)


class Given(Parts):
    """What the learners of these tests start from."""


def test_torchs_own_layer_with_the_norm_last_is_told_that_it_is_post_norm():
    class PostNorm(Given):
        def forward(self, x, mask=None):
            h = self.self_attention_norm(x + self.self_attention(x, mask=mask))
            return self.feed_forward_norm(h + self.feed_forward(h))

    layer = loaded(PostNorm)
    x = torch.from_numpy(np.random.default_rng(SEED).standard_normal((2, 5, 15)))
    torch.testing.assert_close(layer(x), torchs_own(layer, pre=False)(x), rtol=0, atol=1e-12)
    report = examine("encoder/EncoderLayer", PostNorm, SEED)
    assert [mistake.name for mistake in report.diagnosis] == ["post-norm"]
    assert "which is post-norm" in said(report)


def test_an_answer_that_adds_in_place_is_told_that_it_writes_into_its_input():
    class InPlace(Given):
        def forward(self, x, mask=None):
            x += self.self_attention(self.self_attention_norm(x), mask=mask)
            x += self.feed_forward(self.feed_forward_norm(x))
            return x

    report = examine("encoder/EncoderLayer", InPlace, SEED)
    assert report.score == 0
    assert "it writes into its input" in said(report)


def test_an_answer_without_gradients_is_told_so_and_keeps_the_rest():
    class NoGradient(EncoderLayer):
        @torch.no_grad()
        def forward(self, x, mask=None):
            return super().forward(x, mask)

    report = examine("encoder/EncoderLayer", NoGradient, SEED)
    assert [finding.property for finding in report.findings if not finding.passed] == [
        "gradients reach x and every parameter"
    ]
    assert "cut off from what it was computed from" in said(report)


def test_an_answer_that_drops_numbers_at_random_is_asked_about_its_dropout():
    class Dropping(Given):
        def forward(self, x, mask=None):
            x = x + functional.dropout(self.self_attention(self.self_attention_norm(x), mask=mask), 0.5)
            return x + self.feed_forward(self.feed_forward_norm(x))

    report = examine("encoder/EncoderLayer", Dropping, SEED)
    assert "Who tells your dropout that training is over?" in said(report)


def test_an_error_inside_a_module_names_the_line_of_the_learner_and_not_one_of_torch():
    class Misfit(Given):
        def forward(self, x, mask=None):
            return x + self.feed_forward(x.mT)

    findings = examine("encoder/EncoderLayer", Misfit, SEED).findings
    assert "at: return x + self.feed_forward(x.mT)" in findings[1].message


def test_draws_betray_swapped_axes_and_masks_hold_both_values_in_every_row():
    for seed in range(SEED, SEED + 20):
        rng = np.random.default_rng(seed)
        config, _, args = _case(rng)
        sizes = [*args["x"].shape, config["n_heads"]]
        assert len(set(sizes)) == len(sizes)
        assert min(sizes) >= 3
        n_real, padded = _padded(rng, args)
        assert n_real.min() >= 1
        for mask in (_seen(rng, args)["mask"], padded["mask"]):
            assert mask.any(-1).all()
            assert not mask.all(-1).any()


def test_the_positions_are_those_of_the_package_for_even_widths():
    right = reference("encoder/sinusoidal_positions")
    for n, d in ((1, 2), (7, 12), (500, 6)):
        expected = blocks.sinusoidal_positions(n, d).numpy()
        np.testing.assert_allclose(right(n, d), expected, rtol=0, atol=1e-6)


def test_an_odd_width_ends_in_a_sine_worked_out_by_hand():
    row = reference("encoder/sinusoidal_positions")(2, 3)[1]
    np.testing.assert_allclose(row, [np.sin(1), np.cos(1), np.sin(10000 ** (-2 / 3))], rtol=0, atol=1e-15)


def test_positions_divided_in_whole_numbers_are_not_taken_for_something_huge():
    """Every exponent is then 0 or 1: a learner's slip, and nowhere near the mistakes whose numbers overflow."""

    def slip(n, d):
        waves = (np.sin, np.cos)
        return np.array([[waves[c % 2](p / 10000 ** (2 * c // d)) for c in range(d)] for p in range(n)])

    names = [mistake.name for mistake in examine("encoder/sinusoidal_positions", slip, SEED).diagnosis]
    assert names == ["column in whole-number division"]
