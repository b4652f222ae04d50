"""Exercises of the assignment "heads" that need torch: attention in several heads as a layer, and heads that share.

Letters: B samples in a batch, H heads of the queries, Hkv heads of keys and values, Nq queries, Nk keys,
D width of x, Dm width of the memory, Dk and Dv widths of one head.
"""

import numpy as np
import torch

from crossattn_ref.attention import dense
from crossattn_ref.attention.multihead import MultiHeadAttention
from crossattn_ref.checks.compare import insist, unmoved
from crossattn_ref.checks.decided import decided, in_all_heads
from crossattn_ref.checks.draw import normal, sizes, visible
from crossattn_ref.checks.exercise import Exercise, Property
from crossattn_ref.checks.modules import lengths, real, repeated
from crossattn_ref.checks.tensors import TensorSubject, drawn_state
from crossattn_ref.checks.variants import grouped, multihead
from crossattn_ref.checks.variants.cross_attention import CrossAttention
from crossattn_ref.checks.variants.stages import pairs

WEIGHTS = [f"{name}_proj.weight" for name in ("q", "k", "v", "out")]


def _layer(rng, d_model, n_heads, d_memory):
    config = {"d_model": d_model, "n_heads": n_heads, "d_memory": d_memory}
    return config, drawn_state(MultiHeadAttention(**config), rng)


def _case(rng):
    """Draw a layer and inputs of which every size is another; no mask yet -> config, state, args."""
    b, nq, nk, n_heads, width = sizes(rng, 5, high=7)
    d_memory = next(d for d in (8, 9, 10, 11) if d != n_heads * width)
    args = {"x": normal(rng, b, nq, n_heads * width), "memory": normal(rng, b, nk, d_memory)}
    return *_layer(rng, n_heads * width, n_heads, d_memory), args


def _padded(rng, args):
    """Add a padding mask to the arguments."""
    b, nk, _ = args["memory"].shape
    return {**args, "mask": real(lengths(rng, b, nk), nk)}


def _twice(ask, rng):
    config, state, args = _case(rng)
    repeated(ask, config, state, _padded(rng, args))


def _values(ask, rng):
    config, state, args = _case(rng)
    ask.forward_matches(config, state, **_padded(rng, args))


def _masks(ask, rng):
    config, state, args = _case(rng)
    b, nq, nk = *args["x"].shape[:2], args["memory"].shape[1]
    ask.forward_matches(config, state, **args, mask=visible(rng, b, 1, nq, nk))
    ask.forward_matches(config, state, **args, mask=visible(rng, b, config["n_heads"], nq, nk))


def _square(ask, rng):
    """As many sentences as queries, keys and heads, and x as wide as the memory: no size tells an axis from another."""
    n = sizes(rng, 1, high=4)[0]
    config, state = _layer(rng, n * n, n, n * n)
    x, memory = normal(rng, n, n, n * n), normal(rng, n, n, n * n)
    ask.forward_matches(config, state, x=x, memory=memory, mask=visible(rng, n, 1, n, n))
    ask.forward_matches(config, state, x=x, memory=memory, mask=real(lengths(rng, n, n), n))


def _reads_itself(ask, rng):
    b, n, n_heads, width = sizes(rng, 4, high=6)
    config, state = _layer(rng, n_heads * width, n_heads, n_heads * width)
    x = normal(rng, b, n, n_heads * width)
    ask.forward_matches(config, state, x=x, memory=x, mask=np.tri(n, dtype=bool)[None, None])


def _nothing_to_see(ask, rng):
    config, state, args = _case(rng)
    args = _padded(rng, args)
    args["mask"][-1] = False
    ask.forward_matches(config, state, **args)
    grad_out = normal(rng, *args["x"].shape)
    ask.gradients_match(config, state, grad_out, WEIGHTS, **args)


def _gradients(ask, rng):
    config, state, args = _case(rng)
    ask.gradients_match(config, state, normal(rng, *args["x"].shape), WEIGHTS, **_padded(rng, args))


def _alone(ask, rng):
    config, state, args = _case(rng)
    args = _padded(rng, args)
    alone = {name: array[-1:] for name, array in args.items()}
    together = insist(ask.forward(config, state, **args), args["x"].shape, args, "tensor")[-1:]
    by_itself = insist(ask.forward(config, state, **alone), alone["x"].shape, alone, "tensor")
    unmoved(together, by_itself, "alone, the last sentence of the batch gets another output than in company", alone)


def _key_order(ask, rng):
    config, state, args = _case(rng)
    args = _padded(rng, args)
    turned = {"x": args["x"], "memory": args["memory"][:, ::-1].copy(), "mask": args["mask"][..., ::-1].copy()}
    before, after = (
        insist(ask.forward(config, state, **case), args["x"].shape, case, "tensor") for case in (args, turned)
    )
    unmoved(before, after, "with the memory in another order, and the mask with it, the output changes", args)


def _large(ask, rng):
    config, state, args = _case(rng)
    args = _padded(rng, args)
    loud = {**state, "q_proj.weight": 300 * state["q_proj.weight"]}
    args["x"] = decided(rng, args["x"], in_all_heads(config, loud, args))
    ask.forward_matches(config, loud, **args)
    ask.forward_matches(config, _as(np.float32, loud), **_as(np.float32, args))


def _half(ask, rng):
    config, state, args = _case(rng)
    ask.forward_matches(config, _as(np.float16, state), **_as(np.float16, _padded(rng, args)))


def _as(dtype, arrays):
    return {name: array if array.dtype == bool else array.astype(dtype) for name, array in arrays.items()}


def _shared_case(rng, *, square=False):
    """Draw heads that share: every size another, or all equal but the number of query heads."""
    b, nq, nk, dk, dv, n_kv_heads, groups = sizes(rng, 7, low=2, high=8)
    if square:
        b = nq = nk = dk = dv = n_kv_heads = groups = sizes(rng, 1, low=2, high=3)[0]
    kv = (b, n_kv_heads, nk)
    return {
        "q": normal(rng, b, groups * n_kv_heads, nq, dk),
        "k": normal(rng, *kv, dk),
        "v": normal(rng, *kv, dv),
    }


def _shared_values(ask, rng):
    ask.matches(**_shared_case(rng))
    ask.matches(**_shared_case(rng))


def _shared_extremes(ask, rng):
    b, nq, nk, dk, dv, n_heads = sizes(rng, 6)
    q = normal(rng, b, n_heads, nq, dk)
    for n_kv_heads in (1, n_heads):
        ask.matches(q=q, k=normal(rng, b, n_kv_heads, nk, dk), v=normal(rng, b, n_kv_heads, nk, dv))


def _shared_large(ask, rng):
    ask.matches(**_shared_loud(rng, 1000))
    ask.matches(**_as(np.float32, _shared_loud(rng, 300)))


def _shared_loud(rng, times):
    case = _shared_case(rng)
    k = torch.from_numpy(case["k"])
    q = decided(rng, case["q"], lambda q: dense.attention_weights(torch.from_numpy(times * q), k).amax(-1).numpy())
    return {**case, "q": times * q}


EXERCISES = {
    "MultiHeadAttention": Exercise(
        reference=MultiHeadAttention,
        plain=CrossAttention,
        local=TensorSubject,
        wanted="tensor",
        properties=(
            Property("the same input gives the same result", 1, _twice),
            Property("right values when no two sizes agree", 3, _values),
            Property("masks that differ between queries, and between heads", 2, _masks),
            Property("right values when all sizes agree", 1, _square),
            Property("x may be its own memory", 1, _reads_itself),
            Property("the order of the memory makes no difference", 1, _key_order),
            Property("a sentence gets the same alone and in a batch", 1, _alone),
            Property("gradients reach x, the memory and all four projections", 2, _gradients),
            Property("zeros are read where there is nothing to see, and no gradient is NaN", 2, _nothing_to_see),
            Property("large scores do not overflow", 1, _large),
            Property("runs in half precision", 1, _half),
        ),
        misconceptions=multihead.MISTAKES,
        compositions=lambda: pairs(CrossAttention, multihead.OFTEN),
        alternatives=multihead.ALTERNATIVES,
    ),
    "grouped_attention": Exercise(
        reference=dense.attention,
        plain=grouped.attend,
        local=TensorSubject,
        wanted="tensor",
        properties=(
            Property("right values when no two sizes agree", 3, _shared_values),
            Property("right values when all sizes agree", 1, lambda ask, rng: ask.matches(
                **_shared_case(rng, square=True))),
            Property("one head of keys for all, and one for each", 1, _shared_extremes),
            Property("large scores do not overflow", 1, _shared_large),
        ),
        misconceptions=grouped.MISTAKES,
        compositions=lambda: pairs(grouped.attend, grouped.STAGES),
        alternatives=grouped.ALTERNATIVES,
    ),
}  # fmt: skip
