"""Invented news and their summaries, which say which word of the text each of their words came from.

A text holds three to five facts, each about somebody who did something somewhere, in three word orders. One fact is
marked as the one that matters, by one of a few phrases; the summary says it in six words. Half of the surnames are
known to everybody, and the others are invented anew, so that hardly any comes twice. Some people turn up twice.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from crossattn_ref.data.translation import Pair
from crossattn_ref.data.vocabulary import UNK, Vocabulary

SIZES = {"train": 6000, "dev": 300, "test": 500, "strangers": 500}
FEWEST, MOST = 3, 5  # facts in a text
AT_LEAST = 100  # how often a word stands in the training split to have a number: an invented name never does
KNOWN = (
    "Martin",
    "Silva",
    "Novak",
    "Jensen",
    "Rossi",
    "Okafor",
    "Haddad",
    "Ivanova",
    "Tanaka",
    "Cohen",
    "Singh",
    "Kim",
)
ROLES = ("mayor", "doctor", "painter", "farmer", "singer", "judge", "pilot", "teacher")
TOWNS = ("Lisbon", "Oslo", "Tunis", "Riga", "Cork", "Turin", "Ghent", "Porto", "Malmo", "Izmir")
THINGS = (
    "bridge",
    "ship",
    "school",
    "garden",
    "tower",
    "clock",
    "theatre",
    "boat",
    "piano",
    "library",
    "mill",
    "horse",
)
VERBS = (  # past, participle, present
    ("opened", "opened", "opens"),
    ("sold", "sold", "sells"),
    ("bought", "bought", "buys"),
    ("lost", "lost", "loses"),
    ("found", "found", "finds"),
    ("broke", "broken", "breaks"),
    ("drew", "drawn", "draws"),
    ("saved", "saved", "saves"),
    ("stole", "stolen", "steals"),
    ("chose", "chosen", "chooses"),
)
PRESENT = {form: present for *others, present in VERBS for form in others}
IT_MATTERS = (("above", "all"), ("most", "of", "all"), ("the", "news"))
BY_THE_WAY = (("by", "the", "way"), ("as", "usual"), ("once", "more"), ())
_AGAIN = 0.2  # how often a fact is about somebody of a fact before
_SYLLABLES = (
    ["B", "Br", "D", "Dr", "F", "G", "Gr", "K", "Kl", "L", "M", "N", "P", "R", "S", "St", "T", "Tr", "V", "Z"],
    ["a", "e", "i", "o", "u"],
    ["b", "d", "l", "lm", "lv", "m", "n", "nd", "r", "rn", "s", "sk", "t", "v"],
    ["a", "e", "i", "o", "ue"],
    ["k", "l", "ld", "m", "n", "ns", "r", "rt", "th", "x"],
)


@dataclass(frozen=True)
class _Fact:
    role: str
    name: str
    verb: tuple[str, str, str]
    thing: str
    town: str

    def summary(self):
        return (self.role, self.name, self.verb[2], self.thing, "in", self.town)


def splits(seed: int = 0) -> dict[str, list[Pair]]:
    """Write the corpus: "train", "dev" and "test", and "strangers", each about a surname that no other split holds.

    The invented names of the first three come from one half of all that there are, each seen by chance a few times;
    the salient ones of "strangers" from the other half, each used once. No text occurs twice.
    """
    rng = np.random.default_rng(seed)
    names = rng.permutation(list(_names()))
    usual, strangers = names[: len(names) // 2], names[len(names) // 2 :].tolist()
    found, seen = {}, set()
    for name, n in SIZES.items():
        found[name] = []
        while len(found[name]) < n:
            pair = story(rng, usual, about=strangers.pop() if name == "strangers" else None)
            if pair.src not in seen:
                seen.add(pair.src)
                found[name].append(pair)
    return found


def story(rng: np.random.Generator, invented: Sequence[str], *, about: str | None = None) -> Pair:
    """Write a text and its summary; about is the surname that the summary is about, drawn if None.

    Every summary word has one sure link, to its word in the fact that matters (a present tense to the past), and
    possible ones to the same word wherever else it stands.
    """
    facts = [_fact(rng, invented)]
    for _ in range(rng.integers(FEWEST, MOST + 1) - 1):
        again = facts[rng.integers(len(facts))] if rng.random() < _AGAIN else None
        facts.append(_fact(rng, invented, again=again))
    chosen = int(rng.integers(len(facts)))
    if about is not None:
        before = facts[chosen].name
        facts = [_renamed(fact, before, about) for fact in facts]
    src: list[str] = []
    for place, fact in enumerate(facts):
        phrase = _one_of(rng, IT_MATTERS if place == chosen else BY_THE_WAY)
        first = len(src) + len(phrase)
        src += [*phrase, *_told(rng, fact)]
        if place == chosen:
            span = range(first, len(src))
    return _linked(tuple(src), facts[chosen].summary(), span)


def extended(vocabulary: Vocabulary, src: Sequence[str]) -> tuple[list[int], list[str]]:
    """Number a text so that no word is lost -> (a number for each word, the words that have none).

    The i-th distinct word without a number gets len(vocabulary) + i, in this text alone.
    """
    strangers = list(dict.fromkeys(word for word, n in zip(src, vocabulary.encode(src), strict=True) if n == UNK))
    return extended_by(vocabulary, strangers, src), strangers


def extended_by(vocabulary: Vocabulary, strangers: Sequence[str], words: Sequence[str]) -> list[int]:
    """Number words by a vocabulary and a text's strangers; a word of neither becomes UNK."""
    places = {word: len(vocabulary) + i for i, word in enumerate(strangers)}
    return [places.get(word, n) for word, n in zip(words, vocabulary.encode(words), strict=True)]


def spelled(vocabulary: Vocabulary, strangers: Sequence[str], numbers: Sequence[int]) -> list[str]:
    """Return the words of numbers that extended_by gave."""
    words = (*vocabulary.words, *strangers)
    return [words[number] for number in numbers]


def _names():
    onsets, *others = _SYLLABLES
    for onset in onsets:
        rest = [onset]
        for syllable in others:
            rest = [start + end for start in rest for end in syllable]
        yield from rest


def _one_of(rng, things):
    return things[rng.integers(len(things))]


def _fact(rng, invented, *, again=None):
    name = _one_of(rng, KNOWN) if rng.random() < 0.5 else str(_one_of(rng, invented))
    role = _one_of(rng, ROLES)
    if again is not None:
        role, name = again.role, again.name
    return _Fact(role, name, _one_of(rng, VERBS), _one_of(rng, THINGS), _one_of(rng, TOWNS))


def _renamed(fact, before, after):
    return _Fact(fact.role, after if fact.name == before else fact.name, fact.verb, fact.thing, fact.town)


def _told(rng, fact):
    """Tell a fact in one of three word orders."""
    past, participle, _ = fact.verb
    return _one_of(
        rng,
        (
            ["the", fact.role, fact.name, past, "a", fact.thing, "in", fact.town, "."],
            ["in", fact.town, fact.name, "the", fact.role, past, "a", fact.thing, "."],
            ["a", fact.thing, "was", participle, "in", fact.town, "by", "the", fact.role, fact.name, "."],
        ),
    )


def _linked(src, tgt, span):
    """Link each summary word to its word within the span, and possibly to the same word elsewhere."""
    written = tuple(PRESENT.get(word, word) for word in src)
    sure = frozenset((next(i for i in span if written[i] == word), j) for j, word in enumerate(tgt))
    same = frozenset((i, j) for i, j in sure for i in range(len(src)) if written[i] == tgt[j])
    return Pair(src, tgt, sure, sure | same)
