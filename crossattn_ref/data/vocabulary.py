"""Words as numbers: four that mean no word, and then the words of a corpus."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

PAD, BOS, EOS, UNK = range(4)
SPECIAL = ("<pad>", "<bos>", "<eos>", "<unk>")


@dataclass(frozen=True)
class Vocabulary:
    """The words that have a number, in the order of their numbers; the first four are SPECIAL.

    Raises ValueError where the first four are others, or a word stands there twice.
    """

    words: tuple[str, ...]

    def __post_init__(self):
        """Check what every number rests on."""
        if self.words[: len(SPECIAL)] != SPECIAL:
            raise ValueError(f"words must begin with {SPECIAL}, got {self.words[: len(SPECIAL)]}")
        if len(self.words) != len(set(self.words)):
            twice = next(word for word, count in Counter(self.words).items() if count > 1)
            raise ValueError(f"words must be distinct, got {twice!r} twice")

    @classmethod
    def of(cls, sentences: Iterable[Sequence[str]], *, at_least: int = 1) -> "Vocabulary":
        """Number the words that stand at_least so often in sentences, the most frequent first, ties by alphabet."""
        counts = Counter(word for sentence in sentences for word in sentence)
        kept = [word for word, count in counts.items() if count >= at_least and word not in SPECIAL]
        return cls((*SPECIAL, *sorted(kept, key=lambda word: (-counts[word], word))))

    def __len__(self) -> int:
        return len(self.words)

    def encode(self, sentence: Sequence[str]) -> list[int]:
        """Number the words of a sentence; a word that has none becomes UNK."""
        return [self._numbers.get(word, UNK) for word in sentence]

    def decode(self, numbers: Iterable[int]) -> list[str]:
        """Return the words up to EOS, without PAD and BOS."""
        found = []
        for number in numbers:
            if number == EOS:
                break
            if number not in (PAD, BOS):
                found.append(self.words[number])
        return found

    def as_json(self) -> str:
        """Return the words as text: Vocabulary.from_json(vocabulary.as_json()) is equal to it."""
        return json.dumps(self.words, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> "Vocabulary":
        """Make a vocabulary of what as_json returned."""
        return cls(tuple(json.loads(text)))

    @cached_property
    def _numbers(self):
        return {word: number for number, word in enumerate(self.words) if number >= UNK}
