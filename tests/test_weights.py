"""The trained weights that come with the package: small, of known origin, and good for what the book does with them."""

from pathlib import Path

import numpy as np
import pytest
import torch

import crossattn_ref
from crossattn_ref.data import captioning as scenes
from crossattn_ref.data import summarization as news
from crossattn_ref.data import translation as grammar
from crossattn_ref.data.batches import collate
from crossattn_ref.decode.sequential import greedy
from crossattn_ref.models import stored
from crossattn_ref.tasks import captioning, evaluate_captions, summarization, translation

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


def test_the_glass_box_translates():
    box = translation.shipped("glass-box")
    pairs = grammar.splits()["test"][:100]
    numbers = collate([(box.words[0].encode(pair.src), []) for pair in pairs])
    lengths = torch.from_numpy(numbers.src_lengths)
    with torch.no_grad():
        memory = box.model.encode(torch.from_numpy(numbers.src), lengths)
        written = greedy(box.model, memory, lengths, max_tokens=60)
    right = [tuple(box.words[1].decode(row.tokens)) == pair.tgt for row, pair in zip(written, pairs, strict=True)]
    assert np.mean(right) > 0.7


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
        assert evaluate_captions.pointing(trained, split, reading) > 90
