"""How fast to learn, step by step: up during the warm-up, then down."""

from collections.abc import Callable


def inverse_square_root(step: int, *, n_warmup: int, n_steps: int) -> float:
    """Rise linearly to 1 at step n_warmup, then fall as 1 / sqrt(step); steps count from 1, n_steps does not matter.

    rate(step) = min(step / n_warmup, sqrt(n_warmup / step)).

    Source: Vaswani et al., Attention Is All You Need (2017), equation 3, scaled to 1 at its peak.
    """
    del n_steps
    n_warmup = max(n_warmup, 1)
    return min(step / n_warmup, (n_warmup / step) ** 0.5)


def linear(step: int, *, n_warmup: int, n_steps: int) -> float:
    """Rise linearly to 1 at step n_warmup, then fall linearly, to 0 one step after the last."""
    n_warmup = max(n_warmup, 1)
    return min(step / n_warmup, max(n_steps + 1 - step, 0) / max(n_steps + 1 - n_warmup, 1))


SCHEDULES: dict[str, Callable] = {"inverse-square-root": inverse_square_root, "linear": linear}
