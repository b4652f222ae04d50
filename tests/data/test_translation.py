"""The grammar, by an independent reading: French is parsed with a dictionary and rules of its own, word by word.

Nothing here is taken from the generator: the forms are written down again, as a grammar book has them, and agreement,
elision, contraction, negation and links are checked on the sentences as they stand.
"""

import itertools

import numpy as np
import pytest

from crossattn_ref.data.translation import SIZES, sentence, splits

# A dictionary: French noun -> (gender, English), singular forms; plurals by rule or exception.
MASCULINE = (
    "chat:cat chien:dog oiseau:bird cheval:horse garçon:boy roi:king homme:man arbre:tree livre:book enfant:child "
    "boulanger:baker soldat:soldier éléphant:elephant lapin:rabbit"
)
FEMININE = (
    "fille:girl femme:woman reine:queen souris:mouse vache:cow maison:house voiture:car fleur:flower étoile:star "
    "abeille:bee école:school infirmière:nurse sorcière:witch chèvre:goat"
)
ENGLISH_PLURALS = {"man": "men", "child": "children", "woman": "women", "mouse": "mice", "witch": "witches"}
ADJECTIVES = {  # as a dictionary lists them: m., f.; English; before the noun?
    "petit petite": ("small", True), "grand grande": ("big", True), "joli jolie": ("pretty", True),
    "vieux vieille": ("old", True), "noir noire": ("black", False), "vert verte": ("green", False),
    "bleu bleue": ("blue", False), "lent lente": ("slow", False), "blanc blanche": ("white", False),
    "gris grise": ("grey", False), "rouge rouge": ("red", False), "étrange étrange": ("strange", False),
}  # fmt: skip
INFINITIVES = {  # English: (infinitive, past participle), and the third persons that are irregular
    "see": ("voir", "vu"), "hear": ("entendre", "entendu"), "follow": ("suivre", "suivi"),
    "know": ("connaître", "connu"), "paint": ("peindre", "peint"), "protect": ("protéger", "protégé"),
    "love": ("aimer", "aimé"), "admire": ("admirer", "admiré"), "find": ("trouver", "trouvé"),
    "watch": ("regarder", "regardé"), "hide": ("cacher", "caché"), "draw": ("dessiner", "dessiné"),
    "push": ("pousser", "poussé"), "forget": ("oublier", "oublié"),
}  # fmt: skip
PRESENT = {
    "voir": ("voit", "voient"), "entendre": ("entend", "entendent"), "suivre": ("suit", "suivent"),
    "connaître": ("connaît", "connaissent"), "peindre": ("peint", "peignent"), "protéger": ("protège", "protègent"),
}  # fmt: skip
FUTURE_STEMS = {"voir": "verr", "entendre": "entendr", "suivre": "suivr", "connaître": "connaîtr", "peindre": "peindr"}
PAST = {"saw": "see", "heard": "hear", "knew": "know", "found": "find", "hid": "hide", "drew": "draw",
        "forgot": "forget"}  # fmt: skip
DETERMINERS = {"le": "ms", "la": "fs", "l'": "?s", "les": "?p", "ce": "ms", "cet": "ms", "cette": "fs", "ces": "?p",
               "mon": "?s", "ma": "fs", "mes": "?p", "un": "ms", "une": "fs", "chaque": "?s"}  # fmt: skip
ENGLISH_DETERMINERS = {"le": "the", "la": "the", "l'": "the", "les": "the", "du": "the", "des": "the", "ce": "this",
                       "cet": "this", "cette": "this", "ces": "these", "mon": "my", "ma": "my", "mes": "my",
                       "chaque": "every"}  # fmt: skip
NUMERALS = {"deux": "two", "trois": "three", "quatre": "four", "cinq": "five"}
ADVERBS = {"souvent": "often", "toujours": "always", "vraiment": "really", "clairement": "clearly"}
VOWELS = "aeiouyàâéèêëîïôûh"


def plural_of_a_noun(noun):
    if noun.endswith(("s", "x", "z")):
        return noun
    if noun.endswith("eau"):
        return noun + "x"
    return noun[:-2] + "aux" if noun.endswith("al") else noun + "s"


def nouns():
    """French form -> set of (gender, number, English form)."""
    found = {}
    for gender, words in (("m", MASCULINE), ("f", FEMININE)):
        for french, english in (entry.split(":") for entry in words.split()):
            for number, fr, en in (
                ("s", french, english),
                ("p", plural_of_a_noun(french), ENGLISH_PLURALS.get(english, english + "s")),
            ):
                found.setdefault(fr, set()).add((gender, number, en))
    return found


def adjectives():
    """French form -> set of (gender, number, English, whether it stands before)."""
    found = {}
    for forms, (english, before) in ADJECTIVES.items():
        for gender, form in zip("mf", forms.split(), strict=True):
            found.setdefault(form, set()).add((gender, "s", english, before))
            plural = form if form.endswith(("s", "x")) else form + "s"
            found.setdefault(plural, set()).add((gender, "p", english, before))
    found["vieil"] = {("m", "s", "old", True)}
    return found


NOUNS, ADJECTIVE_FORMS = nouns(), adjectives()


def finite_forms(infinitive):
    """(present s, p), (future s, p) of a verb, by the rules of its group."""
    stem = infinitive[:-2]
    present = PRESENT.get(infinitive, (stem + "e", stem + "ent"))
    future = FUTURE_STEMS.get(infinitive, infinitive)
    return present, (future + "a", future + "ont")


VERBS = {
    form: (english, tense, number)
    for english, (infinitive, _) in INFINITIVES.items()
    for tense, forms in zip(("present", "future"), finite_forms(infinitive), strict=True)
    for number, form in zip("sp", forms, strict=True)
}
PARTICIPLES = {
    participle + ending: (english, ending)
    for english, (_, participle) in INFINITIVES.items()
    for ending in ("", "e", "s", "es")
}


class Reader:
    """Reads a French sentence from left to right; every rule that is broken raises an AssertionError."""

    def __init__(self, pair):
        self.pair, self.words, self.at = pair, list(pair.tgt), 0
        self.roles = {}  # place -> (kind, English word that it must be linked to)

    @property
    def next(self):
        return self.words[self.at] if self.at < len(self.words) else ""

    def take(self, kind, english):
        self.roles[self.at] = (kind, english)
        self.at += 1

    def sentence(self):
        number = self.noun_phrase()
        self.verb_phrase(number)
        if self.next in ("derrière", "sous", "avec"):
            self.take("preposition", {"derrière": "behind", "sous": "under", "avec": "with"}[self.next])
            self.noun_phrase()
        elif self.next in ("près", "en"):
            english, rest = ("near", ("près",)) if self.next == "près" else ("opposite", ("en", "face"))
            for word in rest:
                assert self.next == word
                self.take("preposition", english)
            self.after_de(english)
        assert self.next == "."
        self.take("end", ".")
        assert self.at == len(self.words)
        return self

    def noun_phrase(self, determiner=None):
        """Read one, and its possessors -> its number; a contraction has read the determiner already."""
        determiner = determiner or self.determiner()
        numeral = self.next in NUMERALS
        if numeral:
            self.take("numeral", NUMERALS[self.next])
        before = self.adjectives(before=True)
        fitting = [reading for reading in NOUNS[self.next] if self.agrees(determiner, reading, numeral)]
        ((gender, number, english),) = fitting
        self.elided(determiner, gender, number)
        noun = self.words[self.at]
        self.take("noun", english)
        after = self.adjectives(before=False)
        for form in before + after:
            assert any((g, n) == (gender, number) for g, n, _, _ in ADJECTIVE_FORMS[form]), form
        if gender == "m" and number == "s" and before:
            assert (before[-1] == "vieil") == (noun[0] in VOWELS if before[-1] in ("vieil", "vieux") else False)
        if self.next in ("de", "d'", "du", "des"):
            self.after_de("'s")
        return number

    def determiner(self):
        if self.next not in DETERMINERS:
            assert self.next in NUMERALS
            return None
        word = self.next
        self.determined_at = self.at
        self.take("determiner", ENGLISH_DETERMINERS.get(word, "a"))
        return word

    def after_de(self, english):
        """Read de and what follows: de + le and de + les never stand apart, and de before a vowel never whole."""
        if self.next in ("du", "des"):
            word = {"du": "le", "des": "les"}[self.next]
            self.determined_at = self.at
            self.take("contraction", (english, "the"))
            return self.noun_phrase(word)
        assert self.next in ("de", "d'")
        elided, following = self.next == "d'", self.words[self.at + 1]
        assert elided == (following[0] in VOWELS)
        assert following not in ("le", "les")
        self.take("de", english)
        return self.noun_phrase()

    def agrees(self, determiner, reading, numeral):
        gender, number, _ = reading
        if determiner is None or numeral:
            return number == "p"
        wanted_gender, wanted_number = DETERMINERS[determiner]
        return wanted_number == number and wanted_gender in ("?", gender, "m" if determiner == "mon" else gender)

    def elided(self, determiner, gender, number):
        """le, la, ce and ma change before a vowel, and only there."""
        if determiner is None:
            return
        vowel = self.words[self.determined_at + 1][0] in VOWELS
        by_rule = {
            "le": not vowel and gender == "m", "la": not vowel and gender == "f", "l'": vowel, "ce": not vowel,
            "cet": vowel and gender == "m", "cette": gender == "f", "ma": not vowel and gender == "f",
            "mon": gender == "m" or vowel, "un": gender == "m", "une": gender == "f",
        }  # fmt: skip
        assert by_rule.get(determiner, True), (determiner, gender)
        assert number == ("p" if determiner in ("les", "ces", "mes") else "s")

    def adjectives(self, *, before):
        found = []
        while any(stands == before for *_, stands in ADJECTIVE_FORMS.get(self.next, ())):
            found.append(self.next)
            self.take("adjective", next(iter(ADJECTIVE_FORMS[self.next]))[2])
        return found

    def verb_phrase(self, number):
        negated, clitic, ending = self.next in ("ne", "n'"), None, ""
        if negated:
            assert (self.next == "n'") == (self.words[self.at + 1][0] in VOWELS)
            self.take("negation", "not")
        if self.next in ("le", "la", "les", "l'"):
            clitic = self.next
            vowel = self.words[self.at + 1][0] in VOWELS
            assert (clitic == "l'") == (vowel and clitic != "les")
            pronouns = {"le": ("him",), "la": ("her",), "les": ("them",), "l'": ("him", "her")}[clitic]
            (pronoun,) = [word for word in pronouns if word in self.pair.src]
            self.take("clitic", pronoun)
            ending = {"him": "", "her": "e", "them": "s"}[pronoun]
        self.negated, self.clitic = negated, clitic
        self.tense = self.verb(number, negated, ending)
        if clitic is None:
            self.noun_phrase()

    def verb(self, number, negated, ending):
        if self.next in ("a", "ont"):
            assert (self.next == "ont") == (number == "p")
            self.take("auxiliary", None)
            self.between(negated)
            english, found = PARTICIPLES[self.next]
            assert found == ending
            self.take("verb", english)
            return "past"
        english, tense, found = VERBS[self.next]
        assert found == number
        self.take("verb", english)
        self.between(negated)
        return tense

    def between(self, negated):
        if negated:
            assert self.next == "pas"
            self.take("negation", "not")
        if self.next in ADVERBS:
            self.take("adverb", ADVERBS[self.next])


def lemma(word, tense):
    """Bring an English verb form to its infinitive."""
    if word in INFINITIVES:
        return word
    if tense == "past":
        return PAST.get(word) or next(v for v in INFINITIVES if word in (v + "ed", v + "d"))
    return next(v for v in INFINITIVES if word in (v + "s", v + "es"))


def is_verb(word):
    return (
        word in INFINITIVES or word in PAST or any(word in (v + "s", v + "es", v + "d", v + "ed") for v in INFINITIVES)
    )


@pytest.fixture(scope="module")
def corpus():
    return splits(0)


@pytest.fixture(scope="module")
def read(corpus):
    return [Reader(pair).sentence() for pairs in corpus.values() for pair in pairs]


def test_sentences_are_translated_and_linked_by_hand(corpus):
    found = {" ".join(pair.src): pair for pair in corpus["train"]}
    pair = found["three green dogs did not find her ."]
    assert " ".join(pair.tgt) == "trois chiens verts ne l' ont pas trouvée ."
    assert pair.sure == {(0, 0), (1, 2), (2, 1), (4, 3), (4, 6), (5, 7), (6, 4), (7, 8)}
    assert pair.possible - pair.sure == {(3, 5), (5, 5)}
    pair = found["the small baker 's book draws her ."]
    assert " ".join(pair.tgt) == "le livre du petit boulanger la dessine ."
    assert pair.sure == {(0, 2), (1, 3), (2, 4), (3, 2), (4, 1), (5, 6), (6, 5), (7, 7)}
    assert pair.possible - pair.sure == {(3, 0), (4, 0)}


def test_every_french_sentence_obeys_the_grammar(read, corpus):
    assert len(read) == sum(SIZES.values()) == sum(map(len, corpus.values()))


def test_every_feature_occurs_often_enough_to_be_learnt(read):
    kinds = [kind for reader in read for kind, _ in reader.roles.values()]
    for kind in ("clitic", "negation", "contraction", "numeral", "adverb", "auxiliary", "adjective", "de"):
        assert kinds.count(kind) > 500, kind
    assert {reader.tense for reader in read} == {"past", "present", "future"}
    forms = {word for reader in read for word in reader.words}
    assert {"l'", "d'", "n'", "cet", "vieil", "mon", "du", "des", "chevaux", "oiseaux"} <= forms
    assert any(r.clitic and r.negated and r.tense == "past" for r in read)


def test_tense_negation_and_number_of_the_english_verb_are_those_of_the_french(read):
    for reader in read:
        src, tense = reader.pair.src, reader.tense
        assert ("will" in src) == (tense == "future")
        assert ("not" in src) == reader.negated
        assert ("did" in src) == (tense == "past" and reader.negated)
        assert bool({"do", "does"} & set(src)) == (tense == "present" and reader.negated)
        plural = any(word in ("ont", *(f for f, (_, _, n) in VERBS.items() if n == "p")) for word in reader.words)
        if tense == "present" and reader.negated:
            assert ("do" in src) == plural
        if tense == "present" and not reader.negated:
            (verb,) = [word for word in src if is_verb(word)]
            assert (verb in INFINITIVES) == plural


def test_sure_links_join_a_word_and_its_translation_and_no_content_word_is_without(read):
    for reader in read:
        src, sure = reader.pair.src, reader.pair.sure
        sources = {t: {src[s] for s, other in sure if other == t} for t in range(len(reader.words))}
        for place, (kind, english) in reader.roles.items():
            found = sources[place]
            if kind == "verb":
                assert {lemma(word, reader.tense) for word in found - {"will"}} == {english}
                assert ("will" in found) == (reader.tense == "future")
            elif kind == "auxiliary":
                assert bool(found) != reader.negated
            elif kind == "contraction":
                assert found & ({english[0]} | ({"'"} if english[0] == "'s" else set()))
                assert found <= {*english, "'"}
            elif kind == "de":
                assert found <= {english, "'" if english == "'s" else english}
                assert found
            elif kind == "determiner":
                assert found in (set(), {english}, {"an" if english == "a" else english})
            else:
                assert found == {english}, (kind, reader.pair)


def test_a_noun_is_linked_to_the_noun_at_the_same_depth_of_possession(read):
    """English says owners first, French last: within a phrase, linked nouns come in the opposite order."""
    for reader in read:
        noun_places = [place for place, (kind, _) in reader.roles.items() if kind == "noun"]
        sources = [next(s for s, t in reader.pair.sure if t == place) for place in noun_places]
        assert len(set(sources)) == len(sources)
        for one, other, first, second in zip(noun_places, noun_places[1:], sources, sources[1:], strict=False):
            owned = any(reader.roles[p][0] in ("de", "contraction") and reader.roles[p][1] in ("'s", ("'s", "the"))
                        for p in range(one, other))  # fmt: skip
            assert (second < first) == owned


def test_only_an_article_that_english_leaves_out_has_possible_links_alone(read):
    for reader in read:
        for place, (kind, _) in reader.roles.items():
            links = {s for s, t in reader.pair.possible if t == place}
            sure = {s for s, t in reader.pair.sure if t == place}
            assert links >= sure
            assert links, reader.pair
            if not sure:
                assert kind == "auxiliary" or (kind == "determiner" and any(
                    reader.pair.src[s] in ("'s", "'") for s in links))  # fmt: skip
            elif kind != "contraction":  # which may hold such an article
                assert {reader.pair.src[s] for s in links - sure} <= {"do", "does", "did"}


def test_every_english_word_is_linked_and_an_is_written_before_a_vowel(read):
    for reader in read:
        src = reader.pair.src
        assert {s for s, _ in reader.pair.possible} == set(range(len(src)))
        for word, after in itertools.pairwise(src):
            if word in ("a", "an"):
                assert (word == "an") == (after[0] in "aeiou")


# Splits


def described(pair):
    """The (adjective, noun) that stand together in the English sentence; nouns by their singular."""
    words = [entry.split(":")[1] for entry in f"{MASCULINE} {FEMININE}".split()]
    singular = {word: word for word in words} | {ENGLISH_PLURALS.get(word, word + "s"): word for word in words}
    known, found, waiting = {english for english, _ in ADJECTIVES.values()}, set(), []
    for word in pair.src:
        if word in known:
            waiting.append(word)
        elif word in singular:
            found |= {(adjective, singular[word]) for adjective in waiting}
            waiting = []
    return found


def test_splits_have_their_sizes_and_share_no_sentence(corpus):
    assert {name: len(pairs) for name, pairs in corpus.items()} == SIZES
    sources = [pair.src for pairs in corpus.values() for pair in pairs]
    assert len(set(sources)) == len(sources)


def test_held_out_pairs_stand_together_nowhere_else_and_all_their_words_are_known(corpus):
    seen = set().union(*(described(pair) for name, pairs in corpus.items() if name != "held_out" for pair in pairs))
    apart = set().union(*(described(pair) - seen for pair in corpus["held_out"]))
    assert len(apart) == 24
    assert len({noun for _, noun in apart}) == 24
    assert all(described(pair) - seen for pair in corpus["held_out"])
    assert len(seen) == 336 - 24


def test_only_the_chain_split_has_possessors_of_possessors(corpus):
    def deepest(pair):
        depth = most = 0
        for word in pair.src:
            depth += word in ("'s", "'")
            if is_verb(word) or word in ("will", "do", "does", "did", "behind", "under", "near", "opposite", "with"):
                depth = 0
            most = max(most, depth)
        return most

    assert {deepest(pair) for pair in corpus["chain"]} == {2, 3}
    for name in ("train", "dev", "test", "held_out", "rare"):
        assert max(map(deepest, corpus[name])) == 1


def test_rare_nouns_are_seldom_in_training_and_in_every_sentence_of_their_split(corpus):
    count = lambda noun: sum(word in (noun, noun + "s") for pair in corpus["train"] for word in pair.src)  # noqa: E731
    rare = ["rabbit", "elephant", "goat", "bee"]
    assert all(3 <= count(noun) <= 30 for noun in rare)
    assert count("cat") > 10 * max(map(count, rare))
    assert all(any(word.removesuffix("s") in rare for word in pair.src) for pair in corpus["rare"])


def test_the_seed_alone_decides():
    rng = np.random.default_rng
    assert sentence(rng(7)) == sentence(rng(7)) != sentence(rng(8))
    deep = sentence(rng(3), depth=3)
    assert sum(word in ("'s", "'") for word in deep.src) >= 3
