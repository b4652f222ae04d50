"""Mistakes in laying sentences into a batch for teacher forcing, and right answers computed another way.

A row of each kind is made from a sentence, then padded; a mistake replaces a stage.

Letters: B sentences, N words of the longest.
"""

import numpy as np

from crossattn_ref.checks.variants.stages import flat, pairs, staged

PAD, BOS, EOS = 0, 1, 2


def started(words):
    return [BOS, *words]


def ended(words):
    return [*words, EOS]


def behind(row, n):
    return row + [PAD] * (n - len(row))


def stacked(rows):
    return np.array(rows, dtype=np.int64)


def longest(sentences):
    return max(len(words) for words in sentences) + 1


def collate(*sentences, read=started, predict=ended, pad=behind, size=longest, stack=stacked):
    """(inputs, targets), each (B, N + 1), with any stage replaced; as it stands, the right one."""
    n = size(sentences)
    words = [list(map(int, sentence)) for sentence in sentences]
    return tuple(stack([pad(make(sentence), n)[:n] for sentence in words]) for make in (read, predict))


def _in_front(row, n):
    return [PAD] * (n - len(row)) + row


def _end_last(row, n):
    full = behind([token for token in row if token != EOS], n)
    return [*full[:-1], EOS] if EOS in row else full


STAGES = staged(
    collate,
    read=(
        ("inputs not shifted", ended, "when the decoder is shown the word that it is to predict",
         "Column i of the inputs is what the model knows when it predicts column i of the targets. May they agree?"),
        ("BOS missing", list, "without BOS in front of the inputs",
         "What has the decoder read before it writes the first word?"),
        ("EOS for BOS", lambda words: [EOS, *words], "with EOS in front of the inputs",
         "Which number begins a sentence?"),
        ("PAD for BOS", lambda words: [PAD, *words], "with PAD in front of the inputs",
         "Which number begins a sentence?"),
        ("BOS twice", lambda words: [BOS, BOS, *words[:-1]], "with the inputs moved by two",
         "Which word has the decoder just read when it predicts the second?"),
        ("words reversed", lambda words: [BOS, *words[::-1]], "with the inputs in reverse order",
         "Which word has the decoder just read when it predicts the second?"),
        ("last word dropped", lambda words: [BOS, *words[:-1]], "when the last word is never shown to the decoder",
         "What has the decoder read when it predicts the end?"),
    ),
    predict=(
        ("targets not shifted", started, "when the targets begin with BOS, as the inputs do",
         "Column i of the inputs is what the model knows when it predicts column i of the targets. May they agree?"),
        ("EOS missing", list, "without EOS behind the targets",
         "How will the model learn when to stop?"),
        ("BOS for EOS", lambda words: [*words, BOS], "with BOS behind the targets", "Which number ends a sentence?"),
        ("first word dropped", lambda words: [*words[1:], EOS], "when the first word is never predicted",
         "What is predicted from BOS alone?"),
    ),
    pad=(
        ("padding in front", _in_front, "with the padding in front", "On which side does the padding stand?"),
        ("padded with EOS", lambda row, n: row + [EOS] * (n - len(row)), "with EOS in the place of PAD",
         "How many ends has a sentence?"),
        ("padded with -1", lambda row, n: row + [-1] * (n - len(row)), "with -1 in the place of PAD",
         "Which number is PAD?"),
        ("EOS behind the padding", _end_last, "with EOS behind the padding",
         "Where does a short sentence end: behind its last word, or at the edge of the batch?"),
        ("last word repeated", lambda row, n: row + row[-1:] * (n - len(row)),
         "with the last token repeated in the place of PAD",
         "Which number is PAD?"),
    ),
    size=(
        ("a column short", lambda sentences: longest(sentences) - 1, "with a column too few: the longest loses its end",
         "N words and one mark: how many columns?"),
        ("a column too many", lambda sentences: longest(sentences) + 1, "with a column too many",
         "N words and one mark: how many columns?"),
        ("first sentence's length", lambda sentences: len(sentences[0]) + 1,
         "when the batch is as wide as the first sentence",
         "Is the first sentence the longest?"),
        ("last sentence's length", lambda sentences: len(sentences[-1]) + 1,
         "when the batch is as wide as the last sentence",
         "Is the last sentence the longest?"),
        ("shortest length", lambda sentences: min(map(len, sentences)) + 1,
         "when the batch is as wide as the shortest sentence",
         "What becomes of the words of the longest sentence?"),
    ),
    stack=(
        ("sentences as columns", lambda rows: stacked(rows).T.copy(), "with sentences as columns",
         "Which axis counts the sentences?"),
        ("floating numbers", lambda rows: np.array(rows, dtype=float), "with floating numbers",
         "Tokens are indices. Which dtype can index an embedding?"),
        ("one long row", lambda rows: stacked(rows).ravel(), "with all sentences in one row",
         "How many axes has a batch of sentences?"),
    ),
)  # fmt: skip

MISTAKES = flat(STAGES)


def composed():
    """Make the mistakes that two stages make together."""
    return pairs(collate, {stage: STAGES[stage] for stage in ("predict", "pad")})


def _in_arrays(*sentences):
    n = max(map(len, sentences)) + 1
    inputs, targets = np.zeros((2, len(sentences), n), dtype=np.int64)
    inputs[:, 0] = BOS
    for b, words in enumerate(sentences):
        inputs[b, 1 : len(words) + 1] = words
        targets[b, : len(words)] = words
        targets[b, len(words)] = EOS
    return inputs, targets


def _from_one_array(*sentences):
    n = max(map(len, sentences)) + 2
    whole = np.stack([np.pad(np.r_[BOS, words, EOS], (0, n - len(words) - 2)) for words in sentences]).astype(np.int32)
    return np.where(whole == EOS, PAD, whole)[:, :-1], whole[:, 1:]


def _by_lists(*sentences):
    n = max(len(words) for words in sentences)
    inputs = [[BOS] + words.tolist() + [PAD] * (n - len(words)) for words in sentences]
    targets = [words.tolist() + [EOS] + [PAD] * (n - len(words)) for words in sentences]
    return np.array(inputs), np.array(targets)


ALTERNATIVES = (collate, _in_arrays, _from_one_array, _by_lists)
