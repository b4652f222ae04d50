import functools
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch.nn import functional

from crossattn_ref.attention.multihead import MultiHeadAttention
from crossattn_ref.checks import check, examine
from crossattn_ref.checks.tensors import TensorSubject, drawn_state
from crossattn_ref.checks.variants import grouped, heads, multihead
from crossattn_ref.checks.variants.cross_attention import CrossAttention, Projections

B, H, NQ, NK, DK, DM = 2, 3, 5, 7, 11, 13
CONFIG = {"d_model": H * DK, "n_heads": H, "d_memory": DM}


def test_a_row_is_cut_into_heads_as_worked_out_by_hand_and_merged_again():
    x = np.array([[[0, 1, 2, 3], [10, 11, 12, 13], [20, 21, 22, 23]]])
    cut = np.array([[[[0, 1], [10, 11], [20, 21]], [[2, 3], [12, 13], [22, 23]]]])
    np.testing.assert_array_equal(heads.split(x, 2), cut)
    np.testing.assert_array_equal(heads.merge(cut), x)


def test_heads_are_cut_as_torch_s_own_attention_cuts_them():
    """With copied weights, nn.MultiheadAttention is the oracle of the whole layer; True means ignore in its masks."""
    rng = np.random.default_rng(2)
    ours = CrossAttention(**CONFIG).double()
    ours.load_state_dict({name: torch.from_numpy(w) for name, w in drawn_state(ours, rng).items()})
    theirs = torch.nn.MultiheadAttention(H * DK, H, kdim=DM, vdim=DM, batch_first=True, dtype=torch.float64).eval()
    theirs.load_state_dict({
        "q_proj_weight": ours.q_proj.weight, "k_proj_weight": ours.k_proj.weight, "v_proj_weight": ours.v_proj.weight,
        "in_proj_bias": torch.cat([p.bias for p in (ours.q_proj, ours.k_proj, ours.v_proj)]),
        "out_proj.weight": ours.out_proj.weight, "out_proj.bias": ours.out_proj.bias,
    })  # fmt: skip
    x, memory = (torch.from_numpy(rng.standard_normal(shape)) for shape in ((B, NQ, H * DK), (B, NK, DM)))
    mask = torch.arange(NK) < torch.tensor([4, 7])[:, None, None, None]
    torch.testing.assert_close(ours(x, memory, mask), theirs(x, memory, memory, key_padding_mask=~mask[:, 0, 0])[0])


def test_the_line_of_stages_shares_heads_as_torch_does():
    q, k, v = (torch.randn(shape) for shape in ((B, 6, NQ, DK), (B, 2, NK, DK), (B, 2, NK, DM)))
    torch.testing.assert_close(
        grouped.attend(q, k, v), functional.scaled_dot_product_attention(q, k, v, enable_gqa=True)
    )


class _Fused(CrossAttention):
    """The stages around the averaging as they are, and the averaging itself by torch: it rounds otherwise."""

    def forward(self, x, memory, mask=None):
        q, k, v = (self.split(t, self.n_heads) for t in self.project(self, *self.wire(x, memory, mask)))
        out = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.finish(self, self.merge(out), x)


AROUND = [m for stage in ("wire", "project", "split", "merge", "finish") for m in multihead.STAGES[stage]]


@pytest.mark.parametrize("mistake", AROUND, ids=[m.name for m in AROUND])
def test_a_mistake_is_named_however_the_average_is_computed(mistake):
    report = examine("heads/MultiHeadAttention", functools.partial(_Fused, **mistake.wrong.replaced))
    assert mistake.name in [m.name for m in report.diagnosis], str(report)


def test_half_precision_refuses_a_fill_that_it_cannot_hold_and_nothing_else_fails():
    wrong = next(m.wrong for m in multihead.MISTAKES if m.name == "fill of -1e9")
    report = examine("heads/MultiHeadAttention", wrong)
    assert [finding.property for finding in report.findings if not finding.passed] == ["runs in half precision"]


def test_the_package_s_layer_and_the_one_of_the_exercise_take_each_other_s_weights():
    assert set(MultiHeadAttention(**CONFIG).state_dict()) == set(Projections(**CONFIG).state_dict())


class _MoreThanGiven(Projections):
    def __init__(self, d_model, n_heads, d_memory):
        super().__init__(d_model, n_heads, d_memory)
        self.norm = torch.nn.LayerNorm(d_model)


BAD = {
    "a module, not its class": (CrossAttention(**CONFIG), "pass the class itself"),
    "another __init__": (_MoreThanGiven, "adds or lacks norm.bias, norm.weight"),
    "an array": (type("_", (Projections,), {"forward": lambda *_: np.zeros(3)}), "returned a ndarray"),
    "nothing": (type("_", (Projections,), {"forward": lambda *_: None}), "returned nothing"),
    "output and weights": (type("_", (Projections,), {"forward": lambda _, x, *__: (x, x)}), "a tuple of 2"),
    "not written": (Projections, "not written yet"),
}


@pytest.mark.parametrize(("answer", "says"), BAD.values(), ids=BAD)
def test_a_bad_module_gets_no_points_and_a_message_that_helps(answer, says, capfd):
    assert check("heads/MultiHeadAttention", answer, points=6) == 0
    printed = capfd.readouterr()
    assert says in " ".join(printed.out.split())
    assert "self._module" not in printed.out
    assert printed.err == ""


def test_a_module_s_error_names_the_line_of_the_answer():
    class Adds(Projections):
        def forward(self, x, memory, mask):
            return x + memory

    subject = TensorSubject(Adds)
    subject.construct(CONFIG)
    outcome = subject.forward(np.zeros((B, NQ, H * DK)), np.zeros((B, NK, DM)), None)
    assert outcome.error.line == "return x + memory"


def test_without_torch_the_numpy_exercises_run_and_the_others_say_what_is_missing():
    code = """
import sys
sys.modules["torch"] = None
from crossattn_ref.checks import check, reference
assert check("heads/split_heads", reference("heads/split_heads")) == 1
assert check("heads/merge_heads", reference("heads/merge_heads")) == 1
assert check("heads/MultiHeadAttention", object) == 0
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert "check: heads/MultiHeadAttention needs torch, which is not installed" in done.stdout
    assert done.stderr == ""
