"""Translation put together: a corpus, its words as numbers, a Translator, and what training needs to know of them.

A run lies in a folder: the words (words.json), what the loop writes there, and at the end translator.safetensors,
the weights that do best on the development split.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from crossattn_ref.data import corpora
from crossattn_ref.data import translation as grammar
from crossattn_ref.data.batches import bucketed, collate
from crossattn_ref.data.subwords import Subwords
from crossattn_ref.data.translation import Pair
from crossattn_ref.data.vocabulary import Vocabulary
from crossattn_ref.files import write_whole
from crossattn_ref.models import stored
from crossattn_ref.models.translation import Translator, TranslatorConfig
from crossattn_ref.train.history import History
from crossattn_ref.train.loop import Plan, train
from crossattn_ref.train.losses import cross_entropy, disagreement
from crossattn_ref.train.prepared import for_training

SHIPPED = Path(__file__).parents[1] / "weights"

Words = Vocabulary | Subwords
Numbers = Sequence[tuple[list[int], list[int]]]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a translator is made: its sizes (as for TranslatorConfig), its words, how it is trained.

    n_subwords is the size of one vocabulary of pieces for both languages; without it, every word has a number, a
    vocabulary for each language. n_tokens target tokens make a batch; smoothing is that of the labels, and consistency
    as for Translation.
    """

    sizes: Mapping
    plan: Plan
    n_tokens: int
    smoothing: float = 0.1
    consistency: float = 0.0
    n_subwords: int | None = None


RECIPES = {
    "glass-box": Recipe(  # one decoder layer, one cross head: its weights are all there is to look at
        sizes={
            "d_model": 64,
            "d_ff": 128,
            "n_encoder_layers": 2,
            "n_decoder_layers": 1,
            "n_cross_heads": 1,
            "norm": "post",
        },
        plan=Plan(n_steps=2000, n_warmup=200, schedule="linear", validate_every=500),
        n_tokens=700,
        smoothing=0.0,
    ),
    "standard": Recipe(
        sizes={"d_model": 96, "d_ff": 192, "n_encoder_layers": 2, "n_decoder_layers": 2, "norm": "post"},
        plan=Plan(n_steps=2000, n_warmup=200, schedule="linear", validate_every=500),
        n_tokens=700,
        smoothing=0.0,
    ),
    "text": Recipe(  # for an hour on two cores: rather small and often than large and seldom
        sizes={"d_model": 128, "d_ff": 384, "n_encoder_layers": 3, "n_decoder_layers": 3, "dropout": 0.2},
        n_tokens=2000,
        n_subwords=4000,
        plan=Plan(n_steps=10_000, n_warmup=1000, schedule="linear", validate_every=250, n_kept=8),
    ),
    "text-twice": Recipe(  # for two hours on one core: half as many sentences in a batch, every one read twice
        sizes={"d_model": 128, "d_ff": 384, "n_encoder_layers": 3, "n_decoder_layers": 3, "dropout": 0.2},
        n_tokens=1000,
        n_subwords=4000,
        consistency=3.0,
        plan=Plan(n_steps=16_000, n_warmup=1000, schedule="linear", validate_every=500, n_kept=8),
    ),
    "text-tiny": Recipe(  # sizes and schedule of the transformer-tiny of Wu et al. (2021), the norm before: for a GPU
        sizes={"d_model": 128, "d_ff": 256, "n_encoder_layers": 4, "n_decoder_layers": 4, "dropout": 0.3},
        n_tokens=8192,
        n_subwords=10_000,
        plan=Plan(n_steps=8000, peak_rate=5e-3, n_warmup=2000, validate_every=100, n_kept=10),
    ),
    "text-long": Recipe(  # every sentence read twice, and long: for a GPU
        sizes={"d_model": 160, "d_ff": 400, "n_encoder_layers": 4, "n_decoder_layers": 3, "dropout": 0.25},
        n_tokens=8192,
        n_subwords=5000,
        consistency=4.0,
        plan=Plan(n_steps=12_000, peak_rate=4e-3, n_warmup=1500, schedule="linear", validate_every=100, n_kept=10),
    ),
}


def corpus(data: str, *, src: str = "en", tgt: str = "de", folder: Path | None = None) -> dict[str, list[Pair]]:
    """Find a corpus by its name ("grammar", "multi30k") or its folder -> its splits; "train" and "dev" are among them.

    src and tgt are languages, for text alone; folder is where Multi30k lies already. Errors as data.corpora raises.
    """
    if data == "grammar":
        return grammar.splits()
    if data == "multi30k":
        return corpora.multi30k(src=src, tgt=tgt, folder=folder)
    return corpora.from_folder(Path(data), src=src, tgt=tgt)


def words_of(pairs: Iterable[Pair], n_subwords: int | None) -> tuple[Words, Words]:
    """Give numbers to the words of both languages, each its own, or to the pieces of both together."""
    pairs = list(pairs)
    if n_subwords is None:
        return Vocabulary.of(pair.src for pair in pairs), Vocabulary.of(pair.tgt for pair in pairs)
    shared = Subwords.learn((sentence for pair in pairs for sentence in (pair.src, pair.tgt)), size=n_subwords)
    return shared, shared


def new_translator(recipe: Recipe, words: tuple[Words, Words], *, seed: int) -> Translator:
    """Make a translator with random weights, the same for the same seed."""
    config = TranslatorConfig(
        n_src_tokens=len(words[0]), n_tgt_tokens=len(words[1]), shared=words[0] is words[1], **recipe.sizes
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Translator(config)


@dataclass(frozen=True)
class Trained:
    """A translator with its words, and what happened while it learnt."""

    model: Translator
    words: tuple[Words, Words]
    history: History
    about: Mapping = field(default_factory=dict)


def learn(
    recipe: Recipe,
    splits: Mapping[str, Sequence[Pair]],
    *,
    seed: int = 0,
    folder: Path | None = None,
    device: str = "cpu",
    about: Mapping | None = None,
    measure: Callable[[Translator, tuple[Words, Words]], Mapping[str, float]] = lambda *_: {},
    show: Callable = lambda *_: None,
) -> Trained:
    """Train a translator by a recipe; in a folder, so that it can be stopped and go on.

    At the end, the average of the weights that were kept takes the place of the last ones, where it does better on the
    development split. about is written beside the weights. measure finds what else validation shows.
    """
    words = _words(splits, recipe, folder)
    model = new_translator(recipe, words, seed=seed).to(device)
    numbers = {
        name: [(words[0].encode(pair.src), words[1].encode(pair.tgt)) for pair in splits[name]]
        for name in ("train", "dev")
    }
    task = Translation(
        numbers["train"],
        numbers["dev"],
        n_tokens=recipe.n_tokens,
        smoothing=recipe.smoothing,
        consistency=recipe.consistency,
        seed=seed,
        device=device,
        measure=lambda model: measure(model, words),
    )
    how = {name: getattr(recipe, name) for name in ("n_tokens", "smoothing", "consistency")}
    about = {"model": asdict(model.config), **how, **(about or {})}
    plan = replace(recipe.plan, seed=seed)
    history = train(for_training(model), task, plan, folder=folder, about=about, show=show)
    if folder and history.ended != "interrupted":
        about |= {"seed": seed, "plan": asdict(recipe.plan), "dev": _choose(model.eval(), task, Path(folder))}
        stored.write(model, Path(folder) / "translator.safetensors", about)
    return Trained(model.eval(), words, history, about)


def load(folder: Path, *, config: TranslatorConfig | None = None) -> Trained:
    """Read what learn wrote into a folder; with a config, only a translator of exactly that.

    Raises FileNotFoundError, or stored.Unreadable, where it is not whole, or of another configuration.
    """
    folder = Path(folder)
    path = folder / "translator.safetensors"
    weights, about = stored.read(path)
    there, here = about["model"], asdict(config) if config else about["model"]
    if differing := [
        f"{name} is {there.get(name)} there, {here[name]} here" for name in here if there.get(name) != here[name]
    ]:
        raise stored.Unreadable(f"{path} is of another configuration: {'; '.join(differing)}")
    model = Translator(TranslatorConfig(**there))
    stored.load(model, weights, source=str(path))
    return Trained(model.eval(), _read_words(folder / "words.json"), History(), about)


def shipped(name: str = "glass-box") -> Trained:
    """Load a translator that comes with the package, trained on the grammar: its `about` says how, and how well."""
    return load(SHIPPED / name)


class Translation:
    """What train.loop asks for: batches of similar lengths, mixed anew in every epoch, and the loss of one.

    pairs are (source, target) numbers, which are put on the device at once. With consistency, every sentence is read
    twice, under two draws of dropout, and the loss is the mean of both and consistency / 2 times their disagreement:
    half of R-Drop's (Liang et al., 2021, equation 4, where consistency is alpha). Validation measures the loss per
    token of what is kept for it, without smoothing, and whatever else `measure` finds, which is given the model.
    """

    def __init__(
        self,
        pairs: Numbers,
        kept: Numbers,
        *,
        n_tokens: int = 1000,
        smoothing: float = 0.1,
        consistency: float = 0.0,
        seed: int = 0,
        device: str = "cpu",
        measure: Callable[[nn.Module], Mapping[str, float]] = lambda _: {},
    ):
        self.pairs, self.kept = Corpus(pairs, device), Corpus(kept, device)
        self.n_tokens, self.smoothing, self.consistency = n_tokens, smoothing, consistency
        self.seed, self.measure = seed, measure

    def epoch(self, number: int) -> list[tuple[Tensor, ...]]:
        """Mix the corpus, by the seed and the number of the epoch."""
        return self.pairs.batches(self.n_tokens, np.random.default_rng([self.seed, number]))

    def loss(self, model: nn.Module, batch: tuple[Tensor, ...]) -> tuple[Tensor, int]:
        """Sum the loss of a batch over its tokens, EOS included."""
        src, lengths, tgt, labels = batch
        if not self.consistency:
            return cross_entropy(model(src, lengths, tgt), labels, smoothing=self.smoothing)
        logits = model(*(rows.repeat(2, *[1] * (rows.ndim - 1)) for rows in (src, lengths, tgt)))
        one, other = logits.chunk(2)
        both = [cross_entropy(half, labels, smoothing=self.smoothing) for half in (one, other)]
        apart = disagreement(one, other, labels)
        return (both[0][0] + both[1][0] + self.consistency * apart) / 2, both[0][1]

    def validate(self, model: nn.Module) -> dict[str, float]:
        """Measure the loss per token of what was kept."""
        found = [
            cross_entropy(model(src, lengths, tgt), labels)
            for src, lengths, tgt, labels in self.kept.batches(self.n_tokens)
        ]
        loss = sum(total.item() for total, _ in found) / sum(count for _, count in found)
        return {"loss": loss, **self.measure(model)}


class Corpus:
    """Sentence pairs on a device, padded to the longest once and for all: a batch is some rows, as far as they go."""

    def __init__(self, pairs: Numbers, device: str = "cpu"):
        whole = collate(pairs)
        arrays = whole.src, whole.src_lengths, whole.tgt, whole.labels
        self.src, self.lengths, self.tgt, self.labels = (torch.from_numpy(array).to(device) for array in arrays)
        self.sizes = np.array([(len(src), len(tgt)) for src, tgt in pairs], dtype=np.int64).reshape(-1, 2)

    def batches(self, n_tokens: int, rng: np.random.Generator | None = None) -> list[tuple[Tensor, ...]]:
        """Cut it into batches as data.batches.bucketed does -> (src, lengths, tgt, labels) of each."""
        return [self._rows(batch) for batch in bucketed(self.sizes, n_tokens=n_tokens, rng=rng)]

    def _rows(self, batch):
        n_src, n_tgt = (int(longest) + 1 for longest in self.sizes[batch].max(axis=0))
        rows = torch.from_numpy(batch).to(self.src.device)
        return self.src[rows, :n_src], self.lengths[rows], self.tgt[rows, :n_tgt], self.labels[rows, :n_tgt]


def _choose(model, task, folder):
    """Leave in the model the average of the kept weights or the last ones, whichever do better -> how well."""
    last = {name: weight.clone() for name, weight in stored.weights_of(model).items()}
    kept = [stored.read(path)[0] for path in sorted(folder.glob("weights-*.safetensors"))]
    with torch.no_grad():
        before = task.validate(model)
        stored.load(model, stored.average(kept), source="the average of what was kept")
        after = task.validate(model)
    if after["loss"] <= before["loss"]:
        return {**after, "averaged": len(kept)}
    stored.load(model, last)
    return {**before, "averaged": 1}


def _words(splits, recipe, folder):
    """Number the words, once in a folder: who goes on there finds the same numbers."""
    path = folder and Path(folder) / "words.json"
    if path and path.exists():
        return _read_words(path)
    words = words_of(splits["train"], recipe.n_subwords)
    if path:
        write_whole(path, json.dumps([side.as_json() for side in words], ensure_ascii=False))
    return words


def _read_words(path):
    src, tgt = (_words_from(text) for text in json.loads(path.read_text("utf-8")))
    return src, src if src.as_json() == tgt.as_json() and isinstance(src, Subwords) else tgt


def _words_from(text):
    return Vocabulary.from_json(text) if text.startswith("[") else Subwords(text)
