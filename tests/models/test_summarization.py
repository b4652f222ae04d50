"""Pointing at the text: by hand, against loops, properties, errors."""

import pytest
import torch

from crossattn_ref.models.summarization import PointerGenerator, copy_distribution
from crossattn_ref.models.translation import Translator, TranslatorConfig

B, NQ, NK, V, W = 2, 3, 7, 11, 13


@pytest.fixture
def model():
    torch.manual_seed(0)
    config = TranslatorConfig(n_src_tokens=V, n_tgt_tokens=V, d_model=20, n_heads=2, d_ff=17, shared=True, dropout=0.0)
    return PointerGenerator(config).double().eval()


def inputs():
    generator = torch.Generator().manual_seed(1)
    src = torch.randint(4, V, (B, NK), generator=generator)
    words = src.clone()
    words[0, 2] = words[0, 5] = V  # a stranger, twice
    words[1, 1] = V + 1
    tgt = torch.randint(4, V, (B, NQ), generator=generator)
    return src, torch.tensor([NK, 5]), tgt, words


def test_a_word_gets_the_weight_of_all_its_places():
    weights = torch.tensor([[[0.5, 0.25, 0.125, 0.125]]])
    shares = copy_distribution(weights, torch.tensor([[2, 0, 2, 1]]), 4)
    assert shares.tolist() == [[[0.25, 0.125, 0.625, 0.0]]]


def test_shares_equal_those_of_a_loop_and_add_up_to_one():
    generator = torch.Generator().manual_seed(2)
    weights = torch.rand(B, NQ, NK, generator=generator, dtype=torch.float64).softmax(dim=-1)
    words = torch.randint(0, 4, (B, NK), generator=generator)
    shares = copy_distribution(weights, words, 5)
    expected = torch.zeros(B, NQ, 5, dtype=torch.float64)
    for b in range(B):
        for i in range(NQ):
            for j in range(NK):
                expected[b, i, words[b, j]] += weights[b, i, j]
    torch.testing.assert_close(shares, expected)
    torch.testing.assert_close(shares.sum(dim=-1), torch.ones(B, NQ, dtype=torch.float64))


def test_every_weight_has_the_gradient_of_its_word():
    weights = torch.full((1, 1, 4), 0.25, dtype=torch.float64, requires_grad=True)
    shares = copy_distribution(weights, torch.tensor([[2, 0, 2, 1]]), 3)
    (shares * torch.tensor([3.0, 5.0, 7.0])).sum().backward()
    assert weights.grad.tolist() == [[[7.0, 3.0, 7.0, 5.0]]]


def test_the_mixture_is_written_out_by_hand(model):
    src, lengths, tgt, words = inputs()
    memory = model.encode(src, lengths)
    found, p_gen, weights = model.mixture(tgt, memory, lengths, words, W)
    own = Translator.cross_weights(model, tgt, memory, lengths)[-1].mean(dim=1)
    torch.testing.assert_close(weights, own)
    vocabulary = Translator.decode(model, tgt, memory, lengths).softmax(dim=-1)
    for b in range(B):
        for i in range(NQ):
            for word in range(W):
                pointed = sum(own[b, i, j] for j in range(NK) if words[b, j] == word)
                written = vocabulary[b, i, word] if word < V else 0.0
                expected = p_gen[b, i, 0] * written + (1 - p_gen[b, i, 0]) * pointed
                torch.testing.assert_close(found[b, i, word], torch.as_tensor(expected, dtype=torch.float64))


def test_the_gate_reads_the_context_and_the_state(model):
    src, lengths, tgt, words = inputs()
    memory = model.encode(src, lengths)
    _, p_gen, _ = model.mixture(tgt, memory, lengths, words, W)
    with torch.no_grad():
        model.gate.weight[:, :20] = 0
        _, without_context, _ = model.mixture(tgt, memory, lengths, words, W)
        model.gate.weight.zero_()
        _, without_both, _ = model.mixture(tgt, memory, lengths, words, W)
    assert (p_gen - without_context).abs().max() > 1e-3
    assert (without_context - without_both).abs().max() > 1e-3
    assert without_both.std() < 1e-12


def test_probabilities_add_up_to_one_and_a_strangers_comes_from_its_places_alone(model):
    src, lengths, tgt, words = inputs()
    found, p_gen, weights = model.mixture(tgt, model.encode(src, lengths), lengths, words, W)
    torch.testing.assert_close(found.sum(dim=-1), torch.ones(B, NQ, dtype=torch.float64))
    torch.testing.assert_close(found[0, :, V], (1 - p_gen[0, :, 0]) * (weights[0, :, 2] + weights[0, :, 5]))
    assert found[1, :, V].max() < 1e-300  # nobody's: what is left so that its logarithm is finite


def test_padding_of_the_text_is_never_copied(model):
    src, lengths, tgt, words = inputs()
    words[1, 5:] = V
    found, *_ = model.mixture(tgt, model.encode(src, lengths), lengths, words, W)
    assert found[1, :, V].max() < 1e-300


def test_a_model_that_points_only_gives_the_vocabulary_nothing(model):
    src, lengths, tgt, words = inputs()
    with torch.no_grad():
        model.gate.weight.zero_()
        model.gate.bias.fill_(-1000.0)
    found, _, weights = model.mixture(tgt, model.encode(src, lengths), lengths, words, W)
    torch.testing.assert_close(found, copy_distribution(weights, words, W), rtol=0, atol=1e-12)


def test_a_later_target_word_moves_no_earlier_prediction(model):
    src, lengths, tgt, words = inputs()
    memory = model.encode(src, lengths)
    other = tgt.clone()
    other[:, -1] = (other[:, -1] - 4 + 1) % (V - 4) + 4
    before, after = (model.mixture(t, memory, lengths, words, W)[0] for t in (tgt, other))
    torch.testing.assert_close(before[:, :-1], after[:, :-1])
    assert (before[:, -1] - after[:, -1]).abs().max() > 1e-6


@pytest.mark.usefixtures("shapes_unchecked")
def test_what_does_not_fit_is_refused_by_name(model):
    weights, words = torch.rand(B, NQ, NK), torch.zeros(B, NK, dtype=torch.long)
    with pytest.raises(ValueError, match=r"words must have the shape \(2, 7\), got \(2, 6\)"):
        copy_distribution(weights, words[:, :6], W)
    with pytest.raises(ValueError, match=r"words must lie in \[0, n_words\) = \[0, 13\), got 0 to 13"):
        copy_distribution(weights, words.index_fill(1, torch.tensor([3]), W), W)
    src, lengths, tgt, words = inputs()
    with pytest.raises(ValueError, match=r"n_words \(5\) must be at least the size of the vocabulary \(11\)"):
        model.mixture(tgt, model.encode(src, lengths), lengths, words, 5)
