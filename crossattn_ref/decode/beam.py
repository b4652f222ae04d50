"""Several sentences side by side for each memory, the best of which go on.

Letters: B sentences, W continuations of one sentence kept side by side (the width of the beam), V tokens that there
are; rows = B * W, the continuations of one sentence in a row.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from crossattn_ref.data.vocabulary import BOS, EOS, PAD
from crossattn_ref.decode.model import Model, Written, check_at_least_1

BLOCK = 256  # tokens among which one maximum is taken before the best are looked for


def power(alpha: float) -> Callable[[int], float]:
    """Divide a log probability by n ** alpha, n tokens long, EOS included: 0 not at all, 1 a mean over the tokens."""
    return lambda n: n**alpha


def gnmt(alpha: float = 0.6) -> Callable[[int], float]:
    """Divide a log probability by ((5 + n) / 6) ** alpha, for a sentence of n tokens, EOS included.

    lp(Y) = (5 + |Y|)^alpha / (5 + 1)^alpha. Source: Wu et al., Google's Neural Machine Translation System (2016),
    equation 14, without the coverage penalty.
    """
    return lambda n: ((5 + n) / 6) ** alpha


MEAN = power(1.0)


@torch.inference_mode()
def beam(
    model: Model,
    memory: Tensor,
    lengths: Int[Tensor, " B"],
    *,
    width: int,
    max_tokens: int,
    penalty: Callable[[int], float] = MEAN,
    exhaustive: bool = False,
    bos: int = BOS,
    eos: int | None = EOS,
    never: Sequence[int] = (PAD, BOS),
) -> list[list[Written]]:
    """Write, for each memory, several sentences side by side, and keep the best -> up to `width` each, best first.

    A step continues each of `width` sentences by every token, and goes on with the `width` best of all, by log
    probability. One that ends in EOS among the `width` best is set aside, with log_prob / penalty(number of tokens)
    as its score; at max_tokens, so are those that have not ended. A search is over when `width` sentences are set
    aside and no open one, scored as if it ended now, would enter among them; if exhaustive, as if it ended at the
    length that suits it best, up to max_tokens. The rest as for greedy.

    Raises ValueError for a width or max_tokens below 1.
    Source: Sutskever et al., Sequence to Sequence Learning with Neural Networks (2014), section 3.2.
    """
    check_at_least_1(width=width, max_tokens=max_tokens)
    state = model.start(memory, lengths, width=width)
    tokens = torch.full((len(lengths) * width,), bos, device=memory.device)
    search = _Search(len(lengths), width, tokens.device)
    for n in range(1, max_tokens + 1):
        logits, state = model.step(tokens, state)
        grown = search.grow(logits, never, 1 + (eos is not None))
        search.set_aside(grown, eos, penalty(n), last=n == max_tokens)
        search.go_on(grown, eos)
        least = max(penalty(m) for m in range(n, max_tokens + 1)) if exhaustive else penalty(n)
        going = search.close(least)
        if n == max_tokens or not len(going):
            break
        if 2 * len(going) <= len(search.written):
            state = state.keep(going)
            search.keep(going)
        tokens, parents = search.newest()
        state = state.select(parents)
    return search.results()


@dataclass(frozen=True)
class _Grown:
    """Continuations of each sentence, best first: their log probabilities, the row each comes from, its new token."""

    log_probs: Float[Tensor, "B n"]
    parents: Int[Tensor, "B n"]
    tokens: Int[Tensor, "B n"]

    def at(self, places):
        return _Grown(*(x.gather(1, places) for x in (self.log_probs, self.parents, self.tokens)))


class _Search:
    """What a beam search knows: the open sentences, and for each memory those set aside, best first."""

    def __init__(self, batch, width, device):
        self.width, self.sentences = width, list(range(batch))
        self.aside = [[] for _ in range(batch)]
        self.written = torch.empty(batch, width, 0, dtype=torch.long, device=device)
        self.parents = None
        self.log_probs = torch.full((batch, width), -math.inf, device=device, dtype=torch.float64)
        self.log_probs[:, 0] = 0.0  # at first all rows are the same, and one of them counts

    def grow(self, logits, never, times):
        """Find the best continuations by one token, `times` as many as go on: some of them may end."""
        values, tokens = _best_but(never, logits, times * self.width)  # (rows, n)
        values = values.double() - logits.logsumexp(dim=-1, keepdim=True)
        n = values.shape[-1]
        totals = (self.log_probs.view(-1, 1) + values).view(len(self.written), -1)  # (B, W * n)
        log_probs, places = totals.topk(min(times * self.width, totals.shape[-1]))
        return _Grown(log_probs, places // n, tokens.view(totals.shape).gather(1, places))

    def set_aside(self, grown, eos, penalty, *, last):
        """Keep those that end, or all if this is the last token, where they are among the width best."""
        ends = grown.tokens == eos if eos is not None else torch.zeros_like(grown.tokens, dtype=torch.bool)
        chosen = (ends | last) & grown.log_probs.isfinite()
        owner, rank = chosen[:, : self.width].nonzero(as_tuple=True)
        rows = self.written[owner, grown.parents[owner, rank]]
        columns = owner, rows, *(x[owner, rank] for x in (grown.tokens, ends, grown.log_probs))
        for b, row, token, ended, log_prob in zip(*(x.tolist() for x in columns), strict=True):
            found = self.aside[self.sentences[b]]
            found.append(Written(tuple(row if ended else [*row, token]), log_prob, log_prob / penalty, ended))
            found.sort(key=lambda written: -written.score)
            del found[self.width :]

    def go_on(self, grown, eos):
        """Keep the best that do not end."""
        if eos is not None:
            ends = (grown.tokens == eos).int()
            grown = grown.at(ends.argsort(dim=1, stable=True)[:, : self.width])
            ended = grown.tokens == eos  # where there are too few others
            grown = replace(grown, log_probs=grown.log_probs.masked_fill(ended, -math.inf))
        self.log_probs, self.parents = grown.log_probs, grown.parents
        past = self.written.gather(1, grown.parents[..., None].expand(-1, -1, self.written.shape[-1]))
        self.written = torch.cat([past, grown.tokens[..., None]], dim=-1)

    def close(self, penalty):
        """Close the searches that no open continuation can improve, for good -> the others."""
        hopes = (self.log_probs[:, 0] / penalty).tolist()
        found = [self.aside[sentence] for sentence in self.sentences]
        going = [
            b for b, (hope, aside) in enumerate(zip(hopes, found, strict=True))
            if hope > -math.inf and (len(aside) < self.width or hope > aside[-1].score)
        ]  # fmt: skip
        still = torch.zeros(len(hopes), 1, dtype=torch.bool, device=self.written.device)
        still[going] = True
        self.log_probs = self.log_probs.masked_fill(~still, -math.inf)  # whoever goes on waiting finds nothing more
        return still[:, 0].nonzero()[:, 0]

    def keep(self, going):
        """Go on with these sentences alone."""
        self.sentences = [self.sentences[b] for b in going.tolist()]
        self.written, self.parents, self.log_probs = self.written[going], self.parents[going], self.log_probs[going]

    def newest(self):
        """Return the newest token of each row, and which row of the step before it continues."""
        first = torch.arange(len(self.written), device=self.written.device)[:, None] * self.width
        return self.written[..., -1].flatten(), (first + self.parents).flatten()

    def results(self):
        return self.aside


def _best_but(never, logits, count):
    """Find the best of the tokens that may be written: so many more than wanted that the others can be left out."""
    V = logits.shape[-1]
    values, tokens = best(logits, min(count + len(never), V))
    banned = torch.isin(tokens, torch.tensor(list(never), dtype=torch.long, device=tokens.device))
    values, places = values.masked_fill(banned, -math.inf).topk(min(count, V))
    return values, tokens.gather(-1, places)


def best(logits: Float[Tensor, "rows V"], count: int) -> tuple[Float[Tensor, "rows count"], Int[Tensor, "rows count"]]:
    """Find the largest logits of each row and their tokens, in order: logits.topk(count), faster for large V.

    The largest numbers lie in the blocks with the largest maxima, so that most of V is read once and never sorted.
    """
    n_blocks = logits.shape[-1] // BLOCK
    if n_blocks <= count:
        return logits.topk(count)
    whole = n_blocks * BLOCK
    if logits.stride(0) == 1:  # laid out column by column: reduce it as it lies
        tops = logits.mT[:whole].unflatten(0, (n_blocks, BLOCK)).amax(dim=1).mT
    else:
        tops = logits[:, :whole].unflatten(-1, (n_blocks, BLOCK)).amax(dim=-1)
    chosen = tops.topk(count).indices  # (rows, count)
    tokens = (chosen[..., None] * BLOCK + torch.arange(BLOCK, device=logits.device)).flatten(1)
    rest = torch.arange(whole, logits.shape[-1], device=logits.device).expand(len(logits), -1)
    tokens = torch.cat([tokens, rest], dim=-1)
    values, places = logits.gather(-1, tokens).topk(count)
    return values, tokens.gather(-1, places)
