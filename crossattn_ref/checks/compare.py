"""Strict comparison: what came back must have the right form before its numbers count."""

from collections.abc import Mapping

import numpy as np

from crossattn_ref.checks.subject import Foreign, Outcome

FORGIVEN = 16  # times the error of the same formula computed in float32 throughout
FLOOR = 1e-6  # and at least this much
FLOATS = (np.float32, np.float64)
INTEGERS = (np.int64, np.int32)


class Violation(Exception):
    """A property that an answer does not have: a sentence for the learner, and the input that shows it.

    misconception names the mistake where this alone tells it, and no replay could: one that draws at random.
    """

    def __init__(
        self, message: str, counterexample: Mapping[str, object] | None = None, misconception: str | None = None
    ):
        super().__init__(message)
        self.message = message
        self.counterexample = dict(counterexample or {})
        self.misconception = misconception


def usable(outcome: Outcome, wanted: str = "array", counterexample: Mapping[str, object] | None = None) -> object:
    """Return the value of an outcome. Raises Violation where there is none, or it is not plain data.

    wanted says what the answer should have returned: "array" or "tensor".
    """
    if outcome.error and outcome.error.kind == "NotImplementedError":
        raise Violation("it is not written yet, and raises NotImplementedError")
    if outcome.error:
        raise Violation(_error(outcome.error), counterexample)
    if outcome.value is None:
        raise Violation("it returned nothing (None): is there a return at the end?")
    if isinstance(outcome.value, Foreign):
        raise Violation(f"it returned {outcome.value.kind}, where {_a(wanted)} is wanted")
    return outcome.value


def disagreement(value: object, exact: object, rounded: object, wanted: str = "array") -> str | None:
    """Compare a value with the exact result -> None, or a sentence that never tells the expected numbers.

    exact and rounded are the right result in float64 and as the formula gives it in float32 throughout.
    A tuple is compared item by item. Where the exact result is boolean or integer, so must the value be. Where the
    rounded one is in half precision, the value may be too. A single number may be one of Python's.
    """
    if isinstance(exact, tuple):
        return _tuple_disagreement(value, exact, rounded, wanted)
    if isinstance(value, float) and exact.ndim == 0:
        value = np.float64(value)
    if problem := form(value, wanted, _dtypes(exact, rounded)):
        return problem
    if value.shape != exact.shape:
        return f"it returned shape {value.shape}, where {exact.shape} is wanted"
    if exact.dtype.kind in "biu":
        return f"it is wrong {_places(value != exact)}" if (value != exact).any() else None
    if (~np.isfinite(value) & np.isfinite(exact)).any():
        return f"it contains NaN or inf {_places(~np.isfinite(value))}"
    error = np.abs(np.asarray(rounded, np.float64) - exact).max(initial=0.0)
    off = ~(np.abs(value - exact) <= max(FORGIVEN * error, FLOOR))
    if not off.any():
        return None
    return f"the numbers are wrong {_places(off)}" if off.ndim else "the number is wrong"


def form(value: object, wanted: str = "array", dtypes: tuple = FLOATS) -> str | None:
    """Check that a value is one array of an allowed dtype -> None, or a sentence."""
    if isinstance(value, tuple):
        return f"it returned a tuple of {len(value)}, where one {wanted} is wanted"
    if not isinstance(value, np.ndarray | np.floating):
        return f"it returned {value!r}, a {type(value).__name__}, where {_a(wanted)} is wanted"
    if value.dtype not in dtypes:
        allowed = " or ".join(np.dtype(dtype).name for dtype in dtypes)
        return f"it returned {_a(wanted)} of dtype {value.dtype}, where {allowed} is wanted"
    return None


def insist(value: object, shape: tuple[int, ...], case: Mapping[str, object], wanted: str = "array") -> np.ndarray:
    """Return a value that is one array of floating numbers and of a given shape; raise Violation for any other."""
    if problem := form(value, wanted):
        raise Violation(problem, case)
    if value.shape != shape:
        raise Violation(f"it returned shape {value.shape}, where {shape} is wanted", case)
    return value


def number(value: object, case: Mapping[str, object]) -> float:
    """Return a value that is one finite number; raise Violation for any other, a bool included."""
    if not _numeric(value) or isinstance(value, bool | np.bool_) or np.ndim(value):
        raise Violation(f"it returned {value!r:.60}, a {type(value).__name__}, where one number is wanted", case)
    if not np.isfinite(value):
        raise Violation(f"it returned {value}, where a finite number is wanted", case)
    return float(value)


def unmoved(before: np.ndarray, after: np.ndarray, message: str, case: Mapping[str, object]) -> None:
    """Raise Violation with the message where two results differ by more than rounding, or hold NaN or inf."""
    with np.errstate(all="ignore"):
        same = np.abs(after - before).max() <= 1e-5 * (1 + np.abs(before).max())
    if not same:
        raise Violation(message, case)


def _dtypes(exact, rounded):
    """Which dtypes a value may have, beside an exact result and the same one rounded."""
    if exact.dtype == bool:
        return (np.bool_,)
    if exact.dtype.kind in "iu":
        return INTEGERS
    return (np.float16, *FLOATS) if rounded.dtype == np.float16 else FLOATS


def closeness(a: object, b: object) -> float:
    """Largest difference between two observed values, relative to b where b exceeds 1; inf if they differ in kind."""
    if isinstance(a, tuple) and isinstance(b, tuple):
        return max((closeness(x, y) for x, y in zip(a, b, strict=True)), default=0.0) if len(a) == len(b) else np.inf
    if not (_numeric(a) and _numeric(b)):
        return 0.0 if type(a) is type(b) and _numeric(a) == _numeric(b) and np.array_equal(a, b) else np.inf
    if (np.asarray(a).dtype == bool) != (np.asarray(b).dtype == bool):
        return np.inf  # True is not 1.0
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.shape != b.shape or not np.array_equal(np.isfinite(a), np.isfinite(b)):
        return np.inf
    finite = np.isfinite(b)
    difference = np.abs(a[finite] - b[finite]).max(initial=0.0)
    return float(difference / max(1.0, np.abs(b[finite]).max(initial=0.0)))


def _tuple_disagreement(value, exact, rounded, wanted):
    if not isinstance(value, tuple) or len(value) != len(exact):
        found = f"a tuple of {len(value)}" if isinstance(value, tuple) else f"a {type(value).__name__}"
        return f"it returned {found}, where a tuple of {len(exact)} {wanted}s is wanted"
    for index, parts in enumerate(zip(value, exact, rounded, strict=True)):
        if problem := disagreement(*parts, wanted):
            return f"item {index} of the tuple: {problem}"
    return None


def _error(error):
    if error.kind in ("SystemExit", "KeyboardInterrupt"):
        return f"it raised {error.kind}, which would end the notebook"
    if "does not require grad" in error.message:
        return "no gradient can flow back through the result: it was cut off from what it was computed from"
    if "read-only" in error.message or "in-place operation" in error.message:
        return "it writes into its input: compute a new array, and leave what you were given as it was"
    where = f", at: {error.line}" if error.line else ""
    return f"it raised {error.kind}: {error.message[:300].rstrip('.')}{where}"


def _a(thing):
    return f"an {thing}" if thing[0] in "aeiou" else f"a {thing}"


def _places(off):
    first = ",".join(str(index) for index in np.argwhere(off)[0]) if off.ndim else ""
    return f"in {int(off.sum())} of {off.size} places, first at [{first}]"


def _numeric(value):
    return (
        isinstance(value, np.ndarray | np.number | int | float)
        and getattr(np.asarray(value), "dtype", np.dtype(object)).kind in "fiub"
    )
