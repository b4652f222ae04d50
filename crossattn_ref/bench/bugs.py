"""Thirty-four ways to get a translator wrong, each planted in a right one from outside.

A bug takes a Setup, a right model with the habits of its training, and changes one thing in it: the function that
computes attention, a method, a module or a habit. The package itself has no switch for any of them.

Letters: B sentences, H heads, Nq queries, Nk keys, D model width, Dh width of one head.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from crossattn_ref.attention import dense
from crossattn_ref.attention.multihead import Memory, MultiHeadAttention
from crossattn_ref.data.vocabulary import PAD
from crossattn_ref.models.translation import Translator


@dataclass
class Setup:
    """A model, and what its training does with a target: how far labels lie ahead, and which label does not count."""

    model: Translator
    shift: int = 1
    uncounted: int = PAD


@dataclass(frozen=True)
class Bug:
    """One mistake: its name, what it is in words, and a function that plants it in a Setup."""

    name: str
    words: str
    plant: Callable[[Setup], object]


def _everywhere(attend):
    """Make a bug of a wrong attention, in each layer."""

    def plant(setup):
        for module in setup.model.modules():
            if isinstance(module, MultiHeadAttention):
                module.attend = attend

    return plant


def _in_cross(wrong):
    """Make a bug of wrong(right, x, memory, mask), which stands for the call of each cross-attention."""

    def plant(setup):
        for layer in setup.model.decoder:
            _instead(layer.cross_attention, "forward", wrong)

    return plant


def _instead(owner, name, wrong):
    """Let wrong(right, *arguments) stand for a method of one object."""
    right = getattr(owner, name)
    setattr(owner, name, lambda *arguments, **options: wrong(right, *arguments, **options))


def _scores(q, k, mask, fill=-1e9):
    scores = q @ k.mT / math.sqrt(q.shape[-1])
    return scores if mask is None else scores.masked_fill(~mask, fill)


def _scaled_by(factor):
    """Multiply right scores by factor(H, Dh)."""
    return lambda q, k, v, mask: dense.attention(q * factor(q.shape[1], q.shape[-1]), k, v, mask)


def _over_queries(q, k, v, mask):
    return _scores(q, k, mask).softmax(dim=-2) @ v


def _filled(fill):
    return lambda q, k, v, mask: _scores(q, k, mask, fill).softmax(dim=-1) @ v


def _masked_late(q, k, v, mask):
    weights = dense.attention_weights(q, k)
    return (weights if mask is None else weights * mask) @ v


def _twice(q, k, v, mask):
    return dense.attention_weights(q, k, mask).softmax(dim=-1) @ v


def _merged_untransposed(q, k, v, mask):
    out = dense.attention(q, k, v, mask)  # (B, H, Nq, Dh)
    batch, n_heads, n_queries, width = out.shape
    return out.reshape(batch, n_queries, n_heads, width).transpose(1, 2)  # which the layer turns back


def _mean_of_heads(q, k, v, mask):
    out = dense.attention(q, k, v, mask)
    return out.mean(dim=1, keepdim=True).expand_as(out)


def _split_by(split):
    """Make a bug of split(x, n_heads, d_head), which cuts the rows of every layer into heads."""

    def plant(setup):
        for module in setup.model.modules():
            if isinstance(module, MultiHeadAttention):
                _instead(module, "_split", lambda right, x, n_heads, d_head=module.d_head: split(x, n_heads, d_head))

    return plant


def _viewed(x, n_heads, d_head):
    return x.view(x.shape[0], n_heads, x.shape[1], d_head)


def _interleaved(x, n_heads, d_head):
    return x.view(*x.shape[:2], d_head, n_heads).permute(0, 3, 1, 2)


def _over_queries_in_cross(setup):
    for layer in setup.model.decoder:
        layer.cross_attention.attend = _over_queries


def _unmasked_source(setup):
    _in_cross(lambda right, x, memory, mask: right(x, memory))(setup)
    for layer in setup.model.encoder:
        _instead(layer.self_attention, "forward", lambda right, x, mask: right(x))


def _causal_in_cross(right, x, memory, mask):
    return right(x, memory, mask & torch.ones(x.shape[1], memory.shape[1], dtype=torch.bool).tril())


def _targets_mask(setup):
    def wrong(right, tgt, memory, lengths):
        real = nn.functional.pad(tgt != PAD, (0, memory.shape[1] - tgt.shape[1]))  # so that it fits while it grows
        return right(tgt, memory, lengths)[0], real[:, None, None]

    _instead(setup.model, "_masks", wrong)


def _values_from_x(setup):
    for layer in setup.model.decoder:
        cross = layer.cross_attention

        def wrong(right, x, memory, mask, remember=cross.remember):
            return right(x, Memory(remember(memory).keys, remember(x).values), mask)

        _instead(cross, "forward", wrong)


def _no_out_proj(setup):
    for module in setup.model.modules():
        if isinstance(module, MultiHeadAttention):
            module.out_proj = nn.Identity()


def _dropout_forever(setup):
    for module in setup.model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.1
    setup.model.eval = setup.model.train


def _encoded(wrong):
    """Make a bug of wrong(memory, lengths), which stands for the memory."""

    def plant(setup):
        _instead(setup.model, "encode", lambda right, src, lengths: wrong(right(src, lengths), lengths))

    return plant


def _last_row(memory: Tensor, lengths: Tensor) -> Tensor:
    return memory[torch.arange(len(lengths)), lengths - 1][:, None].expand_as(memory)


def _without_encoder(setup):
    model = setup.model
    model.encode = lambda src, lengths: model.encoder_norm(model.src_embedding(src))


def _without_positions(embedding):
    embedding.table = torch.zeros_like(embedding.table)


def _positions_of_the_batch(setup):
    embedding = setup.model.src_embedding
    embedding.forward = lambda src: embedding.tokens(src) * embedding.scale + embedding.table[: len(src), None]


def _own_mask(change):
    """Make a bug of change(mask), which stands for the triangle."""

    def plant(setup):
        def wrong(right, tgt, memory, lengths):
            triangle, memory_mask = right(tgt, memory, lengths)
            return change(triangle), memory_mask

        _instead(setup.model, "_masks", wrong)

    return plant


def _no_residual(setup):
    for layer in setup.model.decoder:
        around = layer.around_cross_attention
        around.forward = lambda x, sublayer, norm=around.layer_norm: sublayer(norm(x))


BUGS = (
    Bug("no-root", "scores not divided at all", _everywhere(_scaled_by(lambda H, Dh: Dh**0.5))),
    Bug("root-of-model-width", "divided by √D, not √Dh", _everywhere(_scaled_by(lambda H, Dh: H**-0.5))),
    Bug("no-square-root", "divided by Dh, not its root", _everywhere(_scaled_by(lambda H, Dh: Dh**-0.5))),
    Bug("times-root", "multiplied by √Dh", _everywhere(_scaled_by(lambda H, Dh: Dh))),
    Bug("softmax-over-queries", "softmax over queries", _everywhere(_over_queries)),
    Bug("cross-softmax-over-queries", "the same in cross-attention alone", _over_queries_in_cross),
    Bug("double-softmax", "softmax twice", _everywhere(_twice)),
    Bug("fill-0", "hidden scores filled with 0", _everywhere(_filled(0.0))),
    Bug("fill-typo", "filled with -1e-9, not -1e9", _everywhere(_filled(-1e-9))),
    Bug("mask-after-softmax", "masked after the softmax", _everywhere(_masked_late)),
    Bug("no-causal-mask", "no causal mask", _own_mask(torch.ones_like)),
    Bug("causal-off-by-one", "the triangle one step too wide", _own_mask(lambda mask: mask | mask.roll(1, dims=1))),
    Bug(
        "cross-unmasked",
        "source padding read by the decoder",
        _in_cross(lambda right, x, memory, mask: right(x, memory)),
    ),
    Bug("source-unmasked", "source padding read by everybody", _unmasked_source),
    Bug(
        "cross-polarity", "the source mask inverted", _in_cross(lambda right, x, memory, mask: right(x, memory, ~mask))
    ),
    Bug("cross-causal", "a triangle in cross-attention", _in_cross(_causal_in_cross)),
    Bug("target-mask-on-source", "the target's mask on the source", _targets_mask),
    Bug(
        "own-keys-and-values",
        "keys and values from the decoder",
        _in_cross(lambda right, x, memory, mask: right(x, x, mask)),
    ),
    Bug("own-values", "values from the decoder", _values_from_x),
    Bug("heads-viewed", "heads cut by view alone", _split_by(_viewed)),
    Bug("heads-merged-untransposed", "heads merged without transpose", _everywhere(_merged_untransposed)),
    Bug("heads-interleaved", "heads dealt out like cards", _split_by(_interleaved)),
    Bug("heads-averaged", "heads averaged", _everywhere(_mean_of_heads)),
    Bug("no-output-projection", "no output projection", _no_out_proj),
    Bug("dropout-in-use", "dropout left on in use", _dropout_forever),
    Bug("no-encoder", "embeddings instead of a memory", _without_encoder),
    Bug("memory-detached", "a memory without gradient", _encoded(lambda memory, lengths: memory.detach())),
    Bug("memory-of-one-row", "the last row of the memory alone", _encoded(_last_row)),
    Bug(
        "source-without-positions",
        "no positions in the source",
        lambda setup: _without_positions(setup.model.src_embedding),
    ),
    Bug("positions-of-the-batch", "source positions along the batch", _positions_of_the_batch),
    Bug(
        "target-without-positions",
        "no positions in the target",
        lambda setup: _without_positions(setup.model.tgt_embedding),
    ),
    Bug("labels-not-shifted", "labels not shifted", lambda setup: setattr(setup, "shift", 0)),
    Bug("padding-counted", "padding counted in the loss", lambda setup: setattr(setup, "uncounted", -100)),
    Bug("no-residual", "no residual round cross-attention", _no_residual),
)
