"""What a check has to say: misconceptions, findings, and the report that a learner reads."""

import re
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

WIDTH = 80  # columns of a printed report
PRINTABLE = 30  # numbers in the largest array that a report prints in full


@dataclass(frozen=True)
class Misconception:
    """A mistaken answer that runs, with the words for the learner who makes the mistake.

    wrong is called as the learner's answer is. symptom completes the sentence "Your result is what one gets ...";
    hint asks a question and never gives the line away. Misconceptions with the same alike cannot be told apart
    by any input of the exercise: they were declared equivalent, and count once.
    """

    name: str
    wrong: Callable
    symptom: str
    hint: str
    alike: str = ""


@dataclass(frozen=True)
class Finding:
    """What one property of an exercise showed: passed, or a message and the smallest drawn input that fails."""

    property: str
    share: int
    passed: bool
    misconception: str | None = None
    message: str = ""
    counterexample: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Report:
    """The findings of one check. score is the share of the points earned, in [0, 1]."""

    exercise: str
    score: float
    findings: tuple[Finding, ...]
    diagnosis: tuple[Misconception, ...] = ()
    remarks: tuple[str, ...] = ()
    seed: int = 0

    def text(self, points: float = 1) -> str:
        """Write the report out for a learner who can earn so many points."""
        lines = [f"{self.exercise}: {_number(points * self.score)} of {_number(points)} points", ""]
        messages = {finding.message for finding in self.findings if not finding.passed}
        if len(messages) == 1 and not any(finding.passed for finding in self.findings):
            lines.append(_wrap(_sentence(f"Nothing passed: {messages.pop()}")))  # the same everywhere: say it once
            lines += ["", *_diagnosis(self.diagnosis)] if self.diagnosis else []
        else:
            lines += [f"  {'passed' if finding.passed else 'FAILED'}  {finding.property}" for finding in self.findings]
            lines += self._explanation()
        if self.remarks:
            lines += ["", *(_wrap(remark) for remark in self.remarks)]
        return "\n".join(lines)

    def _explanation(self):
        first = next((finding for finding in self.findings if not finding.passed), None)
        if not self.diagnosis:
            return ["", *_first_failure(first)] if first else []
        raised = first.message.startswith("it raised ")  # then its words are worth reading beside ours
        return ["", *_diagnosis(self.diagnosis), *([_wrap(_sentence(f"{first.property}: {first.message}"))] * raised)]

    def __str__(self) -> str:
        return self.text()


def _diagnosis(found):
    names = " or ".join(dict.fromkeys(misconception.symptom for misconception in found))
    return [_wrap(f"Your result is what one gets {names}."), _wrap(f"Hint: {found[0].hint}")]


def _first_failure(finding):
    lines = [_wrap(_sentence(f"{finding.property}: {finding.message}"))]
    if finding.counterexample:
        lines.append("  The smallest input drawn that shows it:")
        lines += [_assignment(name, value) for name, value in finding.counterexample.items()]
    return lines


def _assignment(name, value):
    if not isinstance(value, np.ndarray):
        return f"    {name} = {value!r}"
    if value.size > PRINTABLE:
        return f"    {name}: an array of shape {value.shape}, in examine(...).findings[i].counterexample[{name!r}]"
    prefix = f"    {name} = np.array("
    body = np.array2string(value, separator=", ", prefix=prefix, max_line_width=WIDTH)
    body = re.sub(r"\n\s*\n", "\n", body)  # one line for each row, however many axes
    return f"{prefix}{body})" if value.dtype == np.float64 else f"{prefix}{body}, np.{value.dtype})"


def _wrap(text):
    return textwrap.fill(text, WIDTH, initial_indent="  ", subsequent_indent="  ")


def _sentence(text):
    return text if text.endswith(("?", ".", "!")) else f"{text}."


def _number(value):
    return f"{value:.2f}".rstrip("0").rstrip(".")
