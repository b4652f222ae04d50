"""An encoder that reads a sentence and a decoder that writes its translation, looking back with every word.

Letters: B sentences, Nk source tokens, Nq target tokens, D model width, V target tokens that there are;
rows = B times the width of a beam, the continuations of one sentence in a row.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from crossattn_ref.attention import dense
from crossattn_ref.attention.inputs import Lengths
from crossattn_ref.attention.multihead import Memory
from crossattn_ref.models.blocks import DecoderLayer, EncoderLayer, LayerConfig, LearnedPositions, sinusoidal_positions
from crossattn_ref.models.past import Past, descended, written

ACTIVATIONS = {"relu": functional.relu, "gelu": functional.gelu, "silu": functional.silu}


@dataclass(frozen=True, kw_only=True)
class TranslatorConfig:
    """The sizes of a Translator, plain values only, so that they can be written into a file beside its weights.

    n_src_tokens and n_tgt_tokens say how many tokens there are; n_positions how long a sentence may be.
    n_cross_heads heads read the source (n_heads unless given): the glass box has 1. tied: the target embedding is
    the output matrix too; shared: the source embedding is the target's. norm as in LayerConfig.

    Raises ValueError for an unknown word, for sizes below 1, and for shared embeddings of differing vocabularies.
    """

    n_src_tokens: int
    n_tgt_tokens: int
    d_model: int = 64
    n_heads: int = 4
    n_cross_heads: int | None = None
    n_encoder_layers: int = 2
    n_decoder_layers: int = 2
    d_ff: int = 128
    dropout: float = 0.1
    norm: Literal["pre", "post"] = "pre"
    activation: Literal["relu", "gelu", "silu"] = "relu"
    positions: Literal["sinusoidal", "learned"] = "sinusoidal"
    n_positions: int = 256
    tied: bool = True
    shared: bool = False

    def __post_init__(self):
        """Check what no layer checks itself."""
        for name in ("n_src_tokens", "n_tgt_tokens", "n_encoder_layers", "n_decoder_layers", "n_positions"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}, got {self.activation!r}")
        if self.positions not in ("sinusoidal", "learned"):
            raise ValueError(f'positions must be "sinusoidal" or "learned", got {self.positions!r}')
        if self.shared and self.n_src_tokens != self.n_tgt_tokens:
            found = f"n_src_tokens = {self.n_src_tokens} and n_tgt_tokens = {self.n_tgt_tokens}"
            raise ValueError(f"shared embeddings need one vocabulary for both languages, got {found}")


@dataclass(frozen=True, eq=False)
class State:
    """Where a decoder stands: what it has written, and the memory that it reads, as keys and values of each layer.

    memories are those of the source, B long, projected once and never copied: the `width` continuations of a sentence
    share its memory. pasts are theirs, too, side by side, None before the first step; seen (B, width, places) tells
    which places of a past each continuation descends from. mask (B, 1, 1, Nk) says where the source may be read.
    Made by Translator.start.
    """

    memories: tuple[Memory, ...]
    mask: Bool[Tensor, "B 1 1 Nk"]
    pasts: tuple[Past | None, ...]
    seen: Bool[Tensor, "B width places"]
    n_steps: int = 0

    @property
    def width(self) -> int:
        """Count the continuations of a sentence."""
        return self.seen.shape[1]

    def select(self, rows: Int[Tensor, " rows"]) -> "State":
        """Go on with these rows, in this order; one may come several times, and width may change. No past moves.

        Raises ValueError unless every sentence keeps equally many rows, all of them its own, sentence after sentence.
        """
        batch = len(self.mask)
        width, rest = divmod(len(rows), batch)
        owners = torch.arange(batch, device=rows.device).repeat_interleave(width)
        if rest or width < 1 or not torch.equal(rows // self.width, owners):
            raise ValueError(f"rows must give each of {batch} sentences equally many of its own, got {rows.tolist()}")
        return replace(self, seen=descended(self.seen, (rows % self.width).view(batch, width)))

    def keep(self, sentences: Int[Tensor, " kept"]) -> "State":
        """Go on with these sentences only, memories included, each with all of its rows: for when others are done."""
        memories = tuple(Memory(memory.keys[sentences], memory.values[sentences]) for memory in self.memories)
        pasts = tuple(past and past.keep(sentences) for past in self.pasts)
        return replace(self, memories=memories, mask=self.mask[sentences], pasts=pasts, seen=self.seen[sentences])


class Translator(nn.Module):
    """Turn a source sentence into a memory, and predict each target token from those before it and that memory.

    attend computes the attention of every layer, as MultiHeadAttention's argument does.
    Sentences are rows of token numbers, padded at the end with anything; lengths says how many are real.

    Source: Vaswani et al., Attention Is All You Need (2017), figure 1; tied embeddings: section 3.4.
    """

    def __init__(self, config: TranslatorConfig, *, attend: Callable = dense.attention):
        super().__init__()
        self.config = config
        layer = _layer_config(config, attend)
        self.tgt_embedding = Embedding(config.n_tgt_tokens, config)
        self.src_embedding = self.tgt_embedding if config.shared else Embedding(config.n_src_tokens, config)
        self.encoder = nn.ModuleList(EncoderLayer(layer) for _ in range(config.n_encoder_layers))
        self.decoder = nn.ModuleList(DecoderLayer(layer) for _ in range(config.n_decoder_layers))
        self.encoder_norm, self.decoder_norm = _last_norm(config), _last_norm(config)
        self.output = nn.Linear(config.d_model, config.n_tgt_tokens)
        _initialise(self)
        if config.tied:
            self.output.weight = self.tgt_embedding.tokens.weight

    def forward(
        self, src: Int[Tensor, "B Nk"], src_lengths: Int[Tensor, " B"], tgt: Int[Tensor, "B Nq"]
    ) -> Float[Tensor, "B Nq V"]:
        """Compute, for each target position, the logits of the token that follows it (teacher forcing)."""
        return self.decode(tgt, self.encode(src, src_lengths), src_lengths)

    def encode(self, src: Int[Tensor, "B Nk"], lengths: Int[Tensor, " B"]) -> Float[Tensor, "B Nk D"]:
        """Read source sentences into a memory, one vector for each token.

        Raises ValueError for a sentence longer than n_positions, and for lengths that do not fit.
        """
        mask = Lengths(lengths).mask(*src.shape[:1], 1, src.shape[1])
        x = self.src_embedding(src)
        for layer in self.encoder:
            x = layer(x, mask)
        return self.encoder_norm(x)

    def decode(
        self, tgt: Int[Tensor, "B Nq"], memory: Float[Tensor, "B Nk D"], lengths: Int[Tensor, " B"]
    ) -> Float[Tensor, "B Nq V"]:
        """Compute, for each target position, the logits of what follows, given tokens up to it and the memory.

        Padding at the end of tgt needs no mask: no earlier position looks there, and its own logits are not used.
        """
        mask, memory_mask = self._masks(tgt, memory, lengths)
        x = self.tgt_embedding(tgt)
        for layer in self.decoder:
            x = layer(x, memory, mask, memory_mask)
        return self.output(self.decoder_norm(x))

    def cross_weights(
        self, tgt: Int[Tensor, "B Nq"], memory: Float[Tensor, "B Nk D"], lengths: Int[Tensor, " B"]
    ) -> list[Float[Tensor, "B H Nq Nk"]]:
        """Compute the weights with which decode, given the same, reads the memory, a tensor for each layer.

        Row i belongs to the query at tgt[i], which predicts the token after it: with BOS first, target word i.
        """
        mask, memory_mask = self._masks(tgt, memory, lengths)
        x, found = self.tgt_embedding(tgt), []
        for layer in self.decoder:
            found.append(layer.cross_weights(x, memory, mask, memory_mask))
            x = layer(x, memory, mask, memory_mask)
        return found

    def start(self, memory: Float[Tensor, "B Nk D"], lengths: Int[Tensor, " B"], *, width: int = 1) -> State:
        """Get ready to write token by token: project the memory for every layer, once, for `width` rows a sentence."""
        if width < 1:
            raise ValueError(f"width must be at least 1, got {width}")
        mask = Lengths(lengths).mask(memory.shape[0], 1, memory.shape[1])
        memories = tuple(layer.cross_attention.remember(memory) for layer in self.decoder)
        seen = torch.empty(len(memory), width, 0, dtype=torch.bool, device=memory.device)
        return State(memories, mask, pasts=(None,) * len(self.decoder), seen=seen)

    def step(self, tokens: Int[Tensor, " rows"], state: State) -> tuple[Float[Tensor, "rows V"], State]:
        """Compute the logits of what follows each row's newest token -> (logits, the state after it).

        Equal to the last position of decode over all tokens so far. Row i belongs to sentence i // width.
        """
        x = self.tgt_embedding(tokens[:, None], first=state.n_steps).view(*state.seen.shape[:2], -1)  # (B, width, D)
        pasts, seen = [], written(state.seen)
        for layer, memory, before in zip(self.decoder, state.memories, state.pasts, strict=True):
            x, past = layer.step(x, memory, before, seen, state.mask)
            pasts.append(past)
        logits = self.output(self.decoder_norm(x)).flatten(0, 1)
        return logits, replace(state, pasts=tuple(pasts), seen=seen, n_steps=state.n_steps + 1)

    def _masks(self, tgt, memory, lengths):
        causal = torch.ones(tgt.shape[1], tgt.shape[1], dtype=torch.bool, device=tgt.device).tril()
        return causal, Lengths(lengths).mask(memory.shape[0], 1, memory.shape[1])


class Embedding(nn.Module):
    """Stand for a token by sqrt(d_model) times its vector, plus the vector of its position; then dropout.

    Source: Vaswani et al., Attention Is All You Need (2017), sections 3.4 and 3.5.
    """

    def __init__(self, n_tokens: int, config: TranslatorConfig):
        super().__init__()
        self.tokens = nn.Embedding(n_tokens, config.d_model)
        self.scale, self.n_positions = config.d_model**0.5, config.n_positions
        if config.positions == "learned":
            self.positions = LearnedPositions(config.n_positions, config.d_model)
        else:
            table = sinusoidal_positions(config.n_positions, config.d_model)
            self.register_buffer("table", table, persistent=False)  # computed, so not worth a place in a file
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, tokens: Int[Tensor, "B N"], *, first: int = 0) -> Float[Tensor, "B N D"]:
        """Embed N tokens that stand at the positions from first on; ValueError where there are not so many."""
        end = first + tokens.shape[1]
        if end > self.n_positions:
            raise ValueError(f"a sentence must have at most n_positions ({self.n_positions}) tokens, got {end}")
        positions = self.table[first:end] if hasattr(self, "table") else self.positions(end - first, first=first)
        return self.dropout(self.tokens(tokens) * self.scale + positions)


def _layer_config(config, attend):
    return LayerConfig(
        d_model=config.d_model,
        n_heads=config.n_heads,
        n_cross_heads=config.n_cross_heads,
        d_ff=config.d_ff,
        dropout=config.dropout,
        norm=config.norm,
        activation=ACTIVATIONS[config.activation],
        attend=attend,
    )


def _last_norm(config):
    """A layer that normalises before its sublayers leaves its last sum as it is: see LayerConfig."""
    return nn.LayerNorm(config.d_model) if config.norm == "pre" else nn.Identity()


def _initialise(model):
    """Draw weights so that the scale of what passes through stays about the same.

    Source: Glorot & Bengio, Understanding the Difficulty of Training Deep Feedforward Neural Networks (2010), eq. 16.
    """
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=module.embedding_dim**-0.5)
