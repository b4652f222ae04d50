"""The backward kernels and the torch op in Triton's interpreter; test_fused.py runs this file in its own process."""

import inspect
import math

import pytest
import torch
from cases import assert_close, make

from crossattn_ref.attention import fused
from crossattn_ref.attention.fused import backward, forward, op
from crossattn_ref.attention.fused.op import fused_attention
from crossattn_ref.attention.inputs import Lengths

CODES = {None: 0, "top-left": 1, "bottom-right": 2}
LENGTHS = [(1, 1), (1, 300), (17, 64), (64, 128), (65, 31), (113, 203), (129, 129), (239, 1)]
HEADS = [((2, 2), torch.float32), ((6, 3), torch.float16), ((3, 1), torch.float32)]  # (H, Hkv)
ALIGNED = [(None, torch.float32), ("top-left", torch.float16), ("bottom-right", torch.float32)]
DTYPES = [torch.float32, torch.float16]


def answer(case, n_splits=None):
    """Return the answer and the gradients as autograd computes them, or in so many parts."""
    if n_splits is None:
        tensors = [x.detach().requires_grad_() for x in case.sequences]
        out = fused.attention(*tensors, case.mask)
        return [out, *torch.autograd.grad(out, tensors, case.grad_out)]
    ends, causal = (case.mask.keys, CODES[case.mask.causal]) if case.mask else (None, 0)
    out, logs = forward.read(*case.sequences, ends, causal)
    return [out, *backward.send_back(case.grad_out, *case.sequences, out, logs, ends, causal, n_splits)]


# Against the oracle in float64, whose gradients are derived by hand


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.usefixtures("marked")
def test_awkward_lengths_give_the_gradients_of_the_oracle(lengths, dtype):
    case = make(1, (2, 1), lengths, (32, 16), dtype)
    assert_close(answer(case), case)


@pytest.mark.parametrize(("heads", "dtype"), HEADS)
@pytest.mark.parametrize("causal", [None, "top-left", "bottom-right"])
@pytest.mark.parametrize("lengths", [(1, 67), (67, 61)])
@pytest.mark.usefixtures("marked")
def test_lengths_alignments_and_grouped_heads_give_the_gradients_of_the_oracle(lengths, causal, heads, dtype):
    case = make(3, heads, lengths, (16, 32), dtype, causal=causal, ends=[0, lengths[1] // 3, lengths[1]])
    assert_close(answer(case), case)


@pytest.mark.parametrize("widths", [(1, 1), (11, 13), (80, 80), (96, 24), (192, 128), (256, 256)])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.usefixtures("marked")
def test_heads_may_have_any_width_up_to_256(widths, dtype):
    case = make(1, (2, 1), (5, 41), widths, dtype, ends=[37])
    assert_close(answer(case), case)


@pytest.mark.parametrize(("causal", "dtype"), ALIGNED)
@pytest.mark.parametrize("n_splits", [(2, 3), (16, 7)])
@pytest.mark.usefixtures("marked")
def test_any_number_of_splits_gives_the_same_gradients(n_splits, causal, dtype):
    case = make(2, (1, 1), (150, 170), (32, 16), dtype, causal=causal, ends=[169, 100])
    assert_close(answer(case, n_splits), case)


@pytest.mark.parametrize("causal", ["top-left", "bottom-right"])
@pytest.mark.usefixtures("marked")
def test_causal_tiles_far_from_the_diagonal_are_summed_without_a_mask(causal):
    case = make(1, (1, 1), (390, 330), (16, 16), torch.float16, causal=causal, ends=[325])
    assert_close(answer(case, (1, 1)), case)


# Properties


@pytest.mark.parametrize("poison", [math.nan, math.inf])
@pytest.mark.parametrize("causal", [None, "top-left", "bottom-right"])
@pytest.mark.parametrize("n_splits", [(1, 1), (3, 2)])
@pytest.mark.filterwarnings("ignore:(invalid value|overflow) encountered:RuntimeWarning")  # NumPy's, about inf
@pytest.mark.usefixtures("marked")
def test_what_nobody_may_see_sends_and_receives_nothing(causal, poison, n_splits):
    case = make(3, (2, 1), (7, 150), (16, 16), torch.float32, causal=causal, ends=[0, 3, 140])
    clean = answer(case, n_splits)
    seen = torch.from_numpy(case.seen())
    hidden, blind = ~seen.any(dim=2)[:, ::2, :, None], ~seen.any(dim=3)[..., None]
    for tensor, places in ((case.k, hidden), (case.v, hidden), (case.q, blind), (case.grad_out, blind)):
        tensor.masked_fill_(places, poison)
    for grad, expected, places in zip(answer(case, n_splits)[1:], clean[1:], (blind, hidden, hidden), strict=True):
        assert torch.equal(grad, expected)
        assert (grad.masked_select(places) == 0).all()


@pytest.mark.parametrize("sizes", [(2, 0, 7), (2, 5, 0), (0, 5, 7)])
def test_empty_sequences_and_batches_have_zero_gradients(sizes):
    case = make(sizes[0], (2, 1), sizes[1:], (16, 16), torch.float32)
    _, *grads = answer(case)
    for grad, tensor in zip(grads, case.sequences, strict=True):
        assert grad.shape == tensor.shape
        assert (grad == 0).all()


def test_a_loss_that_sends_the_same_to_all_is_taken_back_as_it_is():
    case = make(2, (2, 1), (5, 19), (16, 16), torch.float32)
    for grad_out in (torch.ones(1).expand(2, 2, 5, 16), torch.randn(2, 2, 16, 5).mT):
        case.grad_out = grad_out
        assert_close(answer(case), case)


def test_gradients_of_gradients_are_refused():
    tensors = [x.detach().requires_grad_() for x in make(1, (1, 1), (3, 5), (16, 16), torch.float32).sequences]
    (grad,) = torch.autograd.grad(fused.attention(*tensors).square().sum(), tensors[0], create_graph=True)
    with pytest.raises(RuntimeError, match="no autograd formula was registered"):
        grad.sum().backward()


# The op, as torch sees it


@pytest.mark.parametrize("ends", [None, [3, 19]])
@pytest.mark.filterwarnings("ignore")  # torch's own, about what opcheck looks at
def test_the_op_keeps_what_torch_asks_of_one(ends):
    case = make(2, (2, 1), (5, 19), (16, 16), torch.float32)
    tensors = [x.detach().contiguous().requires_grad_() for x in case.sequences]
    torch.library.opcheck(fused_attention, (*tensors, ends and torch.tensor(ends), 2))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_it_is_compiled_as_a_part_of_a_larger_graph():
    case = make(2, (2, 1), (5, 19), (16, 16), torch.float32, ends=[3, 19])
    attend = inspect.unwrap(fused.attention)  # without the shapes that these tests execute
    graph = torch.compile(lambda q, k, v, mask: attend(2 * q, k, v, mask) + 1, backend="aot_eager", fullgraph=True)
    case.q.mul_(0.5)
    tensors = [x.detach().requires_grad_() for x in case.sequences]
    out = graph(*tensors, case.mask)
    grads = torch.autograd.grad(out, tensors, case.grad_out)
    case.q.mul_(2)
    assert_close([out - 1, grads[0] / 2, *grads[1:]], case)


def test_kernels_that_cannot_be_launched_name_what_runs_anywhere(monkeypatch):
    def fail(*_):
        raise RuntimeError("Triton Error [CUDA]: device kernel image is invalid")

    monkeypatch.setattr(op, "read", fail)
    with pytest.raises(RuntimeError, match=r"cannot run its kernels on cpu \(Triton Error .*chunked\.attention runs"):
        fused.attention(*make(1, (1, 1), (3, 5), (16, 16), torch.float32).sequences)


def test_lengths_of_another_call_do_not_stay_behind():
    case = make(2, (2, 1), (5, 19), (16, 16), torch.float32)
    for ends in ([3, 19], [19, 0], [7, 7]):
        case.mask = Lengths(torch.tensor(ends))
        assert_close(answer(case), case)


@pytest.mark.parametrize("causal", [None, "bottom-right"])
@pytest.mark.parametrize("n_splits", [None, (2, 2)])
@pytest.mark.usefixtures("marked")
def test_lengths_changed_in_place_count_no_key_that_there_is_not(n_splits, causal):
    case = make(3, (2, 1), (5, 7), (16, 16), torch.float32, causal=causal, ends=[7, 0, 7])
    right, case.mask = case.mask, Lengths(torch.tensor([7, 0, 1]), causal)
    case.mask.keys.copy_(torch.tensor([70, -3, 2**32 + 3]))
    ours, case.mask = answer(case, n_splits), right
    assert_close(ours, case)
