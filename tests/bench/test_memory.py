"""Counting memory: to the byte, what lives at the same time, and nothing that was there before."""

import numpy as np
import torch

from crossattn_ref.bench.memory import numpy_peak, torch_peak


def test_numpy_counts_what_lives_at_once_and_not_what_is_freed_in_between():
    def one_after_the_other():
        for _ in range(5):
            np.ones(100_000)

    def side_by_side():
        return [np.ones(100_000) for _ in range(5)]

    assert 800_000 <= numpy_peak(one_after_the_other) < 1_700_000
    assert 4_000_000 <= numpy_peak(side_by_side) < 4_010_000


def test_torch_counts_every_storage_once_to_the_byte():
    x = torch.ones(1000, 7)
    assert torch_peak(lambda: x + 1) == 28_000
    assert torch_peak(lambda: (x + 1).view(7, 1000)[:3]) == 28_000
    assert torch_peak(lambda: [x + 1, x + 2]) == 56_000
    assert torch_peak(lambda: [(x + 1).sum().item() for _ in range(5)]) < 28_000 + 100


def test_torch_counts_neither_arguments_nor_views_of_them_nor_what_is_written_in_place():
    x = torch.ones(1000)
    assert torch_peak(lambda: x[3:].view(-1)) == 0
    assert torch_peak(lambda: x.add_(1)) == 0


def test_what_the_backward_pass_makes_counts_too():
    x = torch.ones(1000, requires_grad=True)
    forward = torch_peak(lambda: x.exp().sum())
    assert torch_peak(lambda: x.exp().sum().backward()) >= forward + 4000
