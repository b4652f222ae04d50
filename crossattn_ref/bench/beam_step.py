"""One step of a decoder of Whisper's size, with its memories copied for every beam, and with beams folded.

The layers are those of this package, with random weights: 32 of them, as wide as large-v3's. A step reads the weights,
what each row has written so far, and the memories; with five beams a source, their copies are most of it.

Letters: B sources, W beams of each, rows = B * W, D model width, V tokens that there are.
"""

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from crossattn_ref.attention import dense, folding
from crossattn_ref.attention.multihead import Memory, MultiHeadAttention
from crossattn_ref.bench import backends, gpu, lines
from crossattn_ref.bench.gpu_rows import FORWARD, SAMPLES, Ready, tried
from crossattn_ref.bench.measure import Measurement
from crossattn_ref.models.blocks import DecoderLayer, LayerConfig

WRITTEN = (32, 224)  # tokens, early and late in a text
WORST = 0.1  # error against float64, relative in the norm, after 32 layers in bfloat16, one after another


@dataclass(frozen=True, kw_only=True)
class Size:
    """How large the decoder is, what it reads, and in which dtype. Sizes of Whisper large-v3 as published."""

    n_layers: int = 32
    d_model: int = 1280
    n_heads: int = 20
    d_ff: int = 5120
    n_tokens: int = 51_866
    n_memory: int = 1500
    n_written: int = 224  # half of the longest text, in tokens
    n_sources: int = 8
    width: int = 5
    dtype: torch.dtype = torch.bfloat16

    @property
    def rows(self) -> int:
        """Count the beams of all sources."""
        return self.n_sources * self.width

    @property
    def name(self) -> str:
        """Write a step down as records name it."""
        return f"Whisper-size step B{self.n_sources} beam{self.width} after {self.n_written}"

    def bytes(self, *, folded: bool) -> int:
        """Count what a step reads: weights, what was written, and memories; what it writes is little beside that.

        Of a cross-attention, the projections of queries and output: its memory was projected before.
        """
        weights = self.n_layers * (6 * self.d_model**2 + 2 * self.d_model * self.d_ff)
        memories = 2 * (self.n_sources if folded else self.rows) * self.n_layers * self.n_memory * self.d_model
        written = 2 * self.rows * self.n_layers * self.n_written * self.d_model
        output = self.n_tokens * self.d_model
        return (weights + memories + written + output) * self.dtype.itemsize


@dataclass(frozen=True)
class Step:
    """A decoder in the middle of a text: its layers, what they have written, their memories, and how these are read.

    read takes a layer of attention, x (rows, 1, D) and a memory. A step writes its place over and over.
    """

    layers: list[DecoderLayer]
    output: Tensor  # (V, D)
    x: Tensor  # (rows, 1, D)
    written: list[Memory]
    memories: list[Memory]
    read: Callable[[MultiHeadAttention, Tensor, Memory], Tensor]

    def __call__(self) -> Tensor:
        """Compute the logits of the next token of every beam, (rows, V)."""
        x = self.x
        for layer, past, memory in zip(self.layers, self.written, self.memories, strict=True):
            x = layer.around_self_attention(x, partial(self._read_past, layer.self_attention, past))
            x = layer.around_cross_attention(x, lambda x, at=layer.cross_attention, m=memory: self.read(at, x, m))
            x = layer.around_feed_forward(x, layer.feed_forward)
        return functional.linear(x[:, 0], self.output)

    @staticmethod
    def _read_past(attention, past, x):
        new = attention.remember(x)
        past.keys[:, :, -1:], past.values[:, :, -1:] = new.keys, new.values
        return attention(x, past)


def folded(size: Size, device: torch.device, *, seed: int = 0) -> Step:
    """Make a decoder whose beams share the memory of their source."""
    generator = torch.Generator(device).manual_seed(seed)
    draw = partial(torch.randn, device=device, generator=generator, dtype=size.dtype)
    config = LayerConfig(d_model=size.d_model, n_heads=size.n_heads, d_ff=size.d_ff, dropout=0.0)
    with torch.device("meta"):
        layers = [DecoderLayer(config).to(size.dtype).eval() for _ in range(size.n_layers)]
    for layer in layers:
        _fill(layer.to_empty(device=device).requires_grad_(False), generator)
    heads = size.n_heads, size.d_model // size.n_heads

    def memory(rows, n):
        """Lay heads side by side, as they are projected and as packed ways want them; others take them so as well."""
        keys, values = (draw(rows, n, *heads).transpose(1, 2) for _ in range(2))
        return Memory(keys, values * n**0.5)  # so that their average counts beside x, and a wrong one is noticed

    return Step(
        layers=layers,
        output=draw(size.n_tokens, size.d_model) / size.d_model**0.5,
        x=draw(size.rows, 1, size.d_model),
        written=[memory(size.rows, size.n_written) for _ in layers],
        memories=[memory(size.n_sources, size.n_memory) for _ in layers],
        read=folding.read,
    )


def shortened(step: Step, n: int) -> Step:
    """Let a step stand where n tokens have been written."""
    return replace(step, written=[Memory(past.keys[:, :, :n], past.values[:, :, :n]) for past in step.written])


def duplicated(step: Step, width: int) -> Step:
    """Copy the memories of a step for each of its beams, as a decoder does that knows rows alone."""

    def copied(tensor):
        return tensor.transpose(1, 2).repeat_interleave(width, dim=0).transpose(1, 2)  # laid out as before

    copies = [Memory(copied(m.keys), copied(m.values)) for m in step.memories]
    return replace(step, memories=copies, read=lambda attention, x, memory: attention(x, memory))


def attending(step: Step, attend: Callable) -> Step:
    """Let the cross-attention of a step be computed another way, with the same weights."""
    layers = []
    for layer in step.layers:
        shared = {id(tensor): tensor for tensor in layer.parameters()}
        layers.append(copy.deepcopy(layer, shared))
        layers[-1].cross_attention.attend = attend
    return replace(step, layers=layers)


def in_float64(step: Step) -> Tensor:
    """Compute what a step answers with the same numbers in float64."""
    wide = [Memory(m.keys.double(), m.values.double()) for m in (*step.written, *step.memories)]
    n = len(step.layers)
    return replace(
        step,
        layers=[copy.deepcopy(layer).double() for layer in attending(step, dense.attention).layers],
        output=step.output.double(),
        x=step.x.double(),
        written=wide[:n],
        memories=wide[n:],
    )()


def measure(
    part: str = "beams",
    *,
    size: Size | None = None,
    written: Sequence[int] = WRITTEN,
    device: torch.device | None = None,
    attends: Mapping[str, Callable] | None = None,
    samples: int = SAMPLES,
    until: float = math.inf,
) -> Iterator[list[Measurement]]:
    """Measure the ceilings, then a whole step with memories copied and with beams folded, early and late in a text.

    attends are the ways to compute cross-attention: all that a row shows, unless given.
    No way is begun after until, by the clock of time.monotonic().
    """
    device, size = device or gpu.needed(), size or Size()
    measured, machine = gpu.ceilings_of(device)
    yield list(lines.ceilings(part, measured))
    attends = attends or {way: backends.attention_by(way) for way in FORWARD}
    step = folded(size, device)
    for n in written:
        steps = _steps(shortened(step, n), size.width, attends)
        now = replace(size, n_written=n)
        if lines.is_up(until):
            yield [lines.untried(f"{now.name}/{way}", part) for way in steps]
        else:
            yield list(_whole_steps(part, now, steps, machine, device, samples, until))


def _fill(module, generator):
    """Draw weights of a size that neither grows nor shrinks what passes through; biases 0, norms 1."""
    for name, weight in module.named_parameters():
        if weight.ndim == 2:
            weight.normal_(std=weight.shape[1] ** -0.5, generator=generator)
        elif name.endswith("layer_norm.weight"):
            nn.init.ones_(weight)
        else:
            nn.init.zeros_(weight)


def _steps(step, width, attends):
    """Make a step for each way to read memories and each way to compute attention."""
    readings = {"folded": step, "duplicated": duplicated(step, width)}
    return {
        f"{reading}, {name}": attending(one, attend)
        for reading, one in readings.items()
        for name, attend in attends.items()
    }


def _whole_steps(part, size, steps, machine, device, samples, until):
    torch.compiler.reset()  # as for a row
    name, exact = size.name, in_float64(next(iter(steps.values())))
    ready, refused, late = tried(steps, lambda way: _ready_step(steps[way], exact, device), device, until)
    yield from (lines.untried(f"{name}/{way}", part) for way in late)
    timed = dict(zip(ready, gpu.timed([one.turn for one in ready.values()], device, samples=samples), strict=True))
    for way, times in timed.items():
        count = size.bytes(folded=way.startswith("folded"))
        about = {"part": part, "bytes": count, "ceilings": lines.ceilings_of(part)}
        seen = gpu.kernels(ready[way].call, device)
        yield lines.figure(f"{name}/{way}", "median_us", "us", times, **about, **ready[way].noted, kernels=seen)
        yield lines.figure(f"{name}/{way}", "floor_us", "us", [1e6 * count / machine.bandwidth], **about)
        yield lines.figure(f"{name}/{way}", "peak_bytes", "byte", [float(ready[way].peak)], **about)
        yield lines.figure(f"{name}/{way}", "error", "1", [ready[way].error], **about)
    for way, reason in refused.items():
        yield lines.refused(f"{name}/{way}", reason, part)
    folds, copies = ([way for way in timed if way.startswith(kind)] for kind in ("folded", "duplicated"))
    for way in folds:
        yield from lines.ratios(part, name, timed, way, copies)
    yield from lines.ratios(part, name, timed, "folded, fused", folds)
    lines.report(name, timed, refused)


def _ready_step(step, exact, device):
    """See that a step is right, on memory that held NaN a moment before, and look at what it takes."""
    gpu.poison(step.x, step.memories[0].keys, exact.to(step.x.dtype))
    answer = step()
    error = float((answer.double() - exact).norm() / exact.norm())
    if not error <= WORST:
        raise ValueError(f"wrong: the error against float64 is {error:.3g}, allowed are {WORST}")
    peak, turn = gpu.peak(step, device), gpu.turn([step], device)
    memories = sum(memory.keys.nbytes + memory.values.nbytes for memory in step.memories)
    noted = {"timer": turn.how, "calls": turn.n, "l2": "cold", "memory_bytes": memories}
    return Ready(step, turn, error, peak, noted)
