"""Large scores of which one leads: between two keys that are nearly level rounding decides, and right answers differ.

Letters: B samples in a batch, Nq queries, Nk keys, D width of x, Dm width of the memory.
"""

from collections.abc import Callable, Mapping

import numpy as np
import torch

from crossattn_ref.attention.multihead import MultiHeadAttention
from crossattn_ref.checks.draw import normal

LEADS = 1 - 1e-9  # of a query's weight: every other score is 20 behind


def decided(
    rng: np.random.Generator, queries: np.ndarray, largest_weights: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """Draw queries (..., Nq, D) anew until the largest weight of each is nearly all; the weights are (..., Nq)."""
    while (level := largest_weights(queries) < LEADS).any():
        queries = np.where(level[..., None], normal(rng, *queries.shape), queries)
    return queries


def in_all_heads(config: Mapping, state: Mapping, args: Mapping) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function of x (B, Nq, D): the largest weight (B, Nq) of each query in the head where that is smallest.

    The layer has a config and weights, and reads the memory (B, Nk, Dm) of args, under their mask where there is one.
    """
    layer = MultiHeadAttention(**config).double().requires_grad_(False)
    layer.load_state_dict({name: torch.from_numpy(array) for name, array in state.items()})
    seen = {name: torch.from_numpy(args[name]) for name in ("memory", "mask") if name in args}
    return lambda x: layer.weights(torch.from_numpy(x), **seen).amax(-1).amin(1).numpy()
