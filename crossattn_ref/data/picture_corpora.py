"""Pictures with words that others have made: easy-VQA, NLVR, captions as of Flickr8k, questions as of VQA version 2.

Each is read from files that the user has; nothing is downloaded.
"""

import csv
import json
from collections import Counter
from collections.abc import Callable, Mapping
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
    """An NLVR statement: its sentence, whether it is true, and the picture's three boxes of objects."""

    identifier: str
    sentence: str
    truth: bool
    boxes: tuple[tuple[Mapping[str, object], ...], ...]


def easy_vqa(folder: str | Path, split: str) -> list[Asked]:
    """Read a split of easy-VQA, "train" or "test": <folder>/<split>/questions.json and images/<number>.png.

    Raises FileNotFoundError for a file that is missing, ValueError for questions of another form.
    Source: Zhou, easy-VQA (2019), MIT licence.
    """
    folder = Path(folder) / split
    questions = _json(folder / "questions.json")
    if not isinstance(questions, list) or not all(isinstance(q, list) and len(q) == 3 for q in questions):
        raise ValueError(f"{folder / 'questions.json'} must hold a list of [question, answer, number of the image]")
    return [Asked(folder / "images" / f"{image}.png", question, answer) for question, answer, image in questions]


def nlvr(path: str | Path) -> list[Statement]:
    """Read an NLVR file, one JSON object a line. Raises ValueError, with the line, for one of another form.

    Source: Suhr et al., A Corpus of Natural Language for Visual Reasoning (2017), CC BY 4.0.
    """
    statements = []
    for number, line in enumerate(_existing(path).read_text(encoding="utf-8").splitlines(), start=1):
        try:
            entry = json.loads(line)
            boxes = tuple(tuple(box) for box in entry["structured_rep"])
            truth = {"true": True, "false": False}[entry["label"].lower()]
            statements.append(Statement(entry["identifier"], entry["sentence"], truth, boxes))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path}, line {number}, is not an NLVR example ({error!r})") from error
    return statements


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

    Raises FileNotFoundError where there is neither, ValueError for a line of another form.
    Source: Hodosh et al., Framing Image Description as a Ranking Task (2013); the pictures may not be redistributed.
    """
    folder, found = Path(folder), {}
    for picture, caption in _flickr_lines(folder):
        found.setdefault(picture, []).append(caption.strip())
    return [Captioned(folder / "Images" / picture, tuple(captions)) for picture, captions in found.items()]


def vqa_v2(questions: str | Path, annotations: str | Path, pictures: str | Path, *, name: str) -> list[Asked]:
    """Read questions and annotations as of VQA version 2; the answer is the one that most people gave.

    name is the pattern of the picture files, such as "COCO_val2014_{:012d}.jpg".
    Raises ValueError for a question without an annotation, or files of another form.
    Source: Goyal et al., Making the V in VQA Matter (2017), CC BY 4.0.
    """
    try:
        given = {entry["question_id"]: _majority(entry) for entry in _json(Path(annotations))["annotations"]}
        asked = [(q["image_id"], q["question"], q["question_id"]) for q in _json(Path(questions))["questions"]]
    except (KeyError, TypeError) as error:
        raise ValueError(f"{questions} and {annotations} must be of the form of VQA version 2 ({error!r})") from error
    if missing := [number for *_, number in asked if number not in given]:
        raise ValueError(f"{annotations} must annotate every question; it lacks {len(missing)}, first {missing[0]}")
    return [Asked(Path(pictures) / name.format(image), text, given[number]) for image, text, number in asked]


def pictures(items: list[Asked] | list[Captioned], *, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Read every picture once -> images uint8 (I, side, side, 3), and for each item the number of its image."""
    number = {path: place for place, path in enumerate(dict.fromkeys(item.picture for item in items))}
    images = np.stack([read_picture(path, side=side) for path in number])
    return images, np.array([number[item.picture] for item in items])


def _majority(entry):
    answers = Counter(answer["answer"] for answer in entry.get("answers", ()))
    return answers.most_common(1)[0][0] if answers else entry["multiple_choice_answer"]


def _flickr_lines(folder):
    if (table := folder / "captions.txt").is_file():
        with table.open(encoding="utf-8", newline="") as file:
            rows = list(csv.reader(file))
        rows = rows[1:] if rows and rows[0] == ["image", "caption"] else rows
        path = table
    else:
        path = _existing(folder / "Flickr8k.token.txt")
        rows = [line.split("\t", 1) for line in path.read_text(encoding="utf-8").splitlines()]
        rows = [[row[0].split("#")[0], *row[1:]] for row in rows]
    if bad := next((row for row in rows if len(row) != 2), None):
        raise ValueError(f"{path} must hold a picture and a caption in every line, got {bad}")
    return rows


def _json(path):
    try:
        return json.loads(_existing(path).read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not JSON ({error})") from error


def _existing(path):
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path} is not there: name the folder into which you have unpacked the corpus")
    return Path(path)
