"""Attention in NumPy, exact, block after block: the weights of all keys never stand side by side.

Softmax divides by a sum over all keys, and yet one pass is enough. A Partial is what a query knows of the keys that
it has met; two of them merge into what it knows of both. Where the largest score grows, what was summed under the old
one is rescaled. Beside inputs and output, memory holds one block of queries by one block of keys, however many there
are: a block is chunk_size rows long on either side.

This is the NumPy half of attention.chunked, in a file of its own because what runs in a reader's browser, and the
checks of NumPy exercises, never import torch. Blocks are computed in float64; the answer has the dtype that was given.

Letters: Nq queries, Nk keys (and values), Dk width of a query or key, Dv width of a value.
Source: Milakov & Gimelshein, Online normalizer calculation for softmax (2018); Rabe & Staats, Self-attention does not
need O(n^2) memory (2021); Dao et al., FlashAttention (2022), algorithm 1.
"""

import operator
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from crossattn_ref.attention.reference import check_sequences, read_mask

CHUNK_SIZE = 64


class Partial(NamedTuple):
    """What queries know of some of the keys: m, l and the unnormalised output of the FlashAttention papers.

    top (*batch, Nq) the largest score, -inf before the first; total (*batch, Nq) the sum of exp(score - top);
    summed (*batch, Nq, Dv) the sum of exp(score - top) times the value. The sums run over the keys met so far.
    """

    top: np.ndarray
    total: np.ndarray
    summed: np.ndarray

    def out(self) -> np.ndarray:
        """Return the average of the values met so far, zeros for a query that has met none: (*batch, Nq, Dv)."""
        with np.errstate(all="ignore"):
            return self.summed / np.where(self.total == 0, 1.0, self.total)[..., None]


def empty(*shape: int) -> Partial:
    """Return what queries know before they have met a key; shape is that of the output, (*batch, Nq, Dv)."""
    return Partial(np.full(shape[:-1], -np.inf), np.zeros(shape[:-1]), np.zeros(shape))


def partial(q: np.ndarray, k: np.ndarray, v: np.ndarray, mask: np.ndarray | None = None) -> Partial:
    """Let queries meet one block of keys: q (*batch, Nq, Dk), k (*batch, n, Dk), v (*batch, n, Dv), n from 0 up.

    The mask broadcasts to (*batch, Nq, n). Errors as for attention.
    """
    q, k, v = check_sequences(q, k, v)
    return _partial(*_wide(q, k, v), read_mask(mask, (*q.shape[:-1], k.shape[-2])))


def merge(one: Partial, other: Partial) -> Partial:
    """Join what queries know of some keys with what they know of others; neither order nor grouping matters.

    top = max(top_1, top_2), total = exp(top_1 - top) total_1 + exp(top_2 - top) total_2, and summed likewise.
    A partial that has met no key changes nothing.
    Source: Milakov & Gimelshein (2018), equation 4.
    """
    top = np.maximum(one.top, other.top)
    with np.errstate(all="ignore"):
        scale, other_scale = (_exp(part.top, top) for part in (one, other))
        total = scale * one.total + other_scale * other.total
        summed = scale[..., None] * one.summed + other_scale[..., None] * other.summed
        return Partial(top, total, summed)


def attention(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, mask: np.ndarray | None = None, *, chunk_size: int = CHUNK_SIZE
) -> np.ndarray:
    """Compute reference.attention without its weights: the same arguments, the same answer, the same errors.

    Beside the inputs and the output, memory holds chunk_size queries by chunk_size keys for each place of the batch.
    Raises TypeError for a chunk_size that is not an integer, ValueError for one below 1.
    """
    q, k, v, seen = _inputs(q, k, v, mask, chunk_size)
    out = np.empty((*q.shape[:-1], v.shape[-1]), np.result_type(q, k, v))
    for rows in _blocks(q.shape[-2], chunk_size):
        out[..., rows, :] = _read(q, k, v, seen, rows, chunk_size).out()
    return out


def attention_backward(
    grad_out: np.ndarray,
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    mask: np.ndarray | None = None,
    *,
    chunk_size: int = CHUNK_SIZE,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Compute reference.attention_backward without the weights: each block of them is computed once more.

    What a query's softmax needs to know of all other keys is one number, rowsum(W * grad_W) = rowsum(out * grad_out).
    Memory as for attention, beside float64 sums in the shapes of the gradients. Errors as there.
    Source: Dao et al., FlashAttention (2022), appendix B.2 and algorithm 4.
    """
    dtype = np.result_type(*check_sequences(q, k, v))
    q, k, v, seen = _inputs(q, k, v, mask, chunk_size)
    grad_out = _like_the_output(grad_out, (*q.shape[:-1], v.shape[-1]))
    grads = tuple(np.zeros(x.shape) for x in (q, k, v))
    for rows in _blocks(q.shape[-2], chunk_size):
        met = _read(q, k, v, seen, rows, chunk_size)
        for columns in _blocks(k.shape[-2], chunk_size):
            block = *_wide(grad_out[..., rows, :], q[..., rows, :], k[..., columns, :], v[..., columns, :]), met
            parts = _backward(*block, seen[..., rows, columns])
            for grad, place, part in zip(grads, (rows, columns, columns), parts, strict=True):
                grad[..., place, :] += part
    return tuple(grad.astype(dtype, copy=False) for grad in grads)


def _read(q, k, v, seen, rows, chunk_size):
    """Let a block of queries meet all keys, block after block."""
    met = empty(*q[..., rows, :].shape[:-1], v.shape[-1])
    for columns in _blocks(k.shape[-2], chunk_size):
        block = _wide(q[..., rows, :], k[..., columns, :], v[..., columns, :])
        met = merge(met, _partial(*block, seen[..., rows, columns]))
    return met


@np.errstate(all="ignore")
def _partial(q, k, v, seen):
    scores = _scores(q, k, seen)
    top = scores.max(axis=-1, initial=-np.inf)
    exp = _exp(scores, top[..., None])
    exp = np.where(seen, exp, 0.0)  # a NaN that a query does see must not reach its unseen places
    return Partial(top, exp.sum(axis=-1), _weighted_sum(exp, v, seen))


@np.errstate(all="ignore")
def _backward(grad_out, q, k, v, met, seen):
    """Compute what one block of keys sends back to a block of queries, and gets from it."""
    share = _exp(_scores(q, k, seen), met.top[..., None]) / np.where(met.total == 0, 1.0, met.total)[..., None]
    weights = np.where(seen, share, 0.0)
    grad_weights = np.where(seen, grad_out @ v.swapaxes(-1, -2), 0.0)
    inner = (met.out() * grad_out).sum(axis=-1, keepdims=True)
    grad_scores = np.where(seen, weights * (grad_weights - inner), 0.0) / np.sqrt(q.shape[-1])
    seen_by = seen.swapaxes(-1, -2)
    return (
        _weighted_sum(grad_scores, k, seen),
        _weighted_sum(grad_scores.swapaxes(-1, -2), q, seen_by),
        _weighted_sum(weights.swapaxes(-1, -2), grad_out, seen_by),
    )


def _scores(q, k, seen):
    return np.where(seen, q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1]), -np.inf)


def _exp(scores, top):
    """Compute exp(scores - top), and zeros where even the largest score is -inf: not exp(-inf + inf), which is NaN."""
    return np.exp(scores - np.where(top == -np.inf, 0.0, top))


def _weighted_sum(weights, values, seen):
    """Multiply weights @ values, where places that are not seen contribute nothing at all: not even 0 * NaN."""
    finite = np.isfinite(values)
    total = weights @ np.where(finite, values, 0.0)
    for column in np.flatnonzero(~finite.all(axis=tuple(range(values.ndim - 1)))):
        wild = weights * np.where(finite, 0.0, values)[..., None, :, column]
        total[..., column] += np.where(seen, wild, 0.0).sum(axis=-1)
    return total


def _blocks(length: int, size: int) -> Iterator[slice]:
    return (slice(start, min(start + size, length)) for start in range(0, length, size))


def _wide(*arrays):
    return tuple(array.astype(np.float64, copy=False) for array in arrays)


def _inputs(q, k, v, mask, chunk_size):
    try:
        size = operator.index(chunk_size)
    except TypeError:
        raise TypeError(f"chunk_size must be an integer, got {chunk_size!r}") from None
    if size < 1:
        raise ValueError(f"chunk_size must be at least 1, got {chunk_size}")
    q, k, v = check_sequences(q, k, v)
    return q, k, v, read_mask(mask, (*q.shape[:-1], k.shape[-2]))


def _like_the_output(grad_out, shape):
    grad_out = np.asarray(grad_out)
    if not np.issubdtype(grad_out.dtype, np.floating):
        raise TypeError(f"grad_out must hold floating numbers, got dtype {grad_out.dtype}")
    if grad_out.shape != shape:
        raise ValueError(f"grad_out must have the shape of the output, {shape}, got {grad_out.shape}")
    return grad_out
