"""The trained weights beside the pages: small, of known origin, and good for what the pages do with them."""

import numpy as np
import pytest
import torch

from crossattn_ref.data import summarization as news
from crossattn_ref.data import translation as grammar
from crossattn_ref.data.batches import collate
from crossattn_ref.decode.sequential import greedy
from crossattn_ref.models import stored
from crossattn_ref.tasks import summarization, translation

LARGEST = 1_000_000  # bytes
NAMES = ["glass-box/translator.safetensors", "summarization.safetensors"]


@pytest.fixture
def weights(root):
    return root / "book" / "weights"


def test_no_other_weights_lie_there(weights):
    found = [path.relative_to(weights).as_posix() for path in weights.rglob("*.safetensors")]
    assert sorted(found) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_file_is_small_and_says_how_it_was_made(weights, name):
    assert (weights / name).stat().st_size < LARGEST
    _, about = stored.read(weights / name)
    assert {"model", "plan", "seed", "dev"} <= about.keys()
    assert about.get("data") == "grammar" or about["command"] == "crossattn bench summarization"


def test_the_glass_box_translates(weights):
    box = translation.load(weights / "glass-box")
    pairs = grammar.splits()["test"][:100]
    numbers = collate([(box.words[0].encode(pair.src), []) for pair in pairs])
    lengths = torch.from_numpy(numbers.src_lengths)
    with torch.no_grad():
        memory = box.model.encode(torch.from_numpy(numbers.src), lengths)
        written = greedy(box.model, memory, lengths, max_tokens=60)
    right = [tuple(box.words[1].decode(row.tokens)) == pair.tgt for row, pair in zip(written, pairs, strict=True)]
    assert np.mean(right) > 0.7


def test_the_summarizer_copies_names_that_stand_in_no_other_text(weights):
    model = summarization.load(weights / "summarization.safetensors")
    pairs = news.splits()["strangers"][:50]
    written = model.summarize([pair.src for pair in pairs])
    assert not any(pair.tgt[1] in model.vocabulary.words for pair in pairs)
    assert np.mean([words[1:2] == [pair.tgt[1]] for words, pair in zip(written, pairs, strict=True)]) > 0.9
