"""Mistakes in a latent resampler, as a module, and right modules that compute another way.

The layer is a line of stages: start (the latents of a batch), keys (what is read), look (who may be seen),
around_reading and around_thinking, finish.

Letters: B pictures in a batch, N rows of a memory, L latents, D width of both.
"""

import torch
from torch import nn
from torch.nn import functional

from crossattn_ref.attention.multihead import MultiHeadAttention
from crossattn_ref.checks.variants.masks import kept
from crossattn_ref.checks.variants.stages import flat, pairs, staged


class Parts(nn.Module):
    """What is given: learned latents, a norm for each side, attention, feed-forward and its norm."""

    def __init__(self, d_model, n_heads, n_latents, d_ff):
        super().__init__()
        self.latents = nn.Parameter(torch.randn(n_latents, d_model))
        self.latents_norm, self.memory_norm = nn.LayerNorm(d_model), nn.LayerNorm(d_model)
        self.attention = MultiHeadAttention(d_model, n_heads)
        self.feed_forward_norm = nn.LayerNorm(d_model)
        self.feed_forward = nn.Sequential(nn.Linear(d_model, d_ff), nn.ReLU(), nn.Linear(d_ff, d_model))


def _for_each_picture(latents, memory):
    return latents.expand(len(memory), -1, -1)


def _memory_then_latents(memory, x):
    return torch.cat([memory, x], dim=1)


def _latents_always(mask, x):
    """Widen a mask (B, N) by the latents, which may always be seen -> (B, 1, 1, N + L)."""
    return torch.cat([mask, mask.new_ones(x.shape[:2])], dim=1)[:, None, None]


def _each_its_own(m):
    return m.latents_norm, m.memory_norm


def _pre_norm(x, found):
    return x + found


class LatentResampler(Parts):
    """A resampler with any of its stages replaced; as it stands, the right one in the dtype of its weights."""

    def __init__(
        self, d_model, n_heads, n_latents, d_ff, *, start=_for_each_picture, keys=_memory_then_latents,
        look=_latents_always, norms=_each_its_own, around_reading=_pre_norm, around_thinking=_pre_norm, finish=kept,
    ):  # fmt: skip
        super().__init__(d_model, n_heads, n_latents, d_ff)
        self.start, self.keys, self.look, self.norms, self.finish = start, keys, look, norms, finish
        self.around_reading, self.around_thinking = around_reading, around_thinking

    def forward(self, memory, mask=None):
        latents = self.start(self.latents, memory)
        latents_norm, memory_norm = self.norms(self)
        x, read = latents_norm(latents), memory_norm(memory)
        seen = None if mask is None else self.look(mask, x)
        keys = self.keys(read, x)
        if seen is not None and seen.shape[-1] != keys.shape[1]:
            seen = seen[..., : keys.shape[1]]
        latents = self.around_reading(latents, self.attention(x, keys, seen))
        latents = self.around_thinking(latents, self.feed_forward(self.feed_forward_norm(latents)))
        return self.finish(latents)


def _mean_added(latents, memory):
    return latents + memory.mean(dim=1, keepdim=True)


STAGES = staged(
    LatentResampler,
    start=(
        ("latents from the memory", lambda latents, memory: memory[:, torch.arange(len(latents)) % memory.shape[1]],
         "when the first rows of the memory stand in the place of the latents",
         "Which of the parts that you were given has no work?"),
        ("mean of the memory added", _mean_added, "with the mean of the memory added to the latents",
         "What do the latents know before they have read anything?"),
        ("one latent for all", lambda latents, memory: latents.mean(0).expand(len(memory), len(latents), -1),
         "when all latents are the same one", "Two latents ask the same: do they get different answers?"),
    ),
    keys=(
        ("latents not among the keys", lambda memory, x: memory, "when the latents read the memory, and not themselves",
         "What are keys and values made of, by the formula?"),
        ("latents in front", {"keys": lambda memory, x: torch.cat([x, memory], dim=1)},
         "when the latents stand in front of the memory, and the mask is made for the other order",
         "Which column of the mask speaks of the first latent?"),
        ("latents alone", {"keys": lambda memory, x: x, "look": lambda mask, x: None},
         "when the latents read nothing but themselves", "Change the memory: does the result change?"),
    ),
    look=(
        ("mask ignored", lambda mask, x: None, "without the mask",
         "Run a picture alone and in a padded batch: is it the same?"),
        ("latents hidden", lambda mask, x: torch.cat([mask, mask.new_zeros(x.shape[:2])], dim=1)[:, None, None],
         "when the latents are hidden from themselves",
         "A memory that may not be seen at all: what is left to read?"),
        ("mask turned round", lambda mask, x: _latents_always(~mask, x), "with the mask of the memory turned round",
         "In this course, does True mean look or do not look?"),
        ("first picture's mask", lambda mask, x: _latents_always(mask, x)[:1], "with the first picture's mask for all",
         "Are all memories of a batch equally long?"),
    ),
    norms=(
        ("norms swapped", lambda m: (m.memory_norm, m.latents_norm), "with the two norms in each other's places",
         "Each norm is named after what it belongs to."),
        ("latents' norm twice", lambda m: (m.latents_norm, m.latents_norm), "with the latents' norm on the memory, too",
         "Which of the parts that you were given has no work?"),
        ("memory's norm twice", lambda m: (m.memory_norm, m.memory_norm), "with the memory's norm on the latents, too",
         "Which of the parts that you were given has no work?"),
        ("memory not normalized", lambda m: (m.latents_norm, kept), "without the norm of the memory",
         "Which of the parts that you were given has no work?"),
        ("latents not normalized", lambda m: (kept, m.memory_norm), "without the norm of the latents",
         "Which of the parts that you were given has no work?"),
    ),
    around_reading=(
        ("no residual around the attention", lambda x, found: found, "without the residual around the attention",
         "Let the attention return zero. What should be left of the latents?"),
    ),
    around_thinking=(
        ("no residual around the feed-forward", lambda x, found: found, "without the residual around the feed-forward",
         "Let the feed-forward return zero. What should be left?"),
        ("no feed-forward", lambda x, found: x, "without the feed-forward",
         "Which of the parts that you were given has no work?"),
    ),
    finish=(
        ("one row", lambda x: x.mean(dim=1, keepdim=True), "with the mean of the latents, one row for a picture",
         "How many rows come out, whatever goes in?"),
        ("no gradient", lambda x: x.detach(), "when the result is cut off from what it was computed from",
         "Which parameter can still learn?"),
    ),
)  # fmt: skip
MISTAKES = flat(STAGES)


def composed():
    """Make the mistakes that two stages make together: the most frequent stages only."""
    return pairs(LatentResampler, {name: STAGES[name] for name in ("look", "norms", "around_thinking")})


class _Plain(Parts):
    def forward(self, memory, mask=None):
        B, L = len(memory), len(self.latents)
        latents = self.latents.repeat(B, 1, 1)
        x = self.latents_norm(latents)
        keys = torch.cat((self.memory_norm(memory), x), 1)
        if mask is not None:
            mask = functional.pad(mask, (0, L), value=True).view(B, 1, 1, -1)
        latents = latents + self.attention(x, keys, mask)
        return self.feed_forward(self.feed_forward_norm(latents)) + latents


class _PictureByPicture(Parts):
    """Take each picture alone, and leave out of its memory what may not be seen."""

    def forward(self, memory, mask=None):
        out = []
        for number, rows in enumerate(memory):
            real = rows if mask is None else rows[mask[number]]
            x = self.latents_norm(self.latents)
            keys = torch.cat([x, self.memory_norm(real)])
            latents = self.latents + self.attention(x[None], keys[None])[0]
            out.append(latents + self.feed_forward(self.feed_forward_norm(latents)))
        return torch.stack(out)


class _WithFunctions(Parts):
    def forward(self, memory, mask=None):
        a, B = self.attention, memory.shape[0]
        latents = self.latents[None].expand(B, *self.latents.shape)
        x = self.latents_norm(latents)
        keys = torch.cat([self.memory_norm(memory), x], dim=1)
        q, k, v = (
            t.unflatten(-1, (a.n_heads, -1)).transpose(1, 2) for t in (a.q_proj(x), a.k_proj(keys), a.v_proj(keys))
        )
        seen = None if mask is None else torch.cat([mask, torch.ones_like(x[..., 0], dtype=torch.bool)], 1)
        seen = None if seen is None else seen[:, None, None].expand(-1, 1, x.shape[1], -1)
        read = functional.scaled_dot_product_attention(q, k, v, attn_mask=seen).transpose(1, 2).flatten(2)
        latents = latents + a.out_proj(read)
        return latents + self.feed_forward(self.feed_forward_norm(latents))


ALTERNATIVES = (LatentResampler, _Plain, _PictureByPicture, _WithFunctions)
