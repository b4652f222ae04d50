"""What training shows of a bug: each of bench.bugs planted in a small translator, trained, and asked to write.

The task is data.digits. A run trains a new model, and then takes four numbers of sentences that it has not seen:
how many tokens it predicts right when it is given all that come before (teacher forcing), how many sentences it writes
right by itself, how many it writes alike when their sources get ten more places of padding, and in how many the
prediction of a token moves when that token is another one: there the model was shown its answer.

A run takes some ten seconds on one core. Each is kept under _build until the code changes, so that a measurement
that was interrupted goes on where it stopped.

Letters: B sentences, N positions.
"""

import dataclasses
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from crossattn_ref import records
from crossattn_ref.bench.bugs import BUGS, Bug, Setup
from crossattn_ref.bench.measure import Measurement
from crossattn_ref.data import digits
from crossattn_ref.data.vocabulary import BOS, EOS, PAD, SPECIAL
from crossattn_ref.files import write_whole
from crossattn_ref.models.translation import Translator, TranslatorConfig

PACKAGES = ("torch",)
SEEDS = (0, 1, 2)
STEPS, BATCH, RATE, HELD_OUT = 500, 64, 1e-2, 256
RIGHT = Bug("right", "none: the model as it should be", lambda _: None)


@dataclass(frozen=True)
class Outcome:
    """What one run showed; percentages, but for the loss. raised is what stopped the decoding, or empty."""

    train_loss: float
    teacher_forced: float
    exact_match: float
    same_with_padding: float
    sees_answer: float
    raised: str = ""


def hardware() -> dict[str, int]:
    """Say nothing more: no figure here depends on the machine's speed."""
    return {}


def measure(
    *,
    bugs: Sequence[Bug] = (RIGHT, *BUGS),
    seeds: Sequence[int] = SEEDS,
    steps: int = STEPS,
    folder: Path | None = None,
) -> Iterator[Measurement]:
    """Run every bug with every seed, or take what lies in folder (by default under _build) from the same code."""
    code = records.code_of(records.files_of(__name__))
    folder = records.ROOT / "_build" / "planted-bugs" / f"{code[:12]}-{steps}" if folder is None else folder
    for bug in bugs:
        found = [_kept(bug, seed, steps, folder) for seed in seeds]
        more = {"bug": bug.words, "raised": next((outcome.raised for outcome in found if outcome.raised), "")}
        for metric, unit in (
            ("train_loss", "nats a token"),
            ("teacher_forced", "%"),
            ("exact_match", "%"),
            ("same_with_padding", "%"),
            ("sees_answer", "%"),
        ):
            samples = [getattr(outcome, metric) for outcome in found]
            yield Measurement(case=bug.name, metric=metric, unit=unit, samples=samples, seeds=list(seeds), more=more)


def run(bug: Bug, seed: int, *, steps: int = STEPS) -> Outcome:
    """Plant a bug, train for some steps, and look."""
    setup = planted(bug, seed)
    loss = train(setup, np.random.default_rng(seed), steps)
    src, lengths, tgt = _tensors(digits.batch(np.random.default_rng(1000 + seed), HELD_OUT))
    setup.model.eval()
    with torch.no_grad():
        forced = _teacher_forced(setup, src, lengths, tgt)
        shown = _sees_answer(setup, src, lengths, tgt)
        try:
            written = greedy(setup.model, src, lengths)
            padded = greedy(setup.model, functional.pad(src, (0, 10), value=PAD), lengths)
        except (ValueError, RuntimeError) as error:
            return Outcome(loss, forced, 0.0, 0.0, shown, f"{type(error).__name__}: {error}")
    right = [row == _until_the_end(answer[1:]) for row, answer in zip(written, tgt, strict=True)]
    alike = [row == other for row, other in zip(written, padded, strict=True)]
    return Outcome(loss, forced, 100 * float(np.mean(right)), 100 * float(np.mean(alike)), shown)


def planted(bug: Bug, seed: int) -> Setup:
    """Build a model, one layer each of encoder and decoder, and plant a bug in it."""
    torch.manual_seed(seed)
    config = TranslatorConfig(
        n_src_tokens=digits.N_TOKENS,
        n_tgt_tokens=digits.N_TOKENS,
        n_encoder_layers=1,
        n_decoder_layers=1,
        dropout=0.0,
    )
    setup = Setup(Translator(config))
    bug.plant(setup)
    return setup


def train(setup: Setup, rng: np.random.Generator, steps: int) -> float:
    """Train for some steps, each on fresh sentences, the rate up and down -> the mean loss of the last twenty."""
    optimizer = torch.optim.Adam(setup.model.parameters(), lr=RATE, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps, pct_start=0.15)
    losses = []
    for _ in range(steps):
        src, lengths, tgt = _tensors(digits.batch(rng, BATCH))
        inputs, labels = _inputs_and_labels(setup, tgt)
        logits = setup.model(src, lengths, inputs)
        loss = functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=setup.uncounted)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(float(loss.detach()))
    return float(np.mean(losses[-20:]))


def greedy(model: Translator, src: Tensor, lengths: Tensor) -> list[list[int]]:
    """Write the likeliest token again and again, each time from all that was written: rows of tokens up to EOS."""
    memory = model.encode(src, lengths)
    written = torch.full((len(src), 1), BOS)
    for _ in range(digits.WIDTH):
        newest = model.decode(written, memory, lengths)[:, -1].argmax(dim=-1, keepdim=True)
        written = torch.cat([written, newest], dim=1)
    return [_until_the_end(row[1:]) for row in written]


def _until_the_end(row):
    tokens = row.tolist()
    return tokens[: tokens.index(EOS)] if EOS in tokens else tokens


def _teacher_forced(setup, src, lengths, tgt):
    inputs, labels = _inputs_and_labels(setup, tgt)
    right = setup.model(src, lengths, inputs).argmax(dim=-1) == labels
    return 100 * float(right[labels != setup.uncounted].double().mean())


def _sees_answer(setup, src, lengths, tgt):
    """Change a digit in the middle of each target, and those behind it: does the prediction of that digit move?"""
    rows, middle = torch.arange(len(tgt)), (tgt != PAD).sum(dim=1) // 2
    behind = (torch.arange(tgt.shape[1]) >= middle[:, None]) & (tgt >= len(SPECIAL))
    other = torch.where(behind, (tgt - len(SPECIAL) + 7) % 10 + len(SPECIAL), tgt)  # each digit becomes another
    predictions = []
    for target in (tgt, other):
        torch.manual_seed(0)  # where dropout was left on, it drops the same twice
        logits = setup.model(src, lengths, _inputs_and_labels(setup, target)[0])
        predictions.append(logits[rows, middle - setup.shift])
    moved = (predictions[1] - predictions[0]).abs().amax(dim=-1) > 1e-4
    return 100 * float(moved.double().mean())


def _inputs_and_labels(setup, tgt):
    return tgt[:, :-1], tgt[:, setup.shift : tgt.shape[1] - 1 + setup.shift]


def _tensors(arrays):
    return [torch.from_numpy(array) for array in arrays]


def _kept(bug, seed, steps, folder):
    path = folder / f"{bug.name}-{seed}.json"
    if not path.exists():
        outcome = run(bug, seed, steps=steps)
        write_whole(path, json.dumps(dataclasses.asdict(outcome)))
    return Outcome(**json.loads(path.read_text("utf-8")))
