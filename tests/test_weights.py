"""The trained weights that come with the package: small, of known origin, and good for what the book does with them."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

import crossattn_ref
from crossattn_ref.data import captioning as scenes
from crossattn_ref.data import summarization as news
from crossattn_ref.data import translation as grammar
from crossattn_ref.data import vqa as questions
from crossattn_ref.models import stored
from crossattn_ref.tasks import (
    captioning,
    evaluate,
    evaluate_answers,
    evaluate_captions,
    summarization,
    translation,
    vqa,
)

WEIGHTS = Path(crossattn_ref.__file__).parent / "weights"
LARGEST = 1_000_000  # bytes
NAMES = [
    "answerer.safetensors", "captioner.safetensors", "glass-box/translator.safetensors", "summarization.safetensors",
]  # fmt: skip


def test_no_other_weights_lie_there():
    found = [path.relative_to(WEIGHTS).as_posix() for path in WEIGHTS.rglob("*.safetensors")]
    assert sorted(found) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_file_is_small_and_says_how_it_was_made(name):
    assert (WEIGHTS / name).stat().st_size < LARGEST
    _, about = stored.read(WEIGHTS / name)
    assert {"model", "plan", "seed", "dev"} <= about.keys()
    made_here = about.get("data") in ("grammar", "scenes", "questions")
    assert made_here or about["command"] == "crossattn bench summarization"


def test_the_glass_box_is_what_its_recipe_makes_of_the_grammar():
    box = translation.shipped("glass-box")
    recipe, corpus = translation.RECIPES[box.about["recipe"]], grammar.splits()
    words = translation.words_of(corpus["train"], recipe.n_subwords)
    assert [side.as_json() for side in box.words] == [side.as_json() for side in words]
    assert box.model.config == translation.new_translator(recipe, words, seed=0).config
    plan = json.loads(json.dumps(asdict(recipe.plan)))
    assert box.about["plan"] == {name: plan[name] for name in box.about["plan"]}
    named = ("n_tokens", "smoothing", "consistency")
    assert {name: box.about[name] for name in named} == {name: getattr(recipe, name) for name in named}


def test_the_glass_box_translates_and_looks_where_the_words_come_from():
    box, corpus = translation.shipped("glass-box"), grammar.splits()
    reading = evaluate.best_reading(box, corpus["dev"])
    assert evaluate.exact_match(box, corpus["test"][:100]) >= 95
    assert evaluate.alignment_error(box, corpus["test"], reading) <= 8


def test_the_summarizer_copies_names_that_stand_in_no_other_text():
    model = summarization.shipped()
    pairs = news.splits()["strangers"][:50]
    written = model.summarize([pair.src for pair in pairs])
    assert not any(pair.tgt[1] in model.vocabulary.words for pair in pairs)
    assert np.mean([words[1:2] == [pair.tgt[1]] for words, pair in zip(written, pairs, strict=True)]) > 0.9


def test_the_captioner_names_also_what_training_never_showed_together_and_points_at_it():
    trained = captioning.shipped()
    reading = evaluate_captions.Reading(**trained.about["reading"])
    kept = scenes.splits(np.random.default_rng(11), train=0, dev=0, test=60, held_out=60)
    for split in kept.values():
        assert evaluate_captions.scores(trained, split)["exact_match"] > 80
        weights = evaluate_captions.cross_weights(trained, split.images, split.words)
        assert evaluate_captions.pointing(weights, split, reading) > 90


@pytest.mark.parametrize(("task", "name"), [(captioning, "captioning"), (vqa, "vqa")])
def test_captioner_and_answerer_are_what_their_recipes_make_and_say_by_which_command(task, name):
    about = task.shipped().about
    recipe = task.RECIPES[about["recipe"]]
    told = {**task.description(recipe), "plan": asdict(recipe.plan)}
    assert json.loads(json.dumps(told)).items() <= about.items()
    assert about["command"] == f"crossattn train {name} --recipe {about['recipe']} --seed {about['seed']}"
    assert set(about["figures"]) == set(task.splits())


def test_the_answers_of_the_answerer_hang_on_what_they_are_read_from():
    trained = vqa.shipped()
    reading = evaluate_answers.Reading(**trained.about["reading"])
    kept = questions.splits(np.random.default_rng(11), train=0, dev=0, test=60, held_out=60)
    for name in ("test", "held-out"):
        assert evaluate_answers.accuracy(trained, kept[name])["all"] > 88
        weights = evaluate_answers.attention(trained, vqa.numbered(kept[name]))
        assert evaluate_answers.pointing(weights, kept[name], reading)["all"] > 85
