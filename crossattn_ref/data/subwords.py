"""Words in pieces: byte-pair encoding, learnt on the fly by the library tokenizers.

Source: Sennrich et al., Neural Machine Translation of Rare Words with Subword Units (2016).
"""

from collections.abc import Iterable, Sequence

from crossattn_ref.data.vocabulary import BOS, EOS, PAD, SPECIAL, UNK

_START = "▁"  # marks the first piece of a word


class Subwords:
    """A vocabulary of pieces of words, with the methods of Vocabulary: sentences are rows of words on both sides.

    Made by learn, or from the text that as_json returns.
    """

    def __init__(self, json: str):
        from tokenizers import Tokenizer

        self._tokenizer = Tokenizer.from_str(json)
        self._tokenizer.encode_special_tokens = True  # text that looks like a special word is text

    @classmethod
    def learn(cls, sentences: Iterable[Sequence[str]], *, size: int) -> "Subwords":
        """Learn `size` pieces, the special ones included, from sentences; for two languages, from those of both."""
        from tokenizers import Tokenizer, models, pre_tokenizers, trainers

        tokenizer = Tokenizer(models.BPE(unk_token=SPECIAL[UNK]))
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement=_START)
        trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=list(SPECIAL), show_progress=False)
        tokenizer.train_from_iterator((" ".join(sentence) for sentence in sentences), trainer)
        return cls(tokenizer.to_str())

    def __len__(self) -> int:
        return self._tokenizer.get_vocab_size()

    def encode(self, sentence: Sequence[str]) -> list[int]:
        """Number the pieces of the words; a letter never seen becomes UNK."""
        return self._tokenizer.encode(" ".join(sentence)).ids

    def decode(self, numbers: Iterable[int]) -> list[str]:
        """Join the pieces up to EOS, without PAD and BOS, into words again."""
        pieces = []
        for number in numbers:
            if number == EOS:
                break
            if number not in (PAD, BOS):
                pieces.append(self._tokenizer.id_to_token(int(number)))
        return "".join(pieces).replace(_START, " ").split()

    def as_json(self) -> str:
        """Return all there is to know, as text: Subwords(subwords.as_json()) is equal to it."""
        return self._tokenizer.to_str()
