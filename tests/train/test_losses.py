"""The smoothed loss: by hand, against its definition, and what padding does to it."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from crossattn_ref.train.losses import cross_entropy, disagreement

B, N, V = 3, 5, 7


def draw(seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(B, N, V, dtype=torch.float64, generator=generator)
    targets = torch.randint(1, V, (B, N), generator=generator)
    targets[0, 3:] = targets[2, 1:] = 0
    return logits, targets


def test_two_even_tokens_cost_the_logarithm_of_two():
    total, count = cross_entropy(torch.zeros(1, 1, 2), torch.tensor([[1]]))
    assert (total.item(), count) == (pytest.approx(math.log(2)), 1)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_sum_is_that_of_the_definition_over_what_is_no_padding(smoothing):
    logits, targets = draw()
    expected = 0.0
    for b in range(B):
        for n in range(N):
            if targets[b, n]:
                scores = logits[b, n].numpy()
                log_p = scores - np.log(np.exp(scores).sum())
                expected += -(1 - smoothing) * log_p[targets[b, n]] - smoothing / V * log_p.sum()
    total, count = cross_entropy(logits, targets, smoothing=smoothing)
    assert total.item() == pytest.approx(expected)
    assert count == 3 + 5 + 1


def test_padding_has_neither_loss_nor_gradient():
    logits, targets = draw()
    logits.requires_grad_()
    cross_entropy(logits, targets, smoothing=0.1)[0].backward()
    assert ((logits.grad != 0).any(dim=-1) == (targets != 0)).all()
    wider = torch.cat([logits, torch.randn(B, 2, V, dtype=torch.float64)], dim=1)
    padded = torch.cat([targets, torch.zeros(B, 2, dtype=torch.int64)], dim=1)
    assert cross_entropy(wider, padded)[0].item() == pytest.approx(cross_entropy(logits, targets)[0].item())


def test_nothing_to_predict_costs_nothing():
    total, count = cross_entropy(torch.randn(1, 2, V), torch.zeros(1, 2, dtype=torch.int64))
    assert (total.item(), count) == (0.0, 0)


def test_two_predictions_of_a_coin_disagree_by_what_is_worked_out_by_hand():
    """With p = (3/4, 1/4) and q = (1/4, 3/4): 1/2 (1/2 log 3 + 1/2 log 3) = log(3) / 2."""
    one, other = (torch.tensor([[[math.log(a), math.log(b)]]]) for a, b in ((3, 1), (1, 3)))
    assert disagreement(one, other, torch.tensor([[1]])).item() == pytest.approx(math.log(3) / 2)


def test_disagreement_is_the_mean_of_both_divergences_over_what_is_no_padding():
    one, targets = draw(seed=1)
    other, _ = draw(seed=2)
    p, q = (logits.softmax(-1)[targets != 0] for logits in (one, other))
    expected = sum(nn.functional.kl_div(b.log(), a, reduction="sum") for a, b in ((p, q), (q, p))) / 2
    assert disagreement(one, other, targets).item() == pytest.approx(expected.item())
    assert disagreement(other, one, targets).item() == pytest.approx(expected.item())
    assert disagreement(one, one, targets).item() == 0


def test_disagreement_moves_both_predictions_and_no_padding():
    one, targets = draw(seed=1)
    other, _ = draw(seed=2)
    for logits in (one, other):
        logits.requires_grad_()
    disagreement(one, other, targets).backward()
    for logits in (one, other):
        assert ((logits.grad != 0).any(dim=-1) == (targets != 0)).all()
