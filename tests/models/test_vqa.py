"""The answerer and its fusions: padding, own pictures, who reads whom, weights, equal sizes, errors."""

import pytest
import torch
from torch.nn import functional

from crossattn_ref.models.blocks import LayerConfig
from crossattn_ref.models.images import ImageConfig
from crossattn_ref.models.vqa import (
    Answerer,
    AnswererConfig,
    CoReading,
    CrossReading,
    JointReading,
    as_large_as,
    count_parameters,
)

B, N, V, A = 2, 7, 11, 5
LAYER = LayerConfig(d_model=26, n_heads=2, d_ff=17, dropout=0.0)
FUSIONS = pytest.mark.parametrize("fusion", [CrossReading, JointReading, CoReading])
POOLINGS = pytest.mark.parametrize("pooling", ["max", "mean"])
LENGTHS = torch.tensor([N, 4])


def config(fusion, **options):
    image = ImageConfig(side=36, patch=12, layer=LAYER)
    return AnswererConfig(n_words=V, n_answers=A, longest=13, fusion=fusion, image=image, layer=LAYER, **options)


def made(fusion, **options):
    torch.manual_seed(0)
    return Answerer(config(fusion, **options)).eval()


def drawn():
    generator = torch.Generator().manual_seed(1)
    return torch.rand(B, 3, 36, 36, generator=generator), torch.randint(3, V, (B, N), generator=generator)


@FUSIONS
@POOLINGS
def test_what_stands_in_the_padding_has_no_effect_and_neither_has_its_amount(fusion, pooling):
    model, (images, words) = made(fusion, pooling=pooling), drawn()
    scores = model(images, words, LENGTHS)
    other = words.clone()
    other[1, 4:] = 3
    torch.testing.assert_close(model(images, other, LENGTHS), scores)
    longer = torch.cat([words, words], dim=1)[:, :12]
    torch.testing.assert_close(model(images, longer, LENGTHS), scores)
    alone = model(images[1:], words[1:, :4], LENGTHS[1:])
    torch.testing.assert_close(alone, scores[1:])


@FUSIONS
@POOLINGS
def test_every_real_word_and_the_own_picture_count(fusion, pooling):
    model, (images, words) = made(fusion, pooling=pooling), drawn()
    scores = model(images, words, LENGTHS)
    for place in range(4):
        changed = words.clone()
        changed[:, place] = (changed[:, place] - 2) % (V - 3) + 3
        assert (model(images, changed, LENGTHS) - scores).abs().amax(dim=1).min() > 1e-6
    other = images.clone()
    other[0] = 1 - other[0]
    moved = (model(other, words, LENGTHS) - scores).abs().amax(dim=1)
    assert moved[0] > 1e-6
    assert moved[1] < 1e-6


# Who reads whom: the fusions again, by torch alone, as their papers tell


def read(attention, x, memory, seen):
    """Let x (B, N, D) read what is seen (B, M) of a memory (B, M, D), with the projections of an attention layer."""
    q, k, v = (
        functional.linear(source, projection.weight, projection.bias).unflatten(-1, (2, -1)).transpose(1, 2)
        for source, projection in ((x, attention.q_proj), (memory, attention.k_proj), (memory, attention.v_proj))
    )
    found = functional.scaled_dot_product_attention(q, k, v, attn_mask=seen[:, None, None])
    return functional.linear(found.transpose(1, 2).flatten(2), attention.out_proj.weight, attention.out_proj.bias)


def normed(around, x):
    return functional.layer_norm(x, (26,), around.layer_norm.weight, around.layer_norm.bias)


def reads_itself(layer, x, seen):
    entering = normed(layer.around_self_attention, x)
    return x + read(layer.self_attention, entering, entering, seen)


def reads_another(layer, x, memory, seen):
    return x + read(layer.cross_attention, normed(layer.around_cross_attention, x), memory, seen)


def thinks(layer, x):
    inner, outer = layer.feed_forward.inner, layer.feed_forward.outer
    thought = functional.linear(normed(layer.around_feed_forward, x), inner.weight, inner.bias).relu()
    return x + functional.linear(thought, outer.weight, outer.bias)


def by_hand(fusion, words, real, patches):
    every = torch.ones(patches.shape[:2], dtype=torch.bool)
    if isinstance(fusion, JointReading):  # UNITER: one sequence, whose patches are marked, and a plain transformer
        x, seen = torch.cat([words, patches + fusion.is_patch], dim=1), torch.cat([real, every], dim=1)
        for layer in fusion.layers:
            x = thinks(layer, reads_itself(layer, x, seen))
        return x[:, :N]
    if isinstance(fusion, CrossReading):  # words alone change
        for layer in fusion.layers:
            words = thinks(layer, reads_another(layer, reads_itself(layer, words, real), patches, every))
        return words
    for of_words, of_patches in zip(fusion.of_words, fusion.of_patches, strict=True):  # ViLBERT: each the other's keys
        words_before, patches_before = words, patches
        words = reads_another(of_words, reads_itself(of_words, words, real), patches_before, every)
        patches = reads_another(of_patches, reads_itself(of_patches, patches, every), words_before, real)
        words, patches = thinks(of_words, words), thinks(of_patches, patches)
    return words


def to_be_fused():
    generator = torch.Generator().manual_seed(2)
    words, patches = (torch.randn(B, n, 26, generator=generator) for n in (N, 9))
    return words, torch.arange(N) < LENGTHS[:, None], patches


@FUSIONS
def test_a_fusion_is_what_its_paper_tells_worked_out_by_torch_alone(fusion):
    torch.manual_seed(0)
    made_of_it = fusion(LAYER, 3).double()
    for parameter in made_of_it.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    words, real, patches = to_be_fused()
    given = words.double(), real, patches.double()
    torch.testing.assert_close(made_of_it(*given), by_hand(made_of_it, *given), rtol=1e-9, atol=1e-9)


def entering(layer, fusion, given):
    """Run a fusion -> what one of its layers is given."""
    seen = []
    hook = layer.register_forward_pre_hook(lambda _, args: seen.append(args))
    fusion(*given)
    hook.remove()
    return seen[0]


@FUSIONS
def test_patches_have_read_every_real_word_before_layer_2_unless_words_alone_read(fusion):
    torch.manual_seed(0)
    made_of_it = fusion(LAYER, 2)
    words, real, patches = to_be_fused()

    def patches_of_layer_2(words):
        if fusion is CrossReading:
            return entering(made_of_it.layers[1], made_of_it, (words, real, patches))[1]
        second = made_of_it.of_patches[1] if fusion is CoReading else made_of_it.layers[1]
        return entering(second, made_of_it, (words, real, patches))[0][:, -9:]

    before = patches_of_layer_2(words)
    for sample, place in [(0, 0), (0, N - 1), (1, 3), (1, 4)]:
        other = words.clone()
        other[sample, place] += torch.linspace(-1, 1, 26)
        moved = (patches_of_layer_2(other) - before).abs().amax(dim=2)
        is_read = fusion is not CrossReading and bool(real[sample, place])
        assert (moved[sample] > 1e-5).all() if is_read else not moved.any()
        assert not moved[1 - sample].any()


def test_in_a_layer_of_co_attention_each_side_reads_what_the_other_was_before_it():
    torch.manual_seed(0)
    made_of_it, given = CoReading(LAYER, 2), to_be_fused()
    words, _, patches = given
    for layer, own, others in ((made_of_it.of_words[0], words, patches), (made_of_it.of_patches[0], patches, words)):
        x, memory, *_ = entering(layer, made_of_it, given)
        assert torch.equal(x, own)
        assert torch.equal(memory, others)
    of_words, of_patches = (
        entering(side[1], made_of_it, given) for side in (made_of_it.of_words, made_of_it.of_patches)
    )
    assert torch.equal(of_words[1], of_patches[0])
    assert torch.equal(of_patches[1], of_words[0])


@pytest.mark.parametrize(
    ("pooling", "expected"), [("max", lambda x: x.amax(dim=1)), ("mean", lambda x: x.mean(dim=1))], ids=["max", "mean"]
)
def test_an_answer_is_made_from_the_largest_numbers_of_the_real_words_or_from_their_mean(pooling, expected):
    model, (images, words) = made(CrossReading, pooling=pooling), drawn()
    scores, found = model(images, words, LENGTHS), []
    model.norm.register_forward_hook(lambda _, args, out: found.append(out))
    for sample, n in enumerate(LENGTHS.tolist()):
        model(images[sample : sample + 1], words[sample : sample + 1, :n], LENGTHS[sample : sample + 1])
        torch.testing.assert_close(model.out(expected(found[-1]))[0], scores[sample])


@pytest.mark.usefixtures("shapes_unchecked")
def test_another_pooling_is_refused():
    with pytest.raises(ValueError, match="pooling must be one of max, mean, got 'first'"):
        config(CrossReading, pooling="first")


@FUSIONS
def test_a_watched_model_scores_as_before_with_weights_that_are_shared_out_among_what_a_word_may_read(fusion):
    model, (images, words) = made(fusion), drawn()
    scores, weights = model.watched(model.encode(images), words, LENGTHS)
    torch.testing.assert_close(scores, model(images, words, LENGTHS))
    both = N + 9 if fusion is JointReading else N
    assert [w.shape for w in weights] == [(B, 2, both, both if fusion is JointReading else 9)] * 2
    torch.testing.assert_close(torch.stack(weights).sum(-1), torch.ones(2, B, 2, both))
    if fusion is JointReading:
        assert not weights[0][1, :, :, 4:N].any()  # the padded words of the second question, in front of the patches


@FUSIONS
def test_words_stand_first_among_the_queries_and_patches_last_among_the_keys(fusion):
    """In what the first layer is given, and so in the weights that it shows."""
    model, (images, words) = made(fusion), drawn()
    _, (first, *_) = model.watched(model.encode(images), words, LENGTHS)
    layer = model.fusion.readers[0]
    seen = []
    hook = layer.register_forward_hook(lambda _, args, kwargs, out: seen.append((args, kwargs)), with_kwargs=True)
    model(images, words, LENGTHS)
    hook.remove()
    (x, *rest), kwargs = seen[0]
    memory = rest[0] if rest and rest[0] is not None else x
    patches = model.encode(images) + (model.fusion.is_patch if fusion is JointReading else 0)
    normed = model.fusion.layers[0].around_self_attention.layer_norm(patches) if fusion is JointReading else patches
    torch.testing.assert_close(memory[:, -9:], normed)
    torch.testing.assert_close(layer.weights(x, *rest, **kwargs)[:, :, :N, -9:], first[:, :, :N, -9:])


@FUSIONS
def test_gradients_reach_every_parameter_that_counts(fusion):
    model, (images, words) = made(fusion), drawn()
    model(images, words, LENGTHS).square().sum().backward()
    without = {name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()}
    last = {name for name in without if name.startswith("fusion.of_patches.1")}  # nobody reads the patches once more
    keys = {name for name in without if name.endswith("k_proj.bias")}  # a bias of all keys shifts all scores alike
    assert without <= last | keys, without - last - keys


def test_fusions_are_made_as_large_as_each_other():
    wanted = count_parameters(Answerer(config(CrossReading)))
    for fusion in (JointReading, CoReading):
        wide = LayerConfig(d_model=26, n_heads=2, d_ff=3, dropout=0.0)
        size = wanted if fusion is JointReading else 2 * wanted
        near = as_large_as(AnswererConfig(**{**vars(config(fusion)), "layer": wide}), size)
        assert count_parameters(Answerer(near)) == pytest.approx(size, rel=0.01)
    with pytest.raises(ValueError, match=r"n_parameters \(10\) must be at least"):
        as_large_as(config(CrossReading), 10)


@pytest.mark.parametrize("lengths", [[N, 0], [N + 1, 4], [-1, 4]])
def test_an_empty_question_or_one_longer_than_its_words_is_refused(lengths):
    model, (images, words) = made(CrossReading), drawn()
    with pytest.raises(ValueError, match=f"lengths must lie from 1 to {N}"):
        model(images, words, torch.tensor(lengths))
