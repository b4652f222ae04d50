"""The loop: one step by hand, resuming bit for bit, interruptions, accumulation, what is kept, errors."""

import itertools
import json
import math
import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest
import torch
from torch import nn

from crossattn_ref.models import stored
from crossattn_ref.train.loop import NotFinite, Plan, train


class Lines:
    """A task: fit y = x W with noise from dropout; five batches of differing sizes an epoch."""

    def __init__(self, *, after=lambda _: None, spoilt=None):
        self.after, self.spoilt, self.losses = after, spoilt, 0

    def epoch(self, number):
        generator = torch.Generator().manual_seed(100 + number)
        sizes = [3, 5, 7, 2, 11]
        return [torch.randn(n, 6, generator=generator, dtype=torch.float64) for n in sizes]

    def loss(self, model, batch):
        self.losses += 1
        self.after(self.losses)
        total = (model(batch) - batch[:, :2].sin()).square().sum()
        return (total * math.nan if self.losses == self.spoilt else total), 2 * len(batch)

    def validate(self, model):
        return {"error": self.loss(model, self.epoch(999)[0])[0].item(), "weight": model[0].weight.norm().item()}


class Still(Lines):
    """The same task, not validated."""

    def validate(self, model):
        return {"error": 0.0}


def model(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 13), nn.Dropout(0.3), nn.ReLU(), nn.Linear(13, 2)).double()


def plan(**options):
    return Plan(**({"n_steps": 23, "n_warmup": 5, "validate_every": 4, "watch": "error", "save_every": 0.0} | options))


def figures(history):
    return [{name: value for name, value in row.items() if name != "seconds"} for row in history.rows]


def weights(module):
    return {name: weight.clone() for name, weight in module.state_dict().items()}


def assert_equal(one, other):
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


# By hand


def test_the_first_step_is_adams_on_the_mean_over_what_is_predicted():
    """After bias correction Adam's first step is the rate times the sign of the gradient."""
    module = nn.Linear(6, 2).double()
    before = weights(module)
    task = Lines()
    batch = task.epoch(0)[0]
    task.loss(module, batch)[0].backward()
    expected = before["weight"] - 0.1 * module.weight.grad.sign()
    module.zero_grad()
    task.validate = lambda _: {"error": 0.0}
    history = train(module, task, plan(n_steps=1, n_warmup=1, peak_rate=0.1))
    torch.testing.assert_close(module.weight, expected, rtol=0, atol=1e-6)
    assert history.ended == "steps"
    module.load_state_dict(before)
    loss, count = task.loss(module, batch)
    assert history.rows[0]["train_loss"] == pytest.approx(loss.item() / count)


def test_the_norm_of_the_gradient_is_that_of_the_mean_and_is_bounded():
    seen = {}
    optimizer = torch.optim.Adam.step

    def step(self, *arguments):
        gradients = [p.grad for group in self.param_groups for p in group["params"]]
        seen.setdefault("norm", torch.cat([g.flatten() for g in gradients]).norm().item())
        return optimizer(self, *arguments)

    for clip in (1e9, 1e-3):
        module, task = model(), Lines()
        module[1].p = 0.0
        loss, count = task.loss(module, task.epoch(0)[0])
        (loss / count).backward()
        norm = torch.cat([p.grad.flatten() for p in module.parameters()]).norm().item()
        module.zero_grad()
        seen.clear()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch.optim.Adam, "step", step)
            train(module, task, plan(n_steps=1, clip_norm=clip))
        assert seen["norm"] == pytest.approx(min(norm, clip), rel=1e-3)


def test_batches_that_are_accumulated_weigh_as_one_large_batch():
    class Whole(Lines):
        def epoch(self, number):
            return [torch.cat(super().epoch(number))]

    modules = model(), model()
    for module, task, n in zip(modules, (Lines(), Whole()), (5, 1), strict=True):
        module[1].p = 0.0
        train(module, task, plan(n_steps=3, n_accumulated=n))
    for one, other in zip(*(weights(module).values() for module in modules), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-9)


def test_training_learns_and_leaves_the_random_numbers_of_others_alone():
    module = model()
    module[1].p = 0.0
    torch.manual_seed(5)
    expected = torch.randn(3)
    torch.manual_seed(5)
    history = train(module, Lines(), plan(n_steps=200, validate_every=10, peak_rate=0.03))
    assert torch.equal(torch.randn(3), expected)
    assert history.rows[-1]["train_loss"] < 0.5 * history.rows[0]["train_loss"]
    assert module.training


def test_when_the_minutes_are_over_a_last_validation_is_made_and_kept(tmp_path):
    history = train(model(), Lines(), plan(minutes=0.0), folder=tmp_path)
    assert (history.ended, history.step, len(history.rows)) == ("minutes", 1, 1)
    assert (tmp_path / "weights-000001.safetensors").exists()
    again = train(model(), Lines(), plan(minutes=0.0), folder=tmp_path)
    assert again == history  # an end stays an end
    assert train(model(), Lines(), plan(minutes=60.0)).ended == "steps"


def test_the_schedule_reaches_its_end_when_the_minutes_do(monkeypatch):
    """A clock on which each look takes a second: after 60 of them the minute is over, and so is the schedule."""
    looks = itertools.count()
    monkeypatch.setattr(time, "perf_counter", lambda: float(next(looks)))
    options = {"n_steps": 500, "n_warmup": 100, "schedule": "linear", "validate_every": 1, "peak_rate": 1.0}
    rates = train(nn.Linear(6, 2).double(), Still(), plan(minutes=1.0, **options)).column("rate")
    assert len(rates) < 60
    assert rates.argmax() == pytest.approx(len(rates) / 5, abs=2)
    assert rates[-1] < 0.1
    assert train(nn.Linear(6, 2).double(), Still(), plan(minutes=1e9, **options)).column("rate")[99] == 1.0


def test_every_validation_is_in_eval_mode_without_gradients():
    module, seen = model(), []

    class Watching(Lines):
        def validate(self, module):
            seen.append((module.training, torch.is_grad_enabled()))
            return super().validate(module)

    history = train(module, Watching(), plan())
    assert seen == [(False, False)] * 6
    assert [row["step"] for row in history.rows] == [4, 8, 12, 16, 20, 23]


# Going on


@pytest.mark.parametrize("stop", [1, 6, 8, 13])
def test_a_run_that_was_stopped_and_went_on_is_the_run_that_was_not(tmp_path, stop):
    whole = model()
    expected = train(whole, Lines(), plan(n_accumulated=2), folder=tmp_path / "whole")

    def interrupt(n):
        if n == stop:
            os.kill(os.getpid(), signal.SIGTERM)

    first = train(model(), Lines(after=interrupt), plan(n_accumulated=2), folder=tmp_path / "cut")
    assert first.ended == "interrupted"
    assert first.step < expected.step
    again = model(seed=1)
    history = train(again, Lines(), plan(n_accumulated=2), folder=tmp_path / "cut")
    assert_equal(weights(again), weights(whole))
    assert figures(history) == figures(expected)
    assert history.seconds > first.seconds
    kept = [sorted(path.name for path in (tmp_path / name).iterdir()) for name in ("whole", "cut")]
    assert kept[0] == kept[1]
    for name in kept[0]:
        if name.startswith("weights"):
            assert_equal(*(stored.read(tmp_path / folder / name)[0] for folder in ("whole", "cut")))


def test_ctrl_c_finishes_the_step_saves_and_gives_the_signals_back(tmp_path):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    interrupt = lambda n: os.kill(os.getpid(), signal.SIGINT) if n == 3 else None  # noqa: E731 (one of many)
    history = train(model(), Lines(after=interrupt), plan(save_every=1e9), folder=tmp_path)
    assert (history.ended, history.step) == ("interrupted", 3)
    assert (tmp_path / "last.ckpt").exists()
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_a_second_ctrl_c_stops_at_once():
    def twice(n):
        if n == 2:
            signal.raise_signal(signal.SIGINT)  # not os.kill: two signals that wait for a busy thread become one
            signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # who starts tests in the background ignores it
    try:
        with pytest.raises(KeyboardInterrupt):
            train(model(), Lines(after=twice), plan())
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_run_that_was_killed_goes_on_from_its_last_checkpoint(tmp_path):
    """A process that dies without a chance to say so, in the middle of a step."""
    program = f"""
        import os, signal, sys
        sys.path[:0] = {[path for path in sys.path if path]!r}
        from tests.train.test_loop import Lines, model, plan, train
        die = lambda n: os.kill(os.getpid(), signal.SIGKILL) if n == 15 else None
        train(model(), Lines(after=die), plan(), folder={str(tmp_path)!r})
    """
    root = __file__.removesuffix("tests/train/test_loop.py")
    run = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], cwd=root, check=False)
    assert run.returncode == -signal.SIGKILL
    whole, again = model(), model(seed=1)
    expected = train(whole, Lines(), plan())
    assert figures(train(again, Lines(), plan(), folder=tmp_path)) == figures(expected)
    assert_equal(weights(again), weights(whole))


def test_a_finished_run_is_not_trained_again(tmp_path):
    first = model()
    expected = train(first, Lines(), plan(), folder=tmp_path)
    task, again = Lines(), model(seed=1)
    history = train(again, task, plan(), folder=tmp_path)
    assert task.losses == 0
    assert history == expected
    assert_equal(weights(again), weights(first))


def test_another_plan_or_another_subject_is_refused_with_the_difference(tmp_path):
    train(model(), Lines(), plan(), folder=tmp_path, about={"data": "lines", "sizes": {"d_model": 13}})
    for options, about, message in (
        ({"peak_rate": 0.5}, {"data": "lines", "sizes": {"d_model": 13}}, "plan.peak_rate is 0.003 there, 0.5 here"),
        ({}, {"data": "lines", "sizes": {"d_model": 17}}, "about.sizes.d_model is 13 there, 17 here"),
        ({}, {}, "about.data is lines there, None here"),
    ):
        with pytest.raises(stored.Unreadable, match=message):
            train(model(), Lines(), plan(**options), folder=tmp_path, about=about)


# What is kept


def test_the_last_weights_and_the_history_are_kept_in_files(tmp_path):
    module = model()
    history = train(module, Lines(), plan(n_kept=2), folder=tmp_path, about={"data": "lines"})
    assert sorted(path.name for path in tmp_path.glob("weights-*")) == [
        "weights-000020.safetensors",
        "weights-000023.safetensors",
    ]
    kept, about = stored.read(tmp_path / "weights-000023.safetensors")
    assert_equal(kept, weights(module))
    assert about["about"] == {"data": "lines"}
    assert about["step"] == 23
    assert about["validation"] == history.rows[-1]
    assert [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()] == history.rows


def test_a_history_has_columns_to_draw():
    history = train(model(), Lines(), plan())
    assert history.column("step").tolist() == [4, 8, 12, 16, 20, 23]
    assert history.column("error").shape == (6,)
    rates = history.column("rate")
    assert rates[0] == pytest.approx(3e-3 * 4 / 5)
    assert rates[1] == pytest.approx(3e-3 * (5 / 8) ** 0.5)


@pytest.mark.parametrize(("lower", "name"), [(True, "error"), (False, "score")])
def test_training_ends_when_success_has_not_grown_for_as_long_as_patience_says(lower, name):
    class Getting(Lines):
        values = iter([5, 4, 4, 6, 7, 1])

        def validate(self, model):
            value = next(self.values)
            return {name: value if lower else -value}

    history = train(model(), Getting(), plan(patience=3, watch=name, lower_is_better=lower))
    assert (history.ended, history.step) == ("patience", 20)


def test_what_is_shown_is_every_step_and_the_end(tmp_path):
    seen = []
    train(model(), Lines(), plan(), show=lambda history, plan: seen.append((history.step, history.ended, plan.n_steps)))
    assert seen == [(step, None, 23) for step in range(23)] + [(23, "steps", 23)]


# Errors


def test_a_loss_that_is_not_a_number_stops_with_step_and_batch_and_spoils_no_checkpoint(tmp_path):
    module = model()
    with pytest.raises(NotFinite, match=r"the loss is nan at step 7, batch 2 of epoch 2"):
        train(module, Lines(spoilt=7), plan(validate_every=100), folder=tmp_path)
    assert all(weight.isfinite().all() for weight in weights(module).values())
    again, whole = model(seed=1), model()
    expected = train(whole, Lines(), plan(validate_every=100))
    assert figures(train(again, Lines(), plan(validate_every=100), folder=tmp_path)) == figures(expected)


def test_no_batches_an_unknown_measure_and_a_name_taken_twice_are_refused():
    task = Lines()
    task.epoch = lambda number: []
    with pytest.raises(ValueError, match="an epoch must have at least one batch"):
        train(model(), task, plan())
    with pytest.raises(ValueError, match=r"watch must be a measure of the validation \(.*error.*\), got 'bleu'"):
        train(model(), Lines(), plan(watch="bleu"))
    task = Lines()
    task.validate = lambda model: {"step": 1.0}
    with pytest.raises(ValueError, match="a measure must have a name of its own, got step"):
        train(model(), task, plan())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"schedule": "cosine"}, "schedule must be one of inverse-square-root, linear, got 'cosine'"),
        ({"n_steps": 0}, "n_steps must be at least 1, got 0"),
        ({"n_kept": 0}, "n_kept must be at least 1, got 0"),
    ],
)
def test_a_plan_that_can_not_be_followed_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        plan(**options)
