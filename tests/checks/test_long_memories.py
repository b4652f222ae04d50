"""The exercise on long memories: its stages equal a search by the oracle, and every budget has one right answer."""

import numpy as np
import pytest

from crossattn_ref.attention import reference
from crossattn_ref.checks import examine
from crossattn_ref.checks import long_memories as exercises
from crossattn_ref.checks.variants import budget as wrong


def by_the_oracle(q, k, v, budget):
    """Try every n, with the keys that are not among the best hidden by a mask."""
    exact = reference.attention(q, k, v)
    ranks = (-(q @ k.T)).argsort(axis=1).argsort(axis=1)
    for n in range(1, len(k) + 1):
        out = reference.attention(q, k, v, ranks < n)
        if np.linalg.norm(out - exact) <= budget * np.linalg.norm(exact):
            return n, out
    raise AssertionError("all keys have an error")


@pytest.mark.parametrize("seed", range(20))
def test_the_stages_find_what_a_search_by_the_oracle_finds(seed):
    rng = np.random.default_rng(seed)
    q, k, v = (rng.standard_normal(shape) for shape in ((5, 7), (11, 7), (11, 3)))
    for budget in (0.05, 0.2, 0.5, 1.0):
        n, out = wrong.error_budget(q, k, v, budget)
        right, exact = by_the_oracle(q, k, v, budget)
        assert n == right
        np.testing.assert_allclose(out, exact, atol=1e-13)


@pytest.mark.parametrize("seed", range(5))
def test_a_budget_lies_clear_of_every_error_so_that_rounding_decides_nothing(seed):
    case = exercises._cases(np.random.default_rng(seed), 11, 1.0, exercises._between(2, 9))
    errors = exercises._errors(case["q"], case["k"], case["v"])
    ratios = errors[:-1] / case["budget"]
    assert ((ratios < 1 / 1.02) | (ratios > 1.02)).all()


def test_a_case_in_which_halving_fails_is_one_whose_error_rises_again():
    case = exercises._cases(np.random.default_rng(2), 13, 1.0, exercises._first_of_several)
    errors = exercises._errors(case["q"], case["k"], case["v"])
    first = int(np.argmax(errors <= case["budget"]))
    assert (errors[first + 1 :] > case["budget"]).any()


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (lambda *_: 3, "it returned a int, where a tuple of 2 is wanted: n, out"),
        (lambda q, k, v, budget: (2.5, v), "n must be a whole number, got 2.5"),
        (lambda q, k, v, budget: (len(k), wrong.error_budget(q, k, v, budget)[1]), "fewer keys keep the budget"),
        (lambda q, k, v, budget: (1, wrong.error_budget(q, k, v, budget)[1]), "the budget is not kept"),
    ],
)
def test_what_is_wrong_is_answered_in_words(answer, complaint):
    assert complaint in examine("long-memories/error_budget", answer).findings[0].message
