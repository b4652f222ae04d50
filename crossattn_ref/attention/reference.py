"""Attention in NumPy: the definition, its masks, and its gradients by hand.

Everything is computed in float64 and returned in the floating dtype that was given (the widest, where they differ).
Speed is not the aim: this is the oracle that the rest of the course is compared with.

Letters: Nq queries, Nk keys (and values), Dk width of a query or key, Dv width of a value.
A mask is boolean, True = may look, and broadcasts to the scores, (*batch, Nq, Nk).
"""

import operator

import numpy as np


def softmax(x: np.ndarray, axis: int = -1) -> np.ndarray:
    """Turn scores into weights: none is negative, and along an axis they sum to one.

    weights_j = exp(x_j) / sum_m exp(x_m), computed as exp(x_j - max x) / sum_m exp(x_m - max x),
    which is the same number and never overflows.

    A score of -inf gets weight 0. Where every score along the axis is -inf there is nothing to choose from,
    and the weights are zeros. A score of NaN or +inf makes every weight along its axis NaN, and no other.

    Raises TypeError for anything but floating numbers and for an axis that is not an integer,
    ValueError for an axis that x does not have.
    Source: Goodfellow, Bengio & Courville, Deep Learning (2016), section 4.1.
    """
    x, axis = _floating("x", x), _integer("axis", axis)
    if not -x.ndim <= axis < x.ndim:
        raise ValueError(f"axis ({axis}) must name an axis of x, which has shape {x.shape}")
    return _softmax(x.astype(np.float64), axis).astype(x.dtype)


def attention(q: np.ndarray, k: np.ndarray, v: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
    """Let every query carry away a weighted average of the values.

    attention(Q, K, V) = softmax(Q K^T / sqrt(d_k)) V, the softmax running over keys; d_k is our Dk.

    q (*batch, Nq, Dk), k (*batch, Nk, Dk), v (*batch, Nk, Dv) -> (*batch, Nq, Dv).
    A query that may look at nothing, or finds an empty memory (Nk = 0), gets zeros.
    What stands in places that a query may not see has no effect on it, NaN and inf included.

    Raises TypeError for integers, objects, or a mask that is not boolean;
    ValueError for shapes that do not fit, and for a mask that would enlarge the batch.
    Source: Vaswani et al., Attention Is All You Need (2017), equation 1.
    """
    q, k, v, dtype = _sequences(q, k, v)
    seen = _seen(q, k, mask)
    return _weighted_sum(_weights(q, k, seen), v, seen).astype(dtype)


def attention_weights(q: np.ndarray, k: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
    """Share out each query's attention among the keys.

    weights = softmax(Q K^T / sqrt(d_k)), the softmax running over keys; d_k is our Dk.

    q (*batch, Nq, Dk), k (*batch, Nk, Dk) -> (*batch, Nq, Nk).
    Every row sums to one, or is all zeros where its query may look at nothing. Errors as for attention.
    Source: Vaswani et al., Attention Is All You Need (2017), equation 1.
    """
    q, k, dtype = _queries_and_keys(q, k)
    seen = _seen(q, k, mask)
    return _weights(q, k, seen).astype(dtype)


def attention_backward(
    grad_out: np.ndarray, q: np.ndarray, k: np.ndarray, v: np.ndarray, mask: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Carry the gradient of a loss back from the output of attention to q, k and v.

    With W the weights and G = grad_out:
    grad_V = W^T G;  grad_W = G V^T;  grad_S = W * (grad_W - rowsum(W * grad_W));
    grad_Q = grad_S K / sqrt(d_k);  grad_K = grad_S^T Q / sqrt(d_k).

    grad_out (*batch, Nq, Dv) -> (grad_q, grad_k, grad_v), each of the shape of its input.
    A query that may look at nothing neither sends nor receives a gradient. Errors as for attention,
    and ValueError for a grad_out that does not have the shape of the output.
    Source: Dao et al., FlashAttention (2022), appendix B.2.
    """
    q, k, v, dtype = _sequences(q, k, v)
    grad_out = _floating("grad_out", grad_out)
    expected = (*q.shape[:-1], v.shape[-1])
    if grad_out.shape != expected:
        raise ValueError(f"grad_out must have the shape of the output, {expected}, got {grad_out.shape}")
    grad_out = grad_out.astype(np.float64)
    seen = _seen(q, k, mask)
    weights = _weights(q, k, seen)
    seen_by = seen.swapaxes(-1, -2)  # (*batch, Nk, Nq)
    grad_v = _weighted_sum(weights.swapaxes(-1, -2), grad_out, seen_by)
    with np.errstate(all="ignore"):
        grad_weights = np.where(seen, grad_out @ v.swapaxes(-1, -2), 0.0)  # (*batch, Nq, Nk)
        grad_scores = weights * (grad_weights - (weights * grad_weights).sum(axis=-1, keepdims=True))
        grad_scores = np.where(seen, grad_scores, 0.0) / np.sqrt(q.shape[-1])
    grad_q = _weighted_sum(grad_scores, k, seen)
    grad_k = _weighted_sum(grad_scores.swapaxes(-1, -2), q, seen_by)
    return grad_q.astype(dtype), grad_k.astype(dtype), grad_v.astype(dtype)


def padding_mask(lengths: np.ndarray, n_keys: int) -> np.ndarray:
    """Say which keys are real tokens and which only fill up the batch.

    lengths (B,) integers -> bool (B, 1, 1, n_keys), True = real token.
    The axes of size 1 stand for heads and queries: padding is the same for all of them.

    Raises TypeError for lengths or n_keys that are not integers, ValueError for lengths below 0 or beyond n_keys.
    """
    lengths, n_keys = np.asarray(lengths), _integer("n_keys", n_keys)
    if not np.issubdtype(lengths.dtype, np.integer):
        raise TypeError(f"lengths must be integers, got dtype {lengths.dtype}")
    if lengths.ndim != 1:
        raise ValueError(f"lengths must have one axis, (B,), got shape {lengths.shape}")
    if n_keys < 0:
        raise ValueError(f"n_keys must be at least 0, got {n_keys}")
    wrong = lengths[(lengths < 0) | (lengths > n_keys)]
    if wrong.size:
        raise ValueError(f"lengths must lie between 0 and n_keys ({n_keys}), got {wrong[0]}")
    return (np.arange(n_keys) < lengths[:, None])[:, None, None, :]


def causal_mask(n_queries: int) -> np.ndarray:
    """Let each position look at itself and at what came before it.

    -> bool (n_queries, n_queries), True on and below the diagonal.

    Raises TypeError for a number that is not an integer, ValueError for a negative one.
    Source: Vaswani et al., Attention Is All You Need (2017), section 3.2.3.
    """
    n_queries = _integer("n_queries", n_queries)
    if n_queries < 0:
        raise ValueError(f"n_queries must be at least 0, got {n_queries}")
    return np.tri(n_queries, dtype=bool)


def check_queries_and_keys(q: np.ndarray, k: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return queries and keys as arrays that fit together, neither copied nor converted; raise as attention does."""
    q, k = _positions("q", q), _positions("k", k)
    if q.shape[-1] != k.shape[-1]:
        raise ValueError(f"q and k must have the same width Dk, got q {q.shape} and k {k.shape}")
    if q.shape[-1] == 0:
        raise ValueError(f"the width Dk of q and k must be at least 1, got q {q.shape} and k {k.shape}")
    if q.shape[:-2] != k.shape[:-2]:
        raise ValueError(f"q and k must have the same batch axes, got q {q.shape} and k {k.shape}")
    return q, k


def check_sequences(q: np.ndarray, k: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return queries, keys and values as arrays that fit together, neither copied nor converted; raise as attention."""
    v = _positions("v", v)
    q, k = check_queries_and_keys(q, k)
    if k.shape[-2] != v.shape[-2]:
        raise ValueError(f"k and v must hold one value per key (the same Nk), got k {k.shape} and v {v.shape}")
    if k.shape[:-2] != v.shape[:-2]:
        raise ValueError(f"k and v must have the same batch axes, got k {k.shape} and v {v.shape}")
    return q, k, v


def read_mask(mask: np.ndarray | None, scores: tuple[int, ...]) -> np.ndarray:
    """Spread a mask over scores of a shape (*batch, Nq, Nk), without a copy; None means that all may see all.

    Raises TypeError for a mask that is not boolean, ValueError for one that would enlarge the batch.
    """
    if mask is None:
        return np.broadcast_to(True, scores)
    mask = np.asarray(mask)
    if mask.dtype != bool:
        raise TypeError(f"mask must be boolean, True = may look, got dtype {mask.dtype}")
    fits = mask.ndim <= len(scores) and all(m in (1, s) for m, s in zip(mask.shape[::-1], scores[::-1], strict=False))
    if not fits:
        raise ValueError(f"mask must broadcast to the scores (*batch, Nq, Nk) = {scores}, got shape {mask.shape}")
    return np.broadcast_to(mask, scores)


@np.errstate(all="ignore")
def _softmax(x, axis):
    top = x.max(axis=axis, keepdims=True, initial=-np.inf)
    top = np.where(top == -np.inf, 0.0, top)  # an axis of nothing but -inf: exp(-inf - 0) = 0, not NaN
    exp = np.exp(x - top)
    total = exp.sum(axis=axis, keepdims=True)
    return exp / np.where(total == 0.0, 1.0, total)


@np.errstate(all="ignore")
def _weights(q, k, seen):
    scores = q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1])  # (*batch, Nq, Nk)
    weights = _softmax(np.where(seen, scores, -np.inf), -1)
    return np.where(seen, weights, 0.0)  # a NaN that a query does see must not reach its unseen places


@np.errstate(all="ignore")
def _weighted_sum(weights, values, seen):
    """Multiply weights @ values, where places that are not seen contribute nothing at all: not even 0 * NaN."""
    finite = np.isfinite(values)
    total = weights @ np.where(finite, values, 0.0)
    if not finite.all():
        wild = weights[..., None] * np.where(finite, 0.0, values)[..., None, :, :]  # (*batch, rows, places, width)
        total += np.where(seen[..., None], wild, 0.0).sum(axis=-2)
    return total


def _queries_and_keys(q, k):
    """Check that queries and keys fit together; return them in float64, with the dtype to answer in."""
    q, k = check_queries_and_keys(q, k)
    return q.astype(np.float64), k.astype(np.float64), np.result_type(q, k)


def _sequences(q, k, v):
    """Check that queries, keys and values fit together; return them in float64, with the dtype to answer in."""
    q, k, v = check_sequences(q, k, v)
    return *(x.astype(np.float64) for x in (q, k, v)), np.result_type(q, k, v)


def _seen(q, k, mask):
    """Spread the mask over the scores, (*batch, Nq, Nk); without one, every query may look at every key."""
    return read_mask(mask, (*q.shape[:-1], k.shape[-2]))


def _positions(name, array):
    array = _floating(name, array)
    if array.ndim < 2:
        raise ValueError(f"{name} must have at least two axes, (..., positions, width), got shape {array.shape}")
    return array


def _floating(name, array):
    array = np.asarray(array)
    if not np.issubdtype(array.dtype, np.floating):
        raise TypeError(f"{name} must hold floating numbers, got dtype {array.dtype}")
    return array


def _integer(name, number):
    try:
        return operator.index(number)
    except TypeError:
        raise TypeError(f"{name} must be an integer, got {number!r}") from None
