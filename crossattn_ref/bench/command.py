"""The command `crossattn bench`: what it takes, what it shows, and how it ends."""

import argparse
import sys
from pathlib import Path

from crossattn_ref import records
from crossattn_ref.bench import suites

EXAMPLES = """
examples:
  crossattn bench                  list the suites
  crossattn bench multihead        measure one, and replace book/measurements/multihead.jsonl
  crossattn bench multihead --folder elsewhere
  crossattn bench translation --part grammar/glass-box
  crossattn bench translation --part multi30k --corpus ../multi30k
  crossattn bench vqa --part easy-vqa --corpus ../easy-vqa
  crossattn bench vqa --part nlvr --corpus ../nlvr
"""


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Add `bench` to the commands."""
    parser = commands.add_parser(
        "bench",
        help="measure a suite and record it",
        description="Measure a suite and put its figures in the place of those recorded; without one, list the suites.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("suite", nargs="?", metavar="SUITE", help=", ".join(suites.SUITES))
    parser.add_argument("--part", help="measure a part of the suite alone, where it has parts")
    parser.add_argument("--corpus", type=Path, metavar="FOLDER", help="where the corpus of that part lies")
    parser.add_argument("--folder", type=Path, default=records.FOLDER, help="where records lie (default: %(default)s)")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Measure, and print each figure with its range -> 0, or 2 with one line on stderr where that can't be done."""
    if arguments.suite is None:
        print("\n".join(f"{name:16} {what}" for name, what in suites.SUITES.items()))
        return 0
    try:
        for record in suites.run(
            arguments.suite, part=arguments.part, folder=arguments.folder, corpus=arguments.corpus
        ):
            spread = f"{min(record.samples):.4g} to {max(record.samples):.4g}"
            print(f"{record.case:45} {record.metric:17} {record.value:10.4g} {record.unit:13} ({spread})", flush=True)
            if "signature" in record.more:
                print(f"{'':45} {record.more['signature']}", flush=True)
    except (ValueError, FileNotFoundError, ModuleNotFoundError) as error:
        print(f"crossattn bench: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("crossattn bench: stopped; what was not finished is not recorded", file=sys.stderr)
        return 130
    print(f"recorded in {arguments.folder / record.suite}.jsonl")
    return 0
