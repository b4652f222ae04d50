"""The command `crossattn translate`: sentences in, one a line, and their translations out."""

import argparse
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

EXAMPLES = """
examples:
  crossattn translate the cat sees the small house            one sentence, by the glass box that comes with the course
  crossattn translate --align the cat sees the small house    and which source word each word comes from
  crossattn translate --file notes.en --beam 5                a file, a sentence a line
  crossattn translate --model runs/multi30k-en-de-seed0 < test.en

Translations go to the standard output, a line for each line that came in; an empty line stays empty. A word that the
model has no number for is read as unknown: its translation is a guess, and a note on the standard error names it.
"""


class Unfit(ValueError):
    """Something that this model cannot do with these sentences; the message says what."""


@dataclass(frozen=True)
class Line:
    """A sentence and its translation; links are pairs of places (source, target), None where none were asked for."""

    source: tuple[str, ...]
    target: tuple[str, ...]
    links: frozenset[tuple[int, int]] | None = None


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Add `translate` to the commands."""
    parser = commands.add_parser(
        "translate",
        help="translate sentences with a trained model",
        description="Translate sentences: those given, those of a file, or those of the standard input, one a line.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("words", nargs="*", metavar="WORD", help="one sentence, its words apart")
    parser.add_argument("--file", type=Path, help="a text file, UTF-8, a sentence a line, words apart")
    parser.add_argument("--model", default="glass-box", metavar="FOLDER|NAME",
                        help="what `crossattn train` wrote, or a model of the course (default: glass-box)")  # fmt: skip
    parser.add_argument("--beam", type=int, default=1, metavar="WIDTH", help="continuations side by side (default: 1)")
    parser.add_argument("--align", action="store_true", help="add the source word that each word looks at most")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Translate -> 0, or 2 with one line on stderr where that can't be done."""
    try:
        sentences = list(_sentences(arguments))
        for line in lines(_model(arguments.model), sentences, width=arguments.beam, align=arguments.align):
            print(_shown(line))
    except (ValueError, OSError, ModuleNotFoundError) as error:
        print(f"crossattn translate: {error}", file=sys.stderr)
        return 2
    return 0


def lines(trained, sentences: Sequence[Sequence[str]], *, width: int = 1, align: bool = False) -> list[Line]:
    """Translate sentences, rows of words -> one Line each. Unknown words are named on stderr.

    Raises Unfit for a sentence with more tokens than the model has positions, before anything is translated.
    """
    from crossattn_ref.data.vocabulary import Vocabulary
    from crossattn_ref.tasks import evaluate

    _check_sizes(trained, sentences)
    full = [sentence for sentence in sentences if sentence]
    written = iter(evaluate.translations(trained, full, width=width))
    found = [(tuple(sentence), tuple(next(written)) if sentence else ()) for sentence in sentences]
    if not align:
        return [Line(*pair) for pair in found]
    if not all(isinstance(words, Vocabulary) for words in trained.words):
        raise Unfit("--align needs a model of whole words, and this one writes pieces of words")
    return [Line(source, target, _links(trained, source, target)) for source, target in found]


def _links(trained, source, target):
    """Read links from the last layer, all heads together, as the model writes these words."""
    import torch

    from crossattn_ref import interpret
    from crossattn_ref.data.vocabulary import BOS

    if not (source and target):
        return frozenset()
    src, tgt = trained.words
    rows, length = torch.tensor([src.encode(source)]), torch.tensor([len(source)])
    written = torch.tensor([[BOS, *tgt.encode(target[:-1])]])  # whoever writes the last word has not read it
    with torch.inference_mode():
        weights = trained.model.cross_weights(written, trained.model.encode(rows, length), length)
    return frozenset(interpret.attention_links([w.numpy() for w in weights], [len(source)], [len(target)])[0])


def _check_sizes(trained, sentences):
    from crossattn_ref.data.vocabulary import UNK

    words, most = trained.words[0], trained.model.config.n_positions
    for number, sentence in enumerate(sentences, start=1):
        n = len(words.encode(sentence))
        if n > most:
            raise Unfit(f"line {number} has {n} tokens, and the model reads at most {most}: cut it into sentences")
        if unknown := [word for word in sentence if UNK in words.encode([word])]:
            print(f"line {number}: unknown to the model: {', '.join(dict.fromkeys(unknown))}", file=sys.stderr)


def _sentences(arguments) -> Iterable[list[str]]:
    if arguments.words and arguments.file:
        raise ValueError("give words or --file, not both")
    if arguments.words:
        return [arguments.words]
    source = arguments.file or "the standard input"
    data = arguments.file.read_bytes() if arguments.file else sys.stdin.buffer.read()
    rows = data.splitlines()
    try:
        return [row.decode("utf-8").split() for row in rows]
    except UnicodeDecodeError:
        number = next(number for number, row in enumerate(rows, start=1) if not _readable(row))
        raise ValueError(f"{source}, line {number}: not UTF-8. Convert it: iconv -f LATIN1 -t UTF-8") from None


def _readable(row):
    try:
        row.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _model(name):
    from crossattn_ref.tasks import translation

    if Path(name).is_dir():
        return translation.load(Path(name))
    if (translation.SHIPPED / name).is_dir():
        return translation.shipped(name)
    known = ", ".join(sorted(path.parent.name for path in translation.SHIPPED.glob("*/words.json")))
    raise ValueError(
        f"--model must be a folder that `crossattn train` wrote, or a model of the course ({known}), got {name!r}"
    )


def _shown(line):
    text = " ".join(line.target)
    if line.links is None:
        return text
    found = {target: line.source[source] for source, target in line.links}
    width = max(map(len, line.target), default=0)
    rows = [f"  {word:{width}}  <- {found.get(place, '')}".rstrip() for place, word in enumerate(line.target)]
    return "\n".join([text, *rows])
