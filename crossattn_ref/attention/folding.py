"""Several rows that read one memory, as several queries of one sample: the memory is stored and read once.

A beam search writes W continuations of each source. Copied W times, the memory of a source takes W times the room,
and every step reads all of it. But attention treats each query by itself: W rows with one query each, and one row
with W queries, have the same answers. So rows are folded into queries, whatever then computes the attention.

Letters: B sources, W rows of each, one after another (row i reads memory i // W), H heads of the queries, Hkv heads of
keys and values, Nq queries of a row, Nk keys, Dk width of a query or key, Dv width of a value, D width of x.
"""

from collections.abc import Callable

from jaxtyping import Bool, Float
from torch import Tensor

from crossattn_ref.attention import dense
from crossattn_ref.attention.inputs import Lengths
from crossattn_ref.attention.multihead import Memory, MultiHeadAttention


def fold(q: Float[Tensor, "rows H Nq Dk"], width: int) -> Float[Tensor, "B H _ Dk"]:
    """Make the queries of `width` rows in a row into queries of one sample: (B * W, H, Nq, Dk) -> (B, H, W * Nq, Dk).

    Raises ValueError for a width below 1, and for rows that it does not divide.
    """
    if width < 1:
        raise ValueError(f"width must be at least 1, got {width}")
    if q.shape[0] % width:
        raise ValueError(f"width ({width}) must divide the rows of q ({q.shape[0]})")
    return q.unflatten(0, (-1, width)).transpose(1, 2).flatten(2, 3)


def unfold(out: Float[Tensor, "B H _ Dv"], width: int) -> Float[Tensor, "rows H Nq Dv"]:
    """Give each row its queries back, the inverse of fold: (B, H, W * Nq, Dv) -> (B * W, H, Nq, Dv).

    Raises ValueError for a width below 1, and for queries that it does not divide.
    """
    if width < 1:
        raise ValueError(f"width must be at least 1, got {width}")
    if out.shape[2] % width:
        raise ValueError(f"width ({width}) must divide the queries ({out.shape[2]})")
    return out.unflatten(2, (width, -1)).transpose(1, 2).flatten(0, 1)


def attention(
    q: Float[Tensor, "rows H Nq Dk"],
    k: Float[Tensor, "B Hkv Nk Dk"],
    v: Float[Tensor, "B Hkv Nk Dv"],
    mask: Bool[Tensor, "..."] | Lengths | None = None,
    *,
    attend: Callable = dense.attention,
) -> Float[Tensor, "rows H Nq Dv"]:
    """Compute attend(q, k, v, mask) with every memory repeated for its rows, without repeating it.

    The rows of q are W times as many as memories, and row i reads memory i // W. The mask says what of a memory may be
    looked at, the same for all who read it: Lengths of the B memories, or booleans that broadcast to (B, H, 1, Nk).

    Raises as attend does; ValueError for rows that are no multiple of the memories, and for a mask that tells queries
    apart: a folded query is not where it was.
    """
    rows, sources = q.shape[0], k.shape[0]
    if sources == 0 or rows % sources or rows < sources:
        raise ValueError(f"the rows of q ({rows}) must be a multiple of the memories ({sources}), at least one of each")
    _check_mask(mask)
    width = rows // sources
    return unfold(attend(fold(q, width), k, v, mask), width)


def read(
    layer: MultiHeadAttention,
    x: Float[Tensor, "rows Nq D"],
    memory: Memory,
    mask: Bool[Tensor, "..."] | Lengths | None = None,
) -> Float[Tensor, "rows Nq D"]:
    """Let the rows of x read remembered memories, W rows each: layer(x, memory, mask) without repeating a memory.

    memory is what layer.remember made of the B sources; x is cut anew and not moved. Masks and errors as for attention.
    """
    rows, sources = x.shape[0], memory.keys.shape[0]
    if sources == 0 or rows % sources or rows < sources:
        raise ValueError(f"the rows of x ({rows}) must be a multiple of the memories ({sources}), at least one of each")
    _check_mask(mask)
    return layer(x.reshape(sources, -1, x.shape[-1]), memory, mask).view(x.shape)


def _check_mask(mask):
    if isinstance(mask, Lengths) and mask.causal is not None:
        raise ValueError(f"causal must be None where rows are folded into queries, got {mask.causal!r}")
    if isinstance(mask, Tensor) and mask.ndim > 1 and mask.shape[-2] != 1:
        raise ValueError(f"mask must be the same for all queries, (B, H, 1, Nk), got shape {tuple(mask.shape)}")
