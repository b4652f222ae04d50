"""Checkpoints: there and back, damage of every kind, strangers."""

import numpy as np
import pytest
import torch

from crossattn_ref.models.stored import Unreadable
from crossattn_ref.train import checkpoint

ABOUT = {"plan": {"n_steps": 7, "betas": (0.9, 0.98)}}


@pytest.fixture
def path(tmp_path):
    checkpoint.write(tmp_path / "last.ckpt", {"weight": torch.arange(5.0), "place": (3, 2), "none": None}, ABOUT)
    return tmp_path / "last.ckpt"


def test_a_state_comes_back_as_it_was(path):
    state = checkpoint.read(path, ABOUT)
    assert torch.equal(state["weight"], torch.arange(5.0))
    assert (tuple(state["place"]), state["none"]) == ((3, 2), None)
    assert [file.name for file in path.parent.iterdir()] == ["last.ckpt"]


def test_damage_anywhere_is_seen(path):
    content = path.read_bytes()
    for place in np.linspace(0, len(content) - 1, 53, dtype=int):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(Unreadable, match=r"last\.ckpt is (damaged|no checkpoint)"):
            checkpoint.read(path, ABOUT)
    for end in (0, 10, 60, 200, len(content) - 1):
        path.write_bytes(content[:end])
        with pytest.raises(Unreadable, match=r"last\.ckpt is (damaged|no checkpoint)"):
            checkpoint.read(path, ABOUT)


def test_a_file_of_another_program_is_refused(path):
    torch.save({"weight": torch.ones(3)}, path)
    with pytest.raises(Unreadable, match="is no checkpoint of this package: choose another folder"):
        checkpoint.read(path, ABOUT)


def test_a_checkpoint_never_runs_code(path):
    """A pickle with a call in it, under a right checksum, is refused by torch's reader of weights."""
    import hashlib
    import io

    class Harmful:
        def __reduce__(self):
            return (print, ("ran",))

    buffer = io.BytesIO()
    torch.save({"state": Harmful(), "about": "{}"}, buffer)
    digest = hashlib.sha256(buffer.getvalue()).hexdigest().encode()
    path.write_bytes(b"crossattn checkpoint 1\n" + digest + b"\n" + buffer.getvalue())
    with pytest.raises(Unreadable, match="cannot be read"):
        checkpoint.read(path, ABOUT)


def test_a_checkpoint_about_something_else_says_what_differs(path):
    with pytest.raises(Unreadable, match=r"plan\.n_steps is 7 there, 8 here\): choose another folder, or remove it"):
        checkpoint.read(path, {"plan": {"n_steps": 8, "betas": (0.9, 0.98)}})
