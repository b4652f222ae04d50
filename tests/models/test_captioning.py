"""The captioner: causality, what it reads, its weights, writing, hidden words."""

import pytest
import torch

from crossattn_ref.models.blocks import LayerConfig
from crossattn_ref.models.captioning import Captioner, CaptionerConfig, write
from crossattn_ref.models.images import ImageConfig

B, N, V = 2, 7, 11
LAYER = LayerConfig(d_model=26, n_heads=2, d_ff=17, dropout=0.0)


@pytest.fixture
def model():
    torch.manual_seed(0)
    image = ImageConfig(side=36, patch=12, layer=LAYER)
    return Captioner(CaptionerConfig(n_words=V, longest=13, image=image, layer=LAYER)).eval()


@pytest.fixture
def images():
    return torch.rand(B, 3, 36, 36, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def words():
    return torch.randint(3, V, (B, N), generator=torch.Generator().manual_seed(2))


def test_a_later_word_changes_no_earlier_score(model, images, words):
    changed = words.clone()
    changed[:, 4] = (changed[:, 4] - 3 + 1) % (V - 3) + 3
    difference = (model(images, changed) - model(images, words)).abs().amax(dim=(0, 2))
    assert difference[:4].max() < 1e-6
    assert difference[4:].min() > 1e-6


def test_every_score_depends_on_its_own_picture_alone(model, images, words):
    swapped = model(images.flip(0), words.flip(0)).flip(0)
    torch.testing.assert_close(swapped, model(images, words))
    other = images.clone()
    other[1] = 1 - other[1]
    difference = (model(other, words) - model(images, words)).abs().amax(dim=2)
    assert difference[0].max() < 1e-6
    assert difference[1].min() > 1e-6


def test_weights_are_those_with_which_the_layers_read(model, images, words):
    """Averages of the values with these weights, projected, are what the first cross-attention returns."""
    seen = []
    layer = model.layers[0].cross_attention
    hook = layer.register_forward_hook(lambda _, args, out: seen.append((args, out)))
    model(images, words)
    hook.remove()
    (_, memory, *_), out = seen[0]
    scores, weights = model.watched(images, words)
    torch.testing.assert_close(scores, model(images, words))
    assert [w.shape for w in weights] == [(B, 2, N, 9)] * 2
    values = layer.v_proj(memory).unflatten(-1, (2, -1)).transpose(1, 2)
    torch.testing.assert_close(layer.out_proj((weights[0] @ values).transpose(1, 2).flatten(2)), out)
    torch.testing.assert_close(weights[1].sum(-1), torch.ones(B, 2, N))


def test_writing_takes_the_likeliest_word_each_time_and_ends(model, images):
    written = write(model, images, begin=1, end=2, longest=9)
    assert (written[:, 0] == 1).all()
    assert written.shape[1] <= 9
    scores = model(images, written[:, :-1])
    for row, best in zip(written[:, 1:], scores.argmax(-1), strict=True):
        ended = (row == 2).nonzero()
        until = len(row) if not len(ended) else int(ended[0]) + 1
        assert row[:until].tolist() == best[:until].tolist()


def test_hidden_words_are_hidden_in_training_alone_and_never_the_first(images, words):
    torch.manual_seed(0)
    image = ImageConfig(side=36, patch=12, layer=LAYER)
    model = Captioner(CaptionerConfig(n_words=V, longest=13, word_dropout=1.0, image=image, layer=LAYER))
    other = words.clone()
    other[:, 1:] = words[:, 1:].flip(1)
    torch.testing.assert_close(model(images, other), model(images, words))
    model.eval()
    assert (model(images, other) - model(images, words)).abs().max() > 1e-3
    other[:, 0] = (words[:, 0] - 2) % (V - 3) + 3
    model.train()
    assert (model(images, other) - model(images, words)).abs().max() > 1e-4


def test_gradients_reach_every_parameter(model, images, words):
    model(images, words).square().sum().backward()
    unseen = {"positions.vectors", "words.weight"}  # words and places that do not occur get none
    without = {name for name, p in model.named_parameters() if not p.grad.any()}
    assert without <= {name for name in without if name.endswith("k_proj.bias")}, without
    assert all((model.get_parameter(name).grad.abs().sum(1) > 0).any() for name in unseen)


def test_a_caption_longer_than_the_model_was_made_for_is_refused(model, images):
    with pytest.raises(ValueError, match=r"n_positions \(13\)"):
        model(images, torch.full((B, 14), 3))
