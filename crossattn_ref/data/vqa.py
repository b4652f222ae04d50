"""Scenes and questions about them: nine kinds, each question with the program that answers it.

Every referent is unambiguous ("the red circle" means that there is one), answers are balanced within each kind, and
the regions of a question are the cells of the objects that its answer is read from.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from crossattn_ref.data.programs import ANSWERS, BESIDE, Ambiguous, Program, cells_read, phrase, run
from crossattn_ref.data.scenes import (
    COLOURS,
    COMBINATIONS,
    SEEN,
    SHAPES,
    SIZES,
    Object,
    Scene,
    as_named,
    draw_held_out,
    draw_scene,
    holds_held_out,
    render,
)
from crossattn_ref.data.words import Vocabulary, tokens

ATTRIBUTES = {"size": SIZES, "colour": tuple(COLOURS), "shape": SHAPES}
KINDS = ("colour", "shape", "size", "exist", "count", "compare", "rel_colour", "rel_shape", "verify_rel")
PROPOSALS = 8  # questions drawn for each one that is kept

VOCABULARY = Vocabulary(tokens(
    "what is the thing ? there a how many things are more than does it have left right of above below "
    + " ".join((*SIZES, *COLOURS, *SHAPES, *(f"{shape}s" for shape in SHAPES), *ATTRIBUTES))
))  # fmt: skip
ANSWER_NUMBER = {answer: number for number, answer in enumerate(ANSWERS)}


@dataclass(frozen=True)
class Question:
    """A question about one scene: its kind, its words, its program, its answer, the cells to look at."""

    kind: str
    words: tuple[str, ...]
    program: Program
    answer: str
    regions: frozenset[int]

    @property
    def text(self) -> str:
        """The question as one string."""
        return " ".join(self.words)


@dataclass(frozen=True)
class Questions:
    """Pictures with questions: images uint8 (I, 48, 48, 3), and for each question the number of its image."""

    images: np.ndarray
    scenes: tuple[Scene, ...]
    questions: tuple[Question, ...]
    image_of: np.ndarray

    def __len__(self) -> int:
        return len(self.questions)


def splits(
    rng: np.random.Generator,
    *,
    train: int = 10_000,
    dev: int = 500,
    test: int = 1000,
    held_out: int = 500,
    per_image: int = 5,
) -> dict[str, Questions]:
    """Draw the four splits, so many images each. In held-out every question is about, or beside, a held-out object."""
    drawn = {
        name: [draw_scene(rng) for _ in range(n)] for name, n in (("train", train), ("dev", dev), ("test", test))
    } | {"held-out": [draw_held_out(rng) for _ in range(held_out)]}
    return {name: ask(rng, scenes, per_image=per_image) for name, scenes in drawn.items() if scenes}


def ask(rng: np.random.Generator, scenes: Sequence[Scene], *, per_image: int = 5) -> Questions:
    """Draw so many questions of different kinds about each scene, answers balanced over all of them, and render.

    What has no name in a scene (scenes.half_named) is neither asked for nor used to say what is meant.
    """
    balance = Balance()
    questions, image_of = [], []
    for number, scene in enumerate(scenes):
        asked = 0
        for kind in rng.permutation(KINDS):
            if asked < per_image and (question := balance.choose(rng, str(kind), as_named(scene))):
                questions.append(question)
                image_of.append(number)
                asked += 1
    return Questions(render(scenes, rng), tuple(scenes), tuple(questions), np.array(image_of, dtype=np.int64))


@dataclass
class Balance:
    """Chooses of several questions the one whose answer is rarest so far: for its kind, then for its very words."""

    by_kind: Counter = field(default_factory=Counter)
    by_text: Counter = field(default_factory=Counter)

    def choose(self, rng: np.random.Generator, kind: str, scene: Scene) -> Question | None:
        """Draw questions of a kind about a scene and keep one; None where the scene allows of none."""
        drawn = [question for _ in range(PROPOSALS) if (question := propose(rng, kind, scene))]
        if not drawn:
            return None
        best = min(drawn, key=lambda q: (self.by_kind[kind, q.answer], self.by_text[q.words, q.answer]))
        self.by_kind[kind, best.answer] += 1
        self.by_text[best.words, best.answer] += 1
        return best


def propose(rng: np.random.Generator, kind: str, scene: Scene) -> Question | None:
    """Draw one question of a kind; None where what was drawn is ambiguous, or asks for what has no name."""
    text, program = _MAKERS[kind](rng, scene)
    words = tokens(text)
    try:
        answer = run(program, scene)
    except Ambiguous:
        return None
    if not answer:
        return None
    return Question(kind, words, program, answer, cells_read(program, scene))


def excused(question: Question, scene: Scene) -> tuple[str, ...]:
    """List the answers that training could not have shown to be wrong: the held-out names of what is asked about.

    Where the colour of a triangle is asked for, "red" is never the answer, whatever the question and the picture; what
    a model then learns is not about the picture.
    """
    operation, attribute, *_ = question.program
    if operation != "query" or attribute not in ("colour", "shape"):
        return ()
    (thing,) = (thing for thing in as_named(scene) if thing.cell in question.regions)
    if not (thing.colour and thing.shape):
        return ()
    if attribute == "colour":
        return tuple(colour for colour in COLOURS if (colour, thing.shape) not in SEEN)
    return tuple(shape for shape in SHAPES if (thing.colour, shape) not in SEEN)


def question_only(train: Sequence[Question], test: Sequence[Question]) -> dict[str, float]:
    """Compute for each kind how often a guess from the question's words alone is right, in [0, 1].

    Guessed is the most frequent answer, in train, to the very same words; to the kind, where they are new.
    """
    by_text, by_kind = ({}, {})
    for question in train:
        by_text.setdefault(question.words, Counter())[question.answer] += 1
        by_kind.setdefault(question.kind, Counter())[question.answer] += 1
    right, asked = Counter(), Counter()
    for question in test:
        seen = by_text.get(question.words) or by_kind.get(question.kind)
        right[question.kind] += bool(seen) and seen.most_common(1)[0][0] == question.answer
        asked[question.kind] += 1
    return {kind: right[kind] / asked[kind] for kind in KINDS if asked[kind]}


def _query(attribute: str) -> Callable:
    def make(rng, scene):
        about = _described(rng, _any(rng, scene), without=attribute)
        return f"what {attribute} is the {phrase(about)} ?", ("query", attribute, ("only", ("find", about)))

    return make


def _query_beside(attribute: str) -> Callable:
    def make(rng, scene):
        about, where = _described(rng, _any(rng, scene)), str(rng.choice(list(BESIDE)))
        text = f"what {attribute} is the thing {BESIDE[where][0]} the {phrase(about)} ?"
        return text, ("query", attribute, ("only", ("beside", where, ("only", ("find", about)))))

    return make


def _exist(rng, scene):
    about = _described(rng, _any(rng, scene) if rng.random() < 0.5 else _unseen(rng, scene))
    return f"is there a {phrase(about)} ?", ("exist", ("find", about))


def _count(rng, _):
    attribute = str(rng.choice(list(ATTRIBUTES)))
    about = {attribute: str(rng.choice(ATTRIBUTES[attribute]))}
    return f"how many {phrase(about, many=True)} are there ?", ("count", ("find", about))


def _compare(rng, _):
    attribute = str(rng.choice(list(ATTRIBUTES)))
    first, second = ({attribute: str(value)} for value in rng.permutation(ATTRIBUTES[attribute])[:2])
    text = f"are there more {phrase(first, many=True)} than {phrase(second, many=True)} ?"
    return text, ("more", ("find", first), ("find", second))


def _verify(rng, scene):
    one, other = rng.choice(len(scene), 2, replace=False)
    first, second = _described(rng, scene[one]), _described(rng, scene[other])
    where = str(rng.choice(list(BESIDE)))
    text = f"is the {phrase(first)} {BESIDE[where][0]} the {phrase(second)} ?"
    return text, ("is_beside", where, ("only", ("find", first)), ("only", ("find", second)))


_MAKERS = {
    "colour": _query("colour"),
    "shape": _query("shape"),
    "size": _query("size"),
    "exist": _exist,
    "count": _count,
    "compare": _compare,
    "rel_colour": _query_beside("colour"),
    "rel_shape": _query_beside("shape"),
    "verify_rel": _verify,
}


def _any(rng, scene):
    return scene[rng.integers(len(scene))]


def _unseen(rng, scene):
    """Draw an object that need not be there; of a held-out pair only where the scene has one, too."""
    pairs = COMBINATIONS if holds_held_out(scene) else SEEN
    return Object(*pairs[rng.integers(len(pairs))], str(rng.choice(SIZES)), 0, 0)


def _described(rng, thing, without=""):
    """Name one, two or three attributes of an object, in the order size, colour, shape."""
    left = [attribute for attribute in ATTRIBUTES if attribute != without and getattr(thing, attribute)]
    kept = set(rng.permutation(left)[: rng.integers(1, len(left) + 1)])
    return {attribute: getattr(thing, attribute) for attribute in left if attribute in kept}
