"""Words and their numbers."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches

import numpy as np

PAD, BEGIN, END = MARKS = ("<pad>", "<begin>", "<end>")


class Vocabulary:
    """A list of words, each with its number; padding is 0, the marks of begin and end are 1 and 2."""

    def __init__(self, words: Iterable[str]):
        self.words = (*MARKS, *sorted(set(words)))
        self._number = {word: number for number, word in enumerate(self.words)}

    def __len__(self) -> int:
        return len(self.words)

    def encode(self, sentences: Sequence[Sequence[str]]) -> tuple[np.ndarray, np.ndarray]:
        """Write sentences as numbers, padded at their ends -> numbers (B, N), lengths (B,).

        Raises ValueError for an empty sentence, and for a word that is not in the vocabulary. A mark counts as a word
        here: captions that leave something unnamed have padding in its place.
        """
        lengths = np.array([len(sentence) for sentence in sentences], dtype=np.int64)
        if not len(lengths) or not lengths.all():
            raise ValueError("sentences must hold at least one word each; one of them, or the list, is empty")
        numbers = np.zeros((len(lengths), lengths.max()), dtype=np.int64)
        for row, sentence in zip(numbers, sentences, strict=True):
            row[: len(sentence)] = [self.number(word) for word in sentence]
        return numbers, lengths

    def number(self, word: str) -> int:
        """Return the number of a word; ValueError, with the words that come near it or else all, if it has none."""
        if word not in self._number:
            known = [word for word in self.words if word[0].isalnum()]
            near = get_close_matches(word, known)
            told = f"near it are: {', '.join(near)}" if near else f"known are {len(known)}: {', '.join(known)}"
            raise ValueError(f"the word {word!r} was never seen in training; {told}")
        return self._number[word]

    def decode(self, numbers: Iterable[int]) -> tuple[str, ...]:
        """Read numbers as words, up to the mark of the end; padding and the mark of the begin are left out."""
        words = []
        for number in numbers:
            word = self.words[int(number)]
            if word == END:
                break
            if word not in MARKS:
                words.append(word)
        return tuple(words)


def tokens(text: str) -> tuple[str, ...]:
    """Cut a text into lower-case words, and a question mark, full stop or comma into words of their own.

    Raises ValueError for a text without any word.
    """
    for mark in "?.,":
        text = text.replace(mark, f" {mark} ")
    words = tuple(text.lower().split())
    if not any(word not in "?.," for word in words):
        raise ValueError(f"text must hold at least one word, got {text.strip()!r}")
    return words
