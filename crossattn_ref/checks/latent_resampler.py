"""The exercise "bridges/LatentResampler": a memory of any length, summed up in a few learned rows.

Letters: B pictures in a batch, H heads, N rows of a memory, L latents, D width of both, Dk width of one head.
"""

import numpy as np
from torch import nn

from crossattn_ref.checks.compare import Violation, insist, unmoved
from crossattn_ref.checks.draw import normal, sizes
from crossattn_ref.checks.exercise import Exercise, Property
from crossattn_ref.checks.modules import lengths, moved
from crossattn_ref.checks.tensors import TensorSubject, drawn_state
from crossattn_ref.checks.variants import resampler as wrong
from crossattn_ref.models import bridges
from crossattn_ref.models.blocks import LayerConfig


class LatentResampler(nn.Module):
    """The layer of crossattn_ref.models.bridges, its parts under the names that the exercise gives them."""

    def __init__(self, d_model: int, n_heads: int, n_latents: int, d_ff: int):
        super().__init__()
        layer = bridges.ResamplerLayer(LayerConfig(d_model=d_model, n_heads=n_heads, d_ff=d_ff, dropout=0.0))
        parts = wrong.Parts(d_model, n_heads, n_latents, d_ff)
        self.latents, self.attention = parts.latents, parts.attention
        self.latents_norm, self.memory_norm = layer.latents_norm, layer.memory_norm
        self.feed_forward_norm = layer.around_feed_forward.layer_norm
        self.feed_forward = nn.Sequential(layer.feed_forward.inner, nn.ReLU(), layer.feed_forward.outer)
        layer.attention = self.attention  # with biases
        self.forward = lambda memory, mask=None: layer(self.latents.expand(len(memory), -1, -1), memory, mask)


def _case(rng, *, square=False):
    """Draw a resampler, its weights and a memory, every size another; or as many of everything."""
    B, N, L, H, Dk, d_ff = sizes(rng, 6, high=8)
    if square:
        B = N = L = H
    config = {"d_model": H * Dk, "n_heads": H, "n_latents": L, "d_ff": d_ff}
    return config, drawn_state(wrong.Parts(**config), rng), {"memory": normal(rng, B, N, H * Dk)}


def _padded(rng, args):
    """Draw how many rows of each memory are real, and the mask that says so, (B, N)."""
    B, N, _ = args["memory"].shape
    n_real = lengths(rng, B, N)
    return n_real, {**args, "mask": np.arange(N) < n_real[:, None]}


def _run(ask, config, state, args):
    shape = (len(args["memory"]), config["n_latents"], config["d_model"])
    return insist(ask.forward(config, state, **args), shape, {**config, **args}, "tensor")


def _values(ask, rng):
    for _ in range(2):
        config, state, args = _case(rng)
        ask.forward_matches(config, state, **args)


def _masks(ask, rng):
    config, state, args = _case(rng)
    ask.forward_matches(config, state, **_padded(rng, args)[1])
    config, state, args = _case(rng, square=True)
    ask.forward_matches(config, state, **_padded(rng, args)[1])


def _any_length(ask, rng):
    """Ask for as many rows whatever the length of the memory, and for other ones when any of it changes."""
    config, state, args = _case(rng)
    memory = args["memory"]
    _run(ask, config, state, {"memory": np.concatenate([memory, memory, memory], axis=1)})
    _run(ask, config, state, {"memory": memory[:, :1]})
    N, D = memory.shape[1:]
    changed = np.repeat(memory[:1], N + 1, axis=0)
    changed[np.arange(N), np.arange(N)] += normal(rng, N, D)
    out = _run(ask, config, state, {"memory": changed})
    for row in range(N):
        why = f"row {row} of a memory of {N} changes, and some latent does not notice"
        moved(out[-1], out[row], why, {**config, **args})


def _deleted(ask, rng):
    config, state, args = _case(rng)
    n_real, args = _padded(rng, args)
    out = _run(ask, config, state, args)
    for b, n in enumerate(n_real):
        alone = _run(ask, config, state, {"memory": args["memory"][b : b + 1, :n]})
        why = f"picture {b}, whose memory has {n} real rows, gets another result alone than in the padded batch"
        unmoved(out[b], alone[0], why, {**config, **args})


def _nothing_seen(ask, rng):
    """Show one picture's latents nothing of its memory: they read themselves."""
    config, state, args = _case(rng)
    _, args = _padded(rng, args)
    args["mask"][0] = False
    out = _run(ask, config, state, args)
    if not np.isfinite(out).all():
        raise Violation("a memory that may not be seen at all makes NaN or inf", {**config, **args})
    ask.forward_matches(config, state, **args)


def _gradients(ask, rng):
    config, state, args = _case(rng)
    grad_out = normal(rng, len(args["memory"]), config["n_latents"], config["d_model"])
    ask.gradients_match(config, state, grad_out, tuple(state), **_padded(rng, args)[1])


EXERCISES = {
    "LatentResampler": Exercise(
        reference=LatentResampler,
        plain=wrong.LatentResampler,
        local=TensorSubject,
        wanted="tensor",
        properties=(
            Property("right values without a mask", 3, _values),
            Property("right values under a mask", 2, _masks),
            Property("as many rows for a memory of any length, and every row is read", 1, _any_length),
            Property("hiding a row equals deleting it", 2, _deleted),
            Property("a memory that may not be seen", 1, _nothing_seen),
            Property("gradients reach the memory and every parameter", 2, _gradients),
        ),
        misconceptions=wrong.MISTAKES,
        compositions=wrong.composed,
        alternatives=wrong.ALTERNATIVES,
    ),
}
