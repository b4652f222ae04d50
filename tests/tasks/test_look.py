"""Drawing, captioning and asking from a shell: what is printed, where it looks, and everything that can be wrong."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from crossattn_ref.__main__ import main
from crossattn_ref.data.programs import ANSWERS
from crossattn_ref.models import stored
from crossattn_ref.tasks import captioning, look, vqa
from tests.data.seer import caption as said
from tests.data.seer import see

LAYER = {"d_model": 24, "n_heads": 2, "d_ff": 24, "dropout": 0.0}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder for each task, with a model that has learnt next to nothing."""
    folders = {"caption": tmp_path_factory.mktemp("caption"), "ask": tmp_path_factory.mktemp("ask")}
    for folder, task, options in (
        (folders["caption"], captioning, {"n_scenes": 13}),
        (folders["ask"], vqa, {"n_scenes": 5, "n_parameters": None}),
    ):
        recipe = task.Recipe(layer=LAYER, stem="patches", n_layers=1, batch=5, **options)
        task.learn(replace(recipe, plan=replace(recipe.plan, n_steps=1, validate_every=1)), folder=folder)
    return folders


@pytest.fixture
def scene(tmp_path, capsys):
    assert main(["draw", str(tmp_path / "scene.png"), "--seed", "3"]) == 0
    return tmp_path / "scene.png", capsys.readouterr().out.strip()


def test_a_scene_is_drawn_and_what_is_said_of_it_is_what_can_be_seen(scene):
    path, text = scene
    assert said(see(np.asarray(Image.open(path)))) == text


def test_a_scene_with_a_held_out_pair_is_drawn_when_asked_for(tmp_path, capsys):
    assert main(["draw", str(tmp_path / "scene.png"), "--held-out"]) == 0
    text = capsys.readouterr().out
    assert any(pair in text for pair in ("red triangle", "blue circle", "yellow square"))


def test_a_caption_is_what_the_model_writes(scene, runs, capsys):
    path, _ = scene
    assert main(["caption", str(path), "--weights", str(runs["caption"])]) == 0
    model = captioning.load(runs["caption"]).model
    (words,) = captioning.captions(model, np.asarray(Image.open(path))[None].copy())
    shown = capsys.readouterr()
    assert shown.out == " ".join(words) + "\n"
    assert not shown.err


def test_each_word_of_a_caption_says_where_it_looks(scene, runs, capsys):
    path, _ = scene
    assert main(["caption", "--look", str(path), "--weights", str(runs["caption"] / "captioner.safetensors")]) == 0
    first, *rest = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in rest] == first.split()
    assert all("<- row " in line and ", column " in line for line in rest)


def test_where_a_model_says_nothing_there_is_nothing_to_look_with(scene, runs, capsys, monkeypatch):
    monkeypatch.setattr(captioning, "captions", lambda model, images: [()])
    assert main(["caption", "--look", str(scene[0]), "--weights", str(runs["caption"])]) == 0
    assert capsys.readouterr().out == "\n"


def test_an_answer_is_one_of_those_there_are_and_says_where_the_question_looks(scene, runs, capsys):
    path, _ = scene
    question = "How many circles are there"
    assert main(["ask", str(path), question, "--look", "--weights", str(runs["ask"])]) == 0
    told = capsys.readouterr()
    answer, place = told.out.splitlines()
    assert told.err == "the file tells of no reading: --look shows the mean of all layers and heads\n"
    model = vqa.load(runs["ask"]).model
    asked = vqa.as_asked(question, np.asarray(Image.open(path))[None].copy())
    assert answer == ANSWERS[int(vqa.scores(model, asked).argmax())]
    assert "<- row " in place


@pytest.mark.parametrize(("size", "mode"), [((96, 96), "RGBA"), ((100, 40), "L"), ((48, 48), "P"), ((1, 1), "RGB")])
def test_pictures_of_other_sizes_and_modes_are_fitted_and_a_note_says_so(tmp_path, runs, capsys, size, mode):
    path = tmp_path / "picture.png"
    Image.new("RGB", size, (222, 222, 222)).convert(mode).save(path)
    assert main(["caption", str(path), "--weights", str(runs["caption"])]) == 0
    shown = capsys.readouterr().err
    assert shown == ("" if size == (48, 48) else f"{path}: fitted from {size[0]} x {size[1]} into 48 x 48 pixels\n")


def test_what_can_not_be_done_is_said_in_a_line(scene, runs, tmp_path, capsys):
    path, _ = scene
    (tmp_path / "cut.png").write_bytes(path.read_bytes()[:200])
    (tmp_path / "cut.safetensors").write_bytes((runs["ask"] / "answerer.safetensors").read_bytes()[:500])
    ask = ["--weights", str(runs["ask"])]
    for arguments, message in (
        (["ask", str(path), " ? ", *ask], "QUESTION must hold at least one word"),
        (["ask", str(path), "", *ask], "QUESTION must hold at least one word, got '': ask \"is there a circle?\""),
        (["ask", str(path), "<begin> is there a circle?", *ask], "'begin' was never seen in training"),
        (["ask", str(path), "where is the banana?", *ask], "'where' was never seen in training"),
        (["ask", str(path), "is there a circle?", "--weights", str(runs["caption"])], "does not exist"),
        (["ask", str(path), "is there a circle?", "--weights", str(tmp_path / "cut.safetensors")], "is damaged"),
        (["caption", str(path), "--weights", str(runs["ask"] / "answerer.safetensors")], "holds no captioner"),
        (["caption", str(tmp_path / "none.png")], "must name a picture file"),
        (["caption", str(tmp_path / "cut.png")], "is not a picture that can be read"),
        (["caption", str(path), "--weights", "nope"], f"{Path.cwd() / 'nope'} does not exist: crossattn train caption"),
        (["draw", str(tmp_path / "scene.banana")], "ends in .bmp, .gif, .jpeg, .jpg, .png, .tif, .tiff"),
        (["draw", str(tmp_path / "nowhere" / "scene.png")], "nowhere is no folder that is there: make it first"),
        (["draw", str(path), "--seed", "-1"], "--seed must be at least 0, got -1"),
    ):
        if arguments[0] == "caption" and len(arguments) == 2:
            arguments += ["--weights", str(runs["caption"])]
        assert main(arguments) == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert line.startswith(f"crossattn {arguments[0]}: ")
        assert message in line


def test_cells_are_told_by_rows_and_columns_that_count_from_one():
    weights = np.full(16, 0.05 / 15)
    weights[9] = 0.95
    assert look.place(weights) == "row 3, column 2 (95% of its attention)"
    assert look.place(2 * weights) == look.place(weights)  # words together look twice as much, and at the same place
    assert look.place(0 * weights, "what the answer hangs on") == "nowhere (0% of what the answer hangs on)"


@pytest.mark.parametrize(
    ("reading", "told"),
    [
        ({"layer": 0, "head": None, "whose": "all"}, "of its attention)"),
        ({"layer": None, "head": None, "whose": "answer"}, "of what the answer hangs on)"),
    ],
    ids=["weights", "answer"],
)
def test_a_look_says_what_it_is_a_share_of(reading, told, runs, tmp_path, capsys):
    path = tmp_path / "scene.png"
    main(["draw", str(path)])
    trained = vqa.load(runs["ask"])
    stored.write(trained.model, tmp_path / "answerer.safetensors", {**trained.about, "reading": reading})
    assert main(["ask", str(path), "is there a circle?", "--look", "--weights", str(tmp_path)]) == 0
    shown = capsys.readouterr()
    assert shown.out.strip().endswith(told)
    assert not shown.err


@pytest.mark.parametrize(
    ("reading", "message"),
    [({"layer": 0, "head": 0, "whose": "heard"}, "got 'heard'"), ({"layer": 0, "depth": 1}, "of another version")],
)
def test_a_file_with_a_reading_that_nobody_knows_gets_one_line_and_no_answer(reading, message, runs, tmp_path, capsys):
    path = tmp_path / "scene.png"
    main(["draw", str(path)])
    trained = vqa.load(runs["ask"])
    stored.write(trained.model, tmp_path / "answerer.safetensors", {**trained.about, "reading": reading})
    capsys.readouterr()
    assert main(["ask", str(path), "is there a circle?", "--look", "--weights", str(tmp_path)]) == 2
    told = capsys.readouterr()
    assert message in told.err
    assert told.out == ""
    assert main(["ask", str(path), "is there a circle?", "--weights", str(tmp_path)]) == 0  # without --look
