"""The exercises of the assignment "bridges": against the package's torch modules, and what a learner reads."""

import secrets

import numpy as np
import torch
from torch import nn

from crossattn_ref.checks import bridges as checked
from crossattn_ref.checks import examine, reference
from crossattn_ref.checks.latent_resampler import _case, _padded
from crossattn_ref.checks.variants import media
from crossattn_ref.checks.variants.resampler import LatentResampler
from crossattn_ref.models import bridges
from crossattn_ref.models.blocks import LayerConfig

SEED = secrets.randbelow(2**32)


def test_the_right_mask_is_that_of_the_package():
    rng = np.random.default_rng(SEED)
    is_image = checked._texts(rng, 5, 11, 3)
    expected = bridges.media_mask(torch.from_numpy(is_image), n_images=3, n_latents=2).numpy()
    for right in (reference("bridges/media_mask"), *media.MASK_ALTERNATIVES):
        np.testing.assert_array_equal(right(is_image, 3, 2), expected)


def test_the_right_gated_layer_is_that_of_the_package_with_one_head_and_no_norms():
    case = checked._layer(np.random.default_rng(SEED))
    D, Dm, F = *case["w_query"].shape[:1], case["w_key"].shape[0], case["w_inner"].shape[1]
    layer = bridges.GatedLayer(LayerConfig(d_model=D, n_heads=1, d_memory=Dm, d_ff=F, dropout=0.0)).double()
    layer.attention_norm = layer.feed_forward_norm = nn.Identity()
    weights = {
        layer.attention.q_proj: case["w_query"], layer.attention.k_proj: case["w_key"],
        layer.attention.v_proj: case["w_value"], layer.attention.out_proj: np.eye(D),
        layer.feed_forward.inner: case["w_inner"], layer.feed_forward.outer: case["w_outer"],
    }  # fmt: skip
    with torch.no_grad():
        for linear, weight in weights.items():
            linear.weight.copy_(torch.from_numpy(weight.T))
            linear.bias.zero_()
        layer.attention_gate.copy_(torch.tensor(case["gates"][0]))
        layer.feed_forward_gate.copy_(torch.tensor(case["gates"][1]))
        x, memory, mask = (torch.from_numpy(case[name]) for name in ("x", "memory", "mask"))
        expected = layer(x, memory, mask[:, None]).numpy()
    np.testing.assert_allclose(media.right(**case), expected, rtol=0, atol=1e-12)
    np.testing.assert_allclose(media.gated(**case), expected, rtol=0, atol=1e-12)


def test_the_two_right_resamplers_agree():
    rng = np.random.default_rng(SEED)
    config, state, args = _case(rng)
    _, args = _padded(rng, args)
    outs = []
    for make in (reference("bridges/LatentResampler"), LatentResampler):
        module = make(**config).double()
        module.load_state_dict({name: torch.from_numpy(array) for name, array in state.items()})
        outs.append(module(*(torch.from_numpy(array) for array in args.values())).detach())
    torch.testing.assert_close(*outs, rtol=0, atol=1e-12)


def test_a_later_image_seen_by_an_earlier_word_is_asked_which_came_before():
    report = examine("bridges/media_mask", lambda x, m, n: np.ones((len(x), 1, x.shape[1], m * n), bool), SEED)
    assert [mistake.name for mistake in report.diagnosis] == ["everything"]
    assert "may an earlier word notice?" in " ".join(str(report).split())


def test_a_gate_by_a_sigmoid_is_told_what_it_lets_through():
    def half_open(x, memory, mask, *weights):
        *matrices, gates = weights
        return media.gated(x, memory, mask, *matrices, gates, squash=lambda gate: 1 / (1 + np.exp(-gate)))

    report = examine("bridges/gated_layer", half_open, SEED)
    assert [mistake.name for mistake in report.diagnosis] == ["sigmoid"]
    assert not next(f.passed for f in report.findings if "gates at 0" in f.property)
