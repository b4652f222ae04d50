"""The news, read by a checker of its own: it parses every text and works out summary and links by itself."""

import re
from collections import Counter

import numpy as np
import pytest

from crossattn_ref.data import summarization as news
from crossattn_ref.data.vocabulary import UNK, Vocabulary

MARKS = r"(?:above all|most of all|the news)"
OTHERS = r"(?:by the way|as usual|once more)"
ORDERS = (
    r"the (?P<role>\w+) (?P<name>\w+) (?P<verb>\w+) a (?P<thing>\w+) in (?P<town>\w+)",
    r"in (?P<town>\w+) (?P<name>\w+) the (?P<role>\w+) (?P<verb>\w+) a (?P<thing>\w+)",
    r"a (?P<thing>\w+) was (?P<verb>\w+) in (?P<town>\w+) by the (?P<role>\w+) (?P<name>\w+)",
)
SENTENCE = [re.compile(rf"(?:(?P<mark>{MARKS}) |{OTHERS} )?{order}") for order in ORDERS]
TODAY = {
    "opened": "opens", "sold": "sells", "bought": "buys", "lost": "loses", "found": "finds", "broke": "breaks",
    "broken": "breaks", "drew": "draws", "drawn": "draws", "saved": "saves", "stole": "steals", "stolen": "steals",
    "chose": "chooses", "chosen": "chooses",
}  # fmt: skip


@pytest.fixture(scope="module")
def splits():
    return news.splits()


def parsed(pair):
    """Every sentence of a text: what it says, its word order, and where it begins."""
    found, place = [], 0
    for sentence in " ".join(pair.src).removesuffix(" .").split(" . "):
        (order, match), *others = [(i, m) for i, p in enumerate(SENTENCE) if (m := p.fullmatch(sentence))]
        assert others == []
        found.append((match.groupdict(), order, place, place + len(sentence.split())))
        place += len(sentence.split()) + 1
    return found


def test_every_text_has_three_to_five_facts_of_which_one_is_marked_and_the_summary_says_it(splits):
    for pair in [pair for pairs in splits.values() for pair in pairs]:
        facts = parsed(pair)
        assert 3 <= len(facts) <= 5
        ((told, *_),) = [fact for fact in facts if fact[0]["mark"]]
        assert pair.tgt == (told["role"], told["name"], TODAY[told["verb"]], told["thing"], "in", told["town"])


def test_sure_links_lead_into_the_marked_fact_and_possible_ones_to_the_same_word_anywhere(splits):
    for pair in [pair for name in ("dev", "strangers") for pair in splits[name]]:
        ((_, _, first, end),) = [fact for fact in parsed(pair) if fact[0]["mark"]]
        assert sorted(target for _, target in pair.sure) == list(range(6))
        assert all(first <= source < end for source, _ in pair.sure)
        told = [TODAY.get(word, word) for word in pair.src]
        same = {(i, j) for i, word in enumerate(told) for j, other in enumerate(pair.tgt) if word == other}
        assert pair.possible == same
        assert pair.sure <= same


def test_all_three_word_orders_come_and_the_marked_fact_may_stand_anywhere(splits):
    facts = [parsed(pair) for pair in splits["test"]]
    orders = Counter(order for text in facts for _, order, *_ in text)
    assert all(count > len(facts) for count in orders.values())
    assert len(orders) == 3
    places = Counter(next(i for i, fact in enumerate(text) if fact[0]["mark"]) for text in facts)
    assert min(places[i] for i in range(3)) > len(facts) / 6


def test_a_stranger_stands_in_no_other_text_of_the_corpus(splits):
    elsewhere = {word for name, pairs in splits.items() if name != "strangers" for p in pairs for word in p.src}
    names = Counter(pair.tgt[1] for pair in splits["strangers"])
    assert max(names.values()) == 1
    assert not names.keys() & elsewhere
    others = Counter(word for pair in splits["strangers"] for word in set(pair.src))
    assert all(others[name] == 1 for name in names)


def test_some_people_turn_up_twice_in_their_text_and_most_do_not(splits):
    share = np.mean([pair.src.count(pair.tgt[1]) > 1 for pair in splits["test"]])
    assert 0.1 < share < 0.6


def test_what_has_a_number_is_every_word_but_the_invented_names(splits):
    vocabulary = Vocabulary.of((p.src + p.tgt for p in splits["train"]), at_least=news.AT_LEAST)
    unknown = {word for pair in splits["test"] for word in pair.src + pair.tgt} - set(vocabulary.words)
    names = {fact[0]["name"] for pair in splits["test"] for fact in parsed(pair)}
    assert unknown == names - set(news.KNOWN)
    assert len(unknown) > 100
    assert {"Martin", "opens", "mayor", "in"} <= set(vocabulary.words)


def test_no_text_comes_twice_and_splits_have_their_sizes(splits):
    texts = [pair.src for pairs in splits.values() for pair in pairs]
    assert len(texts) == len(set(texts))
    assert {name: len(pairs) for name, pairs in splits.items()} == news.SIZES


def test_the_same_seed_writes_the_same_and_another_one_another(monkeypatch):
    monkeypatch.setattr(news, "SIZES", {"train": 5, "strangers": 3})
    assert news.splits(1) == news.splits(1) != news.splits(2)


def test_words_without_a_number_get_one_of_their_own_in_the_order_in_which_they_come():
    vocabulary = Vocabulary.of([["the", "mayor", "sings"]])
    src = ["the", "mayor", "Brelin", "met", "Kolb", "and", "Brelin"]
    n = len(vocabulary)
    numbers, strangers = news.extended(vocabulary, src)
    assert strangers == ["Brelin", "met", "Kolb", "and"]
    assert numbers == [*vocabulary.encode(["the", "mayor"]), n, n + 1, n + 2, n + 3, n]
    assert news.spelled(vocabulary, strangers, numbers) == src
    assert news.extended_by(vocabulary, strangers, ["Kolb", "sings", "Zorn"]) == [
        n + 2, vocabulary.encode(["sings"])[0], UNK,
    ]  # fmt: skip
