"""Mistakes in letting a question read a picture, and right answers computed another way.

words (B, Nq, D), of which the first n_real (B,) of each question are real; patches (B, Nk, Dm); one matrix each for
queries (D, D), keys (Dm, D) and values (Dm, D). Every word adds to itself what it reads; the vector of the question
is the mean of its real words, (B, D).
"""

import numpy as np

from crossattn_ref.attention import reference
from crossattn_ref.checks.variants.stages import flat, pairs, staged


def _straight(words, patches, n_real):
    """Say who gives the queries, who the keys and values, under which mask."""
    return words, patches, patches, None


def _added(words, read):
    return words + read


def _mean_of_real(words, n_real):
    real = np.arange(words.shape[1]) < n_real[:, None]
    return (words * real[..., None]).sum(axis=1) / n_real[:, None].astype(words.dtype)


def encode(words, n_real, patches, w_query, w_key, w_value, *, wire=_straight, join=_added, pool=_mean_of_real):
    """Read a picture with a question, with any stage replaced; as it stands, the right one."""
    x, keys, values, mask = wire(words, patches, n_real)
    return pool(join(words, _attend(x @ w_query, keys @ w_key, values @ w_value, mask)), n_real)


def _attend(q, k, v, mask=None):
    """Attention in the dtype of its inputs."""
    scores = q @ k.swapaxes(-1, -2) / np.sqrt(np.asarray(q.shape[-1], q.dtype))
    if mask is not None:
        scores = np.where(mask, scores, -np.inf)
    exp = np.exp(scores - scores.max(-1, keepdims=True))
    return exp / exp.sum(-1, keepdims=True) @ v


def _words_as_wide(words, patches):
    """Give words the width of patches, by cutting or repeating columns, for wirings that would not fit otherwise."""
    return words[..., np.arange(patches.shape[-1]) % words.shape[-1]]


def _own_words(words, patches, n_real):
    own = _words_as_wide(words, patches)
    return words, own, own, (np.arange(words.shape[1]) < n_real[:, None])[:, None]


def _own_words_unmasked(words, patches, n_real):
    own = _words_as_wide(words, patches)
    return words, own, own, None


def _as_many(x, n):
    return x[:, np.arange(n) % x.shape[1]]


def _padding_as_mask(words, patches, n_real):
    """Hide of the patches as many as the question has padded words."""
    return words, patches, patches, (np.arange(patches.shape[1]) < n_real[:, None])[:, None]


def _last_real(words, n_real):
    return words[np.arange(len(words)), n_real - 1]


STAGES = staged(
    encode,
    wire=(
        ("question reads itself", _own_words, "when keys and values come from the question, not from the picture",
         "Change the picture: does the result change?"),
        ("question reads itself, padding included", _own_words_unmasked,
         "when keys and values come from the question, padding included",
         "Change the picture: does the result change?"),
        ("keys from the question", lambda w, p, n: (w, _as_many(_words_as_wide(w, p), p.shape[1]), p, None),
         "when the keys come from the question, and only the values from the picture",
         "Which side says where something is to be found?"),
        ("values from the question", lambda w, p, n: (w, p, _as_many(_words_as_wide(w, p), p.shape[1]), None),
         "when the values come from the question", "You found the patch. What did you carry away from it?"),
        ("next picture", lambda w, p, n: (w, np.roll(p, -1, 0), np.roll(p, -1, 0), None),
         "when a question reads the next question's picture", "Change the second picture: which results may move?"),
        ("first picture", lambda w, p, n: (w, np.broadcast_to(p[:1], p.shape), np.broadcast_to(p[:1], p.shape), None),
         "when every question reads the first picture", "Change the second picture: which results may move?"),
        ("padding mask on the picture", _padding_as_mask,
         "when the padding of the question hides patches of the picture",
         "A key mask is as long as the keys, and speaks of them. Which of the patches are padding?"),
        ("mean of the picture", lambda w, p, n: (w, p.mean(1, keepdims=True), p.mean(1, keepdims=True), None),
         "when only the mean of the patches is read", "With one row to read, is there anything to choose?"),
    ),
    join=(
        ("read alone", lambda words, read: read, "without the words themselves: what was read replaces them",
         'If nothing is found, must "how many" be forgotten?'),
        ("words alone", lambda words, read: words + 0 * read, "with the words alone, without what they have read",
         "Change the picture: does the result change?"),
        ("averaged", lambda words, read: (words + read) / 2, "with the mean of the word and what it has read",
         "How are the two joined in the formula?"),
        ("multiplied", lambda words, read: words * read, "with the word multiplied by what it has read",
         "How are the two joined in the formula?"),
        ("one reading for all", lambda words, read: words + read.mean(1, keepdims=True),
         "with one reading shared by all words, the padded ones included", "Does padding read the picture for others?"),
    ),
    pool=(
        ("padding in the mean", lambda words, n_real: words.mean(axis=1), "with padded words in the mean",
         "Add padding to a question: does its vector change?"),
        ("divided by the longest", lambda words, n_real: _mean_of_real(words, n_real)
         * (n_real[:, None] / words.shape[1]).astype(words.dtype),
         "when the sum of the real words is divided by the length of the longest question",
         "Add padding to a question: does its vector change?"),
        ("sum", lambda words, n_real: _mean_of_real(words, n_real) * n_real[:, None].astype(words.dtype),
         "with the sum of the words, not their mean", "A question twice as long: is its vector twice as long?"),
        ("first word", lambda words, n_real: words[:, 0], "with the first word alone",
         "Change the last word: does the result change?"),
        ("last place", lambda words, n_real: words[:, -1], "with the last place alone, padding or not",
         "What stands in the last place of a short question?"),
        ("last real word", _last_real, "with the last real word alone",
         "Change the first word: does the result change?"),
        ("maximum", lambda words, n_real: np.where(
            (np.arange(words.shape[1]) < n_real[:, None])[..., None], words, -np.inf).max(axis=1),
         "with the largest number of each column", "Which average does the formula ask for?"),
        ("not pooled", lambda words, n_real: words, "with one vector for each word, not one for the question",
         "How many axes has (B, D)?"),
        ("one word less", lambda words, n_real: _mean_of_real(words, np.maximum(n_real - 1, 1)),
         "without the last real word", "Which places are real where n_real is 3?"),
    ),
)  # fmt: skip
MISTAKES = flat(STAGES)


def composed():
    """Make the mistakes that two stages make together."""
    return pairs(encode, STAGES)


def right(words, n_real, patches, w_query, w_key, w_value):
    """Read a picture with a question, by the definition of attention."""
    read = reference.attention(words @ w_query, patches @ w_key, patches @ w_value)
    return _mean_of_real(words + read, n_real)


def _one_by_one(words, n_real, patches, w_query, w_key, w_value):
    out = []
    for question, n, picture in zip(words, n_real, patches, strict=True):
        real = question[:n]
        out.append((real + _attend(real @ w_query, picture @ w_key, picture @ w_value)).mean(axis=0))
    return np.stack(out)


def _by_einsum(words, n_real, patches, w_query, w_key, w_value):
    scores = np.einsum("bqd,de,fe,bmf->bqm", words, w_query, w_key, patches) / words.shape[-1] ** 0.5
    exp = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights = exp / exp.sum(axis=-1, keepdims=True)
    real = (np.arange(words.shape[1])[None] < n_real[:, None]) / n_real[:, None]
    return np.einsum("bq,bqd->bd", real, words) + np.einsum("bq,bqm,bmf,fd->bd", real, weights, patches, w_value)


def _padding_set_to_zero(words, n_real, patches, w_query, w_key, w_value):
    out = words + _attend(words @ w_query, patches @ w_key, patches @ w_value)
    for row, n in zip(out, n_real, strict=True):
        row[n:] = 0
    return (out.sum(axis=1) / n_real.reshape(-1, 1)).astype(np.float32)


ALTERNATIVES = (encode, _one_by_one, _by_einsum, _padding_set_to_zero)
