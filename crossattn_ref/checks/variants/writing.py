"""Mistakes in writing greedily, and right answers computed another way.

A writer gets a model and a generator of chance, which greedy decoding has no use for. model() begins anew and
returns (tokens, most): a column of BOS for each of B sentences, and how many tokens may follow. model(tokens) takes
tokens (B, n), BOS first, and returns the logits (B, V) of what follows each row.
"""

from functools import partial

import numpy as np

from crossattn_ref.checks.report import Misconception
from crossattn_ref.checks.variants.stages import flat, staged

PAD, BOS, EOS = 0, 1, 2
V = 11


class Model:
    """Logits that depend on every token so far, on its place, and on the sentence; sentences end at different times."""

    def __init__(self, rng: np.random.Generator, B: int, most: int, ends: np.ndarray):
        self._table = rng.standard_normal((97, V))
        self._sentence = rng.integers(1, 97, size=(B, 1))
        self.most, self.ends, self.calls = most, ends, 0

    def __call__(self, tokens=None):
        """Begin anew, or tell what may follow."""
        B = len(self.ends)
        if tokens is None:
            self.calls = 0
            return np.full((B, 1), BOS), self.most
        tokens = np.asarray(tokens)
        if tokens.dtype.kind not in "iu" or tokens.ndim != 2 or len(tokens) != B or not tokens.shape[1]:
            raise ValueError(f"tokens must be integers of shape ({B}, n), got {tokens.dtype} of shape {tokens.shape}")
        self.calls += 1
        weights = np.arange(1, tokens.shape[1] + 1) ** 2 + 3
        logits = self._table[((tokens + 5) * weights * self._sentence).sum(axis=1) % 97].copy()  # (B, V)
        logits[:, (PAD, BOS)] = -9.0
        logits[:, EOS] = np.where(tokens.shape[1] == self.ends + 1, 9.0, -9.0)
        return logits


def whole(tokens):
    return tokens


def most_probable(logits, rng):
    return logits.argmax(axis=-1)


def padded(new, finished):
    return np.where(finished, PAD, new)


def write(model, rng, *, see=whole, choose=most_probable, freeze=padded, over=np.all, give=lambda out, n: out[:, :n]):
    """Greedy decoding with any stage replaced; as it stands, the right one."""
    tokens, most = model()
    finished = np.zeros(len(tokens), dtype=bool)
    out = np.full((len(tokens), most), PAD)
    for i in range(most):
        new = freeze(choose(model(see(tokens)), rng), finished)
        out[:, i] = new
        tokens = np.concatenate([tokens, new[:, None]], axis=1)
        finished = finished | (new == EOS)
        if over(finished):
            break
    return give(out, most)


def _drawn(logits, rng):
    chances = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.array([rng.choice(len(row), p=row / row.sum()) for row in chances])


def _without_end(out, n):
    return np.where(out == EOS, PAD, out)


def _with_start(out, n):
    return np.concatenate([np.full((len(out), 1), BOS), out[:, :-1]], axis=1)


def _as_long_as_needed(out, n):
    return out[:, : (out != PAD).any(axis=0).sum()]


STAGES = staged(
    write,
    see=(
        ("newest token only", lambda tokens: tokens[:, -1:], "when the model is shown the newest token alone",
         "What does the model need to know to go on with a sentence?"),
        ("BOS only", lambda tokens: tokens[:, :1], "when what was written is never shown to the model",
         "Who reads the word that you have just written?"),
        ("BOS left out", lambda tokens: tokens[:, 1:] if tokens.shape[1] > 1 else tokens,
         "when BOS is taken away after the first step", "What is the first token of the row that the model reads?"),
        ("one behind", lambda tokens: tokens[:, :-1] if tokens.shape[1] > 1 else tokens,
         "when the model is shown all but the newest token", "Which tokens are there when you ask what follows?"),
        ("reversed", lambda tokens: tokens[:, ::-1], "when the model is shown the tokens in reverse order",
         "Where does the newest token stand?"),
    ),
    choose=(
        ("least probable", lambda logits, rng: logits.argmin(axis=-1), "with the least probable token",
         "Is a large logit a likely token?"),
        ("drawn", _drawn, "when tokens are drawn by chance", "Greedy decoding, run twice: may it write two sentences?"),
        ("first sentence's choice", lambda logits, rng: np.broadcast_to(logits[0].argmax(), len(logits)),
         "with the first sentence's token for every sentence", "Whose logits stand in the second row?"),
        ("over the batch", lambda logits, rng: np.resize(logits.argmax(axis=0), len(logits)),
         "when the largest logit is looked for along the batch", "Which axis counts the tokens?"),
        ("second best", lambda logits, rng: np.argsort(logits, axis=-1)[:, -2], "with the second most probable token",
         "Where does an ascending order put the largest?"),
    ),
    freeze=(
        ("writes on after the end", lambda new, finished: new, "when a finished sentence is written on",
         "What should stand behind the end of a sentence while others go on?"),
        ("ends again", lambda new, finished: np.where(finished, EOS, new), "with EOS, not PAD, behind the end",
         "How many ends has a sentence?"),
    ),
    over=(
        ("first to end stops all", np.any, "when all sentences stop as soon as one has ended",
         "Three sentences, and the second has ended: who still writes?"),
        ("first sentence stops all", lambda finished: finished[0], "when the first sentence's end stops them all",
         "Three sentences, and the first has ended: who still writes?"),
        ("one step only", lambda finished: True, "when one token is written and no more", "When is a sentence over?"),
    ),
    give=(
        ("end left out", _without_end, "with PAD in the place of EOS", "What tells a full sentence from a cut one?"),
        ("BOS kept", _with_start, "with BOS in front", "Was BOS written, or given?"),
        ("cut to the longest", _as_long_as_needed, "with no more columns than the longest sentence has",
         "Which shape was asked for?"),
        ("one token short", lambda out, n: np.concatenate([out[:, : n - 1], np.full_like(out[:, :1], PAD)], axis=1),
         "when the last token that may be written is not", "Count the tokens of a sentence that never ends."),
    ),
)  # fmt: skip

MISTAKES = (
    *flat(STAGES),
    Misconception("always the same", lambda model, rng: np.full((len(model()[0]), model()[1]), EOS),
                  "when the model is never asked", "Does your result depend on the model?"),
)  # fmt: skip


def _sentence_lists(model, rng):
    tokens, most = model()
    rows, open_ones = [[] for _ in tokens], set(range(len(tokens)))
    while open_ones and len(tokens[0]) <= most:
        logits = model(tokens)
        column = np.zeros((len(tokens), 1), dtype=int)
        for b in sorted(open_ones):
            column[b] = logits[b].tolist().index(max(logits[b].tolist()))
            rows[b].append(int(column[b, 0]))
            if column[b] == EOS:
                open_ones.discard(b)
        tokens = np.hstack([tokens, column])
    return np.array([row + [PAD] * (most - len(row)) for row in rows], dtype=np.int32)


def _cut_afterwards(model, rng):
    """Write everybody to the end of the longest, and clear what stands behind an EOS."""
    tokens, most = model()
    while tokens.shape[1] <= most and not (tokens == EOS).any(axis=1).all():
        tokens = np.c_[tokens, model(tokens).argmax(axis=1)]
    out = np.zeros((len(tokens), most), dtype=np.int64)
    out[:, : tokens.shape[1] - 1] = tokens[:, 1:]
    after = np.cumsum(out == EOS, axis=1) - (out == EOS) > 0
    return np.where(after, PAD, out)


def _buffer(model, rng):
    start, most = model()
    tokens = np.zeros((len(start), most + 1), dtype=np.int64)
    tokens[:, 0] = start[:, 0]
    alive = np.ones(len(start), dtype=bool)
    for n in range(1, most + 1):
        if not alive.any():
            break
        tokens[:, n] = np.argmax(model(tokens[:, :n]), axis=-1) * alive
        alive &= tokens[:, n] != EOS
    return tokens[:, 1:]


ALTERNATIVES = (partial(write), _sentence_lists, _cut_afterwards, _buffer)
