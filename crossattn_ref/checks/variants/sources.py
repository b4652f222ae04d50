"""Layers that read their source, and layers that do not: what a learner's test is tried on.

A layer takes x (B, Nq, WIDTH) and memory (B, Nk, WIDTH), for any B, Nq and Nk, and returns (B, Nq, WIDTH).
"""

from functools import partial

import numpy as np

from crossattn_ref.attention import reference

WIDTH = 8

_drawn = np.random.default_rng(8)
QUERY, KEY, VALUE, OUT, INNER, OUTER = _drawn.standard_normal((6, WIDTH, WIDTH)) / np.sqrt(WIDTH)
QUERY = QUERY / 2  # no key wins by far: every token counts by more than rounding


def attend(x, memory, *, keys=None, values=None, mask=None, key_places=False):
    """Cross-attention with one head. keys and values, if given, are read in the place of the memory."""
    keys, values = memory if keys is None else keys, memory if values is None else values
    k = keys @ KEY + (_places(keys) if key_places else 0.0)
    return reference.attention(x @ QUERY, k, values @ VALUE, mask) @ OUT


def _places(memory):
    return np.sin(np.arange(memory.shape[1])[:, None] + np.arange(WIDTH))


def _heads(tensor):
    return tensor.reshape(*tensor.shape[:2], 2, WIDTH // 2).swapaxes(1, 2)


def _two_heads(x, memory):
    out = reference.attention(_heads(x @ QUERY), _heads(memory @ KEY), _heads(memory @ VALUE))
    return out.swapaxes(1, 2).reshape(x.shape) @ OUT


def _in_one_product(x, memory):
    """Score all sentences against all sources at once, in float32, and hide the other sentences' sources."""
    own = np.kron(np.eye(len(x)), np.ones((x.shape[1], memory.shape[1]))).astype(bool)
    x32, memory32 = (array.reshape(-1, WIDTH).astype(np.float32) for array in (x, memory))
    scores = np.where(own, x32 @ QUERY.astype(np.float32) @ (memory32 @ KEY.astype(np.float32)).T, -np.inf)
    exp = np.exp((scores - scores.max(-1, keepdims=True)) / np.float32(WIDTH**0.5))
    out = exp / exp.sum(-1, keepdims=True) @ (memory32 @ (VALUE @ OUT).astype(np.float32))
    return out.reshape(x.shape)


def _decoder_layer(x, memory):
    """A whole layer of a decoder: causal self-attention, cross-attention, feed-forward, with residuals."""
    x = x + reference.attention(x @ KEY, x @ QUERY, x @ OUTER, reference.causal_mask(x.shape[1]))
    x = x + attend(x / np.linalg.norm(x, axis=-1, keepdims=True) * WIDTH**0.5, memory)
    return x + np.maximum(x @ INNER, 0) @ OUTER


# What source_swap_test is tried on. All of these read their source rightly.
RIGHT = {
    "cross-attention": attend,
    "cross-attention in two heads": _two_heads,
    "cross-attention in float32, all sentences in one product": _in_one_product,
    "cross-attention that also knows the places in the source": partial(attend, key_places=True),
    "cross-attention with a small share in the result": lambda x, memory: x + 0.3 * attend(x, memory),
    "a whole decoder layer": _decoder_layer,
}


def _as_long_as(memory, x):
    """Repeat the rows of x until there are as many as the memory has."""
    return x[:, np.arange(memory.shape[1]) % x.shape[1]]


def _neighbour(memory):
    return np.roll(memory, 1, axis=0)


def _one_for_all(memory):
    return np.broadcast_to(memory[:1], memory.shape)


def _all_in_one(memory):
    """Lay the sources of all sentences end to end, for every sentence."""
    return np.broadcast_to(memory.reshape(1, -1, WIDTH), (len(memory), memory.shape[0] * memory.shape[1], WIDTH))


def _causal(x, memory):
    return attend(x, memory, mask=np.tri(x.shape[1], memory.shape[1], dtype=bool))


def _roles_swapped(x, memory):
    return attend(memory, x)


def _sentence_first(memory):
    """Read a memory (B, Nk, WIDTH) as if its first two axes were in the other order."""
    return memory.reshape(memory.shape[1], memory.shape[0], WIDTH).swapaxes(0, 1)


def _mean(memory):
    return memory.mean(axis=1, keepdims=True)


WRONG = {
    "the source is never read": lambda x, memory: attend(x, x),
    "what is carried away comes from x": lambda x, memory: attend(x, memory, values=_as_long_as(memory, x)),
    "where to look is decided by x alone": lambda x, memory: attend(x, memory, keys=_as_long_as(memory, x)),
    "queries from the source, keys and values from x": _roles_swapped,
    "the next sentence's source is read": lambda x, memory: attend(x, _neighbour(memory)),
    "the first sentence's source is read by all": lambda x, memory: attend(x, _one_for_all(memory)),
    "every sentence reads all sources": lambda x, memory: attend(x, _all_in_one(memory)),
    "batch and position taken for each other": lambda x, memory: attend(x, _sentence_first(memory)),
    "only the last token is read": lambda x, memory: attend(x, memory[:, -1:]),
    "the last token is never read": lambda x, memory: attend(x, memory[:, : max(memory.shape[1] - 1, 1)]),
    "of a longer source, only as many tokens as x has": lambda x, memory: attend(x, memory[:, : x.shape[1]]),
    "later tokens are hidden from earlier rows": _causal,
    "only the mean of the source is read": lambda x, memory: attend(x, _mean(memory)),
}
