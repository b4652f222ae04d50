"""Captioning put together: numbers, rivals and losses by hand, epochs, a model that learns in seconds, its folder."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from crossattn_ref.__main__ import main
from crossattn_ref.data import captioning as data
from crossattn_ref.data.captioning import VOCABULARY
from crossattn_ref.data.scenes import HELD_OUT, Object
from crossattn_ref.models import stored
from crossattn_ref.models.images import as_float
from crossattn_ref.tasks import evaluate_captions
from crossattn_ref.tasks import vqa as other_task
from crossattn_ref.tasks.captioning import (
    RECIPES,
    Captioning,
    Recipe,
    captions,
    learn,
    load,
    new_captioner,
    numbered,
    regions,
    rivals,
    splits,
)
from crossattn_ref.tasks.evaluate_captions import Reading
from tests.data.seer import caption as said
from tests.data.seer import see

LAYER = {"d_model": 24, "n_heads": 2, "d_ff": 24, "dropout": 0.0}
PLAN = replace(RECIPES["scenes"].plan, n_steps=4, n_warmup=2, validate_every=2, peak_rate=1e-2)
QUICK = Recipe(layer=LAYER, stem="patches", n_layers=1, plan=PLAN, batch=13, n_scenes=53, rivals="seen")
RED, BLUE, CIRCLE, TRIANGLE, SMALL, LARGE, A, AND = map(
    VOCABULARY.number, ("red", "blue", "circle", "triangle", "small", "large", "a", "and")
)


AS_TRAINED = pytest.mark.parametrize("unnamed", [0.0, RECIPES["scenes"].unnamed], ids=["all named", "as trained"])


@pytest.fixture(scope="module")
def kept():
    return data.splits(np.random.default_rng(5), train=0, dev=17, test=19, held_out=0)


def test_captions_become_numbers_between_the_marks_of_begin_and_end():
    rows = numbered([("a", "small", "red", "circle"), ("a", "large", "blue", "triangle", "and", "a")]).tolist()
    assert rows[0][:7] == [1, A, SMALL, RED, CIRCLE, 2, 0]
    assert rows[1][:9] == [1, A, LARGE, BLUE, TRIANGLE, AND, A, 2, 0]
    assert {len(row) for row in rows} == {22}


# What a word is compared with


@pytest.fixture
def never_together():
    """Of these two captions: nothing red was a triangle, nothing blue a circle, nothing small blue, ..."""
    return torch.from_numpy(data.never_together([("a", "small", "red", "circle"), ("a", "large", "blue", "triangle")]))


def test_words_that_no_caption_says_of_one_thing_are_no_rivals_and_all_others_are(never_together):
    words = torch.tensor([[1, A, SMALL, RED, CIRCLE, 2]])
    (fair,) = rivals(words, never_together)
    never_of_red = {VOCABULARY.number("square"), TRIANGLE}
    left_out = [set(row.logical_not().nonzero().flatten().tolist()) for row in fair]
    assert left_out[0] == left_out[4] == set()  # "a", and the mark of the end
    assert left_out[1] == {LARGE}  # in front of "red"
    assert left_out[2] == {number for number in map(VOCABULARY.number, data.COLOURS) if number != RED}
    assert left_out[3] == never_of_red


def test_the_right_word_is_always_among_its_rivals_in_training_also_where_things_have_no_name():
    task = Captioning(replace(QUICK, unnamed=0.6, n_scenes=211), splits()["dev"])
    for _, words, _ in task.epoch(1):
        fair = rivals(words, task.never_together)
        target = words[:, 1:]
        assert fair.gather(-1, target[..., None]).all()
        assert not fair.all()


@AS_TRAINED
def test_in_training_the_pairs_that_are_held_out_are_all_that_is_never_together(unnamed):
    task = Captioning(replace(QUICK, n_scenes=700, unnamed=unnamed), splits()["dev"])
    pairs = {(VOCABULARY.words[i], VOCABULARY.words[j]) for i, j in task.never_together.nonzero().tolist()}
    assert pairs == {*HELD_OUT, *((shape, colour) for colour, shape in HELD_OUT)}


@pytest.mark.parametrize("which", ["all", "seen"])
def test_the_loss_is_that_of_each_word_among_its_rivals(which, kept):
    task = Captioning(replace(QUICK, rivals=which, n_scenes=300), kept["dev"])
    model = new_captioner(QUICK, seed=0).eval()
    words = numbered([("a", "small", "red", "circle")])
    image = torch.from_numpy(kept["dev"].images[:1])
    nothing = torch.zeros(1, words.shape[1] - 1, 16, dtype=torch.bool)
    total, count = task.loss(model, (image, words, nothing))
    scores = model(as_float(image), words[:, :-1])[0].double()
    expected = 0.0
    for row, word in enumerate([A, SMALL, RED, CIRCLE, 2]):
        never = {(CIRCLE, TRIANGLE), (RED, BLUE)} if which == "seen" else set()
        among = [i for i in range(len(VOCABULARY)) if (word, i) not in never]
        expected += scores[row, among].logsumexp(-1).item() - scores[row, word].item()
    assert count == 5
    assert total.item() == pytest.approx(expected, rel=1e-5)


# What is trained on


def test_every_epoch_is_drawn_anew_and_comes_back_the_same(kept):
    task = Captioning(QUICK, kept["dev"], seed=3)
    first, second, again = (task.epoch(number) for number in (0, 1, 0))
    assert [len(images) for images, *_ in first] == [13, 13, 13, 13, 1]
    for batch, batch_again in zip(first, again, strict=True):
        assert all((column == column_again).all() for column, column_again in zip(batch, batch_again, strict=True))
    assert not (first[0][0] == second[0][0]).all()
    assert not (first[0][0] == Captioning(QUICK, kept["dev"], seed=4).epoch(0)[0][0]).all()


@AS_TRAINED
def test_one_who_reads_the_pixels_finds_the_captions_of_training_right_and_no_held_out_pair(kept, unnamed):
    task = Captioning(replace(QUICK, unnamed=unnamed), kept["dev"])
    for images, words, _ in task.epoch(2):
        for image, row in zip(images.numpy(), words.tolist(), strict=True):
            text, things = " ".join(VOCABULARY.decode(row)), see(image)
            assert not [pair for pair in HELD_OUT if " ".join(pair) in text]
            assert said(things) == text
            assert not {(thing["colour"], thing["shape"]) for thing in things} & set(HELD_OUT)


def test_no_scene_that_is_reserved_is_trained_on_in_whatever_order_its_objects_stand(kept):
    usual = Captioning(QUICK, kept["dev"]).draw(0).scenes
    reserved = frozenset(frozenset(scene) for scene in usual[:20])
    assert usual[0][::-1] != usual[0]
    found = {frozenset(scene) for scene in Captioning(QUICK, kept["dev"], reserved=reserved).draw(0).scenes}
    assert not found & reserved
    assert frozenset(usual[30]) in found


def test_no_recipe_trains_on_scenes_of_another_split(monkeypatch):
    seen = []
    monkeypatch.setattr(Captioning, "validate", lambda self, model: seen.append(self.reserved) or {"exact_match": 0.0})
    learn(replace(QUICK, n_scenes=13, plan=replace(PLAN, n_steps=1)))
    assert {frozenset(scene) for split in splits().values() for scene in split.scenes} == set(seen[0])


# A model that learns


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    plan = replace(PLAN, n_steps=120, n_warmup=20, validate_every=120)
    recipe = replace(QUICK, layer={**LAYER, "d_model": 32, "d_ff": 48}, plan=plan, batch=32, n_scenes=960)
    folder = tmp_path_factory.mktemp("run")
    return learn(recipe, folder=folder), folder


def test_a_model_that_learns_expects_the_words_of_captions(trained, kept):
    model, _ = trained
    task, words = Captioning(QUICK, kept["dev"]), numbered(kept["test"].words)
    batch = torch.from_numpy(kept["test"].images), words, torch.from_numpy(regions(kept["test"], words.shape[1] - 1))
    before = task.loss(new_captioner(QUICK, seed=0), batch)[0].item()
    assert task.loss(model.model, batch)[0].item() < before / 2


def test_supervised_attention_costs_what_each_word_gives_to_other_patches_than_it_names():
    task = Captioning(replace(QUICK, pointing=0.25), splits()["dev"])
    free = Captioning(QUICK, splits()["dev"])
    model = new_captioner(QUICK, seed=0).eval()
    images, words, named = batch = task.epoch(0)[0]
    weights = [w.double() for w in model.watched(as_float(images), words[:, :-1])[1]]
    drawn, expected = task.draw(0), 0.0
    for sample in range(len(images)):
        for row, cell in enumerate(drawn.regions[sample]):
            if cell is not None:
                given = [w[sample, head, row, cell] for w in weights for head in range(w.shape[1])]
                expected -= torch.stack(given).mean().log().item()
    assert named.any(dim=-1).sum() == sum(cell is not None for row in drawn.regions[: len(images)] for cell in row)
    (with_it, n), (without, same) = task.loss(model, batch), free.loss(model, batch)
    assert n == same
    assert (with_it - without).item() == pytest.approx(0.25 * expected, rel=1e-4)


def test_scores_compare_what_is_written_with_what_was_wanted(trained, kept):
    model, _ = trained
    for scores, images in (
        (evaluate_captions.scores, kept["test"].images),
        (evaluate_captions.blind_scores, evaluate_captions.blank(kept["test"].images)),
    ):
        written = captions(model.model, images)
        right = [one == wanted for one, wanted in zip(written, kept["test"].words, strict=True)]
        found = scores(model, kept["test"])
        assert found["exact_match"] == pytest.approx(100 * np.mean(right))
        assert found["object_f1"] == pytest.approx(100 * data.object_f1(written, kept["test"].words))
        assert found["object_f1"] > 0


def test_a_folder_holds_all_that_captions_need(trained, kept):
    model, folder = trained
    again = load(folder)
    assert {"history.jsonl", "last.ckpt", "captioner.safetensors"} <= {path.name for path in folder.iterdir()}
    assert captions(again.model, kept["test"].images) == captions(model.model, kept["test"].images)
    assert again.about["learning"]["rivals"] == "seen"
    assert again.about["train_seconds"] > 0
    assert again.about["trained_on"]
    assert load(folder / "captioner.safetensors").about == json.loads(json.dumps(dict(model.about)))


def test_a_run_that_has_ended_is_found_again_and_another_recipe_is_refused(trained):
    model, folder = trained
    plan = replace(PLAN, n_steps=120, n_warmup=20, validate_every=120)
    recipe = replace(QUICK, layer={**LAYER, "d_model": 32, "d_ff": 48}, plan=plan, batch=32, n_scenes=960)
    again = learn(recipe, folder=folder)
    assert again.history == model.history
    with pytest.raises(stored.Unreadable, match="rivals is seen there, all here"):
        learn(replace(recipe, rivals="all"), folder=folder)


def test_files_that_hold_no_captioner_are_named(tmp_path):
    tiny = other_task.Recipe(layer=LAYER, stem="patches", n_layers=1, n_parameters=None, n_scenes=5, batch=3)
    other_task.learn(replace(tiny, plan=replace(tiny.plan, n_steps=1)), folder=tmp_path)
    with pytest.raises(
        stored.Unreadable,
        match=r"holds no captioner \(its data are 'questions', not 'scenes'\): crossattn train captioning",
    ):
        load(tmp_path / "answerer.safetensors")
    with pytest.raises(FileNotFoundError, match=r"captioner\.safetensors does not exist"):
        load(tmp_path)


def test_recipes_differ_in_what_they_teach_and_not_in_their_models():
    sizes = {name: [p.shape for p in new_captioner(recipe, seed=0).parameters()] for name, recipe in RECIPES.items()}
    assert len({str(shapes) for shapes in sizes.values()}) == 1
    assert RECIPES["scenes"].rivals == "seen"
    assert RECIPES["plain"].rivals == "all"


# Where words look


class Pointer(torch.nn.Module):
    """Looks, in head 1 of layer 1, where it is told to, and everywhere alike in all others."""

    def __init__(self, cells):
        super().__init__()
        self.nothing = torch.nn.Parameter(torch.zeros(1))
        self.cells = torch.tensor(cells)  # (Nq,), -1 for anywhere

    def watched(self, images, words):
        even = torch.full((len(images), 2, words.shape[1], 16), 1 / 16)
        told = even.clone()
        for row, cell in enumerate(self.cells.tolist()):
            if cell >= 0:
                told[:, 1, row] = 0.2 / 15
                told[:, 1, row, cell] = 0.8
        return None, [even, told]


def test_pointing_counts_the_words_that_look_at_what_they_name():
    scene = (Object("red", "circle", "small", 2, 1), Object("blue", "square", "large", 1, 3))
    drawn = data.caption([scene])
    _, regions = data.describe(scene)
    assert regions == (None, 9, 9, 9, None, None, 7, 7, 7)
    trained = type("Trained", (), {"model": Pointer([-1, 9, 9, 3, -1, -1, 7, 7, 7])})
    weights = evaluate_captions.cross_weights(trained, drawn.images, drawn.words)
    assert evaluate_captions.best_reading(weights, drawn) == Reading(1, None)  # points as well, and comes first
    assert evaluate_captions.pointing(weights, drawn, Reading(1, 1)) == pytest.approx(100 * 5 / 6)
    assert evaluate_captions.pointing(weights, drawn, Reading(0, 0)) == 0
    assert evaluate_captions.mass(weights, drawn, Reading(1, 1)) == pytest.approx(100 * (5 * 0.8 + 0.2 / 15) / 6)
    all_layers = evaluate_captions.mass(weights, drawn, Reading(None, None))
    mean = evaluate_captions.mass(weights, drawn, Reading(1, None))
    assert all_layers == pytest.approx((mean + 100 / 16) / 2)
    assert mean == pytest.approx((evaluate_captions.mass(weights, drawn, Reading(1, 1)) + 100 / 16) / 2)


def test_blank_pictures_are_of_one_colour_all_the_same(kept):
    images = kept["test"].images
    blank = evaluate_captions.blank(images)
    assert blank.shape == images.shape
    assert len(np.unique(blank.reshape(-1, 3), axis=0)) == 1
    assert np.abs(blank[0, 0, 0] - images.reshape(-1, 3).mean(axis=0)).max() <= 0.5


# The command


def test_the_command_trains_a_captioner_and_says_where_it_lies(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(RECIPES, "plain", QUICK)
    arguments = ["train", "captioning", "--recipe", "plain", "--steps", "2", "--seed", "7", "--folder", str(tmp_path)]
    assert main(arguments) == 0
    shown = capsys.readouterr().out
    assert "2 steps in" in shown
    assert str(tmp_path / "captioner.safetensors") in shown
    found = load(tmp_path)
    about, dev = found.about, splits()["dev"]
    weights = evaluate_captions.cross_weights(found, dev.images, dev.words)
    assert evaluate_captions.Reading(**about["reading"]) == evaluate_captions.best_reading(weights, dev)
    assert (about["recipe"], about["seed"], about["plan"]["n_steps"]) == ("plain", 7, 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--recipe", "glass-box"],
            "must be one of scenes, plain, rivals, unnamed, supervised for captioning, got 'glass-box'",
        ),
        (["--data", "multi30k"], "--data and --corpus are for translation and vqa: captioning learns from scenes"),
        (["--device", "banana"], "--device banana is not there"),
        (["--steps", "0"], "n_steps must be at least 1"),
    ],
)
def test_the_command_says_in_a_line_what_can_not_be_done(arguments, message, capsys):
    assert main(["train", "captioning", *arguments]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("crossattn train: ")
    assert message in line
