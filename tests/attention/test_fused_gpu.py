"""The Triton kernels on a GPU: every dtype against float64, one binary for all shapes, compiled graphs, wide strides.

What the interpreter cannot show is shown here; all else is tested there, by test_fused.py.
"""

import inspect
import math

import pytest
import torch

from crossattn_ref.attention.inputs import Lengths

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU that CUDA can use"),
    pytest.mark.filterwarnings("default"),  # torch's compiler warns of its own parts
]

HALF = [torch.bfloat16, torch.float16]
CASES = [  # dtype, (H, Hkv), (Nq, Nk), (Dk, Dv), causal, lengths
    *((torch.bfloat16, (2, 2), lengths, (64, 64), None, None) for lengths in [(1, 1), (1, 5000), (17, 64), (239, 1)]),
    *((torch.bfloat16, (2, 2), lengths, (64, 64), None, True) for lengths in [(113, 203), (1000, 777), (3, 3001)]),
    *((torch.bfloat16, (4, 2), lengths, (128, 128), "bottom-right", True) for lengths in [(7, 600), (333, 301)]),
    (torch.float16, (2, 2), (300, 500), (128, 128), "top-left", True),
    (torch.float16, (3, 1), (33, 119), (80, 80), None, True),
    (torch.bfloat16, (2, 2), (200, 130), (256, 256), None, None),
    *((torch.float32, (2, 1), lengths, (64, 64), "bottom-right", True) for lengths in [(5, 77), (70, 99)]),
    (torch.float32, (1, 1), (41, 53), (128, 33), None, None),
]


def sequences(heads, lengths, widths, dtype, *, batch=3, seed=0):
    """Draw q, k, v and a gradient of the answer on the GPU."""
    generator = torch.Generator("cuda").manual_seed(seed)
    shapes = [(heads[0], lengths[0], widths[0]), (heads[1], lengths[1], widths[0]), (heads[1], lengths[1], widths[1])]
    shapes.append((heads[0], lengths[0], widths[1]))
    return [torch.randn(batch, *shape, generator=generator, device="cuda").to(dtype) for shape in shapes]


def formula(q, k, v, seen):
    """Compute the answer by the formula, in the dtype at hand; zeros for a query that sees nothing."""
    groups = q.shape[1] // k.shape[1]
    scores = q @ k.repeat_interleave(groups, 1).mT / math.sqrt(q.shape[-1])
    weights = scores.masked_fill(~seen, torch.finfo(q.dtype).min).softmax(-1).masked_fill(~seen, 0)
    return weights @ v.repeat_interleave(groups, 1)


def with_gradients(function, tensors, grad_out):
    tensors = [x.detach().requires_grad_() for x in tensors]
    out = function(*tensors)
    return [out.detach(), *torch.autograd.grad(out, tensors, grad_out)]


def assert_close(attend, tensors, seen):
    """Hold answer and gradients against float64: at most twice the error of the formula in the same dtype by torch."""
    *qkv, grad_out = tensors
    ours = with_gradients(attend, qkv, grad_out)
    plain = with_gradients(lambda *x: formula(*x, seen), qkv, grad_out)
    right = with_gradients(lambda *x: formula(*x, seen), [x.double() for x in qkv], grad_out.double())
    least = torch.finfo(grad_out.dtype).eps * max(x.abs().max() for x in right)  # where a gradient sums up to 0
    for name, mine, theirs, exact in zip(("out", "q", "k", "v"), ours, plain, right, strict=True):
        assert mine.dtype == grad_out.dtype
        error, allowed = (mine - exact).abs().max(), 2 * max((theirs - exact).abs().max(), least)
        assert error <= allowed, f"{name}: {error:.2e} is above {allowed:.2e}"


@pytest.fixture(scope="module")
def fused():
    from crossattn_ref.attention import fused

    return fused


@pytest.mark.parametrize(("dtype", "heads", "lengths", "widths", "causal", "ragged"), CASES)
def test_answers_and_gradients_are_as_exact_as_the_formula(fused, dtype, heads, lengths, widths, causal, ragged):
    tensors = sequences(heads, lengths, widths, dtype)
    ends = [lengths[1], lengths[1] // 3, 0] if ragged else [lengths[1]] * 3
    mask = Lengths(torch.tensor(ends, device="cuda"), causal)
    seen = mask.mask(3, *lengths).expand(3, heads[0], *lengths)
    assert_close(lambda *qkv: fused.attention(*qkv, mask if ragged else None), tensors, seen)


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("n_queries", [1, 16])
def test_few_queries_read_a_long_memory(fused, n_queries, dtype):
    q, k, v, _ = sequences((8, 8), (n_queries, 131072), (128, 128), dtype, batch=1)
    right = formula(q.double(), k.double(), v.double(), torch.ones(1, 1, 1, 131072, dtype=bool, device="cuda"))
    plain = formula(q, k, v, torch.ones(1, 1, 1, 131072, dtype=bool, device="cuda"))
    assert (fused.attention(q, k, v) - right).abs().max() <= 2 * (plain - right).abs().max()


@pytest.mark.parametrize("poison", [math.nan, math.inf])
def test_what_stands_behind_a_length_has_no_effect(fused, poison):
    *qkv, grad_out = sequences((2, 2), (113, 203), (64, 64), torch.bfloat16)
    mask = Lengths(torch.tensor([203, 67, 0], device="cuda"))
    clean = with_gradients(lambda *x: fused.attention(*x, mask), qkv, grad_out)
    hidden = ~mask.mask(3, 113, 203).mT
    wild = [qkv[0], qkv[1].masked_fill(hidden, poison), qkv[2].masked_fill(hidden, poison)]
    for one, other in zip(with_gradients(lambda *x: fused.attention(*x, mask), wild, grad_out), clean, strict=True):
        assert torch.equal(one, other)


def test_every_run_gives_the_same_bits(fused):
    *qkv, grad_out = sequences((4, 2), (77, 5003), (128, 128), torch.bfloat16)
    first, *others = [with_gradients(fused.attention, qkv, grad_out) for _ in range(5)]
    for other in others:
        assert all(map(torch.equal, first, other))


def test_a_stream_of_new_shapes_is_served_by_one_binary(fused):
    from crossattn_ref.attention.fused import forward

    def count():
        return sum(len(caches[0]) for caches in forward.read_kernel.device_caches.values())

    before = None
    for step in range(50):
        batch, lengths = 40 + step % 7, (129 + 31 * step, 1 + 97 * step)
        q, k, v, _ = sequences((4, 4), lengths, (64, 64), torch.bfloat16, batch=batch)
        fused.attention(q, k, v, Lengths(torch.full((batch,), lengths[1] // 2, device="cuda")))
        before = count() if before is None else before
    assert count() == before


def test_strides_beyond_32_bits_find_their_rows(fused):
    room = torch.zeros(2**31 + 2**30, dtype=torch.float16, device="cuda")
    for strides in [(2**31 + 8, 16, 32, 1), (16, 2**31 + 8, 32, 1), (32, 16, 2**30 + 8, 1)]:
        q, k, v = (room.as_strided((2, 2, 3, 16), strides, offset) for offset in (0, 256, 512))
        for x, drawn in zip((q, k, v), sequences((2, 2), (3, 3), (16, 16), torch.float16, batch=2), strict=False):
            x.copy_(drawn)
        torch.testing.assert_close(fused.attention(q, k, v), fused.attention(*(x.contiguous() for x in (q, k, v))))


def test_the_op_keeps_what_torch_asks_of_one(fused):
    from crossattn_ref.attention.fused.op import fused_attention

    tensors = [x.requires_grad_() for x in sequences((4, 2), (5, 19), (32, 32), torch.float32)[:3]]
    torch.library.opcheck(fused_attention, (*tensors, torch.tensor([3, 19, 0], device="cuda"), 2))


def test_a_compiled_layer_has_it_inside_one_graph(fused):
    tensors = sequences((4, 2), (113, 203), (64, 64), torch.bfloat16)
    mask = Lengths(torch.tensor([203, 67, 0], device="cuda"))
    attend = inspect.unwrap(fused.attention)  # without the shapes that other tests execute
    graph = torch.compile(lambda q, k, v: attend(q, k, v, mask), fullgraph=True)
    assert_close(graph, tensors, mask.mask(3, 113, 203).expand(3, 4, 113, 203))


def test_it_is_captured_and_replayed_as_a_cuda_graph(fused):
    q, k, v, _ = sequences((8, 8), (1, 3000), (64, 64), torch.bfloat16)
    keys = torch.tensor([3000, 5, 0], device="cuda", dtype=torch.int32)
    mask = Lengths(keys)
    fused.attention(q, k, v, mask)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = fused.attention(q, k, v, mask)
    keys.copy_(torch.tensor([7, 2999, 3000]))  # the graph reads the lengths that stand there when it is replayed
    graph.replay()
    assert torch.equal(out, fused.attention(q, k, v, Lengths(keys.clone())))
    keys.copy_(torch.tensor([70_000, -3, 5]))  # nobody checks these again
    graph.replay()
    assert torch.equal(out, fused.attention(q, k, v, Lengths(keys.clamp(0, 3000))))


def test_sequences_elsewhere_are_refused_and_chunked_named(fused):
    q, k, v, _ = sequences((1, 1), (3, 5), (16, 16), torch.float32, batch=1)
    with pytest.raises(RuntimeError, match="got device cpu; chunked"):
        fused.attention(q.cpu(), k.cpu(), v.cpu())
