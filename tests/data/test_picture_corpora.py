"""Real and real-format samples: easy-VQA, NLVR drawn again, captions as of Flickr8k, questions as of VQA version 2."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from crossattn_ref.data import picture_corpora as corpora
from crossattn_ref.data.picture_corpora import Asked, Captioned, Statement

HERE = Path(__file__).parent
NAMED = {"red": (255, 0, 0), "yellow": (255, 255, 0), "blue": (0, 0, 255)}


def test_a_few_real_questions_of_easy_vqa_agree_with_the_colours_in_their_pictures():
    asked = corpora.easy_vqa(HERE / "easy-vqa", "test")
    assert len(asked) == 53
    assert asked[0] == Asked(HERE / "easy-vqa" / "test" / "images" / "0.png", "what is the red shape?", "triangle")
    images, image_of = corpora.pictures(asked, side=64)
    assert images.shape == (5, 64, 64, 3)
    assert image_of[0] == 0
    assert image_of[-1] == 4
    checked = 0
    for item, number in zip(asked, image_of, strict=True):
        if item.answer in NAMED and "color" in item.question:
            thing = images[number].reshape(-1, 3)
            thing = thing[np.ptp(thing, axis=1) > 100].mean(axis=0)  # the background is pale
            nearest = min(NAMED, key=lambda name: np.abs(thing - NAMED[name]).sum())
            assert nearest == item.answer
            checked += 1
    assert checked >= 4


def test_real_statements_of_nlvr_are_read_with_their_truth():
    statements = corpora.nlvr(HERE / "nlvr" / "dev.json")
    assert len(statements) == 12
    assert statements[0].sentence == "Each grey box contains atleast one yellow object touching the edge"
    assert [s.truth for s in statements[:4]] == [True, True, True, False]
    assert [len(box) for box in statements[0].boxes] == [3, 2, 5]


def test_a_real_picture_of_nlvr_is_drawn_with_every_object_in_its_place():
    for statement in corpora.nlvr(HERE / "nlvr" / "dev.json"):
        image = corpora.draw_nlvr(statement, scale=1).astype(int)
        assert image.shape == (100, 400, 3)
        assert (image[:, 100:150] == 255).all()
        assert (image[:, 250:300] == 255).all()
        for number, box in enumerate(statement.boxes):
            corner = image[:, 150 * number : 150 * number + 100]
            for thing in box:
                rows, columns = (slice(thing[k], thing[k] + thing["size"]) for k in ("y_loc", "x_loc"))
                middle = corner[rows, columns][thing["size"] // 2, thing["size"] // 2]
                wanted = {"Yellow": (255, 255, 0), "Black": (0, 0, 0), "#0099ff": (0, 153, 255)}[thing["color"]]
                assert middle.tolist() == list(wanted)


def test_an_nlvr_shape_covers_its_area_and_nothing_else():
    for kind, share in (("square", 1.0), ("circle", np.pi / 4), ("triangle", 0.5)):
        box = ({"type": kind, "color": "Black", "x_loc": 30, "y_loc": 50, "size": 20},)
        image = corpora.draw_nlvr(Statement("0-0", "Drawn", True, (box, (), ())), scale=1)
        dark = (211 - image[:, :100, 0].astype(float)) / 211
        assert dark.sum() == pytest.approx(400 * share, rel=0.02)
        assert dark[50:70, 30:50].sum() == pytest.approx(dark.sum())
        upper = dark[50:60].sum() / dark.sum()  # a triangle stands on its base
        assert upper == pytest.approx(0.25 if kind == "triangle" else 0.5, abs=0.02)


def test_an_nlvr_object_that_leaves_its_box_is_cut_off_at_the_edge():
    x, size = int(np.random.default_rng(3).integers(85, 99)), 20
    box = ({"type": "square", "color": "Black", "x_loc": x, "y_loc": 40, "size": size},)
    image = corpora.draw_nlvr(Statement("0-0", "Drawn", True, ((), box, ())), scale=1)
    assert (image[:, 250:300] == 255).all()
    assert (image[:, 150:250] == 0).all(-1).sum() == (100 - x) * size


def test_an_nlvr_picture_has_the_size_that_is_nearest_to_its_scale():
    boxes = ((), (), ())
    assert corpora.draw_nlvr(Statement("0-0", "Drawn", True, boxes), scale=0.29).shape == (29, 116, 3)


def test_an_nlvr_line_of_another_form_is_named(tmp_path):
    path = tmp_path / "dev.json"
    good = (HERE / "nlvr" / "dev.json").read_text().splitlines()[0]
    for bad, rule in (
        ("{", "Expecting property name"),
        ("", "Expecting value"),
        ("5", "not iterable"),
        ("[]", "lacks identifier, sentence, label, structured_rep"),
        ('{"sentence": "x", "label": "true"}', "lacks identifier, structured_rep"),
        (changed(good, label="perhaps"), "label must be true or false, got 'perhaps'"),
        (changed(good, identifier=1572), 'identifier must be a text such as "1572-0", got 1572'),
        (changed(good, identifier="x-1"), "identifier must be a text"),
        (changed(good, sentence=" . "), "sentence must hold at least one word, got ' . '"),
        (changed(good, structured_rep=[[]]), "a picture must have 3 boxes, got 1"),
        (changed(good, structured_rep=[[]] * 5), "a picture must have 3 boxes, got 5"),
        (changed(good, structured_rep=["red", "blue", "green"]), "an object must have a type, .* got 'r'"),
        (changed(good, structured_rep=3), "not iterable"),
    ):
        path.write_text(f"{good}\n{bad}\n{good}\n")
        with pytest.raises(
            ValueError, match=rf"dev.json, line 2, is not an NLVR example \(.*{rule}.*\): mend the line"
        ):
            corpora.nlvr(path)


def changed(line, **fields):
    return json.dumps({**json.loads(line), **fields})


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("type", "hexagon", "type must be one of square, circle, triangle, got 'hexagon'"),
        ("type", ["square"], "got ['square']"),
        ("color", "Mauve", "color must be one of yellow, black, blue, #0099ff, got 'Mauve'"),
        ("color", None, "got None"),
        ("x_loc", None, "x_loc must be a number, got None"),
        ("y_loc", "7", "y_loc must be a number, got '7'"),
        ("y_loc", float("nan"), "y_loc must be a number, got nan"),
        ("size", 0, "size must be a number above 0, got 0"),
    ],
)
def test_an_nlvr_object_that_nobody_can_draw_is_told_before_it_is_drawn(name, value, rule):
    good = {"type": "square", "color": "Black", "x_loc": 7, "y_loc": 11, "size": 13}
    corpora.draw_nlvr(Statement("0-0", "Drawn", True, ((), (good,), ())))
    with pytest.raises(ValueError, match=re.escape(rule)):
        Statement("0-0", "Drawn", True, ((), (good, {**good, name: value}), ()))


@pytest.fixture
def photographs(tmp_path):
    """A folder with two pictures, as people have it."""
    (tmp_path / "Images").mkdir()
    for name, colour in (("1_a.jpg", "red"), ("2_b.jpg", "blue")):
        Image.new("RGB", (30, 20), colour).save(tmp_path / "Images" / name)
    return tmp_path


CAPTIONED = {"1_a.jpg": ('A dog , it says "hi" .', "A red dog"), "2_b.jpg": ("Two men , talking .",)}


def expected(folder):
    return [Captioned(folder / "Images" / name, captions) for name, captions in CAPTIONED.items()]


def test_captions_in_a_table_are_read_with_their_commas_and_quotes(photographs):
    lines = [
        "image,caption",
        '1_a.jpg,"A dog , it says ""hi"" ."',
        '2_b.jpg,"Two men , talking ."',
        " 1_a.jpg , A red dog ",
    ]
    (photographs / "captions.txt").write_text("\n".join(lines) + "\n")
    found = corpora.flickr(photographs)
    assert found == expected(photographs)
    images, image_of = corpora.pictures(found, side=8)
    assert images.shape == (2, 8, 8, 3)
    assert image_of.tolist() == [0, 1]


def test_captions_in_the_older_form_are_read_too(photographs):
    lines = ['1_a.jpg#0\tA dog , it says "hi" .', "2_b.jpg#0\tTwo men , talking .", "1_a.jpg#1\tA red dog"]
    (photographs / "Flickr8k.token.txt").write_text("\n".join(lines))
    assert corpora.flickr(photographs) == expected(photographs)


def test_a_caption_file_of_another_form_or_none_is_told(photographs):
    with pytest.raises(FileNotFoundError, match="name the folder into which you have unpacked the corpus"):
        corpora.flickr(photographs)
    for lines, rule in (
        ("just one column\n", "line 2, must hold a picture and a caption of one line, got ['just one column']"),
        ("1_a.jpg,A dog\n\n2_b.jpg,A cat\n", "line 3, must hold a picture and a caption of one line, got []"),
        ("1_a.jpg,A dog\n2_b.jpg, \n", "line 3, must hold a picture and a caption of one line, got ['2_b.jpg', ' ']"),
        (",A dog\n", "line 2, must hold a picture and a caption"),
        ('1_a.jpg,"A dog\n2_b.jpg,A cat\n', "line 2, has a caption whose quotes do not close"),
        ('1_a.jpg,A dog\n2_b.jpg,"A cat\n1_a.jpg,red"\n', "line 3, must hold a picture and a caption of one line"),
        ("", "must hold at least one example, got none"),
    ):
        (photographs / "captions.txt").write_text(f"image,caption\n{lines}")
        with pytest.raises(ValueError, match=re.escape(rule)) as told:
            corpora.flickr(photographs)
        assert "captions.txt" in str(told.value)


def test_a_caption_file_of_the_older_form_with_a_wrong_line_is_told(photographs):
    path = photographs / "Flickr8k.token.txt"
    for bad in ("2_b.jpg#0 no tab", "", "2_b.jpg#0\t", "#0\tA dog"):
        path.write_text(f"1_a.jpg#0\tA dog\n{bad}\n1_a.jpg#1\tA cat\n")
        with pytest.raises(ValueError, match=r"Flickr8k.token.txt, line 2, must hold a picture and a caption"):
            corpora.flickr(photographs)


def test_a_corpus_without_anything_in_it_is_told(tmp_path, photographs):
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "questions.json").write_text("[]")
    (tmp_path / "dev.json").write_text("")
    (photographs / "captions.txt").write_text("")
    questions, annotations = written(tmp_path)
    questions.write_text('{"questions": []}')
    for read in (
        lambda: corpora.easy_vqa(tmp_path, "test"),
        lambda: corpora.nlvr(tmp_path / "dev.json"),
        lambda: corpora.flickr(photographs),
        lambda: corpora.vqa_v2(questions, annotations, tmp_path, name="{}.jpg"),
    ):
        with pytest.raises(ValueError, match=r"(json|txt) must hold at least one example, got none"):
            read()
    with pytest.raises(ValueError, match="items must hold at least one picture, got none"):
        corpora.pictures([], side=8)


def test_a_file_that_is_no_text_in_utf_8_is_named_and_a_mark_of_its_order_is_not_read(photographs):
    (photographs / "captions.txt").write_bytes("1_a.jpg,Un café\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"captions.txt must be a text in UTF-8 \(.*: save it anew"):
        corpora.flickr(photographs)
    (photographs / "captions.txt").write_bytes("image,caption\n1_a.jpg,Un café\n".encode("utf-8-sig"))
    assert corpora.flickr(photographs) == [Captioned(photographs / "Images" / "1_a.jpg", ("Un café",))]


def written(folder, annotated=(7, 8)):
    questions = [{"image_id": 42, "question": "What is it?", "question_id": 7},
                 {"image_id": 3, "question": "Is it red?", "question_id": 8}]  # fmt: skip
    votes = {7: ["cat", "dog", "dog"], 8: []}
    annotations = [
        {"question_id": n, "multiple_choice_answer": "yes", "answers": [{"answer": a} for a in votes[n]]}
        for n in annotated
    ]
    paths = folder / "questions.json", folder / "annotations.json"
    for path, content in zip(paths, ({"questions": questions}, {"annotations": annotations}), strict=True):
        path.write_text(json.dumps(content))
    return paths


def test_questions_of_vqa_get_the_answer_that_most_people_gave(tmp_path):
    asked = corpora.vqa_v2(*written(tmp_path), tmp_path, name="COCO_val2014_{:012d}.jpg")
    assert asked == [
        Asked(tmp_path / "COCO_val2014_000000000042.jpg", "What is it?", "dog"),
        Asked(tmp_path / "COCO_val2014_000000000003.jpg", "Is it red?", "yes"),
    ]


def test_a_question_without_an_annotation_and_another_form_are_refused(tmp_path):
    with pytest.raises(ValueError, match="it lacks 1, first 8"):
        corpora.vqa_v2(*written(tmp_path, annotated=(7,)), tmp_path, name="{}.jpg")
    questions, annotations = written(tmp_path)
    questions.write_text('{"wrong": []}')
    with pytest.raises(ValueError, match="of the form of VQA version 2"):
        corpora.vqa_v2(questions, annotations, tmp_path, name="{}.jpg")
    questions.write_text("{")
    with pytest.raises(ValueError, match="is not JSON"):
        corpora.vqa_v2(questions, annotations, tmp_path, name="{}.jpg")


@pytest.mark.parametrize(
    "name", ["COCO.jpg", "{}{}.jpg", "{number}.jpg", "{", "{:.0e}.jpg", "{:banana}.jpg", "{0.side}"]
)
def test_a_name_by_which_pictures_can_not_be_told_apart_is_refused(tmp_path, name):
    questions, annotations = written(tmp_path)
    content = json.loads(questions.read_text())
    for entry, number in zip(content["questions"], (100_000_001, 100_000_002), strict=True):
        entry["image_id"] = number
    questions.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"name must have one place for the number of a picture, as in .*, got "):
        corpora.vqa_v2(questions, annotations, tmp_path, name=name)


def test_a_name_without_a_place_is_refused_for_a_single_picture_too(tmp_path):
    questions, annotations = written(tmp_path)
    content = json.loads(questions.read_text())
    questions.write_text(json.dumps({"questions": content["questions"][:1]}))
    assert len(corpora.vqa_v2(questions, annotations, tmp_path, name="{}.jpg")) == 1
    with pytest.raises(ValueError, match="name must have one place for the number of a picture"):
        corpora.vqa_v2(questions, annotations, tmp_path, name="COCO.jpg")


def test_a_question_or_an_answer_of_vqa_that_is_no_text_is_told(tmp_path):
    questions, annotations = written(tmp_path)
    content = json.loads(questions.read_text())
    for bad in (5, "", " ? ", None):
        content["questions"][1]["question"] = bad
        questions.write_text(json.dumps(content))
        with pytest.raises(ValueError, match=re.escape(f"got {bad!r} and 'yes' as question and answer number 8")):
            corpora.vqa_v2(questions, annotations, tmp_path, name="{}.jpg")


def test_easy_vqa_of_another_form_is_refused(tmp_path):
    (tmp_path / "test").mkdir()
    with pytest.raises(FileNotFoundError, match=r"questions.json is not there"):
        corpora.easy_vqa(tmp_path, "test")
    good = ["what?", "red", 0]
    for bad in (["what?", "red"], ["", "red", 1], ["what?", " ", 1], [7, "red", 1], ["what?", "red", "../1"], "what?"):
        (tmp_path / "test" / "questions.json").write_text(json.dumps([good, bad]))
        rule = rf"questions.json must hold a list of \[question, answer, number.*got {re.escape(repr(bad))} as number 2"
        with pytest.raises(ValueError, match=rule):
            corpora.easy_vqa(tmp_path, "test")
    (tmp_path / "test" / "questions.json").write_text("{}")
    with pytest.raises(ValueError, match="number of the image], got dict"):
        corpora.easy_vqa(tmp_path, "test")
