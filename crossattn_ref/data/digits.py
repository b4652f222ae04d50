"""The smallest task with two sequences of unlike length: write a string of digits backwards, 3, 4 and 5 twice.

A token is a digit plus the four of data.vocabulary that mean no word, so that there are N_TOKENS.
"""

import numpy as np

from crossattn_ref.data.vocabulary import BOS, EOS, PAD, SPECIAL

SHORTEST, LONGEST = 3, 6
WIDTH = 2 * LONGEST + 1  # as long as the longest target with its end mark
TWICE = (3, 4, 5)
N_TOKENS = len(SPECIAL) + 10


def written_backwards(digits: tuple[int, ...]) -> tuple[int, ...]:
    """Return the digits from last to first, 3, 4 and 5 twice each."""
    return tuple(digit for digit in reversed(digits) for _ in range(1 + (digit in TWICE)))


def batch(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw n strings of SHORTEST to LONGEST digits -> src (n, WIDTH), their lengths (n,), tgt (n, WIDTH + 1).

    Both are padded with PAD; tgt begins with BOS and ends with EOS. All sources and all targets are equally wide, on
    purpose: so a mask that belongs to the other side fits.
    """
    lengths = rng.integers(SHORTEST, LONGEST + 1, n)
    src, tgt = np.full((n, WIDTH), PAD), np.full((n, WIDTH + 1), PAD)
    for i, length in enumerate(lengths):
        digits = tuple(rng.integers(0, 10, length).tolist())
        answer = written_backwards(digits)
        src[i, :length] = np.add(digits, len(SPECIAL))
        tgt[i, : len(answer) + 2] = [BOS, *np.add(answer, len(SPECIAL)), EOS]
    return src, lengths, tgt
