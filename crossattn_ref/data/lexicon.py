"""The words of the grammar in data.translation, English and French, with every form that the grammar asks for."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Noun:
    """A noun: its English and French forms by number, (singular, plural), and its French gender, "m" or "f"."""

    en: tuple[str, str]
    fr: tuple[str, str]
    gender: str


@dataclass(frozen=True)
class Adjective:
    """An adjective: its French forms (m. singular, f. singular, m. plural, f. plural), and whether it stands before.

    One whose m. singular changes before a vowel has that as a fifth form.
    """

    en: str
    fr: tuple[str, ...]
    before: bool = False


@dataclass(frozen=True)
class Verb:
    """A verb with an object: English (see, sees, saw); French third person (voit, voient), (verra, verront) and vu."""

    en: tuple[str, str, str]
    present: tuple[str, str]
    future: tuple[str, str]
    participle: str


def _noun(en, fr, gender):
    en, _, more = en.partition("/")
    fr, _, others = fr.partition("/")
    return Noun((en, more or f"{en}s"), (fr, others or f"{fr}s"), gender)


def _regular(en, stem, *, before=False):
    return Adjective(en, (stem, f"{stem}e", f"{stem}s", f"{stem}es"), before)


def _verb(en, present, future, participle):
    singular, plural = future.split("/")
    return Verb(tuple(en.split()), tuple(present.split("/")), (singular, plural), participle)


def _verb_in_er(en, stem):
    """Conjugate a French verb of the first group, whose stem never changes."""
    return _verb(en, f"{stem}e/{stem}ent", f"{stem}era/{stem}eront", f"{stem}é")


NOUNS = tuple(
    _noun(en, fr, gender)
    for gender, words in {
        "m": "cat:chat dog:chien bird:oiseau/oiseaux horse:cheval/chevaux boy:garçon king:roi man/men:homme tree:arbre "
        "book:livre child/children:enfant baker:boulanger soldier:soldat elephant:éléphant rabbit:lapin",
        "f": "girl:fille woman/women:femme queen:reine mouse/mice:souris/souris cow:vache house:maison car:voiture "
        "flower:fleur star:étoile bee:abeille school:école nurse:infirmière witch/witches:sorcière goat:chèvre",
    }.items()
    for en, fr in (word.split(":") for word in words.split())
)
RARE = tuple(noun for noun in NOUNS if noun.en[0] in ("rabbit", "elephant", "goat", "bee"))

ADJECTIVES = (
    _regular("small", "petit", before=True),
    _regular("big", "grand", before=True),
    _regular("pretty", "joli", before=True),
    Adjective("old", ("vieux", "vieille", "vieux", "vieilles", "vieil"), before=True),
    _regular("black", "noir"),
    _regular("green", "vert"),
    _regular("blue", "bleu"),
    _regular("slow", "lent"),
    Adjective("white", ("blanc", "blanche", "blancs", "blanches")),
    Adjective("grey", ("gris", "grise", "gris", "grises")),
    Adjective("red", ("rouge", "rouge", "rouges", "rouges")),
    Adjective("strange", ("étrange", "étrange", "étranges", "étranges")),
)

VERBS = (
    _verb("see sees saw", "voit/voient", "verra/verront", "vu"),
    _verb("hear hears heard", "entend/entendent", "entendra/entendront", "entendu"),
    _verb("follow follows followed", "suit/suivent", "suivra/suivront", "suivi"),
    _verb("know knows knew", "connaît/connaissent", "connaîtra/connaîtront", "connu"),
    _verb("paint paints painted", "peint/peignent", "peindra/peindront", "peint"),
    _verb("protect protects protected", "protège/protègent", "protégera/protégeront", "protégé"),
    _verb_in_er("love loves loved", "aim"),
    _verb_in_er("admire admires admired", "admir"),
    _verb_in_er("find finds found", "trouv"),
    _verb_in_er("watch watches watched", "regard"),
    _verb_in_er("hide hides hid", "cach"),
    _verb_in_er("draw draws drew", "dessin"),
    _verb_in_er("push pushes pushed", "pouss"),
    _verb_in_er("forget forgets forgot", "oubli"),
)

ADVERBS = {"often": "souvent", "always": "toujours", "really": "vraiment", "clearly": "clairement"}
NUMERALS = {"two": "deux", "three": "trois", "four": "quatre", "five": "cinq"}
PREPOSITIONS = {
    "behind": ("derrière",),
    "under": ("sous",),
    "near": ("près", "de"),
    "opposite": ("en", "face", "de"),
    "with": ("avec",),
}
DETERMINERS = {  # English (singular, plural) -> French (m. singular, f. singular, m. plural, f. plural)
    ("the", "the"): ("le", "la", "les", "les"),
    ("this", "these"): ("ce", "cette", "ces", "ces"),
    ("my", "my"): ("mon", "ma", "mes", "mes"),
    ("a", ""): ("un", "une", "", ""),
    ("every", ""): ("chaque", "chaque", "", ""),
}
CLITICS = {"him": ("le", ""), "her": ("la", "e"), "them": ("les", "s")}  # with the ending that a participle takes


def word_class(word: str) -> str:
    """Name the class of a French word of the grammar; clitics are determiners by their form, as le and la are."""
    return _CLASSES.get(word, "other")


_CLASSES = (
    {form: "determiner" for forms in DETERMINERS.values() for form in (*forms, "l'", "cet", "du", "des") if form}
    | {form: "adjective" for adjective in ADJECTIVES for form in adjective.fr}
    | {form: "noun" for noun in NOUNS for form in noun.fr}
    | {form: "verb" for verb in VERBS for form in (*verb.present, *verb.future)}
    | {verb.participle + ending: "verb" for verb in VERBS for _, ending in CLITICS.values()}
)
