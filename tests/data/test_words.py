"""Words and numbers: there and back, padding, and words or sentences that cannot be written."""

import numpy as np
import pytest

from crossattn_ref.data.words import Vocabulary, tokens

WORDS = Vocabulary(["red", "circle", "red", "a"])


def test_words_are_numbered_in_their_order_after_padding_begin_and_end():
    assert WORDS.words == ("<pad>", "<begin>", "<end>", "a", "circle", "red")
    numbers, lengths = WORDS.encode([["red"], ["a", "red", "circle"]])
    np.testing.assert_array_equal(numbers, [[5, 0, 0], [3, 5, 4]])
    np.testing.assert_array_equal(lengths, [1, 3])


def test_reading_stops_at_the_end():
    assert WORDS.decode([1, 5, 4, 2, 3]) == ("red", "circle")


def test_an_unknown_word_is_named():
    with pytest.raises(ValueError, match=r"the word 'mauve' was never seen in training; known are 3: a, circle, red$"):
        WORDS.encode([["mauve", "circle"]])


def test_of_an_unknown_word_those_near_it_are_named():
    with pytest.raises(ValueError, match=r"the word 'cirle' was never seen in training; near it are: circle$"):
        WORDS.encode([["cirle"]])


def test_the_words_that_are_named_are_ones_that_somebody_may_say():
    with pytest.raises(ValueError, match=r"known are 1: red$"):
        Vocabulary(["red", "?", "<unknown>"]).number("mauve")


@pytest.mark.parametrize("sentences", [[], [[]], [["red"], []]])
def test_an_empty_sentence_is_refused(sentences):
    with pytest.raises(ValueError, match="at least one word"):
        WORDS.encode(sentences)


def test_text_is_cut_into_words_and_marks():
    assert tokens("What colour is the Circle?") == ("what", "colour", "is", "the", "circle", "?")
    assert tokens("red, blue.") == ("red", ",", "blue", ".")


@pytest.mark.parametrize("text", ["", "  \n", "?", " . , "])
def test_a_text_without_words_is_refused(text):
    with pytest.raises(ValueError, match="at least one word"):
        tokens(text)
