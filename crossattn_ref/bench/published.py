"""25 wrong attention functions, which published course graders let them through, and what the check here makes of them.

The graders' tests were rebuilt from what their courses publish (shapes, seeds, tolerances) and run on each function in
2026; that was done once and by hand, and is written down here. What the check of masks/masked_attention makes of the
same mistakes is found anew at each call.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from crossattn_ref.bench.rates import is_named
from crossattn_ref.checks import examine, misconceptions

EXERCISE = "masks/masked_attention"
GRADERS = {
    "CS336 A1": "Stanford CS336, assignment 1",
    "C5W4": "DeepLearning.AI, Sequence Models, week 4",
    "CS336 A2": "Stanford CS336, assignment 2",
    "Neuromatch": "Neuromatch Academy, Deep Learning, W2D5",
    "rasbt": "the tests of the package to Build a Large Language Model (From Scratch)",
}

# By the name that the mistake bears here: what it does, and an x for each grader, in their order, that catches it.
_FOUND = {
    "softmax over queries": ("softmax over the queries", "xxxx."),
    "softmax over the first axis": ("softmax over the batch", "xxxx."),
    "softmax over axis 1": ("softmax over axis 1, hard-coded", "x.xx."),
    "no scale": ("no scale", "xxx.."),
    "divided by Dk": ("divided by Dk", "xxx.."),
    "multiplied by root Dk": ("multiplied by the root of Dk", "xxx.."),
    "root Nk": ("divided by the root of Nk", "x.x.."),
    "root of twice Dk": ("divided by the root of 2 Dk", "xxx.."),
    "scaled too late": ("scaled after the softmax", "xxxx."),
    "mask ignored": ("mask ignored", "xx..."),
    "masked after the softmax": ("mask after the softmax", "xx..."),
    "polarity": ("mask turned over", "xx..."),
    "filled with 0": ("hidden scores set to 0", "xx..."),
    "fill of -1e-9": ("-1e-9, for -1e9", "xx..."),
    "fill of -10": ("hidden scores set to -10", "xx..."),
    "mask added": ("mask added as 0 and 1", "xx..."),
    "causal": ("causal mask, always", "xxxx."),
    "keys reshaped": ("keys reshaped, not transposed", "xxxx."),
    "keys ask": ("keys share out, turned afterwards", "xxxx."),
    "keys carried": ("keys averaged, not values", "xxxx."),
    "softmax twice": ("softmax twice", "xxxx."),
    "log softmax": ("log softmax", "xxxx."),
    "no max subtraction": ("exp that overflows", "...x."),
    "dropout on the scores": ("dropout on the scores", "xxx.."),
    "dropout goes on": ("dropout goes on in evaluation", "xxxx."),
}


@dataclass(frozen=True)
class Wrong:
    """A wrong attention function: what it does, its name among our mistakes, and which graders catch it."""

    what: str
    mistake: str
    caught_by: Mapping[str, bool]


WRONG = tuple(
    Wrong(what, mistake, {grader: x == "x" for grader, x in zip(GRADERS, found, strict=True)})
    for mistake, (what, found) in _FOUND.items()
)


def caught_here(seed: int = 0) -> dict[str, bool]:
    """Run the check on each of the wrong functions -> for each mistake, whether it was rejected and called by name."""
    known = {mistake.name: mistake for mistake in misconceptions(EXERCISE)}
    reports = {wrong.mistake: examine(EXERCISE, known[wrong.mistake].wrong, seed) for wrong in WRONG}
    return {name: report.score < 1 and is_named(known[name], report) for name, report in reports.items()}
