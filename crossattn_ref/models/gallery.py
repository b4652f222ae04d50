"""The same operator with other memories: a picture that is denoised by a text, and speech as a memory.

Letters: B samples in a batch, C channels, Y and X height and width in pixels, T frames, F frequencies, Nk words,
D model width, Dm width of the memory.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from crossattn_ref.models.blocks import DecoderLayer, EncoderLayer, LayerConfig, sinusoidal_positions
from crossattn_ref.models.images import PatchStem


class Denoiser(nn.Module):
    """Guess the noise in a picture, given how much there is and a text: patches ask, words answer.

    Source: Rombach et al., High-Resolution Image Synthesis with Latent Diffusion Models (2022), section 3.3, with
    patches in the place of a U-Net, as in Peebles & Xie, Scalable Diffusion Models with Transformers (2023).
    """

    def __init__(self, config: LayerConfig, *, side: int, patch: int, channels: int = 3, n_layers: int = 2):
        super().__init__()
        if side % patch:
            raise ValueError(f"side ({side}) must be a multiple of patch ({patch})")
        self.patch, self.side = patch, side
        self.stem = PatchStem(config.d_model, patch=patch, channels=channels)
        self.places = nn.Parameter(torch.randn((side // patch) ** 2, config.d_model) * config.d_model**-0.5)
        self.noise_level = nn.Sequential(
            nn.Linear(1, config.d_model), nn.SiLU(), nn.Linear(config.d_model, config.d_model)
        )
        self.layers = nn.ModuleList(DecoderLayer(config) for _ in range(n_layers))
        self.norm, self.out = nn.LayerNorm(config.d_model), nn.Linear(config.d_model, channels * patch**2)

    def forward(
        self,
        noisy: Float[Tensor, "B C Y X"],
        level: Float[Tensor, "B"],
        text: Float[Tensor, "B Nk Dm"],
        mask: Bool[Tensor, "B Nk"] | None = None,
    ) -> Float[Tensor, "B C Y X"]:
        """Guess the noise in pictures (1 - level) x clean + level x noise, level in [0, 1]; mask tells real words."""
        x = self.stem(noisy).flatten(2).mT + self.places + self.noise_level(level[:, None])[:, None]
        for layer in self.layers:
            x = layer(x, text, memory_mask=None if mask is None else mask[:, None, None])
        pixels = self.out(self.norm(x)).mT  # (B, C P P, R K)
        return functional.fold(pixels, (self.side, self.side), kernel_size=self.patch, stride=self.patch)


class SpectrogramEncoder(nn.Module):
    """Turn a spectrogram into a memory of half as many rows: two convolutions in time, positions, encoder layers.

    Source: Radford et al., Robust Speech Recognition via Large-Scale Weak Supervision (2022), section 2.2.
    """

    def __init__(self, config: LayerConfig, *, n_frequencies: int, n_layers: int = 2):
        super().__init__()
        self.n_frequencies = n_frequencies
        self.first = nn.Conv1d(n_frequencies, config.d_model, kernel_size=3, padding=1)
        self.second = nn.Conv1d(config.d_model, config.d_model, kernel_size=3, stride=2, padding=1)
        self.layers = nn.ModuleList(EncoderLayer(config) for _ in range(n_layers))
        self.norm = nn.LayerNorm(config.d_model)

    def forward(self, spectrogram: Float[Tensor, "B F T"]) -> Float[Tensor, "B Nk D"]:
        """Encode spectrograms, a column for each frame; ValueError for another number of frequencies."""
        if spectrogram.ndim != 3 or spectrogram.shape[1] != self.n_frequencies:
            raise ValueError(f"spectrogram must be (B, {self.n_frequencies}, T), got {tuple(spectrogram.shape)}")
        x = functional.gelu(self.second(functional.gelu(self.first(spectrogram)))).mT  # (B, T / 2, D)
        x = x + sinusoidal_positions(x.shape[1], x.shape[2]).to(x)
        for layer in self.layers:
            x = layer(x)
        return self.norm(x)
