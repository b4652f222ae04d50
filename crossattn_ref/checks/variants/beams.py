"""Mistakes in one step of a beam search and in folding beams, and right answers computed another way.

Letters: B sentences, W continuations of one sentence, V words, H heads, Nq positions, Dk width of a query.
"""

import numpy as np

from crossattn_ref.checks.variants.masks import kept
from crossattn_ref.checks.variants.stages import flat, pairs, staged

PAD = 0


def only_pad(log_probs, finished):
    """Let a finished sentence go on by PAD alone, at no cost."""
    frozen = np.full(log_probs.shape[-1], -np.inf, log_probs.dtype)
    frozen[PAD] = 0.0
    return np.where(finished[..., None], frozen, log_probs)


def summed(scores, log_probs):
    return scores[..., None] + log_probs  # (B, W, V)


def best_of_all(totals, width):
    """Rank all continuations of a sentence -> their scores and flat places, best first."""
    candidates = totals.reshape(len(totals), -1)
    places = np.argsort(-candidates, axis=-1, kind="stable")[:, :width]
    return np.take_along_axis(candidates, places, axis=-1), places


def row_and_word(places, W, V):
    return places // V, places % V


def together(best, parents, words):
    return best, parents, words


def step(log_probs, scores, finished, width, *, freeze=only_pad, total=summed, pick=best_of_all, split=row_and_word,
         give=together):  # fmt: skip
    """One step with any stage replaced; as it stands, the right one."""
    best, places = pick(total(scores, freeze(log_probs, finished)), width)
    return give(best, *split(places, *log_probs.shape[1:]))


def _every_word_free(log_probs, finished):
    return np.where(finished[..., None], 0.0, log_probs).astype(log_probs.dtype)


def _pad_at_its_price(log_probs, finished):
    frozen = np.where(np.arange(log_probs.shape[-1]) == PAD, log_probs, -np.inf)
    return np.where(finished[..., None], frozen, log_probs)


def _dropped(log_probs, finished):
    return np.where(finished[..., None], -1e9, log_probs).astype(log_probs.dtype)


def _open_ones_frozen(log_probs, finished):
    return only_pad(log_probs, ~finished)


def _last_word_free(log_probs, finished):
    out = only_pad(log_probs, finished)
    out[finished] = np.roll(out[finished], -1, axis=-1)
    return out


def _each_its_own(totals, width):
    """Let every continuation keep its best word, and none go."""
    W, V = totals.shape[1:]
    places = totals.argmax(axis=-1) + V * np.arange(W)
    candidates = totals.reshape(len(totals), -1)
    best = np.take_along_axis(candidates, places, axis=-1)
    order = np.resize(np.argsort(-best, axis=-1), (len(totals), width)) if width > W else np.argsort(-best)[:, :width]
    return np.take_along_axis(best, order, axis=-1), np.take_along_axis(places, order, axis=-1)


def _worst(totals, width):
    best, places = best_of_all(-totals, width)
    return -best, places


def _upside_down(totals, width):
    return tuple(x[:, ::-1] for x in best_of_all(totals, width))


def _as_they_lie(totals, width):
    best, places = best_of_all(totals, width)
    order = np.argsort(places, axis=-1)
    return np.take_along_axis(best, order, axis=-1), np.take_along_axis(places, order, axis=-1)


def _as_wide_as_before(totals, width):
    return best_of_all(totals, totals.shape[1])


def _first_row_only(totals, width):
    return best_of_all(totals[:, :1], width)


def _best_row_only(totals, width):
    top = totals.max(axis=-1, keepdims=True)
    return best_of_all(np.where(top == top.max(axis=1, keepdims=True), totals, totals - 1e6), width)


def _mean(scores, log_probs):
    return (scores[..., None] + log_probs) / 2


STEP_STAGES = staged(
    step,
    freeze=(
        ("finished sentences go on", lambda log_probs, finished: log_probs,
         "when a finished sentence is continued like any other",
         "A sentence has ended. Which words may still come, and what do they cost?"),
        ("every word free", _every_word_free, "when a finished sentence goes on by every word at no cost",
         "How many copies of one finished sentence may the beam hold?"),
        ("PAD at its price", _pad_at_its_price, "when a finished sentence pays for its padding",
         "Does a sentence become less likely by waiting for others?"),
        ("finished sentences dropped", _dropped, "when a finished sentence falls out of the beam",
         "Where is the best translation, once it has ended?"),
        ("open ones frozen", _open_ones_frozen, "with the flags turned round: open sentences are frozen",
         "What does True mean in finished?"),
        ("last word free", _last_word_free, "when a finished sentence goes on by the last word, not by PAD",
         "Which number is PAD?"),
    ),
    total=(
        ("scores forgotten", lambda s, lp: lp + 0 * s[..., None], "without the scores so far",
         "A sentence of five words: whose probability is its score?"),
        ("multiplied", lambda s, lp: s[..., None] * lp, "with log probabilities multiplied",
         "Probabilities multiply. What do their logarithms do?"),
        ("subtracted", lambda s, lp: s[..., None] - lp, "with the new log probability taken off",
         "May a sentence become more probable by growing?"),
        ("averaged", _mean, "with the mean of old and new score",
         "Is the score a sum over all words, or a mean?"),
        ("probabilities", lambda s, lp: s[..., None] + np.exp(lp), "when probabilities are added to log probabilities",
         "What is the logarithm of a product?"),
        ("first score for all", lambda s, lp: s[:, :1, None] + lp, "with the first continuation's score for all",
         "Has each continuation a score of its own?"),
    ),
    pick=(
        ("each keeps its best", _each_its_own, "when every continuation keeps its one best word",
         "May two of the best continuations have the same parent, and a third have none?"),
        ("worst", _worst, "with the worst continuations", "Is a log probability of -1 better than one of -5?"),
        ("worst first", _upside_down, "with the best continuation last", "In which order were they asked for?"),
        ("not in order", _as_they_lie, "with the right continuations in the order in which they lie",
         "In which order were they asked for?"),
        ("width ignored", _as_wide_as_before, "with as many continuations as came in",
         "How many are to go on: W, or width?"),
        ("first row only", _first_row_only, "when only the first continuation goes on",
         "May the best continuation come from the second row?"),
        ("best row only", _best_row_only, "when all come from the row with the best one",
         "May two rows each have one among the best?"),
    ),
    split=(
        ("divided by W", lambda p, W, V: (p // W, p % W), "when a flat place is divided by W, not by V",
         "Row r, word v: at which flat place of W rows of V words do they lie?"),
        ("parent and word exchanged", lambda p, W, V: (p % V, p // V), "with parent and word in each other's places",
         "Which of the two can be at most W - 1?"),
        ("flat words", lambda p, W, V: (p // V, p), "with flat places in the place of words",
         "Which numbers can a word have?"),
        ("parents by remainder", lambda p, W, V: (p % W, p % V), "with the parent as a remainder",
         "Row r, word v: at which flat place of W rows of V words do they lie?"),
        ("no parent moves", lambda p, W, V: (np.broadcast_to(np.arange(p.shape[1]), p.shape) + 0 * p, p % V),
         "when continuation i is taken to come from row i", "May two continuations have the same parent?"),
        ("rows of the batch", lambda p, W, V: (p // V + W * np.arange(len(p))[:, None], p % V),
         "with parents counted through the whole batch", "Are rows counted from 0 in each sentence?"),
    ),
    give=(
        ("another order", lambda best, parents, words: (best, words, parents), "with words before parents",
         "In which order were the three asked for?"),
        ("probabilities returned", lambda best, parents, words: (np.exp(best), parents, words),
         "with probabilities in place of log probabilities", "What goes into the next step as scores?"),
    ),
)  # fmt: skip

STEP = tuple(m for m in flat(STEP_STAGES) if m.name != "another order")


def step_pairs():
    """Make the mistakes that two stages make together."""
    return pairs(step, {stage: STEP_STAGES[stage] for stage in ("freeze", "total")})


def _partitioned(log_probs, scores, finished, width):
    totals = (scores[..., None] + only_pad(log_probs, finished)).reshape(len(scores), -1)
    some = np.argpartition(-totals, width - 1, axis=-1)[:, :width]
    values = np.take_along_axis(totals, some, axis=-1)
    order = np.argsort(-values, axis=-1)
    places = np.take_along_axis(some, order, axis=-1)
    parents, words = np.divmod(places, log_probs.shape[-1])
    return np.take_along_axis(values, order, axis=-1), parents, words


def _sorted_lists(log_probs, scores, finished, width):
    results = []
    for b, row in enumerate(log_probs):
        candidates = []
        for r, words in enumerate(row):
            if finished[b, r]:
                candidates.append((scores[b, r], r, 0))
            else:
                candidates += [(scores[b, r] + words[v], r, v) for v in range(len(words))]
        results.append(sorted(candidates, key=lambda candidate: -candidate[0])[:width])
    best, parents, words = (np.array([[c[i] for c in row] for row in results]) for i in range(3))
    return best, parents.astype(np.int32), words.astype(np.int32)


def _one_by_one(log_probs, scores, finished, width):
    totals = summed(scores, only_pad(log_probs, finished)).reshape(len(scores), -1).astype(np.float32)
    found = []
    for _ in range(width):
        place = totals.argmax(axis=-1)
        found.append((totals[np.arange(len(totals)), place], place))
        totals[np.arange(len(totals)), place] = -np.inf
    places = np.stack([place for _, place in found], axis=1)
    return np.stack([best for best, _ in found], axis=1), places // log_probs.shape[-1], places % log_probs.shape[-1]


STEP_ALTERNATIVES = (step, _partitioned, _sorted_lists, _one_by_one)


def beams_inside(q, width):
    """(B * W, H, Nq, Dk) -> (B, W, H, Nq, Dk): row i belongs to sentence i // W."""
    return q.reshape(-1, width, *q.shape[1:])


def beam_after_beam(q):
    """(B, W, H, Nq, Dk) -> (B, H, W * Nq, Dk)."""
    B, W, H, Nq, Dk = q.shape
    return q.swapaxes(1, 2).reshape(B, H, W * Nq, Dk)


def fold(q, width, *, part=beams_inside, join=beam_after_beam):
    """Beams as queries of one sentence, with either stage replaced; as it stands, the right one."""
    return join(part(q, width))


def _join_without_swap(q):
    B, W, H, Nq, Dk = q.shape
    return q.reshape(B, H, W * Nq, Dk)


def _position_after_position(q):
    B, W, H, Nq, Dk = q.shape
    return q.transpose(0, 2, 3, 1, 4).reshape(B, H, Nq * W, Dk)


FOLD_STAGES = staged(
    fold,
    part=(
        ("beams of other sentences", lambda q, W: q.reshape(W, -1, *q.shape[1:]).swapaxes(0, 1),
         "when row i is taken to belong to sentence i % B",
         "Rows 0, 1, 2 of width 3: are they one sentence, or three?"),
        ("B for W", lambda q, W: q.reshape(W, -1, *q.shape[1:]), "with B and W in each other's places",
         "How many sentences are there in B * W rows?"),
        ("beams reversed", lambda q, W: beams_inside(q, W)[:, ::-1], "with the beams in reverse order",
         "Which beam's queries come first?"),
        ("first beam for all", lambda q, W: np.repeat(beams_inside(q, W)[:, :1], W, axis=1),
         "with the first beam's queries for every beam", "Do two beams ask the same?"),
    ),
    join=(
        ("heads not moved", _join_without_swap, "when beams and heads are not swapped before they are joined",
         "reshape re-cuts memory: which two axes must lie side by side before you join them?"),
        ("position after position", _position_after_position,
         "with the beams of one position side by side", "Which comes first, the second position or the second beam?"),
        ("beams as heads", lambda q: q.reshape(len(q), -1, *q.shape[3:]), "with the beams among the heads",
         "The memory has keys for H heads. How many heads do your queries have?"),
        ("five axes", kept, "with the beams on an axis of their own", "How many axes have the keys?"),
        ("averaged", lambda q: q.mean(axis=1), "with the beams averaged", "How many queries has each sentence now?"),
        ("heads last", lambda q: beam_after_beam(q).swapaxes(1, 2), "with heads and queries in each other's places",
         "Which axis of the keys counts the heads?"),
    ),
)  # fmt: skip

FOLD = flat(FOLD_STAGES)


def _concatenated(q, width):
    return np.concatenate([q[i::width] for i in range(width)], axis=2)


def _fold_by_einsum(q, width):
    BW, H, Nq, Dk = q.shape
    return np.einsum("bwhnd->bhwnd", q.reshape(BW // width, width, H, Nq, Dk)).reshape(BW // width, H, -1, Dk)


def _row_by_row(q, width):
    BW, H, Nq, Dk = q.shape
    out = np.empty((BW // width, H, width * Nq, Dk), q.dtype)
    for row in range(BW):
        b, w = divmod(row, width)
        out[b, :, w * Nq : (w + 1) * Nq] = q[row]
    return out


def _fold_in_float32(q, width):
    return fold(q.astype(np.float32), width)


FOLD_ALTERNATIVES = (fold, _concatenated, _fold_by_einsum, _row_by_row, _fold_in_float32)
