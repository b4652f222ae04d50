"""What training makes small.

Letters: B sentences, N positions, V tokens that there are.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional


def cross_entropy(
    logits: Float[Tensor, "B N V"], targets: Int[Tensor, "B N"], *, smoothing: float = 0.0, ignore: int = 0
) -> tuple[Float[Tensor, ""], int]:
    """Sum the smoothed cross-entropy over all targets that are not padding -> (the sum, how many they are).

    A target's loss is -(1 - e) log p(target) - e / V * (sum over all v of log p(v)), with e our smoothing.
    The sum, divided by the count over a whole update, weighs every token alike, however sentences are batched.
    ignore is the number that stands for padding.

    Source: Szegedy et al., Rethinking the Inception Architecture (2016), section 7.
    """
    total = functional.cross_entropy(
        logits.flatten(0, 1), targets.flatten(), ignore_index=ignore, label_smoothing=smoothing, reduction="sum"
    )
    return total, int(torch.count_nonzero(targets != ignore))


def disagreement(
    one: Float[Tensor, "B N V"], other: Float[Tensor, "B N V"], targets: Int[Tensor, "B N"], *, ignore: int = 0
) -> Float[Tensor, ""]:
    """Sum, over all targets that are not padding, how far two predictions of the same token lie apart.

    For each, (KL(p || q) + KL(q || p)) / 2 = 1/2 (sum over v of (p - q) (log p - log q)), p and q the predictions.
    Logits stand for the logarithms here: what both lack to them is the same for all v, and p - q sums to 0.

    Source: Liang et al., R-Drop: Regularized Dropout for Neural Networks (2021), equation 2.
    """
    apart = ((one.softmax(dim=-1) - other.softmax(dim=-1)) * (one - other)).sum(dim=-1) / 2  # (B, N)
    return apart.masked_fill(targets == ignore, 0.0).sum()
