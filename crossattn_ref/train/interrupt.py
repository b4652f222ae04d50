"""Ctrl-C and SIGTERM as a wish to stop, not as a blow: the step under way is finished first."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def asked_to_stop() -> Iterator[Callable[[], bool]]:
    """Give a function that tells whether a first Ctrl-C or SIGTERM has come; a second one does what it always does.

    Signals reach the main thread alone; elsewhere nothing is changed, and the answer stays False.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    asked = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def note(number, _frame):
        asked.append(number)
        signal.signal(number, before[number])

    for number in before:
        signal.signal(number, note)
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
