"""The commands `crossattn draw`, `caption` and `ask`: a picture of a scene, what is in it, and answers about it."""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

ABOUT = """
The models that come with the course know pictures of 2 to 4 coloured shapes in a grid of 4 x 4, as `crossattn draw`
draws them, and nothing else. A picture of another size is fitted into the square that the model reads, 48 x 48 pixels,
and a note says so.
"""
CAPTION_EXAMPLES = """
examples:
  crossattn caption scene.png
  crossattn caption --look scene.png        and where each word looks
  crossattn caption --weights runs/captioning-scenes-seed1 scene.png
"""
ASK_EXAMPLES = """
examples:
  crossattn ask scene.png "how many circles are there?"
  crossattn ask --look scene.png "what colour is the thing left of the small square?"
  crossattn ask --weights runs/easy-vqa-seed0 0.png "what color is the shape?"
"""
SIDE = 48  # pixels


def add_parsers(commands: argparse._SubParsersAction) -> None:
    """Add `draw`, `caption` and `ask` to the commands."""
    draw = commands.add_parser("draw", help="draw a scene of coloured shapes", description="Draw a scene into a file.")
    draw.add_argument("image", type=Path, metavar="IMAGE", help="the file to write, such as scene.png")
    draw.add_argument("--seed", type=int, default=0, help="of the scene (default: 0)")
    draw.add_argument("--held-out", action="store_true", help="with a colour and shape never seen together in training")
    draw.set_defaults(run=lambda arguments: _run("draw", drawn, arguments))
    caption = _parser(commands, "caption", "say what is in a picture of coloured shapes", CAPTION_EXAMPLES)
    caption.set_defaults(run=lambda arguments: _run("caption", captioned, arguments))
    ask = _parser(commands, "ask", "answer a question about a picture of coloured shapes", ASK_EXAMPLES)
    ask.add_argument("question", metavar="QUESTION", help="in quotes")
    ask.set_defaults(run=lambda arguments: _run("ask", answered, arguments))


def drawn(arguments: argparse.Namespace) -> Iterator[str]:
    """Draw a scene into a file, and say what is in it."""
    from crossattn_ref.data import captioning, scenes
    from crossattn_ref.data.pictures import write_picture

    if arguments.seed < 0:
        raise ValueError(f"--seed must be at least 0, got {arguments.seed}")
    rng = np.random.default_rng(arguments.seed)
    scene = scenes.draw_held_out(rng) if arguments.held_out else scenes.draw_scene(rng)
    write_picture(arguments.image, scenes.render([scene], rng)[0])
    yield " ".join(captioning.describe(scene)[0])


def captioned(arguments: argparse.Namespace) -> Iterator[str]:
    """Write the caption of a picture, and a line for each word with the cell that it looks at, if that is wanted."""
    from crossattn_ref.tasks import captioning
    from crossattn_ref.tasks.evaluate_captions import Reading, chosen, cross_weights

    trained = captioning.load(arguments.weights or captioning.SHIPPED)
    image = _picture(arguments.image, SIDE)
    (words,) = captioning.captions(trained.model, image)
    yield " ".join(words)
    if arguments.look and words:
        rows = chosen(cross_weights(trained, image, [words]), _reading(Reading, trained))  # (1, Nq, Nk)
        width = max(map(len, words))
        for word, row in zip(words, rows[0], strict=False):  # the row behind the last word is that of the end
            yield f"  {word:{width}}  <- {place(row)}"


def answered(arguments: argparse.Namespace) -> Iterator[str]:
    """Answer a question about a picture, and say which cell it looked at most, if that is wanted."""
    from crossattn_ref.tasks import vqa
    from crossattn_ref.tasks.evaluate_answers import Reading, attention, chosen

    trained = _answerer(arguments.weights or vqa.SHIPPED)
    reading = _reading(Reading, trained) if arguments.look else None
    asked, answers = _asked(trained, arguments)
    yield answers[int(vqa.scores(trained.model, asked).argmax())]
    if reading:
        whole = "what the answer hangs on" if reading.whose == "answer" else "its attention"
        yield f"  <- {place(chosen(attention(trained, asked), reading)[0], whole)}"


def _answerer(path):
    """Read an answerer of either kind, about scenes or about pictures of others."""
    from crossattn_ref.models import stored
    from crossattn_ref.tasks import picture_questions, vqa
    from crossattn_ref.tasks.trained import in_folder

    path = in_folder(path, vqa.SHIPPED.name)
    if not path.exists() or stored.read(path)[1].get("data") != "pictures of others":
        return vqa.load(path)
    trained = picture_questions.load(path)
    if trained.about["learning"]["vary"] == "boxes":
        raise ValueError(
            f"{path} was trained on NLVR, whose three boxes ask reads from no file: use one about scenes or easy-VQA"
        )
    return trained


def _asked(trained, arguments):
    """Write what is asked as numbers, and list the answers that the model chooses from."""
    from crossattn_ref.data.programs import ANSWERS
    from crossattn_ref.tasks import picture_questions, vqa

    if trained.about["data"] == "questions":
        return vqa.as_asked(arguments.question, _picture(arguments.image, SIDE)), ANSWERS
    image = _picture(arguments.image, trained.about["model"]["side"])
    return picture_questions.as_asked(arguments.question, image, trained.about), trained.about["answers"]


def _parser(commands, name, what, examples):
    parser = commands.add_parser(
        name,
        help=what,
        description=f"{what[0].upper()}{what[1:]}.",
        epilog=ABOUT + examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("image", type=Path, metavar="IMAGE", help="a picture file: PNG, JPEG, ...")
    parser.add_argument("--weights", type=Path, metavar="FILE|FOLDER",
                        help="what `crossattn train` wrote (default: those of the course)")  # fmt: skip
    parser.add_argument("--look", action="store_true", help="say where the model looks")
    return parser


def _run(name, lines, arguments):
    """Print lines -> 0, or 2 with one line on stderr where that can't be done."""
    try:
        for line in lines(arguments):
            print(line)
    except (ValueError, OSError, ModuleNotFoundError) as error:
        print(f"crossattn {name}: {error}", file=sys.stderr)
        return 2
    return 0


def _picture(path, side):
    """Read a picture -> uint8 (1, side, side, 3)."""
    from crossattn_ref.data.pictures import read_picture, size_of

    image = read_picture(path, side=side)[None]
    if (size := size_of(path)) != (side, side):
        print(f"{path}: fitted from {size[0]} x {size[1]} into {side} x {side} pixels", file=sys.stderr)
    return image


def _reading(make, trained):
    """Take the reading that pointed best on the development split; of a model that tells of none, the mean of all."""
    if "reading" not in trained.about:
        print("the file tells of no reading: --look shows the mean of all layers and heads", file=sys.stderr)
        return make(layer=None, head=None)
    try:
        return make(**trained.about["reading"])
    except TypeError as error:
        raise ValueError(f"the file tells of a reading of another version ({error}): train the model anew") from error


def place(row: np.ndarray, whole: str = "its attention") -> str:
    """Say in which cell the largest of 16 numbers from 0 lies, and which share of the whole it is."""
    if not row.any():
        return f"nowhere (0% of {whole})"
    cell = int(row.argmax())
    return f"row {cell // 4 + 1}, column {cell % 4 + 1} ({row.max() / row.sum():.0%} of {whole})"
