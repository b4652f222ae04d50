"""The command `crossattn`: what the course can do from a shell."""

import argparse
import sys
from collections.abc import Sequence

from crossattn_ref.bench import audit
from crossattn_ref.bench import command as bench
from crossattn_ref.judge import command as grade
from crossattn_ref.tasks import command as train
from crossattn_ref.tasks import look, translate


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command -> its exit status."""
    parser = argparse.ArgumentParser(prog="crossattn", description="The course on cross-attention, from a shell.")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    train.add_parser(commands)
    translate.add_parser(commands)
    look.add_parsers(commands)
    grade.add_parser(commands)
    bench.add_parser(commands)
    audit.add_parser(commands)
    parsed = parser.parse_args(arguments)
    return parsed.run(parsed)


if __name__ == "__main__":
    sys.exit(main())
