"""Telephone numbers as sound: each key is two tones at once, and which frames hold it is known.

Letters: B calls, N keys of a call, F frequencies, T frames of a spectrogram.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LOW, HIGH = (697, 770, 852, 941), (1209, 1336, 1477)  # hertz, by row and by column of the keys
KEYS = {key: (LOW[row], HIGH[column]) for row, line in enumerate(("123", "456", "789", " 0 "))
        for column, key in enumerate(line) if key != " "}  # fmt: skip
RATE = 4000  # samples a second
FRAME = 128  # samples: 32 ms
_BINS = slice(20, 50)  # of the Fourier transform of a frame: 625 to 1,531 hertz
N_FREQUENCIES = _BINS.stop - _BINS.start


@dataclass(frozen=True)
class Calls:
    """Telephone calls: spectrograms float32 (B, F, T), keys (B, N) as digits, and the frames of each key.

    spans (B, N, 2) holds the first frame of a key and the one behind its last.
    """

    spectrograms: np.ndarray
    keys: np.ndarray
    spans: np.ndarray

    def __len__(self) -> int:
        return len(self.keys)


def calls(rng: np.random.Generator, n: int, *, n_keys: int = 6, n_frames: int = 60, noise: float = 0.5) -> Calls:
    """Dial n numbers of so many digits, keys held for 3 to 6 frames with 1 to 3 between them, in noise.

    Raises ValueError where n_frames may be too few for the slowest finger: 9 for each key.
    """
    if n_frames < 9 * n_keys:
        raise ValueError(f"n_frames ({n_frames}) must be at least 9 for each of n_keys ({n_keys})")
    keys = rng.integers(10, size=(n, n_keys))
    pause, held = rng.integers(1, 4, size=keys.shape), rng.integers(3, 7, size=keys.shape)
    ends = (pause + held).cumsum(axis=1)
    spans = np.stack([ends - held, ends], axis=-1)
    sounds = (sound([str(key) for key in row], span, n_frames) for row, span in zip(keys, spans, strict=True))
    heard = [spectrogram(clean + noise * rng.standard_normal(clean.shape)) for clean in sounds]
    return Calls(np.stack(heard), keys, spans)


def sound(keys: Sequence[str], spans: np.ndarray, n_frames: int) -> np.ndarray:
    """Play keys, each in its frames, silence between them -> (n_frames * FRAME,)."""
    time = np.arange(n_frames * FRAME) / RATE
    heard = np.zeros_like(time)
    for key, (first, behind) in zip(keys, spans, strict=True):
        part = slice(first * FRAME, behind * FRAME)
        heard[part] = sum(np.sin(2 * np.pi * frequency * time[part]) for frequency in KEYS[key])
    return heard


def spectrogram(heard: np.ndarray) -> np.ndarray:
    """Measure how loud each frequency is in each frame -> float32 (F, T), as logarithms."""
    frames = heard.reshape(-1, FRAME) * np.hanning(FRAME)
    return np.log1p(np.abs(np.fft.rfft(frames, axis=1))[:, _BINS]).T.astype(np.float32)
