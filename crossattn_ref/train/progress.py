"""A progress bar with the loss and the time that is left, on a terminal; a line now and then elsewhere."""

import sys

from crossattn_ref.train.history import History
from crossattn_ref.train.loop import Plan


class Bar:
    """Show a run: for train(..., show=Bar())."""

    def __init__(self):
        self._bar = None

    def __call__(self, history: History, plan: Plan) -> None:
        """Show where the run stands."""
        from tqdm import tqdm

        if self._bar is None:
            interval = 0.2 if sys.stderr.isatty() else 30.0
            self._bar = tqdm(
                total=plan.n_steps, initial=history.step, unit=" steps", file=sys.stderr, mininterval=interval
            )
        if history.count:
            self._bar.set_postfix_str(f"loss {history.loss:.3f}{self._measured(history)}", refresh=False)
        self._bar.update(history.step - self._bar.n)
        if history.ended:
            self._bar.close()

    def _measured(self, history):
        if not history.rows:
            return ""
        own = {"step", "seconds", "rate", "train_loss"}
        return "".join(f", {name} {value:.4g}" for name, value in history.rows[-1].items() if name not in own)
