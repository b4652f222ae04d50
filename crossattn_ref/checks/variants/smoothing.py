"""Mistakes in the loss of a translator, and right answers computed another way. Each keeps the dtype given.

The loss is made in four stages: log probabilities, the price of each token, which tokens count, and their mean.

Letters: B sentences, N tokens, V words.
"""

import numpy as np

from crossattn_ref.checks.variants.softmax import naive
from crossattn_ref.checks.variants.stages import flat, pairs, staged

PAD = 0


def log_softmax(logits):
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def right_ones(log_probs, targets):
    return np.take_along_axis(log_probs, targets[..., None], axis=-1)[..., 0]


def smoothed(log_probs, targets, smoothing):
    smoothing = log_probs.dtype.type(smoothing)
    return -(1 - smoothing) * right_ones(log_probs, targets) - smoothing * log_probs.mean(axis=-1)


def real(targets):
    return targets != PAD


def token_mean(prices, counts):
    return (prices * counts).sum() / counts.sum()


def loss(logits, targets, smoothing, *, log=log_softmax, price=smoothed, count=real, reduce=token_mean):
    """The loss with any stage replaced; as it stands, the right one."""
    log_probs = log(logits)
    return logits.dtype.type(reduce(price(log_probs, targets, smoothing), count(targets)))


def _among_the_others(log_probs, targets, smoothing):
    """Share the smoothing among all words but the right one."""
    right = right_ones(log_probs, targets)
    others = (log_probs.sum(axis=-1) - right) / (log_probs.shape[-1] - 1)
    return -(1 - smoothing) * right - smoothing * others


def _without_pad(log_probs, targets, smoothing):
    return -(1 - smoothing) * right_ones(log_probs, targets) - smoothing * log_probs[..., 1:].mean(axis=-1)


def _first_real(targets):
    return np.cumsum(real(targets), axis=-1) == 1


def _whole_batch(prices, counts):
    return (prices * counts).sum() / counts.size


def _mean_of_sentences(prices, counts):
    return ((prices * counts).sum(axis=-1) / np.maximum(counts.sum(axis=-1), 1)).mean()


STAGES = staged(
    loss,
    log=(
        ("no maximum taken off", lambda x: np.log(naive(x)), "when exp is taken of scores as they are",
         "What is exp of 1,000?"),
        ("log of the scores", lambda x: x, "when scores are taken for log probabilities",
         "Do the probabilities sum to one?"),
        ("probabilities", lambda x: np.exp(log_softmax(x)), "with probabilities in place of their logarithms",
         "What is the cross-entropy of a word with probability 1?"),
        ("base 2", lambda x: log_softmax(x) / np.log(np.asarray(2, x.dtype)), "with logarithms to base 2",
         "Is the loss counted in bits or in nats?"),
        ("softmax over positions", lambda x: log_softmax(x.swapaxes(-1, -2)).swapaxes(-1, -2),
         "with the softmax along the positions", "Which axis counts the words that compete?"),
        ("one softmax for the batch", lambda x: log_softmax(x.reshape(1, -1)).reshape(x.shape),
         "with one softmax over the whole batch", "Do the probabilities of one position sum to one?"),
    ),
    price=(
        ("no smoothing", lambda lp, t, s: -right_ones(lp, t), "without smoothing",
         "Does your result depend on the smoothing?"),
        ("shared among the others", _among_the_others, "when the right word gets no part of the smoothing",
         "The smoothing is spread over V words. Is the right one among them?"),
        ("PAD left out", _without_pad, "when the smoothing leaves PAD out", "Over how many words is the mean taken?"),
        ("exchanged", lambda lp, t, s: smoothed(lp, t, 1 - s), "with the two shares exchanged",
         "With a smoothing of 0.1, which term weighs 0.9?"),
        ("on top", lambda lp, t, s: -right_ones(lp, t) - s * lp.mean(-1), "when the smoothing is added on top",
         "What do the target's shares sum to?"),
        ("summed", lambda lp, t, s: -(1 - s) * right_ones(lp, t) - s * lp.sum(-1),
         "with a sum over the words in place of a mean", "What do the target's shares sum to?"),
        ("taken off", lambda lp, t, s: -(1 - s) * right_ones(lp, t) + s * lp.mean(-1),
         "when the smoothing is taken off, not added", "Should a confident model pay more with smoothing, or less?"),
        ("only scaled", lambda lp, t, s: -(1 - s) * right_ones(lp, t), "when the share that is given away is lost",
         "Who gets the share that the right word gave away?"),
        ("sign", lambda lp, t, s: -smoothed(lp, t, s), "with the sign turned round",
         "Is a loss that falls below 0 without end a good one?"),
        ("first word for all", lambda lp, t, s: smoothed(lp, np.broadcast_to(t[:, :1], t.shape), s),
         "with the first target for every position", "Which word is predicted at the second position?"),
        ("shifted once more", lambda lp, t, s: smoothed(lp, np.roll(t, -1, axis=-1), s),
         "with the targets shifted once more", "The targets are shifted already. Which column belongs to column 0?"),
    ),
    count=(
        ("padding counted", lambda t: np.ones(t.shape, bool), "when padding counts as a word",
         "A model that predicts PAD after the end: how good is its translation?"),
        ("real words left out", lambda t: t == PAD, "when padding alone counts", "Which tokens are real?"),
        ("first word only", _first_real, "when one word of each sentence counts", "How many words has a sentence?"),
        ("end left out", lambda t: real(t) & (t != 2), "when EOS does not count", "Must the model learn when to stop?"),
        ("last column left out", lambda t: real(t) & (np.arange(t.shape[-1]) < t.shape[-1] - 1),
         "without the last column", "How many columns have targets?"),
    ),
    reduce=(
        ("sum", lambda p, c: (p * c).sum(), "with a sum in place of a mean",
         "Does a batch twice as large have twice the loss?"),
        ("divided by all places", _whole_batch, "when the sum over real tokens is divided by all places",
         "How does the loss change when the batch is padded by one more column?"),
        ("mean of sentences", _mean_of_sentences, "with a mean over each sentence first",
         "Does a word in a short sentence weigh more than one in a long sentence?"),
        ("divided by sentences", lambda p, c: (p * c).sum() / len(p), "when the sum is divided by the sentences",
         "Is the price one of a word, or of a sentence?"),
        ("largest", lambda p, c: np.where(c, p, 0).max(), "with the largest price",
         "Is it a mean over the words, or the worst of them?"),
    ),
)  # fmt: skip

MISTAKES = flat(STAGES)


def composed():
    """Make the mistakes that two stages make together."""
    return pairs(loss, {stage: STAGES[stage] for stage in ("price", "count")})


def _from_shares(logits, targets, smoothing):
    V = logits.shape[-1]
    shares = (1 - smoothing) * np.eye(V)[targets] + smoothing / V
    top = logits.max(axis=-1, keepdims=True)
    log_probs = logits - top - np.log(np.exp(logits - top).sum(axis=-1, keepdims=True))
    prices = -(shares * log_probs).sum(axis=-1)
    return prices[targets != PAD].mean()


def _loops(logits, targets, smoothing):
    total, n = 0.0, 0
    for b, i in np.ndindex(targets.shape):
        if targets[b, i] == PAD:
            continue
        row = logits[b, i].astype(np.float64)
        log_total = row.max() + np.log(np.exp(row - row.max()).sum())
        total += log_total - (1 - smoothing) * row[targets[b, i]] - smoothing * row.mean()
        n += 1
    return float(total / n)


def _chosen_first(logits, targets, smoothing):
    rows, words = logits[targets > 0], targets[targets > 0]
    logsumexp = np.logaddexp.reduce(rows, axis=-1)
    right = rows[np.arange(len(rows)), words]
    return np.average(logsumexp - (1 - smoothing) * right - smoothing * rows.mean(axis=-1))


def _in_float32(logits, targets, smoothing):
    return loss(logits.astype(np.float32), targets, smoothing)


ALTERNATIVES = (loss, _from_shares, _loops, _chosen_first, _in_float32)
