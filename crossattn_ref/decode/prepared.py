"""A model made ready for taking many small steps: the same weights and the same results, computed another way round.

A step has few rows, one for each sentence that is being written. So most of its time goes into reading weights, and
the fastest way to read them is not the one that suits long sequences.

Letters: Nq queries, Nk keys, H heads, Hkv heads of keys and values.
"""

import copy

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from crossattn_ref.attention.inputs import Lengths, is_finite, read_mask
from crossattn_ref.attention.multihead import MultiHeadAttention

FEW = 64  # rows up to which a matrix of weights is better the left factor
SMALL = 2**17  # numbers up to which a result is laid out row by row again: a copy costs less than what reads columns


def for_decoding(model: nn.Module) -> nn.Module:
    """Copy a model for decoding on a CPU; the copy shares the weights, so that it follows what becomes of them.

    Its linear layers compute (W x^T)^T in the place of x W^T where there are few rows, and its attentions take it that
    numbers are finite, as long as the weights are, and look no more for NaN and inf behind a mask at every step.

    Raises ValueError for weights that hold NaN or inf.
    """
    for name, weight in model.named_parameters():
        if not is_finite(weight):
            raise ValueError(f"weights must be finite, and {name} holds NaN or inf")
    shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    ready = copy.deepcopy(model, shared)
    for module in ready.modules():
        if type(module) is nn.Linear:
            module.__class__ = FewRows
        elif isinstance(module, MultiHeadAttention):
            module.attend = finite_attention
    return ready.eval()


class FewRows(nn.Linear):
    """A linear layer that multiplies from the left where there are few rows: (W x^T)^T + b."""

    def forward(self, x: Float[Tensor, "*rows D"]) -> Float[Tensor, "*rows E"]:
        """Apply the layer; a large result of few rows is laid out column by column."""
        rows = x.flatten(0, -2)
        if len(rows) > FEW:
            return super().forward(x)
        columns = self.weight @ rows.mT  # (E, rows)
        if self.bias is not None:
            columns += self.bias[:, None]
        out = columns.mT if columns.numel() > SMALL else columns.mT.contiguous()
        return out.unflatten(0, x.shape[:-1])


def finite_attention(
    q: Float[Tensor, "B H Nq Dk"],
    k: Float[Tensor, "B Hkv Nk Dk"],
    v: Float[Tensor, "B Hkv Nk Dv"],
    mask: Bool[Tensor, "..."] | Lengths | None = None,
) -> Float[Tensor, "B H Nq Dv"]:
    """Compute dense.attention for numbers that are finite, without looking whether they are.

    A query that may look at nothing gets zeros.
    """
    seen = read_mask(mask, (*q.shape[:-1], k.shape[-2]))
    out = functional.scaled_dot_product_attention(q, k, v, attn_mask=seen, enable_gqa=q.shape[1] != k.shape[1])
    return out if seen is None else torch.where(seen.any(dim=-1, keepdim=True), out, 0.0)
