"""Summarization put together: numbers by hand, a model that learns to point in seconds, files."""

import numpy as np
import pytest
import torch

from crossattn_ref.bench import summarization as bench
from crossattn_ref.data import summarization as news
from crossattn_ref.data.translation import Pair
from crossattn_ref.data.vocabulary import BOS, EOS, PAD, UNK, Vocabulary
from crossattn_ref.models import stored
from crossattn_ref.tasks import summarization
from crossattn_ref.tasks.summarization import MODELS, Summarization, collate, learn, load, save
from crossattn_ref.train.loop import Plan

WORDS = Vocabulary.of([["the", "mayor", "sings"]])
MAYOR, SINGS, THE = WORDS.encode(["mayor", "sings", "the"])
PAIRS = [
    Pair(("the", "mayor", "Brelin", "sings"), ("Brelin", "sings")),
    Pair(("the", "Kolb", "Zorn"), ("Zorn", "mayor", "Wirt")),
]


def test_strangers_are_numbered_text_by_text_and_enter_as_unknown():
    batch, n = collate(PAIRS, WORDS), len(WORDS)
    assert batch.words.tolist() == [[THE, MAYOR, n, SINGS, EOS], [THE, n, n + 1, EOS, PAD]]
    assert batch.src.tolist() == [[THE, MAYOR, UNK, SINGS, EOS], [THE, UNK, UNK, EOS, PAD]]
    assert batch.lengths.tolist() == [5, 4]
    assert batch.labels.tolist() == [[n, SINGS, EOS, PAD], [n + 1, MAYOR, UNK, EOS]]
    assert batch.tgt.tolist() == [[BOS, UNK, SINGS, PAD], [BOS, UNK, MAYOR, UNK]]
    assert batch.n_words == n + 2
    assert batch.strangers == (("Brelin",), ("Kolb", "Zorn"))


@pytest.mark.parametrize("kind", MODELS)
def test_the_loss_is_that_of_each_word_by_itself(kind):
    make, predict = MODELS[kind]
    torch.manual_seed(0)
    config = summarization.TranslatorConfig(n_src_tokens=len(WORDS), n_tgt_tokens=len(WORDS), **summarization.SIZES)
    model = make(config).eval()
    pair = PAIRS[0]
    task = Summarization([pair], [pair], WORDS, predict)
    total, count = task.loss(model, collate([pair], WORDS))
    batch = collate([pair], WORDS)
    probabilities = predict(model, batch.tgt, model.encode(batch.src, batch.lengths), batch)[0]
    name = len(WORDS) if kind == "pointing" else UNK
    expected = -sum(probabilities[i, word].log() for i, word in enumerate((name, SINGS, EOS)))
    assert count == 3
    assert float(total.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)
    assert task.validate(model)["loss"] == pytest.approx(float(total.detach()) / 3, rel=1e-5)


def test_an_epoch_holds_every_text_once_and_is_mixed_by_its_number():
    pairs = [Pair(("the",) * n, ("mayor", "sings")) for n in range(1, 80)]
    task = Summarization(pairs, pairs[:1], WORDS, MODELS["pointing"][1])
    lengths = [sorted(n for batch in task.epoch(i) for n in batch.lengths.tolist()) for i in (0, 1)]
    assert lengths[0] == lengths[1] == list(range(2, 81))
    first, again, *others = ([batch.lengths.tolist() for batch in task.epoch(i)] for i in (0, 0, *range(1, 9)))
    assert first == again
    assert any(other != first for other in others)  # three batches alone may by chance come in the same order


def echoes(n, seed):
    """The simplest text: a mark, and the name behind it is the summary."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(n):
        names = [f"N{number}" for number in rng.choice(10_000, 3, replace=False)]
        place = rng.integers(3)
        src = [word for i, name in enumerate(names) for word in (("the" if i == place else "mayor"), name)]
        found.append(Pair(tuple(src), (names[place],), frozenset({(int(2 * place + 1), 0)})))
    return found


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    splits = {"train": echoes(2000, 0), "dev": echoes(64, 1)}
    plan = Plan(n_steps=150, n_warmup=20, peak_rate=1e-2, schedule="linear", validate_every=150)
    return splits, {kind: learn(kind, splits, plan=plan) for kind in MODELS}


def test_a_model_that_points_copies_names_that_it_has_never_seen_and_one_that_writes_cannot(trained):
    _, models = trained
    fresh = echoes(200, 2)
    right = {}
    for kind, model in models.items():
        written = model.summarize([pair.src for pair in fresh])
        right[kind] = np.mean([tuple(words) == pair.tgt for words, pair in zip(written, fresh, strict=True)])
    assert right["pointing"] > 0.9
    assert right["writing"] == 0.0


def test_a_text_is_summarized_alike_alone_and_beside_a_longer_one(trained):
    model = trained[1]["pointing"]
    texts = [pair.src for pair in echoes(5, 3)]
    longer = texts[0] + ("mayor", "N1") * 4
    assert model.summarize([*texts, longer])[:5] == [model.summarize([text])[0] for text in texts]


def test_a_file_gives_back_what_was_saved(trained, tmp_path):
    model = trained[1]["pointing"]
    save(model, tmp_path / "model.safetensors", {"seed": 7})
    back = load(tmp_path / "model.safetensors")
    texts = [pair.src for pair in echoes(20, 4)]
    assert back.summarize(texts) == model.summarize(texts)
    assert back.vocabulary == model.vocabulary
    assert stored.read(tmp_path / "model.safetensors")[1]["seed"] == 7


def test_the_suite_scores_what_was_written_and_where_it_looked(trained):
    fresh = [Pair(p.src, p.tgt, p.sure, p.sure) for p in echoes(100, 5)]
    found = bench.scores(trained[1]["pointing"], fresh)
    assert found["exact_match"] > 90
    assert found["aer"] < 10
    turned = [Pair(p.src, ("mayor",), frozenset({(0, 0)}), frozenset({(0, 0)})) for p in fresh]
    assert bench.scores(trained[1]["pointing"], turned)["exact_match"] == 0


def test_the_suite_trains_once_and_then_takes_what_it_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(news, "SIZES", {"train": 200, "dev": 5, "test": 7, "strangers": 5})
    plan = Plan(n_steps=1, n_warmup=1, validate_every=1)
    first = list(bench.measure(seeds=(0,), plan=plan, folder=tmp_path))
    monkeypatch.setattr(bench.summarization, "learn", None)
    assert list(bench.measure(seeds=(0,), plan=plan, folder=tmp_path)) == first
    cases = dict.fromkeys(m.case for m in first)
    assert list(cases) == ["pointing/test", "pointing/strangers", "pointing", *[
        "writing/test", "writing/strangers", "writing"]]  # fmt: skip
