"""Pictures with words that others have made: easy-VQA, NLVR, captions as of Flickr8k, questions as of VQA version 2.

Each is read from files that the user has; nothing is downloaded. A missing file raises FileNotFoundError, one that is
not of its form ValueError, with the file and the place in it.
"""

import csv
import io
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from crossattn_ref.data.pictures import read_picture


@dataclass(frozen=True)
class Asked:
    """A question about a picture file, and its answer."""

    picture: Path
    question: str
    answer: str


@dataclass(frozen=True)
class Captioned:
    """A picture file, and what people say of it."""

    picture: Path
    captions: tuple[str, ...]


@dataclass(frozen=True)
class Statement:
    """An NLVR statement: its sentence, whether it is true, and the picture's three boxes of objects.

    identifier begins with the number of what the sentence was written for, such as "1572-0". An object has a type, a
    color, x_loc, y_loc and size. Raises ValueError for anything else.
    """

    identifier: str
    sentence: str
    truth: bool
    boxes: tuple[tuple[Mapping[str, object], ...], ...]

    def __post_init__(self):
        """Check what drawing and grouping rest on."""
        if not (isinstance(self.identifier, str) and re.match(r"\d+-", self.identifier)):
            raise ValueError(f'identifier must be a text such as "1572-0", got {self.identifier!r}')
        if not _says(self.sentence):
            raise ValueError(f"sentence must hold at least one word, got {self.sentence!r}")
        if len(self.boxes) != 3:
            raise ValueError(f"a picture must have 3 boxes, got {len(self.boxes)}")
        for box in self.boxes:
            for thing in box:
                _check_object(thing)


def easy_vqa(folder: str | Path, split: str) -> list[Asked]:
    """Read a split of easy-VQA, "train" or "test": <folder>/<split>/questions.json and images/<number>.png.

    Source: Zhou, easy-VQA (2019), MIT licence.
    """
    folder = Path(folder) / split
    path, asked = folder / "questions.json", []
    entries = _json(path)
    form = f"{path} must hold a list of [question, answer, number of the image]"
    if not isinstance(entries, list):
        raise ValueError(f"{form}, got {type(entries).__name__}")
    for place, entry in enumerate(entries, start=1):
        match entry:
            case [str() as question, str() as answer, int() as image] if _says(question) and answer.strip():
                asked.append(Asked(folder / "images" / f"{image}.png", question, answer))
            case _:
                raise ValueError(f"{form}, got {entry!r} as number {place}: mend it or take it out")
    return _some(asked, path)


def nlvr(path: str | Path) -> list[Statement]:
    """Read an NLVR file, one JSON object a line.

    Source: Suhr et al., A Corpus of Natural Language for Visual Reasoning (2017), CC BY 4.0.
    """
    statements = []
    for number, line in _lines(path):
        try:
            statements.append(_statement(json.loads(line)))
        except (ValueError, TypeError) as error:
            what = f"{path}, line {number}, is not an NLVR example"
            raise ValueError(f"{what} ({error}): mend the line or take it out") from error
    return _some(statements, path)


def nlvr_file(folder: str | Path, split: str) -> Path:
    """Find a split of NLVR: <folder>/<split>/<split>.json, as it is published, or <folder>/<split>.json.

    Raises FileNotFoundError where there is neither.
    """
    published = Path(folder, split, f"{split}.json")
    return published if published.is_file() else _existing(Path(folder, f"{split}.json"))


def draw_nlvr(statement: Statement, *, scale: float = 0.5) -> np.ndarray:
    """Draw an NLVR picture again from its coordinates -> uint8 (100 scale, 400 scale, 3): three grey boxes in a row.

    Boxes are 100 units wide and high, with gaps of 50 between them, and an object's place is its top left corner.
    """
    height, width = round(100 * scale), round(400 * scale)
    fine = 3  # samples along each side of a pixel
    y = (np.arange(height * fine)[:, None] + 0.5) / (fine * scale)
    x = (np.arange(width * fine)[None, :] + 0.5) / (fine * scale)
    image = np.full((height * fine, width * fine, 3), 255.0)
    for number, box in enumerate(statement.boxes):
        left = 150 * number
        image[np.broadcast_to((x >= left) & (x < left + 100), image.shape[:2])] = NLVR_GREY
        for thing in box:
            inside = _NLVR_SHAPES[thing["type"]](x - left - thing["x_loc"], y - thing["y_loc"], thing["size"])
            image[inside & (x >= left) & (x < left + 100)] = _NLVR_WRITTEN[thing["color"].lower()]
    return np.rint(image.reshape(height, fine, width, fine, 3).mean(axis=(1, 3))).astype(np.uint8)


NLVR_COLOURS = {"yellow": (255, 255, 0), "black": (0, 0, 0), "blue": (0, 153, 255)}  # as people call them
NLVR_GREY = 211  # of a box
_NLVR_WRITTEN = NLVR_COLOURS | {"#0099ff": NLVR_COLOURS["blue"]}
_NLVR_SHAPES: dict[str, Callable[..., np.ndarray]] = {
    "square": lambda x, y, size: (x >= 0) & (x < size) & (y >= 0) & (y < size),
    "circle": lambda x, y, size: (x - size / 2) ** 2 + (y - size / 2) ** 2 <= (size / 2) ** 2,
    "triangle": lambda x, y, size: (y >= 0) & (y < size) & (abs(x - size / 2) <= y / 2),
}


def flickr(folder: str | Path) -> list[Captioned]:
    """Read captions as of Flickr8k: <folder>/captions.txt with lines "image,caption", or Flickr8k.token.txt with lines
    "image#number<tab>caption"; the pictures lie in <folder>/Images.

    Source: Hodosh et al., Framing Image Description as a Ranking Task (2013); the pictures may not be redistributed.
    """
    folder, found = Path(folder), {}
    table = folder / "captions.txt"
    older = folder / "Flickr8k.token.txt"
    path, rows = (table, _table(table)) if table.is_file() else (older, _tokens(older))
    for number, row in rows:
        if len(row) != 2 or not all(map(str.strip, row)) or "\n" in row[1]:
            what = f"{path}, line {number}, must hold a picture and a caption of one line"
            raise ValueError(f"{what}, got {row!r}: mend the line or take it out")
        found.setdefault(row[0].strip(), []).append(row[1].strip())
    _some(found, path)
    return [Captioned(folder / "Images" / picture, tuple(captions)) for picture, captions in found.items()]


def vqa_v2(questions: str | Path, annotations: str | Path, pictures: str | Path, *, name: str) -> list[Asked]:
    """Read questions and annotations as of VQA version 2; the answer is the one that most people gave.

    name is the pattern of the picture files, such as "COCO_val2014_{:012d}.jpg", another file for every number.
    Raises ValueError for a question without an annotation.
    Source: Goyal et al., Making the V in VQA Matter (2017), CC BY 4.0.
    """
    form = f"{questions} and {annotations} must be of the form of VQA version 2"
    try:
        given = {entry["question_id"]: _majority(entry) for entry in _json(Path(annotations))["annotations"]}
        asked = [(q["image_id"], q["question"], q["question_id"]) for q in _json(Path(questions))["questions"]]
        files = _file_names(name, {image for image, *_ in asked})
    except KeyError as error:
        raise ValueError(f"{form}, and something in them lacks {error}") from error
    except TypeError as error:
        raise ValueError(f"{form} ({error})") from error
    if missing := [number for *_, number in asked if number not in given]:
        raise ValueError(f"{annotations} must annotate every question; it lacks {len(missing)}, first {missing[0]}")
    for _, text, number in asked:
        if not (_says(text) and isinstance(given[number], str) and given[number].strip()):
            raise ValueError(f"{form}, got {text!r} and {given[number]!r} as question and answer number {number}")
    return _some(
        [Asked(Path(pictures) / files[image], text, given[number]) for image, text, number in asked], questions
    )


def pictures(items: list[Asked] | list[Captioned], *, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Read every picture once -> images uint8 (I, side, side, 3), and for each item the number of its image.

    Raises ValueError where there are no items.
    """
    if not items:
        raise ValueError("items must hold at least one picture, got none")
    number = {path: place for place, path in enumerate(dict.fromkeys(item.picture for item in items))}
    images = np.stack([read_picture(path, side=side) for path in number])
    return images, np.array([number[item.picture] for item in items])


def _majority(entry):
    answers = Counter(answer["answer"] for answer in entry.get("answers", ()))
    return answers.most_common(1)[0][0] if answers else entry["multiple_choice_answer"]


def _file_names(pattern, numbers):
    """Name the picture file of each number; ValueError for a pattern by which two numbers are one file, or none."""
    rule = f"name must have one place for the number of a picture, as in 'COCO_val2014_{{:012d}}.jpg', got {pattern!r}"
    try:
        files = {number: pattern.format(number) for number in numbers}
    except (IndexError, KeyError, ValueError, AttributeError) as error:
        raise ValueError(f"{rule} ({error})") from error
    if pattern in files.values() or len(set(files.values())) < len(files):
        raise ValueError(f"{rule}, which names one file for several pictures")
    return files


def _statement(entry):
    fields = ("identifier", "sentence", "label", "structured_rep")
    if missing := [name for name in fields if name not in entry]:
        raise ValueError(f"it must have {', '.join(fields)}, and lacks {', '.join(missing)}")
    if (label := str(entry["label"]).lower()) not in ("true", "false"):
        raise ValueError(f"label must be true or false, got {entry['label']!r}")
    boxes = tuple(tuple(box) for box in entry["structured_rep"])
    return Statement(entry["identifier"], entry["sentence"], label == "true", boxes)


def _check_object(thing):
    if not isinstance(thing, Mapping):
        raise ValueError(f"an object must have a type, a color, x_loc, y_loc and size, got {thing!r}")
    colour = thing.get("color")
    for name, value, known in (
        ("type", thing.get("type"), _NLVR_SHAPES),
        ("color", colour.lower() if isinstance(colour, str) else colour, _NLVR_WRITTEN),
    ):
        if value not in [*known]:
            raise ValueError(f"{name} must be one of {', '.join(known)}, got {thing.get(name)!r}")
    for name in ("x_loc", "y_loc", "size"):
        value = thing.get(name)
        if not isinstance(value, int | float) or not math.isfinite(value) or (name == "size" and value <= 0):
            raise ValueError(f"{name} must be a number{' above 0' * (name == 'size')}, got {value!r}")


def _says(text):
    return isinstance(text, str) and any(map(str.isalnum, text))


def _table(path):
    """Read the rows of captions.txt, each with the number of the line where it begins."""
    rows, number = csv.reader(io.StringIO(_text(path)), strict=True), 1
    try:
        for row in rows:
            if (number, row) != (1, ["image", "caption"]):
                yield number, row
            number = rows.line_num + 1
    except csv.Error as error:
        raise ValueError(
            f"{path}, line {number}, has a caption whose quotes do not close ({error}): mend it"
        ) from error


def _tokens(path):
    """Read the rows of Flickr8k.token.txt, each with the number of its line."""
    for number, line in _lines(path):
        picture, *caption = line.split("\t", 1)
        yield number, [picture.split("#")[0], *caption]


def _lines(path) -> Iterator[tuple[int, str]]:
    """Read the lines of a file, counted from 1."""
    return enumerate(_text(path).splitlines(), start=1)


def _some(found, path):
    """Pass on what was found in a file; ValueError where that is nothing."""
    if not found:
        raise ValueError(f"{path} must hold at least one example, got none: has the corpus been unpacked whole?")
    return found


def _json(path):
    try:
        return json.loads(_text(path))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not JSON ({error})") from error


def _text(path):
    try:
        return _existing(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} must be a text in UTF-8 ({error}): save it anew as one") from error


def _existing(path):
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path} is not there: name the folder into which you have unpacked the corpus")
    return Path(path)
