"""Weights in files: there and back, tied once, strangers and damage, averages."""

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from crossattn_ref.models import stored
from crossattn_ref.models.translation import Translator, TranslatorConfig


def module(width=3, seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(5, width), nn.Linear(width, 2))


def test_weights_and_what_is_said_of_them_come_back(tmp_path):
    one, other = module(), module(seed=1)
    stored.write(one, tmp_path / "a.safetensors", {"seed": 7, "words": ["é", '"']})
    weights, about = stored.read(tmp_path / "a.safetensors")
    stored.load(other, weights)
    assert about == {"seed": 7, "words": ["é", '"']}
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]


def test_a_tied_matrix_is_written_once_and_stays_tied(tmp_path):
    config = TranslatorConfig(n_src_tokens=11, n_tgt_tokens=11, d_model=12, n_heads=3, shared=True)
    one, other = Translator(config), Translator(config)
    stored.write(one, tmp_path / "a.safetensors", {})
    weights, _ = stored.read(tmp_path / "a.safetensors")
    assert sum(weight.numel() for weight in weights.values()) == sum(p.numel() for p in one.parameters())
    stored.load(other, weights)
    assert other.output.weight is other.src_embedding.tokens.weight
    assert torch.equal(other.output.weight, one.output.weight)


def test_weights_of_another_model_are_refused_and_nothing_changes(tmp_path):
    one = module()
    before = {name: weight.clone() for name, weight in one.state_dict().items()}
    with pytest.raises(stored.Unreadable, match=r"a file are of another model: 0\.weight has the shape \(4, 5\)"):
        stored.load(one, stored.weights_of(module(width=4)), source="a file")
    with pytest.raises(stored.Unreadable, match=r"2\.bias stands only in one of the two"):
        stored.load(one, stored.weights_of(nn.Sequential(*module(), nn.Linear(2, 2))))
    assert all(torch.equal(weight, before[name]) for name, weight in one.state_dict().items())


def test_damaged_files_and_those_of_others_are_refused(tmp_path):
    path = tmp_path / "a.safetensors"
    stored.write(module(), path, {})
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(stored.Unreadable, match=r"a\.safetensors is damaged, or holds no weights"):
        stored.read(path)
    save_file({"weight": torch.ones(3)}, path)
    with pytest.raises(stored.Unreadable, match="was not written by this package"):
        stored.read(path)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        stored.read(tmp_path / "nowhere.safetensors")


def test_an_average_is_that_of_every_number():
    several = [stored.weights_of(module(seed=seed)) for seed in range(3)]
    found = stored.average(several)
    for name, weight in found.items():
        expected = torch.stack([weights[name] for weights in several]).mean(dim=0)
        torch.testing.assert_close(weight, expected)
    with pytest.raises(ValueError, match="at least one set of weights, got none"):
        stored.average([])
    with pytest.raises(ValueError, match="weights of one model"):
        stored.average([several[0], {"other": torch.ones(1)}])
