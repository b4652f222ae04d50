"""Mistakes in the pointing game, and right answers computed another way.

weights (B, Nq, Nk): how each word looks at the patches. regions (B, Nq, Nk), boolean: the patches that the word names,
none for a word that names nothing. Counted are the words that name something: the share whose largest weight lies in
their region. Without any such word the result is 0.
"""

import numpy as np

from crossattn_ref.checks.variants.stages import flat, pairs, staged


def _largest(weights):
    return weights.argmax(axis=-1)


def _inside(best, weights, regions):
    return np.take_along_axis(regions, best[..., None], axis=-1)[..., 0]


def _naming(regions):
    return regions.any(axis=-1)


def _share(hits, counted):
    return float(hits[counted].mean()) if counted.any() else 0.0


def play(weights, regions, *, point=_largest, hit=_inside, count=_naming, share=_share):
    """Play the pointing game with any stage replaced; as it stands, the right one."""
    return share(np.asarray(hit(point(weights), weights, regions), float), count(regions))


def _mass(best, weights, regions):
    return (weights * regions).sum(axis=-1)


def _intersection_over_union(best, weights, regions):
    looked = weights >= weights.max(axis=-1, keepdims=True) / 2
    union = (looked | regions).sum(axis=-1)
    return (looked & regions).sum(axis=-1) / np.maximum(union, 1)


def _over_words(weights):
    """For each word, a patch that looks the most at ... the words: the maximum along the wrong axis."""
    best = weights.argmax(axis=-2)  # (B, Nk): for each patch the word
    return np.take_along_axis(best, np.arange(weights.shape[-2])[None] % best.shape[-1], axis=-1) % weights.shape[-1]


def _by_caption(hits, counted):
    shares = [h[c].mean() for h, c in zip(hits, counted, strict=True) if c.any()]
    return float(np.mean(shares)) if shares else 0.0


def _word_before(best, weights, regions):
    return _inside(np.roll(best, 1, axis=1), weights, regions)


def _word_after(best, weights, regions):
    return _inside(np.roll(best, -1, axis=1), weights, regions)


STAGES = staged(
    play,
    point=(
        ("[CLS] counted", lambda w: (w.argmax(-1) + 1) % w.shape[-1],
         "with patches counted from 1: every map is shifted by one place",
         "A map that still holds the [CLS] token has one column more than patches. Which patch is your column 0?"),
        ("shifted back", lambda w: (w.argmax(-1) - 1) % w.shape[-1], "with every map shifted back by one patch",
         "Which patch is column 0?"),
        ("smallest weight", lambda w: w.argmin(-1), "with the smallest weight of each row",
         "Where does a word look?"),
        ("mean of all words", lambda w: np.broadcast_to(w.mean(-2).argmax(-1)[:, None], w.shape[:2]),
         "with one map for the whole caption", "Do two words look at the same place?"),
        ("wrong axis", _over_words, "with the largest weight of each column, not of each row",
         "Rows are queries. Along which axis does one word share out its attention?"),
        ("first picture for all", lambda w: np.broadcast_to(w[:1].argmax(-1), w.shape[:2]),
         "with the maps of the first picture for all pictures", "Which axis counts the pictures?"),
    ),
    hit=(
        ("mass", _mass, "with the attention that falls into the region, not with where most of it goes",
         "Pointing is with one finger. How many patches does a word point at?"),
        ("more than half", lambda best, w, regions: (w * regions).sum(-1) > 0.5,
         "when more than half of the attention must lie in the region",
         "The largest of 16 weights may be 0.2. Does the word point there?"),
        ("overlap", _intersection_over_union, "with the overlap of what was looked at and the region",
         "Pointing is with one finger. How many patches does a word point at?"),
        ("first patch of the region", lambda best, w, regions: best == regions.argmax(-1),
         "when only the first patch of a region counts", "A region may have several patches. Which of them are right?"),
        ("row before", _word_before, "with the map of the word before",
         "Row i of the weights belongs to word i of the regions. Which row did you take for word 1?"),
        ("row after", _word_after, "with the map of the word after",
         "Row i of the weights belongs to word i of the regions. Which row did you take for word 1?"),
        ("misses counted", lambda best, w, regions: ~_inside(best, w, regions), "with the share of misses",
         "A word that points into its region: is it a 0 or a 1?"),
    ),
    count=(
        ("all words", lambda regions: np.ones(regions.shape[:2], bool),
         'when words that name nothing count as misses: an "and" can never be right',
         'Where should "and" look?'),
        ("first word of each caption", lambda regions: regions.any(-1) & (np.cumsum(regions.any(-1), 1) == 1),
         "when only the first word that names something counts", "Which words take part in the game?"),
        ("single patches only", lambda regions: regions.sum(-1) == 1, "when only regions of one patch count",
         "A region may have several patches. Does the word take part?"),
        ("first caption only", lambda regions: regions.any(-1) & (np.arange(len(regions)) == 0)[:, None],
         "when only the first caption counts", "Which axis counts the captions?"),
    ),
    share=(
        ("mean over captions", _by_caption, "with a mean of the captions' shares, not of words",
         "A caption of two words and one of ten: does a word of the first count five times as much?"),
        ("percent", lambda hits, counted: 100 * _share(hits, counted), "with percent in the place of a share",
         "Between which two numbers must the result lie?"),
        ("number of hits", lambda hits, counted: float(hits[counted].sum()), "with a number of hits, not a share",
         "Between which two numbers must the result lie?"),
        ("words that name nothing are right", lambda hits, counted: float(np.where(counted, hits, 1.0).mean()),
         "when words that name nothing count as hits", "Do words that name nothing take part in the game?"),
        ("NaN for nothing", lambda hits, counted: float(np.mean(hits[counted])) if counted.any() else float("nan"),
         "with NaN where no word names anything",
         "Without a word that names something, what did the exercise ask for?"),
        ("one for nothing", lambda hits, counted: _share(hits, counted) if counted.any() else 1.0,
         "with 1 where no word names anything", "Without a word that names something, what did the exercise ask for?"),
    ),
)  # fmt: skip
MISTAKES = flat(STAGES)


def composed():
    """Make the mistakes that two stages make together."""
    return pairs(play, {name: STAGES[name] for name in ("point", "count", "share")})


def _word_by_word(weights, regions):
    hits = asked = 0
    for picture, wanted in zip(weights, regions, strict=True):
        for row, region in zip(picture, wanted, strict=True):
            if region.any():
                asked += 1
                hits += region[np.argmax(row)]
    return hits / asked if asked else 0.0


def _by_the_best_inside(weights, regions):
    inside = np.where(regions, weights, -np.inf).max(axis=-1)
    outside = np.where(regions, -np.inf, weights).max(axis=-1)
    named = regions.sum(axis=-1) > 0
    return np.float64((inside > outside)[named].sum() / max(named.sum(), 1))


def _by_one_hot(weights, regions):
    finger = np.eye(weights.shape[-1])[weights.argmax(-1)]
    named = np.einsum("bqk->bq", regions.astype(int)) > 0
    return float((finger * regions).sum() / named.sum()) if named.any() else 0.0


ALTERNATIVES = (_word_by_word, _by_the_best_inside, _by_one_hot)
