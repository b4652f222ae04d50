"""Mistakes in auditing a file of measurements, and right answers computed another way.

An audit reads a line, asks whether anybody is named, whether there is data, whether the median is that of the samples,
and whether the machine could have been so fast; a mistake replaces one of these stages.
"""

import json
import math
import statistics

from crossattn_ref.checks.report import Misconception
from crossattn_ref.checks.variants.stages import flat, staged

VERDICTS = ("cut off", "not named", "no data", "wrong median", "too fast", "ok")
OF_THE_FLOOR, OF_THE_MEDIAN = 0.97, 1e-3


def parsed(line):
    try:
        return json.loads(line)
    except json.JSONDecodeError:
        return None


def named(record):
    return all(record.get(name) for name in ("backend", "kernel"))


def data(samples):
    return bool(samples) and all(isinstance(x, int | float) and math.isfinite(x) and x > 0 for x in samples)


def middle(samples):
    return statistics.median(samples)


def close(value, right):
    return math.isclose(value, right, rel_tol=OF_THE_MEDIAN)


def slowest(record, bandwidth, rate):
    return 1e6 * max(record["bytes"] / bandwidth, record["operations"] / rate)


def timed(record):
    return record["median_us"]


def below(time, floor):
    return time < OF_THE_FLOOR * floor


def from_the_top(tests):
    return next((verdict for verdict, failed in tests if failed()), "ok")


def audit(
    text, bandwidth, rate, *, read=parsed, who=named, there=data, median=middle, agrees=close, floor=slowest,
    time=timed, fast=below, first=from_the_top,
):  # fmt: skip
    """A verdict for each line, with any stage replaced; as it stands, the right one."""

    def verdict(line):
        record = read(line)
        return first((
            ("cut off", lambda: record is None),
            ("not named", lambda: not who(record)),
            ("no data", lambda: not there(record["samples_us"])),
            ("wrong median", lambda: not agrees(record["median_us"], median(record["samples_us"]))),
            ("too fast", lambda: fast(time(record), floor(record, bandwidth, rate))),
        ))  # fmt: skip

    return tuple(verdict(line) for line in text.splitlines())


def _skipped(tests):
    """Tell the last thing that is wrong, not the first."""
    failed = []
    for verdict, test in tests:
        if verdict != "cut off" and failed and failed[0] == "cut off":
            break
        try:
            if test():
                failed.append(verdict)
        except (TypeError, ValueError, statistics.StatisticsError):
            break
    return failed[-1] if failed else "ok"


def _number(x):
    return isinstance(x, int | float)


_MEDIAN = "Sort the samples of one line by hand. Which one stands in the middle, and what if two do?"
_FLOOR = "Which of the two bills takes this machine longer, and can anything be done before the longer one is paid?"
_DATA = "A run that fails may be written down as 0, as null or as NaN. Is any of them a time?"
_NAMED = "Which two names does a line need, and is an empty one a name?"

STAGES = staged(
    audit,
    who=(
        ("kernel not asked for", lambda r: bool(r.get("backend")), "when a line without a kernel passes", _NAMED),
        ("backend not asked for", lambda r: bool(r.get("kernel")), "when a line without a backend passes", _NAMED),
        ("empty names", lambda r: all(name in r for name in ("backend", "kernel")), "when an empty name counts as one",
         _NAMED),
        ("missing names", lambda r: all(r.get(name, "?") for name in ("backend", "kernel")),
         "when a name that is left out counts as one", _NAMED),
        ("either name", lambda r: any(r.get(name) for name in ("backend", "kernel")),
         "when one of the two names is enough", _NAMED),
    ),
    there=(
        ("zeros as data", lambda s: bool(s) and all(_number(x) and math.isfinite(x) for x in s),
         "when a time of 0 counts as measured", _DATA),
        ("only all zeros", lambda s: any(_number(x) and x > 0 for x in s) and all(
            _number(x) and math.isfinite(x) for x in s),
         "when one good sample is enough, whatever the others are", _DATA),
        ("NaN as data", lambda s: bool(s) and not any(x is None or x <= 0 for x in s),
         "when NaN counts as measured", _DATA + " And is NaN smaller than anything?"),
        ("NaN slips through", {"there": lambda s: bool(s) and not any(x is None or x <= 0 for x in s),
                               "median": lambda s: math.nan if any(map(math.isnan, s)) else middle(s),
                               "agrees": lambda value, right: not abs(value - right) > OF_THE_MEDIAN * right},
         "when every comparison with NaN comes out in favour of a line", _DATA + " And is NaN smaller than anything?",
         "NaN as data"),
        ("null as data", lambda s: bool(s) and all(x is None or (math.isfinite(x) and x > 0) for x in s),
         "when null counts as measured", _DATA),
        ("empty list as data", lambda s: not s or data(s), "when a line without any sample counts as measured", _DATA),
    ),
    median=(
        ("mean", statistics.fmean, "with the mean in place of the median",
         "One sample is ten times the others. Which of mean and median moves?"),
        ("fastest", min, "with the fastest sample in place of the median", _MEDIAN),
        ("not sorted", lambda s: statistics.median((s[(len(s) - 1) // 2], s[len(s) // 2])),
         "with the sample that stands in the middle of the list as it came", _MEDIAN),
        ("upper of two", statistics.median_high, "with the upper of the two samples in the middle", _MEDIAN),
        ("lower of two", statistics.median_low, "with the lower of the two samples in the middle", _MEDIAN),
    ),
    agrees=(
        ("to the last digit", lambda value, right: value == right, "when a rounded median is refused",
         "How many digits were written down?"),
        ("median believed", lambda value, right: True, "when the median of a line is taken on trust",
         "Who computed the number that a file calls a median?"),
        ("absolute difference", lambda value, right: abs(value - right) <= OF_THE_MEDIAN,
         "with a thousandth of a microsecond allowed, however long the time",
         "A thousandth of what: of the time, or of a microsecond?"),
        ("median too low alone", lambda value, right: value >= right * (1 - OF_THE_MEDIAN),
         "when only a median that is too low is refused", "May an honest file be wrong in the other direction?"),
    ),
    floor=(
        ("bytes alone", lambda r, bandwidth, rate: 1e6 * r["bytes"] / bandwidth,
         "with the bytes alone in the floor", _FLOOR),
        ("operations alone", lambda r, bandwidth, rate: 1e6 * r["operations"] / rate,
         "with the operations alone in the floor", _FLOOR),
        ("times added", lambda r, bandwidth, rate: 1e6 * (r["bytes"] / bandwidth + r["operations"] / rate),
         "with both times added up",
         "When are two people done who work side by side?"),
        ("faster of the two", lambda r, bandwidth, rate: 1e6 * min(r["bytes"] / bandwidth, r["operations"] / rate),
         "with the shorter of the two times", _FLOOR),
        ("floor believed", lambda r, bandwidth, rate: r["floor_us"], "when the floor of a line is taken on trust",
         "Who wrote the floor into the file, and from what can you compute it yourself?"),
        ("seconds", lambda r, bandwidth, rate: slowest(r, bandwidth, rate) / 1e6,
         "with a floor in seconds beside times in microseconds",
         "In which units are the two sides of your comparison?"),
        ("milliseconds", lambda r, bandwidth, rate: slowest(r, bandwidth, rate) / 1e3,
         "with a floor in milliseconds beside times in microseconds",
         "In which units are the two sides of your comparison?", "seconds"),
        ("no floor", lambda r, bandwidth, rate: 0, "without any floor", _FLOOR, "seconds"),
    ),
    time=(
        ("fastest sample", lambda r: min(r["samples_us"]), "when one sample below the floor is enough",
         "Which number of a line is its result?"),
        ("slowest sample", lambda r: max(r["samples_us"]), "when only the slowest sample is compared with the floor",
         "Which number of a line is its result?"),
    ),
    fast=(
        ("to the last percent", lambda time, floor: time < floor, "when a time just below the floor is refused",
         "The ceilings were measured, too. What is allowed for that?"),
        ("too slow refused", lambda time, floor: time > floor, "when what is slower than the floor is refused",
         "On which side of the floor does a real machine lie?"),
        ("far too fast alone", lambda time, floor: time < floor / 2,
         "when only a time below half of the floor is refused",
         "How far below the floor may a time lie?"),
    ),
    first=(
        ("last thing wrong", _skipped, "with the last thing that is wrong with a line, not the first",
         "Two things may be wrong with one line. Which is to be told?"),
    ),
)  # fmt: skip


def _until_the_first_bad(text, bandwidth, rate):
    verdicts = audit(text, bandwidth, rate)
    bad = next((place for place, verdict in enumerate(verdicts) if verdict == "cut off"), len(verdicts))
    return verdicts[: bad + 1]


def _without_the_bad(text, bandwidth, rate):
    return tuple(verdict for verdict in audit(text, bandwidth, rate) if verdict != "cut off")


def _only_ok_or_not(text, bandwidth, rate):
    return tuple("ok" if verdict == "ok" else "too fast" for verdict in audit(text, bandwidth, rate))


def _gives_up(text, bandwidth, rate):
    return audit(text, bandwidth, rate, read=json.loads)


MISTAKES = (
    *flat(STAGES),
    Misconception("stops at a bad line", _until_the_first_bad,
                  "when nothing is said of the lines after one that is cut off",
                  "How many lines has the file, and how many verdicts did you give?"),
    Misconception("bad lines left out", _without_the_bad, "when a line that cannot be read gets no verdict",
                  "How many lines has the file, and how many verdicts did you give?"),
    Misconception("one reason for all", _only_ok_or_not, "when every fault is called by the same name",
                  "Which of the five things is wrong?"),
    Misconception("ends at a bad line", _gives_up, "when a line that cannot be read ends the audit with an error",
                  "A run may be stopped while it writes. What should become of the lines before?"),
)  # fmt: skip


def _by_hand(text, bandwidth, rate):
    """Spell everything out, with a sort of its own."""
    verdicts = []
    for line in text.strip().split("\n"):
        try:
            record = json.loads(line)
        except ValueError:
            verdicts.append("cut off")
            continue
        samples = record["samples_us"]
        if record.get("backend", "") in ("", None) or record.get("kernel", "") in ("", None):
            verdicts.append("not named")
        elif not samples or any(x is None or not x > 0 or x == math.inf for x in samples):
            verdicts.append("no data")
        else:
            ordered, n = sorted(samples), len(samples)
            right = ordered[n // 2] if n % 2 else (ordered[n // 2 - 1] + ordered[n // 2]) / 2
            floor = max(record["bytes"] / (bandwidth / 1e6), record["operations"] / (rate / 1e6))
            wrong = abs(record["median_us"] / right - 1) > OF_THE_MEDIAN
            verdicts.append("wrong median" if wrong else "too fast" if right / floor < OF_THE_FLOOR else "ok")
    return tuple(verdicts)


def _with_numpy(text, bandwidth, rate):
    import numpy as np

    def verdict(line):
        record = parsed(line)
        if record is None:
            return VERDICTS[0]
        times = np.array(record["samples_us"], dtype=float)
        faults = [
            not named(record),
            not (times.size and (times > 0).all() and np.isfinite(times).all()),
            not np.isclose(record["median_us"], np.median(times) if times.size else 0, rtol=OF_THE_MEDIAN, atol=0),
            record["median_us"] * 1e-6
            < OF_THE_FLOOR * np.max([record["bytes"] / bandwidth, record["operations"] / rate]),
        ]
        return VERDICTS[1 + faults.index(True)] if True in faults else "ok"

    return tuple(verdict(line) for line in text.split("\n") if line)


ALTERNATIVES = (_by_hand, _with_numpy)
