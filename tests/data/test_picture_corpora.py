"""Real and real-format samples: easy-VQA, NLVR drawn again, captions as of Flickr8k, questions as of VQA version 2."""

import json
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
        image = corpora.draw_nlvr(Statement("0-0", "", True, (box, (), ())), scale=1)
        dark = (211 - image[:, :100, 0].astype(float)) / 211
        assert dark.sum() == pytest.approx(400 * share, rel=0.02)
        assert dark[50:70, 30:50].sum() == pytest.approx(dark.sum())


def test_an_nlvr_line_of_another_form_is_named(tmp_path):
    path = tmp_path / "dev.json"
    good = (HERE / "nlvr" / "dev.json").read_text().splitlines()[0]
    for bad in ("{", "[]", '{"sentence": "x"}', good.replace('"true"', '"perhaps"', 1)):
        path.write_text(f"{good}\n{bad}\n")
        with pytest.raises(ValueError, match=r"dev.json, line 2, is not an NLVR example"):
            corpora.nlvr(path)


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
        "1_a.jpg,A red dog",
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
    (photographs / "captions.txt").write_text("image,caption\njust one column\n")
    with pytest.raises(ValueError, match="a picture and a caption in every line"):
        corpora.flickr(photographs)


def written(folder, annotated=(7, 8)):
    questions = [{"image_id": 42, "question": "What is it?", "question_id": 7},
                 {"image_id": 3, "question": "Is it red?", "question_id": 8}]  # fmt: skip
    votes = {7: ["dog", "cat", "dog"], 8: []}
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


def test_easy_vqa_of_another_form_is_refused(tmp_path):
    (tmp_path / "test").mkdir()
    with pytest.raises(FileNotFoundError, match=r"questions.json is not there"):
        corpora.easy_vqa(tmp_path, "test")
    (tmp_path / "test" / "questions.json").write_text('[["what?", "red"]]')
    with pytest.raises(ValueError, match="question, answer, number of the image"):
        corpora.easy_vqa(tmp_path, "test")
