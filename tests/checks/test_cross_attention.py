"""The exercises of the assignment "cross-attention": against torch's own layers, and the layers of the source test."""

import secrets

import numpy as np
import pytest
import torch
from torch import nn

from crossattn_ref.checks import cross_attention_layer, decoder_layer, examine, reference
from crossattn_ref.checks.tensors import drawn_state
from crossattn_ref.checks.variants import source_tests, sources
from crossattn_ref.checks.variants.cross_attention import CrossAttention
from crossattn_ref.checks.variants.decoder import DecoderLayer, Parts

SEED = secrets.randbelow(2**32)
B, NQ, NK, D, DM, H = 2, 5, 7, 15, 11, 3


def loaded(make, **config):
    layer = make(**config).double()
    state = drawn_state(layer, np.random.default_rng(SEED))
    layer.load_state_dict({name: torch.from_numpy(array) for name, array in state.items()})
    return layer


def inputs(width=DM):
    rng = np.random.default_rng(SEED)
    return (torch.from_numpy(rng.standard_normal(shape)) for shape in ((B, NQ, D), (B, NK, width)))


SOURCE = torch.tensor([[True] * NK, [True] * 4 + [False] * 3])


def copied(mine, theirs):
    """Put our projections into torch's attention, which keeps three of them in one where widths agree."""
    weights = [projection.weight for projection in (mine.q_proj, mine.k_proj, mine.v_proj)]
    with torch.no_grad():
        if theirs.in_proj_weight is None:
            for name, weight in zip(("q", "k", "v"), weights, strict=True):
                getattr(theirs, f"{name}_proj_weight").copy_(weight)
        else:
            theirs.in_proj_weight.copy_(torch.cat(weights))
        theirs.in_proj_bias.copy_(torch.cat([p.bias for p in (mine.q_proj, mine.k_proj, mine.v_proj)]))
    theirs.out_proj.load_state_dict(mine.out_proj.state_dict())
    return theirs


@pytest.mark.parametrize(
    "make", [reference("cross-attention/CrossAttention"), CrossAttention], ids=["package", "stages"]
)
def test_right_cross_attention_is_torchs_own(make):
    layer = loaded(make, d_model=D, n_heads=H, d_memory=DM)
    x, memory = inputs()
    own = copied(layer, nn.MultiheadAttention(D, H, kdim=DM, vdim=DM, batch_first=True, dtype=torch.float64))
    expected, _ = own(x, memory, memory, key_padding_mask=~SOURCE)
    torch.testing.assert_close(layer(x, memory, SOURCE[:, None, None]), expected, rtol=0, atol=1e-12)


def torchs_decoder(layer, pre):
    own = nn.TransformerDecoderLayer(D, H, 13, dropout=0.0, batch_first=True, norm_first=pre, dtype=torch.float64)
    copied(layer.self_attention, own.self_attn)
    copied(layer.cross_attention, own.multihead_attn)
    for mine, theirs in (
        (layer.self_attention_norm, own.norm1),
        (layer.cross_attention_norm, own.norm2),
        (layer.feed_forward_norm, own.norm3),
        (layer.feed_forward[0], own.linear1),
        (layer.feed_forward[2], own.linear2),
    ):
        theirs.load_state_dict(mine.state_dict())
    return own


def decoder(make):
    return loaded(make, d_model=D, n_heads=H, d_ff=13, d_memory=D)


@pytest.mark.parametrize("make", [reference("cross-attention/DecoderLayer"), DecoderLayer], ids=["package", "stages"])
def test_the_right_decoder_layer_is_torchs_own_with_the_norm_first_and_a_causal_mask(make):
    layer = decoder(make)
    x, memory = inputs(width=D)
    words = torch.tensor([[True] * NQ, [True] * 2 + [False] * 3])
    expected = torchs_decoder(layer, pre=True)(
        x,
        memory,
        tgt_mask=torch.ones(NQ, NQ, dtype=torch.bool).triu(1),
        tgt_key_padding_mask=~words,
        memory_key_padding_mask=~SOURCE,
    )
    out = layer(x, memory, words[:, None, None], SOURCE[:, None, None])
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-12)


def test_torchs_decoder_layer_with_the_norm_last_is_told_that_it_is_post_norm():
    class PostNorm(Parts):
        def forward(self, x, memory, self_mask=None, memory_mask=None):
            past = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).tril()
            seen = past if self_mask is None else past & self_mask
            x = self.self_attention_norm(x + self.self_attention(x, mask=seen))
            x = self.cross_attention_norm(x + self.cross_attention(x, memory, memory_mask))
            return self.feed_forward_norm(x + self.feed_forward(x))

    layer = decoder(PostNorm)
    x, memory = inputs(width=D)
    expected = torchs_decoder(layer, pre=False)(x, memory, tgt_mask=torch.ones(NQ, NQ, dtype=torch.bool).triu(1))
    torch.testing.assert_close(layer(x, memory), expected, rtol=0, atol=1e-12)
    report = examine("cross-attention/DecoderLayer", PostNorm, SEED)
    assert [mistake.name for mistake in report.diagnosis] == ["post-norm"]


def test_draws_betray_swapped_axes_and_one_draw_betrays_what_only_equal_sizes_allow():
    for seed in range(SEED, SEED + 20):
        for draw in (cross_attention_layer._case, decoder_layer._case):
            config, _, args = draw(np.random.default_rng(seed))
            sizes = [*args["x"].shape, *args["memory"].shape[1:], config["n_heads"]]
            assert len(set(sizes)) == len(sizes)
            assert min(sizes) >= 3
            _, _, args = draw(np.random.default_rng(seed), square=True)
            assert args["x"].shape == args["memory"].shape


# The test of the source, and what it is tried on


def shuffling_changes(layer):
    rng = np.random.default_rng(SEED)
    x, memory = rng.standard_normal((2, 3, sources.WIDTH)), rng.standard_normal((2, 5, sources.WIDTH))
    return np.abs(layer(x, memory[:, ::-1]) - layer(x, memory)).max() > 1e-3


def test_shuffling_a_source_in_itself_says_nothing_about_whether_it_is_read():
    assert {shuffling_changes(layer) for layer in sources.RIGHT.values()} == {True, False}
    assert {shuffling_changes(layer) for layer in sources.WRONG.values()} == {True, False}


@pytest.mark.parametrize("name", sources.RIGHT)
def test_a_right_layer_keeps_every_rule_and_changes_by_more_than_rounding(name):
    layer = sources.RIGHT[name]
    for seed in range(SEED, SEED + 30):
        assert source_tests.keeps(layer, np.random.default_rng(seed)), seed
        rng = np.random.default_rng(seed)
        x, memory = rng.standard_normal((2, 4, sources.WIDTH)), rng.standard_normal((2, 3, sources.WIDTH))
        changed = memory.copy()
        changed[:, 1] = rng.standard_normal((2, sources.WIDTH))
        assert np.abs(layer(x, changed) - layer(x, memory)).max(-1).min() > 1e-4, seed


@pytest.mark.parametrize("name", sources.WRONG)
def test_a_wrong_layer_gives_rows_of_the_right_width_and_breaks_a_rule(name):
    layer = sources.WRONG[name]
    for seed in range(SEED, SEED + 30):
        rng = np.random.default_rng(seed)
        x, memory = rng.standard_normal((2, 4, sources.WIDTH)), rng.standard_normal((2, 3, sources.WIDTH))
        assert layer(x, memory).shape[::2] == (2, sources.WIDTH)
        assert not source_tests.keeps(layer, rng), seed


def test_a_test_that_stumbles_over_one_layer_loses_that_share_alone():
    def stumbles(layer, rng):
        x, memory = rng.standard_normal((2, 3, sources.WIDTH)), rng.standard_normal((2, 5, sources.WIDTH))
        return bool((layer(x, memory) - x).any()) and source_tests.keeps(layer, rng)

    report = examine("cross-attention/source_swap_test", stumbles, SEED)
    assert report.score == 1 - 1 / (len(report.findings) - 1)  # the first accepts right ones, and earns nothing
    (lost,) = (finding for finding in report.findings if not finding.passed)
    assert lost.property == "catches: queries from the source, keys and values from x"
    assert "could not be broadcast" in lost.message


def test_a_test_that_demands_that_shuffling_shows_accuses_a_right_layer_and_earns_nothing():
    def shuffles(layer, rng):
        return shuffling_changes(layer)

    report = examine("cross-attention/source_swap_test", shuffles, SEED)
    assert report.score == 0
    assert "it said False to one that reads its source" in " ".join(str(report).split())
