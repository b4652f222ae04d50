"""Byte-pair encoding: there and back, the most frequent pieces whole, unknown letters, through a file."""

import pytest

from crossattn_ref.data.subwords import Subwords
from crossattn_ref.data.vocabulary import BOS, EOS, PAD, SPECIAL, UNK

SENTENCES = [["lower", "lowest", "newer"], ["low", "new", "lower", "größer"], ["lower"]]


@pytest.fixture(scope="module")
def subwords():
    return Subwords.learn(SENTENCES, size=30)


def test_sentences_come_back_and_so_do_words_made_of_known_pieces(subwords):
    for sentence in [*SENTENCES, ["newest", "worst"], ["low"], []]:
        assert subwords.decode(subwords.encode(sentence)) == sentence


def test_the_special_words_keep_their_numbers_and_the_size_is_as_asked(subwords):
    assert len(subwords) == 30
    assert [subwords.decode([number]) for number in (PAD, BOS, EOS, UNK)] == [[], [], [], [SPECIAL[UNK]]]


def test_the_most_frequent_word_is_one_piece_and_a_new_one_is_several(subwords):
    assert len(subwords.encode(["lower"])) == 1
    assert len(subwords.encode(["wornest"])) > 2


def test_decoding_ends_at_the_end_and_leaves_out_what_is_no_word(subwords):
    low, new = (subwords.encode([word]) for word in ("low", "new"))
    assert subwords.decode([BOS, *low, PAD, *new, EOS, *low]) == ["low", "new"]


def test_a_letter_never_seen_is_unknown_and_so_is_text_that_looks_special(subwords):
    assert UNK in subwords.encode(["low☃"])
    assert not {PAD, BOS, EOS} & set(subwords.encode(["<pad>", "<bos>", "<eos>"]))


def test_subwords_go_through_a_file(subwords):
    again = Subwords(subwords.as_json())
    assert again.as_json() == subwords.as_json()
    assert again.encode(["newest", "größer"]) == subwords.encode(["newest", "größer"])


def test_learning_twice_gives_the_same(subwords):
    assert Subwords.learn(SENTENCES, size=30).as_json() == subwords.as_json()
