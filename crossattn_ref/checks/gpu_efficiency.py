"""Exercises of the assignment "gpu-efficiency": a memory split over blocks, a ragged batch, and a doubtful file.

What a GPU would be asked to do is counted on the way: an answer is handed the function that reads, and what it reads,
how often, and in how many launches, is written down there. Nothing is timed, and no GPU is needed.

Letters: B samples, Nq queries, Nk keys, Dk width of a query or key, Dv width of a value.
"""

import math

import numpy as np

from crossattn_ref.attention import reference
from crossattn_ref.checks import measured
from crossattn_ref.checks.compare import Violation, disagreement
from crossattn_ref.checks.draw import normal, read_only, sizes
from crossattn_ref.checks.exercise import Exercise, Property
from crossattn_ref.checks.variants import audited, packed, splits
from crossattn_ref.checks.variants.stages import pairs

# split_keys


def _split_observed(_, value):
    out, moved = value
    with np.errstate(all="ignore"):
        return np.asarray(out, np.float64), np.log(float(moved))


def _memory(rng, n_keys, *, scale=1.0, square=False):
    nq, dk, dv = sizes(rng, 3, high=6)
    if square:
        nq = dk = dv = n_keys
    return splits.Memory(scale * normal(rng, nq, dk), normal(rng, n_keys, dk), normal(rng, n_keys, dv))


def _asked(ask, memory, n_splits):
    """Ask for an answer in so many splits -> it, the bytes, and the case; memory.reads says what was read."""
    memory.reads.clear()
    case = {"n_keys": len(memory.k), "n_splits": n_splits}
    value = ask.hand_over(memory, **case)
    if not isinstance(value, tuple) or len(value) != 2:
        found = f"a tuple of {len(value)}" if isinstance(value, tuple) else f"a {type(value).__name__}"
        raise Violation(f"it returned {found}, where a tuple of 2 is wanted: out, moved", case)
    return *value, case | {"q": memory.q, "k": memory.k, "v": memory.v}


def _split(ask, memory, n_splits):
    """Raise where the answer in so many splits is not attention over the whole memory."""
    out, _, case = _asked(ask, memory, n_splits)
    exact = reference.attention(memory.q, memory.k, memory.v)
    rounded, _ = splits.split_keys(splits.Memory(memory.q, memory.k, memory.v), len(memory.k), n_splits)
    if problem := disagreement(out, exact, rounded):
        raise Violation(f"out: {problem}", case)


def _split_values(ask, rng):
    for n_splits in rng.permutation([2, 3, 4]).tolist():
        n_keys = n_splits * int(rng.integers(3, 5)) - int(rng.integers(n_splits))
        _split(ask, _memory(rng, n_keys), n_splits)
    _split(ask, _memory(rng, 4, square=True), 2)


def _any_number(ask, rng):
    memory = _memory(rng, 7)
    for n_splits in (1, 2, 3, 5, 6, 7):
        _split(ask, memory, n_splits)


def _split_large(ask, rng):
    """Let the scores of blocks lie thousands apart, upwards for some queries and downwards for others."""
    both, up = np.array([1.0, -1.0, 0.5, 0.0])[:, None], np.array([1.0, 0.6, 0.3, 0.0])[:, None]
    for q, order in ((up, [2000.0, 0.0, -2000.0]), (both, [0.0, 2000.0, -2000.0]), (both, [2000.0, 0.0, 4000.0])):
        k = np.repeat(np.array(order), 2)[:, None] + normal(rng, 6, 1)
        _split(ask, splits.Memory(q, k, normal(rng, 6, 3)), 3)


def _split_empty(ask, rng):
    memory = _memory(rng, 3)
    for n_splits in (4, 8):
        _split(ask, memory, n_splits)
    _split(ask, _memory(rng, 0), 3)


def _reads(ask, rng):
    """Count who reads which key."""
    for n_keys, n_splits in ((12, 3), (13, 4), (5, 7)):
        memory = _memory(rng, n_keys)
        *_, case = _asked(ask, memory, n_splits)
        places = [place for start, stop in memory.reads for place in range(start, stop)]
        if places and max(places) >= n_keys:
            raise Violation(
                f"key {max(places)} was read, of a memory whose last key is {n_keys - 1}", case, "out-of-bounds reads"
            )
        if missed := sorted(set(range(n_keys)) - set(places)):
            raise Violation(f"key {missed[0]} of {n_keys} was read by no block", case)
        if len(places) > n_keys:
            again = len(places) >= n_keys * min(n_splits, n_keys)
            told = "every block reads everything" if again and n_splits > 1 else None
            raise Violation(f"{len(places)} keys were read, of a memory that has {n_keys}", case, told)


def _waiting(ask, rng):
    """Compare the longest block with what each would get if all shared alike."""
    for n_keys, n_splits in ((15, 8), (14, 5), (6, 9)):
        memory = _memory(rng, n_keys)
        *_, case = _asked(ask, memory, n_splits)
        if len(memory.reads) != n_splits:
            told = {1: "not split", n_keys: "a block for each key"}.get(len(memory.reads))
            raise Violation(
                f"{n_splits} blocks were asked for, and read was called {len(memory.reads)} times", case, told
            )
        longest, fair = max(stop - start for start, stop in memory.reads), -(-n_keys // n_splits)
        if longest > fair:
            told = "last takes the rest" if memory.reads[-1][1] - memory.reads[-1][0] == longest < n_keys else None
            raise Violation(
                f"one of {n_splits} blocks reads {longest} of {n_keys} keys; {fair} are its share, and all wait for it",
                case, told,
            )  # fmt: skip


def _bytes(ask, rng):
    for n_keys, n_splits in ((8, 2), (9, 3), (3, 5), (6, 1)):
        memory = _memory(rng, n_keys)
        _, moved, case = _asked(ask, memory, n_splits)
        right = 2 * 4 * n_splits * len(memory.q) * (memory.v.shape[1] + 1)
        if isinstance(moved, bool) or not isinstance(moved, int | float | np.number):
            raise Violation(f"moved must be a number of bytes, got {moved!r:.40}", case)
        if moved != right:
            raise Violation(f"moved = {moved}: too {'many' if moved > right else 'few'} bytes", case)


# ragged

REST = 7.0  # stands in padding, and is drawn nowhere else


def _batch(rng, *, rest=REST, square=False, empty=False):
    """Draw a ragged batch whose padding holds something that must not be noticed."""
    B, nq, nk, dk, dv = sizes(rng, 5, high=7)
    if square:
        nk = nq
    lengths = []
    for n in (nq, nk):
        drawn = rng.integers(1, n, size=B)
        drawn[rng.integers(B)] = n
        lengths.append(drawn)
    if square:
        lengths[1] = nq + 1 - lengths[0]  # the longer the question, the shorter the memory
    if empty:
        lengths[0][1], lengths[1][2] = 0, 0
    x = [normal(rng, B, n, d) for n, d in ((nq, dk), (nk, dk), (nk, dv))]
    for array, own in zip(x, (lengths[0], lengths[1], lengths[1]), strict=True):
        array[np.arange(array.shape[1]) >= own[:, None]] = rest
    return dict(zip(("q", "k", "v", "query_lengths", "key_lengths"), (*x, *lengths), strict=True))


def _exact(case):
    q, k, v = (np.nan_to_num(case[name]).astype(np.float64) for name in "qkv")
    looked_at = np.arange(k.shape[1]) < case["key_lengths"][:, None]
    out = reference.attention(q, k, v, looked_at[:, None, :])
    return np.where((np.arange(q.shape[1]) < case["query_lengths"][:, None])[..., None], out, 0)


def _answered(ask, case, attend=None):
    attend = attend or packed.Attend()
    out = ask.hand_over(attend, **case)
    if problem := disagreement(out, _exact(case), packed.ragged(packed.Attend(), **_low(case))):
        raise Violation(problem, case)


def _low(case):
    return {name: x.astype(np.float32) if x.dtype.kind == "f" else x for name, x in case.items()}


def _ragged_values(ask, rng):
    for _ in range(3):
        _answered(ask, _batch(rng))


def _as_many_queries_as_keys(ask, rng):
    for _ in range(2):
        _answered(ask, _batch(rng, square=True))


def _poisoned(ask, rng):
    for rest in (np.nan, np.inf):
        _answered(ask, _batch(rng, rest=rest))


def _nobody(ask, rng):
    _answered(ask, _batch(rng, empty=True))


def _handed_over(ask, rng):
    """Count the launches, and the rows that are handed over."""
    for _ in range(2):
        case, attend = _batch(rng), packed.Attend()
        right = _agrees(ask.hand_over(attend, **case), case)
        n = len(attend.launches)
        if n != 1:
            told = "a launch for each sample" if right and n == len(case["q"]) else None
            raise Violation(f"attend was called {n} times for one batch, where once is enough", case, told)
        for side, rows in zip(("query", "key"), attend.launches[0], strict=True):
            _without_padding(side, rows, case, right)


def _without_padding(side, rows, case, right):
    real, places = int(case[f"{side}_lengths"].sum()), math.prod(case[side[0]].shape[:2])
    if rows > real:
        told = "padding asks too" if right and side == "query" and rows == places else None
        raise Violation(f"{rows} {side} rows were handed over, of which {rows - real} are padding", case, told)
    if rows < real:
        raise Violation(f"{rows} {side} rows were handed over, and {real} are real", case)


def _next_memory(ask, rng):
    """Ask the same attend about one memory and then about another of the same size."""
    case, attend = _batch(rng), packed.Attend()
    _answered(ask, case, attend)
    later = {**case, **{name: _filled_like(rng, case[name]) for name in "kv"}}
    out = ask.hand_over(attend, **later)
    if not _agrees(out, later):
        mistakes = {"stale cache": packed.stale, "appended cache": packed.appended}
        memory = [[each[name] for name in ("k", "v", "key_lengths")] for each in (case, later)]
        joined = {name: join(*memory[0], *memory[1]) for name, join in mistakes.items()}
        told = next((name for name, both in joined.items() if _agrees(out, later, both)), None)
        raise Violation("the second memory, of the same size as the first, is not the one that was read", later, told)


def _agrees(out, case, memory=None):
    """Tell whether an answer is the right one to a case, or would be with another memory: k, v, key_lengths."""
    case = case if memory is None else {**case, **dict(zip(("k", "v", "key_lengths"), memory, strict=True))}
    return disagreement(out, _exact(case), packed.ragged(packed.Attend(), **_low(case))) is None


def _filled_like(rng, x):
    """Draw other numbers where x holds real ones, and keep what stands in its padding."""
    return np.where(x == REST, x, normal(rng, *x.shape))


def _ragged_kept(ask, rng):
    case = _batch(rng)
    _answered(ask, dict(zip(case, read_only(*case.values()), strict=True)))


# audit


def _honest(ask, rng):
    measured.file(ask, rng, ("ok", {}), ("ok", {"n": 6}), ("ok", {"bound": "bytes"}), ("ok", {"bound": "operations"}))
    near = {"over": 0.985, "bound": "bytes"}, {"over": 0.98, "bound": "operations"}, {"over": 1.02}
    measured.file(ask, rng, *(("ok", special) for special in near))


def _medians(ask, rng):
    machine = measured.machine(rng)
    lines = []
    for n, pick in (
        (5, np.mean),
        (6, np.mean),
        (7, np.min),
        (5, np.max),
        (6, _upper),
        (6, _lower),
        (7, _in_the_middle),
    ):
        record, wrong = _misread(rng, machine, n, pick)
        lines += [("ok", record), ("wrong median", {**record, "median_us": wrong})]
    measured.verdicts(ask, rng, machine, [lines[i] for i in rng.permutation(len(lines))])


def _misread(rng, machine, n, pick):
    """Draw a record and what pick takes for its median, which must not come near the median by chance."""
    while True:
        record = measured.record(rng, machine, n=n)
        wrong = round(float(pick(record["samples_us"])), 2)
        if abs(wrong - record["median_us"]) > 0.01 * record["median_us"]:
            return record, wrong


def _upper(samples):
    return sorted(samples)[len(samples) // 2]


def _lower(samples):
    return sorted(samples)[len(samples) // 2 - 1]


def _in_the_middle(samples):
    return samples[len(samples) // 2]


def _faster_than_possible(ask, rng):
    far, bounds = (0.9, 0.6, 0.4, 0.2), ("bytes", "operations")
    fast = [("too fast", {"over": over, "bound": bound}) for over in far for bound in bounds]
    edited = {"over": 0.7, "floor_us": 1.0}
    measured.file(ask, rng, *fast, ("too fast", edited), ("ok", {"floor_us": 1e6}), ("ok", {"over": 1.2}))


def _nobody_named(ask, rng):
    left_out = [
        ("not named", {name: value}) for name in ("backend", "kernel") for value in (measured.LEFT_OUT, "", None)
    ]
    measured.file(ask, rng, ("ok", {}), *left_out, ("ok", {}))


def _nothing_measured(ask, rng):
    machine = measured.machine(rng)
    lines = [("ok", measured.record(rng, machine))]
    for failed in (0.0, None, float("nan"), -1.0):
        record = measured.record(rng, machine, n=7)
        record["samples_us"][int(rng.integers(7))] = failed
        lines.append(("no data", record))
    for samples in ([], [0, 0, 0]):
        record = measured.record(rng, machine, samples_us=samples, median_us=0.0)
        lines.append(("no data", record))
    measured.verdicts(ask, rng, machine, lines)


def _broken_off(ask, rng):
    """Let a line break off that is neither the first nor the last."""
    machine = measured.machine(rng)
    lines = [(verdict, measured.record(rng, machine)) for verdict in ("ok", "cut off", "ok")]
    lines.append(("not named", measured.record(rng, machine, kernel="")))
    measured.verdicts(ask, rng, machine, lines)


def _first_fault(ask, rng):
    lines = (
        ("not named", {"kernel": "", "samples_us": []}),
        ("not named", {"backend": None, "over": 0.5}),
        ("no data", {"samples_us": [0.0, 0.0, 0.0], "median_us": 5.0}),
        ("wrong median", {"median_us": 0.001}),
        ("cut off", {"kernel": ""}),
    )
    measured.file(ask, rng, *lines)


EXERCISES = {
    "split_keys": Exercise(
        reference=splits.split_keys,
        plain=splits.split_keys,
        observe=_split_observed,
        properties=(
            Property("the answer over the whole memory", 3, _split_values),
            Property("the same answer for any number of splits", 2, _any_number),
            Property("every key read once, and nothing behind the last", 2, _reads),
            Property("as many blocks as asked for, and none that all wait for", 1, _waiting),
            Property("scores that lie thousands apart", 1, _split_large),
            Property("blocks without a key, and a memory without any", 2, _split_empty),
            Property("the bytes of what blocks write down and read again", 1, _bytes),
        ),
        misconceptions=splits.MISTAKES,
        compositions=lambda: pairs(splits.split_keys, {k: splits.STAGES[k] for k in ("weigh", "bill")}),
        alternatives=splits.ALTERNATIVES,
    ),
    "ragged": Exercise(
        reference=packed.ragged,
        plain=packed.ragged,
        properties=(
            Property("samples with their own numbers of queries and of keys", 3, _ragged_values),
            Property("as many places for queries as for keys, and other lengths", 1, _as_many_queries_as_keys),
            Property("what stands in the padding has no effect", 1, _poisoned),
            Property("samples that ask nothing, and samples with nothing to read", 1, _nobody),
            Property("no row of padding handed over, in one launch", 2, _handed_over),
            Property("another memory of the same size", 1, _next_memory),
            Property("right without writing into what was given", 1, _ragged_kept),
        ),
        misconceptions=packed.MISTAKES,
        alternatives=packed.ALTERNATIVES,
    ),
    "audit": Exercise(
        reference=audited.audit,
        plain=audited.audit,
        properties=(
            Property("honest lines pass, down to the floor", 2, _honest),
            Property("medians that are none", 2, _medians),
            Property("times below what the machine allows", 2, _faster_than_possible),
            Property("lines that name no backend or no kernel", 1, _nobody_named),
            Property("zeros, gaps and NaN are no data", 2, _nothing_measured),
            Property("lines that are cut off", 1, _broken_off),
            Property("of several faults the first", 1, _first_fault),
        ),
        misconceptions=audited.MISTAKES,
        compositions=lambda: pairs(audited.audit, {k: audited.STAGES[k] for k in ("who", "there", "median", "floor")}),
        alternatives=audited.ALTERNATIVES,
    ),
}  # fmt: skip
