"""Models to try decoding on: one that knows nothing but prefixes, and a small translator."""

import secrets
from dataclasses import dataclass

import torch

from crossattn_ref.models.translation import Translator, TranslatorConfig

PAD, BOS, EOS = 0, 1, 2
SEED = secrets.randbelow(2**31)


@dataclass
class Prefixes:
    """A model that knows a sentence by all its tokens: its state is the prefix of every row, its memory a number."""

    logits_of: object
    n_tokens: int = 5

    def start(self, memory, lengths, *, width=1):
        rows = [(int(number), ()) for number in memory for _ in range(width)]
        return _Rows(rows, width)

    def step(self, tokens, state):
        rows = [(number, (*prefix, token)) for (number, prefix), token in zip(state.rows, tokens.tolist(), strict=True)]
        logits = torch.stack([self.logits_of(number, prefix) for number, prefix in rows])
        return logits, _Rows(rows, state.width)


@dataclass
class _Rows:
    rows: list
    width: int

    def select(self, rows):
        return _Rows([self.rows[i] for i in rows.tolist()], len(rows) * self.width // len(self.rows))

    def keep(self, sentences):
        return _Rows([self.rows[b * self.width + w] for b in sentences.tolist() for w in range(self.width)], self.width)


def random_model(seed, n_tokens=5):
    """Logits drawn anew for every prefix, the same again for the same one."""

    def logits_of(number, prefix):
        key = hash((seed, number, prefix)) % 2**31
        return 2 * torch.randn(n_tokens, generator=torch.Generator().manual_seed(key), dtype=torch.float64)

    return Prefixes(logits_of, n_tokens)


def translator(dtype=torch.float64):
    torch.manual_seed(SEED)
    config = TranslatorConfig(n_src_tokens=23, n_tgt_tokens=19, d_model=22, n_heads=2, d_ff=29, dropout=0.0)
    model = Translator(config).to(dtype).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    lengths = torch.tensor([7, 3, 0, 5, 1])
    return model, torch.randint(4, 23, (5, 7)), lengths


def alone(write, model, src, lengths):
    """Write for one source after the other, each cut to its length."""
    for b, n in enumerate(lengths.tolist()):
        own = lengths[b : b + 1]
        yield write(model, model.encode(src[b : b + 1, :n], own), own)[0]
