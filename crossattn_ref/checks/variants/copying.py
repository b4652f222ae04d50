"""Mistakes in pointing at the source, and right answers computed another way.

The distribution is made in three stages: what generating gives, what copying gives, and how the two are mixed.

Letters: B sentences, Nq target positions, Nk source positions, V words of the vocabulary, n_words words in all.
"""

import numpy as np

from crossattn_ref.checks.variants.masks import kept
from crossattn_ref.checks.variants.stages import flat, pairs, staged


def widened(vocabulary, n_words):
    """Give the words that only a source holds the probability 0."""
    return np.pad(vocabulary, ((0, 0), (0, 0), (0, n_words - vocabulary.shape[-1])))


def one_hot(source, n_words, dtype):
    return (source[..., None] == np.arange(n_words)).astype(dtype)  # (B, Nk, n_words)


def added(weights, source, n_words):
    return weights @ one_hot(source, n_words, weights.dtype)


def mixed(generated, copied, gate):
    return (1 - gate)[..., None] * generated + gate[..., None] * copied


def distribute(vocabulary, weights, source, gate, n_words, *, generate=widened, copy=added, mix=mixed, shape=kept):
    """The mixture (B, Nq, n_words) with any stage replaced; as it stands, the right one."""
    return shape(mix(generate(vocabulary, n_words), copy(weights, source, n_words), gate))


def exact(vocabulary, weights, source, gate, n_words):
    return distribute(*(np.asarray(x, np.float64) for x in (vocabulary, weights)), source, gate, n_words)


def _overwritten(weights, source, n_words):
    out = np.zeros((*weights.shape[:2], n_words), weights.dtype)
    for j in range(source.shape[1]):
        out[np.arange(len(source)), :, source[:, j]] = weights[:, :, j]
    return out


def _largest(weights, source, n_words):
    return (weights[..., None] * one_hot(source, n_words, weights.dtype)[:, None]).max(axis=2)


def _averaged(weights, source, n_words):
    hot = one_hot(source, n_words, weights.dtype)
    return added(weights, source, n_words) / np.maximum(hot.sum(axis=1, keepdims=True), 1)


def _first_place(weights, source, n_words):
    out = np.zeros((*weights.shape[:2], n_words), weights.dtype)
    for j in reversed(range(source.shape[1])):
        out[np.arange(len(source)), :, source[:, j]] = weights[:, :, j]
    return out


def _places_for_words(weights, source, n_words):
    return added(weights, np.broadcast_to(np.arange(source.shape[1]) % n_words, source.shape), n_words)


def _first_sentence(weights, source, n_words):
    return added(weights, np.broadcast_to(source[:1], source.shape), n_words)


def _best_place_only(weights, source, n_words):
    best = weights == weights.max(axis=-1, keepdims=True)
    return added(best.astype(weights.dtype), source, n_words)


def _mean_of_queries(weights, source, n_words):
    return added(np.broadcast_to(weights.mean(axis=1, keepdims=True), weights.shape), source, n_words)


def _words_counted(weights, source, n_words):
    hot = one_hot(source, n_words, weights.dtype).mean(axis=1, keepdims=True)
    return np.broadcast_to(hot, (*weights.shape[:2], n_words))


def _as_unknown(vocabulary_words):
    """Copy a word that the vocabulary lacks as the unknown word, number 3."""

    def copy(weights, source, n_words):
        return added(weights, np.where(source < vocabulary_words(n_words), source, 3), n_words)

    return copy


def _renormalised(out):
    return out / out.sum(axis=-1, keepdims=True)


STAGES = staged(
    distribute,
    generate=(
        ("uniform tail", lambda p, n: np.pad(p, ((0, 0), (0, 0), (0, n - p.shape[-1])), constant_values=1 / n),
         "when words outside the vocabulary are generated too",
         "Can the generator write a word for which it has no number?"),
        ("logs", lambda p, n: widened(np.log(p), n), "with logarithms of the generator's probabilities",
         "Do the probabilities of a row still sum to one?"),
        ("generator's own softmax", lambda p, n: widened(np.exp(p) / np.exp(p).sum(-1, keepdims=True), n),
         "with a second softmax over the generator's probabilities", "Are you given scores or probabilities?"),
        ("new words in front", lambda p, n: np.pad(p, ((0, 0), (0, 0), (n - p.shape[-1], 0))),
         "with the words of the source in front of the vocabulary's", "Which numbers do the vocabulary's words keep?"),
    ),
    copy=(
        ("overwritten", _overwritten, "when a word's last place in the source overwrites the earlier ones",
         "A word stands twice in the source and gets .3 and .2. What is the probability of copying it?"),
        ("first place only", _first_place, "when only a word's first place in the source counts",
         "A word stands twice in the source and gets .3 and .2. What is the probability of copying it?"),
        ("largest", _largest, "when only the largest of a word's weights counts",
         "A word stands twice in the source and gets .3 and .2. What is the probability of copying it?"),
        ("averaged", _averaged, "when the weights of a repeated word are averaged",
         "Two ways to reach the same word: do their probabilities add up, or average?"),
        ("places for words", _places_for_words, "when place j of the source is taken for word j",
         "The weights belong to places. Which array tells the word that stands in each?"),
        ("first source for all", _first_sentence, "with the first sentence's source words for every sentence",
         "Whose words does the second sentence copy?"),
        ("best place only", _best_place_only, "when the most attended place gets everything",
         "Is the choice soft or hard?"),
        ("one mean for all positions", _mean_of_queries, "with the weights averaged over the target positions",
         "Does every target position look at the same place?"),
        ("frequency", _words_counted, "when words are copied as often as they stand there, wherever attention looks",
         "Does your result depend on the weights?"),
        ("nothing copied", lambda w, s, n: 0 * added(w, s, n), "when nothing is copied",
         "Where does a word come from that the vocabulary lacks?"),
    ),
    mix=(
        ("gate turned round", lambda g, c, gate: mixed(c, g, gate), "with the gate turned round",
         "With a gate of 1, who writes the word?"),
        ("plain sum", lambda g, c, gate: g + c, "when both distributions are added whole",
         "What does a row sum to?"),
        ("half and half", lambda g, c, gate: (g + c) / 2, "with the gate left out: half and half",
         "Does your result depend on the gate?"),
        ("copy on top", lambda g, c, gate: g + gate[..., None] * c, "when the generator keeps its whole share",
         "If copying takes its share of the probability, who gives it away?"),
        ("copy not scaled", lambda g, c, gate: (1 - gate)[..., None] * g + c, "when copying is not scaled by the gate",
         "What does a row sum to?"),
        ("one gate a sentence", lambda g, c, gate: mixed(g, c, np.broadcast_to(gate[:, :1], gate.shape)),
         "with the first position's gate for the whole sentence", "Does each target position have a gate of its own?"),
        ("hard gate", lambda g, c, gate: mixed(g, c, (gate > 0.5).astype(g.dtype)), "when the gate is a yes or a no",
         "Is the gate a choice, or a share?"),
        ("product", lambda g, c, gate: g ** (1 - gate)[..., None] * c ** gate[..., None],
         "with a product of the two in place of a sum", "Must a word be likely for both, or for one of them?"),
        ("scaled twice", lambda g, c, gate: mixed(g, c, gate**2), "with the gate applied twice",
         "How often does the gate enter each term?"),
    ),
    shape=(
        ("vocabulary only", lambda out: out[..., :-1], "with one word too few", "How many words are there in all?"),
        ("logarithm", np.log, "with logarithms in place of probabilities", "What does a row sum to?"),
    ),
)  # fmt: skip

MISTAKES = flat(STAGES)


def composed():
    """Make the mistakes that two stages make together."""
    return pairs(distribute, {stage: STAGES[stage] for stage in ("copy", "mix")})


def _add_at(vocabulary, weights, source, gate, n_words):
    out = np.zeros((*weights.shape[:2], n_words))
    out[..., : vocabulary.shape[-1]] = (1 - gate[..., None]) * vocabulary
    b, i, j = np.indices(weights.shape)
    np.add.at(out, (b, i, source[b, j]), gate[..., None] * weights)
    return out


def _loops(vocabulary, weights, source, gate, n_words):
    out = np.zeros((*weights.shape[:2], n_words), np.float32)
    for b, i in np.ndindex(out.shape[:2]):
        for word in range(vocabulary.shape[-1]):
            out[b, i, word] = (1 - gate[b, i]) * vocabulary[b, i, word]
        for j, word in enumerate(source[b]):
            out[b, i, word] += gate[b, i] * weights[b, i, j]
    return out


def _word_by_word(vocabulary, weights, source, gate, n_words):
    columns = [
        (weights * (source == word)[:, None]).sum(axis=-1) * gate
        + ((1 - gate) * vocabulary[..., word] if word < vocabulary.shape[-1] else 0)
        for word in range(n_words)
    ]
    return np.stack(columns, axis=-1)


def _bincount(vocabulary, weights, source, gate, n_words):
    rows = [
        [np.bincount(words, row, minlength=n_words) for row in sentence]
        for words, sentence in zip(source, weights, strict=True)
    ]
    return np.array(rows) * gate[..., None] + widened(vocabulary * (1 - gate[..., None]), n_words)


def _einsum(vocabulary, weights, source, gate, n_words):
    copied = np.einsum("bij,bjw,bi->biw", weights, np.eye(n_words)[source], gate)
    copied[..., : vocabulary.shape[-1]] += np.einsum("biw,bi->biw", vocabulary, 1 - gate)
    return copied


ALTERNATIVES = (distribute, _add_at, _loops, _word_by_word, _bincount, _einsum)
