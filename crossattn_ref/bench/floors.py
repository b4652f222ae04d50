"""What a record of attention owes to its shape: counts, floor, room for its output, an error that rounding explains.

A floor is computed anew from the ceilings of its file, those that were measured beside it where there are several.
"""

import math
import reprlib
from collections.abc import Iterator, Mapping

from crossattn_ref import cost
from crossattn_ref.bench.reading import is_number
from crossattn_ref.records import Record

METRICS = ("median_us", "floor_us", "peak_bytes", "error")  # of a way to compute attention, all or none
RATES = ("matrix_rate", "copy_bandwidth", "read_bandwidth", "exp_rate")
FLOOR = 0.97  # of the floor: a clock and a ceiling are measured, too
WORST = {"float32": 1e-4, "float16": 2e-2, "bfloat16": 2e-2}  # error of a pass, against float64
WORST_OF_ALL = 0.1  # of a whole model of many layers, whose record has no shape
Figures = Mapping[tuple[str, str], Record]


def problems(record: Record, figures: Figures) -> Iterator[str]:
    """Say what cannot be true of a record of attention, given the others of its file by case and metric."""
    if record.metric not in METRICS:
        return
    try:
        shape = _shape(record)
        if record.metric in ("median_us", "floor_us"):
            yield from _wrong_time(record, shape, figures)
        else:
            beside = figures.get((record.case, "median_us"), record)
            yield from _wrong_answer(record, shape or _shape(beside))
    except ValueError as error:
        yield str(error)


def _wrong_time(record, shape, figures):
    stated = {name: record.more[name] for name in ("flop", "bytes", "exponentials") if name in record.more}
    for name, count in stated.items():
        if not is_number(count) or count < 0:
            raise ValueError(f"{name} must be a number of at least 0, got {reprlib.repr(count)}")
    counts = _counts(shape, record.more.get("pass")) if shape else stated
    for name, count in counts.items():
        if stated.get(name) != count:
            yield f"{name} must be {count} for its shape, got {stated.get(name)}"
    ceilings = record.more.get("ceilings", "ceilings")
    floor = _floor(counts, ceilings, figures)
    if record.metric == "floor_us" and not math.isclose(record.value, floor, rel_tol=1e-3):
        yield f"the {ceilings} of this file give {floor:.4g} us, and not {record.value:.4g}"
    if record.metric == "median_us" and record.value < FLOOR * floor:
        yield f"{record.value:.4g} us is faster than possible: the floor is {floor:.4g} us"


def _wrong_answer(record, shape):
    worst = WORST.get(shape.dtype, WORST_OF_ALL) if shape else WORST_OF_ALL
    if record.metric == "error" and record.value > worst:
        yield f"an error of at most {worst} is what rounding explains, got {record.value:.4g}"
    least = shape.B * shape.H * shape.Nq * shape.D * shape.bytes_per_number if shape else 1
    if record.metric == "peak_bytes" and record.value < least:
        yield f"the output alone takes {least} bytes, got {record.value:.4g}"


def _shape(record):
    """Read the shape of a record, None where it states none; ValueError where it is none, or not that of the case."""
    if "shape" not in record.more:
        return None
    try:
        shape = cost.Shape(**record.more["shape"])
        float(max(_counts(shape, "backward").values()))
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"its shape is none: {reprlib.repr(str(error))}") from None
    name = f"B{shape.B} H{shape.H} {shape.Nq}x{shape.Nk}x{shape.D} {shape.dtype}"
    row = record.case.rpartition("/")[0]
    if not f"{row} ".startswith(f"{name} "):
        raise ValueError(f"its case must begin with its shape, {name}")
    if "pass" in record.more and record.more["pass"] != ("backward" if row.endswith(" backward") else "forward"):
        raise ValueError(f"pass must be what its case says, got {reprlib.repr(record.more['pass'])}")
    return shape


def _counts(shape, which):
    return cost.counts(shape, backward=which == "backward")


def _floor(counts, ceilings, figures):
    """Compute a floor in microseconds from the best of the ceilings."""
    if not counts:
        raise ValueError("more must state a shape, or flop, bytes or exponentials, from which the floor follows")
    missing = [rate for rate in RATES if not isinstance(ceilings, str) or (ceilings, rate) not in figures]
    if missing:
        raise ValueError(f"its ceilings, {reprlib.repr(ceilings)}, must be in the file; {', '.join(missing)} is not")
    matrix, copy, read, exp = (max(figures[ceilings, rate].samples) for rate in RATES)
    rates = {"flop": matrix, "bytes": max(copy, read), "exponentials": exp}
    return max(1e6 * count / rates[name] if rates[name] > 0 else math.inf for name, count in counts.items())
