"""The wrong functions of the page about the grader: each is what its row says, and the check runs on it."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from crossattn_ref.bench import published
from crossattn_ref.checks import misconceptions, reference
from crossattn_ref.checks.report import Misconception
from crossattn_ref.checks.table import find

Q, K, V = (torch.randn(2, 3, n, d, dtype=torch.float64) for n, d in ((5, 13), (7, 13), (7, 11)))
ROOT = math.sqrt(13)


def _usual(scores):
    return scores.masked_fill(~SEEN, -math.inf).softmax(-1) @ V


def _filled(value):
    return lambda: (Q @ K.mT / ROOT).masked_fill(~SEEN, value).softmax(-1) @ V


SEEN = torch.rand(2, 1, 5, 7) < 0.6
SEEN[..., 0], SEEN[..., 1] = True, False
HIDDEN = Q @ K.mT / ROOT + torch.zeros_like(SEEN, dtype=torch.float64).masked_fill(~SEEN, -math.inf)

# Each once more, in torch and from its description alone.
IN_TORCH = {
    "no scale": lambda: _usual(Q @ K.mT),
    "divided by Dk": lambda: _usual(Q @ K.mT / 13),
    "multiplied by root Dk": lambda: _usual(Q @ K.mT * ROOT),
    "root Nk": lambda: _usual(Q @ K.mT / math.sqrt(7)),
    "root of twice Dk": lambda: _usual(Q @ K.mT / math.sqrt(26)),
    "scaled too late": lambda: _usual(Q @ K.mT) / ROOT,
    "mask ignored": lambda: functional.scaled_dot_product_attention(Q, K, V),
    "masked after the softmax": lambda: (functional.softmax(Q @ K.mT / ROOT, -1) * SEEN) @ V,
    "polarity": lambda: (Q @ K.mT / ROOT).masked_fill(SEEN, -math.inf).softmax(-1) @ V,
    "filled with 0": _filled(0.0),
    "fill of -1e-9": _filled(-1e-9),
    "fill of -10": _filled(-10.0),
    "mask added": lambda: (Q @ K.mT / ROOT + SEEN.double()).softmax(-1) @ V,
    "causal": lambda: _usual((Q @ K.mT / ROOT).masked_fill(~torch.ones(5, 7, dtype=torch.bool).tril(), -math.inf)),
    "keys reshaped": lambda: _usual(Q @ K.reshape(2, 3, 13, 7) / ROOT),
    "softmax twice": lambda: HIDDEN.softmax(-1).softmax(-1) @ V,
    "no max subtraction": lambda: HIDDEN.exp() / HIDDEN.exp().sum(-1, keepdim=True) @ V,
}

# Under a mask these give NaN where a whole column is hidden, and -inf times 0.
UNMASKED = {
    "softmax over queries": lambda: (Q @ K.mT / ROOT).softmax(-2) @ V,
    "softmax over the first axis": lambda: (Q @ K.mT / ROOT).softmax(0) @ V,
    "softmax over axis 1": lambda: (Q @ K.mT / ROOT).softmax(1) @ V,
    "keys ask": lambda: (K @ Q.mT / ROOT).softmax(-1).mT @ V,
    "log softmax": lambda: functional.log_softmax(Q @ K.mT / ROOT, -1) @ V,
}


def _wrong(name):
    return next(m.wrong for m in misconceptions(published.EXERCISE) if m.name == name)


def _run(name):
    return _wrong(name)(Q.numpy(), K.numpy(), V.numpy(), SEEN.numpy())


@pytest.mark.parametrize("name", IN_TORCH)
def test_a_mistake_computes_what_its_row_says(name):
    expected = IN_TORCH[name]().numpy()
    seen = SEEN.any(-1).numpy()[..., None] & np.isfinite(expected)
    np.testing.assert_allclose(np.where(seen, _run(name), 0), np.where(seen, expected, 0), rtol=0, atol=1e-12)
    assert seen.mean() > 0.5


def test_where_values_are_as_wide_as_keys_keys_carried_are_an_average_of_keys():
    expected = (HIDDEN.softmax(-1) @ K).numpy()
    np.testing.assert_allclose(_run("keys carried"), expected, rtol=0, atol=1e-12, equal_nan=True)


@pytest.mark.parametrize("name", UNMASKED)
def test_a_mistake_computes_what_its_row_says_where_nothing_is_hidden(name):
    answer = _wrong(name)(Q.numpy(), K.numpy(), V.numpy(), np.ones((1, 1), dtype=bool))
    np.testing.assert_allclose(answer, UNMASKED[name]().numpy(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["dropout on the scores", "dropout goes on"])
def test_dropout_differs_from_run_to_run_and_not_on_average(name):
    runs = np.array([_run(name) for _ in range(400)])
    assert not np.array_equal(runs[0], runs[1])
    right = reference(published.EXERCISE)(Q.numpy(), K.numpy(), V.numpy(), SEEN.numpy())
    assert np.abs(np.nanmean(runs, axis=0) - right).max() < 0.5


def test_all_25_are_among_our_mistakes_and_no_two_are_one():
    names = [wrong.mistake for wrong in published.WRONG]
    assert len(set(names)) == 25
    assert set(names) <= {m.name for m in misconceptions(published.EXERCISE)}
    assert set(names) == {*IN_TORCH, *UNMASKED, "keys carried", "dropout on the scores", "dropout goes on"}
    assert len({wrong.what for wrong in published.WRONG}) == 25


def test_the_graders_catch_as_many_as_was_measured():
    caught = {grader: sum(wrong.caught_by[grader] for wrong in published.WRONG) for grader in published.GRADERS}
    assert caught == {"CS336 A1": 24, "C5W4": 22, "CS336 A2": 17, "Neuromatch": 12, "rasbt": 0}


def test_the_check_is_run_on_each_and_would_show_one_that_it_lets_through(monkeypatch):
    assert set(published.caught_here(seed=3)) == {wrong.mistake for wrong in published.WRONG}
    right = Misconception("no scale", reference(published.EXERCISE), "with nothing wrong", "What is wrong here?")
    others = [m for m in find(published.EXERCISE).misconceptions if m.name != "no scale"]
    monkeypatch.setattr(published, "misconceptions", lambda name: [right, *others])
    assert [name for name, caught in published.caught_here().items() if not caught] == ["no scale"]
