"""Mistakes in carrying gradients back through softmax and attention, and right answers computed another way.

Letters: g for grad_weights and w for weights, both (*batch, Nq, Nk);
q (*batch, Nq, Dk), k (*batch, Nk, Dk), v (*batch, Nk, Dv).
"""

from functools import partial

import numpy as np

from crossattn_ref.checks.report import Misconception
from crossattn_ref.checks.variants.attention import softmax


def softmax_backward(g, w, axis=-1):
    return w * (g - (w * g).sum(axis=axis, keepdims=True))


def _turn(x):
    return x.swapaxes(-1, -2)


SOFTMAX_BACKWARD = (
    Misconception("diagonal only", lambda g, w: g * w * (1 - w),
                  "when each weight depends on its own score alone",
                  "Raise one score: what happens to the weights of the *other* keys?"),
    Misconception("elementwise", lambda g, w: g * w, "when the weights are treated like those of exp, one by one",
                  "Raise all scores of a row by 1: do the weights move? What must the gradients of a row add up to?"),
    Misconception("gradient ignored", lambda g, w: w * (1 - w), "when grad_weights never enters",
                  "How does your result know which way the loss wants each weight to go?"),
    Misconception("plain mean", lambda g, w: w * (g - g.mean(-1, keepdims=True)),
                  "with the plain mean of the gradient where an average with the weights belongs",
                  "Which keys should count more in the average that you take off?"),
    Misconception("plain sum", lambda g, w: w * (g - g.sum(-1, keepdims=True)),
                  "with the plain sum of the gradient where a sum with the weights belongs",
                  "Let the gradient be 1 everywhere. No weight can follow it: what must come out?"),
    Misconception("weight forgotten in front", lambda g, w: g - (w * g).sum(-1, keepdims=True),
                  "without the weight in front", "A key with weight 0 stays at 0: what is its gradient?"),
    Misconception("over the queries", partial(softmax_backward, axis=-2), "with the sum taken over the queries",
                  "Within which group do the weights compete: a row or a column?"),
    Misconception("over axis 0", partial(softmax_backward, axis=0), "with the sum taken over axis 0",
                  "What is axis 0 once there is a batch axis in front?"),
    Misconception("over axis 1", partial(softmax_backward, axis=1), "with the sum taken over axis 1, hard-coded",
                  "Which number names the last axis, however many there are?"),
    Misconception("over everything", lambda g, w: w * (g - (w * g).sum()), "with one sum over the whole array",
                  "Does a query hear of the gradient at another query?"),
    Misconception("no keepdims", lambda g, w: w * (g - (w * g).sum(-1)), "with a sum that lost its axis",
                  "What shape has x.sum(axis=-1), and along which axis does NumPy line it up with x?"),
    Misconception("sign", lambda g, w: w * ((w * g).sum(-1, keepdims=True) - g), "with the sign turned round",
                  "Raise a score whose weight the loss wants to grow: which way should the gradient point?"),
    Misconception("added", lambda g, w: w * (g + (w * g).sum(-1, keepdims=True)), "with a plus where a minus belongs",
                  "Let the gradient be 1 everywhere. No weight can follow it: what must come out?"),
    Misconception("softmax again", lambda g, w: softmax_backward(g, softmax(w)), "when softmax is taken of the weights",
                  "You were given weights, not scores. What is left to do to them?"),
    Misconception("arguments swapped", lambda g, w: softmax_backward(w, g),
                  "with weights and gradient in each other's places", "Which argument comes first?"),
    Misconception("cross-entropy shortcut", lambda g, w: w - g,
                  "with the gradient of softmax and cross-entropy together",
                  "That shortcut belongs to a loss that compares weights with targets. Is there one here?"),
    Misconception("weights squared", lambda g, w: w * g - (w * w * g).sum(-1, keepdims=True),
                  "with the second factor inside the sum over keys",
                  "In the sum, which index belongs to the weight in front, and which one runs?"),
)  # fmt: skip


def _by_jacobian(g, w):
    jacobian = w[..., :, None] * (np.eye(w.shape[-1]) - w[..., None, :])
    return np.einsum("...j,...jm->...m", g, jacobian)


def _row_by_row(g, w):
    out = np.empty_like(w)
    for index in np.ndindex(w.shape[:-1]):
        row = np.diag(w[index]) - np.outer(w[index], w[index])
        out[index] = row @ g[index]
    return out


def _multiplied_out(g, w):
    flow = w * g
    return flow - w * np.sum(flow, axis=-1)[..., None]


def _in_float32(g, w):
    return softmax_backward(g.astype(np.float32), w.astype(np.float32))


def _by_matmul(g, w):
    return w * (g - (g[..., None, :] @ w[..., :, None])[..., 0])


SOFTMAX_BACKWARD_ALTERNATIVES = (_by_jacobian, _row_by_row, _multiplied_out, _in_float32, _by_matmul)


def _value_part(grad_out, q, k, v, w, g):
    return _turn(w) @ grad_out


def _query_part(scores, q, k, root):
    return scores @ k / root


def _key_part(scores, q, k, root):
    return _turn(scores) @ q / root


def backward(grad_out, q, k, v, *, through=softmax_backward, value=_value_part, query=_query_part, key=_key_part,
             order=(0, 1, 2)):  # fmt: skip
    """Gradients of attention with any stage replaced; as it stands, the right formula in the dtype given."""
    root = np.sqrt(np.asarray(q.shape[-1], q.dtype))
    w = softmax(q @ _turn(k) / root)
    g = grad_out @ _turn(v)
    scores = through(g, w)
    parts = query(scores, q, k, root), key(scores, q, k, root), value(grad_out, q, k, v, w, g)
    return tuple(parts[i] for i in order)


def _unscaled_forward(grad_out, q, k, v):
    root = np.sqrt(np.asarray(q.shape[-1], q.dtype))
    return backward(grad_out, q * root, k, v, query=lambda s, q, k, r: s @ k / r)


def _mistake(name, symptom, hint, **stage):
    return Misconception(name, partial(backward, **stage), symptom, hint)


ATTENTION_BACKWARD = (
    _mistake("no scale", "without the square root of Dk in grad_q and grad_k",
             "The scores were divided on the way in. What happens on the way back?",
             query=lambda s, q, k, root: s @ k, key=lambda s, q, k, root: _turn(s) @ q),
    _mistake("scale missing for k", "with the square root of Dk missing from grad_k",
             "Query and key enter the product alike. Do their gradients?", key=lambda s, q, k, root: _turn(s) @ q),
    _mistake("scale missing for q", "with the square root of Dk missing from grad_q",
             "Query and key enter the product alike. Do their gradients?", query=lambda s, q, k, root: s @ k),
    _mistake("scaled twice", "with the division by the square root of Dk applied twice on the way back",
             "How often were the scores divided on the way in?",
             query=lambda s, q, k, root: s @ k / root**2, key=lambda s, q, k, root: _turn(s) @ q / root**2),
    _mistake("multiplied by the scale", "with the square root of Dk multiplied in, not divided by",
             "Smaller scores on the way in: larger or smaller gradients on the way back?",
             query=lambda s, q, k, root: s @ k * root, key=lambda s, q, k, root: _turn(s) @ q * root),
    _mistake("softmax skipped", "when the gradient of the weights is taken for that of the scores",
             "Between scores and weights stands the softmax. You have written its backward pass.",
             through=lambda g, w: g),
    _mistake("softmax diagonal", "when each weight depends on its own score alone",
             "Raise one score: what happens to the weights of the *other* keys?",
             through=lambda g, w: g * w * (1 - w)),
    _mistake("softmax elementwise", "when the gradient of the scores is weights times gradient, nothing taken off",
             "What must the gradients of the scores of one query add up to?", through=lambda g, w: g * w),
    _mistake("softmax over queries", "with the softmax's sum over queries on the way back",
             "Within which group do the weights compete: a row or a column?",
             through=partial(softmax_backward, axis=-2)),
    _mistake("weights for scores", "with the weights where the gradient of the scores belongs",
             "What do grad_q and grad_k need from the loss?", through=lambda g, w: w),
    _mistake("weights not transposed", "with the weights not transposed in grad_v",
             "grad_v has one row for each key. Which axis must the product add up over?",
             value=lambda go, q, k, v, w, g: w @ go),
    _mistake("v through its gradient", "with the gradient of the weights where the weights belong, in grad_v",
             "The output is W V: what stands in front of V?", value=lambda go, q, k, v, w, g: _turn(g) @ go),
    _mistake("values for gradient", "with the output of attention where grad_out belongs, in grad_v",
             "Does your grad_v depend on the loss at all?", value=lambda go, q, k, v, w, g: _turn(w) @ (w @ v)),
    _mistake("grad_v summed", "with the same gradient for every value",
             "A key that nobody looks at: what is the gradient of its value?",
             value=lambda go, q, k, v, w, g: np.broadcast_to(go.mean(-2, keepdims=True), v.shape)),
    _mistake("scores not transposed", "with the gradient of the scores not transposed in grad_k",
             "grad_k has one row for each key. Which axis must the product add up over?",
             key=lambda s, q, k, root: s @ q / root),
    _mistake("q for k", "with the queries where the keys belong, in grad_q",
             "The score is q·k. Its derivative with respect to q is what?", query=lambda s, q, k, root: s @ q / root),
    _mistake("k for q", "with the keys where the queries belong, in grad_k",
             "The score is q·k. Its derivative with respect to k is what?",
             key=lambda s, q, k, root: _turn(s) @ k / root),
    _mistake("order", "with grad_q and grad_k in each other's places", "In which order are the three wanted?",
             order=(1, 0, 2)),
    _mistake("order turned", "with the three gradients in reverse order", "In which order are the three wanted?",
             order=(2, 1, 0)),
    _mistake("sign", "with grad_q and grad_k of the wrong sign",
             "Take a small step against the gradient: does the loss fall?",
             through=lambda g, w: -softmax_backward(g, w)),
    Misconception("unscaled forward", _unscaled_forward, "when the weights are recomputed without the scale",
                  "Which scores went into the softmax on the way in?"),
)  # fmt: skip


def _by_einsum(grad_out, q, k, v):
    root = np.sqrt(q.shape[-1])
    w = softmax(np.einsum("...qd,...kd->...qk", q, k) / root)
    g = np.einsum("...qe,...ke->...qk", grad_out, v)
    s = (g - np.einsum("...qk,...qk->...q", g, w)[..., None]) * w / root
    return np.einsum("...qk,...kd->...qd", s, k), np.einsum("...qk,...qd->...kd", s, q), np.einsum(
        "...qk,...qe->...ke", w, grad_out
    )  # fmt: skip


def _query_by_query(grad_out, q, k, v):
    root = np.sqrt(q.shape[-1])
    grads = np.zeros_like(q), np.zeros_like(k), np.zeros_like(v)
    for i in range(q.shape[-2]):
        row, up = q[..., i : i + 1, :], grad_out[..., i : i + 1, :]
        w = softmax(row @ _turn(k) / root)
        s = softmax_backward(up @ _turn(v), w) / root
        grads[0][..., i : i + 1, :] = s @ k
        grads[1][...] += _turn(s) @ row
        grads[2][...] += _turn(w) @ up
    return grads


def _through_the_output(grad_out, q, k, v):
    """rowsum(W * grad_W) equals rowsum(out * grad_out): FlashAttention's way to it."""
    root = np.sqrt(q.shape[-1])
    w = softmax(q @ _turn(k) / root)
    inner = ((w @ v) * grad_out).sum(-1, keepdims=True)
    s = w * (grad_out @ _turn(v) - inner) / root
    return s @ k, _turn(s) @ q, _turn(w) @ grad_out


def _all_in_float32(grad_out, q, k, v):
    return backward(*(x.astype(np.float32) for x in (grad_out, q, k, v)))


ATTENTION_BACKWARD_ALTERNATIVES = (_by_einsum, _query_by_query, _through_the_output, _all_in_float32)
