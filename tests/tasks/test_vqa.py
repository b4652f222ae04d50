"""Question answering put together: numbers and losses by hand, corpora, a model that learns in seconds, its folder."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from crossattn_ref.__main__ import main
from crossattn_ref.data import vqa as data
from crossattn_ref.data.programs import ANSWERS
from crossattn_ref.data.scenes import HELD_OUT, Object
from crossattn_ref.data.vqa import VOCABULARY, Question, Questions
from crossattn_ref.models import stored
from crossattn_ref.models.images import as_float
from crossattn_ref.models.vqa import count_parameters
from crossattn_ref.tasks import evaluate_answers
from crossattn_ref.tasks.evaluate_answers import Reading
from crossattn_ref.tasks.vqa import (
    FUSIONS,
    RECIPES,
    Answering,
    Recipe,
    as_asked,
    corpus,
    learn,
    load,
    new_answerer,
    numbered,
    scores,
    splits,
)
from tests.data.seer import answer as answered
from tests.data.seer import see

PLAN = replace(RECIPES["cross"].plan, n_steps=4, n_warmup=2, validate_every=2, peak_rate=1e-2)
LAYER = {"d_model": 24, "n_heads": 2, "d_ff": 24, "dropout": 0.0}
QUICK = Recipe(layer=LAYER, stem="patches", n_layers=1, n_parameters=None, plan=PLAN, batch=7, n_scenes=31, unnamed=0.0)


@pytest.fixture(scope="module")
def asked():
    return data.splits(np.random.default_rng(5), train=0, dev=17, test=19, held_out=0)


@pytest.fixture(scope="module")
def drawn():
    return corpus(QUICK.n_scenes)


@pytest.fixture(scope="module", params=[QUICK, RECIPES["cross"]], ids=["all named", "as trained"])
def seen(request):
    """The beginning of the corpus of a recipe."""
    return corpus(61, **request.param.drawing)


RED_CIRCLE = Object("red", "circle", "small", 2, 1)
GREEN_SQUARE = Object("green", "square", "large", 0, 3)


def question(kind, text, program, answer, *cells):
    return Question(kind, tuple(text.split()), program, answer, frozenset(cells))


COLOUR = question(
    "colour", "what colour is the circle ?", ("query", "colour", ("only", ("find", {"shape": "circle"}))), "red", 9
)
COUNT = question(
    "count", "how many red things are there ?", ("count", ("find", {"colour": "red"})), "1", 9
)  # fmt: skip


def two_questions():
    scene = (RED_CIRCLE, GREEN_SQUARE)
    images = np.arange(48 * 48 * 3, dtype=np.uint8).reshape(1, 48, 48, 3)
    return Questions(images, (scene,), (COLOUR, COUNT), np.array([0, 0]))


def test_questions_become_numbers_with_the_rivals_of_their_answers():
    numbers = numbered(two_questions())
    assert numbers.lengths.tolist() == [6, 7]
    assert VOCABULARY.decode(numbers.words[0].tolist()) == COLOUR.words
    assert numbers.words[:, 7:].eq(0).all()
    assert [ANSWERS[number] for number in numbers.answers.tolist()] == ["red", "1"]
    left_out = [{ANSWERS[i] for i in (~row).nonzero().flatten().tolist()} for row in numbers.fair]
    assert left_out == [{"blue"}, set()]  # a blue circle is held out; how many there are is never excused


def test_somebody_may_ask_with_capitals_and_without_a_question_mark():
    image = np.zeros((1, 48, 48, 3), np.uint8)
    numbers = as_asked(" What COLOUR is the circle", image)
    assert VOCABULARY.decode(numbers.words[0].tolist()) == COLOUR.words
    assert numbers.lengths.tolist() == [6]
    for typed in ("what colour is the circle!", "What, colour: is the circle ?!", "<what> colour is... the (circle)"):
        assert torch.equal(as_asked(typed, image).words, numbers.words)
    for empty in ("", " ? ", "?!"):
        with pytest.raises(
            ValueError, match=rf"QUESTION must hold at least one word, got '{re.escape(empty)}': ask \""
        ):
            as_asked(empty, image)
    for mark in ("pad", "begin", "end"):
        with pytest.raises(ValueError, match=f"'{mark}' was never seen"):
            as_asked(f"<{mark}> is there a circle?", image)
    with pytest.raises(ValueError, match="'banana' was never seen"):
        as_asked("is there a banana?", image)
    with pytest.raises(ValueError, match="at most 15 words, got 16"):
        as_asked("is " * 16, image)


@pytest.mark.parametrize("which", ["all", "seen"])
def test_the_loss_is_that_of_each_answer_among_its_rivals(which, asked, monkeypatch):
    numbers = numbered(two_questions())
    monkeypatch.setattr(torch, "rand", lambda n, device: torch.ones(n))  # nothing is mirrored
    recipe = replace(QUICK, rivals=which)
    task = Answering(recipe, numbers, numbered(asked["dev"]))
    model = new_answerer(recipe, seed=0).eval()
    ((questions, pictures, about),) = task.epoch(0)
    total, count = task.loss(model, (questions, pictures, about))
    images = as_float(numbers.images[[0, 0]])
    logits = model(images, numbers.words, numbers.lengths).double()
    expected = 0.0
    for row, right, never in ((0, "red", "blue"), (1, "1", None)):
        among = [i for i, answer in enumerate(ANSWERS) if which == "all" or answer != never]
        expected += logits[row, among].logsumexp(-1).item() - logits[row, ANSWERS.index(right)].item()
    assert count == 2
    assert total.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("fusion", ["cross", "concatenation", "co-attention"])
@pytest.mark.parametrize("mirrored", [False, True], ids=["as drawn", "mirrored"])
def test_supervised_attention_costs_what_the_words_give_to_other_patches_than_the_answer_is_read_from(
    fusion, mirrored, monkeypatch
):
    asked = two_questions()
    nothing = replace(COUNT, answer="0", regions=frozenset())
    both = replace(COUNT, regions=frozenset({3, 9}))
    asked = replace(asked, questions=(COLOUR, nothing, both), image_of=np.zeros(3, dtype=np.int64))
    numbers = numbered(asked)
    monkeypatch.setattr(torch, "rand", lambda n, device: torch.zeros(n) if mirrored else torch.ones(n))
    supervised = replace(QUICK, fusion=fusion, pointing=0.25)
    tasks = [Answering(recipe, numbers, numbers) for recipe in (supervised, replace(supervised, pointing=0.0))]
    model = new_answerer(supervised, seed=0).eval()
    (batch,) = tasks[0].epoch(0)
    (with_it, n), (without, same) = (task.loss(model, batch) for task in tasks)
    assert n == same == 3
    images = as_float(numbers.images[[0, 0, 0]])
    seen = model.encode(images.flip(3) if mirrored else images)
    weights = [layer.double() for layer in model.watched(seen, numbers.words, numbers.lengths)[1]]
    expected = 0.0
    for sample, cells in ((0, [10] if mirrored else [9]), (2, [0, 10] if mirrored else [3, 9])):
        length = int(numbers.lengths[sample])
        maps = [layer[sample, head, :length, -16:] for layer in weights for head in range(2)]
        expected -= torch.stack([sum(m[:, cell] for cell in cells) for m in maps]).mean().log().item()
    assert (with_it - without).item() == pytest.approx(0.25 * expected, rel=1e-4)


def test_an_epoch_asks_every_question_once_about_its_own_picture(drawn):
    task = Answering(QUICK, drawn, drawn)
    batches = task.epoch(1)
    assert [len(pictures) for _, pictures, _ in batches] == [7, 7, 7, 7, 3]
    assert sorted(torch.cat([questions for questions, *_ in batches]).tolist()) == list(range(len(drawn.answers)))
    for questions, pictures, about in batches:
        assert (pictures[about] == drawn.image_of[questions]).all()


def test_epochs_differ_and_each_comes_back_the_same(drawn):
    order = [
        Answering(QUICK, drawn, drawn, seed=s).epoch(n)[0][1].tolist() for s, n in ((0, 0), (0, 1), (1, 0), (0, 0))
    ]
    assert order[0] == order[3]
    assert order[0] != order[1]
    assert order[0] != order[2]


def test_a_picture_is_encoded_once_for_all_its_questions(drawn):
    model = new_answerer(QUICK, seed=0)
    seen = []
    model.image.register_forward_hook(lambda _, arguments, out: seen.append(len(out)))
    task = Answering(QUICK, drawn, drawn)
    batch = task.epoch(0)[0]
    task.loss(model, batch)
    assert seen == [7]
    assert len(batch[0]) > 30


def test_what_is_mirrored_is_asked_so_that_one_who_reads_the_pixels_gives_the_same_answer(seen, monkeypatch):
    class Seer:
        """Keeps what it is shown."""

        def encode(self, images):
            self.images = (255 * images.permute(0, 2, 3, 1)).round().byte().numpy()
            return torch.arange(len(images))

        def answer(self, about, words, lengths):
            self.about, self.words = about.tolist(), words.tolist()
            return torch.zeros(len(words), len(ANSWERS))

    monkeypatch.setattr(torch, "rand", lambda n, device: torch.zeros(n))  # everything is mirrored
    task, turned = Answering(QUICK, seen, seen), 0
    for batch in task.epoch(0):
        seer = Seer()
        task.loss(seer, batch)
        things = [see(image) for image in seer.images]
        for about, words, question in zip(seer.about, seer.words, batch[0], strict=True):
            text = " ".join(VOCABULARY.decode(words))
            assert not [pair for pair in HELD_OUT if " ".join(pair) in text]
            turned += "left" in text or "right" in text
            assert answered(text, things[about]) == ANSWERS[int(seen.answers[question])]
            assert not {(thing["colour"], thing["shape"]) for thing in things[about]} & set(HELD_OUT)
    assert turned > 5


def test_one_who_reads_the_pixels_answers_the_corpus_and_finds_no_held_out_pair(seen):
    things = [see(image) for image in seen.images.numpy()]
    assert not {(thing["colour"], thing["shape"]) for scene in things for thing in scene} & set(HELD_OUT)
    for image, words, answer in zip(seen.image_of.tolist(), seen.words.tolist(), seen.answers.tolist(), strict=True):
        text = " ".join(VOCABULARY.decode(words))
        assert not [pair for pair in HELD_OUT if " ".join(pair) in text]
        assert answered(text, things[image]) == ANSWERS[answer]


def test_a_corpus_is_the_same_however_many_processes_draw_it(monkeypatch):
    monkeypatch.setattr("crossattn_ref.tasks.vqa.PART", 5)
    alone, together = corpus(13, unnamed=0.3), corpus(13, unnamed=0.3, processes=2)
    for name in alone.__dataclass_fields__:
        assert (getattr(alone, name) == getattr(together, name)).all()
    assert len(alone.images) == 13
    assert alone.image_of.unique().tolist() == list(range(13))


def test_sizes_are_equal_whatever_brings_question_and_picture_together():
    sizes = {fusion: count_parameters(new_answerer(RECIPES[fusion], seed=0)) for fusion in FUSIONS}
    assert max(sizes.values()) < 1.002 * min(sizes.values()), sizes


# A model that learns


@pytest.fixture(scope="module")
def trained(tmp_path_factory, asked):
    folder = tmp_path_factory.mktemp("run")
    recipe = replace(QUICK, plan=replace(PLAN, n_steps=90, n_warmup=10, validate_every=90), batch=31)
    numbers = corpus(QUICK.n_scenes)
    return learn(recipe, drawn=numbers, folder=folder), folder, numbers


def test_a_model_that_learns_knows_by_heart_what_it_was_told(trained):
    model, _, numbers = trained
    right = scores(model.model, numbers).argmax(-1) == numbers.answers
    untrained = scores(new_answerer(QUICK, seed=0).eval(), numbers).argmax(-1) == numbers.answers
    assert right.double().mean() > 0.35 > 0.2 > untrained.double().mean()


def test_a_folder_holds_all_that_answers_need(trained):
    model, folder, numbers = trained
    again = load(folder)
    assert torch.equal(scores(again.model, numbers), scores(model.model, numbers))
    assert again.about == json.loads(json.dumps(dict(model.about)))
    assert again.about["learning"]["n_scenes"] == 31
    assert again.about["dev"]["accuracy"] == model.history.rows[-1]["accuracy"]
    with pytest.raises(FileNotFoundError, match=r"/nowhere\.safetensors does not exist: crossattn train vqa makes"):
        load(folder / "nowhere.safetensors")
    stored.write(model.model, folder / "other.safetensors", {"data": "scenes"})
    with pytest.raises(
        stored.Unreadable,
        match=r"no answerer about scenes \(its data are 'scenes', not 'questions'\): crossattn train vqa makes one",
    ):
        load(folder / "other.safetensors")
    sizes = again.about["model"]
    without = {name: size for name, size in sizes.items() if name != "pooling"}
    for other, named in ((without, "'pooling'"), ({**sizes, "n_parameters": 10}, "must be at least")):
        stored.write(model.model, folder / "older.safetensors", {**again.about, "model": other})
        with pytest.raises(stored.Unreadable, match=rf"older\.safetensors is of another version .*{named}"):
            load(folder / "older.safetensors")


def test_accuracy_is_counted_for_all_and_for_each_kind(trained, asked):
    model, *_ = trained
    test = asked["test"]
    found = evaluate_answers.accuracy(model, test)
    numbers = numbered(test)
    guesses = [
        ANSWERS[int(model.model(as_float(numbers.images[i : i + 1]), w[None, :n], n[None]).argmax())]
        for i, w, n in zip(numbers.image_of.tolist(), numbers.words, numbers.lengths, strict=True)
    ]
    for kind in ("all", *data.KINDS):
        right = [g == q.answer for g, q in zip(guesses, test.questions, strict=True) if kind in ("all", q.kind)]
        assert found[kind] == pytest.approx(100 * np.mean(right))


def test_before_blank_pictures_the_answer_depends_on_the_words_alone(trained, asked):
    model, *_ = trained
    found = evaluate_answers.blind_accuracy(model, asked["test"])
    swapped = replace(asked["test"], images=asked["test"].images[::-1].copy())
    assert found == evaluate_answers.blind_accuracy(model, swapped)


def test_who_points_at_random_hits_the_share_of_tiles_or_of_objects_that_answer():
    both = replace(COUNT, words=("how", "many", "things", "are", "there", "?"), answer="2", regions=frozenset({9, 3}))
    none = replace(COUNT, words=("how", "many", "cyan", "things", "are", "there", "?"), answer="0", regions=frozenset())
    asked = replace(two_questions(), questions=(COLOUR, both, none), image_of=np.zeros(3, dtype=np.int64))
    found = evaluate_answers.pointing_by_chance(asked)
    assert found["any-tile"] == {"all": pytest.approx(100 * 3 / 32), "colour": 100 / 16, "count": 100 / 8}
    assert found["any-object"] == {"all": 75, "colour": 50, "count": 100}


class Pointer(torch.nn.Module):
    """Looks, in head 1 of layer 1, with the first word at cell 9, the mark at 3, others at 5; else everywhere alike.

    The padding looks at cell 0, and loudly.
    """

    def __init__(self):
        super().__init__()
        self.nothing = torch.nn.Parameter(torch.zeros(1))

    def encode(self, images):
        return images.flatten(2).mT

    def watched(self, memory, words, lengths):
        told = torch.zeros(len(words), 2, words.shape[1], 16)
        told[:, 1, 1:, 5] = 0.1
        told[:, 1][words == VOCABULARY.number("?")] = 0.1 * torch.eye(16)[3]
        told[:, 1, 0, 9] = 1.0
        told[:, 0] = 1 / 16
        told[(words == 0)[:, None, :].expand(-1, 2, -1)] = torch.eye(16)[0] * 100
        weights = [torch.full_like(told, 1 / 16).requires_grad_(), told.requires_grad_()]
        how, mark = words == VOCABULARY.number("how"), words == VOCABULARY.number("?")
        shared = 9.0 * mark + (words == 0)  # what speaks for both answers alike
        lead = -0.5 * how + 0.25 * mark  # what speaks for or against the best one alone
        said = [(told.sum(dim=(1, 3)) * share).sum(dim=1) for share in (shared + lead, shared)]
        return torch.stack([said[0] + 100, said[1] + 50, 0 * weights[0].sum(dim=(1, 2, 3))], dim=1), weights


def test_a_question_points_where_its_words_together_look_most():
    trained = type("Trained", (), {"model": Pointer()})
    asked = two_questions()
    none = replace(COUNT, words=("how", "many", "cyan", "things", "are", "there", "?"), answer="0", regions=frozenset())
    asked = replace(asked, questions=(*asked.questions, replace(COLOUR, regions=frozenset({3})), none),
                    image_of=np.zeros(4, dtype=np.int64))  # fmt: skip
    weights = evaluate_answers.attention(trained, numbered(asked))
    found = evaluate_answers.pointing(weights, asked, Reading(1, 1))
    assert found == {"all": pytest.approx(100 * 2 / 3), "colour": 50, "count": 100}
    of_the_mark = evaluate_answers.pointing(weights, asked, Reading(1, 1, "mark"))
    assert of_the_mark == {"all": pytest.approx(100 / 3), "colour": 50, "count": 0}
    looked = evaluate_answers.chosen(weights, Reading(1, 1, "answer"))
    assert looked.argmax(axis=1).tolist() == [3, 9, 3, 9]  # the lead hangs on "how" twice as much as on the mark
    assert evaluate_answers.best_reading(weights, asked) == Reading(1, None)  # the mean points as well, and comes first
    by_mark = evaluate_answers.best_reading(weights, asked, among=("mark",))
    assert by_mark == Reading(1, None, "mark")


def test_what_an_answer_hangs_on_is_found_where_nobody_wants_gradients(trained, asked):
    model, *_ = trained
    numbers = numbered(asked["test"])
    expected = evaluate_answers.attention(model, numbers)
    with torch.no_grad():
        found = evaluate_answers.attention(model, numbers)
    np.testing.assert_allclose(found[0], expected[0], rtol=0, atol=1e-6)


def test_a_reading_names_rows_that_there_are():
    with pytest.raises(ValueError, match="whose must be one of all, mark, answer, got 'heard'"):
        Reading(None, None, "heard")


# The command


def test_the_command_trains_an_answerer_and_says_where_it_lies(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(RECIPES, "concatenation", replace(QUICK, fusion="concatenation", n_scenes=9))
    arguments = ["train", "vqa", "--recipe", "concatenation", "--steps", "1", "--folder", str(tmp_path)]
    assert main(arguments) == 0
    assert str(tmp_path / "answerer.safetensors") in capsys.readouterr().out
    found = load(tmp_path)
    assert found.about["model"]["fusion"] == "concatenation"
    weights = evaluate_answers.attention(found, numbered(splits()["dev"]))
    assert Reading(**found.about["reading"]) == evaluate_answers.best_reading(weights, splits()["dev"])


def test_the_command_names_the_recipes_that_there_are(capsys):
    assert main(["train", "vqa", "--recipe", "scenes"]) == 2
    assert (
        "must be one of cross, concatenation, co-attention, mean, supervised for vqa, got 'scenes'"
        in capsys.readouterr().err
    )
