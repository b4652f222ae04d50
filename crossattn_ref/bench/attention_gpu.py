"""Ways to compute attention on a GPU, side by side: ours, torch's backends by name, FlexAttention, packed memories.

The parts, each of which can be measured alone (gpu_rows, beam_step and shape_stream say how): first small rows that
show whether every way is right, then what waits for the memory, then what waits for products. Most measure the
ceilings of the GPU beside their rows. A row is a list of lines, recorded before the next is measured.

Letters: B samples, H heads, Nq queries, Nk keys, D width of each.
"""

import functools
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from crossattn_ref.bench import beam_step, gpu, gpu_rows, lines, shape_stream
from crossattn_ref.bench.backends import WAYS
from crossattn_ref.bench.gpu_rows import Row
from crossattn_ref.bench.measure import Measurement
from crossattn_ref.cost import Shape

PACKAGES = ("numpy", "torch", "triton")
BUDGET = 540.0  # seconds in which ways are begun; the tenth minute is left to the one that is running then


def lengths(law: str, B: int, Nk: int, *, seed: int = 0) -> tuple[int, ...]:
    """Draw B lengths by a law, stretched so that the longest is Nk: a batch is padded to its longest sample.

    "uniform" between 0 and 1, "lognormal" with a sigma of 0.8, "exponential".
    """
    rng = np.random.default_rng(seed)
    drawn = {
        "uniform": rng.random(B),
        "lognormal": rng.lognormal(sigma=0.8, size=B),
        "exponential": rng.exponential(size=B),
    }
    return tuple(np.maximum(1, np.round(Nk * drawn[law] / drawn[law].max())).astype(int).tolist())


def _row(B: int, H: int, Nq: int, Nk: int, D: int, law: str = "", **more) -> Row:
    drawn = lengths(law, B, Nk) if law else None
    return Row(shape=Shape(B=B, H=H, Nq=Nq, Nk=Nk, D=D, dtype="bfloat16", lengths=drawn), law=law, **more)


DECODE = (_row(32, 20, 1, 1500, 64), _row(8, 16, 1, 16384, 128))
RAGGED = (
    _row(32, 16, 512, 2048, 64, "uniform"),
    _row(32, 16, 512, 4096, 64, "exponential"),
    _row(32, 16, 16, 4096, 128, "lognormal"),
    _row(32, 16, 1, 4096, 128, "exponential"),
)
SHORT = (_row(1, 8, 1, 131_072, 128), _row(1, 8, 16, 131_072, 128), _row(1, 8, 128, 131_072, 128))
DENSE = (_row(4, 16, 4096, 4096, 128), _row(2, 16, 8192, 8192, 128), _row(1, 16, 16_384, 16_384, 128))
BACKWARD = tuple(replace(row, backward=True) for row in (DENSE[0], DENSE[2]))
EVERYDAY = (
    _row(2, 10, 4096, 77, 64, ways=tuple(WAYS)),  # text of SDXL, read by an image
    _row(8, 8, 100, 1050, 32, ways=tuple(WAYS)),  # an image, read by the queries of DETR
    _row(64, 12, 32, 257, 64, ways=tuple(WAYS)),  # an image, read by a Q-Former
)

ROWS: dict[str, tuple[Row, ...]] = {
    "everyday": EVERYDAY,
    "decode": DECODE,
    "ragged": RAGGED,
    "short": SHORT,
    "dense": DENSE,
    "backward": BACKWARD,
}
_MEASURES = {part: functools.partial(gpu_rows.measure, part, rows) for part, rows in ROWS.items()}
_MEASURES |= {"beams": beam_step.measure, "stream": shape_stream.measure}
ORDER = ("everyday", "decode", "ragged", "short", "beams", "stream", "dense", "backward")
PARTS: dict[str, Callable[..., Iterator[list[Measurement]]]] = {part: _MEASURES[part] for part in ORDER}


def hardware() -> dict[str, str | int]:
    """Name the GPU and what runs it."""
    return gpu.hardware()


def measure() -> Iterator[list[Measurement]]:
    """Measure every part, beginning no way after BUDGET seconds. Raises ValueError where there is no GPU."""
    gpu.needed()
    start = time.monotonic()
    for i, (name, part) in enumerate(PARTS.items(), start=1):
        lines.tell(f"part {i} of {len(PARTS)}, {name}, after {time.monotonic() - start:.0f} s of at most {BUDGET:.0f}")
        yield from part(until=start + BUDGET)
