"""A learner's answer in another process: the operations of a Subject over a channel."""

from collections.abc import Callable

import numpy as np

from crossattn_ref.checks.subject import Foreign, Outcome, Raised
from crossattn_ref.judge.channel import Broken, Channel

ASKS = 2000  # calls that a learner's test may make of what it tests
ELEMENTS = 20_000  # numbers in one array of such a call
PLAIN = (bool, int, float, str, np.ndarray, np.generic, type(None))


class RemoteSubject:
    """An answer behind a channel. Once the other side breaks off, the reason answers every further question."""

    def __init__(self, channel: Channel, name: str, *, tensors: bool, deadline: float):
        self._channel = channel
        self._deadline = deadline
        self.broken = ""
        try:
            channel.send({"name": name, "tensors": tensors})
        except Broken as error:
            self.broken = str(error)

    def call(self, *args):
        return self._ask("call", args)

    def probe(self, target, seed):
        return self._ask("probe", (seed,), target)

    def construct(self, config):
        return self._ask("construct", (config,))

    def load_state(self, state):
        return self._ask("load_state", (state,))

    def forward(self, *args):
        return self._ask("forward", args)

    def backward(self, grad_out):
        return self._ask("backward", (grad_out,))

    def get(self, name):
        return self._ask("get", (name,))

    def _ask(self, operation, args, target=None):
        if self.broken:
            return _stopped(self.broken)
        try:
            self._channel.send({"operation": operation, "args": list(args)})
            reply = self._channel.receive(self._deadline)
            asked = 0
            while target is not None and isinstance(reply, dict) and "ask" in reply:
                asked += 1
                if asked > ASKS:
                    raise Broken(f"the test asked more than {ASKS} times")
                self._channel.send(_answered(target, reply["ask"]))
                reply = self._channel.receive(self._deadline)
            return _outcome(reply)
        except Broken as error:
            self.broken = str(error)
            return _stopped(self.broken)


def _stopped(reason):
    return Outcome(error=Raised("Stopped", f"its process stopped: {reason}"))


def _answered(target: Callable, args: object) -> dict:
    """Call what a learner's test tests, on arrays that are not too large to be computed with."""
    if not isinstance(args, tuple) or not all(isinstance(arg, PLAIN) for arg in args):
        return {"error": "give it NumPy arrays"}
    if any(isinstance(arg, np.ndarray) and arg.size > ELEMENTS for arg in args):
        return {"error": f"give it arrays of at most {ELEMENTS} numbers"}
    try:
        with np.errstate(all="ignore"):
            return {"value": target(*args)}
    except Exception as error:  # noqa: BLE001 a test may call with anything; it gets the error as its own
        return {"error": f"{type(error).__name__}: {error}"[:500]}


def _outcome(reply):
    """Rebuild an outcome from what came, strictly: what does not have the form of one ends the conversation."""
    try:
        error, said = reply["error"], reply["said"]
        raised = Raised(_text(error["kind"]), _text(error["message"]), _text(error["line"])) if error else None
        value = reply["value"]
        value = Foreign(_text(value["foreign"])) if "foreign" in value else _checked(value["plain"])
        return Outcome(value, raised, _text(said))
    except (KeyError, TypeError) as problem:
        raise Broken(f"a malformed answer ({problem})") from problem


def _text(value):
    if not isinstance(value, str):
        raise TypeError(f"a {type(value).__name__} where text belongs")
    return value[:4000]


def _checked(value):
    if isinstance(value, tuple):
        return tuple(_checked(item) for item in value)
    if not isinstance(value, PLAIN):
        raise TypeError(f"a {type(value).__name__} where data belongs")
    return value
