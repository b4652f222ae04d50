"""Kernels in the interpreter: what they touch is counted, and nothing that they do ends the check."""

import sys

import numpy as np
import pytest

from crossattn_ref.attention import reference
from crossattn_ref.checks import interpreted
from crossattn_ref.checks.variants import kernels

pytest.importorskip("triton", reason="no triton here: run `pip install triton` (Linux)")

B, NQ, NK, D = 2, 5, 7, 4


class Text:
    """A kernel given as the text of its body."""

    def __init__(self, body):
        self.source = kernels.SIGNATURE + "".join(f"    {line}\n" for line in body.splitlines())


def launch(body, seed=0):
    rng = np.random.default_rng(seed)
    q, k, v = (rng.standard_normal((B, n, D)) for n in (NQ, NK, NK))
    return interpreted.launched(Text(body))(q, k, v, np.array([7, 4]), 4, 4)


def test_the_right_kernel_gives_attention_and_reads_each_key_once_for_a_tile():
    rng = np.random.default_rng(1)
    q, k, v = (rng.standard_normal((B, n, D)) for n in (NQ, NK, NK))
    out, read, visits, largest, strays = interpreted.launched(kernels.right)(q, k, v, np.array([7, 4]), 4, 4)
    mask = np.arange(NK) < np.array([7, 4])[:, None, None]
    np.testing.assert_allclose(out, reference.attention(q, k, v, mask), atol=1e-6)
    assert (read, largest, strays) == (2 * 2 * D * (7 + 4), 4 * D, 0)
    assert visits == 2 * B + 2 * 2 * (2 + 1)  # the queries, and keys and values of two tiles and of one


def test_every_place_that_belongs_to_nothing_is_counted_and_holds_something_else():
    body = "x = tl.load(v_ptr + 56 + tl.arange(0, 4))\ntl.store(out_ptr + tl.arange(0, 4), x)"
    out, _, _, _, strays = launch(body)
    assert strays == 4 * 4  # four programs
    assert (out[0, 0] == interpreted.SOMETHING_ELSE).all()
    assert np.isnan(out[0, 1:]).all()


def test_far_behind_an_array_there_is_no_other():
    for array in ("q", "k", "v", "lengths"):
        _, read, *_, strays = launch(f"tl.load({array}_ptr + 60 + tl.arange(0, 2048))")
        assert (read, strays) == (0, 4 * 2048)


def test_a_store_outside_changes_nothing_but_the_count():
    assert launch("tl.store(k_ptr + tl.arange(0, 8), 0.0)")[-1] == 8 * 4
    assert launch("tl.store(out_ptr - 8 + tl.arange(0, 8), 0.0)")[-1] == 8 * 4


def test_masked_places_are_not_touched():
    assert launch("tl.load(q_ptr + 10**6 + tl.arange(0, 4), mask=tl.arange(0, 4) < 0, other=0.0)")[-1] == 0


@pytest.mark.parametrize(
    ("body", "kind", "words"),
    [
        ("raise NotImplementedError('your turn')", NotImplementedError, "your turn"),
        ("x = tl.arange(0, 3)", ValueError, "power of 2, in: x = tl.arange(0, 3)"),
        ("y = undefined + 1", NameError, "name 'undefined' is not defined, in: y = undefined + 1"),
        ("x = tl.load(q_ptr + tl.arange(0, 4)) + tl.arange(0, 8)", ValueError, "in: x = tl.load"),
    ],
)
def test_what_a_kernel_raises_is_raised_with_its_line(body, kind, words):
    with pytest.raises(kind) as raised:
        launch(body)
    assert words in str(raised.value)


def test_what_a_kernel_prints_is_printed(capsys):
    launch("print('program', tl.program_id(0))")
    assert capsys.readouterr().out.count("program") == 4


def test_a_process_that_ends_is_replaced_by_another():
    with pytest.raises(RuntimeError, match="the process of the kernel ended"):
        launch("import os; os._exit(3)")
    assert launch("tl.store(out_ptr + tl.arange(0, 4), 1.0)")[0][0, 0].tolist() == [1, 1, 1, 1]


def test_a_kernel_that_never_ends_is_ended(monkeypatch):
    launch("tl.store(out_ptr + tl.arange(0, 4), 1.0)")
    monkeypatch.setattr(interpreted, "SECONDS", 1)
    with pytest.raises(TimeoutError, match="still running after 1 seconds"):
        launch("while True:\n    pass")


def test_without_triton_the_way_to_get_it_is_told(monkeypatch):
    monkeypatch.setattr(interpreted.importlib.util, "find_spec", lambda name: None if name == "triton" else True)
    with pytest.raises(ModuleNotFoundError, match="triton is not installed; run: pip install triton torch"):
        launch("pass")


def test_the_process_that_asks_never_imports_triton():
    program = (
        "import sys; from crossattn_ref.checks.variants import kernels; import numpy as np;"
        "x = np.ones((1, 2, 2)); kernels.right(x, x, x, np.array([2]), 2, 2);"
        "assert not {'triton', 'torch'} & set(sys.modules)"
    )
    run = __import__("subprocess").run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
