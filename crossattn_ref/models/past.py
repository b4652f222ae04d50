"""What a decoder has written so far, as keys and values that grow at every step and are never moved.

Several continuations of a sentence write side by side into one past; which places of it each of them descends from
is told by a mask. So whoever picks continuations, as a beam search does, picks rows of that mask and moves no keys.

Letters: B samples in a batch, W continuations of each side by side, Hkv heads of keys and values,
n places written so far, Dh width of one head.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from crossattn_ref.attention.multihead import Memory

ROOM = 32  # places that a new past has room for; one that is full doubles


class Past:
    """The keys and values that one layer has written, with room for more behind them.

    grown returns a longer past, which shares the room: what was written stays where it is. Where another past has
    grown into that room already, or a gradient has to come back this way, the new one gets room of its own.
    """

    def __init__(self, written: Memory):
        self._room, self.n = _Room(written.keys, written.values, written.keys.shape[2]), written.keys.shape[2]

    @property
    def memory(self) -> Memory:
        """Return what was written: keys and values (B, Hkv, n, Dh)."""
        return Memory(self._room.keys[:, :, : self.n], self._room.values[:, :, : self.n])

    def grown(self, new: Memory) -> "Past":
        """Write new keys and values (B, Hkv, W, Dh) behind those that are there."""
        if new.keys.requires_grad:
            before = self.memory
            return Past(Memory(torch.cat([before.keys, new.keys], 2), torch.cat([before.values, new.values], 2)))
        end, past = self.n + new.keys.shape[2], Past.__new__(Past)
        past._room, past.n = self._room.from_(self.n, end), end
        past._room.keys[:, :, self.n : end], past._room.values[:, :, self.n : end] = new.keys, new.values
        return past

    def keep(self, samples: Int[Tensor, " kept"]) -> "Past":
        """Go on with these samples alone."""
        written = self.memory
        return Past(Memory(written.keys[samples], written.values[samples]))


@dataclass(eq=False)
class _Room:
    """Keys and values, of which the first `used` places are taken."""

    keys: Tensor
    values: Tensor
    used: int

    def from_(self, start, end):
        """Return room whose places from start to end may be written: this one, or a copy of what lies before them."""
        if self.used == start and end <= self.keys.shape[2]:
            self.used = end
            return self
        size = max(ROOM, 2 * end)
        keys, values = (x.new_empty(*x.shape[:2], size, x.shape[3]) for x in (self.keys, self.values))
        keys[:, :, :start], values[:, :, :start] = self.keys[:, :, :start], self.values[:, :, :start]
        return _Room(keys, values, end)


def descended(seen: Bool[Tensor, "B W n"], parents: Int[Tensor, "B V"]) -> Bool[Tensor, "B V n"]:
    """Tell which places of the past continuations descend from that come from these rows."""
    return seen.gather(1, parents[..., None].expand(-1, -1, seen.shape[-1]))


def written(seen: Bool[Tensor, "B W n"]) -> Bool[Tensor, "B W n+W"]:
    """Let each continuation write one place, which it alone descends from."""
    own = torch.eye(seen.shape[1], dtype=torch.bool, device=seen.device).expand(len(seen), -1, -1)
    return torch.cat([seen, own], dim=-1)
