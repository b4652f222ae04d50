"""The ceilings of the machine at hand, measured: how fast it multiplies, copies and exponentiates."""

import statistics

import torch

from crossattn_ref.bench.measure import side_by_side
from crossattn_ref.cost import Machine

_SIDE = 1024  # of square matrices
_NUMBERS = 2**23  # 32 MiB of float32: as large as the memories that are timed, wherever a processor keeps them
_IN_CACHE = 2**16  # exponentials are limited by arithmetic where their numbers are near


def samples(*, seconds: float = 3.0) -> dict[str, list[float]]:
    """Measure operations of float32 products, bytes copied (read and written), bytes read, exponentials; per second."""
    one, other = torch.rand(_SIDE, _SIDE), torch.rand(_SIDE, _SIDE)
    product, source, few = torch.empty_like(one), torch.rand(_NUMBERS), torch.rand(_IN_CACHE)
    target, grown = torch.empty_like(source), torch.empty_like(few)
    calls = {
        "matrix_rate": (2 * _SIDE**3, lambda: torch.mm(one, other, out=product)),
        "copy_bandwidth": (2 * source.nbytes, lambda: target.copy_(source)),
        "read_bandwidth": (source.nbytes, source.sum),
        "exp_rate": (_IN_CACHE, lambda: torch.exp(few, out=grown)),
    }
    timed = side_by_side([call for _, call in calls.values()], seconds=seconds)
    return {
        name: [amount / time * 1e6 for time in times]
        for (name, (amount, _)), times in zip(calls.items(), timed, strict=True)
    }


def machine(measured: dict[str, list[float]]) -> Machine:
    """Make a Machine of the best that was measured: a floor must not lie above what the machine has once done."""
    best = {name: max(values) for name, values in measured.items()}
    return Machine(
        name="this machine",
        rates={"float32": best["matrix_rate"]},
        bandwidth=max(best["copy_bandwidth"], best["read_bandwidth"]),
        exp_rate=best["exp_rate"],
        source=f"measured here, medians {', '.join(f'{n} {statistics.median(v):.3g}/s' for n, v in measured.items())}",
    )
