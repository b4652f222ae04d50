"""A grammar that writes English sentences with their French translations, and says which word came from which.

Each of its features exists for a kind of alignment: adjectives that change places, possessors that move behind what
they own (and contract: de + le = du), negation that becomes two words apart (ne ... pas), one word for two and two for
one (saw = a vu, will see = verra), an object that jumps before its verb (them = les), and determiners that need the
noun for their gender. Words here are tokens: l' and n' stand alone, as 's does in English.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from crossattn_ref.data.lexicon import (
    ADJECTIVES,
    ADVERBS,
    CLITICS,
    DETERMINERS,
    NOUNS,
    NUMERALS,
    PREPOSITIONS,
    RARE,
    VERBS,
)

SIZES = {"train": 5000, "dev": 500, "test": 500, "held_out": 500, "rare": 300, "chain": 300}
_SELDOM = 0.02  # how often a rare noun is drawn, for each time that another one is
_COMMON = tuple(noun for noun in NOUNS if noun not in RARE)
_BEFORE = tuple(adjective for adjective in ADJECTIVES if adjective.before)
_AFTER = tuple(adjective for adjective in ADJECTIVES if not adjective.before)
_DEFINITE = tuple(english for english in DETERMINERS if english[1])
_ELIDED = {"le": "l'", "la": "l'", "de": "d'", "ne": "n'", "ce": "cet", "ma": "mon"}
_CONTRACTED = {"le": "du", "les": "des"}
_VOWELS = tuple("aeiouéêîh")  # the h of our French words is mute


@dataclass(frozen=True)
class Pair:
    """A sentence and its translation, as words, with gold links (source word, target word), both counted from 0.

    sure links are beyond doubt; possible links, which include them, are right as well. A corpus without gold has none.
    """

    src: tuple[str, ...]
    tgt: tuple[str, ...]
    sure: frozenset[tuple[int, int]] = frozenset()
    possible: frozenset[tuple[int, int]] = frozenset()


def splits(seed: int = 0) -> dict[str, list[Pair]]:
    """Write the corpus: "train", "dev", "test", and three that ask for what training did not show.

    "held_out": each has an adjective beside a noun with which it never stood before (24 of the 336 such pairs);
    "rare": each has a noun that training shows about ten times; "chain": possessors of possessors, two or three deep,
    where training has one. No sentence occurs twice, in one split or in two.
    """
    rng = np.random.default_rng(seed)
    apart, seen = _kept_apart(rng), set()

    def ordinary(draft):
        return not draft.described & apart

    def rare(draft):
        return ordinary(draft) and draft.nouns & set(RARE)

    found = {
        "held_out": _written(lambda: _Draft(rng), SIZES["held_out"], seen, lambda draft: draft.described & apart),
        "rare": _written(lambda: _Draft(rng, seldom=1.0), SIZES["rare"], seen, rare),
        "chain": _written(lambda: _Draft(rng, depth=int(rng.integers(2, 4))), SIZES["chain"], seen, ordinary),
    }
    return {name: found.get(name) or _written(lambda: _Draft(rng), n, seen, ordinary) for name, n in SIZES.items()}


def sentence(rng: np.random.Generator, *, depth: int | None = None) -> Pair:
    """Write one sentence, whose subject belongs to somebody who belongs to somebody ... depth deep (0 or 1 if None)."""
    return _Draft(rng, depth=depth).pair


def _kept_apart(rng):
    """Choose an adjective for every common noun, each adjective for two: pairs (adjective, noun) of English words."""
    order = rng.permutation(len(_COMMON))
    return {(ADJECTIVES[i % len(ADJECTIVES)].en, _COMMON[noun].en[0]) for i, noun in enumerate(order)}


def _written(write: Callable, n: int, seen: set, fits: Callable) -> list[Pair]:
    """Write n sentences that fit and were not seen, and add them to what was seen."""
    found = []
    while len(found) < n:
        draft = write()
        if draft.pair.src not in seen and fits(draft):
            seen.add(draft.pair.src)
            found.append(draft.pair)
    return found


@dataclass(frozen=True)
class _Word:
    """A French word under way, and the places of the English words that it came from."""

    text: str
    sure: tuple[int, ...] = ()
    possible: tuple[int, ...] = ()


class _Draft:
    """One sentence: English is said word by word, and every part returns its French words.

    pair is the sentence; nouns are those in it, and described the (adjective, noun) in it, by their English words.
    """

    def __init__(self, rng, *, depth=None, seldom=_SELDOM):
        self.rng = rng
        self.rare = seldom * len(RARE) / (seldom * len(RARE) + len(_COMMON))
        self.src, self.nouns, self.described = [], set(), set()
        subject, plural = self.noun_phrase(self.chance(0.25) if depth is None else depth)
        words = subject + self.predicate(plural)
        if self.chance(0.3):
            words += self.place()
        words = _joined([*words, _Word(".", (self.say("."),))])
        sure = frozenset((source, i) for i, word in enumerate(words) for source in word.sure)
        possible = frozenset((source, i) for i, word in enumerate(words) for source in word.possible)
        self.pair = Pair(tuple(_with_an(self.src)), tuple(word.text for word in words), sure, sure | possible)

    def chance(self, probability):
        return self.rng.random() < probability

    def one_of(self, things):
        return things[self.rng.integers(len(things))]

    def say(self, word):
        self.src.append(word)
        return len(self.src) - 1

    def noun_phrase(self, depth=0, *, definite=False):
        """Say a noun, after its possessors where there are depth -> (French words, whether it is plural)."""
        if depth:
            return self.owned(*self.noun_phrase(depth - 1))
        plural = self.chance(0.4)
        if plural and not definite and self.chance(0.2):
            return self.described_noun(plural, counted=True)[0], plural
        forms = _DEFINITE if definite else [english for english in DETERMINERS if english[plural]]
        english = self.one_of([*forms, ("the", "the"), ("the", "the")])  # the most frequent one
        place = self.say(english[plural])
        words, noun, _ = self.described_noun(plural, counted=plural and self.chance(0.2))
        return [_Word(_agreeing(DETERMINERS[english], noun, plural), (place,)), *words], plural

    def owned(self, owner, of_many):
        """Say what somebody owns: in French it comes first, with an article that English has no word for."""
        mark = self.say("'" if of_many and self.src[-1].endswith("s") else "'s")
        plural = self.chance(0.3)
        words, noun, place = self.described_noun(plural, counted=plural and self.chance(0.2))
        article = _Word(_agreeing(DETERMINERS["the", "the"], noun, plural), possible=(mark, place))
        return [article, *words, _Word("de", (mark,)), *owner], plural

    def described_noun(self, plural, *, counted):
        """Say a noun with its numeral and adjectives -> (French words, the noun, its place in English)."""
        noun = self.one_of(RARE if self.chance(self.rare) else _COMMON)
        numeral = [self.translated(NUMERALS)] if counted else []
        before = [self.adjective(_BEFORE, noun, plural)] if self.chance(0.25) else []
        after = [self.adjective(_AFTER, noun, plural)] if self.chance(0.35) else []
        place = self.say(noun.en[plural])
        self.nouns.add(noun)
        return [*numeral, *before, _Word(noun.fr[plural], (place,)), *after], noun, place

    def adjective(self, adjectives, noun, plural):
        """Say an adjective of a noun -> its French word."""
        chosen = self.one_of(adjectives)
        self.described.add((chosen.en, noun.en[0]))
        return _Word(_agreeing(chosen.fr, noun, plural), (self.say(chosen.en),))

    def translated(self, words):
        """Say one of the words that have one translation -> that."""
        english = self.one_of(tuple(words))
        return _Word(words[english], (self.say(english),))

    def predicate(self, plural):
        """Say what the subject does, and to whom -> French words."""
        verb, tense, negated = self.one_of(VERBS), self.one_of(("present", "past", "future")), self.chance(0.25)
        helper = self.helper(tense, plural, negated)
        no = (self.say("not"),) if negated else ()
        adverb = [self.translated(ADVERBS)] if self.chance(0.3) else []
        acts = (self.say(_english(verb, tense, plural, helper)),)
        clitic, ending = self.clitic() if self.chance(0.2) else ([], "")
        ne, pas = ([_Word("ne", no)], [_Word("pas", no)]) if negated else ([], [])
        finite, *participle = _french(verb, tense, plural, acts, helper)
        participle = [replace(word, text=word.text + ending) for word in participle]
        words = [*ne, *clitic, finite, *pas, *adverb, *participle]
        return words if clitic else words + self.noun_phrase(self.chance(0.25), definite=negated)[0]

    def helper(self, tense, plural, negated):
        """Say will, do, does or did where English needs it -> its place, if there is one."""
        if tense == "future":
            return (self.say("will"),)
        if negated:
            return (self.say("did" if tense == "past" else "do" if plural else "does"),)
        return ()

    def clitic(self):
        """Say him, her or them -> (the French word, which stands before the verb, the ending of a participle)."""
        english = self.one_of(tuple(CLITICS))
        french, ending = CLITICS[english]
        return [_Word(french, (self.say(english),))], ending

    def place(self):
        """Say where it happens -> French words."""
        english = self.one_of(tuple(PREPOSITIONS))
        place = self.say(english)
        return [_Word(word, (place,)) for word in PREPOSITIONS[english]] + self.noun_phrase()[0]


def _agreeing(forms, noun, plural):
    """Choose among the forms (m. singular, f. singular, m. plural, f. plural), and a fifth before a vowel."""
    if len(forms) == 5 and noun.gender == "m" and not plural and noun.fr[0].startswith(_VOWELS):
        return forms[4]
    return forms[2 * plural + (noun.gender == "f")]


def _english(verb, tense, plural, helper):
    if tense == "past" and not helper:
        return verb.en[2]
    return verb.en[0] if helper or plural else verb.en[1]


def _french(verb, tense, plural, acts, helper):
    """Conjugate for the places of the English verb and its helper -> one word, or two."""
    if tense == "future":
        return [_Word(verb.future[plural], (*acts, *helper))]
    if tense == "present":
        return [_Word(verb.present[plural], acts, helper)]
    finite = _Word(("a", "ont")[plural], () if helper else acts, (*acts, *helper))
    return [finite, _Word(verb.participle, acts)]


def _joined(words):
    """Elide what stands before a vowel, and contract de + le and de + les."""
    joined = []
    for word in reversed(words):
        after = joined[-1] if joined else _Word("")
        if word.text == "de" and after.text in _CONTRACTED:
            joined[-1] = _Word(_CONTRACTED[after.text], word.sure + after.sure, word.possible + after.possible)
        elif word.text in _ELIDED and after.text.startswith(_VOWELS):
            joined.append(replace(word, text=_ELIDED[word.text]))
        else:
            joined.append(word)
    return joined[::-1]


def _with_an(src):
    pairs = zip(src, [*src[1:], ""], strict=True)
    return ["an" if word == "a" and after.startswith(tuple("aeiou")) else word for word, after in pairs]
