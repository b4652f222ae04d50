"""Weights in files: safetensors that say what they are of, written in one step and read with care.

A tensor that stands in a model under two names (a tied embedding) is written once. Nothing in such a file is executed.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from crossattn_ref.files import write_whole


class Unreadable(ValueError):
    """A file that is damaged, or not what was asked for; the message names it and says what to do."""


def write(model: nn.Module, path: Path, about: Mapping) -> None:
    """Write a model's weights and what there is to say about them (anything JSON knows) into a file, in one step."""
    write_whole(path, save(weights_of(model), metadata={"about": json.dumps(about, ensure_ascii=False)}))


def read(path: Path) -> tuple[dict[str, Tensor], dict]:
    """Read a file -> (its weights by name, what it says about them); Unreadable where it is none of ours."""
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist")
    try:
        with safe_open(path, framework="pt") as file:
            weights, metadata = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise Unreadable(f"{path} is damaged, or holds no weights ({error}): remove it and make it again") from error
    if not metadata or "about" not in metadata:
        raise Unreadable(f"{path} does not say what its weights are of: it was not written by this package")
    return weights, json.loads(metadata["about"])


def load(model: nn.Module, weights: Mapping[str, Tensor], *, source: str = "weights") -> None:
    """Put weights into a model of the same make; Unreadable, before anything changes, where names or shapes differ."""
    own = weights_of(model)
    if missing := sorted(own.keys() ^ weights.keys()):
        raise Unreadable(f"{source} are of another model: {missing[0]} stands only in one of the two")
    for name, weight in weights.items():
        if weight.shape != own[name].shape:
            found = f"{tuple(weight.shape)}, and {tuple(own[name].shape)} in the model"
            raise Unreadable(f"{source} are of another model: {name} has the shape {found}")
    with torch.no_grad():
        for name, weight in weights.items():
            own[name].copy_(weight)


def average(several: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Average weights of the same model, each number by itself.

    Source: Vaswani et al., Attention Is All You Need (2017), section 6.1.
    """
    if not several:
        raise ValueError("several must hold at least one set of weights, got none")
    names = several[0].keys()
    if any(weights.keys() != names for weights in several):
        raise ValueError("several must be weights of one model, got differing names")
    return {name: sum(weights[name].double() for weights in several).div(len(several)).float() for name in names}


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """List a model's weights by name, what is tied once."""
    found, seen = {}, set()
    for name, weight in model.state_dict().items():
        if weight.data_ptr() not in seen:
            seen.add(weight.data_ptr())
            found[name] = weight
    return found
