"""A past that several continuations write into: it grows in place, and no past that is still in use is touched."""

import torch

from crossattn_ref.attention.multihead import Memory
from crossattn_ref.models.past import ROOM, Past, descended, written

B, H, W, DH = 2, 3, 5, 7


def drawn(seed):
    generator = torch.Generator().manual_seed(seed)
    return Memory(*(torch.randn(B, H, W, DH, generator=generator) for _ in range(2)))


def assert_holds(past, *parts):
    torch.testing.assert_close(past.memory.keys, torch.cat([part.keys for part in parts], dim=2), rtol=0, atol=0)
    torch.testing.assert_close(past.memory.values, torch.cat([part.values for part in parts], dim=2), rtol=0, atol=0)


def test_a_past_holds_what_was_written_in_its_order_however_long_it_gets():
    parts = [drawn(seed) for seed in range(2 * ROOM)]
    past = Past(parts[0])
    for n, part in enumerate(parts[1:], start=2):
        past = past.grown(part)
        assert past.n == n * W
    assert_holds(past, *parts)


def test_two_steps_from_one_past_do_not_write_over_each_other():
    first, second, third, fourth = (drawn(seed) for seed in range(4))
    past = Past(first).grown(second)
    one, other = past.grown(third), past.grown(fourth)
    assert_holds(past, first, second)
    assert_holds(one, first, second, third)
    assert_holds(other, first, second, fourth)


def test_a_step_moves_nothing_while_there_is_room():
    past = Past(drawn(0)).grown(drawn(1))
    where = past.memory.keys.data_ptr()
    assert past.grown(drawn(2)).memory.keys.data_ptr() == where


def test_gradients_come_back_from_every_step():
    parts = [Memory(part.keys.requires_grad_(), part.values.requires_grad_()) for part in map(drawn, range(3))]
    past = Past(parts[0]).grown(parts[1])
    total = past.memory.keys.square().sum()
    past = past.grown(parts[2])
    (total + past.memory.keys.square().sum() + past.memory.values.sum()).backward()
    for part, times in zip(parts, (4, 4, 2), strict=True):
        torch.testing.assert_close(part.keys.grad, times * part.keys.detach())


def test_samples_that_stay_keep_their_own():
    parts = drawn(0), drawn(1)
    past = Past(parts[0]).grown(parts[1]).keep(torch.tensor([1]))
    assert_holds(past, *(Memory(part.keys[1:], part.values[1:]) for part in parts))


def test_who_descends_from_what_is_worked_out_by_hand():
    seen = written(written(torch.empty(1, 2, 0, dtype=torch.bool)))
    assert seen.tolist() == [[[True, False, True, False], [False, True, False, True]]]
    after = written(descended(seen, torch.tensor([[1, 1, 0]])))
    own = torch.eye(3, dtype=torch.bool).tolist()
    assert after[0].tolist() == [seen[0, row].tolist() + own[i] for i, row in enumerate([1, 1, 0])]
