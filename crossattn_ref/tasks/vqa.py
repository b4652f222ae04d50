"""Visual question answering put together: scenes and questions as numbers, an Answerer, and its training.

What training must never see, a colour and shape that are held out together, is in no scene and no question of the
corpus. A run lies in a folder: what the loop writes there, and at the end answerer.safetensors.

Letters: B questions, N words of the longest question, I pictures, A answers; H heads, Nk patches, and Q queries and
M keys of a layer that reads the picture (words and patches, or both where they are one sequence).
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from functools import cache, lru_cache, partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from crossattn_ref import interpret
from crossattn_ref.data import vqa
from crossattn_ref.data.programs import ANSWERS
from crossattn_ref.data.scenes import N_CELLS, draw_scene, half_named
from crossattn_ref.data.vqa import ANSWER_NUMBER, VOCABULARY, Questions
from crossattn_ref.data.words import Vocabulary
from crossattn_ref.models.blocks import LayerConfig
from crossattn_ref.models.images import STEMS, ImageConfig, as_float
from crossattn_ref.models.vqa import Answerer, AnswererConfig, CoReading, CrossReading, JointReading, as_large_as
from crossattn_ref.tasks import captioning, trained
from crossattn_ref.tasks.trained import Trained
from crossattn_ref.train.loop import Plan

SHIPPED = Path(__file__).parents[1] / "weights" / "answerer.safetensors"
FUSIONS = {"cross": CrossReading, "concatenation": JointReading, "co-attention": CoReading}
LONGEST = 16  # words of a question
PART = 500  # scenes that are drawn in one go
AT_ONCE = 500  # questions

MIRROR = [VOCABULARY.number({"left": "right", "right": "left"}.get(word, word)) for word in VOCABULARY.words]

Batch = tuple[Tensor, Tensor, Tensor]  # numbers of questions (B,), of pictures (I,), of the picture of each among those


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How an answerer is made, and how it is trained.

    fusion names one of FUSIONS, pooling is as for AnswererConfig, layer holds the sizes of all layers (as for
    LayerConfig), of which d_ff gives way where the model is to have n_parameters. The corpus is n_scenes scenes with
    per_image questions each, a batch so many scenes with theirs; of the objects half_named takes a name from the share
    `unnamed`. rivals says which answers the right one is compared with: "all", or all but those that data.vqa.excused
    lists. pointing weighs a second loss, which asks the words to look at what the answer is read from.
    """

    fusion: Literal["cross", "concatenation", "co-attention"] = "cross"
    pooling: Literal["max", "mean"] = "max"
    layer: Mapping = field(default_factory=lambda: {"d_model": 64, "n_heads": 4, "d_ff": 128, "dropout": 0.0})
    n_layers: int = 3
    n_image_layers: int = 1
    stem: str = "convolutions"
    n_parameters: int | None = 400_000
    plan: Plan = field(
        default_factory=lambda: Plan(
            n_steps=6000, n_warmup=200, peak_rate=3e-3, schedule="linear", validate_every=1000, bfloat16=False,
            watch="accuracy", lower_is_better=False,
        )
    )  # fmt: skip
    batch: int = 64
    n_scenes: int = 40_000
    per_image: int = 5
    unnamed: float = 0.3
    rivals: Literal["all", "seen"] = "seen"
    pointing: float = 0.0

    @property
    def drawing(self) -> dict:
        """How draw_part and corpus are to draw."""
        return {"per_image": self.per_image, "unnamed": self.unnamed}


# The three fusions train about as long as each other: crossattn bench vqa --part step says what a step of each takes.
RECIPES = {
    "cross": Recipe(),
    "concatenation": Recipe(fusion="concatenation", plan=replace(Recipe().plan, n_steps=3000)),
    "co-attention": Recipe(fusion="co-attention", plan=replace(Recipe().plan, n_steps=5000)),
    "mean": Recipe(pooling="mean"),
    "supervised": Recipe(  # told where to look
        fusion="co-attention", pointing=0.3, plan=replace(Recipe().plan, n_steps=3000)
    ),
}


@dataclass(frozen=True, eq=False)
class Numbers:
    """Questions as numbers: images uint8 (I, 48, 48, 3), and for each question the number of its image (B,).

    words (B, N) are padded behind lengths (B,); answers (B,); fair bool (B, A), True for the rivals of an answer;
    regions bool (B, Nk), True for the patches that an answer is read from, Nk = 0 where nobody knows.
    """

    images: Tensor
    image_of: Tensor
    words: Tensor
    lengths: Tensor
    answers: Tensor
    fair: Tensor
    regions: Tensor

    def to(self, device: str) -> "Numbers":
        """Put everything on a device."""
        return Numbers(**{name: getattr(self, name).to(device) for name in self.__dataclass_fields__})


@cache
def splits() -> dict[str, Questions]:
    """Draw what is not trained on, the same for every seed: "dev", "test" and "held-out"."""
    return vqa.splits(np.random.default_rng(0), train=0)


@lru_cache(maxsize=1)
def corpus(n_scenes: int, *, per_image: int = 5, unnamed: float = 0.0, processes: int = 1) -> Numbers:
    """Draw what is trained on, the same for every seed: part by part, in several processes where that is asked for."""
    sizes = [min(PART, n_scenes - first) for first in range(0, n_scenes, PART)]
    work = partial(draw_part, per_image=per_image, unnamed=unnamed)
    if processes > 1:
        with ProcessPoolExecutor(processes) as pool:
            parts = list(pool.map(work, range(len(sizes)), sizes))
    else:
        parts = list(map(work, range(len(sizes)), sizes))
    return _joined([numbered(part) for part in parts])


def draw_part(number: int, n: int, *, per_image: int, unnamed: float) -> Questions:
    """Draw some scenes of the corpus with their questions, by their number alone; none that another split holds."""
    rng, scenes = np.random.default_rng([1, number]), []
    kept = _kept()
    while len(scenes) < n:
        scene = draw_scene(rng)
        if frozenset(scene) not in kept:
            scenes.append(scene)
    return vqa.ask(rng, [half_named(rng, scene, share=unnamed) for scene in scenes], per_image=per_image)


def numbered(asked: Questions) -> Numbers:
    """Write questions and answers as numbers."""
    words, lengths = VOCABULARY.encode([question.words for question in asked.questions])
    words = np.pad(words, ((0, 0), (0, LONGEST - words.shape[1])))
    fair = np.ones((len(asked), len(ANSWERS)), dtype=bool)
    for row, question, image in zip(fair, asked.questions, asked.image_of, strict=True):
        row[[ANSWER_NUMBER[answer] for answer in vqa.excused(question, asked.scenes[image])]] = False
    answers = np.array([ANSWER_NUMBER[question.answer] for question in asked.questions])
    regions = interpret.regions_of([question.regions for question in asked.questions], N_CELLS)
    return Numbers(*map(torch.from_numpy, (asked.images, asked.image_of, words, lengths, answers, fair, regions)))


def as_asked(
    question: str,
    image: np.ndarray,
    *,
    words: Vocabulary = VOCABULARY,
    longest: int = LONGEST,
    n_answers: int = len(ANSWERS),
) -> Numbers:
    """Write one question, as somebody types it, about one picture (1, Y, X, 3) as numbers; the answer is unknown.

    Of the marks only one for a question counts, at the end. words are those that were learnt, longest is how many of
    them the longest question had, and n_answers how many answers there are: of scenes, where nothing else is said.
    Raises ValueError for a question without words, with more than the longest, or with one that was never seen.
    """
    said = (*re.sub(r"[^\w'-]", " ", question).lower().split(), "?")
    if len(said) == 1:
        raise ValueError(f'QUESTION must hold at least one word, got {question!r}: ask "is there a circle?"')
    if len(said) > longest:
        raise ValueError(f"QUESTION may have at most {longest - 1} words, got {len(said) - 1}: ask a shorter one")
    numbers, lengths = words.encode([said])
    numbers = np.pad(numbers, ((0, 0), (0, longest - len(said))))
    none, fair, unknown = np.zeros(1, dtype=np.int64), np.ones((1, n_answers), bool), np.zeros((1, 0), bool)
    return Numbers(*map(torch.from_numpy, (image, none, numbers, lengths, none, fair, unknown)))


def new_answerer(recipe: Recipe, *, seed: int) -> Answerer:
    """Make an answerer with random weights, the same for the same seed."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Answerer(_config(_sizes(recipe)))


def learn(
    recipe: Recipe,
    *,
    seed: int = 0,
    drawn: Numbers | None = None,
    folder: Path | None = None,
    device: str = "cpu",
    about: Mapping | None = None,
    show: Callable = lambda *_: None,
) -> Trained:
    """Train an answerer by a recipe; in a folder, so that it can be stopped and go on. about is written beside it.

    drawn is the corpus of the recipe, where that is at hand already.
    """
    if drawn is None:
        drawn = corpus(recipe.n_scenes, **recipe.drawing)
    model = new_answerer(recipe, seed=seed).to(device)
    task = Answering(recipe, drawn.to(device), numbered(splits()["dev"]).to(device), seed=seed)
    about = {"data": "questions", **description(recipe), **(about or {})}
    path = folder and Path(folder) / SHIPPED.name
    return trained.learn(model, task, recipe.plan, seed=seed, path=path, device=device, about=about, show=show)


def description(recipe: Recipe) -> dict[str, dict]:
    """Describe a recipe as the file of its answerer does: its "model", and its "learning", all but the plan."""
    learning = ("batch", "n_scenes", "per_image", "unnamed", "rivals", "pointing")
    return {"model": _sizes(recipe), "learning": {name: getattr(recipe, name) for name in learning}}


def load(path: Path) -> Trained:
    """Read an answerer from its file, or from the folder of its run.

    Raises FileNotFoundError, or stored.Unreadable where the file is damaged or holds something else.
    """
    return trained.load(
        trained.in_folder(path, SHIPPED.name),
        lambda sizes: Answerer(_config(sizes)),
        data="questions",
        what="answerer about scenes",
        command="crossattn train vqa",
    )


def shipped() -> Trained:
    """Load the answerer that comes with the package: its `about` says how it was trained, and how well it does."""
    return load(SHIPPED)


class Answering:
    """What train.loop asks for: the pictures, mixed anew in every epoch, with all their questions; the loss of a batch.

    Validation measures the share of the answers, in percent, that is right on what is kept for it.
    """

    def __init__(self, recipe: Recipe, drawn: Numbers, kept: Numbers, *, seed: int = 0):
        self.recipe, self.drawn, self.kept, self.seed = recipe, drawn, kept, seed
        self.image_of = drawn.image_of.cpu().numpy()
        self.mirror = torch.tensor(MIRROR, device=drawn.images.device)

    def epoch(self, number: int) -> list[Batch]:
        """Mix the pictures, by the seed and the number of the epoch, and cut them into batches."""
        n, size = len(self.drawn.images), self.recipe.batch
        mixed = np.random.default_rng([self.seed, number]).permutation(n)
        place = np.argsort(mixed)[self.image_of]  # of each question's picture among the mixed ones
        order = np.argsort(place, kind="stable")
        counts = np.bincount(place // size, minlength=-(-n // size)).tolist()  # questions in each batch
        columns = (order, mixed, place[order] % size)
        questions, pictures, about = (torch.from_numpy(column).to(self.drawn.images.device) for column in columns)
        return list(zip(questions.split(counts), pictures.split(size), about.split(counts), strict=True))

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, int]:
        """Sum the loss of all answers; each picture is encoded once, half of them mirrored with what is asked."""
        questions, pictures, about = batch
        drawn = self.drawn
        mirrored = torch.rand(len(pictures), device=pictures.device) < 0.5
        images, words = drawn.images[pictures], drawn.words[questions]
        images = torch.where(mirrored[:, None, None, None], images.flip(2), images)
        words = torch.where(mirrored[about, None], self.mirror[words], words)
        words, lengths = _trimmed(words, drawn.lengths[questions])
        given = model.encode(as_float(images))[about], words, lengths
        logits, weights = model.watched(*given) if self.recipe.pointing else (model.answer(*given), [])
        if self.recipe.rivals == "seen":
            logits = logits.masked_fill(~drawn.fair[questions], -torch.inf)
        total = functional.cross_entropy(logits, drawn.answers[questions], reduction="sum")
        if self.recipe.pointing:
            regions = drawn.regions[questions]
            regions = torch.where(mirrored[about, None], _mirrored(regions), regions)
            total = total + self.recipe.pointing * astray(weights, regions, lengths)
        return total, len(questions)

    def validate(self, model: nn.Module) -> dict[str, float]:
        """Compute the share of the answers, in percent, that is right."""
        found = scores(model, self.kept).argmax(dim=-1)
        return {"accuracy": 100 * (found == self.kept.answers).double().mean().item()}


def astray(weights: Sequence[Tensor], regions: Tensor, lengths: Tensor) -> Tensor:
    """Sum, over the questions, minus the logarithm of what their words give to the regions in the mean of all maps.

    weights (B, H, Q, M) of each layer, words first and patches last; regions bool (B, Nk); lengths (B,). A question
    whose answer is read from nothing adds nothing. Raises ValueError where nobody knows the regions (Nk = 0).
    """
    if not regions.shape[1]:
        raise ValueError("regions must say which patches an answer is read from, got none: pointing needs them")
    real = torch.arange(int(lengths.max()), device=lengths.device) < lengths[:, None]  # (B, Nq)
    maps = torch.stack([layer.mean(dim=1) for layer in weights]).mean(dim=0)
    maps = maps[:, : real.shape[1], -regions.shape[1] :]  # (B, Nq, Nk)
    of_question = (maps * real[..., None]).sum(dim=1) / lengths[:, None]  # (B, Nk)
    return captioning.astray([of_question[:, None, None]], regions[:, None])


@torch.no_grad()
def scores(model: Answerer, asked: Numbers) -> Tensor:
    """Score every answer to every question -> (B, A)."""
    memory = torch.cat([model.encode(as_float(part)) for part in asked.images.split(AT_ONCE)])
    parts = zip(*(column.split(AT_ONCE) for column in (asked.image_of, asked.words, asked.lengths)), strict=True)
    return torch.cat([model.answer(memory[image_of], *_trimmed(words, lengths)) for image_of, words, lengths in parts])


def _trimmed(words, lengths):
    """Leave away the columns that are padding in every row."""
    return words[:, : int(lengths.max())], lengths


def _mirrored(regions):
    """Say where regions (B, 16) of a grid lie once the picture is mirrored."""
    side = math.isqrt(regions.shape[1])
    return regions.unflatten(1, (side, side)).flip(2).flatten(1)


@cache
def _kept():
    return frozenset(frozenset(scene) for split in splits().values() for scene in split.scenes)


def _joined(parts: list[Numbers]) -> Numbers:
    firsts = np.cumsum([0, *(len(part.images) for part in parts)])
    columns = {name: torch.cat([getattr(part, name) for part in parts]) for name in Numbers.__dataclass_fields__}
    columns["image_of"] = torch.cat([part.image_of + int(first) for part, first in zip(parts, firsts, strict=False)])
    return Numbers(**columns)


def _sizes(recipe):
    names = ("fusion", "pooling", "layer", "n_layers", "n_image_layers", "stem", "n_parameters")
    return {name: asdict(recipe)[name] for name in names}


def _config(sizes):
    layer = LayerConfig(**sizes["layer"])
    config = AnswererConfig(
        n_words=len(VOCABULARY),
        n_answers=len(ANSWERS),
        longest=LONGEST,
        n_layers=sizes["n_layers"],
        fusion=FUSIONS[sizes["fusion"]],
        pooling=sizes["pooling"],
        image=ImageConfig(layer=layer, n_layers=sizes["n_image_layers"], stem=STEMS[sizes["stem"]]),
        layer=layer,
    )
    return config if sizes["n_parameters"] is None else as_large_as(config, sizes["n_parameters"])
