"""Answers written in torch. Checks speak NumPy; arrays become tensors, and tensors arrays, at this border."""

from collections.abc import Callable, Mapping

import numpy as np
import torch

from crossattn_ref.checks.subject import copied, foreign, plain_data, run


class TensorSubject:
    """A function or module in this process, that takes and returns torch tensors."""

    def __init__(self, answer: Callable):
        self._answer = answer

    def call(self, *args):
        return run(self._answer, *_tensors(args), plain=_plain)

    def probe(self, target, seed, *args):
        given = _tensors(args) if args else [np.random.default_rng(seed)]
        return run(self._answer, target, *given, plain=plain_data)

    def construct(self, config):
        def make():
            if isinstance(self._answer, torch.nn.Module):
                raise TypeError("pass the class itself, not a module that was made from it")
            self._module = self._answer(**config).eval()

        return run(make, plain=plain_data)

    def load_state(self, state):
        def load():
            own = dict(self._module.named_parameters())
            if other := set(state) ^ set(own):
                raise ValueError(f"__init__ must stay as it was given; it adds or lacks {', '.join(sorted(other))}")
            for name, array in state.items():
                if own[name].shape != array.shape:
                    raise ValueError(f"__init__ must stay as it was given; the shape of {name} should be {array.shape}")
                own[name].data = torch.from_numpy(copied(array))
            for buffer in self._module.buffers():
                buffer.data = buffer.to(own[name].dtype) if buffer.is_floating_point() else buffer

        return run(load, plain=plain_data)

    def forward(self, *args):
        def run_module():
            self._inputs = [tensor for tensor in tensors if isinstance(tensor, torch.Tensor) and tensor.requires_grad]
            self._out = self._module(*tensors)
            return self._out

        tensors = [_with_gradient(tensor) for tensor in _tensors(args)]
        return run(run_module, plain=_plain)

    def backward(self, grad_out):
        def send_back():
            self._module.zero_grad()
            self._out.backward(torch.from_numpy(copied(grad_out)))
            return tuple(_gradient(tensor) for tensor in self._inputs)

        return run(send_back, plain=_plain)

    def get(self, name):
        def read():
            owner = name.removesuffix(".grad")
            parameter = self._module.get_parameter(owner)
            return parameter if owner == name else _gradient(parameter)

        return run(read, plain=_plain)


def drawn_state(module: torch.nn.Module, rng: np.random.Generator) -> Mapping[str, np.ndarray]:
    """Draw weights for every parameter of a module: of a size that keeps activations near 1, gains near 1."""
    state = {}
    for name, parameter in module.state_dict().items():
        drawn = rng.standard_normal(parameter.shape)
        gain = name.endswith("weight") and parameter.ndim == 1
        state[name] = 1 + 0.3 * drawn if gain else drawn / np.sqrt(parameter.shape[-1])
    return state


def _tensors(args):
    return [torch.from_numpy(copied(arg)) if isinstance(arg, np.ndarray) else arg for arg in args]


def _with_gradient(tensor):
    floating = isinstance(tensor, torch.Tensor) and tensor.is_floating_point()
    return tensor.requires_grad_() if floating else tensor


def _gradient(tensor):
    return torch.zeros_like(tensor) if tensor.grad is None else tensor.grad


def _plain(value):
    if isinstance(value, torch.Tensor):
        return np.array(value.detach().cpu().numpy())
    if isinstance(value, tuple):
        return tuple(_plain(item) for item in value)
    return foreign(value) if isinstance(value, np.ndarray | np.generic) else plain_data(value)
