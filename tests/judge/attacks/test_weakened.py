"""Attacks on this judge succeed once the wall that is meant to stop them is gone, and fail on the judge as it is."""

import secrets
from dataclasses import replace
from pathlib import Path

import nbformat
import pytest

from crossattn_ref.judge import assignment, sandbox
from crossattn_ref.judge.sandbox import Limits
from crossattn_ref.judge.verdict import judge
from tests.judge.attacks.own import OWN
from tests.judge.attacks.weakened import WEAKENED, graded, table

UNSAFE = ("one file system for all", "one network for all")


@pytest.fixture(scope="module")
def unsafe_kernel():
    started = sandbox.start(("numpy",), unsafe=True)
    yield started
    started.close()


@pytest.mark.parametrize("attack", OWN, ids=lambda attack: attack.name)
def test_it_succeeds_where_one_wall_is_missing(attack, kernel, request):
    weak = request.getfixturevalue("unsafe_kernel") if attack.against in UNSAFE else kernel
    outcome = graded(attack, weak, {"@TABLE@": table(0), "@NONCE@": secrets.token_hex(8)})
    assert attack.evidence(outcome), outcome


def test_every_wall_that_can_be_taken_down_stops_an_attack():
    assert {attack.against for attack in OWN} == set(WEAKENED)


SOURCE = Path(__file__).resolve().parents[3] / "solutions" / "cross-attention" / "cross-attention.ipynb"
BORROWED = """
from crossattn_ref.attention.multihead import MultiHeadAttention
class CrossAttention(MultiHeadAttention):
    def __init__(self, d_model, n_heads, d_memory): super().__init__(d_model, n_heads, d_memory=d_memory)
"""


def test_what_a_later_exercise_lends_answers_no_earlier_one(torch_kernel):
    """The layer that is given to DecoderLayer does what CrossAttention asks for: it comes after that check."""
    about = assignment.read(SOURCE)
    cells = [(c.id, c.source) for c in nbformat.read(SOURCE, as_version=4).cells if c.cell_type == "code"]
    cells = [(name, BORROWED if name == "CrossAttention" else source) for name, source in cells]
    ((_, modules),) = about.lent.items()
    weak = sandbox.start(about.libraries, modules)
    try:
        from_the_start = judge(b"", cells, replace(about, lent={}), b"key", weak, Limits())
    finally:
        weak.close()
    assert from_the_start.points["check-CrossAttention"] == about.checks["check-CrossAttention"].points
    verdict = judge(b"", cells, about, b"key", torch_kernel, Limits())
    assert verdict.points["check-CrossAttention"] == 0
    assert verdict.points["check-DecoderLayer"] == about.checks["check-DecoderLayer"].points
