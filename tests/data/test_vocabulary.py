"""Words as numbers: there and back, what is unknown, errors."""

import pytest

from crossattn_ref.data.vocabulary import BOS, EOS, PAD, SPECIAL, UNK, Vocabulary

SENTENCES = [["b", "a", "c"], ["a", "b", "a"], ["d"]]


def test_the_numbers_of_four_special_words_are_fixed():
    assert (PAD, BOS, EOS, UNK) == (0, 1, 2, 3)
    assert Vocabulary.of([]).words == SPECIAL


def test_the_most_frequent_word_comes_first_and_ties_go_by_the_alphabet():
    assert Vocabulary.of(SENTENCES).words[4:] == ("a", "b", "c", "d")
    assert Vocabulary.of(reversed(SENTENCES)).words[4:] == ("a", "b", "c", "d")
    assert Vocabulary.of(SENTENCES, at_least=2).words[4:] == ("a", "b")


def test_a_sentence_comes_back_and_an_unknown_word_is_unknown():
    words = Vocabulary.of(SENTENCES)
    assert words.encode(["d", "a"]) == [7, 4]
    assert words.decode(words.encode(["d", "a"])) == ["d", "a"]
    assert words.decode(words.encode(["d", "z"])) == ["d", "<unk>"]


def test_decoding_ends_at_the_end_and_leaves_out_what_is_no_word():
    assert Vocabulary.of(SENTENCES).decode([BOS, 4, PAD, 5, EOS, 6]) == ["a", "b"]


@pytest.mark.parametrize("word", SPECIAL[:3])
def test_a_word_of_the_text_that_looks_special_is_unknown(word):
    words = Vocabulary.of([[word, "a"]])
    assert words.words == (*SPECIAL, "a")
    assert words.encode([word]) == [UNK]


def test_a_vocabulary_goes_through_a_file():
    words = Vocabulary.of([["é", '"', "\\n"]])
    assert Vocabulary.from_json(words.as_json()) == words


def test_words_that_stand_twice_or_begin_otherwise_are_refused():
    with pytest.raises(ValueError, match="'a' twice"):
        Vocabulary((*SPECIAL, "a", "b", "a"))
    with pytest.raises(ValueError, match="must begin with"):
        Vocabulary(("a", *SPECIAL))
