"""A step beside torch's: the same sizes, the same task, both learning."""

from dataclasses import replace

import pytest
import torch

from crossattn_ref.bench import training
from crossattn_ref.tasks.translation import RECIPES, new_translator


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_torchs_transformer_has_the_same_sizes_and_reads_source_and_past_alone(norm):
    recipe = RECIPES["standard"]
    recipe = replace(recipe, sizes={**recipe.sizes, "norm": norm})
    model = new_translator(recipe, (range(37), range(41)), seed=0)
    torch.manual_seed(0)
    theirs = training.Torchs(model).eval()
    count = lambda module: sum(parameter.numel() for parameter in module.parameters())  # noqa: E731 (used twice)
    assert count(theirs) == count(model)
    src, tgt = torch.randint(4, 37, (2, 7)), torch.randint(4, 41, (2, 5))
    lengths, other, later = torch.tensor([7, 3]), src.clone(), tgt.clone()
    other[1, 3:], later[:, 4] = 9, 9
    with torch.no_grad():
        logits = theirs(src, lengths, tgt)
        torch.testing.assert_close(theirs(other, lengths, tgt), logits)
        torch.testing.assert_close(theirs(src, lengths, later)[:, :4], logits[:, :4])
        assert logits.shape == model(src, lengths, tgt).shape


def test_rates_and_their_ratio_are_measured_for_every_seed():
    found = {m.metric: m for m in training.measure(recipes=("glass-box",), seeds=(0,), seconds=0.01)}
    assert set(found) == {"steps_per_second", "torch_steps_per_second", "ratio_to_torch"}
    ratio = found["steps_per_second"].samples[0] / found["torch_steps_per_second"].samples[0]
    assert found["ratio_to_torch"].samples == [ratio]
