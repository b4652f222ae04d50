"""The postman: hands an answer a memory block by block, together with its notes, and counts what is in them.

An answer gets one block of the memory at a time, with the notes that it returned for the block before. What it
remembers passes through here, and may be no larger for a long memory than for a short one. Nothing is measured in the
process that runs the answer; who hides the blocks there is found out where two memories follow on the same notes.

Notes are top and total (Nq,) and summed (Nq, Dv), as in checks.variants.merging.
Letters: Nq queries, n keys of a block; q (Nq, Dk), k (n, Dk), v (n, Dv).
"""

import numpy as np

from crossattn_ref.attention import reference
from crossattn_ref.checks.compare import Violation, disagreement, form
from crossattn_ref.checks.draw import read_only
from crossattn_ref.checks.variants import chunks

NOTES = ("top", "total", "summed")


def nothing(queries: int, width: int) -> dict[str, np.ndarray]:
    """Write the notes of queries that have met no key."""
    return {"top": np.full(queries, -np.inf), "total": np.zeros(queries), "summed": np.zeros((queries, width))}


def _meaning(top, total, summed):
    """What notes say: the logarithm of the sum of exponentials, the average of values, and whether any key was met."""
    with np.errstate(all="ignore"):
        met = (total != 0) & ((top != -np.inf) | np.isnan(total))
        log = np.where(met, top + np.log(np.where(met, total, 1)), 0)
        return log, np.where(met[..., None], summed / np.where(met, total, 1)[..., None], 0), met


def observed(_: tuple, value: tuple) -> tuple:
    """What counts in notes, and in an answer in front of them: what they say, however they say it."""
    *front, top, total, summed = (np.asarray(item, np.float64) for item in value)
    if not (top.shape == total.shape == summed.shape[:-1]):
        raise ValueError("notes that do not fit together")
    return *front, *_meaning(top, total, summed)


def arrays(value: object, names: tuple, shapes: list, case: dict) -> tuple:
    """Return a tuple of arrays of floating numbers in the right shapes; raise Violation for any other value."""
    if not isinstance(value, tuple) or len(value) != len(names):
        found = f"a tuple of {len(value)}" if isinstance(value, tuple) else f"a {type(value).__name__}"
        raise Violation(f"it returned {found}, where a tuple of {len(names)} is wanted: {', '.join(names)}", case)
    for name, item, shape in zip(names, value, shapes, strict=True):
        if problem := form(item):
            raise Violation(f"{name}: {problem}", case)
        if item.shape != shape:
            raise Violation(f"{name} has shape {item.shape}, where {shape} is wanted", case)
    return value


def agree(notes: tuple, exact: tuple, rounded: tuple, case: dict) -> None:
    """Raise Violation where notes do not say what the exact ones say."""
    said, right = (_meaning(*(np.asarray(x, np.float64) for x in part)) for part in (notes, exact))
    coarse = _meaning(*(np.asarray(x, np.float32) for x in rounded))
    words = ("top and total together", "summed over total", "whether a query has met a key")
    for name, *parts in zip(words, said, right, coarse, strict=True):
        if problem := disagreement(*parts):
            raise Violation(f"{name}: {problem}", case)


class Reader:
    """One query side that reads a memory in blocks: what it has been sent, and what it has noted."""

    def __init__(self, ask, q, k, v, seen):
        self._ask, self._q, self._k, self._v, self._seen = ask, q, k, v, seen
        self.notes = tuple(nothing(len(q), v.shape[1]).values())
        self._coarse = tuple(note.astype(np.float32) for note in self.notes)
        self.at = 0

    def deliver(self, n, *, locked=False):
        """Hand over the next n keys; raise where the answer so far is not attention over all that came."""
        block = slice(self.at, self.at + n)
        case = {"q": self._q, "k": self._k[block], "v": self._v[block], "start": self.at, "seen": self._seen}
        case |= {name: note.copy() for name, note in zip(NOTES, self.notes, strict=True)}
        if locked:
            case = {name: read_only(x)[0] if isinstance(x, np.ndarray) else x for name, x in case.items()}
        value = self._ask.call(**case)
        self._fits(value, case)
        shapes = [(len(self._q), self._v.shape[1]), *(note.shape for note in self.notes)]
        out, *notes = arrays(value, ("out", *NOTES), shapes, case)
        self.at, self.notes = self.at + n, notes
        if problem := disagreement(out, self._right(), self._rounded(case)):
            raise Violation(f"the answer after {self.at} keys: {problem}", case)

    def branch(self):
        """Return another reader, with a copy of the notes that this one has now."""
        other = Reader(self._ask, self._q, self._k, self._v, self._seen)
        other.at, other.notes, other._coarse = self.at, [note.copy() for note in self.notes], self._coarse
        return other

    def swap(self, k, v):
        """Let another memory follow on what has been read."""
        self._k = np.concatenate([self._k[: self.at], k])
        self._v = np.concatenate([self._v[: self.at], v])
        return self

    def _right(self):
        mask = np.arange(self.at) < self._seen[:, None]
        return reference.attention(self._q, self._k[: self.at], self._v[: self.at], mask)

    def _rounded(self, case):
        low = [case[name].astype(np.float32) for name in "qkv"]
        out, *self._coarse = chunks.read_block(*low, case["start"], case["seen"], *self._coarse)
        return out

    def _fits(self, value, case):
        """Count the numbers in the notes: as many as before the first block, and no more."""
        room = sum(note.size for note in nothing(len(self._q), self._v.shape[1]).values())
        if isinstance(value, tuple) and all(isinstance(note, np.ndarray) for note in value):
            held = sum(note.size for note in value[1:])
            if held > room:
                keys = self.at + len(case["k"])
                raise Violation(f"after {keys} keys your notes hold {held} numbers, and there is room for {room}", case)
