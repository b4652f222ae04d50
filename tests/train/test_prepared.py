"""A model made ready for training: the same results and gradients, its own weights, and no look at numbers."""

import pytest
import torch

from crossattn_ref.attention import dense, inputs, multihead
from crossattn_ref.models.translation import Translator, TranslatorConfig
from crossattn_ref.train.prepared import for_training

B, NQ, NK, V = 3, 5, 7, 11


def translator(dtype=torch.float64):
    torch.manual_seed(0)
    config = TranslatorConfig(n_src_tokens=V, n_tgt_tokens=V, shared=True, d_model=12, n_heads=2, d_ff=13, dropout=0.0)
    model = Translator(config).to(dtype)
    src, tgt = torch.randint(4, V, (B, NK)), torch.randint(4, V, (B, NQ))
    return model, (src, torch.tensor([NK, 1, 4]), tgt)


def gradients(model, arguments):
    model.zero_grad()
    model(*arguments).square().sum().backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


def test_a_ready_model_computes_the_same_and_its_gradients_are_those_of_the_model():
    model, arguments = translator()
    ready = for_training(model.eval())
    assert ready.training
    assert not model.training
    torch.testing.assert_close(ready(*arguments), model(*arguments), rtol=0, atol=1e-12)
    expected, found = gradients(model, arguments), gradients(ready, arguments)
    assert expected.keys() == found.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=0, atol=1e-10)


def test_what_a_ready_model_learns_the_model_has_learnt():
    model, arguments = translator()
    ready = for_training(model)
    assert {id(p) for p in ready.parameters()} == {id(p) for p in model.parameters()}
    before = model(*arguments)
    with torch.no_grad():
        for parameter in ready.parameters():
            parameter.add_(0.1)
    assert not torch.allclose(model(*arguments), before)
    assert ready.output.weight is ready.tgt_embedding.tokens.weight  # still tied


def test_a_ready_model_never_asks_whether_numbers_are_finite_and_the_model_still_does(monkeypatch):
    model, arguments = translator()
    ready = for_training(model)

    def look(*_):
        raise AssertionError

    for module in (inputs, dense, multihead):
        monkeypatch.setattr(module, "is_finite", look)
    ready(*arguments).sum().backward()
    with pytest.raises(AssertionError):
        model(*arguments)


def test_in_bfloat16_a_ready_model_is_as_near_as_the_model_itself():
    model, arguments = translator(torch.float32)
    exact = model.double()(*arguments).float()
    model.float()
    with torch.autocast("cpu", torch.bfloat16):
        plain, found = (m(*arguments) for m in (model, for_training(model)))
    assert found.dtype == torch.bfloat16
    assert (found.float() - exact).abs().max() <= 2 * (plain.float() - exact).abs().max()
