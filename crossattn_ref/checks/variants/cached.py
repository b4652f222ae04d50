"""Mistakes in a decoder layer that goes on step by step from what it remembers, and right answers computed another way.

An answer gets a layer and a generator of chance, for which it has no use:
layer() begins anew and returns (x, memory, n): the first row x (B, D), the source's memory (B, Nk, D), and the number
of steps. layer("q", x), "k" and "v" project rows for the self-attention, layer("cross q", x), "cross k" and "cross v"
for the cross-attention. layer("place", t) returns the vector (D,) of place t, and layer("next", out) the row (B, D)
that follows from the last output.

Letters: B sentences, Nk tokens of the memory, D width.
"""

import numpy as np

from crossattn_ref.checks.variants.softmax import softmax
from crossattn_ref.checks.variants.stages import flat, staged

MEMORY = ("cross k", "cross v")


class Layer:
    """A decoder layer with one head, that counts what it is asked for. A memory projected again comes out smaller."""

    def __init__(self, rng: np.random.Generator, B: int, Nk: int, D: int, n: int):
        self._x, self._memory, self.n = rng.standard_normal((B, D)), rng.standard_normal((B, Nk, D)), n
        names = ("q", "k", "v", "cross q", "cross k", "cross v", "next")
        self._matrices = {name: rng.standard_normal((D, D)) * 1.5 / np.sqrt(D) for name in names}
        self._places = rng.standard_normal((n, D))
        self.projected = {}

    def __call__(self, what=None, rows=None):
        """Begin anew, or do one part of the work."""
        if what is None:
            self.projected = dict.fromkeys(self._matrices, 0)
            return self._x.copy(), self._memory.copy(), self.n
        if what == "place":
            return self._places[int(rows)].copy()
        if what not in self._matrices:
            raise ValueError(f"the first argument must be 'place' or one of {', '.join(self._matrices)}, got {what!r}")
        rows = np.asarray(rows, float)
        if rows.shape not in (self._x.shape, self._memory.shape):
            raise ValueError(f"rows must have shape {self._x.shape} or {self._memory.shape}, got {rows.shape}")
        self.projected[what] += 1
        out = rows @ self._matrices[what]
        if what == "next":
            return np.tanh(out)
        return out / self.projected[what] if what in MEMORY else out


def grown(past, new):
    return new[:, None] if past is None else np.concatenate([past, new[:, None]], axis=1)


def read(q, k, v):
    """(B, D), (B, N, D), (B, N, D) -> (B, D)"""
    scores = (k @ q[:, :, None])[..., 0] / np.sqrt(q.shape[-1])
    return (softmax(scores)[:, None] @ v)[:, 0]


def once(layer, memory):
    keys, values = layer("cross k", memory), layer("cross v", memory)
    return lambda: (keys, values)


def added(x, found):
    return x + found


def first(one, other):
    return one


def second(one, other):
    return other


def placed(layer, x, t):
    return x + layer("place", t)


def projected(layer, x):
    return layer("q", x), layer("k", x), layer("v", x)


def steps(layer, rng, *, remember=once, place=placed, project=projected, keep=grown, keep_values=None, attend=read,
          self_sum=added, cross_sum=added, ask=second, follow=second):  # fmt: skip
    """All steps of a layer with any stage replaced; as it stands, the right one -> (B, n, D)."""
    x, memory, n = layer()
    remembered = remember(layer, memory)
    keys = values = None
    out = []
    for t in range(n):
        x = place(layer, x, t)
        q, k, v = project(layer, x)
        keys, values = keep(keys, k), (keep_values or keep)(values, v)
        h = self_sum(x, attend(q, keys, values))
        y = cross_sum(h, attend(layer("cross q", ask(x, h)), *remembered()))
        out.append(y)
        x = layer("next", follow(h, y))
    return np.stack(out, axis=1)


def in_float32(layer, rng):
    """All steps, from numbers in float32: their rounding is forgiven."""

    def coarse(*args):
        given = layer(*args)
        if isinstance(given, tuple):
            return given[0].astype(np.float32), given[1].astype(np.float32), given[2]
        return given.astype(np.float32)

    return steps(coarse, rng)


def _every_step(layer, memory):
    return lambda: (layer("cross k", memory), layer("cross v", memory))


def _exchanged(layer, memory):
    keys, values = layer("cross k", memory), layer("cross v", memory)
    return lambda: (values, keys)


def _keys_for_both(layer, memory):
    keys = layer("cross k", memory)
    return lambda: (keys, keys)


def _self_projections(layer, memory):
    keys, values = layer("k", memory), layer("v", memory)
    return lambda: (keys, values)


def _not_projected(layer, memory):
    return lambda: (memory, memory)


def _first_token(layer, memory):
    keys, values = layer("cross k", memory)[:, :1], layer("cross v", memory)[:, :1]
    return lambda: (keys, values)


def _newest_only(past, new):
    return new[:, None]


def _first_only(past, new):
    return new[:, None] if past is None else past


def _two_at_most(past, new):
    return grown(past, new)[:, -2:]


def _in_front(past, new):
    return new[:, None] if past is None else np.concatenate([new[:, None], past], axis=1)


def _summed_past(past, new):
    return new[:, None] if past is None else past + new[:, None]


def _no_scale(q, k, v):
    return read(q * np.sqrt(q.shape[-1]), k, v)


def _plain_mean(q, k, v):
    return v.mean(axis=1)


def _over_the_batch(q, k, v):
    scores = (k @ q[:, :, None])[..., 0] / np.sqrt(q.shape[-1])
    return (softmax(scores.T).T[:, None] @ v)[:, 0]


STAGES = staged(
    steps,
    remember=(
        ("projected at every step", _every_step, "when the memory is projected again at every step",
         "Does the source change while you write? Count the calls."),
        ("keys and values exchanged", _exchanged, "with the memory's keys and values in each other's places",
         "Which of the two is compared with the query, and which is carried away?"),
        ("keys for values", _keys_for_both, "with the memory's keys in the place of its values",
         "Match with the keys; what do you carry away?"),
        ("self-attention's projections", _self_projections,
         "with the memory projected by the self-attention's matrices", "Which projections are made for the memory?"),
        ("memory not projected", _not_projected, "when the memory is read as it is", "What are its keys and values?"),
        ("first token only", _first_token, "with the first token of the memory alone", "How long is the memory?"),
    ),
    place=(
        ("always place 0", lambda layer, x, t: x + layer("place", 0), "when every step stands at place 0",
         "The past is remembered, so that one row comes in. Which place does it have?"),
        ("no places", lambda layer, x, t: x, "without places", "What tells the third word from the first?"),
        ("first place only", lambda layer, x, t: x + layer("place", 0) if t == 0 else x,
         "when only the first row gets its place", "Which place has the second row?"),
    ),
    project=(
        ("key for value", lambda layer, x: (layer("q", x), layer("k", x), layer("k", x)),
         "with the self-attention's keys in the place of its values", "What do you carry away from the past?"),
        ("value for key", lambda layer, x: (layer("q", x), layer("v", x), layer("v", x)),
         "with the self-attention's values in the place of its keys", "What is compared with the query?"),
    ),
    keep=(
        ("newest only", _newest_only, "when the past is forgotten at each step", "What does the third step look at?"),
        ("first only", _first_only, "when only the first step is remembered", "Does the cache grow?"),
        ("two at most", _two_at_most, "when no more than two steps are remembered", "How long is the past?"),
        ("summed", _summed_past, "when the past is added up into one row", "How many keys has the fifth step?"),
        ("keys in front", {"keep": _in_front, "keep_values": grown},
         "with new keys put in front, and new values behind", "Does key j still belong to value j?"),
        ("values forgotten", {"keep_values": _first_only}, "when keys are appended, and values are not",
         "How many values belong to five keys?"),
    ),
    attend=(
        ("no scale", _no_scale, "without the scale", "How large is the product of two rows of width D?"),
        ("plain mean", _plain_mean, "with a plain mean in place of attention", "Does the query matter?"),
        ("softmax over the batch", _over_the_batch, "with the softmax along the batch",
         "Do the weights of one sentence sum to one?"),
    ),
    self_sum=(("no residual past", lambda x, found: found, "without the residual around the self-attention",
               "Reading should add. What is left of x?"),),
    cross_sum=(
        ("no residual memory", lambda x, found: found, "without the residual around the cross-attention",
         "Reading should add. What is left of h?"),
        ("memory not read", lambda x, found: x, "when the memory is never read", "Which projections have no work?"),
    ),
    ask=(("x asks", first, "when the memory is asked by x, not by what the self-attention made of it",
          "Which row goes into the second sublayer?"),),
    follow=(("half the way", first, "when the next row follows from the self-attention's result",
             "What is the output of the whole layer?"),),
)  # fmt: skip

MISTAKES = flat(STAGES)


def _all_at_once(q, k, v, seen):
    scores = np.where(seen, q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1]), -np.inf)
    return softmax(scores) @ v


def _from_lists(layer, rng):
    """Remember rows in lists, and attend over all of them."""
    x, memory, n = layer()
    read_keys, read_values = layer("cross k", memory), layer("cross v", memory)
    keys, values, out = [], [], []
    for t in range(n):
        x = x + layer("place", t)
        keys.append(layer("k", x))
        values.append(layer("v", x))
        h = x + _all_at_once(layer("q", x)[:, None], np.stack(keys, 1), np.stack(values, 1), True)[:, 0]
        out.append(h + _all_at_once(layer("cross q", h)[:, None], read_keys, read_values, True)[:, 0])
        x = layer("next", out[-1])
    return np.stack(out, 1)


def _in_a_buffer(layer, rng):
    """Write into arrays made once, and hide what is not yet written."""
    x, memory, n = layer()
    cross = {name: layer(name, memory) for name in ("cross v", "cross k")}
    keys, values, out = (np.zeros((len(x), n, x.shape[-1])) for _ in range(3))
    for t in range(n):
        x = x + layer("place", t)
        keys[:, t], values[:, t] = layer("k", x), layer("v", x)
        seen = np.arange(n) <= t
        h = x + _all_at_once(layer("q", x)[:, None], keys, values, seen)[:, 0]
        out[:, t] = h + _all_at_once(layer("cross q", h)[:, None], cross["cross k"], cross["cross v"], True)[:, 0]
        if t + 1 < n:
            x = layer("next", out[:, t])
    return out


def _einsum(layer, rng):
    x, memory, n = layer()
    k_memory, v_memory = layer("cross k", memory), layer("cross v", memory)
    past, out = ([], []), []
    for t in range(n):
        x = x + layer("place", t)
        for cache, name in zip(past, ("k", "v"), strict=True):
            cache.append(layer(name, x))
        keys, values = (np.array(cache) for cache in past)  # (t, B, D)
        weights = softmax(np.einsum("bd,tbd->bt", layer("q", x), keys) / x.shape[-1] ** 0.5)
        h = x + np.einsum("bt,tbd->bd", weights, values)
        weights = softmax(np.einsum("bd,bnd->bn", layer("cross q", h), k_memory) / x.shape[-1] ** 0.5)
        out.append(h + np.einsum("bn,bnd->bd", weights, v_memory))
        x = layer("next", out[-1])
    return np.array(out).swapaxes(0, 1)


ALTERNATIVES = (in_float32, _from_lists, _in_a_buffer, _einsum)
