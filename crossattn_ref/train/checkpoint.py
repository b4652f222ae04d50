"""A run of training in a file: all it takes to go on as if nothing had happened.

A first line says what the file is, a second holds the sha256 of the rest, so that damage is seen before it is used.
"""

import hashlib
import io
import json
import pickle
from collections.abc import Mapping
from pathlib import Path

import torch

from crossattn_ref.files import write_whole
from crossattn_ref.models.stored import Unreadable

_FIRST_LINE = b"crossattn checkpoint 1\n"


def write(path: Path, state: Mapping, about: Mapping) -> None:
    """Write the state of a run, and what the run is (plain values), in one step."""
    buffer = io.BytesIO()
    torch.save({"state": dict(state), "about": json.dumps(about)}, buffer)
    content = buffer.getvalue()
    write_whole(path, _FIRST_LINE + hashlib.sha256(content).hexdigest().encode() + b"\n" + content)


def read(path: Path, about: Mapping) -> dict:
    """Read the state of a run that is about the same; Unreadable says what differs, or that the file is damaged."""
    path = Path(path)
    first, _, rest = path.read_bytes().partition(b"\n")
    digest, _, content = rest.partition(b"\n")
    if first + b"\n" != _FIRST_LINE:
        raise Unreadable(f"{path} is no checkpoint of this package: choose another folder")
    if hashlib.sha256(content).hexdigest().encode() != digest:
        raise Unreadable(f"{path} is damaged, its checksum does not fit: remove it to start again")
    try:
        found = torch.load(io.BytesIO(content), weights_only=True)
    except (pickle.UnpicklingError, RuntimeError) as error:
        raise Unreadable(f"{path} cannot be read by torch {torch.__version__}: {error}") from error
    if differing := list(_differences(json.loads(found["about"]), json.loads(json.dumps(about)))):
        raise Unreadable(f"{path} is of another run ({'; '.join(differing)}): choose another folder, or remove it")
    return found["state"]


def _differences(there, here, name=""):
    if isinstance(there, dict) and isinstance(here, dict):
        for key in there | here:
            yield from _differences(there.get(key), here.get(key), f"{name}.{key}".lstrip("."))
    elif there != here:
        yield f"{name} is {there} there, {here} here"
