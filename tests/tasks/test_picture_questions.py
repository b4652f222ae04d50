"""Questions of others: corpora as numbers, folds, a model that learns in seconds, its folder, and the command."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from crossattn_ref.__main__ import main
from crossattn_ref.data import picture_corpora
from crossattn_ref.models import stored
from crossattn_ref.models.images import as_float
from crossattn_ref.tasks import vqa
from crossattn_ref.tasks.evaluate_picture_questions import question_only, right
from crossattn_ref.tasks.picture_questions import (
    RECIPES,
    UNKNOWN,
    Asking,
    Examples,
    Recipe,
    corpus,
    easy_vqa,
    folds,
    in_a_square,
    learn,
    load,
    new_answerer,
    nlvr,
    numbered,
)

REAL = Path(__file__).parents[1] / "data"
PLAN = replace(RECIPES["easy-vqa"].plan, n_steps=4, n_warmup=2, validate_every=2, peak_rate=1e-2)
LAYER = {"d_model": 24, "n_heads": 2, "d_ff": 24, "dropout": 0.0}
QUICK = Recipe(side=16, patch=8, layer=LAYER, stem="patches", n_layers=1, plan=PLAN, batch=7)
COLOURS = {"red": (255, 0, 0), "blue": (0, 0, 255), "green": (0, 128, 0)}


def write_easy_vqa(folder, train=40, test=11):
    """Write a corpus in the form of easy-VQA: each picture is all of one colour."""
    rng = np.random.default_rng(3)
    for split, n in (("train", train), ("test", test)):
        (folder / split / "images").mkdir(parents=True)
        asked = []
        for number in range(n):
            name = str(rng.choice(list(COLOURS)))
            Image.new("RGB", (64, 64), COLOURS[name]).save(folder / split / "images" / f"{number}.png")
            other = str(rng.choice(list(COLOURS)))
            asked.append(["what color is the shape?", name, number])
            asked.append([f"is there a {other} shape?", "yes" if other == name else "no", number])
        (folder / split / "questions.json").write_text(json.dumps(asked))
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_easy_vqa(tmp_path_factory.mktemp("easy-vqa"))


@pytest.fixture(scope="module")
def asked(folder):
    return corpus("easy-vqa", folder, side=16)


def test_real_questions_of_easy_vqa_become_numbers_that_can_be_read_back():
    read = easy_vqa(REAL / "easy-vqa", "test", side=31)
    found = numbered(read)
    numbers = found.splits["train"]
    assert numbers.images.shape == (5, 31, 31, 3)
    assert (numbers.images.int() + torch.from_numpy(read.images).int() == 255).all()  # negatives
    written = picture_corpora.easy_vqa(REAL / "easy-vqa", "test")
    for row, (item, said) in enumerate(zip(written, read.questions, strict=True)):
        assert found.answers[numbers.answers[row]] == item.answer
        assert " ".join(said).replace(" ?", "?") == item.question
        back = found.words.decode(numbers.words[row].tolist())
        assert len(back) == numbers.lengths[row]
        assert all(word in (wanted, UNKNOWN) for word, wanted in zip(back, said, strict=True))
        assert item.picture.stem == str(numbers.image_of[row].item())


def test_a_real_picture_of_nlvr_lies_in_a_square_with_its_boxes_whole():
    read = nlvr(REAL / "nlvr", "dev", side=80)
    assert read.images.shape == (12, 80, 80, 3)
    assert read.questions[1][:3] == ("there", "is", "a")
    assert Counter(read.answers) == Counter(
        str(s.truth).lower() for s in picture_corpora.nlvr(REAL / "nlvr" / "dev.json")
    )
    for image, statement in zip(read.images, picture_corpora.nlvr(REAL / "nlvr" / "dev.json"), strict=True):
        assert (image[40:, 40:] == 255).all()
        row = picture_corpora.draw_nlvr(statement, scale=0.4)
        for quarter, left in ((image[:40, :40], 0), (image[:40, 40:], 60), (image[40:, :40], 120)):
            assert (quarter == row[:, left : left + 40]).all()
            assert not (quarter == 255).all(axis=-1).any()  # nothing of the gaps
    assert in_a_square(np.zeros((7, 28, 3), np.uint8)).shape == (14, 14, 3)


def test_nlvr_is_found_as_it_is_published_and_flat(tmp_path):
    line = (REAL / "nlvr" / "dev.json").read_text().splitlines()[0]
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev.json").write_text(line)
    assert picture_corpora.nlvr_file(tmp_path, "dev") == tmp_path / "dev.json"
    (tmp_path / "dev" / "dev.json").write_text(line)
    assert picture_corpora.nlvr_file(tmp_path, "dev") == tmp_path / "dev" / "dev.json"
    with pytest.raises(FileNotFoundError, match=r"train.json is not there: name the folder"):
        picture_corpora.nlvr_file(tmp_path, "train")


def examples(groups):
    """Make examples, one question a picture that holds its number."""
    n = len(groups)
    images = np.arange(n, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 3), np.uint8)
    said = tuple(("is", "it", str(number)) for number in range(n))
    return Examples(images, np.arange(n), said, tuple("yes" if n % 3 else "no" for n in range(n)), np.array(groups))


def test_folds_share_no_group_and_hold_everything_once():
    groups = [number // 4 * 10 for number in range(53)]
    held = []
    for rest, part in folds(examples(groups), 5, seed=1):
        assert not set(rest.groups) & set(part.groups)
        assert len(rest.answers) + len(part.answers) == 53
        for side in (rest, part):
            numbers = [int(said[2]) for said in side.questions]
            assert side.images[side.image_of][:, 0, 0, 0].tolist() == numbers
            assert side.answers == tuple("yes" if n % 3 else "no" for n in numbers)
            assert side.groups.tolist() == [groups[number] for number in numbers]
        held += [int(said[2]) for said in part.questions]
    assert sorted(held) == list(range(53))


def test_folds_are_the_same_for_the_same_seed_and_others_for_another():
    first = [[part.questions for _, part in folds(examples(range(31)), 3, seed=seed)] for seed in (0, 0, 1)]
    assert first[0] == first[1] != first[2]
    with pytest.raises(ValueError, match=r"n \(3\) must be at most the number of groups of examples, got 2"):
        next(folds(examples([1, 1, 2]), 3))


def test_a_word_that_one_group_alone_says_is_unknown_and_so_is_one_that_only_others_say():
    train = replace(examples([1, 1, 2]), questions=(("red", "odd", "?"), ("odd", "?"), ("red", "?")))
    test = replace(examples([7, 8, 9]), questions=(("red",), ("new", "?"), ("odd", "?", "?", "?")))
    found = numbered(train, test=test)
    assert set(found.words.words[3:]) == {UNKNOWN, "red", "?"}
    told = [found.words.decode(row.tolist()) for row in found.splits["test"].words]
    assert told == [("red",), (UNKNOWN, "?"), (UNKNOWN, "?", "?", "?")]
    assert found.splits["train"].words.shape == (3, 4)


def test_an_answer_that_training_never_gave_is_never_right():
    found = numbered(examples([1, 2, 3]), test=replace(examples([4, 5, 6]), answers=("maybe", "yes", "no")))
    assert found.splits["test"].answers.tolist() == [-1, 1, 0]


def test_what_is_chosen_by_is_set_apart_from_the_training_pictures(asked):
    sizes = {name: len(part.images) for name, part in asked.splits.items()}
    assert sizes == {"train": 36, "dev": 4, "test": 11}
    assert asked.answers == ("blue", "green", "no", "red", "yes")


def test_an_epoch_asks_so_many_questions_about_every_picture_and_others_in_the_next():
    groups = [0] * 5 + [1] + [2] * 3 + [3] * 7
    many = replace(examples(groups), images=np.zeros((4, 2, 2, 3), np.uint8), image_of=np.array(groups))
    found = numbered(many, dev=many)
    seen = []
    for number in range(40):
        batches = Asking(replace(QUICK, per_image=3, batch=3), found, seed=0).epoch(number)
        asked = torch.cat([questions for questions, *_ in batches])
        assert len(set(asked.tolist())) == len(asked)
        assert Counter(groups[question] for question in asked.tolist()) == {0: 3, 1: 1, 2: 3, 3: 3}
        for questions, pictures, about in batches:
            assert pictures[about].tolist() == [groups[question] for question in questions.tolist()]
        seen.append(frozenset(asked.tolist()))
    assert frozenset.union(*seen) == set(range(16))
    again = torch.cat([q for q, *_ in Asking(replace(QUICK, per_image=3, batch=3), found, seed=0).epoch(0)])
    assert frozenset(again.tolist()) == seen[0]


def test_the_loss_is_that_of_each_answer_about_its_own_picture(asked):
    task, model = Asking(QUICK, asked, seed=0), new_answerer(QUICK, asked, seed=0).eval()
    task.vary = lambda images, words, about: (images.flip(3), words)
    questions, *_ = batch = task.epoch(0)[1]
    total, count = task.loss(model, batch)
    numbers = asked.splits["train"]
    images = as_float(numbers.images[numbers.image_of[questions]]).flip(3)
    logits = model(images, numbers.words[questions], numbers.lengths[questions]).double()
    expected = -logits.log_softmax(-1)[torch.arange(len(questions)), numbers.answers[questions]].sum()
    assert total.item() == pytest.approx(expected.item(), rel=1e-5)
    assert count == len(questions) == 14


# A model that learns


@pytest.fixture(scope="module")
def trained(tmp_path_factory, asked):
    run = tmp_path_factory.mktemp("run")
    plan = replace(PLAN, n_steps=60, n_warmup=10, validate_every=60)
    return learn(replace(QUICK, plan=plan, batch=13), asked, folder=run), run


def test_a_model_that_learns_answers_questions_about_pictures_that_it_never_saw(trained, asked):
    model, _ = trained
    shares = {name: found.mean() for name, found in right(model, asked, "test").items()}
    assert shares["model"] > 0.9 > 0.75 > shares["blank"]
    assert model.about["dev"]["accuracy"] == model.history.rows[-1]["accuracy"]


def test_those_who_do_not_look_guess_from_training_alone(trained, asked):
    found = right(trained[0], asked, "test")
    learnt, test = asked.splits["train"], asked.splits["test"]
    said = [" ".join(asked.words.decode(row.tolist())) for row in learnt.words]
    for number, words in enumerate(test.words):
        text = " ".join(asked.words.decode(words.tolist()))
        same = Counter(answer for before, answer in zip(said, learnt.answers.tolist(), strict=True) if before == text)
        best = {answer for answer, times in same.items() if times == max(same.values())}
        guess = question_only(learnt, test)[number]
        assert guess in best
        assert found["question-only"][number] == (guess == test.answers[number])
    usual = Counter(learnt.answers.tolist()).most_common(1)[0][0]
    assert (found["majority"] == (test.answers == usual).numpy()).all()


def test_the_majority_is_that_of_training_even_where_the_test_has_another(trained, asked):
    test = asked.splits["test"]
    other = replace(test, answers=torch.full_like(test.answers, asked.answers.index("green")))
    few = replace(asked, splits={**asked.splits, "test": other})
    assert not right(trained[0], few, "test")["majority"].any()


def test_words_in_an_order_that_training_never_had_get_the_usual_answer():
    found = numbered(examples([1, 2, 3, 4, 5]), test=replace(examples([6]), questions=(("it", "is"),)))
    assert found.answers[question_only(found.splits["train"], found.splits["test"])[0]] == "yes"


def test_before_blank_pictures_every_question_of_the_same_words_gets_the_same_answer(trained, asked):
    found, test = right(trained[0], asked, "test")["blank"], asked.splits["test"]
    what = (test.words == test.words[0]).all(dim=1)
    told = {int(answer) for answer in test.answers[what & torch.from_numpy(found)]}
    assert len(told) <= 1


def test_a_folder_holds_all_that_answers_need(trained, asked, tmp_path):
    model, run = trained
    again = load(run)
    numbers = asked.splits["test"]
    assert torch.equal(vqa.scores(again.model, numbers), vqa.scores(model.model, numbers))
    assert tuple(again.about["words"]) == asked.words.words
    assert again.about["answers"] == list(asked.answers)
    with pytest.raises(stored.Unreadable, match=r"holds no answerer about scenes .its data are 'pictures of others'"):
        vqa.load(run)
    with pytest.raises(FileNotFoundError, match="does not exist: crossattn train vqa --data NAME makes"):
        load(tmp_path)
    stored.write(model.model, tmp_path / "answerer.safetensors", {"data": "questions"})
    with pytest.raises(stored.Unreadable, match="holds no answerer about pictures of others"):
        load(tmp_path)


# The commands


def test_what_was_trained_on_others_is_asked_from_a_shell(trained, folder, capsys):
    model, run = trained
    right = 0
    for picture in sorted((folder / "test" / "images").iterdir()):
        arguments = ["ask", str(picture), "What color is the shape!", "--weights", str(run)]
        assert main(arguments) == 0
        told = capsys.readouterr()
        assert "fitted from 64 x 64 into 16 x 16 pixels" in told.err
        colour = Image.open(picture).getpixel((5, 5))
        right += COLOURS[told.out.strip()] == colour if told.out.strip() in COLOURS else 0
    asked = easy_vqa(folder, "test", side=16)
    numbers = numbered(easy_vqa(folder, "train", side=16), test=asked).splits["test"]
    found = vqa.scores(model.model, numbers).argmax(dim=-1)
    wanted = [said[0] == "what" for said in asked.questions]
    assert right == sum((found == numbers.answers)[wanted].tolist())


def test_of_an_answerer_of_others_a_wrong_question_and_other_pictures_are_told(trained, folder, tmp_path, capsys):
    model, run = trained
    picture = str(folder / "test" / "images" / "0.png")
    boxes = {**model.about, "learning": {**model.about["learning"], "vary": "boxes"}}
    stored.write(model.model, tmp_path / "answerer.safetensors", boxes)
    for question, weights, message in (
        (
            "what is <unknown>?",
            run,
            "'unknown' was never seen in training; known are 10: a, blue, color, green, is, red, shape,",
        ),
        ("is " * 9, run, "may have at most"),
        ("what color is the shape?", tmp_path, "was trained on NLVR, whose three boxes ask reads from no file"),
    ):
        assert main(["ask", picture, question, "--weights", str(weights)]) == 2
        assert message in capsys.readouterr().err


def test_the_command_trains_on_a_corpus_and_says_where_the_answerer_lies(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(RECIPES, "easy-vqa", QUICK)
    arguments = [
        "train",
        "vqa",
        "--data",
        "easy-vqa",
        "--corpus",
        str(folder),
        "--steps",
        "1",
        "--folder",
        str(tmp_path),
    ]
    assert main(arguments) == 0
    assert str(tmp_path / "answerer.safetensors") in capsys.readouterr().out
    assert load(tmp_path).about["plan"]["n_steps"] == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "easy-vqa"], "--data easy-vqa needs --corpus FOLDER, where you have unpacked it"),
        (["--data", "nlvr", "--corpus", "nowhere"], "train.json is not there: name the folder"),
        (
            ["--data", "nlvr", "--corpus", str(REAL / "nlvr")],
            "no training set (train.json), which training needs: cross",
        ),
        (["--data", "easy-vqa", "--corpus", "nowhere"], "questions.json is not there: name the folder"),
        (["--data", "easy-vqa", "--corpus", ".", "--recipe", "cross"], "and takes no --recipe"),
        (["--data", "multi30k", "--corpus", "."], "--data must be one of easy-vqa, nlvr for vqa, or left out"),
        (["--corpus", "."], "--corpus . needs --data, one of easy-vqa, nlvr, which says"),
    ],
)
def test_the_command_says_in_one_line_what_it_needs(arguments, message, capsys):
    assert main(["train", "vqa", *arguments]) == 2
    told = capsys.readouterr().err
    assert message in told
    assert told.count("\n") == 1
