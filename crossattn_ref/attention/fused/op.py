"""The torch op: attention as torch.compile and autograd see it, and what it refuses.

Letters: B samples in a batch, H heads of the queries, Hkv heads of keys and values, Nq queries, Nk keys,
Dk width of a query or key, Dv width of a value.
"""

import subprocess
from contextlib import contextmanager

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from triton.runtime.errors import TritonError

from crossattn_ref.attention.fused.backward import send_back
from crossattn_ref.attention.fused.forward import INTERPRETED, read
from crossattn_ref.attention.inputs import Lengths, check_sequences

DTYPES = (torch.float16, torch.bfloat16, torch.float32)
WIDEST = 256
CAUSAL = {None: 0, "top-left": 1, "bottom-right": 2}


def attention(
    q: Float[Tensor, "B H Nq Dk"],
    k: Float[Tensor, "B Hkv Nk Dk"],
    v: Float[Tensor, "B Hkv Nk Dv"],
    mask: Bool[Tensor, "..."] | Lengths | None = None,
) -> Float[Tensor, "B H Nq Dv"]:
    """Compute dense.attention in one kernel, without its weights: the same answer, the same gradients.

    The mask is None or Lengths: the kernel reads no key behind a length, and writes no mask out. Lengths that lie on
    the GPU may be changed in place, for a CUDA graph to read when it is replayed. Nobody checks them again then: one
    beyond Nk counts as Nk, one below 0 as 0.
    Where queries are few and keys many, the keys are split among more programs, whose parts are then combined.
    Inputs need not be contiguous, but every row is read 16 bytes at a time: what does not start and end so, such as a
    width that 8 does not divide (4 in single precision), is copied and filled up with zeros at each call.
    float16, bfloat16 and float32 are summed in float32; widths go up to 256.
    A query that may look at nothing gets zeros and has zero gradients, and what nobody may see has no effect.
    With causal Lengths, a NaN that some queries see may reach others of their block, as 0 * NaN is NaN.
    Gradients of gradients are not to be had: RuntimeError.

    Raises as dense.attention does, and names chunked.attention where that runs instead: TypeError for a boolean mask
    and for other dtypes, ValueError for wider heads, RuntimeError without a GPU that Triton can use.
    Source: Dao, FlashAttention-2 (2023), algorithms 1 and 2; the split: Dao et al., Flash-Decoding (2023).
    """
    check_sequences(q, k, v)
    ends, causal = None, 0
    if isinstance(mask, Lengths):
        mask.check(q.shape[0], k.shape[2])
        ends, causal = mask.keys.to(q.device).contiguous(), CAUSAL[mask.causal]
    elif mask is not None:
        found = f"a tensor of {mask.dtype}" if isinstance(mask, Tensor) else type(mask).__name__
        raise TypeError(f"mask must be Lengths or None, got {found}; chunked.attention and dense.attention take masks")
    _check_runnable(q, k, v)
    return fused_attention(q, k, v, ends, causal)[0]


def _check_runnable(q, k, v):
    if q.dtype not in DTYPES:
        remedy = "chunked.attention takes it" if q.dtype == torch.float64 else "convert it to one of these"
        raise TypeError(f"q must be float16, bfloat16 or float32, got {q.dtype}; {remedy}")
    widest = max(q.shape[-1], v.shape[-1])
    if widest > WIDEST:
        raise ValueError(f"the widths Dk and Dv must be at most {WIDEST}, got {widest}; chunked.attention takes it")
    if not q.device == k.device == v.device:
        raise ValueError(f"q, k and v must lie on one device, got {q.device}, {k.device} and {v.device}")
    if q.device.type != ("cpu" if INTERPRETED else "cuda"):
        remedy = "chunked.attention runs there (or set TRITON_INTERPRET=1 before the import, to test on a CPU)"
        raise RuntimeError(f"fused.attention needs q on a GPU, got device {q.device}; {remedy}")


@contextmanager
def _naming_another(device):
    """Say what runs where Triton cannot: an old driver, too little shared memory, no C compiler to launch with."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except (TritonError, RuntimeError, OSError, subprocess.SubprocessError) as error:
        remedy = "chunked.attention runs there"
        raise RuntimeError(f"fused.attention cannot run its kernels on {device} ({error}); {remedy}") from error


@torch.library.custom_op("crossattn::fused_attention", mutates_args=())
def fused_attention(q: Tensor, k: Tensor, v: Tensor, ends: Tensor | None, causal: int) -> tuple[Tensor, Tensor]:
    """Compute (out (B, H, Nq, Dv), logs (B, H, Nq)) for ends (B,) keys; causal as the number of its word in CAUSAL."""
    with _naming_another(q.device):
        return read(q, k, v, ends, causal)


@fused_attention.register_fake
def _(q, _k, v, *_):
    return q.new_empty(*q.shape[:3], v.shape[3]), q.new_empty(q.shape[:3], dtype=torch.float32)


@torch.library.custom_op("crossattn::fused_attention_backward", mutates_args=())
def fused_attention_backward(
    grad_out: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, logs: Tensor, ends: Tensor | None, causal: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the gradients of q, k and v."""
    with _naming_another(q.device):
        return send_back(grad_out, q, k, v, out, logs, ends, causal)


@fused_attention_backward.register_fake
def _(_grad_out, q, k, v, *_):
    return tuple(x.new_empty(x.shape) for x in (q, k, v))


def _remember(ctx, inputs, output):
    q, k, v, ends, ctx.causal = inputs
    ctx.save_for_backward(q, k, v, *output, ends)


def _backward(ctx, grad_out, _):
    q, k, v, out, logs, ends = ctx.saved_tensors
    return *fused_attention_backward(grad_out, q, k, v, out, logs, ends, ctx.causal), None, None


fused_attention.register_autograd(_backward, setup_context=_remember)
