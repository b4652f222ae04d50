"""What attention aligns: links read from its weights, how far they are from gold ones, and what simple methods find.

A link is a pair (source, target) of places of words, counted from 0. A sentence pair has a set of links, a corpus
a list of such sets. NumPy only.

Letters: B sentence pairs, H heads, Nq target positions, Nk source positions.
"""

import operator
from collections.abc import Hashable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import numpy as np

Links = AbstractSet[tuple[int, int]]


def alignment_error_rate(predicted: Sequence[Links], sure: Sequence[Links], possible: Sequence[Links]) -> float:
    """Tell how far predicted links are from gold ones, over a whole corpus: 0 at best, 1 at worst.

    AER = 1 - (|A & S| + |A & P|) / (|A| + |S|), where A are the predicted links, S the sure and P the possible ones,
    each counted over all sentence pairs before anything is divided.

    One set of (source, target) pairs for each sentence pair. What is sure is possible too, listed there or not.
    With nothing predicted and nothing sure in the whole corpus there is nothing to get wrong: the rate is 0.
    With one of the two empty, the formula stands: sure links of which none is found give 1, and links predicted
    where nothing is sure are wrong as far as they are not possible.

    Raises TypeError for anything but sets of pairs of integers, ValueError for lists of different lengths.
    Source: Och & Ney, A Systematic Comparison of Various Statistical Alignment Models (2003), section 5.
    """
    count = _count(predicted, sure, possible)
    total = count.predicted + count.sure
    return 1 - (count.hit_sure + count.hit_possible) / total if total else 0.0


def alignment_precision(predicted: Sequence[Links], sure: Sequence[Links], possible: Sequence[Links]) -> float:
    """Tell which share of the predicted links is possible: |A & P| / |A|, and 1 where nothing is predicted.

    Errors and source as for alignment_error_rate.
    """
    count = _count(predicted, sure, possible)
    return count.hit_possible / count.predicted if count.predicted else 1.0


def alignment_recall(predicted: Sequence[Links], sure: Sequence[Links], possible: Sequence[Links]) -> float:
    """Tell which share of the sure links is predicted: |A & S| / |S|, and 1 where nothing is sure.

    Errors and source as for alignment_error_rate.
    """
    count = _count(predicted, sure, possible)
    return count.hit_sure / count.sure if count.sure else 1.0


def links_by_class(
    predicted: Sequence[Links], possible: Sequence[Links], classes: Sequence[Sequence[str]]
) -> dict[str, float]:
    """Tell, for each class of target words, which share of the links that they were given is possible.

    classes names the class of every target word of every sentence pair: "noun", "verb", ...
    A class whose words were given no link at all does not appear.

    Raises ValueError for lists of different lengths, and for a link to a word that has no class.
    """
    _check_lengths(predicted=predicted, possible=possible, classes=classes)
    right: dict[str, list[bool]] = {}
    for found, allowed, names in zip(predicted, possible, classes, strict=True):
        for source, target in found:
            if not 0 <= target < len(names):
                raise ValueError(f"every link must lead to a word with a class ({len(names)} here), got {target}")
            right.setdefault(names[target], []).append((source, target) in allowed)
    return {name: sum(hits) / len(hits) for name, hits in sorted(right.items())}


def attention_links(
    weights: Sequence[np.ndarray],
    n_source: Sequence[int],
    n_target: Sequence[int],
    *,
    layer: int = -1,
    head: int | None = None,
    step: int = 0,
) -> list[set[tuple[int, int]]]:
    """Link every target word to the source word that it looks at most.

    weights holds one (B, H, Nq, Nk) for each decoder layer; row i is the query that writes target word i. Sentence pair
    b has n_source[b] words, the first of the keys, and n_target[b] words, the first of the rows: an end mark behind
    them takes no part. layer counts as in a list. head None averages over the heads.
    step 1 reads one row later, where word i is no longer to be written but just read: published advice for deep
    models (Chen et al., Accurate Word Alignment Induction from Neural Machine Translation, 2020, section 4).
    A sentence without source words gives no links.

    Raises ValueError for weights of another shape, for a layer or a head that does not exist, for more words than
    there are rows or keys, and for a step that reads beyond the last row.
    """
    chosen = _chosen(weights, layer, head)  # (B, Nq, Nk)
    n_rows, n_keys = chosen.shape[1:]
    _check_lengths(weights=chosen, n_source=n_source, n_target=n_target)
    links = []
    for rows, source, target in zip(chosen, n_source, n_target, strict=True):
        if not (0 <= source <= n_keys and step >= 0 and 0 <= target <= n_rows - step):
            raise ValueError(
                f"n_source ({source}) must lie within Nk ({n_keys}), and n_target ({target}) with step ({step}) "
                f"within Nq ({n_rows})"
            )
        best = rows[step : step + target, :source].argmax(axis=-1) if source else ()
        links.append({(int(place), word) for word, place in enumerate(best)})
    return links


def diagonal_links(n_source: Sequence[int], n_target: Sequence[int]) -> list[set[tuple[int, int]]]:
    """Link every target word to the source word at the same share of the way, whatever the words are: a baseline.

    The middle of target word j lies at (j + 1/2) / n_target of the sentence; it is linked to the word there.
    """
    _check_lengths(n_source=n_source, n_target=n_target)
    return [
        {((2 * j + 1) * source // (2 * target), j) for j in range(target if source else 0)}
        for source, target in zip(n_source, n_target, strict=True)
    ]


def oracle_links(sure: Sequence[Links], possible: Sequence[Links]) -> list[set[tuple[int, int]]]:
    """Give every target word one right link, a sure one where it has one: no method of one link a word does better.

    A word without a gold link gets none.
    """
    _check_lengths(sure=sure, possible=possible)
    links = []
    for certain, allowed in zip(sure, possible, strict=True):
        best = {target: source for source, target in sorted(allowed)}
        best |= {target: source for source, target in sorted(certain)}
        links.append({(source, target) for target, source in best.items()})
    return links


@dataclass(frozen=True, eq=False)
class IBMModel1:
    """Word translation probabilities, learned from sentence pairs alone: probability[source, target] is t(f | e).

    None is the empty source word, which any target word may come from.
    """

    probability: dict[tuple[Hashable, Hashable], float]

    def links(self, sources: Sequence[Sequence], targets: Sequence[Sequence]) -> list[set[tuple[int, int]]]:
        """Link every target word to the most probable source word, or to none where the empty word is as likely.

        Of equally probable words the first is taken. A word that was never seen beside these source words gets no link.
        """
        _check_lengths(sources=sources, targets=targets)
        found = []
        for source, target in zip(sources, targets, strict=True):
            best = [self._best(source, word) for word in target]
            found.append({(i, j) for j, i in enumerate(best) if i is not None})
        return found

    def _best(self, source, word):
        chances = [self.probability.get((other, word), 0.0) for other in source]
        best = max(chances, default=0.0)
        return chances.index(best) if best > self.probability.get((None, word), 0.0) else None


def ibm_model_1(
    sources: Sequence[Sequence[Hashable]], targets: Sequence[Sequence[Hashable]], *, n_rounds: int = 10
) -> IBMModel1:
    """Learn which target word comes from which source word, by expectation maximization.

    t(f | e) = c(f, e) / sum_f c(f, e), where every target word f shares one count among the source words e of its
    sentence, and the empty word, in proportion to the t(f | e) of the round before; the first is uniform.
    The likelihood has one maximum only, so that no seed decides.

    Words are of any hashable kind but None. Raises ValueError for lists of different lengths, for a corpus without
    a target word, and for n_rounds below 1.
    Source: Brown et al., The Mathematics of Statistical Machine Translation (1993), section 4.2, equations 17 and 18.
    """
    _check_lengths(sources=sources, targets=targets)
    if operator.index(n_rounds) < 1:
        raise ValueError(f"n_rounds must be at least 1, got {n_rounds}")
    pairs, pair, token = _beside(sources, targets)
    if not pairs:
        raise ValueError("targets must hold at least one word, got none")
    words = {word: number for number, word in enumerate(dict.fromkeys(source for source, _ in pairs))}
    source = np.array([words[word] for word, _ in pairs])
    chance = np.ones(len(pairs))
    for _ in range(n_rounds):
        share = chance[pair] / np.bincount(token, chance[pair])[token]
        count = np.bincount(pair, share)
        chance = count / np.bincount(source, count)[source]
    return IBMModel1(dict(zip(pairs, chance.tolist(), strict=True)))


def _beside(sources, targets):
    """Number the word pairs that stand in one sentence pair -> the pairs; each meeting's pair, and its target token."""
    numbers: dict[tuple, int] = {}
    pair, token, n_tokens = [], [], 0
    for source, target in zip(sources, targets, strict=True):
        for word in target:
            for other in (None, *source):
                pair.append(numbers.setdefault((other, word), len(numbers)))
                token.append(n_tokens)
            n_tokens += 1
    return list(numbers), np.array(pair, dtype=int), np.array(token, dtype=int)


@dataclass(frozen=True)
class _Count:
    predicted: int
    sure: int
    hit_sure: int
    hit_possible: int


def _count(predicted, sure, possible):
    """Count the links of a corpus, and those among them that are right."""
    _check_lengths(predicted=predicted, sure=sure, possible=possible)
    corpora = {"predicted": predicted, "sure": sure, "possible": possible}
    found, certain, allowed = ([_pairs(name, links) for links in corpus] for name, corpus in corpora.items())
    return _Count(
        predicted=sum(map(len, found)),
        sure=sum(map(len, certain)),
        hit_sure=sum(len(a & s) for a, s in zip(found, certain, strict=True)),
        hit_possible=sum(len(a & (s | p)) for a, s, p in zip(found, certain, allowed, strict=True)),
    )


def _pairs(name, links):
    if not isinstance(links, AbstractSet):
        raise TypeError(f"{name} must hold one set of (source, target) pairs a sentence, got a {type(links).__name__}")
    for link in links:
        if not (isinstance(link, tuple) and len(link) == 2 and all(isinstance(n, int | np.integer) for n in link)):
            raise TypeError(f"{name} must hold (source, target) pairs of integers, got {link!r}")
    return links


def _chosen(weights, layer, head):
    """Pick a layer, and a head or the mean of all -> (B, Nq, Nk)."""
    if not -len(weights) <= layer < len(weights):
        raise ValueError(f"layer ({layer}) must name one of the {len(weights)} layers")
    chosen = np.asarray(weights[layer])
    if chosen.ndim != 4:
        raise ValueError(f"the weights of a layer must have four axes, (B, H, Nq, Nk), got shape {chosen.shape}")
    if head is None:
        return chosen.mean(axis=1)
    if not -chosen.shape[1] <= head < chosen.shape[1]:
        raise ValueError(f"head ({head}) must name one of the {chosen.shape[1]} heads of layer {layer}")
    return chosen[:, head]


def _check_lengths(**lists):
    sizes = {name: len(items) for name, items in lists.items()}
    if len(set(sizes.values())) > 1:
        raise ValueError(f"there must be one item a sentence pair, got {sizes}")
