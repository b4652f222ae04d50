"""Attention on the GPU, exact, in Triton: forward, backward, split over keys, and the torch op that leads to them."""

try:
    import triton  # noqa: F401
except ModuleNotFoundError as error:
    remedy = "install crossattn-ref[gpu] (Linux), or use attention.chunked, which computes the same anywhere"
    raise ModuleNotFoundError(
        f"attention.fused needs triton, which is not installed: {remedy}", name="triton"
    ) from error

from crossattn_ref.attention.fused.op import attention

__all__ = ["attention"]
