"""What attention costs: operations, bytes and exponentials of a shape, and the least time that a machine needs.

Counted is what has to be done, whatever the program: two products of Nq by Nk by D, one exponential for each score,
and each number of q, k, v and the output moved once between memory and processor. A program that writes the weights
to memory and reads them again moves more; none can move less and be exact.

Letters: B samples in a batch, H heads of the queries, Hkv heads of keys and values, Nq queries, Nk keys,
D width of a query, key or value. Standard library only: checks, chapters and suites of measurements share it.
Source: Williams, Waterman & Patterson, Roofline (2009); counts as in Dao et al., FlashAttention (2022), section 3.
"""

from collections.abc import Sequence
from dataclasses import dataclass

BYTES = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2, "int8": 1}


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A use of attention. lengths, one for each sample, says how many of its Nk keys are real; without it, all are.

    Raises ValueError for negative sizes, heads that do not divide, an unknown dtype, or lengths that do not fit.
    """

    B: int = 1
    H: int = 1
    Hkv: int | None = None  # as many as H unless given
    Nq: int
    Nk: int
    D: int
    dtype: str = "float32"
    lengths: Sequence[int] | None = None

    def __post_init__(self):
        """Check the sizes once, so that no figure has to."""
        for name in ("B", "H", "Hkv", "Nq", "Nk", "D"):
            size = getattr(self, name)
            if (isinstance(size, bool) or not isinstance(size, int) or size < 0) and (name, size) != ("Hkv", None):
                raise ValueError(f"{name} must be an integer of at least 0, got {size!r}")
        if self.kv_heads == 0 or self.H % self.kv_heads:
            raise ValueError(f"Hkv ({self.kv_heads}) must divide H ({self.H})")
        if self.dtype not in BYTES:
            raise ValueError(f"dtype must be one of {', '.join(BYTES)}, got {self.dtype!r}")
        if self.lengths is not None:
            _check_lengths(self.lengths, self.B, self.Nk)

    @property
    def kv_heads(self) -> int:
        """Say how many heads of keys and values there are."""
        return self.H if self.Hkv is None else self.Hkv

    @property
    def keys(self) -> int:
        """Count the real keys of all samples together."""
        return self.B * self.Nk if self.lengths is None else sum(self.lengths)

    @property
    def bytes_per_number(self) -> int:
        """Say how many bytes one number takes."""
        return BYTES[self.dtype]


def _check_lengths(lengths, batch, n_keys):
    if len(lengths) != batch:
        raise ValueError(f"lengths must hold one length per sample (B = {batch}), got {len(lengths)}")
    if wrong := [length for length in lengths if not 0 <= length <= n_keys]:
        raise ValueError(f"lengths must lie between 0 and Nk ({n_keys}), got {wrong[0]}")


def flops(shape: Shape) -> int:
    """Count multiplications and additions of both products: 4 H Nq D for each real key of each sample."""
    return 4 * shape.H * shape.Nq * shape.D * shape.keys


def backward_flops(shape: Shape) -> int:
    """Count the five products of the backward pass, the scores computed again among them: 2.5 times the forward."""
    return flops(shape) * 5 // 2


def moved(shape: Shape) -> int:
    """Count the bytes of q, of the real keys and values, and of the output, each moved once."""
    numbers = 2 * shape.B * shape.H * shape.Nq * shape.D + 2 * shape.kv_heads * shape.D * shape.keys
    return numbers * shape.bytes_per_number


def backward_moved(shape: Shape) -> int:
    """Count the bytes of q, k, v, the output and its gradient, read, and of three gradients, written: twice as many."""
    return 2 * moved(shape)


def weights(shape: Shape) -> int:
    """Count the bytes of the weights, where a program holds them all: one number for each query and place of a key."""
    return shape.B * shape.H * shape.Nq * shape.Nk * shape.bytes_per_number


def exponentials(shape: Shape) -> int:
    """Count the exponentials of the softmax, one for each score."""
    return shape.H * shape.Nq * shape.keys


def counts(shape: Shape, *, backward: bool = False) -> dict[str, int]:
    """Gather what a pass has to do, by name: "flop", "bytes" and "exponentials"."""
    flop, bytes_ = (backward_flops, backward_moved) if backward else (flops, moved)
    return {"flop": flop(shape), "bytes": bytes_(shape), "exponentials": exponentials(shape)}


def intensity(shape: Shape) -> float:
    """Divide operations by bytes moved; 0 where nothing has to be moved."""
    return flops(shape) / moved(shape) if moved(shape) else 0.0


@dataclass(frozen=True, kw_only=True)
class Machine:
    """The ceilings of a machine, and where they are from: operations, bytes and exponentials per second.

    rates holds the operations per second of the products, by dtype.
    """

    name: str
    rates: dict[str, float]
    bandwidth: float
    exp_rate: float
    source: str

    def times(self, shape: Shape) -> dict[str, float]:
        """Say in how many seconds each ceiling alone would let a shape through, by the name of what it limits.

        Raises ValueError for a dtype of which no rate is known.
        """
        if shape.dtype not in self.rates:
            raise ValueError(f"{self.name} has a rate for {', '.join(self.rates)}, got dtype {shape.dtype!r}")
        return {
            "products": flops(shape) / self.rates[shape.dtype],
            "memory": moved(shape) / self.bandwidth,
            "exponentials": exponentials(shape) / self.exp_rate,
        }

    def floor(self, shape: Shape) -> float:
        """Return the least time in seconds: that of the ceiling which is reached first, all else going on beside it."""
        return max(self.times(shape).values())

    def bound(self, shape: Shape) -> str:
        """Name the ceiling that sets the floor: "products", "memory" or "exponentials"; the first where two tie."""
        times = self.times(shape)
        return max(times, key=times.get)

    def ridge(self, dtype: str) -> float:
        """Return the intensity, in operations per byte, at which products and memory take equally long."""
        return self.rates[dtype] / self.bandwidth


# Ceilings as their makers state them: dense products (no sparsity), the nominal bandwidth of the memory.
# Exponentials: 16 per clock and multiprocessor (CUDA C++ Programming Guide, throughput of native arithmetic
# instructions, compute capability 7.5 to 9.0) times multiprocessors times boost clock.
MACHINES = {
    machine.name: machine
    for machine in (
        Machine(
            name="H200",
            rates={"bfloat16": 989e12, "float16": 989e12, "float32": 67e12},
            bandwidth=4.8e12,
            exp_rate=132 * 16 * 1.83e9,
            source="NVIDIA H200 (SXM) data sheet; 132 multiprocessors at 1.83 GHz",
        ),
        Machine(
            name="A100",
            rates={"bfloat16": 312e12, "float16": 312e12, "float32": 19.5e12},
            bandwidth=2.039e12,
            exp_rate=108 * 16 * 1.41e9,
            source="NVIDIA A100 80 GB (SXM) data sheet; 108 multiprocessors at 1.41 GHz",
        ),
        Machine(
            name="T4",
            rates={"float16": 65e12, "float32": 8.1e12},
            bandwidth=320e9,
            exp_rate=40 * 16 * 1.59e9,
            source="NVIDIA T4 data sheet; 40 multiprocessors at 1.59 GHz",
        ),
    )
}
