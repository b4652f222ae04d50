"""An image encoder that others have trained, as the library transformers stores it, frozen: another memory to read.

Letters: B pictures in a batch, C channels, Y and X height and width in pixels, N patches, Dm width of the memory.
"""

import json
from importlib import import_module
from pathlib import Path
from pickle import UnpicklingError

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from torch import Tensor, nn

SETTINGS = ("preprocessor_config.json", "processor_config.json")
FETCHED = ("config.json", *SETTINGS, "model.safetensors", "model.safetensors.index.json", "model-*.safetensors")
UNSAFE = ("pytorch_model*.bin", "pytorch_model.bin.index.json")  # for models that have nothing else
NEEDS = "hidden_size and image_size in its config and a row for each patch in its last_hidden_state, as ViT or CLIP"


class PretrainedEncoder(nn.Module):
    """An image encoder of the transformers library, its weights frozen, with memories d_memory wide.

    A folder is read as it is. Another name is that of a model of the hub, read from the local cache, and fetched into
    it only with download=True; nothing else here contacts anybody. Of a model with a text side, the vision side is
    taken. Pictures in [0, 1] are scaled to the model's size, whole, and normalised by the mean and std of each channel
    that preprocessor_config.json beside the model gives; by 0.5 and 0.5, so that they lie in [-1, 1] as ViT reads them,
    where no such file is there: for CLIP or DINOv2, which are used to others, keep it.

    Raises ModuleNotFoundError without transformers, FileNotFoundError where no such model is at hand, and ValueError
    where its files are damaged or incomplete, or where it is no encoder of pictures into rows.
    """

    def __init__(self, name_or_folder: str | Path, *, download: bool = False):
        super().__init__()
        folder = _folder(name_or_folder, download)
        model = _read(folder, name_or_folder)
        self.model = getattr(model, "vision_model", model).eval().requires_grad_(False)
        config = self.model.config
        if not (hasattr(config, "hidden_size") and hasattr(config, "image_size")):
            raise ValueError(f"{name_or_folder} must have {NEEDS}: got {type(self.model).__name__}")
        self.d_memory, self.channels = config.hidden_size, getattr(config, "num_channels", 3)
        side = config.image_size
        self.size = (side, side) if isinstance(side, int) else tuple(side)
        mean, std = _normalisation(folder, self.channels)
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("std", std, persistent=False)

    def forward(self, images: Float[Tensor, "B C Y X"]) -> Float[Tensor, "B N Dm"]:
        """Encode pictures in [0, 1] of any size; the row of [CLS], where the model has one, comes first.

        Raises ValueError for another number of channels.
        """
        if images.ndim != 4 or images.shape[1] != self.channels:
            raise ValueError(f"images must be (B, C, Y, X) with C = {self.channels}, got shape {tuple(images.shape)}")
        images = nn.functional.interpolate(images, size=self.size, mode="bilinear", antialias=True)
        memory = getattr(self.model(pixel_values=(images - self.mean) / self.std), "last_hidden_state", None)
        if memory is None or memory.ndim != 3:
            raise ValueError(f"the model must have {NEEDS}: got {type(self.model).__name__}")
        return memory

    def train(self, mode: bool = True) -> "PretrainedEncoder":
        """Keep the model in evaluation mode: what is frozen drops nothing."""
        super().train(mode)
        self.model.eval()
        return self


def _folder(name_or_folder, download):
    """Find the folder of a model: one that was named, or that of the hub's local cache."""
    if Path(name_or_folder).is_dir():
        if not Path(name_or_folder, "config.json").is_file():
            raise FileNotFoundError(f"folder must hold config.json and the weights of a model: {name_or_folder}")
        return Path(name_or_folder)
    hub = _imported("huggingface_hub")
    try:
        folder = Path(hub.snapshot_download(str(name_or_folder), allow_patterns=FETCHED, local_files_only=not download))
        if download and not any(folder.glob("*.safetensors")):
            hub.snapshot_download(str(name_or_folder), allow_patterns=UNSAFE)
    except (OSError, ValueError) as error:
        remedy = "" if download else "; download=True fetches a model of the hub"
        message = f"{name_or_folder} must be a folder, or a model of the hub in the local cache{remedy}"
        raise FileNotFoundError(f"{message} ({_first_line(error)})") from error
    return folder


def _read(folder, name):
    """Read a model from its folder; ValueError where that is damaged, or where weights are missing."""
    transformers = _imported("transformers")
    try:
        model, loaded = transformers.AutoModel.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, output_loading_info=True
        )
    except (OSError, ValueError, KeyError, RuntimeError, EOFError, UnpicklingError, SafetensorError) as error:
        raise ValueError(f"{name} must hold a whole model of transformers: {_first_line(error)}") from error
    # What is missing would be left random, in silence. A pooler often is, and nobody reads it here.
    if missing := sorted(weight for weight in loaded["missing_keys"] if "pooler" not in weight):
        raise ValueError(f"{name} must hold all weights of the model, got none for {missing[0]}")
    return model


def _normalisation(folder, channels):
    """Read what pixels are normalised by -> mean and std, each (C, 1, 1)."""
    path = next((folder / name for name in SETTINGS if (folder / name).is_file()), None)
    given = {} if path is None else _settings(path)
    if not given.get("do_normalize", True):
        given = {"image_mean": [0.0] * channels, "image_std": [1.0] * channels}
    mean, std = given.get("image_mean", [0.5] * channels), given.get("image_std", [0.5] * channels)
    if len(mean) != channels or len(std) != channels or min(std) <= 0:
        raise ValueError(f"{path} must give image_mean and image_std > 0 for {channels} channels, got {mean}, {std}")
    return (torch.tensor(numbers, dtype=torch.float32)[:, None, None] for numbers in (mean, std))


def _settings(path):
    try:
        found = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} must be JSON: {error}") from error
    return found.get("image_processor", found)


def _imported(name):
    """Import a library of the extra; what remedies its absence is told."""
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"PretrainedEncoder needs {name}: pip install 'crossattn-ref[parity]'") from error


def _first_line(error):
    return str(error).strip().partition("\n")[0]
