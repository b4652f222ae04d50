"""Mistakes in attention with several heads, as a module, and right modules that compute another way.

The line of stages, and most of what goes wrong in it, is that of cross-attention; here is what concerns the heads.

Letters: B sentences, H heads, Nq queries, Nk keys (and values), D model width, Dm memory width, Dk width of one head.
"""

import math

import torch
from torch.nn import functional

from crossattn_ref.checks.variants.cross_attention import STAGES as CROSS
from crossattn_ref.checks.variants.cross_attention import CrossAttention, Projections, heads, joined
from crossattn_ref.checks.variants.layers import dropping
from crossattn_ref.checks.variants.masked_softmax import where_seen
from crossattn_ref.checks.variants.stages import flat, staged


def _with_part(part):
    """Use only one part of each projection."""

    def project(m, for_q, for_k, for_v):
        return tuple(part(p, t) for p, t in ((m.q_proj, for_q), (m.k_proj, for_k), (m.v_proj, for_v)))

    return project


def _heads_mixed(t, n_heads):
    batch, n, _ = t.shape
    return t.reshape(batch, n, n_heads, -1).permute(2, 0, 1, 3).reshape(batch, n_heads, n, -1)


def _folded_in_the_wrong_order(scores, mask, share):
    """Put sentences and heads on one axis, and lay the masks over it head after head, not sentence after sentence."""
    batch, n_heads, nq, nk = scores.shape
    masks = mask.expand(batch, n_heads, nq, nk).transpose(0, 1).reshape(batch, n_heads, nq, nk)
    return where_seen(scores, masks, share)


def _half_unsafe(scores, mask, share):
    return share(scores.masked_fill(~mask, -1e9)).masked_fill(~mask, 0)


OWN = staged(
    CrossAttention,
    scale=(
        ("scaled too late", {"scale": lambda scores, q, k, layer: scores,
                             "merge": lambda out: joined(out) / math.sqrt(out.shape[-1])},
         "with the output of the heads, not the scores, divided by the square root of Dk",
         "Scale before the softmax: does dividing afterwards make the weights any flatter?"),
    ),
    split=(
        ("transposed, then cut again", lambda t, h: t.transpose(1, 2).reshape(t.shape[0], h, t.shape[1], -1),
         "with positions and columns transposed first, and then cut into heads anew",
         "After your transpose, what does a row hold: one position, or one column of all positions?"),
        ("sentences mixed", _heads_mixed, "with heads and sentences cut anew along one axis",
         "Change the second sentence: which heads of the first one move?"),
        ("heads reversed", lambda t, h: t.unflatten(-1, (h, -1)).transpose(1, 2).flip(1),
         "with the heads in reverse order going in, and not coming out", "Which columns of a row belong to head 0?"),
        ("first head for all", lambda t, h: heads(t, h)[:, :1].expand(-1, h, -1, -1),
         "when every head reads the first Dk columns", "Which columns belong to head 1?"),
    ),
    merge=(
        ("scale after softmax", lambda out: joined(out) / math.sqrt(out.shape[-1]),
         "with the weights divided by the square root of Dk once more",
         "Scale the scores, not the weights: what do your rows add up to?"),
        ("heads added", lambda out: joined(out.sum(1, keepdim=True).expand_as(out)),
         "with the heads added up before the output projection",
         "Each head brings something else. Who may mix them, and when?"),
        ("columns first", lambda out: out.transpose(2, 3).reshape(out.shape[0], out.shape[2], -1),
         "with positions and columns of each head transposed, and then cut into rows anew",
         "Row 0 of the joined heads: do all of its numbers belong to query 0?"),
        ("sentences mixed after", lambda out: out.transpose(0, 1).reshape(joined(out).shape[0], out.shape[2], -1),
         "with heads and sentences in each other's places when the heads are joined",
         "Change the second sentence: may the first one's rows move?"),
    ),
    weigh=(
        ("masks in the wrong order", _folded_in_the_wrong_order,
         "with sentences and heads on one axis, and the masks repeated in another order",
         "With 2 sentences of 3 heads on one axis: whose mask does the third place need?"),
        ("first head's mask", lambda scores, mask, share: where_seen(scores, mask[:, :1], share),
         "with the first head's mask for every head", "A mask may differ from head to head. Which one do you read?"),
        ("first query's mask", lambda scores, mask, share: where_seen(scores, mask[:, :, :1], share),
         "with the first query's mask for every query", "May the last query see only what the first one sees?"),
        ("fill of -1e9", _half_unsafe, "when a hidden score is filled with a number that half precision cannot hold",
         "What is the largest number that fits into float16? Which number does exp turn to 0 in any precision?"),
        ("weights detached", lambda scores, mask, share: where_seen(scores, mask, share).detach(),
         "when no gradient reaches the scores: queries and keys never learn",
         "Which of the four projections get a gradient?"),
    ),
    finish=(
        ("bias of the output forgotten", lambda m, out, x: functional.linear(out, m.out_proj.weight),
         "without the bias of the output projection", "What does a query get that may look at nothing?"),
        ("output projected twice", lambda m, out, x: m.out_proj(m.out_proj(out)),
         "with the output projection applied twice", "How often is each of the four projections used?"),
        ("output through the query projection", lambda m, out, x: m.q_proj(out),
         "with the query projection in the place of the output projection",
         "Which of the four projections has no work?"),
        ("positions in front", lambda m, out, x: m.out_proj(out).transpose(0, 1),
         "with sentences and positions in each other's places", "In (B, Nq, D), what does the first axis count?"),
        ("no gradient", lambda m, out, x: m.out_proj(out).detach(), "when the result is cut off from its gradients",
         "Which line of yours leaves the world of tensors that know where they came from?"),
    ),
    project=(
        ("keys and values detached", lambda m, a, b, c: (m.q_proj(a), m.k_proj(b).detach(), m.v_proj(c).detach()),
         "when no gradient reaches the memory, nor the projections that read it",
         "The projections of keys and values are to be learned. Which line of yours stops their gradient?"),
        ("biases forgotten", _with_part(lambda projection, t: functional.linear(t, projection.weight)),
         "without the biases of the projections of queries, keys and values",
         "What does a linear layer add to the product?"),
    ),
)  # fmt: skip

STAGES = {stage: (*mistakes, *OWN.get(stage, ())) for stage, mistakes in CROSS.items()}
MISTAKES = (*flat(STAGES), dropping(CrossAttention))

# Those that come in company. All pairs would be 2,500, and a learner waits for them.
_OFTEN = {
    "heads cut without a transpose", "every H-th column", "sentences mixed", "merged without a transpose",
    "heads interleaved", "heads averaged", "keys reshaped", "no scale", "root of the model width", "divided by Dk",
    "multiplied by root Dk", "mask ignored", "polarity", "filled with zero", "mask after the softmax",
    "NaN for nothing", "average for nothing", "everything for nothing", "fill of -1e9", "softmax over queries",
    "softmax over heads", "softmax over the batch", "no query projection", "values through the key projection",
    "key and value projections swapped", "biases forgotten", "no output projection", "x added",
    "bias of the output forgotten",
}  # fmt: skip
OFTEN = {stage: tuple(m for m in mistakes if m.name in _OFTEN) for stage, mistakes in STAGES.items()}


class _Fused(Projections):
    def forward(self, x, memory, mask):
        q, k, v = (heads(t, self.n_heads) for t in (self.q_proj(x), self.k_proj(memory), self.v_proj(memory)))
        return self.out_proj(joined(functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)))


class _HeadByHead(Projections):
    """One head after the other, with its own rows of the weights; what comes out is projected by itself and added."""

    def forward(self, x, memory, mask):
        width = self.q_proj.out_features // self.n_heads
        mask = mask.expand(x.shape[0], self.n_heads, x.shape[1], memory.shape[1])
        out = self.out_proj.bias.expand(*x.shape[:-1], -1)
        for h in range(self.n_heads):
            mine = slice(h * width, (h + 1) * width)
            q, k, v = (
                functional.linear(t, p.weight[mine], p.bias[mine])
                for t, p in ((x, self.q_proj), (memory, self.k_proj), (memory, self.v_proj))
            )
            weights = where_seen(q @ k.mT / width**0.5, mask[:, h], lambda scores: scores.softmax(-1))
            out = out + weights @ v @ self.out_proj.weight[:, mine].mT
        return out


class _Einsum(Projections):
    def forward(self, x, memory, mask):
        q, k, v = (
            p(t).unflatten(-1, (self.n_heads, -1))
            for p, t in ((self.q_proj, x), (self.k_proj, memory), (self.v_proj, memory))
        )
        scores = torch.einsum("bqhd,bkhd->bhqk", q / q.shape[-1] ** 0.5, k).masked_fill(~mask, -math.inf)
        weights = scores.softmax(-1).masked_fill(~mask, 0)
        return self.out_proj(torch.einsum("bhqk,bkhd->bqhd", weights, v).reshape(x.shape))


class _Folded(Projections):
    """Sentences and heads on one axis."""

    def forward(self, x, memory, mask):
        q, k, v = (
            heads(t, self.n_heads).flatten(0, 1) for t in (self.q_proj(x), self.k_proj(memory), self.v_proj(memory))
        )
        mask = mask.expand(x.shape[0], self.n_heads, x.shape[1], memory.shape[1]).flatten(0, 1)
        scores = torch.bmm(q, k.mT) * q.shape[-1] ** -0.5
        weights = scores.where(mask, torch.finfo(q.dtype).min).softmax(-1) * mask
        return self.out_proj(joined(torch.bmm(weights, v).unflatten(0, (-1, self.n_heads))))


class _InFloat32(Projections):
    def forward(self, x, memory, mask):
        q, k, v = (heads(t, self.n_heads).float() for t in (self.q_proj(x), self.k_proj(memory), self.v_proj(memory)))
        weights = where_seen(q @ k.mT / math.sqrt(q.shape[-1]), mask, lambda scores: scores.softmax(-1))
        return self.out_proj(joined(weights @ v).to(x.dtype))


class _QueryByQuery(Projections):
    def forward(self, x, memory, mask):
        keys, values = heads(self.k_proj(memory), self.n_heads), heads(self.v_proj(memory), self.n_heads)
        mask = mask.expand(-1, -1, x.shape[1], -1)
        rows = []
        for i in range(x.shape[1]):
            q = heads(self.q_proj(x[:, i : i + 1]), self.n_heads)
            scores = (q * keys).sum(-1) / math.sqrt(q.shape[-1])  # (B, H, Nk)
            weights = where_seen(scores, mask[:, :, i], lambda scores: scores.softmax(-1))
            rows.append((weights[..., None] * values).sum(2).flatten(1))
        return self.out_proj(torch.stack(rows, dim=1))


class _KeysNeverMade(Projections):
    """Carry the queries over to the memory, and let them meet it there."""

    def forward(self, x, memory, mask):
        q = heads(self.q_proj(x), self.n_heads) / (x.shape[-1] // self.n_heads) ** 0.5
        into = self.k_proj.weight.unflatten(0, (self.n_heads, -1))  # (H, Dk, Dm)
        shift = (q * self.k_proj.bias.view(1, self.n_heads, 1, -1)).sum(-1, keepdim=True)
        scores = (q @ into) @ memory[:, None].mT + shift
        weights = where_seen(scores, mask, lambda scores: scores.softmax(-1))
        return self.out_proj(joined(weights @ heads(self.v_proj(memory), self.n_heads)))


class _OneProjectionForBoth(Projections):
    def forward(self, x, memory, mask):
        weight = torch.cat([self.k_proj.weight, self.v_proj.weight])
        both = functional.linear(memory, weight, torch.cat([self.k_proj.bias, self.v_proj.bias]))
        k, v = (torch.stack(t.chunk(self.n_heads, dim=-1), dim=1) for t in both.chunk(2, dim=-1))
        q = torch.stack(self.q_proj(x).chunk(self.n_heads, dim=-1), dim=1)
        weights = torch.softmax((q @ k.mT / math.sqrt(q.shape[-1])).masked_fill(~mask, -math.inf), dim=-1)
        out = weights.masked_fill(~mask.any(-1, keepdim=True), 0) @ v
        return self.out_proj(torch.cat(out.unbind(1), dim=-1))


ALTERNATIVES = (
    _Fused, _HeadByHead, _Einsum, _Folded, _InFloat32, _QueryByQuery, _KeysNeverMade, _OneProjectionForBoth,
)  # fmt: skip
