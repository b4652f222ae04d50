"""An encoder that others have trained: read as transformers reads it, frozen, and read by our models; what is refused.

Models are small and random. Nobody is contacted: sockets are shut.
"""

import json
import socket
import sys

import pytest
import torch

from crossattn_ref.models.blocks import LayerConfig
from crossattn_ref.models.captioning import Captioner, CaptionerConfig, write
from crossattn_ref.models.images import PatchStem
from crossattn_ref.models.pretrained import PretrainedEncoder
from crossattn_ref.models.vqa import Answerer, AnswererConfig, CoReading, CrossReading, JointReading

transformers = pytest.importorskip("transformers", reason="pip install crossattn-ref[parity]")
huggingface_hub = pytest.importorskip("huggingface_hub", reason="pip install crossattn-ref[parity]")

B, N, V, A, DM = 2, 7, 11, 5, 22
SIZES = {"hidden_size": DM, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 17}
SIGHT = {**SIZES, "image_size": 24, "patch_size": 8}
LAYER = LayerConfig(d_model=26, n_heads=2, d_ff=17, dropout=0.0)
CLIPS = {"image_mean": [0.48, 0.46, 0.41], "image_std": [0.27, 0.26, 0.28]}
NAME = "somebody/small-vit"


@pytest.fixture(autouse=True)
def nobody_is_contacted(monkeypatch):
    def refuse(*_):
        raise AssertionError("somebody was to be contacted")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def vit():
    return transformers.ViTModel(transformers.ViTConfig(**SIGHT), add_pooling_layer=False)


def clip_vision():
    return transformers.CLIPVisionModel(transformers.CLIPVisionConfig(**SIGHT))


def clip():
    words = {**SIZES, "vocab_size": V, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
    return transformers.CLIPModel(transformers.CLIPConfig(vision_config=SIGHT, text_config=words))


def stored(folder, make=vit, settings=None):
    """Store a model of random weights as transformers does -> the model."""
    torch.manual_seed(0)
    model = make().eval()
    model.save_pretrained(folder)
    if settings is not None:
        (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    return model


def drawn(channels=3, side=24):
    return torch.rand(B, channels, side, side, generator=torch.Generator().manual_seed(1))


# What is read


@pytest.mark.parametrize("make", [vit, clip_vision, clip])
def test_an_encoder_gives_what_its_model_gives_and_stays_frozen(make, tmp_path):
    model, images = stored(tmp_path, make), drawn()
    encoder = PretrainedEncoder(tmp_path).train()
    sight = model.vision_model if make is clip else model
    memory = encoder(images)
    assert memory.shape == (B, 1 + 9, encoder.d_memory) == (B, 10, DM)
    torch.testing.assert_close(memory, sight(pixel_values=2 * images - 1).last_hidden_state)
    assert not [p for p in encoder.parameters() if p.requires_grad]
    assert not encoder.model.training


@pytest.mark.parametrize(
    ("settings", "name"),
    [(CLIPS, "preprocessor_config.json"), ({"image_processor": CLIPS}, "processor_config.json")],
    ids=["a file of its own", "a file of the whole processor"],
)
def test_pixels_are_normalised_as_is_written_beside_the_model(settings, name, tmp_path):
    model, images = stored(tmp_path, clip_vision), drawn()
    (tmp_path / name).write_text(json.dumps(settings))
    mean, std = (torch.tensor(numbers)[:, None, None] for numbers in CLIPS.values())
    expected = model(pixel_values=(images - mean) / std).last_hidden_state
    torch.testing.assert_close(PretrainedEncoder(tmp_path)(images), expected)


def test_pixels_are_left_as_they_are_where_that_is_written(tmp_path):
    model, images = stored(tmp_path, settings={"do_normalize": False, **CLIPS}), drawn()
    torch.testing.assert_close(PretrainedEncoder(tmp_path)(images), model(pixel_values=images).last_hidden_state)


def test_pictures_of_any_size_are_scaled_to_the_models(tmp_path):
    stored(tmp_path)
    encoder, images = PretrainedEncoder(tmp_path), drawn()
    doubled = images.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    assert encoder(doubled).shape == (B, 10, DM)
    flat = images.mean(dim=(2, 3), keepdim=True)  # where all pixels are alike, no scaling changes any
    torch.testing.assert_close(encoder(flat.expand(-1, -1, 31, 47)), encoder(flat.expand(-1, -1, 24, 24)))


# Our models read it


def assert_learns(model, loss, images):
    """Find gradients in all that is not frozen, and none in what is; a step of learning leaves that as it was."""
    frozen = {name: p.detach().clone() for name, p in model.image.encoder.named_parameters()}
    loss.backward()
    assert model.image.project.weight.grad.any()
    assert all(p.grad is None for p in model.image.encoder.parameters())
    before = model.encode(images).detach()
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    assert (model.encode(images) - before).abs().max() > 1e-6
    for name, p in model.image.encoder.named_parameters():
        assert torch.equal(p, frozen[name])


@pytest.mark.parametrize("make", [vit, clip_vision])
def test_a_captioner_reads_it_learns_and_writes(make, tmp_path):
    stored(tmp_path, make)
    encoder, images = PretrainedEncoder(tmp_path), drawn(side=48)
    model = Captioner(CaptionerConfig(n_words=V, longest=13, layer=LAYER), encoder).train()
    words = torch.randint(3, V, (B, N), generator=torch.Generator().manual_seed(2))
    assert model.encode(images).shape == (B, 10, 26)
    _, weights = model.watched(images, words)
    assert [w.shape for w in weights] == [(B, 2, N, 10)] * 2
    scores = model(images, words)
    other = model(images.flip(0), words)
    assert (scores - other).abs().amax(dim=(1, 2)).min() > 1e-6
    assert_learns(model, scores.square().sum(), images)
    written = write(model.eval(), images, begin=1, end=2, longest=9)
    assert (written[:, 0] == 1).all()
    assert written.shape[0] == B
    assert 2 <= written.shape[1] <= 9


@pytest.mark.parametrize("fusion", [CrossReading, JointReading, CoReading])
@pytest.mark.parametrize("make", [vit, clip_vision])
def test_an_answerer_reads_it_whatever_its_fusion_and_learns(make, fusion, tmp_path):
    stored(tmp_path, make)
    images = drawn(side=48)
    config = AnswererConfig(n_words=V, n_answers=A, longest=13, fusion=fusion, layer=LAYER)
    model = Answerer(config, PretrainedEncoder(tmp_path)).train()
    words = torch.randint(3, V, (B, N), generator=torch.Generator().manual_seed(2))
    scores = model(images, words, torch.tensor([N, 4]))
    assert scores.shape == (B, A)
    other = model(images.flip(0), words, torch.tensor([N, 4]))
    assert (scores - other).abs().amax(dim=1).min() > 1e-6
    assert_learns(model, scores.square().sum(), images)


# Where it is found


def cached(cache, **options):
    """Lay a model into the hub's cache as if it had been fetched -> the model, and its folder."""
    folder = cache / "models--somebody--small-vit" / "snapshots" / ("1" * 40)
    folder.mkdir(parents=True)
    (cache / "models--somebody--small-vit" / "refs").mkdir()
    (cache / "models--somebody--small-vit" / "refs" / "main").write_text("1" * 40)
    return stored(folder, **options), folder


def test_a_model_of_the_hub_is_read_from_the_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    model, _ = cached(tmp_path, settings=CLIPS)
    mean, std = (torch.tensor(numbers)[:, None, None] for numbers in CLIPS.values())
    expected = model(pixel_values=(drawn() - mean) / std).last_hidden_state
    torch.testing.assert_close(PretrainedEncoder(NAME)(drawn()), expected)


def test_what_is_not_in_the_cache_is_fetched_only_where_that_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    with pytest.raises(FileNotFoundError, match=rf"^{NAME} must be a folder, or .* cache; download=True fetches"):
        PretrainedEncoder(NAME)
    model, asked = stored(tmp_path), []

    def fetch(name, *, allow_patterns, local_files_only=False):
        asked.append((name, local_files_only, "model.safetensors" in allow_patterns))
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    encoder = PretrainedEncoder(NAME, download=True)
    PretrainedEncoder(NAME)
    assert asked == [(NAME, False, True), (NAME, True, True)]
    torch.testing.assert_close(encoder(drawn()), model(pixel_values=2 * drawn() - 1).last_hidden_state)


def test_weights_of_the_old_kind_are_fetched_only_where_there_are_no_others(tmp_path, monkeypatch):
    model, asked = stored(tmp_path), []
    (tmp_path / "model.safetensors").unlink()

    def fetch(name, *, allow_patterns, local_files_only=False):
        asked.append(allow_patterns)
        if "pytorch_model*.bin" in allow_patterns:
            torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    encoder = PretrainedEncoder(NAME, download=True)
    assert len(asked) == 2
    torch.testing.assert_close(encoder(drawn()), model(pixel_values=2 * drawn() - 1).last_hidden_state)


# What is refused


def test_a_folder_that_is_not_there_or_holds_no_model_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere must be a folder, or a model of the hub in the local cache"):
        PretrainedEncoder(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"folder must hold config\.json"):
        PretrainedEncoder(tmp_path)


def text():
    return transformers.BertModel(transformers.BertConfig(**SIZES, vocab_size=V))


def resnet():
    return transformers.ResNetModel(transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8], depths=[1]))


@pytest.mark.parametrize(("make", "name"), [(text, "BertModel"), (resnet, "ResNetModel")])
def test_a_model_that_makes_no_rows_of_pictures_is_refused(make, name, tmp_path):
    stored(tmp_path, make)
    with pytest.raises(ValueError, match=f"must have hidden_size and image_size in its config .*: got {name}"):
        PretrainedEncoder(tmp_path)


def test_a_model_whose_answer_is_no_rows_is_refused(tmp_path):
    stored(tmp_path)
    encoder = PretrainedEncoder(tmp_path)
    encoder.model = PatchStem(DM, patch=8)
    encoder.model.forward = lambda pixel_values: None
    with pytest.raises(ValueError, match=r"a row for each patch .* as ViT or CLIP: got PatchStem"):
        encoder(drawn())


def cut(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-99])


def overwrite(folder):
    (folder / "model.safetensors").write_bytes(b"<html>")


def remove(folder):
    (folder / "model.safetensors").unlink()


def scramble(folder):
    remove(folder)
    (folder / "pytorch_model.bin").write_bytes(b"<html>")


def break_config(folder):
    (folder / "config.json").write_text("{")


def widen(folder):
    path = folder / "config.json"
    path.write_text(path.read_text().replace('"hidden_size": 22', '"hidden_size": 26'))


@pytest.mark.parametrize("damage", [cut, overwrite, remove, scramble, break_config, widen])
def test_a_damaged_model_is_refused_by_name(damage, tmp_path):
    stored(tmp_path)
    damage(tmp_path)
    with pytest.raises(ValueError, match=rf"{tmp_path.name} must hold a whole model of transformers: \w"):
        PretrainedEncoder(tmp_path)


def test_weights_that_are_missing_are_not_left_random(tmp_path):
    stored(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(path.read_text().replace('"num_hidden_layers": 1', '"num_hidden_layers": 2'))
    with pytest.raises(ValueError, match=r"must hold all weights of the model, got none for .*layers?\.1\."):
        PretrainedEncoder(tmp_path)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ('{"image_mean": [0.5], "image_std": [0.5, 0.5, 0.5]}', "image_std > 0 for 3 channels, got .0.5., .0.5, "),
        ('{"image_std": [0.5, 0, 0.5]}', "image_std > 0 for 3 channels"),
        ("{", "be JSON"),
    ],
)
def test_a_normalisation_that_cannot_be_meant_is_refused(settings, told, tmp_path):
    stored(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(settings)
    with pytest.raises(ValueError, match=rf"preprocessor_config\.json must .*{told}"):
        PretrainedEncoder(tmp_path)


@pytest.mark.parametrize("channels", [1, 4])
def test_pictures_of_another_number_of_channels_are_refused(channels, tmp_path):
    stored(tmp_path)
    with pytest.raises(ValueError, match=rf"images must be \(B, C, Y, X\) with C = 3, got shape \(2, {channels}, 24"):
        PretrainedEncoder(tmp_path)(drawn(channels))


@pytest.mark.parametrize("library", ["transformers", "huggingface_hub"])
def test_where_the_library_is_missing_its_remedy_is_told(library, tmp_path, monkeypatch):
    if library == "transformers":
        stored(tmp_path)
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ModuleNotFoundError, match=rf"needs {library}: pip install 'crossattn-ref\[parity\]'"):
        PretrainedEncoder(tmp_path if library == "transformers" else NAME)
