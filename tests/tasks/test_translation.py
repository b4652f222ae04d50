"""Translation put together: batches in torch, a small model that learns, its folder, the command."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from crossattn_ref.__main__ import main
from crossattn_ref.data.batches import bucketed, collate
from crossattn_ref.data.translation import Pair
from crossattn_ref.models.stored import Unreadable
from crossattn_ref.tasks import command, evaluate
from crossattn_ref.tasks.translation import (
    RECIPES,
    Corpus,
    Recipe,
    Translation,
    corpus,
    learn,
    load,
    new_translator,
    words_of,
)
from crossattn_ref.train.loop import Plan

SIZES = {"d_model": 16, "n_heads": 2, "d_ff": 16, "n_encoder_layers": 1, "n_decoder_layers": 1, "dropout": 0.0}
QUICK = Recipe(
    sizes=SIZES, n_tokens=60, smoothing=0.0, plan=Plan(n_steps=6, n_warmup=2, validate_every=3, peak_rate=1e-2)
)


def reversing(n=60):
    """Pairs in which the second sentence is the first from its end, with links."""
    letters, pairs = "abcdefg", []
    for i in range(n):
        src = tuple(letters[(i * k + k) % 7] for k in range(1, 2 + i % 4))
        links = frozenset((len(src) - 1 - place, place) for place in range(len(src)))
        pairs.append(Pair(src, src[::-1], links, links))
    return pairs


SPLITS = {"train": reversing(), "dev": reversing(17)}


def test_the_loss_is_that_of_the_labels_under_the_model():
    words = words_of(SPLITS["train"], None)
    model = new_translator(QUICK, words, seed=0).eval()
    pair = ([4, 5], [6, 7, 8])
    task = Translation([pair], [pair], smoothing=0.0)
    (batch,) = task.epoch(0)
    total, count = task.loss(model, batch)
    logits = model(torch.tensor([[4, 5, 2]]), torch.tensor([3]), torch.tensor([[1, 6, 7, 8]]))
    expected = -logits.log_softmax(-1)[0, range(4), [6, 7, 8, 2]].sum()
    assert (total.item(), count) == (pytest.approx(expected.item(), rel=1e-5), 4)
    assert task.validate(model)["loss"] == pytest.approx(expected.item() / 4, rel=1e-5)


class Two(torch.nn.Module):
    """A model of whose two readings of a batch the first says one thing and the second another."""

    def __init__(self, n_tokens=11):
        super().__init__()
        self.seen = None
        self.sayings = torch.nn.Parameter(torch.randn(2, n_tokens, dtype=torch.float64))

    def forward(self, src, lengths, tgt):
        self.seen = src, lengths, tgt
        rows = self.sayings.repeat_interleave(len(tgt) // 2, dim=0)
        return rows[:, None].expand(-1, tgt.shape[1], -1)


def test_with_consistency_a_sentence_is_read_twice_and_both_have_to_agree():
    model, pairs = Two(), [([4, 5], [6, 7, 8]), ([9], [10])]
    task = Translation(pairs, pairs, smoothing=0.0, consistency=3.0)
    (batch,) = task.epoch(0)
    total, count = task.loss(model, batch)
    for seen, rows in zip(model.seen, batch, strict=False):
        assert torch.equal(seen, torch.cat([rows, rows]))
    log_p, log_q = model.sayings.detach().log_softmax(-1)
    labels = torch.tensor([6, 7, 8, 2, 10, 2])
    apart = ((log_p.exp() * (log_p - log_q)).sum() + (log_q.exp() * (log_q - log_p)).sum()) / 2
    expected = -(log_p[labels].sum() + log_q[labels].sum()) / 2 + 3.0 / 2 * len(labels) * apart
    assert (total.item(), count) == (pytest.approx(expected.item()), len(labels))


def test_without_dropout_consistency_asks_for_nothing():
    words = words_of(SPLITS["train"], None)
    model = new_translator(QUICK, words, seed=0).double()
    numbers = [(words[0].encode(pair.src), words[1].encode(pair.tgt)) for pair in SPLITS["dev"]]
    found = []
    for consistency in (0.0, 5.0):
        task = Translation(numbers, numbers, smoothing=0.1, consistency=consistency)
        (batch,) = task.epoch(0)
        found.append(task.loss(model, batch)[0].item())
    assert found[0] == pytest.approx(found[1], rel=1e-12)


def test_a_batch_holds_the_rows_of_its_sentences_and_no_column_more():
    pairs = [([4] * (i % 5), [5] * (i % 7)) for i in range(40)]  # empty sentences among them
    generators = [np.random.default_rng(3) for _ in range(2)]
    chosen = list(bucketed([(len(a), len(b)) for a, b in pairs], n_tokens=20, rng=generators[0]))
    batches = Corpus(pairs).batches(20, generators[1])
    assert len(batches) == len(chosen) > 3
    for batch, rows in zip(batches, chosen, strict=True):
        expected = collate([pairs[i] for i in rows])
        arrays = expected.src, expected.src_lengths, expected.tgt, expected.labels
        assert all(np.array_equal(found, array) for found, array in zip(batch, arrays, strict=True))


def test_epochs_differ_and_each_comes_back_the_same():
    pairs = [([i], [i]) for i in range(4, 50)]
    task = Translation(pairs, pairs, n_tokens=10, seed=3)
    firsts = [[batch[0].tolist() for batch in task.epoch(number)] for number in (0, 1, 0)]
    assert firsts[0] == firsts[2] != firsts[1]
    assert [batch[0].tolist() for batch in Translation(pairs, pairs, n_tokens=10, seed=4).epoch(0)] != firsts[0]


def test_a_model_that_learns_translates_and_looks_where_the_words_come_from():
    recipe = replace(QUICK, n_tokens=200, plan=replace(QUICK.plan, n_steps=250, n_warmup=20, validate_every=250))
    trained = learn(recipe, SPLITS)
    assert evaluate.exact_match(trained, SPLITS["dev"]) > 80
    assert trained.history.rows[-1]["loss"] < 0.5
    written = evaluate.translations(trained, [pair.src for pair in SPLITS["dev"]], width=3, batch=5)
    right = sum(tuple(one) == pair.tgt for one, pair in zip(written, SPLITS["dev"], strict=True))
    assert right > 0.8 * len(written)
    reading = evaluate.best_reading(trained, SPLITS["dev"])
    others = [evaluate.alignment_error(trained, SPLITS["dev"], evaluate.Reading(0, head)) for head in (None, 0, 1)]
    assert evaluate.alignment_error(trained, SPLITS["dev"], reading) == min(others)


def test_a_folder_holds_all_that_translating_needs(tmp_path):
    trained = learn(QUICK, SPLITS, folder=tmp_path, about={"data": "letters"})
    names = {path.name for path in tmp_path.iterdir()}
    assert {"words.json", "history.jsonl", "last.ckpt", "translator.safetensors"} <= names
    again = load(tmp_path)
    assert again.words == trained.words
    assert again.about["data"] == "letters"
    assert again.about["dev"]["averaged"] in (1, 2)
    sentences = [pair.src for pair in SPLITS["dev"]]
    assert evaluate.translations(again, sentences) == evaluate.translations(trained, sentences)


def test_the_better_of_the_average_and_the_last_weights_is_kept(tmp_path):
    trained = learn(QUICK, SPLITS, folder=tmp_path)
    task = Translation(
        [], [(trained.words[0].encode(p.src), trained.words[1].encode(p.tgt)) for p in SPLITS["dev"]], n_tokens=60
    )
    with torch.no_grad():
        loss = task.validate(trained.model)["loss"]
    assert loss == pytest.approx(trained.about["dev"]["loss"], rel=1e-5)
    assert loss <= trained.history.rows[-1]["loss"] + 1e-6


def test_subwords_are_one_vocabulary_for_both_languages_and_shared_in_the_model(tmp_path):
    trained = learn(replace(QUICK, n_subwords=15), SPLITS, folder=tmp_path)
    assert trained.words[0] is trained.words[1]
    assert trained.model.config.shared
    again = load(tmp_path)
    assert again.words[0] is again.words[1]
    assert again.words[0].as_json() == trained.words[0].as_json()


def test_a_folder_of_another_configuration_is_refused(tmp_path):
    learn(QUICK, SPLITS, folder=tmp_path)
    other = replace(QUICK, sizes={**SIZES, "d_ff": 17})
    with pytest.raises(Unreadable, match=r"model\.d_ff is 16 there, 17 here"):
        learn(other, SPLITS, folder=tmp_path)


def test_the_recipes_fit_the_grammar_and_text_has_at_most_three_million_weights():
    words = words_of(corpus("grammar")["train"], None)
    glass_box = new_translator(RECIPES["glass-box"], words, seed=0)
    assert [layer.cross_attention.n_heads for layer in glass_box.decoder] == [1]
    for name in ("text", "text-twice", "text-tiny", "text-long"):
        shared = range(RECIPES[name].n_subwords)
        model = new_translator(RECIPES[name], (shared, shared), seed=0)
        assert sum(parameter.numel() for parameter in model.parameters()) <= 3_000_000


def test_bleu_has_a_signature_and_is_that_of_whole_words():
    wanted = [["ein", "hund", "läuft", "schnell", "."], ["zwei", "katzen", "schlafen", "."]]
    score, signature = evaluate.bleu(wanted, wanted)
    assert score == pytest.approx(100)
    assert "tok:none" in signature
    cut = [wanted[0][:4], wanted[1]]
    score, _ = evaluate.bleu(cut, wanted)
    assert score == pytest.approx(100 * math.exp(1 - 9 / 8))  # all n-grams match: the brevity penalty alone


def test_chrf_has_a_signature_and_is_the_f_score_of_runs_of_letters():
    """Of "abab" and "abac": runs of 1 to 4 letters match in 3, 2, 1, 0 of 4, 3, 2, 1; of both sides, so P = R = F."""
    score, signature = evaluate.chrf([["ab", "ab"]], [["ab", "ac"]])
    assert score == pytest.approx(100 * (3 / 4 + 2 / 3 + 1 / 2 + 0) / 4)
    assert "nc:6" in signature
    assert evaluate.chrf([["ab"]], [["ab"]])[0] == pytest.approx(100)


def test_the_length_penalty_is_chosen_by_what_it_scores(monkeypatch):
    trained = learn(replace(QUICK, plan=replace(QUICK.plan, n_steps=60, validate_every=60)), SPLITS)
    sources, wanted = [pair.src for pair in SPLITS["dev"]], [pair.tgt for pair in SPLITS["dev"]]
    monkeypatch.setattr(evaluate, "ALPHAS", (-3.0, 0.5, 3.0))
    written = {a: evaluate.translations(trained, sources, width=3, alpha=a) for a in evaluate.ALPHAS}
    lengths = [sum(map(len, rows)) for rows in written.values()]
    assert lengths[0] < lengths[1] < lengths[2]  # the stronger, the longer
    scores = {a: evaluate.bleu(rows, wanted)[0] for a, rows in written.items()}
    alpha, score = evaluate.best_alpha(trained, SPLITS["dev"], width=3)
    assert score == pytest.approx(max(scores.values()))
    assert scores[alpha] == pytest.approx(score)


# The command


def test_the_command_trains_in_a_folder_and_says_where_the_translator_lies(tmp_path, capsys):
    folder = tmp_path / "run"
    assert main(["train", "translation", "--steps", "2", "--folder", str(folder)]) == 0
    shown = capsys.readouterr()
    assert "2 steps in" in shown.out
    assert str(folder / "translator.safetensors") in shown.out
    assert json.loads((folder / "history.jsonl").read_text())["step"] == 2
    assert load(folder).about["data"] == "grammar"


def test_the_command_says_in_a_line_what_can_not_be_done(tmp_path, capsys):
    assert main(["train", "translation", "--data", str(tmp_path), "--folder", str(tmp_path / "run")]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("crossattn train: ")
    assert "must hold train.en and train.de" in line
    assert main(["train", "translation", "--steps", "0"]) == 2
    assert "n_steps must be at least 1" in capsys.readouterr().err


def test_the_command_ends_after_the_minutes_that_it_was_given(tmp_path, capsys):
    assert main(["train", "translation", "--minutes", "0", "--folder", str(tmp_path)]) == 0
    assert "1 steps in" in capsys.readouterr().out


def test_runs_of_several_recipes_have_folders_of_their_own_and_every_recipe_can_be_asked_for(capsys):
    text = {"data": "multi30k", "src": "en", "tgt": "de"}
    assert str(command._folder(text | {"recipe": "text"}, 3)) == "runs/multi30k-en-de-seed3"
    assert str(command._folder(text | {"recipe": "text-tiny"}, 3)) == "runs/multi30k-en-de-text-tiny-seed3"
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    shown = capsys.readouterr().out
    assert all(recipe in shown for recipe in RECIPES)


def test_the_help_gives_examples(capsys):
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    assert "crossattn train translation --data multi30k" in capsys.readouterr().out
