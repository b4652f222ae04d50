"""Folding rows into queries: the same answers as with repeated memories, for every backend, and not one copy."""

from functools import partial

import pytest
import torch
from torch.nn import functional

from crossattn_ref.attention import chunked, dense, folding
from crossattn_ref.attention.inputs import Lengths
from crossattn_ref.attention.multihead import MultiHeadAttention
from crossattn_ref.bench.memory import torch_peak
from crossattn_ref.checks import reference

B, W, H, HKV, NQ, NK, DK, DV = 2, 5, 6, 3, 7, 11, 13, 17
ATTENDS = {"dense": dense.attention, "chunked": partial(chunked.attention, chunk_size=3)}


def sequences(n_queries=NQ, *, n_keys=NK, seed=3):
    generator = torch.Generator().manual_seed(seed)
    shapes = (B * W, H, n_queries, DK), (B, HKV, n_keys, DK), (B, HKV, n_keys, DV)
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]


def repeated(q, k, v, seen=None):
    """What torch answers when every row has a memory of its own."""
    k, v = (x.repeat_interleave(W, dim=0) for x in (k, v))
    seen = seen if seen is None else seen.repeat_interleave(W, dim=0)
    return functional.scaled_dot_product_attention(q, k, v, attn_mask=seen, enable_gqa=True)


def test_two_rows_that_read_one_memory_are_two_queries_of_it():
    q = torch.tensor([1.0, 2.0, 3.0, 4.0]).view(4, 1, 1, 1)
    assert folding.fold(q, 2).tolist() == [[[[1.0], [2.0]]], [[[3.0], [4.0]]]]
    assert torch.equal(folding.unfold(folding.fold(q, 2), 2), q)


@pytest.mark.parametrize("n_queries", [1, NQ])
@pytest.mark.parametrize("width", [1, 2, W, B * W])
def test_fold_answers_the_exercise_and_unfold_takes_it_back(n_queries, width):
    q = sequences(n_queries)[0]
    assert torch.equal(folding.fold(q, width), torch.from_numpy(reference("decoding/fold_beams")(q.numpy(), width)))
    assert torch.equal(folding.unfold(folding.fold(q, width), width), q)


@pytest.mark.parametrize("n_queries", [1, NQ])
@pytest.mark.parametrize("attend", ATTENDS.values(), ids=ATTENDS)
def test_the_answer_is_that_of_repeated_memories(attend, n_queries):
    q, k, v = sequences(n_queries)
    torch.testing.assert_close(folding.attention(q, k, v, attend=attend), repeated(q, k, v), rtol=0, atol=1e-12)


@pytest.mark.parametrize("attend", ATTENDS.values(), ids=ATTENDS)
def test_each_memory_keeps_its_own_mask(attend):
    q, k, v = sequences()
    lengths = torch.tensor([3, 8])
    seen = torch.arange(NK) < lengths[:, None, None, None]
    expected = repeated(q, k, v, seen)
    for mask in (Lengths(lengths), seen):
        torch.testing.assert_close(folding.attention(q, k, v, mask, attend=attend), expected, rtol=0, atol=1e-12)
    for mask in (seen[0], seen[0, 0, 0]):  # one for all
        expected = repeated(q, k, v, mask.expand(B, 1, 1, NK))
        torch.testing.assert_close(folding.attention(q, k, v, mask, attend=attend), expected, rtol=0, atol=1e-12)


def test_gradients_are_those_of_repeated_memories():
    tensors = [tensor.requires_grad_() for tensor in sequences()]
    grad_out = torch.randn(B * W, H, NQ, DV, dtype=torch.float64)
    mine = torch.autograd.grad(folding.attention(*tensors), tensors, grad_out)
    theirs = torch.autograd.grad(repeated(*tensors), tensors, grad_out)
    for grad, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(grad, other, rtol=0, atol=1e-12)


@pytest.mark.parametrize("n_queries", [1, NQ])
@pytest.mark.parametrize("lengths", [None, [3, 8]])
def test_a_layer_reads_a_remembered_memory_as_if_it_were_repeated(n_queries, lengths):
    torch.manual_seed(3)
    layer = MultiHeadAttention(12, 6, d_memory=13, n_kv_heads=3).double()
    x, memory = torch.randn(B * W, n_queries, 12).double(), torch.randn(B, NK, 13).double()
    mask = lengths and Lengths(torch.tensor(lengths))
    many = lengths and Lengths(torch.tensor(lengths).repeat_interleave(W))
    found = folding.read(layer, x, layer.remember(memory), mask)
    torch.testing.assert_close(found, layer(x, memory.repeat_interleave(W, dim=0), many), rtol=0, atol=1e-12)


def test_no_memory_is_copied():
    q, k, _ = sequences(1, n_keys=401)
    v = k.clone()  # as wide as k, so that torch computes without scratch
    folded = torch_peak(lambda: folding.attention(q, k, v))
    assert folded <= 4 * q.nbytes < k.nbytes  # queries and outputs, there and back
    assert torch_peak(lambda: repeated(q, k, v)) > W * (k.nbytes + v.nbytes)


def test_what_does_not_fold_is_refused(shapes_unchecked):
    q, k, v = sequences()
    with pytest.raises(ValueError, match=r"the rows of q \(9\) must be a multiple of the memories \(2\)"):
        folding.attention(q[:9], k, v)
    with pytest.raises(ValueError, match=r"the rows of q \(0\) must be a multiple"):
        folding.attention(q[:0], k, v)
    with pytest.raises(ValueError, match=r"the rows of q \(10\) must be a multiple of the memories \(0\)"):
        folding.attention(q, k[:0], v[:0])
    with pytest.raises(ValueError, match=r"causal must be None .*, got 'bottom-right'"):
        folding.attention(q, k, v, Lengths(torch.tensor([3, 8]), "bottom-right"))
    with pytest.raises(ValueError, match=r"mask must be the same for all queries, .* got shape \(7, 11\)"):
        folding.attention(q, k, v, torch.ones(NQ, NK, dtype=torch.bool))
    for width, rule in ((0, "width must be at least 1, got 0"), (3, r"width \(3\) must divide the rows of q \(10\)")):
        with pytest.raises(ValueError, match=rule):
            folding.fold(q, width)
    with pytest.raises(ValueError, match=r"width \(3\) must divide the queries \(7\)"):
        folding.unfold(q, 3)
    with pytest.raises(ValueError, match="width must be at least 1, got -1"):
        folding.unfold(q, -1)
    layer = MultiHeadAttention(12, 6)
    memory = layer.remember(torch.randn(B, NK, 12))
    with pytest.raises(ValueError, match=r"the rows of x \(3\) must be a multiple of the memories \(2\)"):
        folding.read(layer, torch.randn(3, 1, 12), memory)
    with pytest.raises(ValueError, match=r"causal must be None"):
        folding.read(layer, torch.randn(4, 1, 12), memory, Lengths(torch.tensor([3, 8]), "top-left"))
