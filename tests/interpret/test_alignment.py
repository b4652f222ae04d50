"""Alignment: by hand, against published figures on real gold links, properties, and errors."""

import itertools
import math
import re
from pathlib import Path

import numpy as np
import pytest

from crossattn_ref import interpret
from crossattn_ref.interpret import (
    alignment_error_rate,
    alignment_precision,
    alignment_recall,
    attention_links,
    diagonal_links,
    ibm_model_1,
    links_by_class,
    oracle_links,
)

FIXTURE = Path(__file__).parents[1] / "fixtures" / "alignment"
B, H, NQ, NK = 2, 3, 5, 7


def drawn(rng, n=30, source=5, target=7):
    """Draw a corpus of predicted, sure and possible links, some sets empty."""

    def links(chance):
        return {pair for pair in itertools.product(range(source), range(target)) if rng.random() < chance}

    return ([links(rng.choice([0, chance])) for _ in range(n)] for chance in (0.3, 0.2, 0.3))


# By hand


def test_a_sentence_pair_is_worked_out_by_hand():
    # Of four links two are sure and one more is possible; of three sure links two are found: 1 - (2 + 3) / (4 + 3).
    predicted = [{(0, 0), (1, 1), (2, 3), (4, 4)}]
    sure, possible = [{(0, 0), (1, 1), (2, 2)}], [{(0, 0), (1, 1), (2, 2), (2, 3)}]
    assert alignment_error_rate(predicted, sure, possible) == pytest.approx(2 / 7)
    assert alignment_precision(predicted, sure, possible) == pytest.approx(3 / 4)
    assert alignment_recall(predicted, sure, possible) == pytest.approx(2 / 3)


def test_two_sentences_are_counted_together_and_not_averaged():
    # The first is right in its one link, the second wrong in all three: 1 - (1 + 1) / (4 + 2), no mean of 0 and 1.
    predicted, sure = [{(0, 0)}, {(0, 1), (1, 0), (1, 2)}], [{(0, 0)}, {(0, 0)}]
    assert alignment_error_rate(predicted, sure, sure) == pytest.approx(2 / 3)


def test_two_rounds_of_model_1_are_worked_out_by_hand():
    """Two sentence pairs, "a b" with "x y" and "a" with "x", and the empty word beside both."""
    table = ibm_model_1([["a", "b"], ["a"]], [["x", "y"], ["x"]], n_rounds=1).probability
    # Round 1: x shares its first count 1/3 each among (empty, a, b) and its second 1/2 each among (empty, a).
    assert table["a", "x"] == pytest.approx((1 / 3 + 1 / 2) / (1 / 3 + 1 / 2 + 1 / 3))
    assert table["b", "x"] == pytest.approx(1 / 2)
    assert table[None, "x"] == pytest.approx(5 / 7)
    table = ibm_model_1([["a", "b"], ["a"]], [["x", "y"], ["x"]], n_rounds=2).probability
    # Round 2: of y, in proportion to 2/7, 2/7 and 1/2; of x, 5/7, 5/7 and 1/2 in the first pair.
    y_from_b, x_from_b = (1 / 2) / (2 / 7 + 2 / 7 + 1 / 2), (1 / 2) / (5 / 7 + 5 / 7 + 1 / 2)
    assert table["b", "y"] == pytest.approx(y_from_b / (y_from_b + x_from_b))


def test_links_are_read_at_the_largest_weight():
    weights = np.zeros((1, 2, 3, 4))
    weights[0, 0, [0, 1, 2], [2, 0, 3]] = 1.0  # the last source place is no word
    weights[0, 0, 2, 1] = 0.5
    weights[0, 1, :, 3] = 1.0
    weights[0, 1, :, 0] = 0.9
    assert attention_links([weights], [3], [3], head=0) == [{(2, 0), (0, 1), (1, 2)}]
    assert attention_links([weights], [3], [3], head=1) == [{(0, 0), (0, 1), (0, 2)}]
    assert attention_links([weights], [3], [3]) == [{(2, 0), (0, 1), (0, 2)}]  # means 1.0 and 0.9, 1.9, 0.9 and 0.5
    assert attention_links([weights], [3], [2], head=0, step=1) == [{(0, 0), (1, 1)}]


def test_the_diagonal_of_unequal_sentences_is_worked_out_by_hand():
    assert diagonal_links([2, 4, 3], [4, 2, 3]) == [
        {(0, 0), (0, 1), (1, 2), (1, 3)},
        {(1, 0), (3, 1)},
        {(0, 0), (1, 1), (2, 2)},
    ]


def test_the_oracle_prefers_sure_links_and_leaves_words_without_any_alone():
    assert oracle_links([{(1, 0)}], [{(0, 0), (1, 0), (2, 0), (2, 3)}]) == [{(1, 0), (2, 3)}]


def test_links_are_counted_by_the_class_of_the_target_word():
    predicted, possible = [{(0, 0), (1, 1), (2, 2)}, {(0, 0)}], [{(0, 0), (2, 2)}, {(1, 0)}]
    classes = [["noun", "verb", "noun"], ["noun"]]
    assert links_by_class(predicted, possible, classes) == {"noun": 2 / 3, "verb": 0.0}


# Against published figures


def gold(name):
    """Read gold links, counted from 1 in the file -> sure and possible ones."""
    sure, possible = [], []
    for line in (FIXTURE / f"{name}.gold").read_text().splitlines():
        found = [(int(s) - 1, mark, int(t) - 1) for s, mark, t in re.findall(r"(\d+)([-p])(\d+)", line)]
        sure.append({(s, t) for s, mark, t in found if mark == "-"})
        possible.append({(s, t) for s, _, t in found})
    return sure, possible


def output(name):
    lines = (FIXTURE / f"{name}.awesome-align.out").read_text().splitlines()
    return [{tuple(map(int, pair.split("-"))) for pair in line.split()} for line in lines]


@pytest.mark.parametrize(("name", "published"), [("enfr", 4.1), ("roen", 20.7)])
def test_the_error_rate_of_a_published_alignment_is_the_published_one(name, published):
    assert round(100 * alignment_error_rate(output(name), *gold(name)), 1) == published


def test_precision_and_recall_of_a_published_alignment_are_the_published_ones():
    assert (sum(map(len, gold("enfr")[0])), sum(map(len, gold("enfr")[1]))) == (4038, 17438)
    assert round(100 * alignment_precision(output("enfr"), *gold("enfr")), 1) == 96.3
    assert round(100 * alignment_recall(output("enfr"), *gold("enfr")), 1) == 95.4


# Properties


def test_the_error_rate_lies_between_0_and_1_and_gold_links_have_none():
    rng = np.random.default_rng()
    for _ in range(20):
        predicted, sure, possible = drawn(rng)
        assert 0 <= alignment_error_rate(predicted, sure, possible) <= 1
        assert alignment_error_rate(sure, sure, possible) == 0
        assert alignment_error_rate([set() for _ in sure], sure, possible) == (1 if any(sure) else 0)


def test_what_is_sure_is_possible_listed_there_or_not():
    predicted, sure, possible = drawn(np.random.default_rng())
    listed = [s | p for s, p in zip(sure, possible, strict=True)]
    for measure in (alignment_error_rate, alignment_precision, alignment_recall):
        assert measure(predicted, sure, possible) == measure(predicted, sure, listed)


def test_nothing_to_find_and_nothing_found_is_no_error():
    assert alignment_error_rate([set()], [set()], [{(0, 0)}]) == 0.0
    assert alignment_error_rate([], [], []) == 0.0
    assert alignment_error_rate([{(0, 0), (1, 1)}], [set()], [{(0, 0)}]) == 0.5
    assert (alignment_precision([set()], [set()], [set()]), alignment_recall([set()], [set()], [set()])) == (1, 1)


def test_no_single_link_for_each_word_beats_the_oracle():
    """Every choice of at most one link a target word, in a small sentence."""
    rng = np.random.default_rng()
    for _ in range(5):
        _, (sure,), (possible,) = drawn(rng, n=1, source=3, target=4)
        choices = [[None, *((s, t) for s in range(3))] for t in range(4)]
        rates = [alignment_error_rate([set(filter(None, c))], [sure], [possible]) for c in itertools.product(*choices)]
        assert min(rates) == alignment_error_rate(oracle_links([sure], [possible]), [sure], [possible])


def test_every_round_of_model_1_makes_the_corpus_likelier_and_its_rows_sum_to_one():
    rng = np.random.default_rng()
    sources = [rng.integers(0, 7, size=rng.integers(1, 5)).tolist() for _ in range(40)]
    targets = [[3 * word % 11 for word in source] + [99] for source in sources]
    likelihoods = []
    for n_rounds in (1, 2, 3, 5, 11):
        table = ibm_model_1(sources, targets, n_rounds=n_rounds).probability
        for source in {s for s, _ in table}:
            assert sum(p for (s, _), p in table.items() if s == source) == pytest.approx(1)
        likelihoods.append(
            sum(
                math.log(sum(table[other, word] for other in (None, *source)) / (len(source) + 1))
                for source, target in zip(sources, targets, strict=True)
                for word in target
            )
        )
    assert all(b > a - 1e-9 for a, b in itertools.pairwise(likelihoods))


def test_model_1_finds_a_word_for_word_dictionary_whatever_the_order():
    rng = np.random.default_rng()
    sources = [rng.permutation(13)[:5].tolist() for _ in range(200)]
    targets = [[f"word {word}" for word in reversed(source)] for source in sources]
    found = ibm_model_1(sources, targets, n_rounds=20).links(sources, targets)
    right = [{(i, 4 - i) for i in range(5)} for _ in sources]
    assert alignment_error_rate(found, right, right) < 0.01


def test_a_word_that_model_1_never_met_gets_no_link():
    model = ibm_model_1([["a"]], [["x"]])
    assert model.links([["a"], ["b"], []], [["y"], ["x"], ["x"]]) == [set(), set(), set()]


def test_every_layer_and_head_is_read_by_its_own_name():
    rng = np.random.default_rng()
    weights = [rng.random((B, H, NQ, NK)) for _ in range(2)]
    for layer, head in itertools.product(range(-2, 2), range(H)):
        for b, links in enumerate(attention_links(weights, [NK] * B, [NQ] * B, layer=layer, head=head)):
            assert links == {(int(weights[layer][b, head, i].argmax()), i) for i in range(NQ)}


def test_an_empty_sentence_has_no_links():
    weights = [np.ones((B, H, NQ, NK))]
    assert attention_links(weights, [0, 3], [2, 0]) == [set(), set()]
    assert diagonal_links([0, 3], [2, 0]) == [set(), set()]


# Errors


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ([[(0, 0)]], "predicted must hold one set of .* a sentence, got a list"),
        ([{(0, 0, 0)}], r"pairs of integers, got \(0, 0, 0\)"),
        ([{"0-0"}], "pairs of integers, got '0-0'"),
        ([{(0.5, 0)}], r"pairs of integers, got \(0.5, 0\)"),
    ],
)
def test_links_of_another_form_are_a_type_error(wrong, message):
    with pytest.raises(TypeError, match=message):
        alignment_error_rate(wrong, [set()], [set()])


def test_corpora_of_different_lengths_are_a_value_error():
    with pytest.raises(ValueError, match="'predicted': 1, 'sure': 2"):
        alignment_error_rate([set()], [set(), set()], [set()])
    with pytest.raises(ValueError, match="one item a sentence pair"):
        ibm_model_1([["a"]], [])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layer": 2}, r"layer \(2\) must name one of the 2 layers"),
        ({"head": 3}, r"head \(3\) must name one of the 3 heads"),
        ({"step": 1}, r"n_target \(5\) with step \(1\) within Nq \(5\)"),
        ({"step": -1}, r"step \(-1\)"),
    ],
)
def test_a_place_that_the_weights_do_not_have_is_a_value_error(options, message):
    with pytest.raises(ValueError, match=message):
        attention_links([np.ones((B, H, NQ, NK))] * 2, [NK] * B, [NQ] * B, **options)


def test_model_1_needs_a_word_and_a_round():
    with pytest.raises(ValueError, match="at least one word"):
        ibm_model_1([["a"]], [[]])
    with pytest.raises(ValueError, match="n_rounds must be at least 1, got 0"):
        interpret.ibm_model_1([["a"]], [["x"]], n_rounds=0)
    with pytest.raises(ValueError, match="a word with a class"):
        links_by_class([{(0, 1)}], [set()], [["noun"]])
