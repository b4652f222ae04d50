"""Mistakes in counting what attention costs, and right answers computed another way.

A floor is a line of stages: count, look the machine up, take the slowest; a mistake replaces one of them.
A prediction divides two counts, one with an axis doubled.

Letters: B samples, H heads of the queries, Hkv heads of keys and values, Nq queries, Nk keys, D width of each.
"""

import math
from dataclasses import dataclass

from crossattn_ref.checks.variants.stages import flat, staged
from crossattn_ref.cost import BYTES, MACHINES

NAMES = ("products", "memory", "exponentials")


@dataclass(frozen=True)
class Sizes:
    """What a count is made from."""

    machine: str
    dtype: str
    B: int
    H: int
    Hkv: int
    Nq: int
    Nk: int
    D: int


def operations(s):
    return 4 * s.B * s.H * s.Nq * s.Nk * s.D


def traffic(s):
    return 2 * s.B * s.D * (s.H * s.Nq + s.Hkv * s.Nk) * BYTES[s.dtype]


def exponentials(s):
    return s.B * s.H * s.Nq * s.Nk


def rates(s):
    machine = MACHINES[s.machine]
    return machine.rates[s.dtype], machine.bandwidth, machine.exp_rate


def slowest(times):
    return max(times)


def named(times):
    return NAMES[times.index(max(times))]


def roofline(
    machine, dtype, B, H, Hkv, Nq, Nk, D, *,
    count=operations, move=traffic, exp=exponentials, look_up=rates, least=slowest, name=named,
):  # fmt: skip
    """The bill of a shape and its floor, with any stage replaced; as it stands, the right one."""
    s = Sizes(machine, dtype, B, H, Hkv, Nq, Nk, D)
    bill = count(s), move(s), exp(s)
    times = [amount / rate for amount, rate in zip(bill, look_up(s), strict=True)]
    return *bill, least(times), name(times)


def _all_in_float32(s):
    return MACHINES[s.machine].rates["float32"], *rates(s)[1:]


def _one_machine(s):
    return rates(Sizes("H200", "float32" if s.dtype == "float32" else "float16", *[0] * 6))


_FACTOR = "A dot product of width D is D multiplications, and how many additions? And how many products are there?"
_RECTANGLE = "How many rows has the matrix of scores, and how many columns?"
_ONCE = "Which arrays must come from memory, which must go back to it, and how many numbers has each?"

STAGES = staged(
    roofline,
    count=(
        ("one product", lambda s: operations(s) // 2, "with one of the two products left out", _FACTOR, "half"),
        ("multiplications only", lambda s: 2 * s.B * s.H * s.Nq * s.Nk * s.D,
         "with a multiplication and an addition counted as one operation", _FACTOR, "half"),
        ("one product, half counted", lambda s: operations(s) // 4, "with only the multiplications of one product",
         _FACTOR),
        ("queries squared", lambda s: 4 * s.B * s.H * s.Nq * s.Nq * s.D,
         "with as many keys as queries in the operations", _RECTANGLE),
        ("keys squared", lambda s: 4 * s.B * s.H * s.Nk * s.Nk * s.D, "with as many queries as keys in the operations",
         _RECTANGLE),
        ("lengths added", lambda s: 4 * s.B * s.H * (s.Nq + s.Nk) * s.D,
         "with queries and keys added where each query meets each key", _RECTANGLE),
        ("operations of the key heads", lambda s: 4 * s.B * s.Hkv * s.Nq * s.Nk * s.D,
         "with the heads of the keys counted in the operations",
         "Two query heads share a head of keys. Does each of them compute scores of its own?"),
        ("heads forgotten", lambda s: operations(s) // s.H, "without the heads in the operations",
         "How many heads compute scores?"),
        ("samples forgotten", lambda s: operations(s) // s.B, "without the samples of the batch in the operations",
         "How many sentences are in the batch?"),
        ("width forgotten", lambda s: operations(s) // s.D, "without the width in the operations", _FACTOR),
    ),
    move=(
        ("numbers for bytes", lambda s: traffic(s) // BYTES[s.dtype], "with numbers counted where bytes are wanted",
         "How many bytes does a number of this dtype take?"),
        ("four bytes each", lambda s: 4 * traffic(s) // BYTES[s.dtype], "with four bytes a number, whatever the dtype",
         "How many bytes does a number of this dtype take?"),
        ("weights moved", lambda s: traffic(s) + 2 * exponentials(s) * BYTES[s.dtype],
         "with the weights written to memory and read again",
         "Must the weights go to memory at all? Count what no program can avoid."),
        ("keys for each query head", lambda s: 4 * s.B * s.D * s.H * (s.Nq + s.Nk) * BYTES[s.dtype] // 2,
         "with keys and values moved once for each query head",
         "Two query heads share a head of keys. How often must it be read?"),
        ("output forgotten", lambda s: s.B * s.D * (s.H * s.Nq + 2 * s.Hkv * s.Nk) * BYTES[s.dtype],
         "with the output left out of the bytes", _ONCE),
        ("values forgotten", lambda s: s.B * s.D * (2 * s.H * s.Nq + s.Hkv * s.Nk) * BYTES[s.dtype],
         "with the values (or the keys) left out of the bytes", _ONCE),
        ("inputs only once", lambda s: traffic(s) // 2, "with half of the four arrays left out", _ONCE),
        ("memory only", lambda s: 2 * s.B * s.D * s.Hkv * s.Nk * BYTES[s.dtype],
         "with queries and output left out of the bytes", _ONCE),
        ("keys for each query", lambda s: 2 * s.B * s.D * s.H * s.Nq * (1 + s.Nk) * BYTES[s.dtype],
         "with the memory read again for each query", "May a block of keys serve several queries while it is at hand?"),
        ("one sample moved", lambda s: traffic(s) // s.B, "without the samples of the batch in the bytes",
         "Has each sentence a memory of its own?"),
        ("bits", lambda s: 8 * traffic(s), "with bits where bytes are wanted", "Eight bits are how many bytes?"),
    ),
    exp=(
        ("one for each query", lambda s: s.B * s.H * s.Nq, "with one exponential for each query",
         "Softmax takes the exponential of what?"),
        ("one for each number", lambda s: s.B * s.H * s.Nq * s.Nk * s.D, "with D exponentials for each score",
         "Softmax takes the exponential of what?"),
        ("exponentials of the key heads", lambda s: s.B * s.Hkv * s.Nq * s.Nk,
         "with the heads of the keys counted in the exponentials",
         "Two query heads share a head of keys. Does each of them have scores of its own?"),
        ("exponentials of one head", lambda s: s.B * s.Nq * s.Nk, "without the heads in the exponentials",
         "How many heads compute scores?"),
        ("exponentials of one sample", lambda s: s.H * s.Nq * s.Nk, "without the samples in the exponentials",
         "How many sentences are in the batch?"),
    ),
    look_up=(
        ("float32 always", _all_in_float32, "with the rate of float32 for every dtype",
         "The same machine multiplies how fast in this dtype?"),
        ("one machine for all", _one_machine, "with the ceilings of the H200 for every machine",
         "Which machine was asked about?"),
    ),
    least=(
        ("added up", sum, "with the three times added up",
         "A program that copies, multiplies and exponentiates at the same time: how long does it take at least?"),
        ("the fastest", min, "with the shortest of the three times",
         "Three people do their share side by side. When are all of them done?"),
        ("milliseconds", lambda times: 1e3 * max(times), "with the time in milliseconds",
         "In which unit is the time wanted?"),
        ("exponentials left out", {"least": lambda times: max(times[:2]), "name": lambda times: named(times[:2])},
         "with the exponentials left out of the race",
         "A head is 8 wide. Which takes longer, 32 operations or one exponential?"),
        ("products alone", lambda times: times[0], "with the time of the products alone",
         "One query, 8,000 keys: what is the machine waiting for?"),
        ("memory alone", lambda times: times[1], "with the time of the memory alone",
         "4,000 queries, 4,000 keys: what is the machine waiting for?"),
    ),
    name=(
        ("the idlest", lambda times: NAMES[times.index(min(times))],
         "with the name of the ceiling that is farthest off",
         "Which of the three is everybody waiting for?"),
        ("always memory", lambda times: "memory", "with the same name for every shape",
         "4,000 queries, 4,000 keys: what is the machine waiting for?"),
        ("always products", lambda times: "products", "with the same name for every shape",
         "One query, 8,000 keys: what is the machine waiting for?"),
    ),
)  # fmt: skip

MISTAKES = flat(STAGES)


def _array_by_array(machine, dtype, B, H, Hkv, Nq, Nk, D):
    arrays = {"q": (B, H, Nq, D), "k": (B, Hkv, Nk, D), "v": (B, Hkv, Nk, D), "out": (B, H, Nq, D)}
    moved = sum(math.prod(shape) for shape in arrays.values()) * BYTES[dtype]
    scores = math.prod((B, H, Nq, Nk))
    flop = 2 * scores * D + 2 * scores * D
    ceilings = MACHINES[machine]
    times = {
        "exponentials": scores / ceilings.exp_rate,
        "memory": moved / ceilings.bandwidth,
        "products": flop / ceilings.rates[dtype],
    }
    longest = max(times, key=times.get)
    return float(flop), float(moved), float(scores), times[longest], longest


def _by_the_ridge(machine, dtype, B, H, Hkv, Nq, Nk, D):
    """Compare the intensity with the ridge, then with the exponentials."""
    flop, moved, scores, *_ = roofline(machine, dtype, B, H, Hkv, Nq, Nk, D)
    ceilings = MACHINES[machine]
    if flop / moved > ceilings.rates[dtype] / ceilings.bandwidth:
        seconds, bound = flop / ceilings.rates[dtype], "products"
    else:
        seconds, bound = moved / ceilings.bandwidth, "memory"
    if scores / ceilings.exp_rate > seconds:
        seconds, bound = scores / ceilings.exp_rate, "exponentials"
    return flop, moved, scores, seconds, bound


ALTERNATIVES = (_array_by_array, _by_the_ridge)


def weights(s):
    return s.B * s.H * s.Nq * s.Nk


def seconds(s):
    return max(
        amount / rate for amount, rate in zip((operations(s), traffic(s), exponentials(s)), rates(s), strict=True)
    )


def doubled(s, which):
    """Double the axes that which names."""
    axes = ("Nq", "Nk") if which == "both" else (which,)
    return Sizes(**{name: value * (2 if name in axes else 1) for name, value in vars(s).items()})


def over_before(after, before):
    return after / before


def predict(
    which, machine, dtype, B, H, Hkv, Nq, Nk, D, *,
    grow=doubled, divide=over_before, count=operations, move=traffic, keep=weights, wait=seconds,
):  # fmt: skip
    """By what factor each bill grows, with any stage replaced; as it stands, the right one."""
    before = Sizes(machine, dtype, B, H, Hkv, Nq, Nk, D)
    after = grow(before, which)
    return tuple(float(divide(bill(after), bill(before))) for bill in (count, move, keep, wait))


def _swapped(s, which):
    return doubled(s, {"Nq": "Nk", "Nk": "Nq"}.get(which, which))


def _always_both(s, which):
    return doubled(s, "both" if which in ("Nq", "Nk") else which)


def _the_first_of_both(s, which):
    return doubled(s, "Nq" if which == "both" else which)


_PAY = "Write the bill before and after, and divide. Which of its terms have grown?"

PREDICT_STAGES = staged(
    predict,
    grow=(
        ("axes swapped", _swapped, "with queries and keys in each other's places",
         "Which of the two axes is the memory?"),
        ("always both", _always_both, "when queries and keys grow together, as they do in self-attention",
         "You ask twice as many questions about the same text. Has the text grown?"),
        ("one of both", _the_first_of_both, "when only the queries grow where both should",
         "Twice as many rows and twice as many columns: how many cells?"),
        ("nothing grows", lambda s, which: s, "with every bill as it was", _PAY),
    ),
    divide=(
        ("upside down", lambda after, before: before / after, "with the factor upside down",
         "Twice as much work: is the factor 2 or one half?"),
        ("growth", lambda after, before: after / before - 1, "with the growth in place of the factor",
         "What is the factor of a bill that stays as it is: 0 or 1?"),
        ("whole factors", lambda after, before: round(after / before), "with factors rounded to whole numbers",
         "Some arrays grow and others stay. Is the factor of their sum a whole number?"),
    ),
    move=(
        ("bytes like operations", operations, "when the bytes grow as the operations do",
         "The memory is twice as long. Has the array of queries grown?"),
        ("weights among the bytes", lambda s: traffic(s) + 2 * weights(s) * BYTES[s.dtype],
         "with the weights among the bytes that must be moved", "Must the weights go to memory at all?"),
        ("all heads alike", lambda s: s.H * (s.Nq + s.Nk) * s.D, "with as many heads of keys as of queries",
         "Two query heads share a head of keys. How often must it be read?"),
    ),
    keep=(
        ("weights as wide as a head", lambda s: weights(s) * s.D, "when the weights grow with the width",
         "How many numbers is the weight of one query for one key?"),
        ("no weights", lambda s: 1, "when the weights never grow",
         "How many rows and columns has the matrix of weights?"),
    ),
    wait=(
        ("time like operations", operations, "when the time always grows as the operations do",
         "What is the machine waiting for, if one query reads 8,000 keys?"),
        ("time like bytes", traffic, "when the time always grows as the bytes do",
         "What is the machine waiting for, if 4,000 queries read 4,000 keys?"),
        ("times added", lambda s: sum(a / r for a, r in zip(
            (operations(s), traffic(s), exponentials(s)), rates(s), strict=True)),
         "with the times of the three ceilings added up", "When are three people done who work side by side?"),
    ),
)  # fmt: skip

PREDICT = flat(PREDICT_STAGES)


def _by_two_roofs(which, machine, dtype, B, H, Hkv, Nq, Nk, D):
    sizes = [Nq, Nk, D]
    factors = [2 if which in (axis, "both" if axis != "D" else axis) else 1 for axis in ("Nq", "Nk", "D")]
    grown = [size * factor for size, factor in zip(sizes, factors, strict=True)]
    before, after = (roofline(machine, dtype, B, H, Hkv, *axes) for axes in (sizes, grown))
    flop, moved, scores, time = (a / b for a, b in zip(after[:4], before[:4], strict=True))
    return flop, moved, scores, time


PREDICT_ALTERNATIVES = (_by_two_roofs,)
