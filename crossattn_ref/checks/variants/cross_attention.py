"""Mistakes in cross-attention with heads, as a module, and right modules that compute another way.

The module is a line of stages: wire (who reads what), project, split, match, scale, weigh, share, merge, finish.
A mistake replaces one of them, and a mistake of two stages replaces both. As it stands, the line is right.

Letters: B sentences, H heads, Nq queries, Nk keys (and values), D model width, Dm memory width, Dk width of one head.
"""

import torch
from torch import nn
from torch.nn import functional

from crossattn_ref.checks.variants import masked_softmax
from crossattn_ref.checks.variants.layers import dropping
from crossattn_ref.checks.variants.masked_softmax import by_root_width, over_keys, where_seen
from crossattn_ref.checks.variants.stages import flat, pairs, staged


class Projections(nn.Module):
    """What is given: four projections, and the number of heads."""

    def __init__(self, d_model, n_heads, d_memory):
        super().__init__()
        self.n_heads = n_heads
        self.q_proj = nn.Linear(d_model, d_model)
        self.k_proj = nn.Linear(d_memory, d_model)
        self.v_proj = nn.Linear(d_memory, d_model)
        self.out_proj = nn.Linear(d_model, d_model)


def from_x_and_memory(x, memory, mask):
    return x, memory, memory


def each_its_own(layer, for_q, for_k, for_v):
    return layer.q_proj(for_q), layer.k_proj(for_k), layer.v_proj(for_v)


def heads(tensor, n_heads):
    return tensor.unflatten(-1, (n_heads, -1)).transpose(1, 2)  # (B, H, N, Dk)


def dot(q, k):
    return q @ k.mT


def joined(out):
    return out.transpose(1, 2).flatten(2)  # (B, Nq, D)


def projected(layer, out, x):
    return layer.out_proj(out)


class CrossAttention(Projections):
    """Cross-attention with any of its stages replaced; as it stands, the right one in the dtype of its weights."""

    def __init__(
        self, d_model, n_heads, d_memory, *, wire=from_x_and_memory, project=each_its_own, split=heads, match=dot,
        scale=by_root_width, weigh=where_seen, share=over_keys, merge=joined, finish=projected,
    ):  # fmt: skip
        super().__init__(d_model, n_heads, d_memory)
        self.wire, self.project, self.split, self.match, self.scale = wire, project, split, match, scale
        self.weigh, self.share, self.merge, self.finish = weigh, share, merge, finish

    def forward(self, x, memory, mask=None):
        q, k, v = (self.split(tensor, self.n_heads) for tensor in self.project(self, *self.wire(x, memory, mask)))
        weights = self.weigh(self.scale(self.match(q, k), q, k, self), mask, self.share)
        return self.finish(self, self.merge(weights @ v), x)


def _padding_zeroed(x, memory, mask):
    kept = memory if mask is None else memory.masked_fill(~mask[:, 0, 0, :, None], 0)
    return x, kept, kept


def _sentences_as_positions(x, memory, mask):
    return x.transpose(0, 1), memory.transpose(0, 1), memory.transpose(0, 1)


def _turned_back(layer, out, x):
    return layer.out_proj(out).transpose(0, 1)


STAGES = staged(
    CrossAttention,
    wire=(
        ("decoder reads itself", lambda x, memory, mask: (x, x, x),
         "with keys and values taken from x: the memory is never read", "Change the memory: does your result change?"),
        ("keys from x", lambda x, memory, mask: (x, x, memory),
         "with the keys taken from x: the memory never says where it matches",
         "Whose words must a query be compared with, to know where to look?"),
        ("values from x", lambda x, memory, mask: (x, memory, x),
         "with the values taken from x: the memory is searched, and something else carried away",
         "You found the word. From which page did you copy?"),
        ("roles swapped", lambda x, memory, mask: (memory, x, x),
         "with the queries taken from the memory, and keys and values from x",
         "How many rows must the result have: one for each row of x, or one for each row of the memory?"),
        ("memory reads itself", lambda x, memory, mask: (memory, memory, memory),
         "with queries, keys and values all taken from the memory", "Change x: does your result change?"),
        ("memory detached", lambda x, memory, mask: (x, memory.detach(), memory.detach()),
         "when no gradient reaches the memory: whoever wrote it never learns from its readers",
         "The encoder made this memory. How will it hear of its mistakes?"),
        ("sequence first", {"wire": _sentences_as_positions, "finish": _turned_back},
         "with sentences and positions in each other's places, going in and coming out",
         "Let the sentences of the batch change places: do the results follow?"),
        ("padding set to zero", _padding_zeroed,
         "with the memory set to zero where it must not be seen, and read all the same",
         "A key of zeros gets the score 0. What does softmax make of a score of 0?"),
    ),
    project=(
        ("no query projection", lambda m, a, b, c: (a, m.k_proj(b), m.v_proj(c)), "with x itself as queries",
         "Which of the four projections has no work?"),
        ("no key projection", lambda m, a, b, c: (m.q_proj(a), b, m.v_proj(c)), "with the memory itself as keys",
         "Which of the four projections has no work?"),
        ("no value projection", lambda m, a, b, c: (m.q_proj(a), m.k_proj(b), c), "with the memory itself as values",
         "Which of the four projections has no work?"),
        ("values through the key projection", lambda m, a, b, c: (m.q_proj(a), m.k_proj(b), m.k_proj(c)),
         "with the values made by the projection of the keys",
         "What is matched and what is carried away may differ. Which projection makes which?"),
        ("keys through the value projection", lambda m, a, b, c: (m.q_proj(a), m.v_proj(b), m.v_proj(c)),
         "with the keys made by the projection of the values",
         "What is matched and what is carried away may differ. Which projection makes which?"),
        ("key and value projections swapped", lambda m, a, b, c: (m.q_proj(a), m.v_proj(b), m.k_proj(c)),
         "with the projections of keys and values in each other's places",
         "Which of the two results meets the queries, and which one the weights?"),
        ("keys through the query projection", lambda m, a, b, c: (m.q_proj(a), m.q_proj(b), m.v_proj(c)),
         "with the keys made by the projection of the queries",
         "When the memory is as wide as x, nothing stops you. Which projection is for the memory?"),
    ),
    split=(
        ("heads cut without a transpose", lambda t, n_heads: t.reshape(t.shape[0], n_heads, t.shape[1], -1),
         "with heads cut by a reshape where two axes should change places",
         "reshape cuts the same numbers into other rows. Which number of which word ends up in head 0?"),
        ("every H-th column", lambda t, n_heads: t.unflatten(-1, (-1, n_heads)).permute(0, 3, 1, 2),
         "with heads made of every H-th column, not of neighbouring ones",
         "Columns 0 and 1 of a projection: are they in the same head?"),
        ("one head", lambda t, n_heads: t[:, None], "with one head as wide as the model",
         "In how many ways at once may a query look?"),
    ),
    merge=(
        ("merged without a transpose", lambda out: out.reshape(out.shape[0], out.shape[2], -1),
         "with heads joined by a reshape where two axes should change places first",
         "Change one query: may the rows of the others move?"),
        ("heads interleaved", lambda out: out.permute(0, 2, 3, 1).flatten(2),
         "with the heads joined column by column, not one after the other",
         "Which columns of the joined row belong to head 0?"),
        ("heads averaged", lambda out: joined(out.mean(1, keepdim=True).expand_as(out)),
         "with the heads averaged before the output projection",
         "Each head brings something else. Who may mix them, and when?"),
    ),
    match=(
        ("keys reshaped", lambda q, k: q @ k.reshape(*k.shape[:2], k.shape[3], k.shape[2]),
         "with the keys reshaped where they should be transposed",
         "reshape cuts the same numbers into other rows. You want two axes to change places."),
        ("keys alone cut without a transpose", lambda q, k: q @ k.transpose(1, 2).reshape(k.shape).mT,
         "with the heads of the keys cut by a reshape where two axes should change places",
         "Queries, keys and values are cut into heads alike. Are yours?"),
    ),
    scale=masked_softmax.SCALE,
    weigh=masked_softmax.WEIGH,
    share=masked_softmax.SHARE,
    finish=(
        ("no output projection", lambda m, out, x: out, "without the output projection",
         "Which of the four projections has no work?"),
        ("x added", lambda m, out, x: m.out_proj(out) + x, "with x added to the result",
         "Who adds the residual: attention, or the layer around it?"),
    ),
)  # fmt: skip

MISTAKES = (*flat(STAGES), dropping(CrossAttention))


def composed():
    """Make the mistakes that two stages make together: the stages that go wrong most often."""
    return pairs(
        CrossAttention, {stage: STAGES[stage] for stage in ("wire", "split", "match", "merge", "scale", "weigh")}
    )


class _Einsum(Projections):
    def forward(self, x, memory, mask=None):
        q, k, v = (
            projection(source).unflatten(-1, (self.n_heads, -1))
            for projection, source in ((self.q_proj, x), (self.k_proj, memory), (self.v_proj, memory))
        )
        scores = torch.einsum("bqhd,bkhd->bhqk", q * q.shape[-1] ** -0.5, k)
        out = torch.einsum("bhqk,bkhd->bqhd", where_seen(scores, mask, over_keys), v)
        return self.out_proj(out.flatten(2))


class _Library(Projections):
    def forward(self, x, memory, mask=None):
        q, k, v = (heads(t, self.n_heads) for t in (self.q_proj(x), self.k_proj(memory), self.v_proj(memory)))
        if mask is not None:
            mask = mask.expand(-1, -1, x.shape[1], -1)
        return self.out_proj(joined(functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)))


class _TorchsOwn(Projections):
    """Through the function behind nn.MultiheadAttention, whose boolean masks mean the opposite of ours."""

    def forward(self, x, memory, mask=None):
        hidden, blind = None, None
        if mask is not None:
            seen = mask.expand(len(x), self.n_heads, x.shape[1], memory.shape[1])
            blind = ~seen.any(-1, keepdim=True)
            hidden = ~(seen | blind).flatten(0, 1)
        if blind is not None and blind.any():
            return self._row_by_row(x, memory, seen)
        return self._read(x, memory, hidden)

    def _read(self, x, memory, hidden):
        biases = torch.cat([self.q_proj.bias, self.k_proj.bias, self.v_proj.bias])
        out, _ = functional.multi_head_attention_forward(
            x.transpose(0, 1), memory.transpose(0, 1), memory.transpose(0, 1), x.shape[-1], self.n_heads, None, biases,
            None, None, False, 0.0, self.out_proj.weight, self.out_proj.bias, training=self.training,
            need_weights=False, attn_mask=hidden, use_separate_proj_weight=True, q_proj_weight=self.q_proj.weight,
            k_proj_weight=self.k_proj.weight, v_proj_weight=self.v_proj.weight,
        )  # fmt: skip
        return out.transpose(0, 1)

    def _row_by_row(self, x, memory, seen):
        """Leave the heads that see nothing out of a row: by the other way to compute it, one head after the other."""
        return _HeadByHead.forward(self, x, memory, seen)


class _HeadByHead(Projections):
    """Each head with its own slice of every projection; the output projection's slices are added up."""

    def forward(self, x, memory, mask=None):
        width = x.shape[-1] // self.n_heads
        out = self.out_proj.bias
        for head in range(self.n_heads):
            part = slice(head * width, (head + 1) * width)
            q, k, v = (
                functional.linear(source, projection.weight[part], projection.bias[part])
                for projection, source in ((self.q_proj, x), (self.k_proj, memory), (self.v_proj, memory))
            )
            seen = mask if mask is None else mask[:, head if mask.shape[1] > 1 else 0]
            read = where_seen(q @ k.mT / width**0.5, seen, over_keys) @ v
            out = out + functional.linear(read, self.out_proj.weight[:, part])
        return out


class _SentenceBySentence(Projections):
    """Each query on its own, with what it may not see left out of its memory."""

    def forward(self, x, memory, mask=None):
        q, k, v = (heads(t, self.n_heads) for t in (self.q_proj(x), self.k_proj(memory), self.v_proj(memory)))
        out = torch.zeros_like(q)
        for b, h, i in torch.cartesian_prod(*(torch.arange(n) for n in q.shape[:3])).tolist():
            seen = slice(None)
            if mask is not None:
                seen = mask.expand(*q.shape[:3], -1)[b, h, i]
            if k[b, h, seen].numel():
                scores = k[b, h, seen] @ q[b, h, i] / q.shape[-1] ** 0.5
                out[b, h, i] = scores.softmax(0) @ v[b, h, seen]
        return self.out_proj(joined(out))


class _FilledAndCleared(Projections):
    """A large negative number where nobody may look, and weights of 0 there afterwards."""

    def forward(self, x, memory, mask=None):
        q, k, v = (heads(t, self.n_heads) for t in (self.q_proj(x), self.k_proj(memory), self.v_proj(memory)))
        scores = q @ k.mT / k.shape[-1] ** 0.5
        if mask is None:
            weights = scores.softmax(-1)
        else:
            weights = scores.masked_fill(~mask, -1e9).softmax(-1).masked_fill(~mask, 0)
        return self.out_proj(joined(weights @ v))


class _Renormalised(Projections):
    def forward(self, x, memory, mask=None):
        q, k, v = (heads(t, self.n_heads) for t in (self.q_proj(x), self.k_proj(memory), self.v_proj(memory)))
        scores = q @ k.mT / k.shape[-1] ** 0.5
        exp = (scores - scores.amax(-1, keepdim=True)).exp() * (1 if mask is None else mask)
        return self.out_proj(joined(exp @ v / exp.sum(-1, keepdim=True).clamp(min=1e-300)))


class _InFloat32(CrossAttention):
    def forward(self, x, memory, mask=None):
        self.float()
        return super().forward(x.float(), memory.float(), mask)


ALTERNATIVES = (
    CrossAttention, _Einsum, _Library, _TorchsOwn, _HeadByHead, _SentenceBySentence, _FilledAndCleared, _Renormalised,
    _InFloat32,
)  # fmt: skip
