"""Not attention, but near it, for less: five ways to read a long memory, each wrong in its own way.

Exact attention pays for Nk keys at every query. These can pay less, in arithmetic, in numbers kept, or in both, and
what they save is bought with an error that depends on the memory: measure it on yours. The code here is for that error:
each docstring says what there is to save, and what keeps this code from saving it. None is a drop-in for a model that
was trained with exact attention, though all take its arguments, as MultiHeadAttention(..., attend=) wants it.

Letters: B samples in a batch, H heads of the queries, Hkv heads of keys and values, Nq queries, Nk keys,
Dk width of a query or key, Dv width of a value; n, r, m: how much of the memory is kept.
What hidden places hold has no effect as long as it is finite; a query that may look at nothing gets zeros.
"""

import math
import operator

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from crossattn_ref.attention import dense
from crossattn_ref.attention.inputs import Lengths, check_sequences, read_mask

Mask = Bool[Tensor, "..."] | Lengths | None


def top_k(
    q: Float[Tensor, "B H Nq Dk"],
    k: Float[Tensor, "B Hkv Nk Dk"],
    v: Float[Tensor, "B Hkv Nk Dv"],
    mask: Mask = None,
    *,
    n: int,
) -> Float[Tensor, "B H Nq Dv"]:
    """Let each query read the n keys that score highest, and no other; with n = Nk it is exact.

    Saves values, in a kernel that fetches rows: n of Nk are read for each query. All keys are read, to find out which;
    an index would spare most. Here nothing is saved: all values meet a matrix of weights that is nearly all 0.
    Errs where many keys matter a little: what they would have given is shared out among the n.
    Raises as dense.attention does, TypeError for an n that is not an integer, ValueError for one below 1.
    Source: Gupta et al., Memory-efficient Transformers via Top-k Attention (2021); Wu et al., Memorizing
    Transformers (2022).
    """
    _at_least_one("n", n)
    check_sequences(q, k, v)
    keys, values = _for_each_head(q, k, v)
    scores = q @ keys.mT / math.sqrt(q.shape[-1])
    seen = read_mask(mask, tuple(scores.shape))
    if seen is not None:
        scores = scores.masked_fill(~seen, -math.inf)
    best, places = scores.topk(min(n, scores.shape[-1]), dim=-1)
    weights = best.softmax(dim=-1).nan_to_num(0.0)  # a row of -inf alone: nothing to see
    sparse = torch.zeros_like(scores).scatter(-1, places, weights)
    return sparse @ values


def linear(
    q: Float[Tensor, "B H Nq Dk"],
    k: Float[Tensor, "B Hkv Nk Dk"],
    v: Float[Tensor, "B Hkv Nk Dv"],
    mask: Mask = None,
) -> Float[Tensor, "B H Nq Dv"]:
    """Put phi(q) phi(k) in the place of exp(q k / sqrt(Dk)), with phi(x) = elu(x) + 1, so that the keys sum up once.

    out = phi(Q) (phi(K)^T V) / (phi(Q) sum_j phi(k_j)); whatever Nk is, Dk (Dv + 1) numbers of a head are all it keeps.
    Saves everything that grows with Nk, where the sums are kept. Here each call sums up anew, so that time grows with
    Nq + Nk in the place of Nq Nk. Errs where one key should take nearly all: phi(q) phi(k) grows with a product, not
    with its exponential.
    Takes masks that hide the same keys from all queries; raises ValueError for others, else as dense.attention does.
    Source: Katharopoulos et al., Transformers are RNNs (2020), equations 5 and 7.
    """
    check_sequences(q, k, v)
    seen = _of_the_keys(q, k, mask)
    query, key = functional.elu(q) + 1, functional.elu(k) + 1
    key = key if seen is None else key * seen[..., None]
    summary, total = _for_each_head(q, key.mT @ v, key.sum(dim=2, keepdim=True))
    share = query @ total.mT  # (B, H, Nq, 1)
    return query @ summary / share.masked_fill(share == 0, 1)


def low_rank(
    q: Float[Tensor, "B H Nq Dk"],
    k: Float[Tensor, "B Hkv Nk Dk"],
    v: Float[Tensor, "B Hkv Nk Dv"],
    mask: Mask = None,
    *,
    projection: Float[Tensor, "r Nk"],
) -> Float[Tensor, "B H Nq Dv"]:
    """Attend to r mixtures of the keys, and of the values, in the place of Nk: attention(Q, E K, E V).

    E is the projection (r, Nk), which a model learns; `segments` makes one that averages neighbours. It is brought to
    the dtype and the device of the keys.
    Saves a factor Nk / r in arithmetic and numbers kept, where the mixtures are kept; here each call mixes anew.
    Errs where a single key matters: it is mixed with others.
    Takes no mask but None: ValueError, since a mixture is neither hidden nor seen. Raises TypeError for a projection
    that is no tensor of floating numbers, ValueError for another shape, else as dense.attention does.
    Source: Wang et al., Linformer (2020), equation 7, with one projection for keys and values.
    """
    check_sequences(q, k, v)
    if mask is not None:
        raise ValueError("mask must be None for low_rank, whose keys are mixtures: delete hidden keys, or use top_k")
    _check_rows("projection", projection, "(r, Nk)", k.shape[2])
    projection = projection.to(k)
    return dense.attention(q, projection @ k, projection @ v)


def segments(r: int, n_keys: int) -> Float[Tensor, "r Nk"]:
    """Make the projection that averages neighbours: r segments of nearly equal length, rows that sum to one.

    Raises TypeError for what is not an integer, ValueError for an r that does not lie between 1 and n_keys.
    """
    _at_least_one("r", r)
    _at_least_one("n_keys", n_keys)
    if r > n_keys:
        raise ValueError(f"r must be at most the number of keys ({n_keys}), got {r}")
    owner = torch.arange(n_keys) * r // n_keys
    rows = functional.one_hot(owner, r).mT.float()
    return rows / rows.sum(dim=1, keepdim=True)


def latents(
    q: Float[Tensor, "B H Nq Dk"],
    k: Float[Tensor, "B Hkv Nk Dk"],
    v: Float[Tensor, "B Hkv Nk Dv"],
    mask: Mask = None,
    *,
    seeds: Float[Tensor, "m Dk"],
) -> Float[Tensor, "B H Nq Dv"]:
    """Let m latents read the memory once, and every query read the latents.

    attention(Q, S(K), S(V)) with S(X) = attention(seeds, K, X): each latent is what its seed carried away.
    The seeds are brought to the dtype and the device of the keys.
    Saves a factor Nk / m for every query after the first reading, where the latents, m (Dk + Dv) numbers of a head, are
    kept; here they read anew at each call.
    Errs on what no seed asked for: a model learns its seeds, and here they are given.
    Takes masks that hide the same keys from all queries; raises ValueError for others, TypeError for seeds that are no
    tensor of floating numbers, ValueError for another shape and for none at all, else as dense.attention does.
    Source: Jaegle et al., Perceiver (2021), section 3.1; Lee et al., Set Transformer (2019), equation 9, likewise.
    """
    check_sequences(q, k, v)
    _check_rows("seeds", seeds, "(m, Dk)", k.shape[3])
    seen = _of_the_keys(q, k, mask)
    asking = seeds.to(k).expand(*k.shape[:2], *seeds.shape)
    mask = None if seen is None else seen[:, :, None]
    out = dense.attention(q, dense.attention(asking, k, k, mask), dense.attention(asking, k, v, mask))
    return out if seen is None else out * _for_each_head(q, seen.any(dim=-1)[..., None, None])[0]


def quantised(
    q: Float[Tensor, "B H Nq Dk"],
    k: Float[Tensor, "B Hkv Nk Dk"],
    v: Float[Tensor, "B Hkv Nk Dv"],
    mask: Mask = None,
    *,
    bits: int,
) -> Float[Tensor, "B H Nq Dv"]:
    """Attend exactly to keys and values that were rounded to bits each, with one scale for each row.

    A number x of a row is kept as round(x / s), s = max |row| / (2^(bits - 1) - 1), and read as s times that.
    Saves memory and its traffic, in a kernel that reads packed integers: bits for each number in the place of 32 (or
    16), beside one scale a row; no arithmetic. Here nothing is saved: 8 bits hold a number, whatever bits is, and all
    are restored before they are multiplied. Errs a little everywhere, most in rows with one large number.
    Gradients reach keys and values through their scales only, as rounding has none.
    Raises as dense.attention does, TypeError for bits that are not an integer, ValueError for bits outside 2 to 8.
    Source: symmetric absolute-maximum quantisation, as in Dettmers et al., LLM.int8() (2022), section 2.1.
    """
    check_sequences(q, k, v)
    return dense.attention(q, *(_restored(*quantise(x, bits)) for x in (k, v)), mask)


def quantise(x: Float[Tensor, "*rows D"], bits: int) -> tuple[Tensor, Float[Tensor, "*rows 1"]]:
    """Round each row to integers of so many bits -> them as int8, and the scale of each row.

    Raises TypeError for bits that are not an integer, ValueError for bits outside 2 to 8.
    """
    _check_integer("bits", bits)
    if not 2 <= bits <= 8:
        raise ValueError(f"bits must lie between 2 and 8, got {bits}")
    most = 2 ** (bits - 1) - 1
    scale = x.abs().amax(dim=-1, keepdim=True) / most
    numbers = (x / scale.masked_fill(scale == 0, 1)).round()
    return numbers.clamp(-most, most).to(torch.int8), scale  # in half precision the scale may be a little too small


def _restored(numbers, scale):
    return numbers * scale


def _for_each_head(q, *tensors):
    """Repeat what belongs to a head of keys for each query head that shares it."""
    groups = q.shape[1] // tensors[0].shape[1]
    return tensors if groups == 1 else tuple(tensor.repeat_interleave(groups, dim=1) for tensor in tensors)


def _of_the_keys(q, k, mask):
    """Read a mask that all queries and heads share -> (B, 1, Nk) or broadcasting to it; None where all is seen."""
    seen = read_mask(mask, (*q.shape[:3], k.shape[2]))
    if seen is None:
        return None
    if seen.shape[1:3] != (1, 1):
        raise ValueError(f"mask must hide the same keys from all heads and queries, got shape {tuple(seen.shape)}")
    return seen[:, :, 0].expand(k.shape[0], 1, k.shape[2])


def _check_rows(name, rows, axes, width):
    if not isinstance(rows, Tensor) or not rows.is_floating_point():
        found = f"dtype {rows.dtype}" if isinstance(rows, Tensor) else type(rows).__name__
        raise TypeError(f"{name} must be a tensor of floating numbers, got {found}")
    if rows.ndim != 2 or rows.shape[0] == 0 or rows.shape[1] != width:
        rule = f"have the shape {axes}, at least one row of {width} numbers"
        raise ValueError(f"{name} must {rule}, got shape {tuple(rows.shape)}")


def _at_least_one(name, number):
    _check_integer(name, number)
    if number < 1:
        raise ValueError(f"{name} must be at least 1, got {number}")


def _check_integer(name, number):
    try:
        operator.index(number)
    except TypeError:
        raise TypeError(f"{name} must be an integer, got {number!r}") from None
