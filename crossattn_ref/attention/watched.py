"""Attention layers with their weights laid open while they compute: to look at, and to ask what hangs on each.

Letters: B samples in a batch, H heads, Nq queries, Nk keys.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, is_grad_enabled

from crossattn_ref.attention import dense
from crossattn_ref.attention.multihead import MultiHeadAttention


@contextmanager
def watched(*layers: MultiHeadAttention) -> Iterator[list[Tensor]]:
    """Collect the weights (B, H, Nq, Nk) of these layers, one tensor for each call, in the order of the calls.

    Inside, values are averaged with the very tensors that are collected. So torch.autograd.grad of any result with
    respect to them says how it would change if a query looked a little more at one key and at the others as before.
    Afterwards the layers compute as they did, with whatever attend they had. Inside it is exact attention: one that
    only comes near it, such as approximate.top_k, is not watched but replaced. Where two watch one layer, the inner
    alone collects.

    What a mask hides must be finite here: it is multiplied by a weight of 0.
    """
    collected: list[Tensor] = []

    def attend(q, k, v, mask=None):
        weights = dense.attention_weights(q, k, mask)
        if is_grad_enabled() and not weights.requires_grad:
            weights.requires_grad_()  # of a frozen layer: nothing else asks for a gradient
        collected.append(weights)
        return weights @ v.repeat_interleave(q.shape[1] // v.shape[1], dim=1)

    before = [layer.attend for layer in layers]
    try:
        for layer in layers:
            layer.attend = attend
        yield collected
    finally:
        for layer, attend_before in zip(layers, before, strict=True):
            layer.attend = attend_before
