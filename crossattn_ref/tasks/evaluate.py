"""How good a translator is: what it writes beside what was wanted, and where it looks beside the gold links."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from crossattn_ref import interpret
from crossattn_ref.data.batches import bucketed, collate
from crossattn_ref.data.lexicon import word_class
from crossattn_ref.data.translation import Pair
from crossattn_ref.decode.beam import beam, gnmt
from crossattn_ref.decode.sequential import greedy
from crossattn_ref.tasks.translation import Trained

ALPHA = 0.6
ALPHAS = (0.2, 0.6, 1.0, 1.4)


def translations(
    trained: Trained, sentences: Sequence[Sequence[str]], *, width: int = 1, alpha: float = ALPHA, batch: int = 100
) -> list[list[str]]:
    """Translate sentences, rows of words, greedily or with a beam -> rows of words, at most 2 Nk + 20 tokens each.

    alpha is that of the length penalty of a beam, decode.beam.gnmt.
    """
    model, (src, tgt) = trained.model, trained.words
    device = next(model.parameters()).device
    numbers, found = [src.encode(sentence) for sentence in sentences], {}
    longest = max(map(len, numbers), default=0) + 1
    for chosen in bucketed([(0, len(row)) for row in numbers], n_tokens=batch * longest):
        batch_of = collate([(numbers[i], []) for i in chosen])
        lengths = torch.from_numpy(batch_of.src_lengths).to(device)
        limit = min(2 * batch_of.src.shape[1] + 20, model.config.n_positions)
        with torch.inference_mode():
            memory = model.encode(torch.from_numpy(batch_of.src).to(device), lengths)
            if width == 1:
                written = greedy(model, memory, lengths, max_tokens=limit)
            else:
                several = beam(model, memory, lengths, width=width, max_tokens=limit, penalty=gnmt(alpha))
                written = [best[0] for best in several]
        found |= {int(i): tgt.decode(one.tokens) for i, one in zip(chosen, written, strict=True)}
    return [found[i] for i in range(len(numbers))]


def exact_match(trained: Trained, pairs: Sequence[Pair]) -> float:
    """Tell how many of a hundred sentences are translated word for word as wanted, written greedily."""
    written = translations(trained, [pair.src for pair in pairs])
    return 100 * statistics.mean(tuple(one) == pair.tgt for one, pair in zip(written, pairs, strict=True))


@dataclass(frozen=True)
class Reading:
    """Which weights are read as an alignment: a decoder layer, and one of its heads or (None) the mean of them."""

    layer: int
    head: int | None


def links(trained: Trained, pairs: Sequence[Pair], reading: Reading) -> list[set[tuple[int, int]]]:
    """Link each target word to the source word that is looked at most while it is written (teacher forcing)."""
    return _read(_cross_weights(trained, pairs), pairs, reading)


def best_reading(trained: Trained, pairs: Sequence[Pair]) -> Reading:
    """Choose the layer and head with the lowest alignment error rate on pairs: those of the development split."""
    weights = _cross_weights(trained, pairs)
    readings = [Reading(layer, head) for layer, w in enumerate(weights) for head in (None, *range(w.shape[1]))]
    return min(readings, key=lambda reading: _error(_read(weights, pairs, reading), pairs))


def alignment_error(trained: Trained, pairs: Sequence[Pair], reading: Reading) -> float:
    """Compute the alignment error rate, in percent."""
    return 100 * _error(links(trained, pairs, reading), pairs)


def right_links(trained: Trained, pairs: Sequence[Pair], reading: Reading) -> dict[str, float]:
    """Tell, for each class of target words ("noun", "verb", ...), how many links of a hundred are possible ones."""
    classes = [[word_class(word) for word in pair.tgt] for pair in pairs]
    found = interpret.links_by_class(links(trained, pairs, reading), [pair.possible for pair in pairs], classes)
    return {name: 100 * share for name, share in found.items()}


def best_alpha(trained: Trained, pairs: Sequence[Pair], *, width: int, batch: int = 100) -> tuple[float, float]:
    """Choose, among ALPHAS, the length penalty with the highest BLEU on the development split -> (alpha, that BLEU)."""
    sources, wanted = [pair.src for pair in pairs], [pair.tgt for pair in pairs]
    found = {alpha: translations(trained, sources, width=width, alpha=alpha, batch=batch) for alpha in ALPHAS}
    scores = {alpha: bleu(written, wanted)[0] for alpha, written in found.items()}
    return max(scores.items(), key=lambda score: score[1])


def bleu(written: Sequence[Sequence[str]], wanted: Sequence[Sequence[str]]) -> tuple[float, str]:
    """Compute corpus BLEU on words as they are -> (BLEU, sacrebleu's signature, which names all its settings)."""
    from sacrebleu.metrics import BLEU

    return _score(BLEU(tokenize="none", force=True), written, wanted)


def chrf(written: Sequence[Sequence[str]], wanted: Sequence[Sequence[str]]) -> tuple[float, str]:
    """Compute corpus chrF, the F-score of runs of up to six letters -> (chrF, sacrebleu's signature).

    Source: Popovic, chrF: Character n-gram F-score for Automatic MT Evaluation (2015).
    """
    from sacrebleu.metrics import CHRF

    return _score(CHRF(), written, wanted)


def _score(metric, written, wanted):
    score = metric.corpus_score([" ".join(one) for one in written], [[" ".join(one) for one in wanted]])
    return score.score, str(metric.get_signature())


def _cross_weights(trained, pairs) -> list[np.ndarray]:
    src, tgt = trained.words
    batch = collate([(src.encode(pair.src), tgt.encode(pair.tgt)) for pair in pairs])
    rows, lengths, written = (torch.from_numpy(part) for part in (batch.src, batch.src_lengths, batch.tgt))
    with torch.inference_mode():
        weights = trained.model.cross_weights(written, trained.model.encode(rows, lengths), lengths)
    return [layer.numpy() for layer in weights]


def _read(weights, pairs, reading):
    n_source, n_target = [len(pair.src) for pair in pairs], [len(pair.tgt) for pair in pairs]
    return interpret.attention_links(weights, n_source, n_target, layer=reading.layer, head=reading.head)


def _error(found, pairs):
    return interpret.alignment_error_rate(found, [p.sure for p in pairs], [p.possible for p in pairs])
