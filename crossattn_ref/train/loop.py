"""The loop: batches in, a loss down, and everything written so that it can stop and go on at any step.

It knows no sentence and no image: a Task gives the batches, the loss of one, and the measure of success.
"""

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from crossattn_ref.files import write_whole
from crossattn_ref.models import stored
from crossattn_ref.train import checkpoint
from crossattn_ref.train.history import History
from crossattn_ref.train.interrupt import asked_to_stop
from crossattn_ref.train.schedule import SCHEDULES


class Task(Protocol):
    """What is learnt."""

    def epoch(self, number: int) -> Sequence[Any]:
        """Return the batches of an epoch in their order, the same whenever it is asked for the same number."""

    def loss(self, model: nn.Module, batch: Any) -> tuple[Tensor, int]:
        """Return the loss of a batch, summed over all that is predicted, and how much that is."""

    def validate(self, model: nn.Module) -> Mapping[str, float]:
        """Measure success by name, on what is kept for that; the model is in eval mode, without gradients."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How to learn: plain values only, so that a checkpoint can hold them.

    A step is one update, from n_accumulated batches. peak_rate is Adam's, at the end of n_warmup steps; clip_norm
    bounds the norm of the gradient. Every validate_every steps success is measured and the weights are kept, of the
    last n_kept times. With patience, training ends when watch has not been better for so many times;
    lower_is_better says which way. Where minutes are over before n_steps are done, training ends all the same, after
    one more validation, and the schedule follows the time so that it reaches its end. save_every is in seconds.
    bfloat16 None means on a GPU; True may also pay on a CPU that has instructions for it.

    Raises ValueError for an unknown schedule, and for a count below 1.
    """

    n_steps: int = 2000
    peak_rate: float = 3e-3
    schedule: Literal["inverse-square-root", "linear"] = "inverse-square-root"
    n_warmup: int = 200
    betas: tuple[float, float] = (0.9, 0.98)
    clip_norm: float = 1.0
    n_accumulated: int = 1
    validate_every: int = 500
    patience: int | None = None
    watch: str = "loss"
    lower_is_better: bool = True
    minutes: float | None = None
    n_kept: int = 5
    save_every: float = 60.0
    bfloat16: bool | None = None
    seed: int = 0

    def __post_init__(self):
        """Check what the loop rests on."""
        if self.schedule not in SCHEDULES:
            raise ValueError(f"schedule must be one of {', '.join(SCHEDULES)}, got {self.schedule!r}")
        for name in ("n_steps", "n_accumulated", "validate_every", "n_kept"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")


class NotFinite(ArithmeticError):
    """The loss became NaN or inf; the message names the step and the batch."""


def train(
    model: nn.Module,
    task: Task,
    plan: Plan,
    *,
    folder: Path | None = None,
    about: Mapping | None = None,
    show: Callable[[History, Plan], object] = lambda *_: None,
) -> History:
    """Train a model in place; its history tells what happened and why it ended.

    It ends after its "steps", with no "patience" or no "minutes" left, or is "interrupted".

    With a folder, the run can be stopped (Ctrl-C, SIGTERM) and started again with the same arguments: it goes on where
    it was, on a CPU bit for bit. about says what is trained and on what; a folder of another run is refused. The folder
    holds last.ckpt, history.jsonl, and weights-<step>.safetensors of the last n_kept validations.
    show is called after every step, for instance with progress.Bar().

    Raises NotFinite where the loss is not finite, and stored.Unreadable for a folder of another or a damaged run.
    """
    about = {"about": dict(about or {}), "plan": asdict(plan)}
    with torch.random.fork_rng(), asked_to_stop() as stop:
        torch.manual_seed(plan.seed)
        run = _Run(model.train(), task, plan, folder and Path(folder), about)
        show(run.history, plan)
        while run.history.ended is None:
            run.step()
            if stop() and run.history.ended is None:
                run.history.ended = "interrupted"
            run.save_if_due()
            show(run.history, plan)
    return run.history


class _Run:
    """The state of a run: a model, its optimizer, the place in the data, and the history."""

    def __init__(self, model, task, plan, folder, about):
        self.model, self.task, self.plan, self.folder, self.about = model, task, plan, folder, about
        self.device = next(model.parameters()).device
        self.parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.Adam(self.parameters, lr=0.0, betas=plan.betas, eps=1e-9, fused=True)
        self.history = History()
        self.epoch = self.place = 0
        self.started = self.saved = time.perf_counter()
        self.seconds_before = 0.0
        if folder and (folder / "last.ckpt").exists():
            self.restore(checkpoint.read(folder / "last.ckpt", about))
        self.batches = self.from_here()

    def from_here(self) -> Iterator:
        """Give the batches from the present place on, epoch after epoch, keeping the place."""
        while True:
            batches = self.task.epoch(self.epoch)
            if not batches:
                raise ValueError("an epoch must have at least one batch, got none")
            while self.place < len(batches):
                self.place += 1
                yield batches[self.place - 1]
            self.epoch, self.place = self.epoch + 1, 0

    def step(self):
        """Do one update, and what is due after it."""
        history, plan = self.history, self.plan
        history.step += 1
        total, count = self.gradients()
        torch._foreach_div_([p.grad for p in self.parameters if p.grad is not None], count)
        nn.utils.clip_grad_norm_(self.parameters, plan.clip_norm)
        rate = self.rate()
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.optimizer.zero_grad()
        history.add(total, count, rate)
        history.seconds = self.seconds_before + time.perf_counter() - self.started
        last = self.is_last()
        if history.step % plan.validate_every == 0 or last:
            self.validate()
        history.ended = history.ended or last

    def rate(self):
        """Return Adam's rate where the run stands: in its steps or in its minutes, whichever is further."""
        plan, place = self.plan, self.history.step
        if plan.minutes:
            passed = min(self.history.seconds / (60 * plan.minutes), 1.0)
            place = max(place, round(plan.n_steps * passed))
        return plan.peak_rate * SCHEDULES[plan.schedule](place, n_warmup=plan.n_warmup, n_steps=plan.n_steps)

    def is_last(self):
        """Tell why no step should follow, None where one should."""
        if self.history.step >= self.plan.n_steps:
            return "steps"
        over = self.plan.minutes is not None and self.history.seconds >= 60 * self.plan.minutes
        return "minutes" if over else None

    def gradients(self):
        """Add up the gradients of the batches of one update -> (their loss, how much they predict)."""
        total = count = 0
        for _ in range(self.plan.n_accumulated):
            batch = next(self.batches)
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.in_bfloat16()):
                loss, n = self.task.loss(self.model, batch)
            value = loss.item()
            if not math.isfinite(value):
                place = f"batch {self.place} of epoch {self.epoch + 1}"
                raise NotFinite(f"the loss is {value} at step {self.history.step}, {place}: try a lower peak_rate")
            loss.backward()
            total, count = total + value, count + n
        return total, max(count, 1)

    def in_bfloat16(self):
        """Tell whether products are computed in bfloat16."""
        return self.device.type == "cuda" if self.plan.bfloat16 is None else self.plan.bfloat16

    def validate(self):
        """Measure success, keep the weights, and end where it has not grown for long."""
        self.model.eval()
        with torch.no_grad():
            self.history.validated(self.task.validate(self.model))
        self.model.train()
        if self.folder:
            self.keep_weights()
        since = self.history.validations_since_best(self.plan.watch, lower_is_better=self.plan.lower_is_better)
        if self.plan.patience is not None and since >= self.plan.patience:
            self.history.ended = "patience"

    def keep_weights(self):
        """Write the weights of now, and remove those that are no longer kept."""
        about = {**self.about, "step": self.history.step, "validation": self.history.rows[-1]}
        stored.write(self.model, self.folder / f"weights-{self.history.step:06d}.safetensors", about)
        for path in sorted(self.folder.glob("weights-*.safetensors"))[: -self.plan.n_kept]:
            path.unlink()

    def save_if_due(self):
        """Write the whole state, at the end and from time to time."""
        now = time.perf_counter()
        due = self.history.ended or now - self.saved >= self.plan.save_every
        if self.folder and due:
            self.saved = now
            checkpoint.write(self.folder / "last.ckpt", self.state(), self.about)
            lines = "".join(json.dumps(row) + "\n" for row in self.history.rows)
            write_whole(self.folder / "history.jsonl", lines)

    def state(self):
        """Return all it takes to go on."""
        return {
            "model": stored.weights_of(self.model),
            "optimizer": self.optimizer.state_dict(),
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None,
            "place": (self.epoch, self.place),
            "history": self.history.as_dict(),
        }

    def restore(self, state):
        """Go back to where a state was returned; an interruption is over, an end stays an end."""
        stored.load(self.model, state["model"], source="the weights of the checkpoint")
        self.optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["random"])
        if state["random_cuda"] is not None and self.device.type == "cuda":
            torch.cuda.set_rng_state(state["random_cuda"], self.device)
        self.epoch, self.place = state["place"]
        self.history = History(**state["history"])
        self.seconds_before = self.history.seconds
        if self.history.ended == "interrupted":
            self.history.ended = None
