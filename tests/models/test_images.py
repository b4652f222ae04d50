"""Pictures as memories: patches by hand and against torch's unfold, stems, positions, the encoder, a projection."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from crossattn_ref.models.blocks import LayerConfig
from crossattn_ref.models.images import (
    ConvStem,
    ImageConfig,
    ImageEncoder,
    PatchStem,
    Projected,
    as_float,
    patchify,
)

B, C, P, R, K, D = 2, 3, 5, 7, 11, 13
LAYER = LayerConfig(d_model=22, n_heads=2, d_ff=17, dropout=0.0)


def drawn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_patches_of_a_small_picture_are_worked_out_by_hand():
    picture = torch.arange(24.0).reshape(1, 1, 4, 6)
    expected = [[0, 1, 6, 7], [2, 3, 8, 9], [4, 5, 10, 11], [12, 13, 18, 19], [14, 15, 20, 21], [16, 17, 22, 23]]
    assert patchify(picture, 2)[0].tolist() == expected


def test_patches_are_those_of_torchs_unfold():
    images = drawn(B, C, R * P, K * P)
    torch.testing.assert_close(patchify(images, P), functional.unfold(images, P, stride=P).mT, rtol=0, atol=0)


def test_the_patch_stem_is_a_convolution_whose_windows_do_not_overlap():
    stem = PatchStem(D, patch=P, channels=C)
    images = drawn(B, C, R * P, K * P)
    expected = functional.conv2d(images, stem.project.weight.view(D, C, P, P), stem.project.bias, stride=P)
    torch.testing.assert_close(stem(images), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("patch", [1, 3, 8, 12])
def test_the_convolutional_stem_makes_one_vector_for_each_patch(patch):
    images = drawn(B, C, 3 * patch, 5 * patch)
    assert ConvStem(D, patch=patch, channels=C)(images).shape == (B, D, 3, 5)


@pytest.mark.parametrize("stem", [PatchStem, ConvStem])
def test_a_changed_pixel_changes_its_own_patch_and_only_neighbours_of_a_convolution(stem):
    made, images = stem(D, patch=12), drawn(1, 3, 60, 48)
    changed = images.clone()
    changed[0, :, 30, 18] += 5  # in the middle of patch (2, 1)
    moved = (made(changed) - made(images)).abs().amax(dim=(0, 1)) > 1e-6
    assert moved[2, 1]
    near = torch.zeros_like(moved)
    near[1:4, 0:3] = True
    assert not (moved & ~near).any()
    assert stem is ConvStem or moved.sum() == 1


def test_without_layers_the_memory_is_the_stem_plus_rows_and_columns_twice():
    encoder = ImageEncoder(ImageConfig(side=15, patch=5, stem=PatchStem, n_layers=0, layer=LAYER))
    images = drawn(B, 3, 15, 15)
    projected = encoder.stem.project(patchify(images, 5))
    places = torch.stack([encoder.rows[n // 3] + encoder.columns[n % 3] for n in range(9)])
    torch.testing.assert_close(encoder(images), encoder.norm(projected + places) + places)


def test_positions_begin_in_order_rows_along_one_direction_and_columns_along_another():
    encoder = ImageEncoder(ImageConfig(side=20, patch=5, stem=PatchStem, n_layers=0, layer=LAYER))
    rows, columns = encoder.rows.detach(), encoder.columns.detach()
    for vectors in (rows, columns):
        steps = vectors.diff(dim=0)
        torch.testing.assert_close(steps, steps[:1].expand_as(steps))
        torch.testing.assert_close(vectors[0], -vectors[-1])
    assert torch.linalg.matrix_rank(torch.cat([rows, columns])) == 2


def test_the_same_patch_in_another_place_gets_another_row():
    encoder = ImageEncoder(ImageConfig(side=15, patch=5, stem=PatchStem, n_layers=1, layer=LAYER))
    memory = encoder(torch.full((1, 3, 15, 15), 0.5))[0]
    assert torch.pdist(memory).min() > 1e-3


def test_gradients_reach_every_parameter():
    encoder = ImageEncoder(ImageConfig(side=24, patch=12, layer=LAYER))
    encoder(drawn(B, 3, 24, 24)).square().sum().backward()
    assert not [name for name, p in encoder.named_parameters() if p.grad is None or not p.grad.isfinite().all()]


@pytest.mark.parametrize("shape", [(B, 3, 24, 25), (B, 1, 24, 24), (B, 3, 48, 48), (B, 4, 24, 24)])
def test_pictures_of_another_size_or_with_alpha_are_refused(shape):
    encoder = ImageEncoder(ImageConfig(side=24, patch=12, layer=LAYER))
    with pytest.raises(ValueError, match=r"images must be \(B, C, Y, X\)"):
        encoder(drawn(*shape))


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"side \(48\) must be a multiple of patch \(7\)"):
        ImageConfig(side=48, patch=7)
    with pytest.raises(ValueError, match="n_layers must be at least 0, got -1"):
        ImageConfig(n_layers=-1)
    with pytest.raises(ValueError, match=r"divisible by patch \(5\)"):
        patchify(drawn(B, C, 10, 12), 5)
    for patch in (0, -3):
        with pytest.raises(ValueError, match=f"patch must be at least 1 pixel, got {patch}"):
            patchify(drawn(B, C, 10, 12), patch)


def test_stored_pictures_become_floats_from_0_to_1_with_channels_first(shapes_unchecked):
    stored = torch.from_numpy(np.array([[[[0, 51, 255]], [[255, 0, 102]]]], np.uint8))  # (1, 2, 1, 3)
    expected = torch.tensor([[[[0.0], [1.0]], [[0.2], [0.0]], [[1.0], [0.4]]]])
    torch.testing.assert_close(as_float(stored), expected)
    with pytest.raises(TypeError, match="dtype uint8"):
        as_float(stored.float())
    with pytest.raises(ValueError, match="four axes"):
        as_float(stored[0])


class Flat(nn.Module):
    """Another encoder: every pixel is a row, as wide as there are channels."""

    d_memory = C

    def forward(self, images):
        return images.flatten(2).mT


def test_memories_of_another_encoder_are_projected_row_by_row():
    projected, images = Projected(Flat(), D), drawn(B, C, R, K)
    expected = torch.einsum("bcyx,dc->byxd", images, projected.project.weight).flatten(1, 2) + projected.project.bias
    torch.testing.assert_close(projected(images), expected, rtol=1e-5, atol=1e-5)


def test_an_encoder_that_does_not_say_how_wide_its_memories_are_is_refused():
    with pytest.raises(ValueError, match="encoder must say by d_memory how wide its memories are, got Identity"):
        Projected(nn.Identity(), D)
