"""Mistakes in wiring a translator, as a module, and right modules that compute another way.

The module is a line of stages: src and tgt (how words enter), encoder_look, self_look and cross_look (who may look
where), remember (what of the encoder the decoder reads), read (through which layers), and write (how words leave).

Letters: B sentences, Nk source tokens, Nq target tokens, D model width, V words.
"""

import torch
from torch import nn

from crossattn_ref.checks.variants.masks import kept
from crossattn_ref.checks.variants.stages import flat, pairs, staged
from crossattn_ref.models.blocks import DecoderLayer, EncoderLayer, LayerConfig


class Parts(nn.Module):
    """What is given: two embeddings, two kinds of layers, a norm behind each stack, and the output."""

    def __init__(self, n_src, n_tgt, d_model, n_heads, n_layers, n_positions):
        super().__init__()
        config = LayerConfig(d_model=d_model, n_heads=n_heads, d_ff=2 * d_model, dropout=0.0)
        self.d_model = d_model
        self.src_embedding = nn.Embedding(n_src, d_model)
        self.tgt_embedding = nn.Embedding(n_tgt, d_model)
        self.positions = nn.Parameter(torch.randn(n_positions, d_model))
        self.encoder = nn.ModuleList(EncoderLayer(config) for _ in range(n_layers))
        self.encoder_norm = nn.LayerNorm(d_model)
        self.decoder = nn.ModuleList(DecoderLayer(config) for _ in range(n_layers))
        self.decoder_norm = nn.LayerNorm(d_model)
        self.output = nn.Linear(d_model, n_tgt)


def entered(m, embedding, tokens):
    return embedding(tokens) * m.d_model**0.5 + m.positions[: tokens.shape[1]]


def enter_src(m, src):
    return entered(m, m.src_embedding, src)


def enter_tgt(m, tgt):
    return entered(m, m.tgt_embedding, tgt)


def past(n):
    return torch.ones(n, n, dtype=torch.bool).tril()


def through(layers, x, run):
    for layer in layers:
        x = run(layer, x)
    return x


def normed(m, x, embedded):
    return m.encoder_norm(x)


def look_causal(n, mask):
    return past(n)


def written(m, y):
    return m.output(m.decoder_norm(y))


class Translator(Parts):
    """A translator with any of its stages replaced; as it stands, the right one in the dtype of its weights."""

    def __init__(
        self, n_src, n_tgt, d_model, n_heads, n_layers, n_positions, *, src=enter_src, tgt=enter_tgt, encoder_look=kept,
        self_look=look_causal, cross_look=kept, remember=normed, encoder_layers=kept, decoder_layers=kept,
        write=written,
    ):  # fmt: skip
        super().__init__(n_src, n_tgt, d_model, n_heads, n_layers, n_positions)
        self.src, self.tgt, self.remember, self.write = src, tgt, remember, write
        self.encoder_look, self.self_look, self.cross_look = encoder_look, self_look, cross_look
        self.encoder_layers, self.decoder_layers = encoder_layers, decoder_layers

    def forward(self, src, src_mask, tgt):
        return self.decode(tgt, self.encode(src, src_mask), src_mask)

    def encode(self, src, src_mask):
        embedded = self.src(self, src)
        look = self.encoder_look(src_mask)
        x = through(self.encoder_layers(self.encoder), embedded, lambda layer, x: layer(x, look))
        return self.remember(self, x, embedded)

    def decode(self, tgt, memory, src_mask):
        look, cross = self.self_look(tgt.shape[1], src_mask), self.cross_look(src_mask)
        run = self.decoder_layers(self.decoder)
        return self.write(self, through(run, self.tgt(self, tgt), lambda layer, y: layer(y, memory, look, cross)))


def _no_scale(embedding):
    return lambda m, tokens: getattr(m, embedding)(tokens) + m.positions[: tokens.shape[1]]


def _no_positions(embedding):
    return lambda m, tokens: getattr(m, embedding)(tokens) * m.d_model**0.5


def _positions_scaled(embedding):
    return lambda m, tokens: (getattr(m, embedding)(tokens) + m.positions[: tokens.shape[1]]) * m.d_model**0.5


def _batch_positions(embedding):
    return lambda m, tokens: getattr(m, embedding)(tokens) * m.d_model**0.5 + m.positions[: len(tokens), None]


def _from_one(embedding):
    return lambda m, tokens: getattr(m, embedding)(tokens) * m.d_model**0.5 + m.positions[1 : tokens.shape[1] + 1]


def _words(embedding, side):
    """Make the mistakes in how the words of one side enter."""
    return (
        (f"{side} not scaled", _no_scale(embedding), f"with {side} embeddings that are not scaled",
         "By which factor do embeddings grow before positions are added?"),
        (f"{side} without positions", _no_positions(embedding), f"with no positions on the {side} side",
         "Two words change places: what does the model notice?"),
        (f"{side} positions scaled too", _positions_scaled(embedding), f"with {side} positions scaled as the words are",
         "What is multiplied first: the word, or the word with its place?"),
        (f"{side} positions along the batch", _batch_positions(embedding),
         f"with {side} positions that number the sentences", "Put one sentence into the batch twice: is it the same?"),
        (f"{side} positions from 1", _from_one(embedding), f"with {side} positions counted from 1",
         "Which place has the first word?"),
    )  # fmt: skip


def _last_state(m, x, embedded):
    return m.encoder_norm(x)[:, -1:].expand_as(x)


STAGES = staged(
    Translator,
    src=_words("src_embedding", "source"),
    tgt=(
        *_words("tgt_embedding", "target"),
        ("target shifted again", lambda m, tgt: enter_tgt(m, torch.roll(tgt, 1, 1)), "with the target shifted again",
         "tgt begins with its BOS already. Which row predicts the word after tgt[0]?"),
    ),
    encoder_look=(
        ("encoder without a mask", lambda mask: None, "without a mask in the encoder",
         "Run a sentence alone and in a batch: is it the same?"),
        ("encoder mask turned round", lambda mask: ~mask, "with the encoder's mask turned round",
         "In this course, does True mean look or do not look?"),
        ("causal encoder", lambda mask: mask & past(mask.shape[-1]), "with a causal mask in the encoder",
         "The whole source is there before the first word is written. May its first word see the last?"),
    ),
    self_look=(
        ("future seen", lambda n, mask: None, "without a causal mask in the decoder",
         "When the model writes, the next word does not exist yet. Who hides it during training?"),
        ("one step ahead", lambda n, mask: torch.ones(n, n, dtype=torch.bool).tril(1),
         "when each position sees one step ahead", "What is position 0 to predict, and may it see position 1?"),
        ("itself hidden", lambda n, mask: torch.ones(n, n, dtype=torch.bool).tril(-1),
         "when a position does not see itself", "What has the decoder read when it has read only BOS?"),
        ("past hidden", lambda n, mask: past(n).mT, "with the past hidden, and the future shown",
         "Rows are queries, columns are keys. On which side of the diagonal is the past?"),
    ),
    cross_look=(
        ("cross without a mask", lambda mask: None, "without a mask in the cross-attention",
         "Translate a sentence alone and in a batch: is it the same?"),
        ("cross mask turned round", lambda mask: ~mask, "with the cross-attention's mask turned round",
         "In this course, does True mean look or do not look?"),
        ("first sentence's mask", lambda mask: mask[:1], "with the first sentence's mask for all",
         "Are all sources of a batch equally long?"),
    ),
    remember=(
        ("memory is the embedding", lambda m, x, embedded: embedded, "when the decoder reads the source's embeddings",
         "Which modules get no gradient?"),
        ("embedding normed", lambda m, x, embedded: m.encoder_norm(embedded),
         "when the decoder reads the source's embeddings, normalized", "Which modules get no gradient?"),
        ("encoder norm forgotten", lambda m, x, embedded: x, "without the norm behind the encoder",
         "Which of the parts that you were given has no work?"),
        ("decoder's norm for the memory", lambda m, x, embedded: m.decoder_norm(x),
         "with the decoder's norm behind the encoder", "Each norm is named after the stack that it belongs to."),
        ("one state for all", _last_state, "when the last encoder state is all that the decoder reads",
         "That is the suitcase that attention was made to replace. How many tokens has the memory?"),
        ("mean for all", lambda m, x, embedded: m.encoder_norm(x).mean(1, keepdim=True).expand_as(x),
         "when the mean of the encoder's states is all that the decoder reads",
         "That is the suitcase that attention was made to replace. How many tokens has the memory?"),
        ("memory detached", lambda m, x, embedded: m.encoder_norm(x).detach(),
         "when no gradient reaches the encoder", "The encoder made this memory. How will it hear of its mistakes?"),
        ("embedding added", lambda m, x, embedded: m.encoder_norm(x) + embedded,
         "when the embeddings are added to the memory once more", "What leaves the encoder?"),
    ),
    encoder_layers=(
        ("first encoder layer only", lambda layers: layers[:1], "with the first encoder layer alone",
         "How many layers has the encoder?"),
        ("last encoder layer only", lambda layers: layers[-1:], "with the last encoder layer alone",
         "What does each layer read: the embeddings, or what the layer before it made?"),
        ("first encoder layer again and again", lambda layers: [layers[0]] * len(layers),
         "with the first encoder layer in every place", "Which of the parts that you were given has no work?"),
        ("encoder upside down", lambda layers: list(layers)[::-1], "with the encoder's layers in reverse order",
         "Which layer reads the embeddings?"),
    ),
    decoder_layers=(
        ("first decoder layer only", lambda layers: layers[:1], "with the first decoder layer alone",
         "How many layers has the decoder?"),
        ("last decoder layer only", lambda layers: layers[-1:], "with the last decoder layer alone",
         "What does each layer read: the embeddings, or what the layer before it made?"),
        ("decoder upside down", lambda layers: list(layers)[::-1], "with the decoder's layers in reverse order",
         "Which layer reads the embeddings?"),
    ),
    write=(
        ("decoder norm forgotten", lambda m, y: m.output(y), "without the norm behind the decoder",
         "Which of the parts that you were given has no work?"),
        ("encoder's norm for the output", lambda m, y: m.output(m.encoder_norm(y)),
         "with the encoder's norm behind the decoder", "Each norm is named after the stack that it belongs to."),
        ("softmax", lambda m, y: written(m, y).softmax(-1), "with probabilities in place of logits",
         "The loss takes a softmax of its own. What does it make of yours?"),
        ("log softmax", lambda m, y: written(m, y).log_softmax(-1), "with log probabilities in place of logits",
         "What was asked for: logits, or what a softmax makes of them?"),
        ("output not used", lambda m, y: m.decoder_norm(y), "without the output layer",
         "How many words could each position predict?"),
        ("embedding as output", lambda m, y: m.decoder_norm(y) @ m.tgt_embedding.weight.mT,
         "with the target embedding as the output layer", "Which of the parts that you were given has no work?"),
        ("no gradient", lambda m, y: written(m, y).detach(), "when the result is cut off from its inputs",
         "Which parameter can still learn?"),
    ),
)  # fmt: skip

MISTAKES = flat(STAGES)


def composed():
    """Make the mistakes that two stages make together: the stages that go wrong most often."""
    return pairs(Translator, {stage: STAGES[stage] for stage in ("self_look", "cross_look", "write")})


class _Plain(Parts):
    def forward(self, src, src_mask, tgt):
        return self.decode(tgt, self.encode(src, src_mask), src_mask)

    def encode(self, src, src_mask):
        x = self.src_embedding(src) * self.d_model**0.5
        x = x + self.positions[None, : src.shape[1]]
        for layer in self.encoder:
            x = layer(x, mask=src_mask)
        return self.encoder_norm(x)

    def decode(self, tgt, memory, src_mask):
        places = torch.arange(tgt.shape[1])
        y = self.tgt_embedding(tgt) * self.d_model**0.5 + self.positions[places]
        for layer in self.decoder:
            y = layer(y, memory, mask=places <= places[:, None], memory_mask=src_mask)
        return self.output(self.decoder_norm(y))


class _Alone(_Plain):
    """Sentence by sentence, padding cut away."""

    def forward(self, src, src_mask, tgt):
        rows = []
        for b in range(len(src)):
            real = src_mask[b, 0, 0]
            memory = _Plain.encode(self, src[b : b + 1], src_mask[b : b + 1])[:, real]
            rows.append(_Plain.decode(self, tgt[b : b + 1], memory, None))
        return torch.cat(rows)


class _Remembered(_Plain):
    """Each layer's memory projected before it is read, word by word."""

    def decode(self, tgt, memory, src_mask):
        y = self.tgt_embedding(tgt) * self.d_model**0.5 + self.positions[: tgt.shape[1]]
        for layer in self.decoder:
            y = layer(y, layer.cross_attention.remember(memory), past(tgt.shape[1]), src_mask)
        return nn.functional.linear(self.decoder_norm(y), self.output.weight, self.output.bias)


class _InFloat32(_Plain):
    def load_state_dict(self, state):
        return self.float() and super().load_state_dict(state)


ALTERNATIVES = (Translator, _Plain, _Alone, _Remembered, _InFloat32)
