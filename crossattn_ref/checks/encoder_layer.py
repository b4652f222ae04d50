"""The exercise "encoder/EncoderLayer": self-attention and feed-forward, with pre-norm.

Letters: B sentences, H heads, N positions, D model width, Dk width of one head.
"""

import numpy as np
from torch import nn

from crossattn_ref.checks.compare import Violation, unmoved
from crossattn_ref.checks.draw import normal, sizes, visible
from crossattn_ref.checks.exercise import Exercise, Property
from crossattn_ref.checks.modules import lengths, moved, real, repeated, run
from crossattn_ref.checks.tensors import TensorSubject, drawn_state
from crossattn_ref.checks.variants import encoder as wrong
from crossattn_ref.models import blocks


class EncoderLayer(nn.Module):
    """The layer of crossattn_ref.models.blocks, its parts under the names that the exercise gives them."""

    def __init__(self, d_model: int, n_heads: int, d_ff: int):
        super().__init__()
        config = blocks.LayerConfig(d_model=d_model, n_heads=n_heads, d_ff=d_ff, dropout=0.0, norm="pre")
        layer = blocks.EncoderLayer(config)
        self.self_attention_norm, self.self_attention = layer.around_self_attention.layer_norm, layer.self_attention
        self.feed_forward_norm = layer.around_feed_forward.layer_norm
        self.feed_forward = nn.Sequential(layer.feed_forward.inner, nn.ReLU(), layer.feed_forward.outer)
        self.forward = layer.forward


def _case(rng, *, square=False):
    """Draw a layer, its weights and its input, every size another; or as many sentences as positions and heads."""
    B, N, H, Dk, d_ff = sizes(rng, 5, high=7)
    if square:
        B, N, H, Dk = 4, 4, 4, 4
    config = {"d_model": H * Dk, "n_heads": H, "d_ff": 2 * d_ff}
    state = drawn_state(wrong.Parts(**config), rng)
    return config, state, {"x": normal(rng, B, N, H * Dk)}


def _seen(rng, args, n_heads=1):
    B, N, _ = args["x"].shape
    return {**args, "mask": visible(rng, B, n_heads, N, N)}


def _padded(rng, args):
    """Draw lengths for the sentences, and the mask that hides what lies beyond them."""
    B, N, _ = args["x"].shape
    n_real = lengths(rng, B, N)
    return n_real, {**args, "mask": real(n_real, N)}


def _values(ask, rng):
    config, state, args = _case(rng)
    ask.forward_matches(config, state, **args)
    config, state, args = _case(rng)
    ask.forward_matches(config, state, **args)


def _square(ask, rng):
    config, state, args = _case(rng, square=True)
    ask.forward_matches(config, state, **_seen(rng, args))


def _masks(ask, rng):
    config, state, args = _case(rng)
    ask.forward_matches(config, state, **_seen(rng, args))
    ask.forward_matches(config, state, **_seen(rng, args, config["n_heads"]))


def _deleted(ask, rng):
    config, state, args = _case(rng)
    n_real, args = _padded(rng, args)
    out = run(ask, config, state, args)
    for b, n in enumerate(n_real):
        alone = run(ask, config, state, {"x": args["x"][b : b + 1, :n]})
        why = f"sentence {b}, of {n} words, gets another result alone than in the padded batch"
        unmoved(out[b, :n], alone[0], why, {**config, **args})


def _hidden(ask, rng):
    config, state, args = _case(rng)
    _, args = _padded(rng, args)
    words = args["mask"][:, 0, 0, :, None]
    noisy = {**args, "x": args["x"] + 10 * normal(rng, *args["x"].shape) * ~words}
    before, after = (np.where(words, run(ask, config, state, case), 0) for case in (args, noisy))
    unmoved(before, after, "with other numbers in the padding, the result of the words changes", {**config, **args})


def _neighbours(ask, rng):
    config, state, args = _case(rng)
    other = {"x": normal(rng, *args["x"].shape)}
    other["x"][1] = args["x"][1]
    before, after = run(ask, config, state, args)[1], run(ask, config, state, other)[1]
    unmoved(before, after, "with other sentences beside it, the result of sentence 1 changes", {**config, **args})


def _empty_sentence(ask, rng):
    config, state, args = _case(rng)
    n_real, args = _padded(rng, args)
    empty = {**args, "mask": real(n_real * (np.arange(len(n_real)) > 0), args["x"].shape[1])}
    before, after = run(ask, config, state, args), run(ask, config, state, empty)
    if not np.isfinite(after).all():
        raise Violation("a sentence that is padding alone makes NaN or inf", {**config, **empty})
    words = args["mask"][1:, 0, 0, :, None]
    why = "with a sentence of padding alone in the batch, the others change"
    unmoved(np.where(words, before[1:], 0), np.where(words, after[1:], 0), why, {**config, **empty})


def _whole_sentence(ask, rng):
    """Lay one sentence many times into the batch, each time with another word changed."""
    config, state, args = _case(rng)
    _, N, D = args["x"].shape
    x = np.repeat(args["x"][:1], N + 1, axis=0)
    x[np.arange(N), np.arange(N)] += normal(rng, N, D)
    out = run(ask, config, state, {"x": x})
    for word in range(N):
        why = f"the first sentence changes at word {word} of {N}, and some word does not notice"
        moved(out[-1], out[word], why, {**config, **args})


def _word_order(ask, rng):
    config, state, args = _case(rng)
    turned = {"x": args["x"][:, ::-1].copy()}
    before, after = run(ask, config, state, args)[:, ::-1], run(ask, config, state, turned)
    why = "with the words in reverse order, the results are not the same ones in reverse order"
    unmoved(before, after, why, {**config, **args})


def _gradients(ask, rng):
    config, state, args = _case(rng)
    grad_out = normal(rng, *args["x"].shape)
    ask.gradients_match(config, state, grad_out, tuple(state), **_seen(rng, args))


EXERCISES = {
    "EncoderLayer": Exercise(
        reference=EncoderLayer,
        plain=wrong.EncoderLayer,
        local=TensorSubject,
        wanted="tensor",
        properties=(
            Property("the same input gives the same result", 1, lambda ask, rng: repeated(ask, *_case(rng))),
            Property("right values without a mask", 3, _values),
            Property("right values under a mask", 2, _masks),
            Property("right values with as many sentences as words and heads", 1, _square),
            Property("hiding the padding equals deleting it", 2, _deleted),
            Property("what stands in the padding has no effect on the words", 1, _hidden),
            Property("every sentence reads itself alone", 1, _neighbours),
            Property("every word reads the whole sentence", 1, _whole_sentence),
            Property("words in another order give the same results in that order", 1, _word_order),
            Property("a sentence of padding alone does no harm", 1, _empty_sentence),
            Property("gradients reach x and every parameter", 2, _gradients),
        ),
        misconceptions=wrong.MISTAKES,
        compositions=wrong.composed,
        alternatives=wrong.ALTERNATIVES,
    ),
}
