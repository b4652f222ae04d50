"""What every torch implementation of attention is given: queries, keys, values, and who may look where.

Letters: B samples in a batch, H heads of the queries, Hkv heads of keys and values, Nq queries, Nk keys,
Dk width of a query or key, Dv width of a value.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Lengths:
    """A mask in short: how many keys of each sample are real, and whether queries look at their past only.

    keys (B,) integers: of sample b, the first keys[b] places may be looked at. What follows is padding.
    causal "top-left": query i looks at keys 0 to i.
    causal "bottom-right": the last query looks at every real key, the one before it at all but one, and so on:
    query i of Nq looks at keys 0 to i + keys[b] - Nq. This is how new queries read a memory that holds their past.
    With as many queries as real keys, the two are the same.

    Raises TypeError for keys that are not a tensor of integers, ValueError for more than one axis,
    a negative length, or another word for causal.
    """

    keys: Integer[Tensor, " B"]
    causal: Literal["top-left", "bottom-right"] | None = None

    def __post_init__(self):
        """Check the lengths once, so that no call has to."""
        if not isinstance(self.keys, Tensor):
            raise TypeError(f"keys must be a tensor of integers, got {type(self.keys).__name__}")
        if self.keys.dtype == torch.bool or self.keys.is_floating_point() or self.keys.is_complex():
            raise TypeError(f"keys must be integers, got dtype {self.keys.dtype}")
        if self.keys.ndim != 1:
            raise ValueError(f"keys must have one axis, (B,), got shape {tuple(self.keys.shape)}")
        if self.causal not in (None, "top-left", "bottom-right"):
            raise ValueError(f'causal must be None, "top-left" or "bottom-right", got {self.causal!r}')
        shortest, longest = (int(end) for end in self.keys.aminmax()) if len(self.keys) else (0, 0)
        if shortest < 0:
            raise ValueError(f"keys must be at least 0, got {shortest}")
        object.__setattr__(self, "longest", longest)

    def check(self, batch: int, n_keys: int) -> None:
        """Raise ValueError where there is not one length per sample, or a length lies beyond n_keys."""
        if len(self.keys) != batch:
            raise ValueError(f"keys must hold one length per sample (B = {batch}), got {len(self.keys)}")
        if self.longest > n_keys:
            raise ValueError(f"keys must lie between 0 and Nk ({n_keys}), got {self.longest}")

    def mask(self, batch: int, n_queries: int, n_keys: int) -> Bool[Tensor, "B 1 _ Nk"]:
        """Write the mask out, True = may look; its query axis is 1 where all queries see the same.

        Raises ValueError where there is not one length per sample, or a length lies beyond n_keys.
        """
        self.check(batch, n_keys)
        return self.block(slice(0, n_queries), slice(0, n_keys), n_queries)

    def block(self, rows: slice, columns: slice, n_queries: int) -> Bool[Tensor, "B 1 _ _"]:
        """Write out the part of the mask in which the queries of some rows, of n_queries in all, look at some keys."""
        end = self.keys.view(-1, 1, 1, 1)
        place = torch.arange(columns.start, columns.stop, device=end.device)
        seen = place < end  # (B, 1, 1, columns)
        if self.causal is None:
            return seen
        query = torch.arange(rows.start, rows.stop, device=end.device)[:, None]  # (rows, 1)
        shift = 0 if self.causal == "top-left" else end.long() - n_queries
        return seen & (place <= query + shift)  # (B, 1, rows, columns)


def check_sequences(q: Tensor, k: Tensor, v: Tensor | None = None) -> None:
    """Raise unless q (B, H, Nq, Dk), k (B, Hkv, Nk, Dk) and, where it is given, v (B, Hkv, Nk, Dv) fit together.

    TypeError for what is no tensor of floating numbers and for differing dtypes, ValueError for shapes.
    """
    _check_tensor("q", q)
    _check_tensor("k", k)
    _check_dtypes("q", q, "k", k)
    if q.shape[0] != k.shape[0]:
        raise ValueError(f"q and k must have the same batch size B, got q {_shape(q)} and k {_shape(k)}")
    if k.shape[1] == 0 or q.shape[1] % k.shape[1]:
        raise ValueError(f"the heads of k ({k.shape[1]}) must divide the heads of q ({q.shape[1]})")
    if q.shape[-1] != k.shape[-1]:
        raise ValueError(f"q and k must have the same width Dk, got q {_shape(q)} and k {_shape(k)}")
    if q.shape[-1] == 0:
        raise ValueError(f"the width Dk of q and k must be at least 1, got q {_shape(q)} and k {_shape(k)}")
    if v is not None:
        _check_tensor("v", v)
        _check_dtypes("k", k, "v", v)
        if k.shape[:-1] != v.shape[:-1]:
            raise ValueError(f"k and v must be equal in B, Hkv and Nk, got k {_shape(k)} and v {_shape(v)}")


def _check_tensor(name, tensor):
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{name} must be a tensor of floating numbers, got {type(tensor).__name__}")
    if not tensor.is_floating_point():
        raise TypeError(f"{name} must be a tensor of floating numbers, got dtype {tensor.dtype}")
    if tensor.ndim != 4:
        raise ValueError(f"{name} must have four axes, (B, heads, positions, width), got shape {_shape(tensor)}")


def _check_dtypes(first, one, second, other):
    if one.dtype != other.dtype:
        raise TypeError(f"{first} and {second} must have the same dtype, got {one.dtype} and {other.dtype}")


def read_mask(
    mask: Bool[Tensor, "..."] | Lengths | None, scores: tuple[int, int, int, int]
) -> Bool[Tensor, "_ _ _ Nk"] | None:
    """Bring a mask to four axes that broadcast to scores of a shape (B, H, Nq, Nk), the last one written out.

    None stays None.

    Raises TypeError for a mask that is neither boolean nor Lengths, ValueError for one that would enlarge the batch.
    """
    if mask is None:
        return None
    if isinstance(mask, Lengths):
        return mask.mask(scores[0], scores[2], scores[3])
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
        found = f"dtype {mask.dtype}" if isinstance(mask, Tensor) else type(mask).__name__
        raise TypeError(f"mask must be a boolean tensor, True = may look, or Lengths, got {found}")
    fits = mask.ndim <= 4 and all(m in (1, s) for m, s in zip(mask.shape[::-1], scores[::-1], strict=False))
    if not fits:
        raise ValueError(f"mask must broadcast to the scores (B, H, Nq, Nk) = {scores}, got shape {_shape(mask)}")
    lead = ((1,) * (4 - mask.ndim) + tuple(mask.shape))[:3]
    return mask.expand(*lead, scores[-1])


def is_finite(*tensors: Float[Tensor, "..."]) -> bool:
    """Tell whether no number is NaN or inf, or so large that the product of two would be."""
    wide = torch.float32 if tensors[0].itemsize < 4 else None
    norms = [torch.linalg.vector_norm(tensor.detach(), dtype=wide).item() for tensor in tensors]
    return all(map(math.isfinite, norms))


def _shape(tensor):
    return tuple(tensor.shape)
