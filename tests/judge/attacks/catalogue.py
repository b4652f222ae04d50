"""All attacks, and the rows of the table of known ones that are none here, each with the reason."""

from tests.judge.attacks.breaking import BREAKING
from tests.judge.attacks.damage import DAMAGED
from tests.judge.attacks.leaks import LEAKS
from tests.judge.attacks.own import OWN
from tests.judge.attacks.points import POINTS

SHARING = (*POINTS, *BREAKING, *LEAKS)  # what succeeds where tests share a process, or a machine, with a submission
ATTACKS = (*SHARING, *DAMAGED, *OWN)

NO_CASE = {
    "a time stamp that is forged": "whoever collects says when something came in; grading takes the collector's word",
    "the time in the name of the exchange's folder": "the exchange's, before grading",
    "another student's name on a submission": "the exchange's, before grading: a folder's name is whose work it is",
    "a link in the inbound folder": "the exchange's; a link in submitted/ is refused here, and is a case",
    "points: 1000 in the metadata": "fails on stock nbgrader as well; the repair throws metadata away",
    "an edited test": "fails on stock nbgrader as well; the text of a check cell is never run here",
    "showtraceback or custom exceptions that swallow": "fail on stock nbgrader as well (fixed there)",
    "a seed that is fixed": "a property of a check; shown by 'outputs learnt by heart'",
    "a library call that an exercise rules out, where the library has to be there": "a right answer; somebody has to read it",
    "edited rows of the exchange's database": "there is none",
    "UnresponsiveKernelError": "dead code in nbgrader: never raised",
    "hidden tests in the feedback page": "no attack: there are no hidden tests, and checks are shown by their names",
    "kernel ports on localhost": "there is no kernel with ports; a sandbox has no network",
    "a wrong answer within the author's tolerance": "a property of a check: tests/checks measures false accepts",
}
