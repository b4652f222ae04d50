"""Files of measurements as somebody else may have written them: what may be wrong with a line, and who notices."""

import json

import numpy as np

from crossattn_ref.checks.compare import Violation
from crossattn_ref.checks.exercise import Ask
from crossattn_ref.checks.variants.audited import VERDICTS

BANDWIDTH, RATE = 4.0e12, 8.0e14  # bytes and operations per second, give or take
LEFT_OUT = "left out"  # in the place of a value: the record lacks it


def machine(rng: np.random.Generator) -> tuple[float, float]:
    """Draw a machine -> its bandwidth and its rate."""
    return tuple(ceiling * round(float(rng.uniform(0.8, 1.2)), 2) for ceiling in (BANDWIDTH, RATE))


def record(
    rng: np.random.Generator,
    machine: tuple[float, float],
    *,
    over: float | None = None,
    bound: str | None = None,
    n: int | None = None,
    **changes: object,
) -> dict:
    """Draw a record of n samples whose median is over times its floor, which bound sets: "bytes" or "operations".

    changes are made in it at the end.
    """
    floor = float(rng.uniform(40, 400))  # microseconds: rounding to two decimals moves no median by a thousandth
    bound = bound or str(rng.choice(["bytes", "operations"]))
    part = float(rng.uniform(0.3, 0.4))  # of the floor, for the bill that is not waited for
    bill = {
        name: round(1e-6 * floor * ceiling * (1 if name == bound else part))
        for name, ceiling in zip(("bytes", "operations"), machine, strict=True)
    }
    middle = floor * (over or float(rng.uniform(1.9, 3)))
    samples = [round(float(x), 4) for x in middle * _spread(rng, n or int(rng.choice([5, 7])))]
    names = {
        "case": f"B{rng.integers(1, 9)} H8 1x{rng.integers(1000, 9000)}x64",
        "backend": str(rng.choice(["cudnn", "flash", "split"])),
        "kernel": f"kernel_{rng.integers(100, 999)}",
    }
    times = {"samples_us": samples, "median_us": round(float(np.median(samples)), 2), "floor_us": round(floor, 2)}
    return {name: value for name, value in {**names, **bill, **times, **changes}.items() if value != LEFT_OUT}


def written(rng: np.random.Generator, record: dict, *, cut: bool = False) -> str:
    """Write a record down as a line of JSON, or the beginning of one."""
    line = json.dumps(record)
    return line[: int(len(line) * rng.uniform(0.3, 0.9))] if cut else line


def file(ask: Ask, rng: np.random.Generator, *lines: tuple[str, dict]) -> None:
    """Ask for the verdicts on some lines, each (verdict, what is special about it), in an order drawn at random."""
    drawn_on = machine(rng)
    drawn = [(verdict, record(rng, drawn_on, **special)) for verdict, special in lines]
    verdicts(ask, rng, drawn_on, [drawn[i] for i in rng.permutation(len(drawn))])


def verdicts(ask: Ask, rng: np.random.Generator, machine: tuple[float, float], lines: list[tuple[str, dict]]) -> None:
    """Ask for the verdicts on records, each (verdict, record), written down in their order."""
    texts = [written(rng, record, cut=verdict == "cut off") for verdict, record in lines]
    case = {"text": "".join(f"{line}\n" for line in texts), "bandwidth": machine[0], "rate": machine[1]}
    value = ask.call(**case)
    if not isinstance(value, tuple):
        raise Violation(f"it returned a {type(value).__name__}, where a tuple of verdicts is wanted", case)
    if len(value) != len(lines):
        raise Violation(f"it returned {len(value)} verdicts for {len(lines)} lines", case)
    for number, (given, (wanted, _)) in enumerate(zip(value, lines, strict=True), start=1):
        if problem := _unjust(given, wanted):
            raise Violation(f"line {number}: {problem}", {**case, "text": texts[number - 1]})


def _unjust(given, wanted):
    """Say in which way a verdict is none, or not the right one; None where it is."""
    if not isinstance(given, str) or given not in VERDICTS:
        return f"a verdict must be one of {', '.join(VERDICTS)}, got {given!r:.40}"
    if given == wanted:
        return None
    if wanted == "ok":
        return f"it is called {given!r}, and nothing is wrong with it"
    return "it passes, and should not" if given == "ok" else f"{given!r} is not what is wrong with it first"


def _spread(rng, n):
    """Draw n numbers whose median is 1, unlike the mean and what stands in the middle of the list."""
    below, above = 1 - rng.uniform(0.06, 0.12, n // 2), 1 + rng.uniform(0.1, 0.5, n // 2)
    samples = np.concatenate([below, np.ones(n % 2), above])
    samples /= np.median(samples)
    while True:
        drawn = rng.permutation(samples)
        if abs(drawn[(n - 1) // 2] + drawn[n // 2] - 2) > 0.02:
            return drawn
