"""Pictures and sentences varied so that what is true stays true: against real statements drawn anew and judged anew."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from crossattn_ref.data.picture_corpora import draw_nlvr, nlvr
from crossattn_ref.data.words import Vocabulary, tokens
from crossattn_ref.models.images import as_float
from crossattn_ref.tasks.picture_questions import UNKNOWN, in_a_square
from crossattn_ref.tasks.variations import VARIATIONS

STATEMENTS = nlvr(Path(__file__).parents[1] / "data" / "nlvr" / "dev.json")[:5]
WRITTEN = {"yellow": "Yellow", "black": "Black", "blue": "#0099ff"}
ORDERS = [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)]
SAID = [tokens(statement.sentence) for statement in STATEMENTS]
WORDS = Vocabulary([UNKNOWN, *WRITTEN, *(word for said in SAID for word in said)])


def drawn(statement):
    return in_a_square(draw_nlvr(statement, scale=0.2)).astype(int)


def numbers_and_pictures(words=WORDS):
    numbers, _ = words.encode([[word if word in words.words else UNKNOWN for word in said] for said in SAID])
    images = torch.from_numpy(np.stack([drawn(statement) for statement in STATEMENTS]).astype(np.uint8))
    return 1 - as_float(images), torch.from_numpy(numbers)


def renamed(statement, colours, order):
    """Let colours change places and boxes another order, in the coordinates themselves."""
    turn = {WRITTEN[old]: WRITTEN[new] for old, new in zip(WRITTEN, colours, strict=True)}
    boxes = [tuple({**thing, "color": turn[thing["color"]]} for thing in statement.boxes[place]) for place in order]
    return replace(statement, boxes=tuple(boxes))


def test_a_picture_with_other_colours_and_boxes_is_the_one_that_its_coordinates_would_draw():
    images, numbers = numbers_and_pictures()
    many = torch.arange(len(images)).repeat_interleave(13)
    torch.manual_seed(0)
    varied, words = VARIATIONS["boxes"](WORDS, unknown=UNKNOWN)(images[many], numbers[many], torch.arange(len(many)))
    pictures = (255 - 255 * varied.permute(0, 2, 3, 1)).round().int().numpy()
    could_be = [all_variants(statement) for statement in STATEMENTS]
    for which, picture, now in zip(many.tolist(), pictures, words, strict=True):
        found = [colours for colours, image in could_be[which] if np.abs(image - picture).max() <= 2]
        assert found, "no order of colours and boxes draws this picture"
        turns = [dict(zip(WRITTEN, colours, strict=True)) for colours in found]
        assert WORDS.decode(now.tolist()) in [tuple(turn.get(word, word) for word in SAID[which]) for turn in turns]


def all_variants(statement):
    """Draw a statement's picture with its colours and boxes in every order -> pairs of colours and picture."""
    orders = [[list(WRITTEN)[place] for place in order] for order in ORDERS]
    return [(colours, drawn(renamed(statement, colours, order))) for colours in orders for order in ORDERS]


def test_every_order_of_boxes_and_of_colours_comes():
    images, numbers = numbers_and_pictures()
    torch.manual_seed(0)
    many = torch.full((389,), 0)
    varied, words = VARIATIONS["boxes"](WORDS, unknown=UNKNOWN)(images[many], numbers[many], torch.arange(389))
    assert len({tuple(picture.flatten().round(decimals=2).tolist()) for picture in varied}) == 36
    assert {WORDS.decode(now.tolist())[6] for now in words} == set(WRITTEN)  # "each grey box contains atleast one ..."


def test_a_picture_of_which_something_unknown_is_said_keeps_its_colours():
    known = Vocabulary([UNKNOWN, *WRITTEN, *(word for said in SAID for word in said if word != "touching")])
    images, numbers = numbers_and_pictures(known)
    strange = (numbers == known.number(UNKNOWN)).any(dim=1)
    assert 0 < strange.sum() < len(strange)
    changed = torch.zeros(len(strange), dtype=torch.bool)
    for seed in range(5):
        torch.manual_seed(seed)
        varied, words = VARIATIONS["boxes"](known, unknown=UNKNOWN)(images, numbers, torch.arange(len(images)))
        assert (words[strange] == numbers[strange]).all()
        same = (varied.mean(dim=(2, 3)) - images.mean(dim=(2, 3))).abs().amax(dim=1) < 1e-4
        assert same[strange].all()
        changed |= ~same
    assert changed[~strange].any()


def test_half_of_the_pictures_are_turned_and_nothing_else_happens():
    images, words = torch.rand(211, 3, 5, 7), torch.arange(422).view(211, 2)
    torch.manual_seed(0)
    varied, same = VARIATIONS["flips"](WORDS, unknown=UNKNOWN)(images, words, torch.arange(211))
    turned = (varied == images.flip(3)).flatten(1).all(dim=1)
    kept = (varied == images).flatten(1).all(dim=1)
    assert (turned ^ kept).all()
    assert 70 < turned.sum() < 140
    assert same is words
