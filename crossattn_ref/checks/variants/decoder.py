"""Mistakes in a decoder layer with pre-norm, as a module, and right modules that compute another way.

The layer is a line of stages: enter, look (where each sublayer may look), parts (which attention and which norm goes
where), around_self, around_cross, around_feed_forward, read (what the cross-attention is given), and line, which
strings the three sublayers together.

Letters: B sentences, H heads, Nq positions of x, Nk positions of the memory, D model width, Dm memory width.
"""

import torch
from torch import nn

from crossattn_ref.attention.multihead import MultiHeadAttention
from crossattn_ref.checks.variants.layers import ENTER, around, dropping, hide, pre_norm
from crossattn_ref.checks.variants.masks import kept
from crossattn_ref.checks.variants.stages import flat, pairs, staged


class Parts(nn.Module):
    """What is given: two attentions and a feed-forward, and a norm for each."""

    def __init__(self, d_model, n_heads, d_ff, d_memory):
        super().__init__()
        self.self_attention_norm = nn.LayerNorm(d_model)
        self.self_attention = MultiHeadAttention(d_model, n_heads)
        self.cross_attention_norm = nn.LayerNorm(d_model)
        self.cross_attention = MultiHeadAttention(d_model, n_heads, d_memory=d_memory)
        self.feed_forward_norm = nn.LayerNorm(d_model)
        self.feed_forward = nn.Sequential(nn.Linear(d_model, d_ff), nn.ReLU(), nn.Linear(d_ff, d_model))


def past(x, diagonal=0):
    return torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).tril(diagonal)


def both(causal, mask):
    return causal if mask is None else causal & mask


def causal_and_given(x, self_mask, memory_mask):
    return both(past(x), self_mask), memory_mask


def each_its_own(m):
    return (m.self_attention, m.cross_attention), (m.self_attention_norm, m.cross_attention_norm, m.feed_forward_norm)


def from_memory(attention, h, memory, mask):
    return attention(h, memory, mask)


def one_after_the_other(x, look, read, think):
    return think(read(look(x)))


class DecoderLayer(Parts):
    """A decoder layer with any of its stages replaced; as it stands, the right one in the dtype of its weights."""

    def __init__(
        self, d_model, n_heads, d_ff, d_memory, *, enter=kept, look=causal_and_given, parts=each_its_own,
        around_self=pre_norm, around_cross=pre_norm, around_feed_forward=pre_norm, read=from_memory,
        line=one_after_the_other,
    ):  # fmt: skip
        super().__init__(d_model, n_heads, d_ff, d_memory)
        self.enter, self.look, self.parts, self.read, self.line = enter, look, parts, read, line
        self.around_self, self.around_cross, self.around_feed_forward = around_self, around_cross, around_feed_forward

    def forward(self, x, memory, self_mask=None, memory_mask=None):
        x = self.enter(x)
        self_mask, memory_mask = self.look(x, self_mask, memory_mask)
        (self_attention, cross_attention), norms = self.parts(self)
        return self.line(
            x,
            lambda x: self.around_self(x, norms[0], lambda h, other=None: self_attention(h, other, self_mask)),
            lambda x: self.around_cross(
                x, norms[1], lambda h, norm=kept: self.read(cross_attention, h, norm(memory), memory_mask)
            ),
            lambda x: self.around_feed_forward(x, norms[2], self.feed_forward),
        )


def _keys_not_normed(x, norm, sublayer):
    return x + sublayer(norm(x), x)


def _memory_normed(x, norm, sublayer):
    return x + sublayer(norm(x), norm)


def _self_look(change):
    """Change where x may look in x; change(causal, mask) is given both masks."""
    return lambda x, self_mask, memory_mask: (change(past(x), self_mask), memory_mask)


def _memory_look(change):
    return lambda x, self_mask, memory_mask: (both(past(x), self_mask), change(memory_mask))


def _diagonal(offset):
    return lambda x, self_mask, memory_mask: (both(past(x, offset), self_mask), memory_mask)


def _hidden_later(x, self_mask, memory_mask):
    return both(past(x).mT, self_mask), memory_mask


def _read_causally(attention, h, memory, mask):
    hidden = torch.ones(h.shape[1], memory.shape[1], dtype=torch.bool).tril()
    return attention(h, memory, both(hidden, mask))


def _last_token(attention, h, memory, mask):
    return attention(h, memory[:, -1:], mask if mask is None else mask[..., -1:])


def _mean_token(attention, h, memory, mask):
    return attention(h, memory.mean(1, keepdim=True))


AROUND = around({
    "around_self": "around the self-attention",
    "around_cross": "around the cross-attention",
    "around_feed_forward": "around the feed-forward",
})  # fmt: skip


STAGES = staged(
    DecoderLayer,
    enter=ENTER,
    look=(
        ("future seen", _self_look(lambda causal, mask: mask), "without a causal mask: each position sees what follows",
         "When the model writes, the next word does not exist yet. Who hides it during training?"),
        ("one step ahead", _diagonal(1), "when each position sees one step ahead",
         "What is position 0 to predict, and may it see position 1?"),
        ("itself hidden", _diagonal(-1), "when a position does not see itself",
         "Position 0 has no past. What is left for it to read?"),
        ("past hidden", _hidden_later, "with the past hidden, and the future shown",
         "Rows are queries, columns are keys. On which side of the diagonal is the past?"),
        ("padding forgotten", _self_look(lambda causal, mask: causal), "without the self_mask",
         "Two masks speak about self-attention. Which one do you use?"),
        ("either mask is enough", _self_look(lambda causal, mask: causal if mask is None else causal | mask),
         "when one of the two masks of the self-attention is enough to look",
         "May a position look at padding that stands in its past?"),
        ("causal only without a mask", _self_look(lambda causal, mask: causal if mask is None else mask),
         "with the causal mask only where no self_mask is given",
         "Does a self_mask say anything about the future?"),
        ("self_mask turned round", _self_look(lambda causal, mask: both(causal, mask if mask is None else ~mask)),
         "with the self_mask turned round: what may be seen is hidden",
         "In this course, does True mean look or do not look?"),
        ("both turned round", _self_look(lambda causal, mask: ~both(causal, mask)),
         "with both masks of the self-attention turned round", "In this course, does True mean look or do not look?"),
        ("masks exchanged", lambda x, s, m: (both(past(x), m), s),
         "with the mask of the memory in the self-attention, and that of x in the cross-attention",
         "A key mask is as long as the keys. Who are the keys of each attention?"),
        ("self_mask for both", lambda x, s, m: (both(past(x), s), s),
         "with the mask of x in the cross-attention too",
         "A key mask is as long as the keys. Who are the keys of the cross-attention?"),
        ("memory_mask for both", lambda x, s, m: (both(past(x), m), m),
         "with the mask of the memory in the self-attention too",
         "A key mask is as long as the keys. Who are the keys of the self-attention?"),
        *((name, _memory_look(change), symptom, hint) for name, change, symptom, hint in hide("memory_mask")),
        ("causal mask for both", lambda x, s, m: (both(past(x), s), both(past(x), m)),
         "with the causal mask in the cross-attention too",
         "The whole source is known before the first word is written. May position 0 see its last word?"),
    ),
    parts=(
        ("attentions exchanged", lambda m: ((m.cross_attention, m.self_attention), each_its_own(m)[1]),
         "with self-attention and cross-attention in each other's places",
         "When the memory is as wide as x, nothing stops you. Which of the two is made for the memory?"),
        ("self-attention for both", lambda m: ((m.self_attention, m.self_attention), each_its_own(m)[1]),
         "with the self-attention's weights in the cross-attention too",
         "Which of the parts that you were given has no work?"),
        ("first norm everywhere", lambda m: (each_its_own(m)[0], (m.self_attention_norm,) * 3),
         "with the norm of the self-attention in all three places",
         "Which of the parts that you were given has no work?"),
        ("first two norms exchanged",
         lambda m: (each_its_own(m)[0], (m.cross_attention_norm, m.self_attention_norm, m.feed_forward_norm)),
         "with the norms of self-attention and cross-attention in each other's places",
         "Each norm is named after the sublayer that it belongs to."),
        ("last two norms exchanged",
         lambda m: (each_its_own(m)[0], (m.self_attention_norm, m.feed_forward_norm, m.cross_attention_norm)),
         "with the norms of cross-attention and feed-forward in each other's places",
         "Each norm is named after the sublayer that it belongs to."),
    ),
    around=AROUND["around"],
    around_self=(
        *AROUND["around_self"],
        ("keys not normalized", _keys_not_normed, "when the self-attention normalizes its queries, and not its keys",
         "In self-attention, x reads itself. Which x do the keys see, before the norm or after it?"),
    ),
    around_cross=(
        *AROUND["around_cross"],
        ("memory normalized", _memory_normed, "with the norm of the cross-attention on the memory too",
         "Whose output is the memory, and who answers for its scale?"),
    ),
    around_feed_forward=AROUND["around_feed_forward"],
    read=(
        ("decoder reads itself", lambda attention, h, memory, mask: attention(h, None, mask),
         "with self-attention twice: the memory is never read", "Change the memory: does the result change?"),
        ("roles swapped", lambda attention, h, memory, mask: attention(memory, h, mask),
         "when the memory asks and x answers", "Who has a question, the sentence being written or the source?"),
        ("memory detached", lambda attention, h, memory, mask: attention(h, memory.detach(), mask),
         "when no gradient reaches the memory: the encoder never learns from the decoder",
         "The encoder made this memory. How will it hear of its mistakes?"),
        ("causal memory", _read_causally, "with later memory tokens hidden from earlier positions",
         "The whole source is known before the first word is written. May position 0 see its last word?"),
        ("last token only", _last_token, "with only the last token of the memory",
         "That is the suitcase that attention was made to replace. How many tokens has the memory?"),
        ("mean of the memory", _mean_token, "with only the mean of the memory",
         "That is the suitcase that attention was made to replace. How many tokens has the memory?"),
    ),
    line=(
        ("cross-attention first", lambda x, look, read, think: think(look(read(x))),
         "with the cross-attention before the self-attention",
         "Which comes first, reading what was written so far or reading the memory?"),
        ("feed-forward before the memory", lambda x, look, read, think: read(think(look(x))),
         "with the feed-forward before the cross-attention", "What should the feed-forward think about?"),
        ("attentions side by side", lambda x, look, read, think: think(look(x) + read(x) - x),
         "when the cross-attention reads with the layer's input, not with what the self-attention made of it",
         "Change an earlier word: do the queries to the memory change?"),
        ("self-attention's sum forgotten", lambda x, look, read, think: think(x + read(look(x)) - look(x)),
         "when the second residual adds the layer's input, not the first sum",
         "Let the cross-attention return zero. Is what the self-attention found still there?"),
        ("cross-attention's sum forgotten",
         lambda x, look, read, think: look(x) + think(read(look(x))) - read(look(x)),
         "when the third residual adds the first sum, not the second",
         "Let the feed-forward return zero. Is what was read from the memory still there?"),
        ("both sums forgotten", lambda x, look, read, think: x + think(read(look(x))) - read(look(x)),
         "when the third residual adds the layer's input",
         "Let the feed-forward return zero. Is what the two attentions found still there?"),
        ("feed-forward without the memory",
         lambda x, look, read, think: read(look(x)) + think(look(x)) - look(x),
         "when the feed-forward reads what the self-attention made, without what came from the memory",
         "What should the feed-forward think about?"),
        ("input added to the last", lambda x, look, read, think: think(read(look(x))) + x,
         "with the layer's input added once more at the end", "Let all sublayers return zero. What is left of x?"),
        ("no gradient at all", lambda x, look, read, think: think(read(look(x))).detach(),
         "when the result is cut off from what it was computed from", "Which parameter can still learn?"),
        ("no self-attention", lambda x, look, read, think: think(read(x)), "without the self-attention",
         "Which of the parts that you were given has no work?"),
        ("no cross-attention", lambda x, look, read, think: think(look(x)), "without the cross-attention",
         "Change the memory: does the result change?"),
        ("no feed-forward", lambda x, look, read, think: read(look(x)), "without the feed-forward",
         "Which of the parts that you were given has no work?"),
    ),
)  # fmt: skip

MISTAKES = (*flat(STAGES), dropping(DecoderLayer))


def composed():
    """Make the mistakes that two stages make together: the stages that go wrong most often."""
    for two in (("look", "around"), ("look", "read"), ("around", "read")):
        yield from pairs(DecoderLayer, {stage: STAGES[stage] for stage in two})


class _Plain(Parts):
    def forward(self, x, memory, self_mask=None, memory_mask=None):
        n = x.shape[1]
        seen = torch.arange(n) <= torch.arange(n)[:, None]
        if self_mask is not None:
            seen = torch.logical_and(seen, self_mask)
        h = self.self_attention_norm(x)
        x = x + self.self_attention(h, h, seen)
        x = x + self.cross_attention(self.cross_attention_norm(x), memory, memory_mask)
        return x + self.feed_forward(self.feed_forward_norm(x))


class _ByNot(Parts):
    """Say what is hidden, and turn it round at the end."""

    def forward(self, x, memory, self_mask=None, memory_mask=None):
        hidden = torch.ones(x.shape[1], x.shape[1]).triu(1).bool()
        hidden = hidden if self_mask is None else hidden | ~self_mask
        out = x
        for norm, sublayer in (
            (self.self_attention_norm, lambda h: self.self_attention(h, mask=~hidden)),
            (self.cross_attention_norm, lambda h: self.cross_attention(h, memory=memory, mask=memory_mask)),
            (self.feed_forward_norm, self.feed_forward),
        ):
            out = sublayer(norm(out)) + out
        return out


class _Remembered(Parts):
    """Keys and values of the memory, projected once and read from there."""

    def forward(self, x, memory, self_mask=None, memory_mask=None):
        read = self.cross_attention.remember(memory)
        x = x + self.self_attention(self.self_attention_norm(x), mask=both(past(x), self_mask))
        x = x + self.cross_attention(self.cross_attention_norm(x), read, memory_mask)
        return x + self.feed_forward(self.feed_forward_norm(x))


class _WordByWord(Parts):
    """As a decoder writes: each position from what has been written so far."""

    def forward(self, x, memory, self_mask=None, memory_mask=None):
        rows = []
        for i in range(x.shape[1]):
            so_far = self.self_attention_norm(x[:, : i + 1])
            mask = None if self_mask is None else self_mask.expand(-1, -1, x.shape[1], -1)[:, :, i : i + 1, : i + 1]
            row = x[:, i : i + 1] + self.self_attention(so_far[:, -1:], so_far, mask)
            seen = None if memory_mask is None else memory_mask.expand(-1, -1, x.shape[1], -1)[:, :, i : i + 1]
            row = row + self.cross_attention(self.cross_attention_norm(row), memory, seen)
            rows.append(row + self.feed_forward(self.feed_forward_norm(row)))
        return torch.cat(rows, dim=1)


class _PaddedRowsCleared(Parts):
    def forward(self, x, memory, self_mask=None, memory_mask=None):
        out = _Plain.forward(self, x, memory, self_mask, memory_mask)
        padding = self_mask is not None and self_mask.shape[1:3] == (1, 1)
        return out * self_mask[:, 0, 0, :, None] if padding else out


class _InFloat32(Parts):
    def forward(self, x, memory, self_mask=None, memory_mask=None):
        self.float()
        return _Plain.forward(self, x.float(), memory.float(), self_mask, memory_mask)


ALTERNATIVES = (DecoderLayer, _Plain, _ByNot, _Remembered, _WordByWord, _PaddedRowsCleared, _InFloat32)
