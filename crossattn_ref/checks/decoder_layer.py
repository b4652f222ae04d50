"""The exercise "cross-attention/DecoderLayer": causal self-attention, cross-attention, feed-forward, with pre-norm.

Letters: B sentences, H heads, Nq positions of x, Nk positions of the memory, D model width, Dm memory width.
"""

import numpy as np
import torch
from torch import nn

from crossattn_ref.checks.compare import Violation, unmoved
from crossattn_ref.checks.draw import normal, sizes, visible
from crossattn_ref.checks.exercise import Exercise, Property
from crossattn_ref.checks.modules import lengths, moved, real, repeated, run
from crossattn_ref.checks.tensors import TensorSubject, drawn_state
from crossattn_ref.checks.variants import decoder as wrong
from crossattn_ref.models import blocks


class DecoderLayer(nn.Module):
    """The layer of crossattn_ref.models.blocks, made causal, its parts under the names that the exercise gives them."""

    def __init__(self, d_model: int, n_heads: int, d_ff: int, d_memory: int):
        super().__init__()
        config = blocks.LayerConfig(
            d_model=d_model, n_heads=n_heads, d_ff=d_ff, d_memory=d_memory, dropout=0.0, norm="pre"
        )
        layer = blocks.DecoderLayer(config)
        self.self_attention_norm, self.self_attention = layer.around_self_attention.layer_norm, layer.self_attention
        self.cross_attention_norm, self.cross_attention = layer.around_cross_attention.layer_norm, layer.cross_attention
        self.feed_forward_norm = layer.around_feed_forward.layer_norm
        self.feed_forward = nn.Sequential(layer.feed_forward.inner, nn.ReLU(), layer.feed_forward.outer)
        self._layer = layer.forward

    def forward(self, x, memory, self_mask=None, memory_mask=None):
        """Let no position look ahead, whatever self_mask says."""
        causal = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).tril()
        return self._layer(x, memory, causal if self_mask is None else causal & self_mask, memory_mask)


def _case(rng, *, same_width=False, square=False):
    """Draw a layer, its weights and its inputs, every size another; or x and memory as wide, or in all as large."""
    B, Nq, Nk, H, Dk, d_ff = sizes(rng, 6, high=8)
    if square:
        B = Nk = H = Nq
    D = H * Dk
    Dm = D if same_width or square else next(width for width in (9, 10) if width != D)
    config = {"d_model": D, "n_heads": H, "d_ff": 2 * d_ff, "d_memory": Dm}
    state = drawn_state(wrong.Parts(**config), rng)
    return config, state, {"x": normal(rng, B, Nq, D), "memory": normal(rng, B, Nk, Dm)}


def _seen(rng, args):
    """Draw a mask for each attention; every position may at least look at itself."""
    (B, Nq, _), Nk = args["x"].shape, args["memory"].shape[1]
    self_mask = visible(rng, B, 1, Nq, Nq) | np.eye(Nq, dtype=bool)
    return {**args, "self_mask": self_mask, "memory_mask": visible(rng, B, 1, Nq, Nk)}


def _padded(rng, args):
    """Draw lengths for x and memory, and the masks that hide what lies beyond them."""
    (B, Nq, _), Nk = args["x"].shape, args["memory"].shape[1]
    n_words, n_source = lengths(rng, B, Nq), lengths(rng, B, Nk)
    return n_words, n_source, {**args, "self_mask": real(n_words, Nq), "memory_mask": real(n_source, Nk)}


def _values(ask, rng):
    config, state, args = _case(rng)
    ask.forward_matches(config, state, **args)


def _masks(ask, rng):
    config, state, args = _case(rng)
    ask.forward_matches(config, state, **_seen(rng, args))


def _same_width(ask, rng):
    config, state, args = _case(rng, same_width=True)
    ask.forward_matches(config, state, **args)


def _square(ask, rng):
    config, state, args = _case(rng, square=True)
    ask.forward_matches(config, state, **_seen(rng, args))


def _deleted(ask, rng):
    config, state, args = _case(rng)
    n_words, n_source, args = _padded(rng, args)
    out = run(ask, config, state, args)
    for b, (n, m) in enumerate(zip(n_words, n_source, strict=True)):
        alone = run(ask, config, state, {"x": args["x"][b : b + 1, :n], "memory": args["memory"][b : b + 1, :m]})
        why = f"sentence {b}, of {n} words with a source of {m}, gets another result alone than in the padded batch"
        unmoved(out[b, :n], alone[0], why, {**config, **args})


def _hidden(ask, rng):
    config, state, args = _case(rng)
    _, _, args = _padded(rng, args)
    words, source = args["self_mask"][:, 0, 0, :, None], args["memory_mask"][:, 0, 0, :, None]
    noisy = {**args, "x": args["x"] + 10 * normal(rng, *args["x"].shape) * ~words}
    noisy["memory"] = args["memory"] + 10 * normal(rng, *args["memory"].shape) * ~source
    before, after = (np.where(words, run(ask, config, state, case), 0) for case in (args, noisy))
    unmoved(before, after, "with other numbers in the padding, the result of the words changes", {**config, **args})


def _neighbours(ask, rng):
    config, state, args = _case(rng)
    _, _, args = _padded(rng, args)
    other = {**args, **{name: normal(rng, *args[name].shape) for name in ("x", "memory")}}
    other["x"][1], other["memory"][1] = args["x"][1], args["memory"][1]
    before, after = run(ask, config, state, args)[1], run(ask, config, state, other)[1]
    unmoved(before, after, "with other sentences beside it, the result of sentence 1 changes", {**config, **args})


def _varied(rng, args, name):
    """Lay one sentence many times into the batch, each time with another place of x or memory changed."""
    n, width = args[name].shape[1:]
    many = {key: np.repeat(args[key][:1], n + 1, axis=0) for key in ("x", "memory")}
    many[name][np.arange(n), np.arange(n)] += normal(rng, n, width)
    return n, many


def _future(ask, rng):
    config, state, args = _case(rng)
    n, many = _varied(rng, args, "x")
    out = run(ask, config, state, many)
    case = {**config, **args}
    for place in range(n):
        moved(out[-1, place:], out[place, place:], f"x changes at place {place}, and it or a later one stays", case)
    for place in range(1, n):
        unmoved(out[-1, :place], out[place, :place], f"x changes at place {place}, and an earlier one notices", case)


def _whole_memory(ask, rng):
    config, state, args = _case(rng)
    n, many = _varied(rng, args, "memory")
    out = run(ask, config, state, many)
    for token in range(n):
        why = f"the memory changes at token {token} of {n}, and some position of x does not notice"
        moved(out[-1], out[token], why, {**config, **args})


def _no_source(ask, rng):
    config, state, args = _case(rng)
    _, _, args = _padded(rng, args)
    args["memory_mask"][0] = False
    out = run(ask, config, state, args)
    if not np.isfinite(out).all():
        raise Violation("a source that is padding alone makes NaN or inf", {**config, **args})
    ask.gradients_match(config, state, normal(rng, *args["x"].shape) * args["self_mask"][:, 0, 0, :, None], **args)


def _gradients(ask, rng):
    config, state, args = _case(rng)
    ask.gradients_match(config, state, normal(rng, *args["x"].shape), tuple(state), **_seen(rng, args))


EXERCISES = {
    "DecoderLayer": Exercise(
        reference=DecoderLayer,
        plain=wrong.DecoderLayer,
        local=TensorSubject,
        wanted="tensor",
        properties=(
            Property("the same input gives the same result", 1, lambda ask, rng: repeated(ask, *_case(rng))),
            Property("right values when every size is another", 3, _values),
            Property("right values under both masks", 2, _masks),
            Property("right values when the memory is as wide as x", 1, _same_width),
            Property("right values when x and memory are alike in every size", 1, _square),
            Property("no place sees what comes later, every place sees what came before", 2, _future),
            Property("every place reads the whole memory", 1, _whole_memory),
            Property("hiding the padding equals deleting it", 2, _deleted),
            Property("what stands in the padding has no effect on the words", 1, _hidden),
            Property("every sentence reads its own memory alone", 1, _neighbours),
            Property("a source of padding alone does no harm", 1, _no_source),
            Property("gradients reach x, the memory and every parameter", 2, _gradients),
        ),
        misconceptions=wrong.MISTAKES,
        compositions=wrong.composed,
        alternatives=wrong.ALTERNATIVES,
    ),
}
