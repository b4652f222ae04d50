"""Mistakes in an encoder layer with pre-norm, as a module, and right modules that compute another way.

The layer is a line of stages: enter, look (where each position may look), norms (which one goes where),
around_attention, around_feed_forward, read (what the self-attention is given), and line, which strings them together.

Letters: B sentences, H heads, N positions, D model width.
"""

import torch
from torch import nn
from torch.nn import functional

from crossattn_ref.attention.multihead import MultiHeadAttention
from crossattn_ref.checks.variants.layers import ENTER, around, dropping, hide, pre_norm
from crossattn_ref.checks.variants.masks import kept
from crossattn_ref.checks.variants.stages import flat, pairs, staged


class Parts(nn.Module):
    """What is given: self-attention and feed-forward, and a norm for each."""

    def __init__(self, d_model, n_heads, d_ff):
        super().__init__()
        self.self_attention_norm = nn.LayerNorm(d_model)
        self.self_attention = MultiHeadAttention(d_model, n_heads)
        self.feed_forward_norm = nn.LayerNorm(d_model)
        self.feed_forward = nn.Sequential(nn.Linear(d_model, d_ff), nn.ReLU(), nn.Linear(d_ff, d_model))


def each_its_own(layer):
    return layer.self_attention_norm, layer.feed_forward_norm


def straight(attention, x, mask):
    return lambda h, memory=None: attention(h, memory, mask)


def one_after_the_other(x, read, think):
    return think(read(x))


class EncoderLayer(Parts):
    """An encoder layer with any of its stages replaced; as it stands, the right one in the dtype of its weights."""

    def __init__(
        self, d_model, n_heads, d_ff, *, enter=kept, look=kept, norms=each_its_own, around_attention=pre_norm,
        around_feed_forward=pre_norm, read=straight, line=one_after_the_other,
    ):  # fmt: skip
        super().__init__(d_model, n_heads, d_ff)
        self.enter, self.look, self.norms, self.read, self.line = enter, look, norms, read, line
        self.around_attention, self.around_feed_forward = around_attention, around_feed_forward

    def forward(self, x, mask=None):
        x = self.enter(x)
        attention_norm, feed_forward_norm = self.norms(self)
        read = self.read(self.self_attention, x, self.look(mask))
        return self.line(
            x,
            lambda x: self.around_attention(x, attention_norm, read),
            lambda x: self.around_feed_forward(x, feed_forward_norm, self.feed_forward),
        )


def _keys_not_normed(x, norm, sublayer):
    return x + sublayer(norm(x), x)


def _queries_not_normed(x, norm, sublayer):
    return x + sublayer(x, norm(x))


def _sentences_as_positions(attention, x, mask):
    return lambda h, memory=None: attention(h.transpose(0, 1), None, mask).transpose(0, 1)


def _all_as_one_sentence(attention, x, mask):
    return lambda h, memory=None: attention(h.reshape(1, -1, h.shape[-1]), None, mask).reshape(h.shape)


def _no_gradient(attention, x, mask):
    return lambda h, memory=None: attention(h, memory, mask).detach()


def _padding_zeroed(attention, x, mask):
    kept_rows = 1 if mask is None else mask[:, 0, 0, :, None]
    return lambda h, memory=None: attention(h * kept_rows)


def _causal(attention, x, mask):
    past = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).tril()
    return straight(attention, x, past if mask is None else mask & past)


AROUND = around({"around_attention": "around the self-attention", "around_feed_forward": "around the feed-forward"})

STAGES = staged(
    EncoderLayer,
    enter=ENTER,
    look=(
        *hide("mask"),
        ("query rows masked", lambda mask: mask if mask is None else mask & mask.mT,
         "with the mask applied to the queries too",
         "The mask says which keys may be seen. Does it say anything about the queries?"),
    ),
    norms=(
        ("norms swapped", lambda m: (m.feed_forward_norm, m.self_attention_norm),
         "with the two norms in each other's places", "Each norm is named after the sublayer that it belongs to."),
        ("first norm twice", lambda m: (m.self_attention_norm, m.self_attention_norm),
         "with the norm of the self-attention in both places", "Which of the parts that you were given has no work?"),
        ("second norm twice", lambda m: (m.feed_forward_norm, m.feed_forward_norm),
         "with the norm of the feed-forward in both places", "Which of the parts that you were given has no work?"),
    ),
    around=AROUND["around"],
    around_attention=(
        *AROUND["around_attention"],
        ("keys not normalized", _keys_not_normed, "when the queries are normalized, and keys and values are not",
         "In self-attention, x reads itself. Which x do the keys see, before the norm or after it?"),
        ("queries not normalized", _queries_not_normed, "when keys and values are normalized, and the queries are not",
         "In self-attention, x reads itself. Which x do the queries see, before the norm or after it?"),
    ),
    around_feed_forward=AROUND["around_feed_forward"],
    read=(
        ("sentences as positions", _sentences_as_positions, "when words look at the other sentences of the batch",
         "Change the second sentence: does the result of the first one move?"),
        ("one long sentence", _all_as_one_sentence, "with all sentences of the batch joined into one",
         "Change the second sentence: does the result of the first one move?"),
        ("no gradient", _no_gradient, "when no gradient flows through the self-attention",
         "Which of the parts that you were given will never learn?"),
        ("padding set to zero", _padding_zeroed, "with padding set to zero, and read all the same",
         "A key made of zeros gets a score too. What does softmax make of it?"),
        ("causal", _causal, "with later words hidden from earlier ones",
         "The whole sentence is there before the encoder starts. May its first word see the last?"),
    ),
    line=(
        ("feed-forward first", lambda x, read, think: read(think(x)), "with the feed-forward before the self-attention",
         "Which comes first, reading the others or thinking about what was read?"),
        ("side by side", lambda x, read, think: read(x) + think(x) - x,
         "when the feed-forward reads the layer's input, not what the self-attention made of it",
         "Change a neighbouring word: does what goes into the feed-forward change?"),
        ("attention's sum forgotten", lambda x, read, think: x + think(read(x)) - read(x),
         "when the second residual adds the layer's input, not the first sum",
         "Let the feed-forward return zero. Is what the self-attention found still there?"),
        ("no self-attention", lambda x, read, think: think(x), "without the self-attention",
         "Change a neighbouring word: does the result change?"),
        ("no feed-forward", lambda x, read, think: read(x), "without the feed-forward",
         "Which of the parts that you were given has no work?"),
        ("self-attention twice", lambda x, read, think: think(read(read(x))), "with the self-attention applied twice",
         "How often does each sublayer run?"),
        ("no gradient at all", lambda x, read, think: think(read(x)).detach(),
         "when the result is cut off from what it was computed from", "Which parameter can still learn?"),
    ),
)  # fmt: skip

MISTAKES = (*flat(STAGES), dropping(EncoderLayer))


def composed():
    """Make the mistakes that two stages make together: the most frequent stages only."""
    return pairs(EncoderLayer, {stage: STAGES[stage] for stage in ("look", "around", "norms", "line")})


class _Plain(Parts):
    def forward(self, x, mask=None):
        h = self.self_attention_norm(x)
        x = self.self_attention(h, h, mask) + x
        return self.feed_forward(self.feed_forward_norm(x)) + x


class _WithFunctions(Parts):
    """Everything by functions: the norms, the attention, the feed-forward."""

    def forward(self, x, mask=None):
        a, norm = self.self_attention, self.self_attention_norm
        h = functional.layer_norm(x, x.shape[-1:], norm.weight, norm.bias, norm.eps)
        q, k, v = (p(h).unflatten(-1, (a.n_heads, -1)).transpose(1, 2) for p in (a.q_proj, a.k_proj, a.v_proj))
        seen = None if mask is None else mask.expand(-1, -1, x.shape[1], -1)
        read = functional.scaled_dot_product_attention(q, k, v, attn_mask=seen).transpose(1, 2).flatten(2)
        x = x + functional.linear(read, a.out_proj.weight, a.out_proj.bias)
        inner, _, outer = self.feed_forward
        return torch.add(x, outer(torch.relu(inner(self.feed_forward_norm(x)))))


class _NormByHand(Parts):
    def forward(self, x, mask=None):
        x = x + self.self_attention(self._norm(x, self.self_attention_norm), mask=mask)
        return x + self.feed_forward(self._norm(x, self.feed_forward_norm))

    def _norm(self, x, norm):
        centred = x - x.mean(-1, keepdim=True)
        spread = (centred**2).mean(-1, keepdim=True)
        return centred / (spread + norm.eps).sqrt() * norm.weight + norm.bias


class _SentenceBySentence(Parts):
    def forward(self, x, mask=None):
        masks = [None] * len(x) if mask is None else mask.expand(len(x), -1, -1, -1).split(1)
        return torch.cat([_Plain.forward(self, one, seen) for one, seen in zip(x.split(1), masks, strict=True)])


class _PaddedRowsCleared(Parts):
    """Padded positions get zeros: nobody reads them."""

    def forward(self, x, mask=None):
        out = _Plain.forward(self, x, mask)
        return out * mask[:, 0, 0, :, None] if mask is not None and mask.shape[1:3] == (1, 1) else out


class _InFloat32(Parts):
    def forward(self, x, mask=None):
        self.float()
        return _Plain.forward(self, x.float(), mask)


ALTERNATIVES = (
    EncoderLayer, _Plain, _WithFunctions, _NormByHand, _SentenceBySentence, _PaddedRowsCleared, _InFloat32,
)  # fmt: skip
