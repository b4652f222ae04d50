"""Summarization put together: the generated news, their words as numbers, and a model that may point, or may not.

Letters: B texts, Nk source places, Nq target places, V words of the vocabulary, W words that can be written.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from crossattn_ref.data import summarization as news
from crossattn_ref.data.batches import bucketed, padded
from crossattn_ref.data.translation import Pair
from crossattn_ref.data.vocabulary import BOS, EOS, UNK, Vocabulary
from crossattn_ref.models import stored
from crossattn_ref.models.summarization import PointerGenerator
from crossattn_ref.models.translation import Translator, TranslatorConfig
from crossattn_ref.train.history import History
from crossattn_ref.train.loop import Plan, train

SIZES = {"d_model": 64, "d_ff": 128, "n_encoder_layers": 2, "n_decoder_layers": 1, "n_cross_heads": 1, "shared": True}
PLAN = Plan(n_steps=1500, n_warmup=150, peak_rate=5e-3, schedule="linear", validate_every=500)
LONGEST = 8  # words of a summary, its end mark included, and one to spare
TEXTS = 32  # in a batch


@dataclass(frozen=True)
class Batch:
    """Texts and their summaries as numbers: src (B, Nk) and tgt (B, Nq) with UNK for a word beyond the vocabulary.

    words (B, Nk) and labels (B, Nq) number those as well, from V on, text by text; strangers names them.
    """

    src: Tensor
    lengths: Tensor
    words: Tensor
    n_words: int
    tgt: Tensor
    labels: Tensor
    strangers: tuple[tuple[str, ...], ...]


SHIPPED = Path(__file__).parents[1] / "weights" / "summarization.safetensors"

Predict = Callable[[nn.Module, Tensor, Tensor, Batch], Tensor]


def pointing(model: PointerGenerator, tgt: Tensor, memory: Tensor, batch: Batch) -> Tensor:
    """Compute the probabilities (B, Nq, W) of a model that may copy."""
    return model.mixture(tgt, memory, batch.lengths, batch.words, batch.n_words)[0]


def writing(model: Translator, tgt: Tensor, memory: Tensor, batch: Batch) -> Tensor:
    """Compute the probabilities (B, Nq, V) of a model that has its vocabulary and no more."""
    return model.decode(tgt, memory, batch.lengths).softmax(dim=-1)


MODELS = {"pointing": (PointerGenerator, pointing), "writing": (Translator, writing)}


def collate(pairs: Sequence[Pair], vocabulary: Vocabulary) -> Batch:
    """Number texts and summaries, each text ended by EOS."""
    numbered = [news.extended(vocabulary, pair.src) for pair in pairs]
    words = padded([[*numbers, EOS] for numbers, _ in numbered])
    answers = [
        news.extended_by(vocabulary, strangers, pair.tgt) for pair, (_, strangers) in zip(pairs, numbered, strict=True)
    ]
    labels = padded([[*answer, EOS] for answer in answers])
    tgt = padded([[BOS, *answer] for answer in answers])
    n_known = len(vocabulary)
    arrays = [np.where(words < n_known, words, UNK), words, np.where(tgt < n_known, tgt, UNK), labels]
    src, words, tgt, labels = (torch.from_numpy(array) for array in arrays)
    return Batch(
        src=src,
        lengths=torch.tensor([len(pair.src) + 1 for pair in pairs]),
        words=words,
        n_words=n_known + max(len(strangers) for _, strangers in numbered),
        tgt=tgt,
        labels=labels,
        strangers=tuple(tuple(strangers) for _, strangers in numbered),
    )


class Summarization:
    """What train.loop asks for: batches of texts of about one length, and the loss of one.

    A word that the model has no way to write counts as UNK. Validation measures the loss per word.
    """

    def __init__(
        self, pairs: Sequence[Pair], kept: Sequence[Pair], vocabulary: Vocabulary, predict: Predict, *, seed: int = 0
    ):
        self.pairs, self.vocabulary, self.predict, self.seed = pairs, vocabulary, predict, seed
        self.kept = [collate(kept[i : i + TEXTS], vocabulary) for i in range(0, len(kept), TEXTS)]

    def epoch(self, number: int) -> "_Batches":
        """Mix the corpus, by the seed and the number of the epoch."""
        sizes = [(len(pair.src), len(pair.tgt)) for pair in self.pairs]
        rng = np.random.default_rng([self.seed, number])
        return _Batches(self, list(bucketed(sizes, n_tokens=TEXTS * (len(self.pairs[0].tgt) + 1), rng=rng)))

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, int]:
        """Sum the negative log probability of each word, EOS included."""
        probabilities = self.predict(model, batch.tgt, model.encode(batch.src, batch.lengths), batch)
        labels = batch.labels.where(batch.labels < probabilities.shape[-1], UNK)
        picked = probabilities.gather(-1, labels[..., None])
        return -picked.log().sum(), labels.numel()

    @torch.no_grad()
    def validate(self, model: nn.Module) -> dict[str, float]:
        """Measure the loss per word of what was kept."""
        found = [self.loss(model, batch) for batch in self.kept]
        return {"loss": float(sum(total.item() for total, _ in found)) / sum(count for _, count in found)}


class _Batches(Sequence):
    """The batches of an epoch, each made when it is asked for."""

    def __init__(self, task, indices):
        self.task, self.indices = task, indices

    def __len__(self):
        return len(self.indices)

    def __getitem__(self, place):
        return collate([self.task.pairs[i] for i in self.indices[place]], self.task.vocabulary)


@dataclass(frozen=True)
class Trained:
    """A model that summarizes, its words, and what happened while it learnt."""

    model: Translator
    vocabulary: Vocabulary
    predict: Predict
    history: History

    @torch.no_grad()
    def summarize(self, texts: Sequence[Sequence[str]]) -> list[list[str]]:
        """Write the likeliest word again and again, until the end mark or LONGEST words.

        A word that was copied from beyond the vocabulary is read as UNK from then on. There is no cache: a summary is
        a few words.
        """
        batch = collate([Pair(tuple(text), ()) for text in texts], self.vocabulary)
        memory = self.model.encode(batch.src, batch.lengths)
        found, tgt = batch.src[:, :0], torch.full((len(texts), 1), BOS)
        for _ in range(LONGEST):
            newest = self.predict(self.model, tgt, memory, batch)[:, -1].argmax(dim=-1, keepdim=True)
            found = torch.cat([found, newest], dim=1)
            tgt = torch.cat([tgt, newest.where(newest < len(self.vocabulary), UNK)], dim=1)
        rows = [row[: row.index(EOS)] if EOS in row else row for row in found.tolist()]
        return [news.spelled(self.vocabulary, *both) for both in zip(batch.strangers, rows, strict=True)]


def learn(
    kind: str, splits: dict[str, list[Pair]], *, seed: int = 0, plan: Plan = PLAN, show: Callable = lambda *_: None
) -> Trained:
    """Train a model of a kind, "pointing" or "writing"; the same seed gives the same one."""
    make, predict = MODELS[kind]
    vocabulary = Vocabulary.of((pair.src + pair.tgt for pair in splits["train"]), at_least=news.AT_LEAST)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = make(TranslatorConfig(n_src_tokens=len(vocabulary), n_tgt_tokens=len(vocabulary), **SIZES))
    task = Summarization(splits["train"], splits["dev"], vocabulary, predict, seed=seed)
    history = train(model, task, Plan(**{**asdict(plan), "seed": seed}), show=show)
    return Trained(model.eval(), vocabulary, predict, history)


def save(trained: Trained, path: Path, about: dict) -> None:
    """Write a model with its words, and what there is to say about them, into one file."""
    kind = next(kind for kind, (_, predict) in MODELS.items() if predict is trained.predict)
    about = {"kind": kind, "model": asdict(trained.model.config), "words": trained.vocabulary.words, **about}
    stored.write(trained.model, path, about)


def load(path: Path) -> Trained:
    """Read what save wrote; FileNotFoundError, or stored.Unreadable, where it is not whole."""
    weights, about = stored.read(path)
    make, predict = MODELS[about["kind"]]
    model = make(TranslatorConfig(**about["model"]))
    stored.load(model, weights, source=str(path))
    return Trained(model.eval(), Vocabulary(tuple(about["words"])), predict, History())


def shipped() -> Trained:
    """Load the model that comes with the package, which may point."""
    return load(SHIPPED)
