"""The suite planted-bugs: each bug changes what it says, the right model has none, and a measurement can go on."""

import numpy as np
import pytest
import torch

from crossattn_ref.bench import planted_bugs
from crossattn_ref.bench.bugs import BUGS
from crossattn_ref.bench.planted_bugs import RIGHT, Outcome, greedy, measure, planted, train
from crossattn_ref.data import digits

NAMED = {bug.name: bug for bug in BUGS}
SEES_ITS_ANSWER = {
    "softmax-over-queries", "cross-softmax-over-queries", "double-softmax", "fill-0", "fill-typo", "mask-after-softmax",
    "no-causal-mask", "causal-off-by-one", "heads-viewed", "heads-merged-untransposed", "labels-not-shifted",
}  # fmt: skip
SEES_SOME = {"own-keys-and-values", "own-values"}
ONLY_IN_TRAINING = {"memory-detached", "padding-counted", "dropout-in-use", "labels-not-shifted"}


def batch(n=7, seed=5):
    return [torch.from_numpy(array) for array in digits.batch(np.random.default_rng(seed), n)]


def logits(setup):
    src, lengths, tgt = batch()
    return setup.model.eval()(src, lengths, tgt[:, :-1])


def test_there_are_34_bugs_with_names_and_words_of_their_own():
    assert len(BUGS) == len({bug.name for bug in BUGS}) == len({bug.words for bug in BUGS}) == 34


@pytest.mark.parametrize("bug", [bug for bug in BUGS if bug.name not in ONLY_IN_TRAINING], ids=lambda bug: bug.name)
def test_a_bug_changes_what_a_fresh_model_says(bug):
    difference = (logits(planted(bug, 0)) - logits(planted(RIGHT, 0))).abs().max()
    assert difference > 1e-4


@pytest.mark.parametrize("bug", [RIGHT, *BUGS], ids=lambda bug: bug.name)
def test_which_bugs_show_a_fresh_model_its_answer(bug):
    with torch.no_grad():
        setup = planted(bug, 0)
        seen = planted_bugs._sees_answer(setup, *batch(n=50))
    if bug.name in SEES_SOME:
        assert 20 < seen < 100  # those whose answer does not stand beyond the length of the source
    else:
        assert seen == (100.0 if bug.name in SEES_ITS_ANSWER else 0.0)


def test_a_detached_memory_gives_the_encoder_no_gradient():
    setup = planted(NAMED["memory-detached"], 0)
    src, lengths, tgt = batch()
    setup.model(src, lengths, tgt[:, :-1]).sum().backward()
    assert all(parameter.grad is None for parameter in setup.model.encoder.parameters())
    assert setup.model.decoder[0].cross_attention.k_proj.weight.grad is not None


def test_dropout_is_on_in_use_and_off_in_the_right_model():
    forgetful, right = planted(NAMED["dropout-in-use"], 0), planted(RIGHT, 0)
    assert (logits(forgetful) - logits(forgetful)).abs().max() > 0
    assert (logits(right) - logits(right)).abs().max() == 0


def test_what_counts_and_where_labels_lie():
    assert (planted(RIGHT, 0).shift, planted(RIGHT, 0).uncounted) == (1, 0)
    assert planted(NAMED["labels-not-shifted"], 0).shift == 0
    assert planted(NAMED["padding-counted"], 0).uncounted == -100
    tgt = torch.tensor([[1, 5, 6, 2]])
    shifted = planted_bugs._inputs_and_labels(planted(RIGHT, 0), tgt)
    unshifted = planted_bugs._inputs_and_labels(planted(NAMED["labels-not-shifted"], 0), tgt)
    assert [part.tolist() for part in shifted] == [[[1, 5, 6]], [[5, 6, 2]]]
    assert [part.tolist() for part in unshifted] == [[[1, 5, 6]], [[1, 5, 6]]]


def test_a_bug_of_one_model_leaves_the_next_model_right():
    before = logits(planted(RIGHT, 0))
    for bug in BUGS:
        planted(bug, 0)
    torch.testing.assert_close(logits(planted(RIGHT, 0)), before, rtol=0, atol=0)


@pytest.mark.usefixtures("shapes_unchecked")
def test_values_of_ones_own_do_not_fit_as_soon_as_one_writes():
    src, lengths, _ = batch()
    for name in ("own-values", "own-keys-and-values"):
        with torch.no_grad(), pytest.raises(ValueError, match=r"mask must|k and v must"):
            greedy(planted(NAMED[name], 0).model, src, lengths)


def test_writing_stops_at_the_end_mark_and_equals_step_by_step_decoding():
    model = planted(RIGHT, 0).model.eval()
    src, lengths, _ = batch()
    with torch.no_grad():
        written = greedy(model, src, lengths)
        state, tokens, rows = model.start(model.encode(src, lengths), lengths), torch.ones(7, dtype=torch.long), []
        for _ in range(digits.WIDTH):
            scores, state = model.step(tokens, state)
            tokens = scores.argmax(dim=-1)
            rows.append(tokens.tolist())
    stepped = [list(row) for row in zip(*rows, strict=True)]
    assert written == [row[: row.index(2)] if 2 in row else row for row in stepped]


def test_training_lowers_the_loss_and_the_same_seed_gives_the_same():
    losses = [train(planted(RIGHT, 0), np.random.default_rng(0), steps) for steps in (3, 40, 40)]
    assert losses[1] < 0.8 * losses[0]
    assert losses[1] == losses[2]


def test_a_measurement_goes_on_where_it_was_interrupted(tmp_path, monkeypatch):
    calls = []

    def run(bug, seed, *, steps):
        calls.append((bug.name, seed))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return Outcome(0.5, 99.0, float(seed), 100.0, 0.0, "ValueError: no" if seed else "")

    monkeypatch.setattr(planted_bugs, "run", run)
    with pytest.raises(KeyboardInterrupt):
        list(measure(bugs=BUGS[:2], seeds=(0, 1), steps=3, folder=tmp_path))
    found = list(measure(bugs=BUGS[:2], seeds=(0, 1), steps=3, folder=tmp_path))
    again = ("root-of-model-width", 0)
    assert calls == [("no-root", 0), ("no-root", 1), again, again, ("root-of-model-width", 1)]
    assert [m.metric for m in found] == [
        "train_loss", "teacher_forced", "exact_match", "same_with_padding", "sees_answer",
    ] * 2  # fmt: skip
    assert found[2].samples == [0.0, 1.0]
    assert found[2].more == {"bug": "scores not divided at all", "raised": "ValueError: no"}


@pytest.mark.usefixtures("shapes_unchecked")
def test_a_short_run_of_the_whole_measurement():
    outcome = planted_bugs.run(NAMED["no-causal-mask"], 0, steps=2)
    assert outcome.sees_answer == 100.0
    assert 0 <= outcome.exact_match <= outcome.teacher_forced <= 100
    assert outcome.raised == ""
    assert planted_bugs.run(NAMED["own-values"], 0, steps=2).raised.startswith("ValueError: k and v")
