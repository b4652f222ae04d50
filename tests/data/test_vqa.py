"""Questions: by hand, by one who sees the pixels and reads English, balance, priors, held-out pairs."""

from collections import Counter

import numpy as np
import pytest

from crossattn_ref.data import programs, vqa
from crossattn_ref.data.scenes import HELD_OUT, Object
from tests.data.seer import answer, see

SCENE = (
    Object("red", "circle", "small", 3, 1),
    Object("blue", "square", "large", 0, 0),
    Object("red", "square", "small", 1, 3),
)


@pytest.fixture(scope="module")
def drawn():
    return vqa.splits(np.random.default_rng(4), train=700, dev=11, test=150, held_out=101)


@pytest.mark.parametrize(
    ("program", "expected", "cells"),
    [
        (("query", "colour", ("only", ("find", {"shape": "circle"}))), "red", {13}),
        (("exist", ("find", {"colour": "red", "size": "large"})), "no", set()),
        (("count", ("find", {"colour": "red"})), "2", {13, 7}),
        (("more", ("find", {"shape": "square"}), ("find", {"shape": "circle"})), "yes", {0, 7, 13}),
        (("query", "shape", ("only", ("beside", "right", ("only", ("find", {"shape": "circle"}))))), "square", {7}),
        (
            ("is_beside", "above", ("only", ("find", {"shape": "circle"})), ("only", ("find", {"size": "large"}))),
            "no",
            {13, 0},
        ),
    ],
)
def test_programs_are_worked_out_by_hand(program, expected, cells):
    assert programs.run(program, SCENE) == expected
    assert programs.cells_read(program, SCENE) == cells


def test_a_program_that_asks_for_the_only_one_of_two_or_none_is_ambiguous():
    for about, number in (({"colour": "red"}, 2), ({"shape": "triangle"}, 0)):
        with pytest.raises(programs.Ambiguous, match=str(number)):
            programs.run(("query", "size", ("only", ("find", about))), SCENE)


def test_one_who_reads_the_pixels_and_the_question_answers_all_of_them(drawn):
    kinds = set()
    for split in drawn.values():
        things = [see(image) for image in split.images]
        for question, image in zip(split.questions, split.image_of, strict=True):
            assert answer(question.text, things[image]) == question.answer, question.text
            kinds.add(question.kind)
    assert kinds == set(vqa.KINDS)


def test_answers_of_a_kind_are_as_frequent_as_each_other(drawn):
    for kind in vqa.KINDS:
        counts = Counter(q.answer for q in drawn["train"].questions if q.kind == kind)
        counts.pop("4", None)  # four of a kind are rare
        assert max(counts.values()) <= 1.2 * min(counts.values()), (kind, counts)


def test_no_training_question_or_picture_holds_a_held_out_pair(drawn):
    for question in drawn["train"].questions:
        assert not [pair for pair in HELD_OUT if " ".join(pair) in question.text]
    for image in drawn["train"].images:
        assert not {(thing["colour"], thing["shape"]) for thing in see(image)} & set(HELD_OUT)
    assert any(" ".join(pair) in q.text for q in drawn["held-out"].questions for pair in HELD_OUT)


def test_every_question_and_answer_can_be_written(drawn):
    for split in drawn.values():
        numbers, _ = vqa.VOCABULARY.encode([question.words for question in split.questions])
        assert vqa.VOCABULARY.decode(numbers[5]) == split.questions[5].words
        assert {question.answer for question in split.questions} <= set(vqa.ANSWER_NUMBER)


def test_regions_are_the_cells_of_objects_and_only_a_no_or_nought_has_none(drawn):
    test = drawn["test"]
    for question, image in zip(test.questions, test.image_of, strict=True):
        assert question.regions <= {thing.cell for thing in test.scenes[image]}
        assert question.regions or question.answer in {"no", "0"}


def asked(kind, text, answer):
    return vqa.Question(kind, tuple(text.split()), (), answer, frozenset())


def test_the_guess_from_the_question_alone_is_worked_out_by_hand():
    train = [asked("exist", "is there a red circle ?", a) for a in ("yes", "yes", "no")]
    train += [asked("exist", "is there a square ?", "no") for _ in range(4)]
    test = [
        asked("exist", "is there a red circle ?", "yes"),
        asked("exist", "is there a triangle ?", "no"),
        asked("exist", "is there a square ?", "yes"),
        asked("count", "how many things are there ?", "2"),
    ]
    assert vqa.question_only(train, test) == {"exist": 2 / 3, "count": 0}


def test_the_question_alone_tells_little(drawn):
    """One of six colours, three shapes, two sizes, yes or no: a guess is right about as often as by chance."""
    chance = {"colour": 1 / 6, "shape": 1 / 3, "size": 1 / 2, "exist": 1 / 2, "count": 1 / 4, "compare": 1 / 2}
    chance |= {"rel_colour": 1 / 6, "rel_shape": 1 / 3, "verify_rel": 1 / 2}
    prior = vqa.question_only(drawn["train"].questions, drawn["test"].questions)
    for kind in vqa.KINDS:
        assert abs(prior[kind] - chance[kind]) < 0.2, (kind, prior[kind])


def test_excused_are_the_held_out_names_of_what_is_asked_about():
    scene = (Object("green", "triangle", "small", 0, 1), Object("blue", "square", "large", 0, 3))
    triangle, square = ({"shape": name} for name in ("triangle", "square"))
    beside = ("only", ("beside", "right", ("only", ("find", triangle))))

    def asked(program):
        return vqa.excused(
            vqa.Question("any", ("what", "?"), program, "any", programs.cells_read(program, scene)), scene
        )

    assert asked(("query", "colour", ("only", ("find", triangle)))) == ("red",)
    assert asked(("query", "colour", ("only", ("find", square)))) == ("yellow",)
    assert asked(("query", "shape", ("only", ("find", square)))) == ("circle",)
    assert asked(("query", "shape", ("only", ("find", triangle)))) == ()
    assert asked(("query", "colour", beside)) == ("yellow",)
    assert asked(("query", "size", ("only", ("find", square)))) == ()
    assert asked(("exist", ("find", square))) == ()
    assert asked(("count", ("find", square))) == ()


def test_what_has_no_name_is_neither_asked_for_nor_named_and_excuses_nothing():
    scene = (
        Object("red", "circle", "small", 1, 1, paint=(90, 60, 30)),
        Object("green", "square", "large", 2, 2, speckle=4),
        Object("cyan", "triangle", "small", 3, 0),
    )
    rng, found = np.random.default_rng(0), []
    for _ in range(60):
        found += vqa.ask(rng, [scene], per_image=9).questions
    for question in found:
        operation, attribute, *_ = question.program
        if operation == "query" and attribute in ("colour", "shape"):
            assert question.answer in {"circle", "green", "cyan", "triangle"}
            if question.regions & {5, 10}:
                assert vqa.excused(question, scene) == ()
        if question.kind == "exist" and set(question.words) & {"red", "square"}:
            assert question.answer == "no"
        if question.kind == "count" and set(question.words) & {"red", "reds", "squares"}:
            assert question.answer == "0"
        if question.kind in ("colour", "shape", "size", "verify_rel"):
            assert not set(question.words) & {"red", "square"}
    assert {question.answer for question in found} >= {"circle", "green", "cyan", "triangle"}
