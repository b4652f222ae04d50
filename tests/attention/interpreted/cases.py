"""Problems for the tests of kernels: sequences laid among NaN, the answer of the oracle, the error of the formula."""

from dataclasses import dataclass

import numpy as np
import torch

from crossattn_ref.attention import reference
from crossattn_ref.attention.inputs import Lengths


@dataclass
class Case:
    """A problem: sequences, whose rows lie between rows and columns of NaN, a gradient laid likewise, and lengths."""

    q: torch.Tensor
    k: torch.Tensor
    v: torch.Tensor
    grad_out: torch.Tensor
    mask: Lengths | None

    @property
    def sequences(self):
        return self.q, self.k, self.v

    def seen(self):
        """Write out who may look where, place by place, as the docstring of Lengths says it -> (B, H, Nq, Nk)."""
        (batch, n_heads, n_queries, _), n_keys = self.q.shape, self.k.shape[2]
        seen = np.ones((batch, n_heads, n_queries, n_keys), dtype=bool)
        for sample, end in enumerate(self.mask.keys.tolist() if self.mask else ()):
            for query in range(n_queries):
                last = {None: n_keys, "top-left": query, "bottom-right": query + end - n_queries}[self.mask.causal]
                seen[sample, :, query, max(0, min(end, last + 1)) :] = False
        return seen

    def right(self):
        """Compute the answer and the gradients in float64 with the oracle, with a head of keys for every head."""
        groups = self.q.shape[1] // self.k.shape[1]
        q, k, v, grad_out = (x.double().numpy() for x in (self.q, self.k, self.v, self.grad_out))
        k, v = (np.repeat(x, groups, axis=1) for x in (k, v))
        seen = self.seen()
        out = reference.attention(q, k, v, seen)
        grad_q, grad_k, grad_v = reference.attention_backward(grad_out, q, k, v, seen)
        shape = (q.shape[0], -1, groups)
        grad_k, grad_v = (x.reshape(*shape, *x.shape[2:]).sum(axis=2) for x in (grad_k, grad_v))
        return [torch.from_numpy(x) for x in (out, grad_q, grad_k, grad_v)]

    def plain(self):
        """Compute the answer and the gradients by the formula, in the dtype at hand throughout."""
        q, k, v = (x.detach().clone().requires_grad_() for x in self.sequences)
        groups = self.q.shape[1] // self.k.shape[1]
        scores = q @ k.repeat_interleave(groups, 1).mT / q.shape[-1] ** 0.5
        seen = torch.from_numpy(self.seen())
        weights = scores.masked_fill(~seen, torch.finfo(q.dtype).min).softmax(-1).masked_fill(~seen, 0)
        out = weights @ v.repeat_interleave(groups, 1)
        return [out.detach(), *torch.autograd.grad(out, (q, k, v), self.grad_out)]


def among_nan(tensor: torch.Tensor) -> torch.Tensor:
    """Lay a tensor (B, heads, positions, width) into a larger one full of NaN, with the positions before the heads.

    Rows start at 16 bytes: those that also end there are read where they lie, others from a copy.
    """
    batch, heads, positions, width = tensor.shape
    room = tensor.new_full((batch, positions + 5, heads + 1, width + 16), float("nan"))
    view = room[:, 2 : positions + 2, :heads, 8 : width + 8].transpose(1, 2)
    return view.copy_(tensor)


def make(batch, heads, lengths, widths, dtype, *, causal=None, ends=None, seed=0, scale=1.0) -> Case:
    """Draw a case; heads are (H, Hkv), lengths (Nq, Nk), widths (Dk, Dv), ends the real keys of each sample."""
    generator = torch.Generator().manual_seed(seed)
    shapes = [(heads[0], lengths[0], widths[0]), (heads[1], lengths[1], widths[0]), (heads[1], lengths[1], widths[1])]
    shapes.append((heads[0], lengths[0], widths[1]))
    drawn = [torch.randn(batch, *shape, generator=generator, dtype=torch.float64) for shape in shapes]
    q, k, v, grad_out = (among_nan(x.to(dtype)) for x in (scale * drawn[0], *drawn[1:]))
    return Case(q, k, v, grad_out, None if ends is None else Lengths(torch.tensor(ends), causal))


def assert_close(ours, case: Case) -> None:
    """Hold answers and gradients against float64: 2 times the formula's error in half precision, 16 times in single."""
    factor, exact = 16 if case.q.dtype == torch.float32 else 2, case.right()
    least = torch.finfo(case.q.dtype).eps * max((x.abs().max() for x in exact if x.numel()), default=0)  # of a sum to 0
    for name, mine, right, plain in zip(("out", "q", "k", "v"), ours, exact, case.plain(), strict=False):
        assert mine.shape == right.shape
        assert mine.dtype == case.q.dtype
        if not right.numel():
            continue
        error, allowed = (mine - right).abs().max(), factor * max((plain - right).abs().max(), least)
        assert error <= allowed, f"{name}: {error:.2e} is above {allowed:.2e}"
