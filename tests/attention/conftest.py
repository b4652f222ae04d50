"""What tests of attention share: a count of what torch makes."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode


class Made(TorchDispatchMode):
    """Note how many numbers each operation of torch makes, views left out."""

    def __init__(self):
        super().__init__()
        self.sizes = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        made = out if isinstance(out, tuple | list) else [out]
        self.sizes += [one.numel() for one in made if isinstance(one, torch.Tensor) and not function.is_view]
        return out


@pytest.fixture
def made():
    """Return what is entered with `with made:` and then knows made.sizes."""
    return Made()
