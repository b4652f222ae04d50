"""The exercises of the assignment "captioning": against torch's unfold, models of known answers, what is said."""

import secrets

import numpy as np
import pytest
import torch
from torch.nn import functional

from crossattn_ref.checks import examine, reference
from crossattn_ref.checks.captioning import _blank_case, _maps
from crossattn_ref.checks.variants.blank import draw_model
from crossattn_ref.models.images import ImageConfig, ImageEncoder, PatchStem

SEED = secrets.randbelow(2**32)


def test_right_patches_are_torchs_unfold_with_channels_last():
    images = np.random.default_rng(SEED).standard_normal((2, 15, 35, 3))
    unfolded = functional.unfold(torch.from_numpy(images).permute(0, 3, 1, 2), 5, stride=5).mT
    expected = unfolded.unflatten(-1, (3, 25)).mT.flatten(2).numpy()
    np.testing.assert_array_equal(reference("captioning/patchify")(images, 5), expected)


def test_the_right_memory_is_what_the_layers_of_the_packages_encoder_read():
    torch.manual_seed(0)
    encoder, read = ImageEncoder(ImageConfig(side=15, patch=5, stem=PatchStem, n_layers=1)), []
    encoder.layers[0].register_forward_pre_hook(lambda _, given: read.append(given[0]))
    images = torch.rand(2, 3, 15, 15)
    patches = reference("captioning/patchify")(images.permute(0, 2, 3, 1).numpy(), 5)
    weight = encoder.stem.project.weight.detach().unflatten(1, (3, 25)).mT.flatten(1).T  # channels last, as the patches
    arrays = (encoder.stem.project.bias, encoder.rows, encoder.columns)
    memory = reference("captioning/encode")(patches, weight.numpy(), *(a.detach().numpy() for a in arrays))
    encoder(images)
    np.testing.assert_allclose(memory, read[0].detach().numpy(), rtol=0, atol=1e-5)


def test_a_model_that_knows_the_answers_by_heart_keeps_all_and_one_that_reads_them_off_the_picture_none():
    baseline = reference("captioning/blank_image_baseline")
    answers = np.array([0, 1, 2, 0, 1, 2])
    images = np.zeros((6, 2, 2, 3))
    images[np.arange(6), :, :, answers] = 1.0
    questions = answers[:, None]
    assert baseline(lambda images, questions: np.eye(3)[questions[:, 0]], images, questions, answers) == 1
    assert baseline(lambda images, questions: images.mean((1, 2)), images, questions, answers) == pytest.approx(1 / 3)


@pytest.mark.parametrize("eyes", ["closed", "colour", "pixels"])
def test_models_differ_in_what_they_look_at(eyes):
    rng = np.random.default_rng(SEED)
    case, n_answers = _blank_case(rng)
    model = draw_model(rng, case["images"].shape[1:], n_answers, eyes=eyes)
    before = model(case["images"], case["questions"])
    shuffled = case["images"][:, ::-1]  # the same colours in other places
    moved = np.abs(model(shuffled, case["questions"]) - before).max() > 1e-6
    darker = np.abs(model(0.7 * case["images"], case["questions"]) - before).max() > 1e-6
    assert (moved, darker) == {"closed": (False, False), "colour": (False, True), "pixels": (True, True)}[eyes]


def test_maps_point_right_now_and_then_and_every_caption_has_words_that_name_nothing():
    for seed in range(SEED, SEED + 10):
        case = _maps(np.random.default_rng(seed), several=True)
        naming = case["regions"].any(-1)
        assert naming.any(1).all()
        assert not naming.all(1).any()
        assert 0.2 < reference("captioning/pointing_game")(**case) < 1


def test_a_number_that_is_none_is_told_what_is_wanted():
    for answer, words in (
        (lambda weights, regions: [0.5], "it returned a list, where a number is wanted"),
        (lambda weights, regions: True, "where one number is wanted"),
        (lambda weights, regions: np.array([0.5]), "where one number is wanted"),
        (lambda weights, regions: float("nan"), "where a finite number is wanted"),
        (lambda weights, regions: 50.0, "where a share, from 0 to 1, is wanted"),
    ):
        report = examine("captioning/pointing_game", answer, SEED)
        assert report.score == 0
        assert words in " ".join(str(report).split()), str(report)


def test_patches_by_a_reshape_alone_are_told_what_a_patch_became():
    report = examine("captioning/patchify", lambda x, p: x.reshape(len(x), -1, p * p * x.shape[-1]), SEED)
    assert [mistake.name for mistake in report.diagnosis] == ["cut by a reshape alone"]
    assert "a patch is a strip of pixels" in " ".join(str(report).split())
