"""Mistakes in measuring what a translator knows without its source, and right answers computed another way.

An answer gets a model and a generator of chance, for which it has no use. model() returns a batch
(src (B, Nk), lengths (B,), inputs (B, Nq), targets (B, Nq)); model(src, lengths, inputs) the logits (B, Nq, V).

Letters: B sentences, Nk source tokens, Nq target tokens, V words.
"""

import numpy as np

from crossattn_ref.checks.variants.masks import kept
from crossattn_ref.checks.variants.stages import flat, pairs, staged

PAD, BOS, EOS = 0, 1, 2
V = 13


class Translator:
    """A model with a known answer: of its predictions some come from the source, some from the word before.

    reads is the share of target words that it gets from the source; from the word before it gets others.
    """

    def __init__(self, rng: np.random.Generator, B: int, Nk: int, Nq: int, *, reads: float, guesses: float):
        self.lengths = 1 + rng.permutation(Nk - 1)[np.arange(B) % (Nk - 1)]
        n_words = 1 + rng.permutation(Nq - 1)[np.arange(B) % (Nq - 1)]
        self.src = np.where(np.arange(Nk) < self.lengths[:, None], rng.integers(4, V, (B, Nk)), PAD)
        self._guesses = rng.integers(4, V, V)  # what follows which word, without a look at the source
        self._reads = rng.random(Nq) < reads
        self.inputs, self.targets = np.full((B, Nq), PAD), np.full((B, Nq), PAD)
        self.inputs[:, 0] = BOS
        for t in range(Nq):
            known = self._predicted(self.src, self.lengths, self.inputs)[:, t]
            right = (rng.random(B) < guesses) | self._reads[t]
            new = np.where(right, known, rng.integers(4, V, B))
            self.targets[:, t] = np.where(t < n_words - 1, new, np.where(t == n_words - 1, EOS, PAD))
            if t + 1 < Nq:
                self.inputs[:, t + 1] = np.where(t + 1 < n_words, self.targets[:, t], PAD)

    def __call__(self, src=None, lengths=None, inputs=None):
        """Hand out the batch, or predict."""
        if src is None:
            return self.src.copy(), self.lengths.copy(), self.inputs.copy(), self.targets.copy()
        src, lengths, inputs = (np.asarray(x) for x in (src, lengths, inputs))
        if src.ndim != 2 or lengths.shape != (len(src),) or inputs.shape[:1] != lengths.shape:
            raise ValueError(f"src, lengths and inputs do not fit: {src.shape}, {lengths.shape}, {inputs.shape}")
        return 3.0 * (self._predicted(src, lengths, inputs)[..., None] == np.arange(V))

    def _predicted(self, src, lengths, inputs):
        """Predict PAD behind the end, as trained models do, and a word elsewhere."""
        total = np.where(np.arange(src.shape[1]) < lengths[:, None], src, 0).sum(axis=1) + 5 * lengths
        place = np.arange(inputs.shape[1])
        read = 4 + (total[:, None] + 3 * place) % (V - 4)
        word = np.where(self._reads[: inputs.shape[1]], read, self._guesses[inputs % V])
        return np.where(inputs == PAD, PAD, word)


def next_ones(src, lengths):
    """Give each sentence the source of the next, the last that of the first."""
    return np.roll(src, -1, axis=0), np.roll(lengths, -1)


def ones_before(src, lengths):
    return np.roll(src, 1, axis=0), np.roll(lengths, 1)


def real(targets):
    return targets != PAD


def share(hits, counts):
    return hits[counts].mean()


def measure(model, rng, *, blind=next_ones, show=kept, count=real, reduce=share, goal=lambda inputs, targets: targets,
            give=lambda own, other: (own, other)):  # fmt: skip
    """(accuracy with the own source, with another's) with any stage replaced; as it stands, the right one."""
    src, lengths, inputs, targets = model()
    wanted, counts = goal(inputs, targets), count(targets)

    def accuracy(src, lengths):
        return np.float64(reduce(model(src, lengths, show(inputs)).argmax(axis=-1) == wanted, counts))

    return give(accuracy(src, lengths), accuracy(*blind(src, lengths)))


def _sentence_means(hits, counts):
    return np.mean([row[real].mean() for row, real in zip(hits, counts, strict=True)])


def _whole_sentences(hits, counts):
    return (hits | ~counts).all(axis=1).mean()


STAGES = staged(
    measure,
    blind=(
        ("not blinded", lambda src, lengths: (src, lengths), "when the second model sees its own source",
         "What did the second call see that the first did not?"),
        ("lengths left behind", lambda src, lengths: (np.roll(src, -1, axis=0), lengths),
         "when sources move on, and their lengths do not", "How long is the source that a sentence is given?"),
        ("words shuffled", lambda src, lengths: (np.roll(src, -1, axis=1), lengths),
         "when words move within their source", "A source whose words have moved: does it still tell what it says?"),
        ("source of PAD", lambda src, lengths: (np.full_like(src, PAD), lengths), "when every source is PAD",
         "A model has never seen such a source. Whose words does the statement ask you to show?"),
        ("source of length 0", lambda src, lengths: (src, 0 * lengths), "when every source is empty",
         "A model has never seen an empty source. Whose words does the statement ask you to show?"),
        ("previous one", ones_before,
         "with the source of the sentence before", "Whose source was asked for: the next one's, or the one's before?"),
        ("one source for all", lambda src, lengths: (np.repeat(src[:1], len(src), axis=0),
         np.repeat(lengths[:1], len(src))), "with the first sentence's source for all",
         "Which sentence still sees its own source?"),
    ),
    show=(
        ("inputs moved too", lambda inputs: np.roll(inputs, -1, axis=0), "when the inputs move on as well",
         "What should the model know of the sentence that it writes?"),
        ("inputs hidden", lambda inputs: np.where(inputs == PAD, PAD, BOS), "when the words before are hidden",
         "Teacher forcing: which words does the model see on the target side?"),
    ),
    count=(
        ("padding counted", lambda targets: np.ones(targets.shape, bool), "when padding counts as a word",
         "PAD follows PAD: how hard is that to predict?"),
        ("end left out", lambda targets: real(targets) & (targets != EOS), "when EOS does not count",
         "Is the end of a sentence something to predict?"),
        ("first word only", lambda targets: np.arange(targets.shape[1]) < np.ones((len(targets), 1)),
         "when the first word of each sentence is all that counts", "How many words has a sentence?"),
    ),
    reduce=(
        ("mean of sentences", _sentence_means, "with a mean over each sentence first",
         "Does a word in a short sentence weigh more than one in a long sentence?"),
        ("whole sentences", _whole_sentences, "when a sentence counts only if all its words are right",
         "Is it the share of sentences, or of words?"),
        ("errors", lambda hits, counts: 1 - share(hits, counts), "with the share of wrong words",
         "What is the accuracy of a perfect model?"),
        ("divided by all places", lambda hits, counts: (hits & counts).mean(), "when hits are divided by all places",
         "How many words could have been right?"),
        ("percent", lambda hits, counts: 100 * share(hits, counts), "with percentages",
         "Between which numbers should a share lie?"),
    ),
    goal=(("compared with the inputs", lambda inputs, targets: inputs, "when predictions are compared with the inputs",
           "Which array holds the word that follows?"),),
    give=(
        ("exchanged", lambda own, other: (other, own), "with the two numbers in each other's places",
         "Which of the two was asked for first?"),
        ("difference", lambda own, other: (own, own - other), "with the difference in the second place",
         "Two accuracies were asked for. What did you return?"),
    ),
)  # fmt: skip

MISTAKES = flat(STAGES)


def composed():
    """Make the mistakes that two stages make together."""
    return pairs(measure, {stage: STAGES[stage] for stage in ("blind", "count")})


def _by_order(model, rng):
    src, lengths, inputs, targets = model()
    results = []
    for order in (np.arange(len(src)), np.r_[1 : len(src), 0]):
        guesses = np.argmax(model(src[order], lengths[order], inputs), axis=2)
        results.append(float(((guesses == targets) * (targets > 0)).sum() / (targets > 0).sum()))
    return tuple(results)


def _sentence_by_sentence(model, rng):
    src, lengths, inputs, targets = model()
    right = np.zeros(2)
    for b in range(len(src)):
        for which, other in enumerate((b, (b + 1) % len(src))):
            guess = model(src[other][None], lengths[[other]], inputs[b][None])[0].argmax(-1)
            right[which] += np.count_nonzero((guess == targets[b])[targets[b] != 0])
    own, blind = right / np.count_nonzero(targets)
    return own, blind


def _copied(model, rng):
    src, lengths, inputs, targets = model()
    other, other_lengths = src.copy(), lengths.copy()
    other[:-1], other[-1], other_lengths[:-1], other_lengths[-1] = src[1:], src[0], lengths[1:], lengths[0]
    own = model(src, lengths, inputs).argmax(-1)[targets != 0] == targets[targets != 0]
    blind = model(other, other_lengths, inputs).argmax(-1)[targets != 0] == targets[targets != 0]
    return np.mean(own), np.mean(blind)


ALTERNATIVES = (measure, _by_order, _sentence_by_sentence, _copied)
