"""The command `crossattn`: what the course can do from a shell."""

import argparse
import sys
from collections.abc import Sequence

from crossattn_ref.bench import command as bench
from crossattn_ref.judge import command as grade


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command -> its exit status."""
    parser = argparse.ArgumentParser(prog="crossattn", description="The course on cross-attention, from a shell.")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    grade.add_parser(commands)
    bench.add_parser(commands)
    parsed = parser.parse_args(arguments)
    return parsed.run(parsed)


if __name__ == "__main__":
    sys.exit(main())
