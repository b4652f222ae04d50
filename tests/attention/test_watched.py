"""Attention under watch: it computes as before, shows the weights that it used, and what hangs on them."""

import secrets

import pytest
import torch

from crossattn_ref.attention import dense
from crossattn_ref.attention.inputs import Lengths
from crossattn_ref.attention.multihead import MultiHeadAttention
from crossattn_ref.attention.watched import watched

B, NQ, NK, D, DM = 2, 3, 5, 12, 7


@pytest.fixture
def drawn():
    """Return a layer with six heads on three, queries, and a memory."""
    torch.manual_seed(secrets.randbelow(2**32))
    layer = MultiHeadAttention(D, 6, n_kv_heads=3, d_memory=DM)
    return layer, torch.randn(B, NQ, D), torch.randn(B, NK, DM)


@pytest.mark.parametrize("mask", [None, Lengths(torch.tensor([4, 0]))], ids=["all", "lengths"])
def test_a_watched_layer_computes_the_same_and_shows_the_weights_of_each_call(drawn, mask):
    layer, x, memory = drawn
    expected = layer(x, memory, mask)
    with watched(layer) as weights:
        torch.testing.assert_close(layer(x, memory, mask), expected)
        layer(2 * x, memory, mask)
    torch.testing.assert_close(weights[0], layer.weights(x, memory, mask))
    torch.testing.assert_close(weights[1], layer.weights(2 * x, memory, mask))
    assert layer.attend is dense.attention


def test_several_layers_are_watched_in_the_order_of_their_calls_and_by_the_innermost_alone(drawn):
    layer, x, memory = drawn
    other = MultiHeadAttention(D, 2)
    mask = torch.rand(B, 6, NQ, NK) < 0.7
    with watched(layer, other) as outer:
        read = layer(x, memory, mask)
        with watched(layer) as inner:
            layer(x, memory)
        other(read)
    torch.testing.assert_close(outer, [layer.weights(x, memory, mask), other.weights(read)])
    torch.testing.assert_close(inner, [layer.weights(x, memory)])


def test_the_gradient_of_a_weight_is_what_a_little_more_of_it_changes(drawn):
    """By finite differences: the same values, averaged with one weight moved, and the projection behind them."""
    layer, x, memory = (one.double() for one in drawn)
    with watched(layer) as weights:
        loss = layer(x, memory).square().sum()
    (gradient,) = torch.autograd.grad(loss, weights)

    def loss_with(moved):
        layer.attend = lambda q, k, v, mask: moved @ v.repeat_interleave(2, dim=1)
        return layer(x, memory).square().sum().item()

    step = 1e-5
    for place in torch.rand(5, 4).mul(torch.tensor(weights[0].shape)).long().tolist():
        more, less = (weights[0].detach().clone() for _ in range(2))
        more[tuple(place)] += step
        less[tuple(place)] -= step
        slope = (loss_with(more) - loss_with(less)) / (2 * step)
        assert slope == pytest.approx(gradient[tuple(place)].item(), rel=1e-5, abs=1e-6)


def test_weights_of_a_frozen_layer_have_gradients_too(drawn):
    layer, x, memory = drawn
    layer.requires_grad_(False)
    with watched(layer) as weights:
        out = layer(x, memory).sum()
    assert torch.autograd.grad(out, weights)[0].shape == (B, 6, NQ, NK)
    with torch.no_grad(), watched(layer) as weights:
        layer(x, memory)
    assert not weights[0].requires_grad


@pytest.mark.usefixtures("shapes_unchecked")
def test_after_an_error_the_layers_compute_as_before(drawn):
    layer, x, memory = drawn
    layer.attend = other = lambda q, k, v, mask: dense.attention(q, k, v, mask)
    with pytest.raises(ValueError, match="memory must"), watched(layer):
        layer(x, memory[:1])
    assert layer.attend is other
