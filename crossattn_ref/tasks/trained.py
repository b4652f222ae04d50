"""A model and what happened while it learnt: trained in a folder, and read from there."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from torch import nn

from crossattn_ref.models import stored
from crossattn_ref.tasks.provenance import trained_on
from crossattn_ref.train.history import History
from crossattn_ref.train.loop import Plan, Task, train


@dataclass(frozen=True)
class Trained:
    """A model, and what happened while it learnt; about says how it was made."""

    model: nn.Module
    history: History
    about: Mapping = field(default_factory=dict)


def learn(
    model: nn.Module,
    task: Task,
    plan: Plan,
    *,
    seed: int,
    path: Path | None,
    device: str,
    about: Mapping,
    show: Callable = lambda *_: None,
) -> Trained:
    """Train a model, and at the end write it to path; what the loop writes stands in the same folder.

    A model that was stopped on its way is not written there; its history says that it was interrupted.
    """
    plan_of_seed = replace(plan, seed=seed)
    history = train(model, task, plan_of_seed, folder=path and path.parent, about=about, show=show)
    about = {**about, "seed": seed, "plan": asdict(plan), **trained_on(device), "train_seconds": history.seconds}
    if history.ended != "interrupted":
        about["dev"] = history.rows[-1]
        if path:
            stored.write(model, path, about)
    return Trained(model.eval(), history, about)


def load(path: Path, make: Callable[[Mapping], nn.Module], *, data: str, what: str, command: str) -> Trained:
    """Read a model from its file; make builds it from what the file says about its sizes.

    data is what the file must say that it was trained on; what the model is, and the command that makes such a file,
    are for errors. Raises FileNotFoundError, or stored.Unreadable where the file is damaged or holds something else.
    """
    if not path.exists():
        raise FileNotFoundError(
            f"{path.absolute()} does not exist: {command} makes such a file, in the folder of its run"
        )
    weights, about = stored.read(path)
    if about.get("data") != data or "model" not in about:
        found = f"its data are {about.get('data')!r}, not {data!r}"
        raise stored.Unreadable(f"{path} holds no {what} ({found}): {command} makes one")
    try:
        model = make(about["model"])
    except (KeyError, TypeError, ValueError) as error:
        raise stored.Unreadable(f"{path} is of another version (its sizes: {error!r}): train it anew") from error
    stored.load(model, weights, source=str(path))
    return Trained(model.eval(), History(), about)


def in_folder(path: Path, name: str) -> Path:
    """Find the file of a model where the folder of its run is named: there it is called name."""
    return Path(path) / name if Path(path).is_dir() else Path(path)
