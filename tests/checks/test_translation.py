"""The exercises of the assignment "translation": against torch, published figures, and known models."""

import secrets

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from crossattn_ref.checks import examine, reference
from crossattn_ref.checks.tensors import drawn_state
from crossattn_ref.checks.variants import blind, encode_decode, translators
from tests.interpret.test_alignment import gold, output

SEED = secrets.randbelow(2**32)


def said(report):
    """What a report says, whatever its line breaks."""
    return " ".join(str(report).split())


def test_a_batch_is_worked_out_by_hand():
    inputs, targets = reference("translation/collate")(np.array([7, 4, 9]), np.array([5]), np.array([], int))
    assert inputs.tolist() == [[1, 7, 4, 9], [1, 5, 0, 0], [1, 0, 0, 0]]
    assert targets.tolist() == [[7, 4, 9, 2], [5, 2, 0, 0], [2, 0, 0, 0]]


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_the_loss_is_torchs_own(smoothing):
    rng = np.random.default_rng(SEED)
    logits, targets = rng.standard_normal((3, 5, 7)) * 20, rng.integers(0, 7, (3, 5))
    expected = functional.cross_entropy(
        torch.from_numpy(logits).flatten(0, 1), torch.from_numpy(targets).flatten(), ignore_index=0,
        label_smoothing=smoothing,
    )  # fmt: skip
    loss = reference("translation/label_smoothed_loss")(logits, targets, smoothing)
    assert float(loss) == pytest.approx(expected.item(), rel=1e-12)


@pytest.mark.parametrize(("name", "published"), [("enfr", 4.1), ("roen", 20.7)])
def test_the_error_rate_of_a_published_alignment_is_the_published_one(name, published):
    corpora = [output(name), *gold(name)]
    n = 1 + max(place for corpus in corpora for links in corpus for link in links for place in link)
    maps = np.zeros((3, len(corpora[0]), n, n), dtype=bool)
    for i, corpus in enumerate(corpora):
        for b, links in enumerate(corpus):
            for source, target in links:
                maps[i, b, target, source] = True
    assert round(100 * float(reference("translation/alignment_error_rate")(*maps)), 1) == published


def torchs_layer(ours, kind, d_model, n_heads):
    """The same weights in torch's own layer, with the norm first."""
    ff = ours.feed_forward
    own = kind(d_model, n_heads, ff.inner.out_features, 0.0, batch_first=True, norm_first=True, dtype=torch.float64)
    pairs = [(ours.self_attention, own.self_attn)]
    norms = [ours.around_self_attention, ours.around_feed_forward]
    if kind is nn.TransformerDecoderLayer:
        pairs.append((ours.cross_attention, own.multihead_attn))
        norms.insert(1, ours.around_cross_attention)
    with torch.no_grad():
        for mine, theirs in pairs:
            projections = (mine.q_proj, mine.k_proj, mine.v_proj)
            theirs.in_proj_weight.copy_(torch.cat([p.weight for p in projections]))
            theirs.in_proj_bias.copy_(torch.cat([p.bias for p in projections]))
            theirs.out_proj.load_state_dict(mine.out_proj.state_dict())
    for number, around in enumerate(norms, start=1):
        getattr(own, f"norm{number}").load_state_dict(around.layer_norm.state_dict())
    own.linear1.load_state_dict(ff.inner.state_dict())
    own.linear2.load_state_dict(ff.outer.state_dict())
    return own.eval()


def test_the_right_wiring_is_that_of_torchs_own_layers():
    config = {"n_src": 11, "n_tgt": 13, "d_model": 12, "n_heads": 3, "n_layers": 2, "n_positions": 9}
    model = reference("translation/encode_decode")(**config).double().eval()
    state = drawn_state(encode_decode.Parts(**config), np.random.default_rng(SEED))
    model.load_state_dict({name: torch.from_numpy(array) for name, array in state.items()})
    src, tgt, real = torch.randint(0, 11, (3, 7)), torch.randint(0, 13, (3, 5)), torch.tensor([7, 2, 4])
    seen = torch.arange(7) < real[:, None]
    x, y = (
        embedding(tokens) * 12**0.5 + model.positions[: tokens.shape[1]]
        for embedding, tokens in ((model.src_embedding, src), (model.tgt_embedding, tgt))
    )
    for layer in model.encoder:
        x = torchs_layer(layer, nn.TransformerEncoderLayer, 12, 3)(x, src_key_padding_mask=~seen)
    memory, future = model.encoder_norm(x), torch.ones(5, 5, dtype=torch.bool).triu(1)
    for layer in model.decoder:
        own = torchs_layer(layer, nn.TransformerDecoderLayer, 12, 3)
        y = own(y, memory, tgt_mask=future, memory_key_padding_mask=~seen)
    expected = model.output(model.decoder_norm(y))
    torch.testing.assert_close(model(src, seen[:, None, None], tgt), expected, rtol=0, atol=1e-9)


def test_a_model_that_never_reads_its_source_loses_nothing_without_it_and_one_that_does_nearly_all():
    rng = np.random.default_rng(SEED)
    measure = reference("translation/blind_source_baseline")
    own, other = measure(blind.Translator(rng, 40, 9, 11, reads=0.0, guesses=0.8), rng)
    assert own == other
    assert own > 0.5
    own, other = measure(blind.Translator(rng, 40, 9, 11, reads=1.0, guesses=0.0), rng)
    assert own > 0.6  # all but the ends, of which it predicts none
    assert other < 0.3


@pytest.mark.parametrize("name", translators.WRONG)
def test_every_wrong_translator_shows_in_some_batch_by_more_than_rounding(name):
    """Independently of any learner's test: each sentence alone, and in a batch whose padding is drawn."""
    rng = np.random.default_rng(SEED)
    largest = 0.0
    for shape in ((3, 7, 4), (4, 5, 6)):
        lengths = np.array([shape[1] - 1, 1, shape[1], 3])[: shape[0]]
        src, tgt = rng.integers(0, 12, shape[:2]), rng.integers(0, 12, (shape[0], shape[2]))
        together = translators.WRONG[name](np.pad(src, ((0, 0), (0, 2)), constant_values=5), lengths, tgt)
        for b, n in enumerate(lengths):
            alone = translators.WRONG[name](src[[b], :n], lengths[[b]], tgt[[b]])
            largest = max(largest, np.abs(alone[0] - together[b]).max())
    assert largest > 1e-3


def test_a_learner_reads_what_went_wrong_and_a_question():
    def unshifted(*sentences):
        targets = reference("translation/collate")(*sentences)[1]
        return targets, targets

    text = said(examine("translation/collate", unshifted))
    assert "Your result is what one gets when the decoder is shown the word that it is to predict." in text
    assert "May they agree?" in text


def test_a_test_that_accuses_a_right_translator_earns_nothing():
    def jealous(translate, rng):
        src, lengths = rng.integers(0, 12, (2, 5)), np.array([5, 3])
        out = translate(src, lengths, src)
        return bool(np.abs(out[0] - out[1]).max() > 100)

    report = examine("translation/batch_invariance_test", jealous)
    assert report.score == 0
    assert "it said False to one whose sentences mind their own business" in report.findings[0].message
