"""The command `crossattn grade`: what it takes, what it shows, and how it ends."""

import argparse
import os
import sys
from collections import Counter
from pathlib import Path

EXAMPLES = """
examples:
  crossattn grade attention                        grade everybody's assignment in the course folder at hand
  crossattn grade attention --student ada          one student, for instance after a resubmission
  crossattn grade attention --workers 4            on four processes
  crossattn grade attention --course ../autumn     another course folder

afterwards:
  nbgrader generate_feedback attention --force     pages for the students
  nbgrader export                                  marks as grades.csv
"""


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Add `grade` to the commands."""
    parser = commands.add_parser(
        "grade",
        help="grade an assignment of a class in a sandbox",
        description="Grade what was handed in, submitted/<student>/<assignment>/*.ipynb, each notebook in a sandbox. "
        "nbgrader records the marks; marks given by hand stay. submitted/ is only read.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("assignment", help="its name, as in solutions/")
    parser.add_argument(
        "--course", type=Path, default=Path(), metavar="FOLDER", help="the course folder (default: here)"
    )
    parser.add_argument("--student", action="append", default=[], metavar="NAME", help="only this one; may be repeated")
    parser.add_argument("--workers", type=int, default=max(1, (os.cpu_count() or 2) - 1), metavar="N",
                        help="processes that judge (default: one less than there are cores)")  # fmt: skip
    parser.add_argument("--unsafe", action="store_true",
                        help="run strangers' code without a sandbox; every result says so")  # fmt: skip
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Grade and print a summary -> 0, or 2 with one line on stderr where the grader itself could not do its work."""
    from crossattn_ref.judge.assignment import NoAssignment
    from crossattn_ref.judge.batch import grade
    from crossattn_ref.judge.sandbox import NoSandbox
    from crossattn_ref.judge.staging import BadCourse

    if arguments.workers < 1:
        print(f"crossattn grade: --workers ({arguments.workers}) must be at least 1", file=sys.stderr)
        return 2
    try:
        graded = grade(
            arguments.course,
            arguments.assignment,
            only=tuple(arguments.student),
            workers=arguments.workers,
            unsafe=arguments.unsafe,
            progress=_Bar(),
        )
    except (BadCourse, NoAssignment, NoSandbox) as error:
        print(f"crossattn grade: {error}", file=sys.stderr)
        return 2
    print(_summary(arguments.assignment, graded))
    return 0


def _summary(assignment, graded):
    states = Counter(submission.handed.state for submission in graded.submissions)
    human = [s for s in graded.submissions if s.needs_human]
    lines = [f"{assignment}: " + ", ".join(f"{count} {state}" for state, count in states.most_common())]
    lines += [f"  look at {s.handed.student}, {s.handed.notebook}: {_why(s)}" for s in human[:20]]
    if len(human) > 20:
        lines.append(f"  ... and {len(human) - 20} more, in the list")
    if graded.isolation == "none":
        lines.append("  graded WITHOUT a sandbox: these are not marks")
    return "\n".join([*lines, f"  list    {_short(graded.triage)}", f"  report  {_short(graded.report)}"])


def _short(path):
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def _why(submission):
    return "; ".join([*submission.handed.remarks, *submission.flags])[:200]


class _Bar:
    """A progress bar with the time that is left, on a terminal; a line at each tenth elsewhere."""

    def __init__(self):
        self._bar = None
        self._step = None

    def __call__(self, step: str, done: int, of: int) -> None:
        from tqdm import tqdm

        if step != self._step:
            self._bar = tqdm(total=of, desc=step, unit=" students", file=sys.stderr, mininterval=_interval())
            self._step = step
        self._bar.update(done - self._bar.n)
        if done == of:
            self._bar.close()


def _interval():
    return 0.2 if sys.stderr.isatty() else 10.0
