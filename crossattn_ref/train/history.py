"""What happened in a run, as rows that can be read, written, and drawn."""

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np


@dataclass
class History:
    """A run so far: its step, the seconds it took, rows of figures, and why it ended, if it has.

    A row holds step, seconds, rate, train_loss (the mean over all that was predicted since the row before), and,
    by name, what was measured on the validation split. There is one for every validation.
    """

    step: int = 0
    seconds: float = 0.0
    ended: str | None = None
    rows: list[dict[str, Any]] = field(default_factory=list)
    total: float = 0.0  # of the loss since the last row
    count: int = 0
    rate: float = 0.0

    def add(self, total: float, count: int, rate: float) -> None:
        """Note one step."""
        self.total, self.count, self.rate = self.total + total, self.count + count, rate

    @property
    def loss(self) -> float:
        """The mean training loss since the last row; NaN right after it."""
        return self.total / self.count if self.count else float("nan")

    def validated(self, measured: dict[str, float]) -> None:
        """Close a row with what was measured; ValueError for a measure named as one of ours."""
        row = {"step": self.step, "seconds": round(self.seconds, 3), "rate": self.rate, "train_loss": self.loss}
        if twice := row.keys() & measured.keys():
            raise ValueError(f"a measure must have a name of its own, got {min(twice)}")
        self.rows.append(row | {name: float(value) for name, value in measured.items()})
        self.total, self.count = 0.0, 0

    def validations_since_best(self, name: str, *, lower_is_better: bool) -> int:
        """Count the validations since the best one by a measure; ValueError where it was never measured."""
        if not self.rows or name not in self.rows[-1]:
            known = ", ".join(self.rows[-1]) if self.rows else "none yet"
            raise ValueError(f"watch must be a measure of the validation ({known}), got {name!r}")
        values = [row[name] if lower_is_better else -row[name] for row in self.rows]
        return len(values) - 1 - values.index(min(values))

    def column(self, name: str) -> np.ndarray:
        """Return a figure of every row: plot.curves(run.column("step"), {"loss": run.column("loss")}, ...) draws it."""
        return np.array([row[name] for row in self.rows], dtype=float)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values: History(**history.as_dict()) is equal to it."""
        return asdict(self)
