"""A learner's answer in another process: the operations of a Subject over a channel."""

import contextlib
import math
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from crossattn_ref.checks.exercise import Exercise, examine
from crossattn_ref.checks.subject import Foreign, Outcome, Raised
from crossattn_ref.judge.channel import Broken, Channel, Gone

ASKS = 2000  # calls that a learner's test may make of what it tests
ELEMENTS = 20_000  # numbers in one array of such a call; an axis of length 0 counts as one of length 1
ANSWERED = 32 * 2**20  # bytes of answers to one check
GROWTH = 2 * 2**30  # bytes by which the judge may grow while it computes with numbers that a stranger chose
UNSAID = "that is how what your test tests ended; in your own notebook you see its words"
PLAIN = (bool, int, float, str, np.ndarray, np.generic, type(None))


class RemoteSubject:
    """An answer behind a channel. Once the other side breaks off, every further question is answered with the reason.

    broken says why, and gone whether it has ended, by itself or by somebody.
    problem says why there is nothing to ask: the name is not defined, or what it names cannot be called.
    room bounds the bytes that all its answers together may have, each row of an array counted as one more; taken says
    how many came.
    """

    def __init__(self, channel: Channel, name: str, *, tensors: bool, deadline: float):
        self._channel = channel
        self._tensors = tensors
        self._deadline = deadline
        self._inputs = 0
        self._known = {}
        self._rows = 0
        self.room = ANSWERED
        self.broken, self.gone = "", False
        self.problem = self._introduced(name)

    def _introduced(self, name):
        try:
            found = self._exchange({"name": name, "tensors": self._tensors})
            if found["callable"] is True:
                return ""
            shown = found["shown"]
        except (Broken, KeyError, TypeError) as error:
            self._breaks(error)
            return ""
        if shown is None:
            return f"{name} is not defined at this point of your notebook: its cell is missing, or raised an error"
        shown = str(shown)[:80]
        return f"your answer is {shown}, not a function or a class: pass it by its name, without calling it"

    def call(self, *args):
        return self._ask("call", args)

    def probe(self, target, seed, *args):
        if args:
            return self._ask("probe", (seed, *args), target)
        key = (id(target), seed)
        if key not in self._known:
            self._known[key] = target, self._ask("probe", (seed,), target)
        return self._known[key][1]

    def construct(self, config):
        return self._ask("construct", (config,), form=_nothing)

    def load_state(self, state):
        return self._ask("load_state", (state,), form=_nothing)

    def forward(self, *args):
        self._inputs = sum(isinstance(arg, np.ndarray) and arg.dtype.kind == "f" for arg in args)
        return self._ask("forward", args)

    def backward(self, grad_out):
        return self._ask("backward", (grad_out,), form=self._gradients)

    def get(self, name):
        return self._ask("get", (name,), form=_gradient)

    def _gradients(self, value):
        if not isinstance(value, tuple) or len(value) != self._inputs:
            raise TypeError("not one gradient for each input")
        return tuple(_gradient(item) for item in value)

    def _ask(self, operation, args, target=None, form=None):
        if self.broken:
            return _stopped(self.broken)
        try:
            reply = self._exchange({"operation": operation, "args": list(args)})
            if target is not None:
                reply = self._asked_back(target, reply)
            outcome = _outcome(reply, form or _anything)
            self._rows += _rows(outcome.value)
            self._insist_on_room()
            return outcome
        except Broken as error:
            self._breaks(error)
            return _stopped(self.broken)

    def _breaks(self, error):
        self.broken, self.gone = str(error), isinstance(error, Gone)

    def _asked_back(self, target, reply):
        """Answer what a learner's test asks of what it tests, until it has come to an end."""
        for _ in range(ASKS):
            if not (isinstance(reply, dict) and "ask" in reply):
                return reply
            answer = _answered(target, reply["ask"], reply.get("named", {}), tensors=self._tensors)
            try:
                reply = self._exchange(answer)
            except ValueError as error:
                reply = self._exchange({"error": ["ValueError", str(error)], "said": answer["said"]})
        raise Broken(f"the test asked more than {ASKS} times")

    def _exchange(self, message):
        self._channel.send(message, deadline=self._deadline)
        reply = self._channel.receive(self._deadline)
        self._insist_on_room()
        return reply

    @property
    def taken(self):
        return self._channel.received + self._rows

    def _insist_on_room(self):
        if self.taken > self.room:
            raise Broken(f"its answers came to more than {self.room} bytes")


def by_lot(name: str, exercise: Exercise, subject: RemoteSubject, seed: int) -> None:
    """Put the questions of a learner's test in an order drawn by lot, before a check puts them in its own.

    A check tries the right ones first: a test that counted how often it is called would know them by their numbers.
    """
    rehearsal = _Rehearsal()
    with contextlib.suppress(Exception):  # a property that computes with the reference cannot be rehearsed without it
        unanswered = replace(exercise, reference=_nothing_known, misconceptions=(), compositions=tuple)
        examine(name, unanswered, rehearsal, seed)
    for number in np.random.default_rng([seed, len(rehearsal.probes)]).permutation(len(rehearsal.probes)):
        subject.probe(*rehearsal.probes[number])


class _Rehearsal:
    """A subject that writes down which probes a check makes, and is of no other use."""

    def __init__(self):
        self.probes = []

    def probe(self, target, seed, *args):
        if not args:  # with args it is no learner's test, and nothing is accused
            self.probes.append((target, seed))
        return Outcome(True)

    def __getattr__(self, operation):
        return lambda *_: _stopped("this is a rehearsal")


def _nothing_known(*_):
    return None


@contextlib.contextmanager
def bounded() -> Iterator[None]:
    """Let this process grow by GROWTH and no more: numbers that a stranger chose end in a MemoryError at worst."""
    if sys.platform != "linux":
        yield
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    with open("/proc/self/statm") as file:  # noqa: PTH123 once for each check
        bound = int(file.read().split()[0]) * resource.getpagesize() + GROWTH
    if soft != resource.RLIM_INFINITY:
        bound = min(bound, soft)
    resource.setrlimit(resource.RLIMIT_AS, (bound, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _stopped(reason):
    return Outcome(error=Raised("Stopped", f"its process stopped: {reason}"))


def _answered(target: Callable, args: object, named: object, *, tensors: bool) -> dict:
    """Call what a learner's test tests, on arrays that are not too large to be computed with.

    Of an error only the kind travels: its words may name the function, and a test must not tell operators by name.
    """
    said = []
    if problem := _unfit(args, named):
        return {"error": ["ValueError", problem], "said": ""}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.showwarning = lambda message, category, *_: said.append(f"{category.__name__}: {message}\n")
            value = _with_tensors(target, args, named) if tensors else target(*args, **named)
        return {"value": value, "said": "".join(said)}
    except Exception as error:  # noqa: BLE001 a test may call with anything; it gets the error as its own
        return {"error": [type(error).__name__, UNSAID], "said": "".join(said)}


def _unfit(args, named):
    """Say why arguments are not such that anything of ours is called with them; None where they are."""
    if not (isinstance(args, tuple) and isinstance(named, dict)):
        return "give it arrays"
    most = max(map(_count, (*args, *named.values())), default=0)
    if most == math.inf:
        return "give it arrays"
    return f"give it arrays of at most {ELEMENTS} numbers" if most > ELEMENTS else None


def _count(arg):
    """Count the numbers of an argument, also of one that is a list; inf where it holds anything else."""
    if isinstance(arg, list | tuple):
        return 1 + sum(map(_count, arg))
    return math.prod([size or 1 for size in np.shape(arg)]) if isinstance(arg, PLAIN) else math.inf


def _with_tensors(target, args, named):
    import torch

    def given(arg):
        return torch.from_numpy(arg) if isinstance(arg, np.ndarray) else arg

    out = target(*map(given, args), **{name: given(arg) for name, arg in named.items()})
    return out.detach().cpu().numpy() if isinstance(out, torch.Tensor) else out


def _outcome(reply, form):
    """Rebuild an outcome from what came, strictly: what does not have the form of one ends the conversation."""
    try:
        error, said = reply["error"], reply["said"]
        raised = Raised(_text(error["kind"]), _text(error["message"]), _text(error["line"])) if error else None
        value = _checked(reply["value"])
        return Outcome(None if raised else form(value), raised, _text(said))
    except (KeyError, TypeError) as problem:
        raise Broken(f"a malformed answer ({problem})") from problem


def _text(value):
    if not isinstance(value, str):
        raise TypeError(f"a {type(value).__name__} where text belongs")
    return value[:4000]


def _rows(value):
    """Count the rows of all arrays in a value: a million empty ones have no byte, and are long when written out."""
    if isinstance(value, tuple | dict):
        return sum(map(_rows, value.values() if isinstance(value, dict) else value))
    return math.prod([size or 1 for size in value.shape[:-1]]) if isinstance(value, np.ndarray) else 1


def _anything(value):
    return value


def _nothing(value):
    if value is not None:
        raise TypeError(f"a {type(value).__name__} where nothing belongs")


def _gradient(value):
    if not isinstance(value, np.ndarray | Foreign):
        raise TypeError(f"a {type(value).__name__} where an array belongs")
    return value


def _checked(value):
    if isinstance(value, tuple):
        return tuple(_checked(item) for item in value)
    if isinstance(value, dict) and isinstance(named := value.get("named"), dict):
        return {_text(key): _checked(item) for key, item in named.items()}
    if isinstance(value, dict):
        return Foreign(_text(value["foreign"]))
    if not isinstance(value, PLAIN):
        raise TypeError(f"a {type(value).__name__} where data belongs")
    return _text(value) if isinstance(value, str) else value
