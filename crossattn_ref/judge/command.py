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
    if arguments.workers < 1:
        return _failed(f"--workers ({arguments.workers}) must be at least 1")
    from crossattn_ref.judge.pool import started_early

    judges = started_early(arguments.course, arguments.assignment, arguments.workers, unsafe=arguments.unsafe)
    try:
        return _graded(arguments, judges)
    finally:
        if judges is not None:
            judges.close()


def _graded(arguments, judges):
    # For what jsonschema takes to check web addresses, which no notebook holds, it builds grammars for a second.
    sys.modules.setdefault("rfc3987_syntax", None)
    from crossattn_ref.judge.assignment import NoAssignment
    from crossattn_ref.judge.batch import grade
    from crossattn_ref.judge.recorder import NotRecorded
    from crossattn_ref.judge.sandbox import NoSandbox
    from crossattn_ref.judge.staging import BadCourse
    from crossattn_ref.judge.triage import printable

    try:
        graded = grade(
            arguments.course,
            arguments.assignment,
            only=tuple(arguments.student),
            judges=judges,
            workers=arguments.workers,
            unsafe=arguments.unsafe,
            progress=_Bar(),
        )
    except (BadCourse, NoAssignment, NoSandbox, NotRecorded) as error:
        return _failed(printable(str(error)))  # it may name folders as students have named them
    except KeyboardInterrupt:
        print("crossattn grade: stopped; run the same command again to go on where it was", file=sys.stderr)
        return 130
    print("\n".join(map(printable, _summary(arguments.assignment, graded))))
    return 0


def _failed(why):
    print(f"crossattn grade: {why}", file=sys.stderr)
    return 2


def _summary(assignment, graded):
    states = Counter(submission.handed.state for submission in graded.submissions)
    human = [s for s in graded.submissions if s.needs_human]
    lines = [f"{assignment}: " + ", ".join(f"{count} {state}" for state, count in states.most_common())]
    lines += [f"  look at {s.handed.student}, {s.handed.notebook}: {_why(s)}" for s in human[:20]]
    if len(human) > 20:
        lines.append(f"  ... and {len(human) - 20} more, in the list")
    if graded.isolation == "none":
        lines.append("  graded WITHOUT a sandbox: these are not marks")
    return [*lines, f"  list    {_short(graded.triage)}", f"  report  {_short(graded.report)}"]


def _short(path):
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def _why(submission):
    return "; ".join([*submission.handed.remarks, *submission.flags])[:200]


class _Bar:
    """A progress bar with the time that is left, on a terminal; a line every ten seconds elsewhere."""

    def __init__(self):
        self._bar = None

    def __call__(self, done: int, of: int) -> None:
        from tqdm import tqdm

        if self._bar is None:
            interval = 0.2 if sys.stderr.isatty() else 10.0
            self._bar = tqdm(total=of, desc="grading", unit=" students", file=sys.stderr, mininterval=interval)
        self._bar.update(done - self._bar.n)
        if done == of:
            self._bar.close()
