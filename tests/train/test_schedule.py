"""Schedules: by hand, and their shape."""

import pytest

from crossattn_ref.train.schedule import SCHEDULES, inverse_square_root, linear


def test_the_papers_rate_is_reached_by_scaling():
    """Vaswani et al.: d^-0.5 min(step^-0.5, step w^-1.5), whose peak at step w is (d w)^-0.5."""
    d_model, n_warmup = 512, 4000
    for step in (1, 17, 3999, 4000, 4001, 100_000):
        theirs = d_model**-0.5 * min(step**-0.5, step * n_warmup**-1.5)
        ours = inverse_square_root(step, n_warmup=n_warmup, n_steps=7) * (d_model * n_warmup) ** -0.5
        assert ours == pytest.approx(theirs)


def test_the_linear_schedule_is_written_out_by_hand():
    found = [linear(step, n_warmup=2, n_steps=6) for step in range(1, 8)]
    assert found == pytest.approx([0.5, 1, 0.8, 0.6, 0.4, 0.2, 0])


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("n_warmup", [0, 1, 13])
def test_every_schedule_rises_to_one_and_falls(name, n_warmup):
    rates = [SCHEDULES[name](step, n_warmup=n_warmup, n_steps=101) for step in range(1, 102)]
    peak = max(n_warmup, 1)
    assert rates[peak - 1] == max(rates) == 1
    assert rates[:peak] == sorted(rates[:peak])
    assert rates[peak - 1 :] == sorted(rates[peak - 1 :], reverse=True)
    assert min(rates) > 0
