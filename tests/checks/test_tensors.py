"""Answers written in torch, behind the operations of a check."""

import numpy as np
import pytest
import torch
from torch import nn

from crossattn_ref.checks import examine
from crossattn_ref.checks.tensors import TensorSubject
from crossattn_ref.checks.variants.decoder import Parts

STATE = {"inner.weight": np.arange(15.0).reshape(3, 5), "inner.bias": np.array([1.0, 2.0, 3.0])}
X = np.ones((7, 5))


class Layer(nn.Module):
    def __init__(self, width=5):
        super().__init__()
        self.inner = nn.Linear(width, 3)

    def forward(self, x):
        return self.inner(x)


class Turned(Layer):
    def __init__(self):
        super().__init__()
        self.register_buffer("turn", torch.eye(3).flip(0))
        self.register_buffer("count", torch.tensor(3))

    def forward(self, x):
        assert self.count.dtype == torch.int64
        return self.inner(x) @ self.turn


class More(Layer):
    def __init__(self):
        super().__init__()
        self.more = nn.Linear(2, 2)


def loaded(layer, state=STATE, **config):
    subject = TensorSubject(layer)
    assert subject.construct(config).error is None
    return subject, subject.load_state(state)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_a_module_takes_on_the_weights_and_their_dtype(dtype):
    subject, outcome = loaded(Layer, {name: array.astype(dtype) for name, array in STATE.items()})
    assert outcome.error is None
    out = subject.forward(X.astype(dtype)).value
    assert out.dtype == dtype
    np.testing.assert_allclose(out, X @ STATE["inner.weight"].T + STATE["inner.bias"], rtol=1e-3)


def test_weights_are_copied():
    subject, _ = loaded(Layer)
    with torch.no_grad():
        subject._module.inner.bias += 1
    assert STATE["inner.bias"].tolist() == [1, 2, 3]


def test_a_buffer_of_the_learners_own_takes_on_the_dtype_of_the_weights():
    subject, outcome = loaded(Turned)
    assert outcome.error is None
    assert subject.forward(X).value.dtype == np.float64


@pytest.mark.parametrize(
    ("layer", "config", "message"),
    [
        (Layer, {"width": 7}, "the shape of inner.weight should be (3, 5)"),
        (More, {}, "it adds or lacks more.bias, more.weight"),
    ],
)
def test_an_init_that_was_changed_is_told(layer, config, message):
    _, outcome = loaded(layer, **config)
    assert outcome.error.kind == "ValueError"
    assert outcome.error.message.startswith("__init__ must stay as it was given")
    assert message in outcome.error.message


def test_a_gradient_reaches_inputs_and_parameters():
    subject, _ = loaded(Layer)
    subject.forward(X)
    (of_x,) = subject.backward(np.ones((7, 3))).value
    np.testing.assert_allclose(of_x, np.ones((7, 3)) @ STATE["inner.weight"])
    np.testing.assert_allclose(subject.get("inner.weight.grad").value, np.full((3, 5), 7.0))


def wrong_decoder(forward):
    """Make the decoder layer of the exercise with another forward."""
    return type("Decoder", (Parts,), {"forward": forward})


def test_a_layer_that_keeps_the_mask_of_its_first_call_is_noticed():
    def forward(self, x, memory, self_mask=None, memory_mask=None):
        if not hasattr(self, "past"):
            self.past = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).tril()
        seen = self.past if self_mask is None else self.past & self_mask
        x = x + self.self_attention(self.self_attention_norm(x), mask=seen)
        x = x + self.cross_attention(self.cross_attention_norm(x), memory, memory_mask)
        return x + self.feed_forward(self.feed_forward_norm(x))

    report = examine("cross-attention/DecoderLayer", wrong_decoder(forward))
    failed = [finding.property for finding in report.findings if not finding.passed]
    assert failed == ["hiding the padding equals deleting it"]


def test_dropout_beside_another_mistake_is_called_by_name_first():
    def forward(self, x, memory, self_mask=None, memory_mask=None):
        return nn.functional.dropout(self.feed_forward(x), 0.3)

    report = examine("cross-attention/DecoderLayer", wrong_decoder(forward))
    assert [mistake.name for mistake in report.diagnosis] == ["dropout goes on"]


def test_a_layer_that_raises_when_it_is_run_is_not_taken_for_dropout():
    def forward(self, x, memory, self_mask=None, memory_mask=None):
        raise RuntimeError("no")

    report = examine("cross-attention/DecoderLayer", wrong_decoder(forward))
    assert report.diagnosis == ()
    assert report.score == 0
