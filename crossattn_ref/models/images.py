"""Pictures as memories: patches, a convolutional stem, positions in rows and columns, and an encoder.

Letters: B pictures in a batch, C channels, Y and X height and width in pixels, P side of a patch in pixels,
R and K rows and columns of patches, N = R K patches, D model width.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from crossattn_ref.models.blocks import EncoderLayer, LayerConfig


def patchify(images: Float[Tensor, "B C Y X"], patch: int) -> Float[Tensor, "B N CPP"]:
    """Cut pictures into square patches, row by row; a patch's numbers run over channels, rows, columns.

    A token is one place with all its channels: no reshape alone makes that of (B, C, Y, X).
    Raises ValueError where the patches do not fill the picture exactly, or have no pixel.
    Source: Dosovitskiy et al., An Image Is Worth 16x16 Words (2021), section 3.1.
    """
    _check_divisible(images, patch)
    tiles = images.unfold(2, patch, patch).unfold(3, patch, patch)  # (B, C, R, K, P, P)
    return tiles.permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)


class PatchStem(nn.Module):
    """Project each patch to the model's width: one linear map, the same for all patches.

    Source: Dosovitskiy et al., An Image Is Worth 16x16 Words (2021), equation 1.
    """

    def __init__(self, d_model: int, *, patch: int, channels: int = 3):
        super().__init__()
        self.patch = patch
        self.project = nn.Linear(channels * patch**2, d_model)

    def forward(self, images: Float[Tensor, "B C Y X"]) -> Float[Tensor, "B D R K"]:
        """Project every patch, and lay the results out as the patches lie in the picture."""
        rows = images.shape[2] // self.patch
        return self.project(patchify(images, self.patch)).unflatten(1, (rows, -1)).permute(0, 3, 1, 2)


class ConvStem(nn.Module):
    """Look at small windows first: convolutions that end in as many vectors as there are patches.

    The first convolutions keep the size, each pooling halves it, and the last one takes what is left of a patch whole.
    patch must be a power of two times a number below 6. Weights begin so large that what differs between pictures comes
    out as large as it went in: torch's usual ones are for other activations, and each layer would shrink it.
    Source: Xiao et al., Early Convolutions Help Transformers See Better (2021), section 4; the weights: He et al.,
    Delving Deep into Rectifiers (2015), equation 10.
    """

    def __init__(self, d_model: int, *, patch: int, channels: int = 3, width: int = 16):
        super().__init__()
        self.patch = patch
        layers, left = [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()], patch
        while left % 2 == 0:
            wider = min(2 * width, d_model)
            layers += [nn.MaxPool2d(2), nn.Conv2d(width, wider, 3, padding=1), nn.ReLU()]
            width, left = wider, left // 2
        self.convolutions = nn.Sequential(*layers, nn.Conv2d(width, d_model, left, stride=left))
        for layer in self.convolutions:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)

    def forward(self, images: Float[Tensor, "B C Y X"]) -> Float[Tensor, "B D R K"]:
        """Turn each patch, seen with a little of its neighbourhood, into one vector."""
        _check_divisible(images, self.patch)
        return self.convolutions(images)


STEMS: dict[str, Callable[..., nn.Module]] = {"patches": PatchStem, "convolutions": ConvStem}


@dataclass(frozen=True, kw_only=True)
class ImageConfig:
    """What an image encoder is made of: side and patch in pixels, the stem, and the layers behind it.

    Raises ValueError where patches do not fill the picture, and for fewer than 0 layers.
    """

    side: int = 48
    patch: int = 12
    channels: int = 3
    stem: Callable[..., nn.Module] = ConvStem
    n_layers: int = 1
    layer: LayerConfig = field(default_factory=lambda: LayerConfig(d_model=64, n_heads=4, d_ff=128, dropout=0.0))

    def __post_init__(self):
        """Check what no block checks itself."""
        if self.side < 1 or self.patch < 1 or self.side % self.patch:
            raise ValueError(f"side ({self.side}) must be a multiple of patch ({self.patch}), both at least 1")
        if self.n_layers < 0:
            raise ValueError(f"n_layers must be at least 0, got {self.n_layers}")


class ImageEncoder(nn.Module):
    """Turn pictures into memories: one row for each patch, row by row from the top left.

    Positions are a learned vector for each row plus one for each column, added behind the stem and once more at the
    end, so that whoever reads a patch also reads where it lies. They begin in order, rows from -1 to 1 along one
    direction and columns along another: what lies left of what can be read off; random vectors would need sorting.
    Raises ValueError for pictures of another size or number of channels than the encoder was made for.
    Source: for coordinates, Liu et al., An Intriguing Failing of Convolutional Neural Networks and the CoordConv
    Solution (2018), section 3; for adding them again, Carion et al., End-to-End Object Detection with Transformers
    (2020), section 3.2.
    """

    def __init__(self, config: ImageConfig):
        super().__init__()
        width, n = config.layer.d_model, config.side // config.patch
        self.expected = (config.channels, config.side, config.side)
        self.stem = config.stem(width, patch=config.patch, channels=config.channels)
        self.rows, self.columns = (nn.Parameter(_in_order(n, torch.randn(width))) for _ in range(2))
        self.layers = nn.ModuleList(EncoderLayer(config.layer) for _ in range(config.n_layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, images: Float[Tensor, "B C Y X"]) -> Float[Tensor, "B N D"]:
        """Encode pictures whose numbers lie in [0, 1]."""
        if tuple(images.shape[1:]) != self.expected:
            raise ValueError(f"images must be (B, C, Y, X) = (B, {self.expected}), got shape {tuple(images.shape)}")
        places = (self.rows[:, None] + self.columns).flatten(0, 1)  # (N, D)
        memory = self.stem(images).flatten(2).mT + places
        for layer in self.layers:
            memory = layer(memory)
        return self.norm(memory) + places


def _in_order(n, direction):
    """Lay n places from -1 to 1 along a direction (D,), on the device where that lies -> (n, D)."""
    return torch.linspace(-1, 1, n, device=direction.device)[:, None] * direction


class Projected(nn.Module):
    """Read the memories of another encoder at the model's width: one linear map, learnt with the model.

    encoder turns pictures (B, C, Y, X) into memories (B, N, Dm), and says by d_memory how wide Dm they are.
    Raises ValueError for an encoder that does not say so.
    Source: Liu et al., Visual Instruction Tuning (2023), section 4.1, equation 1.
    """

    def __init__(self, encoder: nn.Module, d_model: int):
        super().__init__()
        width = getattr(encoder, "d_memory", None)
        if not isinstance(width, int):
            raise ValueError(f"encoder must say by d_memory how wide its memories are, got {type(encoder).__name__}")
        self.encoder, self.project = encoder, nn.Linear(width, d_model)

    def forward(self, images: Float[Tensor, "B C Y X"]) -> Float[Tensor, "B N D"]:
        """Encode pictures, and project every row."""
        return self.project(self.encoder(images))


def as_float(images: UInt8[Tensor, "B Y X C"]) -> Float[Tensor, "B C Y X"]:
    """Turn pictures as they are stored, 0 to 255 with channels last, into what a model reads: [0, 1], channels first.

    Raises TypeError for another dtype, ValueError for other axes.
    """
    if images.dtype != torch.uint8:
        raise TypeError(f"images must be of dtype uint8, got {images.dtype}")
    if images.ndim != 4:
        raise ValueError(f"images must have four axes, (B, Y, X, C), got shape {tuple(images.shape)}")
    return images.permute(0, 3, 1, 2).float() / 255


def _check_divisible(images, patch):
    if patch < 1:
        raise ValueError(f"patch must be at least 1 pixel, got {patch}")
    if images.ndim != 4 or images.shape[2] % patch or images.shape[3] % patch:
        raise ValueError(f"images (B, C, Y, X) must have sides divisible by patch ({patch}), got {tuple(images.shape)}")
