"""MultiHeadAttention beside torch.nn.MultiheadAttention: the same weights, the same inputs, in turn, on one thread.

Torch's layer is asked for no weights (need_weights=False), and gets its masks in its own polarity.
Under no_grad, in eval mode and for self-attention, torch takes a fused path of its own: a case apart.
Letters: B samples in a batch, H heads, Nq queries, Nk keys, D model width, Dm memory width.
"""

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import torch
from torch import nn

from crossattn_ref.attention.inputs import Lengths
from crossattn_ref.attention.multihead import MultiHeadAttention
from crossattn_ref.bench.measure import Measurement, side_by_side

PACKAGES = ("torch",)
SEEDS = (0, 1, 2)
THREADS = 1


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A use of attention: its sizes, and which mask it comes with."""

    name: str
    B: int
    H: int
    Nq: int
    Nk: int
    D: int
    Dm: int
    mask: Literal["none", "padding", "causal"] = "none"
    own_memory: bool = False  # self-attention: the memory is x


SHAPES = (
    Shape(name="classroom", B=2, H=4, Nq=5, Nk=7, D=64, Dm=64, mask="padding"),
    Shape(name="translation", B=32, H=4, Nq=30, Nk=40, D=256, Dm=256, mask="padding"),
    Shape(name="translation, one step", B=8, H=8, Nq=1, Nk=40, D=512, Dm=512, mask="padding"),
    Shape(name="decoder's past", B=16, H=4, Nq=64, Nk=64, D=256, Dm=256, mask="causal", own_memory=True),
    Shape(name="image regions", B=16, H=4, Nq=20, Nk=196, D=256, Dm=512),
    Shape(name="speech", B=1, H=8, Nq=64, Nk=1500, D=512, Dm=512),
    Shape(name="long text", B=1, H=8, Nq=1024, Nk=1024, D=512, Dm=512, mask="causal", own_memory=True),
    Shape(name="encoder", B=16, H=4, Nq=64, Nk=64, D=256, Dm=256, own_memory=True),
)


def hardware() -> dict[str, int]:
    """Say how many threads torch may use."""
    return {"threads": THREADS}


def measure(
    *, shapes: Sequence[Shape] = SHAPES, seeds: Sequence[int] = SEEDS, seconds: float = 2.0
) -> Iterator[Measurement]:
    """Measure every shape with every seed; the samples of a ratio are ratios of medians, one for each seed."""
    before = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    try:
        for shape in shapes:
            for name in ("forward", "forward and backward", "forward on torch's fast path"):
                if name.endswith("fast path") and not (shape.own_memory and shape.mask == "none"):
                    continue
                yield from _case(shape, name, seeds, seconds)
    finally:
        torch.set_num_threads(before)


def _case(shape, name, seeds, seconds):
    timed = [side_by_side(_calls(shape, name, seed), seconds=seconds) for seed in seeds]
    ratios = [statistics.median(ours) / statistics.median(theirs) for ours, theirs in timed]
    figures = {
        "ours": ("us", [round(sample, 1) for ours, _ in timed for sample in ours]),
        "torch": ("us", [round(sample, 1) for _, theirs in timed for sample in theirs]),
        "ratio": ("ours / torch", ratios),
    }
    for metric, (unit, samples) in figures.items():
        case = f"{shape.name}/{name}"
        yield Measurement(
            case=case, metric=metric, unit=unit, samples=samples, seeds=list(seeds), more={"shape": asdict(shape)}
        )


def _calls(shape, name, seed):
    """Build both layers with the same weights, see that they agree, and return the two calls to time."""
    torch.manual_seed(seed)
    ours, theirs = _layers(shape)
    x, memory, mask, masks = _inputs(shape)
    theirs.train(not name.endswith("fast path"))

    def call_ours():
        return ours(x, memory, mask)

    def call_theirs():
        return theirs(x, memory, memory, need_weights=False, **masks)[0]

    calls = [_backward(call) if name.endswith("backward") else _forward(call) for call in (call_ours, call_theirs)]
    torch.testing.assert_close(call_ours(), call_theirs(), rtol=0, atol=1e-4)
    return calls


def _forward(call):
    return torch.no_grad()(call)


def _backward(call):
    return lambda: call().sum().backward()


def _layers(shape):
    ours = MultiHeadAttention(shape.D, shape.H, d_memory=shape.Dm)
    theirs = nn.MultiheadAttention(shape.D, shape.H, kdim=shape.Dm, vdim=shape.Dm, batch_first=True)
    packed = theirs.in_proj_weight
    parts = (
        packed.chunk(3) if packed is not None else (theirs.q_proj_weight, theirs.k_proj_weight, theirs.v_proj_weight)
    )
    for projection, weight in zip((ours.q_proj, ours.k_proj, ours.v_proj), parts, strict=True):
        projection.weight.data = weight.data.clone()
        projection.bias.data.zero_()
    ours.out_proj.load_state_dict(theirs.out_proj.state_dict())
    return ours, theirs


def _inputs(shape):
    """Draw x and memory, our mask, and torch's masks, in which True = do not look."""
    x = torch.randn(shape.B, shape.Nq, shape.D, requires_grad=True)
    memory = x if shape.own_memory else torch.randn(shape.B, shape.Nk, shape.Dm, requires_grad=True)
    if shape.mask == "padding":
        lengths = torch.randint(shape.Nk // 2, shape.Nk + 1, (shape.B,))
        return x, memory, Lengths(lengths), {"key_padding_mask": torch.arange(shape.Nk) >= lengths[:, None]}
    if shape.mask == "causal":
        may_look = torch.ones(shape.Nq, shape.Nk, dtype=torch.bool).tril()
        return x, memory, may_look, {"attn_mask": ~may_look}
    return x, memory, None, {}
