"""How an answer is judged: an exercise is a list of named properties, and a catalogue of mistakes that run.

examine asks a subject every property, keeps the transcript, and where something failed replays the transcript
with each known mistake: the one that answers as the learner's answer did is the diagnosis.
"""

import hashlib
import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from crossattn_ref.checks.compare import Violation, closeness, disagreement, usable
from crossattn_ref.checks.report import Finding, Misconception, Report
from crossattn_ref.checks.subject import LocalSubject, Outcome, Subject

MISFITS = (
    "ValueError",
    "RuntimeError",
    "IndexError",
)  # what NumPy, torch and careful code raise where shapes don't fit


@dataclass(frozen=True)
class Property:
    """One behaviour that an answer must show. test(ask, rng) returns, or raises Violation.

    share is its part of the points, an integer. Where a gate fails, nothing is earned at all; one of share 0 earns
    nothing either where it passes.
    """

    name: str
    share: int
    test: Callable[["Ask", np.random.Generator], None]
    gate: bool = False


@dataclass(frozen=True, kw_only=True)
class Exercise:
    """Everything that is known about one exercise.

    plain is the formula in the dtype of its inputs: run in float32 it tells how much rounding must be forgiven
    (in float16, where a question is put in half precision).
    local puts an answer behind the operations of a Subject in this process; wanted is what an answer returns.
    observe turns an answer's raw result into what counts, where many results are right. compositions yields
    mistakes made of two others; they are tried only when no single one explains an answer.
    """

    reference: Callable
    properties: tuple[Property, ...]
    misconceptions: tuple[Misconception, ...] = ()
    alternatives: tuple[Callable, ...] = ()
    plain: Callable | None = None
    observe: Callable[[tuple, object], object] = lambda _, value: value
    compositions: Callable[[], Iterable[Misconception]] = tuple
    local: Callable[[Callable], Subject] = LocalSubject
    wanted: str = "array"


class Ask:
    """Puts the questions of one property to a subject, and stops at the first outcome that is of no use."""

    def __init__(self, exercise: Exercise, subject: Subject):
        self._exercise = exercise
        self._subject = subject
        self._made = None, None  # the config and weights of the module at hand

    def call(self, **args: object) -> object:
        """Call the answer with args in their order -> its value. Raises Violation where it raised or is not data."""
        return self._usable(self._subject.call(*args.values()), args)

    def matches(self, **args: object) -> None:
        """Call the answer and compare with the reference, forgiving 16 times the rounding of float32."""
        value = self.call(**args)
        exact = self._right(self._exercise.reference, np.float64, args)
        rounded = self._right(self._exercise.plain, _rounding(args.values()), args)
        self._compare(value, exact, rounded, args)

    def forward(self, config: Mapping, state: Mapping, **args: object) -> object:
        """Make a module, load its weights, run it on args in their order -> its value.

        For the same config and state again, the same module runs again: so what it keeps to itself shows.
        """
        outcome = Outcome() if self._has(config, state) else _loaded(self._subject, config, state)
        self._made = config, state
        if not outcome.error:
            outcome = self._subject.forward(*args.values())
        return self._usable(outcome, {**config, **args})

    def forward_matches(self, config: Mapping, state: Mapping, **args: object) -> None:
        """As forward, and compare with the reference module, forgiving 16 times the rounding of float32."""
        value = self.forward(config, state, **args)
        exact, rounded = (right.value for _, right, _ in self._right_modules(config, state, args))
        self._compare(value, exact, rounded, {**config, **args})

    def gradients_match(
        self, config: Mapping, state: Mapping, grad_out: np.ndarray, names: Iterable[str] = (), **args: object
    ) -> None:
        """As forward, and compare the gradients of the floating args, then of the named parameters."""
        self.forward(config, state, **args)
        given = self.gradients(grad_out, names)
        exact, rounded = (
            Ask(self._exercise, module).gradients(grad_out.astype(dtype), names)
            for module, _, dtype in self._right_modules(config, state, args)
        )
        of = [*(name for name, arg in args.items() if _is_floating(arg)), *names]
        for name, value, *right in zip(of, given, exact, rounded, strict=True):
            nothing = not value.any() and right[0].any()
            if problem := "nothing arrives" if nothing else disagreement(value, *right, self._exercise.wanted):
                raise Violation(f"the gradient of {name}: {problem}", {**config, **args})

    def gradients(self, grad_out: np.ndarray, names: Iterable[str] = ()) -> tuple:
        """Send a gradient back through the last forward -> the gradients of its arrays, then of the named parameters.

        Raises Violation where the module does not let a gradient through.
        """
        inputs = self._usable(self._subject.backward(grad_out), {})
        return (*inputs, *(self._usable(self._subject.get(f"{name}.grad"), {}) for name in names))

    def verdict(self, target: Callable, rng: np.random.Generator) -> bool:
        """Hand target to the learner's test -> True or False."""
        value = self._usable(self._subject.probe(target, int(rng.integers(2**32))), {})
        if not isinstance(value, bool | np.bool_):
            raise Violation(f"your test returned {value!r}; it must return True or False")
        return bool(value)

    def probed(self, target: Callable, rng: np.random.Generator) -> object:
        """Hand target to an answer that uses it, as answer(target, rng) -> what it returns."""
        return self._usable(self._subject.probe(target, int(rng.integers(2**32))), {})

    def probe_matches(self, target: Callable, rng: np.random.Generator) -> None:
        """As probed, and compare with what the reference makes of the same target and chance."""
        seed = int(rng.integers(2**32))
        value = self._usable(self._subject.probe(target, seed), {})
        exact, rounded = (
            self._exercise.local(answer).probe(target, seed).value
            for answer in (self._exercise.reference, self._exercise.plain)
        )
        self._compare(value, exact, rounded, {})

    def hand_over(self, target: Callable, **args: object) -> object:
        """Call the answer with a function and args in their order, as answer(target, *args) -> its value."""
        return self._usable(self._subject.probe(target, 0, *args.values()), args)

    def _has(self, config, state):
        return self._made[0] is config and self._made[1] is state

    def _right(self, answer, dtype, args):
        """What a right answer returns when it is given args in a dtype."""
        return self._exercise.local(answer).call(*(_cast(arg, dtype) for arg in args.values())).value

    def _right_modules(self, config, state, args):
        """Run the reference in float64 and the formula in float32 -> each as a subject, with its outcome and dtype."""
        low = _rounding((*state.values(), *args.values()))
        for module, dtype in ((self._exercise.reference, np.float64), (self._exercise.plain, low)):
            subject = self._exercise.local(module)
            _loaded(subject, config, _cast_all(state, dtype))
            yield subject, subject.forward(*_cast_all(args, dtype).values()), dtype

    def _usable(self, outcome, args):
        return usable(outcome, self._exercise.wanted, args)

    def _compare(self, value, exact, rounded, args):
        if problem := disagreement(value, exact, rounded, self._exercise.wanted):
            raise Violation(problem, args)


def _loaded(subject, config, state):
    """Construct and load; the first of the two that fails is the outcome."""
    made = subject.construct(config)
    return made if made.error else subject.load_state(state)


def examine(name: str, exercise: Exercise, subject: Subject, seed: int = 0) -> Report:
    """Judge a subject by every property of an exercise. The same seed draws the same inputs."""
    recorder = _Recorder(subject)
    findings = []
    for index, prop in enumerate(exercise.properties):
        rng = np.random.default_rng([seed, index])
        findings.append(_finding(prop, Ask(exercise, recorder), rng))
        if recorder.interrupted:
            return Report(name, 0.0, tuple(findings), remarks=("Interrupted: nothing more was asked.",), seed=seed)
    diagnosis = () if all(finding.passed for finding in findings) else _diagnose(exercise, recorder, findings)
    if diagnosis:
        known = " or ".join(misconception.name for misconception in diagnosis)
        findings = [f if f.passed else replace(f, misconception=known) for f in findings]
    return Report(name, _score(exercise, findings), tuple(findings), diagnosis, recorder.remarks(), seed)


def signature(exercise: Exercise, subject: Subject) -> str:
    """Boil down what a subject answers to the same questions for everybody: equal mistakes, equal signatures.

    A number of 16 hexadecimal digits that tells nothing else about the answer. It groups wrong answers that no known
    mistake explains, so that the largest group can become the next entry of the catalogue.
    Empty for an answer that never returned anything.
    """
    recorder = _Recorder(subject)
    for index, prop in enumerate(exercise.properties):
        _finding(prop, Ask(exercise, recorder), np.random.default_rng([0, index]))
    if all(outcome.error for _, _, outcome in recorder.transcript):
        return ""
    seen = [_observed(exercise, args, outcome) for _, args, outcome in recorder.transcript]
    return hashlib.sha256(repr([_coarse(value) for value in seen]).encode()).hexdigest()[:16]


def _coarse(value):
    """Write a value down to four digits, so that rounding in another order makes no difference."""
    if isinstance(value, tuple):
        return tuple(_coarse(item) for item in value)
    if isinstance(value, np.ndarray) and value.dtype.kind == "f":
        largest = max(1.0, float(np.abs(value[np.isfinite(value)]).max(initial=0.0)))
        decimals = 4 - int(np.ceil(np.log10(largest)))
        return value.shape, (np.round(value.astype(np.float64), decimals) + 0.0).tolist()
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else repr(value)


def _finding(prop, ask, rng):
    try:
        prop.test(ask, rng)
    except Violation as violation:
        return Finding(
            prop.name, prop.share, False, violation.misconception, violation.message, violation.counterexample
        )
    return Finding(prop.name, prop.share, True)


def _score(exercise, findings):
    shut = any(prop.gate and not f.passed for prop, f in zip(exercise.properties, findings, strict=True))
    earned = sum(finding.share for finding in findings if finding.passed)
    return 0.0 if shut else earned / sum(finding.share for finding in findings)


class _Recorder:
    """A subject that writes down what another one was asked and what it answered."""

    def __init__(self, subject):
        self._subject = subject
        self.transcript = []

    def call(self, *args):
        return self._note("call", args)

    def probe(self, target, seed, *args):
        return self._note("probe", (target, seed, *args))

    def construct(self, config):
        return self._note("construct", (config,))

    def load_state(self, state):
        return self._note("load_state", (state,))

    def forward(self, *args):
        return self._note("forward", args)

    def backward(self, grad_out):
        return self._note("backward", (grad_out,))

    def get(self, name):
        return self._note("get", (name,))

    def _note(self, operation, args):
        outcome = getattr(self._subject, operation)(*args)
        self.transcript.append((operation, args, outcome))
        return outcome

    @property
    def interrupted(self):
        last = self.transcript[-1][2] if self.transcript else Outcome()
        return last.error is not None and last.error.kind == "KeyboardInterrupt"

    def remarks(self):
        said = next((outcome.said for _, _, outcome in self.transcript if outcome.said), "")
        first = said.strip().splitlines()[0] if said.strip() else ""
        return (f"Your code printed or warned: {first[:200]}",) if first else ()


def _diagnose(exercise, recorder, findings):
    """Find the mistake that a property has told, or those that answer every question as the learner's answer did."""
    transcript = recorder.transcript
    if all(outcome.error for _, _, outcome in transcript):
        return ()
    if told := {finding.misconception for finding in findings} - {None}:
        return tuple(m for m in exercise.misconceptions if m.name in told)
    right = list(_replay(exercise, transcript, exercise.reference))
    given = [_observed(exercise, args, outcome) for _, args, outcome in transcript]
    telling = _telling(transcript, given, right)

    def explaining(catalogue):
        return (m for m in catalogue if _explains(_replay(exercise, transcript, m.wrong), given, right, telling))

    # Of compositions one is enough: many pairs come to the same.
    single = tuple(explaining(exercise.misconceptions))[:3]
    return single or tuple(itertools.islice(explaining(exercise.compositions()), 1))


def _replay(exercise, transcript, answer):
    """Put the questions of a transcript to another answer, one at a time: most mistakes are told at the first."""
    subject = exercise.local(answer)
    for operation, args, _ in transcript:
        yield _observed(exercise, args, getattr(subject, operation)(*args))


def _observed(exercise, args, outcome):
    if outcome.error:
        return "misfit" if outcome.error.kind in MISFITS else outcome.error.kind
    if _rounding(args) == np.float16 and isinstance(outcome.value, np.ndarray):
        return np.isfinite(outcome.value)  # rounded so coarsely, right answers differ as much as some wrong ones
    try:
        return exercise.observe(args, outcome.value)
    except (TypeError, ValueError):
        return outcome.value  # not even of the right form: compared as it is


def _telling(transcript, given, right):
    """Say which questions tell mistakes apart: those in half precision only where an answer is right in all others.

    A number that half precision cannot hold is a mistake of its own, and would hide any other.
    """
    half = [_rounding(args) == np.float16 for _, args, _ in transcript]
    wrong = any(closeness(a, b) > 1e-4 for a, b, low in zip(given, right, half, strict=True) if not low)
    return [not (low and wrong) for low in half]


def _explains(mistaken, given, right, telling):
    """True where a mistake equals what was given on every question, and differs from the right answer on some."""
    evidence = 0
    for wrong, answer, truth, tells in zip(mistaken, given, right, telling, strict=True):
        if not tells:
            continue
        apart = closeness(truth, wrong)  # both relative to the mistake, whose numbers may be huge
        allowed = 0.02 * apart if 1e-6 < apart < np.inf else 1e-4
        if closeness(answer, wrong) > allowed:
            return False
        evidence += apart > 1e-6
    return evidence > 0


def _rounding(args):
    """The dtype whose rounding is forgiven: float32, or half precision where the question is put in it."""
    half = any(isinstance(arg, np.ndarray) and arg.dtype == np.float16 for arg in args)
    return np.float16 if half else np.float32


def _cast(arg, dtype):
    return arg.astype(dtype) if _is_floating(arg) else arg


def _cast_all(args, dtype):
    return {name: _cast(arg, dtype) for name, arg in args.items()}


def _is_floating(arg):
    return isinstance(arg, np.ndarray) and np.issubdtype(arg.dtype, np.floating)
