"""A model made ready for training: the same weights, and attention that takes numbers to be finite.

Attention looks at every call whether what it hides is NaN, and each look makes a GPU wait for the answer. Who trains
need not look that often: a weight that is no number shows in the loss, and the loop looks at that.

Letters: B samples in a batch, H heads of the queries, Hkv heads of keys and values, Nq queries, Nk keys, Dk width of a
query or key, Dv width of a value.
"""

import copy

from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from crossattn_ref.attention.inputs import Lengths, read_mask
from crossattn_ref.attention.multihead import MultiHeadAttention

# Without cuDNN's, which prepares anew for every shape: sentences in batches come in hundreds of shapes.
KERNELS = (SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH)


def for_training(model: nn.Module) -> nn.Module:
    """Copy a model for training; the copy shares the weights, so that what it learns the model has learnt.

    Every query must see something: what one that sees nothing gets is not defined here.
    """
    shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    ready = copy.deepcopy(model, shared)
    for module in ready.modules():
        if isinstance(module, MultiHeadAttention):
            module.__class__, module.attend = Unshielded, attention
    return ready.train()


class Unshielded(MultiHeadAttention):
    """Attention in heads that multiplies what is hidden by 0 as it is."""

    def _shielded(self, x, memory, _mask):
        return x, memory


def attention(
    q: Float[Tensor, "B H Nq Dk"],
    k: Float[Tensor, "B Hkv Nk Dk"],
    v: Float[Tensor, "B Hkv Nk Dv"],
    mask: Bool[Tensor, "..."] | Lengths | None = None,
) -> Float[Tensor, "B H Nq Dv"]:
    """Compute dense.attention for numbers that are finite and queries that see something."""
    seen = read_mask(mask, (*q.shape[:-1], k.shape[-2]))
    with sdpa_kernel(list(KERNELS)):
        return functional.scaled_dot_product_attention(q, k, v, attn_mask=seen, enable_gqa=q.shape[1] != k.shape[1])
