"""Mistakes in the alignment error rate, and right answers computed another way.

The rate is made in three stages: what is possible, the counts, and the formula.

Letters: B sentence pairs, Nq target words, Nk source words. True = linked.
"""

import numpy as np

from crossattn_ref.checks.report import Misconception
from crossattn_ref.checks.variants.stages import flat, pairs, staged


def either(sure, possible):
    return sure | possible


def over_the_corpus(predicted, sure, possible):
    """|A|, |S|, |A & S|, |A & P|"""
    return tuple(int(links.sum()) for links in (predicted, sure, predicted & sure, predicted & possible))


def rate_of(a, s, hit_sure, hit_possible):
    return 1 - (hit_sure + hit_possible) / (a + s) if a + s else 0.0


def rate(predicted, sure, possible, *, allow=either, count=over_the_corpus, formula=rate_of):
    """The rate with any stage replaced; as it stands, the right one."""
    return np.float64(formula(*count(predicted, sure, allow(sure, possible))))


def _mean_of_sentence_pairs(predicted, sure, possible):
    each = zip(predicted, sure, either(sure, possible), strict=True)
    return np.float64(np.mean([rate_of(*over_the_corpus(*one)) for one in each]))


STAGES = staged(
    rate,
    allow=(
        ("sure not possible", lambda s, p: p, "when a sure link counts as possible only if it is listed there too",
         "Is a link that is sure also possible?"),
        ("possible without sure", lambda s, p: p & ~s, "when sure links are taken out of the possible ones",
         "Is a link that is sure also possible?"),
        ("sure only", lambda s, p: s, "when possible links are not looked at",
         "What does a merely possible link earn?"),
        ("both needed", lambda s, p: s & p, "when a link must be sure and possible at once",
         "Is a link that is sure also possible?"),
    ),
    count=(
        ("possible for sure", lambda a, s, p: over_the_corpus(a, p, p), "when possible links are counted as sure",
         "Must every possible link be found?"),
        ("wrong links forgotten", lambda a, s, p: over_the_corpus(a & p, s, p),
         "when links that are not even possible are left out", "Who pays for a link that nobody thinks possible?"),
        ("words, not links", lambda a, s, p: over_the_corpus(*(x.any(axis=-1) for x in (a, s, p))),
         "when linked target words are counted, not links", "May a word have two links?"),
        ("first sentence only", lambda a, s, p: over_the_corpus(a[:1], s[:1], p[:1]),
         "with the first sentence pair alone", "How many sentence pairs has the corpus?"),
        ("all places", lambda a, s, p: (a.size, s.size, *over_the_corpus(a, s, p)[2:]),
         "when all places are counted, not the links", "How many links does a map of 3 by 4 hold?"),
    ),
    formula=(
        ("agreement", lambda a, s, hs, hp: (hs + hp) / (a + s) if a + s else 1.0, "when agreement is returned",
         "What is the rate of a perfect alignment?"),
        ("precision", lambda a, s, hs, hp: 1 - hp / a if a else 0.0, "when missing links do not count",
         "Predict a single link, and a right one. Is the alignment perfect?"),
        ("recall", lambda a, s, hs, hp: 1 - hs / s if s else 0.0, "when wrong links do not count",
         "Predict every link there is. Is the alignment perfect?"),
        ("mean of precision and recall", lambda a, s, hs, hp: 1 - (hp / a + hs / s) / 2 if a and s else
         float(a + s > 0), "with the mean of precision and recall",
         "Which counts stand above the fraction bar, and which below it?"),
        ("F-measure of the two", lambda a, s, hs, hp: 1 - 2 * hp * hs / (hp * s + hs * a) if hp * s + hs * a else
         float(a + s > 0), "with the harmonic mean of precision and recall",
         "Which counts stand above the fraction bar, and which below it?"),
        ("possible hits twice", lambda a, s, hs, hp: 1 - 2 * hp / (a + s) if a + s else 0.0,
         "when possible hits count twice", "May the rate be negative?"),
        ("union", lambda a, s, hs, hp: 1 - hs / (a + s - hs) if a + s else 0.0, "with intersection over union",
         "Which counts stand above the fraction bar, and which below it?"),
        ("nothing of nothing", lambda a, s, hs, hp: 1 - np.float64(hs + hp) / np.float64(a + s),
         "when 0 is divided by 0 where nothing is predicted and nothing is sure",
         "With nothing to find and nothing found, what went wrong?"),
        ("nothing is an error", lambda a, s, hs, hp: rate_of(a, s, hs, hp) if a + s else 1.0,
         "when a corpus without links has the rate 1", "With nothing to find and nothing found, what went wrong?"),
        ("nothing predicted, no error", lambda a, s, hs, hp: rate_of(a, s, hs, hp) if a and s else 0.0,
         "when predicting nothing is no error", "Predict no link at all. How many sure ones are missing?"),
        ("percent", lambda a, s, hs, hp: 100 * rate_of(a, s, hs, hp), "with percentages",
         "Between which numbers should it lie?"),
    ),
)  # fmt: skip


MISTAKES = (
    *flat(STAGES),
    Misconception("mean of sentence pairs", _mean_of_sentence_pairs,
                  "when the rates of the sentence pairs are averaged",
                  "Does a link in a short sentence weigh more than one in a long sentence?"),
)  # fmt: skip


def composed():
    """Make the mistakes that two stages make together."""
    return pairs(rate, {stage: STAGES[stage] for stage in ("allow", "count")})


def _by_sets(predicted, sure, possible):
    a, s, p = ({tuple(place) for place in np.argwhere(x).tolist()} for x in (predicted, sure, possible))
    if not a and not s:
        return 0.0
    return 1 - (len(a & s) + len(a & (s | p))) / (len(a) + len(s))


def _by_loops(predicted, sure, possible):
    hits = n = 0
    for place in np.ndindex(predicted.shape):
        n += int(predicted[place]) + int(sure[place])
        hits += int(predicted[place] and sure[place]) + int(predicted[place] and (sure[place] or possible[place]))
    return np.float32(1 - hits / n) if n else 0.0


def _by_products(predicted, sure, possible):
    a, s, p = (x.astype(float).ravel() for x in (predicted, sure, np.maximum(sure, possible)))
    return 1 - (a @ s + a @ p) / max(a.sum() + s.sum(), 1) if a.any() or s.any() else np.float64(0)


def _by_misses(predicted, sure, possible):
    """Count what is missing and what is wrong."""
    missing = np.count_nonzero(sure & ~predicted)
    wrong = np.count_nonzero(predicted & ~sure & ~possible)
    all_of_them = np.count_nonzero(predicted) + np.count_nonzero(sure)
    return float(missing + wrong) / all_of_them if all_of_them else 0.0


ALTERNATIVES = (rate, _by_sets, _by_loops, _by_products, _by_misses)
