"""Captions: by hand, by one who sees the pixels, held-out pairs, and the measures."""

import numpy as np
import pytest

from crossattn_ref.data import captioning
from crossattn_ref.data.scenes import HELD_OUT, Object, mirrored
from tests.data.seer import caption as said
from tests.data.seer import see


@pytest.fixture(scope="module")
def drawn():
    return captioning.splits(np.random.default_rng(3), train=400, dev=11, test=13, held_out=101)


def test_a_caption_is_worked_out_by_hand():
    scene = (
        Object("red", "circle", "small", 3, 1),
        Object("blue", "square", "large", 0, 0),
        Object("cyan", "triangle", "small", 1, 1),
    )
    words, regions = captioning.describe(scene)
    assert " ".join(words) == "a large blue square , a small cyan triangle and a small red circle"
    assert regions == (None, 0, 0, 0, None, None, 5, 5, 5, None, None, 13, 13, 13)


def test_one_who_reads_the_pixels_says_every_caption_word_for_word(drawn):
    for split in drawn.values():
        for image, words in zip(split.images, split.words, strict=True):
            assert said(see(image)) == " ".join(words)


def test_every_content_word_names_the_cell_of_an_object_that_it_describes(drawn):
    for scene, words, regions in zip(drawn["test"].scenes, drawn["test"].words, drawn["test"].regions, strict=True):
        things = {thing.cell: thing for thing in scene}
        for word, region in zip(words, regions, strict=True):
            if region is None:
                assert word in {"a", "and", ","}
            else:
                assert word in {things[region].size, things[region].colour, things[region].shape}


def test_no_training_picture_or_caption_holds_a_held_out_pair_also_where_it_is_mirrored(drawn):
    train = drawn["train"]
    for scenes in (train.scenes, [mirrored(scene) for scene in train.scenes]):
        for scene in scenes:
            text = " ".join(captioning.describe(scene)[0])
            assert not [pair for pair in HELD_OUT if " ".join(pair) in text]
    for image in train.images:
        assert not {(thing["colour"], thing["shape"]) for thing in see(image)} & set(HELD_OUT)
    held_out = [" ".join(words) for words in drawn["held-out"].words]
    assert all(any(" ".join(pair) in text for pair in HELD_OUT) for text in held_out)


def test_every_caption_can_be_written_in_the_vocabulary_and_read_again(drawn):
    numbers, lengths = captioning.VOCABULARY.encode(drawn["held-out"].words)
    assert [captioning.VOCABULARY.decode(row) for row in numbers] == list(drawn["held-out"].words)
    assert lengths.max() == numbers.shape[1] == 19


def test_what_has_no_name_is_said_as_padding_and_keeps_its_region():
    scene = (
        Object("red", "circle", "small", 3, 1, paint=(9, 9, 9)),
        Object("cyan", "triangle", "large", 1, 2, speckle=7),
    )
    words, regions = captioning.describe(scene)
    assert " ".join(words) == "a small <pad> circle and a large cyan <pad>"
    assert regions == (None, 13, 13, 13, None, None, 6, 6, 6)
    numbers, _ = captioning.VOCABULARY.encode([words])
    assert (numbers == 0).sum() == 2


def test_training_with_unnamed_things_holds_no_held_out_pair_either():
    train = captioning.splits(np.random.default_rng(5), train=150, dev=0, test=0, held_out=0, unnamed=0.5)["train"]
    hidden = 0
    for image, words in zip(train.images, train.words, strict=True):
        assert not [pair for pair in HELD_OUT if " ".join(pair) in " ".join(words)]
        hidden += words.count("<pad>")
        things = see(image)
        assert said(things) == " ".join(word for word in words if word != "<pad>")
        assert not {(t["colour"], t["shape"]) for t in things} & set(HELD_OUT)
    assert 150 < hidden < 300


def test_words_of_different_attributes_are_never_together_unless_one_object_is_said_to_be_both():
    never = captioning.never_together([("a", "small", "red", "circle", "and", "a", "large", "blue", "square")])
    number = captioning.VOCABULARY.number

    def pair(one, other):
        assert never[number(one), number(other)] == never[number(other), number(one)]
        return bool(never[number(one), number(other)])

    assert not pair("red", "circle")
    assert not pair("small", "circle")
    assert pair("red", "square")  # beside each other in the caption, but of two objects
    assert pair("small", "blue")
    assert not pair("red", "blue")  # both are colours: no object could be both
    assert not pair("circle", "circle")
    assert not never[[number(word) for word in ("a", "and", ",", "<pad>", "<end>")]].any()


def test_what_has_no_name_says_nothing_of_what_goes_together():
    never = captioning.never_together([("a", "small", "<pad>", "circle")])
    assert never[captioning.VOCABULARY.number("small"), captioning.VOCABULARY.number("circle")]


A, B, C = (("a", *text.split()) for text in ("small red circle", "large blue square", "small red square"))


def test_exact_match_and_f1_are_worked_out_by_hand():
    gold = [(*A, "and", *B), (*B, "and", *C)]
    predicted = [(*B, "and", *A), (*B, "and", *C, "and", *A)]
    assert captioning.exact_match(predicted, gold) == 0
    assert captioning.exact_match([predicted[0], gold[1]], gold) == 0.5
    assert captioning.object_f1(predicted, gold) == pytest.approx(2 * 4 / (5 + 4))
    assert captioning.object_f1([B, C], [A, A]) == 0


def test_objects_named_twice_count_twice_and_what_is_no_object_does_not_count():
    assert captioning.objects_named((*A, ",", *A))["small", "red", "circle"] == 2
    assert not captioning.objects_named(("a", "red", "small", "circle", "and", "red", "circle"))


def test_measures_refuse_captions_without_their_gold():
    for measure in (captioning.exact_match, captioning.object_f1):
        with pytest.raises(ValueError, match=r"predicted \(1\) must hold as many captions as gold \(2\)"):
            measure([A], [A, B])
        with pytest.raises(ValueError, match="at least one"):
            measure([], [])
