"""Questions that others ask about pictures of theirs, put together: easy-VQA and NLVR as numbers, and their training.

A picture of easy-VQA is made smaller; the three boxes of one of NLVR are drawn anew and laid into a square of four, the
last of which stays white. The loop, what a batch is and how answers are scored are those of tasks.vqa.

Letters: B questions, N words of the longest question, I pictures, S side of a picture in pixels.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from crossattn_ref.data import picture_corpora
from crossattn_ref.data.words import MARKS, Vocabulary, tokens
from crossattn_ref.models.blocks import LayerConfig
from crossattn_ref.models.images import STEMS, ImageConfig, as_float
from crossattn_ref.models.vqa import Answerer, AnswererConfig
from crossattn_ref.tasks import trained, vqa
from crossattn_ref.tasks.trained import Trained
from crossattn_ref.tasks.variations import VARIATIONS
from crossattn_ref.tasks.vqa import SHIPPED, Answering, Batch, Numbers
from crossattn_ref.train.loop import Plan

UNKNOWN = "<unknown>"
TESTED_ON = {"easy-vqa": "test", "nlvr": "dev"}  # the split of each corpus that a model trained on "train" is tested on
N_FOLDS = 10  # of which one of the training set is set apart, to choose by


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How an answerer for one of the corpora is made, and how it is trained.

    Pictures have a side of so many pixels, in patches of so many; a batch is so many pictures with their questions,
    of which an epoch asks per_image at most; vary names one of VARIATIONS, what training does to them. layer holds the
    sizes of all layers.
    """

    side: int = 32
    patch: int = 8
    layer: Mapping = field(default_factory=lambda: {"d_model": 32, "n_heads": 2, "d_ff": 64, "dropout": 0.0})
    n_layers: int = 2
    n_image_layers: int = 0
    stem: str = "convolutions"
    vary: str = "flips"
    plan: Plan = field(
        default_factory=lambda: Plan(
            n_steps=3000, n_warmup=100, peak_rate=3e-3, schedule="linear", validate_every=500, bfloat16=False,
            watch="accuracy", lower_is_better=False,
        )
    )  # fmt: skip
    batch: int = 32
    per_image: int = 5


RECIPES = {
    "easy-vqa": Recipe(),
    "nlvr": Recipe(
        side=64, n_layers=3, n_image_layers=1, vary="boxes",
        layer={"d_model": 64, "n_heads": 4, "d_ff": 128, "dropout": 0.1},
        plan=replace(Recipe().plan, n_steps=8000, n_warmup=300, peak_rate=1e-3, validate_every=1000),
    ),
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Examples:
    """Questions in words about pictures: images uint8 (I, S, S, 3); image_of (B,) numbers the image of each question.

    What is of one group (B,) must never come apart: about one picture in easy-VQA, made from one sentence in NLVR.
    """

    images: np.ndarray
    image_of: np.ndarray
    questions: tuple[tuple[str, ...], ...]
    answers: tuple[str, ...]
    groups: np.ndarray

    def only(self, chosen: np.ndarray) -> "Examples":
        """Keep the questions that are chosen, bool (B,), and their pictures."""
        kept, image_of = np.unique(self.image_of[chosen], return_inverse=True)
        rows = np.flatnonzero(chosen)
        questions, answers = (tuple(column[row] for row in rows) for column in (self.questions, self.answers))
        return Examples(self.images[kept], image_of, questions, answers, self.groups[chosen])


@dataclass(frozen=True, eq=False)
class Corpus:
    """Questions as numbers, split by split, and the words and the answers that the numbers stand for."""

    words: Vocabulary
    answers: tuple[str, ...]
    splits: Mapping[str, Numbers]


def easy_vqa(folder: str | Path, split: str, *, side: int) -> Examples:
    """Read a split of easy-VQA, its pictures as squares of a side."""
    asked = picture_corpora.easy_vqa(folder, split)
    images, image_of = picture_corpora.pictures(asked, side=side)
    return Examples(images, image_of, *_in_words((item.question, item.answer) for item in asked), image_of)


def nlvr(folder: str | Path, split: str, *, side: int) -> Examples:
    """Read a split of NLVR and draw its pictures, each box as a square of half a side."""
    statements = picture_corpora.nlvr(picture_corpora.nlvr_file(folder, split))
    images = np.stack([in_a_square(picture_corpora.draw_nlvr(one, scale=side / 200)) for one in statements])
    said = _in_words((one.sentence, str(one.truth).lower()) for one in statements)
    groups = np.array([int(one.identifier.partition("-")[0]) for one in statements])
    return Examples(images, np.arange(len(statements)), *said, groups)


READERS: dict[str, Callable[..., Examples]] = {"easy-vqa": easy_vqa, "nlvr": nlvr}


def in_a_square(row: np.ndarray) -> np.ndarray:
    """Lay three boxes in a row with gaps, (S / 2, 2 S, 3), into the quarters of a square -> (S, S, 3)."""
    side = len(row)
    boxes = [row[:, left : left + side] for left in (0, 3 * side // 2, 3 * side)]
    return np.vstack([np.hstack(boxes[:2]), np.hstack([boxes[2], np.full_like(boxes[2], 255)])])


def folds(examples: Examples, n: int, *, seed: int = 0) -> Iterator[tuple[Examples, Examples]]:
    """Cut examples into n parts, no group in two of them, and give each with all that is not in it: (rest, part)."""
    groups, group_of = np.unique(examples.groups, return_inverse=True)
    if len(groups) < n:
        raise ValueError(f"n ({n}) must be at most the number of groups of examples, got {len(groups)}")
    fold = (np.random.default_rng(seed).permutation(len(groups)) % n)[group_of]
    for number in range(n):
        yield examples.only(fold != number), examples.only(fold == number)


def corpus(data: str, folder: str | Path, *, side: int) -> Corpus:
    """Read "easy-vqa" or "nlvr" from a folder -> "train", "dev" set apart from that, and "test", as TESTED_ON says.

    Raises FileNotFoundError for what is missing, such as NLVR's training set where its development set lies alone.
    """
    if data == "nlvr":
        _check_training_set(folder)
    read = READERS[data]
    rest, apart = next(folds(read(folder, "train", side=side), N_FOLDS))
    return numbered(rest, dev=apart, test=read(folder, TESTED_ON[data], side=side))


def numbered(examples: Examples, **others: Examples) -> Corpus:
    """Write examples to train on, and others, as numbers.

    Pictures become negatives: the pale ground comes near 0, and what is drawn on it stands out from the first step on.
    A word that no two groups of the former say is UNKNOWN in all; an answer that none of them has gets the number -1.
    """
    said = {(word, group) for words, group in zip(examples.questions, examples.groups, strict=True) for word in words}
    times = Counter(word for word, _ in said)
    words = Vocabulary([UNKNOWN, *(word for word, n in times.items() if n > 1)])
    answers = tuple(sorted(set(examples.answers)))
    parts = {"train": examples, **others}
    longest = max(len(question) for part in parts.values() for question in part.questions)
    return Corpus(words, answers, {name: _numbers(part, words, answers, longest) for name, part in parts.items()})


def new_answerer(recipe: Recipe, corpus: Corpus, *, seed: int) -> Answerer:
    """Make an answerer with random weights, the same for the same seed."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Answerer(_config(_sizes(recipe, corpus)))


def learn(
    recipe: Recipe,
    corpus: Corpus,
    *,
    seed: int = 0,
    folder: Path | None = None,
    device: str = "cpu",
    show: Callable = lambda *_: None,
) -> Trained:
    """Train an answerer on "train", with "dev" for validation; in a folder, so that it can be stopped and go on."""
    model = new_answerer(recipe, corpus, seed=seed).to(device)
    task = Asking(recipe, corpus, seed=seed, device=device)
    about = {
        "data": "pictures of others",
        "model": _sizes(recipe, corpus),
        "words": corpus.words.words,
        "answers": corpus.answers,
        "learning": {name: getattr(recipe, name) for name in ("batch", "per_image", "vary")},
    }
    path = folder and Path(folder) / SHIPPED.name
    return trained.learn(model, task, recipe.plan, seed=seed, path=path, device=device, about=about, show=show)


def as_asked(question: str, image: np.ndarray, about: Mapping) -> Numbers:
    """Write one question about one picture, uint8 (1, S, S, 3), as numbers for the answerer that a file is about.

    Raises ValueError as vqa.as_asked does.
    """
    n_answers, longest = len(about["answers"]), about["model"]["longest"]
    words = Vocabulary(about["words"][len(MARKS) :])
    return vqa.as_asked(question, 255 - image, words=words, longest=longest, n_answers=n_answers)


def load(path: Path) -> Trained:
    """Read an answerer from its file, or from the folder of its run.

    Raises FileNotFoundError, or stored.Unreadable where the file is damaged or holds something else.
    """
    return trained.load(
        trained.in_folder(path, SHIPPED.name),
        lambda sizes: Answerer(_config(sizes)),
        data="pictures of others",
        what="answerer about pictures of others",
        command="crossattn train vqa --data NAME",
    )


class Asking(Answering):
    """What train.loop asks for: pictures with all their questions, varied anew in every epoch; validation on "dev"."""

    def __init__(self, recipe: Recipe, corpus: Corpus, *, seed: int, device: str = "cpu"):
        super().__init__(recipe, corpus.splits["train"].to(device), corpus.splits["dev"].to(device), seed=seed)
        self.vary = VARIATIONS[recipe.vary](corpus.words, unknown=UNKNOWN, device=device)

    def epoch(self, number: int) -> list[Batch]:
        """Mix and cut as ever, and of the questions about each picture draw a few."""
        rng = np.random.default_rng([self.seed, number, 1])
        chance = rng.random(len(self.image_of))
        order = np.lexsort((chance, self.image_of))  # picture by picture, mixed within each
        first = np.r_[0, np.flatnonzero(np.diff(self.image_of[order])) + 1]
        rank = np.arange(len(order)) - np.repeat(first, np.diff(np.r_[first, len(order)]))
        kept = torch.zeros(len(order), dtype=torch.bool)
        kept[order[rank < self.recipe.per_image]] = True
        kept = kept.to(self.drawn.images.device)
        batches = super().epoch(number)
        return [
            (questions[kept[questions]], pictures, about[kept[questions]]) for questions, pictures, about in batches
        ]

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, int]:
        """Sum the loss of all answers; each picture is encoded once."""
        questions, pictures, about = batch
        drawn = self.drawn
        images, words = self.vary(as_float(drawn.images[pictures]), drawn.words[questions], about)
        logits = model.answer(model.encode(images)[about], words, drawn.lengths[questions])
        return functional.cross_entropy(logits, drawn.answers[questions], reduction="sum"), len(questions)


def _check_training_set(folder):
    try:
        picture_corpora.nlvr_file(folder, "train")
    except FileNotFoundError as error:
        if not any(Path(folder, name).is_file() for name in ("dev/dev.json", "dev.json")):
            raise
        raise FileNotFoundError(
            f"{folder} holds NLVR's development set and no training set (train.json), which training needs: "
            f"crossattn bench vqa --part nlvr --corpus {folder} trains on parts of the former"
        ) from error


def _in_words(pairs):
    """Cut questions into words -> (all of them, all answers)."""
    questions, answers = zip(*pairs, strict=True)
    return tuple(map(tokens, questions)), answers


def _numbers(examples, words, answers, longest):
    known, number = set(words.words), {answer: i for i, answer in enumerate(answers)}
    numbers, lengths = words.encode([[w if w in known else UNKNOWN for w in asked] for asked in examples.questions])
    numbers = np.pad(numbers, ((0, 0), (0, longest - numbers.shape[1])))
    right_ones = np.array([number.get(answer, -1) for answer in examples.answers])
    fair = np.ones((len(right_ones), len(answers)), dtype=bool)
    unknown = np.zeros((len(right_ones), 0), dtype=bool)
    columns = (255 - examples.images, examples.image_of, numbers, lengths, right_ones, fair, unknown)
    return Numbers(*map(torch.from_numpy, columns))


def _sizes(recipe, corpus):
    names = ("side", "patch", "layer", "n_layers", "n_image_layers", "stem")
    about_words = {"n_words": len(corpus.words), "longest": corpus.splits["train"].words.shape[1]}
    return {name: asdict(recipe)[name] for name in names} | about_words | {"n_answers": len(corpus.answers)}


def _config(sizes):
    layer = LayerConfig(**sizes["layer"])
    stem, n = STEMS[sizes["stem"]], sizes["n_image_layers"]
    return AnswererConfig(
        image=ImageConfig(side=sizes["side"], patch=sizes["patch"], stem=stem, n_layers=n, layer=layer),
        layer=layer,
        **{name: sizes[name] for name in ("n_words", "n_answers", "longest", "n_layers")},
    )
