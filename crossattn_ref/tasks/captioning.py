"""Captioning put together: scenes drawn anew in every epoch, their captions as numbers, a Captioner, and its training.

What training must never see, a colour and shape that are held out together, is never drawn, and no scene of the other
splits is trained on. A run lies in a folder: what the loop writes there, and at the end captioner.safetensors.

Letters: B pictures, N words of a caption with its marks of begin and end, V words of the vocabulary.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from crossattn_ref import interpret
from crossattn_ref.data import captioning
from crossattn_ref.data.captioning import ATTRIBUTE, VOCABULARY, Captions, Words
from crossattn_ref.data.scenes import N_CELLS, Scene, draw_scene, half_named
from crossattn_ref.data.words import BEGIN, END
from crossattn_ref.models.blocks import LayerConfig
from crossattn_ref.models.captioning import Captioner, CaptionerConfig, write
from crossattn_ref.models.images import STEMS, ImageConfig, as_float
from crossattn_ref.tasks import trained
from crossattn_ref.tasks.trained import Trained
from crossattn_ref.train.loop import Plan
from crossattn_ref.train.losses import cross_entropy

SHIPPED = Path(__file__).parents[1] / "weights" / "captioner.safetensors"
BEGINS, ENDS = VOCABULARY.number(BEGIN), VOCABULARY.number(END)
LONGEST = 22  # numbers of a caption: four objects in 19 words, the two marks, and one to spare
AT_ONCE = 100  # pictures

Batch = tuple[Tensor, Tensor, Tensor]  # images uint8 (B, 48, 48, 3), words (B, N), what they name: bool (B, N - 1, 16)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a captioner is made, and how it is trained.

    layer holds the sizes of all layers (as for LayerConfig), stem names one of models.images.STEMS. An epoch is
    n_scenes scenes, drawn anew; of their objects half_named takes a name from the share `unnamed`. rivals says which
    words the right one is compared with: "all", or, where it names something, of the words for the same attribute those
    "seen" with the rest of the object. word_dropout as for CaptionerConfig. pointing weighs a second loss, which asks
    each word that names something to look at it, in the mean of all layers and heads; 0 leaves attention alone.
    """

    layer: Mapping = field(default_factory=lambda: {"d_model": 64, "n_heads": 4, "d_ff": 128, "dropout": 0.0})
    n_layers: int = 2
    n_image_layers: int = 1
    stem: str = "convolutions"
    plan: Plan = field(
        default_factory=lambda: Plan(
            n_steps=1500, n_warmup=150, schedule="linear", validate_every=500, bfloat16=False, watch="exact_match",
            lower_is_better=False,
        )
    )  # fmt: skip
    batch: int = 64
    n_scenes: int = 2048
    unnamed: float = 0.0
    word_dropout: float = 0.0
    rivals: Literal["all", "seen"] = "all"
    pointing: float = 0.0


RECIPES = {
    "scenes": Recipe(rivals="seen", unnamed=0.3),
    "plain": Recipe(),  # what everybody does, and what held-out pairs show of it; then each of the two remedies alone
    "rivals": Recipe(rivals="seen"),
    "unnamed": Recipe(unnamed=0.3),
    "supervised": Recipe(rivals="seen", unnamed=0.3, pointing=0.3),  # told where to look, which nothing else here is
}


@cache
def splits() -> dict[str, Captions]:
    """Draw what is not trained on, the same for every seed: "dev", "test" and "held-out"."""
    return captioning.splits(np.random.default_rng(0), train=0)


def new_captioner(recipe: Recipe, *, seed: int) -> Captioner:
    """Make a captioner with random weights, the same for the same seed."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Captioner(_config(_sizes(recipe)))


def learn(
    recipe: Recipe,
    *,
    seed: int = 0,
    folder: Path | None = None,
    device: str = "cpu",
    about: Mapping | None = None,
    show: Callable = lambda *_: None,
) -> Trained:
    """Train a captioner by a recipe; in a folder, so that it can be stopped and go on. about is written beside it."""
    model = new_captioner(recipe, seed=seed).to(device)
    task = Captioning(recipe, splits()["dev"], reserved=_scenes(splits()), seed=seed, device=device)
    about = {"data": "scenes", **description(recipe), **(about or {})}
    path = folder and Path(folder) / SHIPPED.name
    return trained.learn(model, task, recipe.plan, seed=seed, path=path, device=device, about=about, show=show)


def description(recipe: Recipe) -> dict[str, dict]:
    """Describe a recipe as the file of its captioner does: its "model", and its "learning", all but the plan."""
    learning = ("batch", "n_scenes", "unnamed", "rivals", "pointing")
    return {"model": _sizes(recipe), "learning": {name: getattr(recipe, name) for name in learning}}


def load(path: Path) -> Trained:
    """Read a captioner from its file, or from the folder of its run.

    Raises FileNotFoundError, or stored.Unreadable where the file is damaged or holds something else.
    """
    return trained.load(
        trained.in_folder(path, SHIPPED.name),
        lambda sizes: Captioner(_config(sizes)),
        data="scenes",
        what="captioner",
        command="crossattn train captioning",
    )


def shipped() -> Trained:
    """Load the captioner that comes with the package: its `about` says how it was trained, and how well it does."""
    return load(SHIPPED)


def numbered(captions: list[Words]) -> Tensor:
    """Write captions as numbers between the marks of begin and end, padded -> (B, LONGEST)."""
    numbers, lengths = VOCABULARY.encode(captions)
    found = np.zeros((len(numbers), LONGEST), dtype=np.int64)
    found[:, 0] = BEGINS
    found[:, 1 : 1 + numbers.shape[1]] = numbers
    found[np.arange(len(numbers)), lengths + 1] = ENDS
    return torch.from_numpy(found)


def rivals(words: Tensor, never_together: Tensor) -> Tensor:
    """Find the words that each word but the first is compared with: words (B, N) -> bool (B, N - 1, V).

    Training never shows a red triangle. So behind "red" a model is told each time that the next word is not
    "triangle", and learns that by heart: later it won't say it of a thing that it sees to be one. What was never said
    of anything red is left out there, neither right nor wrong; so is "red" in front of "triangle".
    never_together (V, V) tells which words no caption says of one object.
    """
    before, target = words[:, :-1], words[:, 1:]
    after = functional.pad(target[:, 1:], (0, 1))
    attribute = torch.from_numpy(ATTRIBUTE).to(words.device)
    excused = never_together[before] | never_together[after]
    return ~(excused & (attribute[target][..., None] == attribute))


def astray(weights: Sequence[Tensor], named: Tensor) -> Tensor:
    """Sum, over the words that name something, minus the logarithm of what they give to it in the mean of all maps.

    weights (B, H, Nq, Nk) of each layer, named bool (B, Nq, Nk).
    """
    given = torch.stack([layer.mean(dim=1) for layer in weights]).mean(dim=0)
    return -(given * named).sum(dim=-1)[named.any(dim=-1)].log().sum()


def regions(drawn: Captions, n: int) -> np.ndarray:
    """Say which patches each of n rows of words names -> bool (B, n, 16); a word that names nothing has none."""
    named = [(*regions, *[None] * (n - len(regions))) for regions in drawn.regions]
    return np.stack([interpret.regions_of(row, N_CELLS) for row in named])


class Captioning:
    """What train.loop asks for: scenes drawn anew in every epoch, none of those reserved, and the loss of a batch.

    Validation writes the captions of what is kept for it: the share that is right word for word, in percent.
    """

    def __init__(
        self, recipe: Recipe, kept: Captions, *, reserved: frozenset = frozenset(), seed: int = 0, device: str = "cpu"
    ):
        self.recipe, self.kept, self.reserved, self.seed, self.device = recipe, kept, reserved, seed, device
        never = captioning.never_together(self.draw(0).words)
        self.never_together = torch.from_numpy(never).to(device)

    def draw(self, number: int) -> Captions:
        """Draw the scenes of an epoch, by the seed and the number of the epoch."""
        rng, scenes = np.random.default_rng([self.seed, number]), []
        while len(scenes) < self.recipe.n_scenes:
            scene = draw_scene(rng)
            if frozenset(scene) not in self.reserved:
                scenes.append(scene)
        return captioning.caption([half_named(rng, scene, share=self.recipe.unnamed) for scene in scenes], rng)

    def epoch(self, number: int) -> list[Batch]:
        """Draw the pictures and captions of an epoch, in batches."""
        drawn, n = self.draw(number), self.recipe.batch
        words = numbered(drawn.words)
        named = torch.from_numpy(regions(drawn, words.shape[1] - 1))
        columns = (column.to(self.device).split(n) for column in (torch.from_numpy(drawn.images), words, named))
        return list(zip(*columns, strict=True))

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, int]:
        """Sum the loss of all words, the mark of the end included."""
        images, words, named = batch
        given = as_float(images), words[:, :-1]
        logits, weights = model.watched(*given) if self.recipe.pointing else (model(*given), [])
        if self.recipe.rivals == "seen":
            logits = logits.masked_fill(~rivals(words, self.never_together), -torch.inf)
        total, count = cross_entropy(logits, words[:, 1:])
        if self.recipe.pointing:
            total = total + self.recipe.pointing * astray(weights, named)
        return total, count

    def validate(self, model: nn.Module) -> dict[str, float]:
        """Compute the share of the captions, in percent, that is written as wanted."""
        return {"exact_match": 100 * captioning.exact_match(captions(model, self.kept.images), self.kept.words)}


def captions(model: Captioner, images: np.ndarray) -> list[Words]:
    """Let a model write what is in pictures, uint8 (B, 48, 48, 3)."""
    device, written = next(model.parameters()).device, []
    for part in torch.from_numpy(images).split(AT_ONCE):
        written += write(model, as_float(part.to(device)), begin=BEGINS, end=ENDS, longest=LONGEST - 1).tolist()
    return [VOCABULARY.decode(row) for row in written]


def _scenes(drawn: Mapping[str, Captions]) -> frozenset[frozenset[Scene]]:
    return frozenset(frozenset(scene) for split in drawn.values() for scene in split.scenes)


def _sizes(recipe):
    names = ("layer", "n_layers", "n_image_layers", "stem", "word_dropout")
    return {name: asdict(recipe)[name] for name in names}


def _config(sizes):
    layer = LayerConfig(**sizes["layer"])
    image = ImageConfig(layer=layer, n_layers=sizes["n_image_layers"], stem=STEMS[sizes["stem"]])
    own = {name: sizes[name] for name in ("n_layers", "word_dropout")}
    return CaptionerConfig(n_words=len(VOCABULARY), image=image, layer=layer, **own)
