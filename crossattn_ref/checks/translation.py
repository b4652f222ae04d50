"""Exercises of the assignment "translation" that need NumPy alone: batches, the loss, and three measurements.

Letters: B sentences, N tokens, Nk source tokens, Nq target tokens, V words.
"""

import numpy as np

from crossattn_ref.checks.compare import Violation, insist, unmoved
from crossattn_ref.checks.draw import normal, read_only, sizes
from crossattn_ref.checks.exercise import Exercise, Property
from crossattn_ref.checks.variants import alignment, batch_tests, blind, collate, smoothing, translators


def _named(sentences):
    return {f"sentence_{b}": words for b, words in enumerate(sentences)}


def _words(rng, *lengths):
    return _named([rng.integers(4, 30, n) for n in lengths])


def _ragged(ask, rng):
    B, n = sizes(rng, 2, low=4, high=8)
    ask.matches(**_words(rng, *(1 + rng.permutation(n + B)[:B])))
    ask.matches(**_words(rng, n, n + 3, n + 2, n - 1, n + 1))


def _as_many_words_as_sentences(ask, rng):
    n = sizes(rng, 1, low=4, high=6)[0]
    ask.matches(**_words(rng, *(2 + rng.permutation(n - 2)), n - 1, 1))
    ask.matches(**_words(rng, *[n] * (n + 1)))


def _empty_sentence(ask, rng):
    ask.matches(**_words(rng, 3, 0, 4))
    ask.matches(**_words(rng, 5))
    ask.matches(**_words(rng, 0))


def _sentences_kept(ask, rng):
    case = _words(rng, 3, 5, 2)
    ask.matches(**dict(zip(case, read_only(*case.values()), strict=True)))


def _whole_numbers(_, value):
    """What counts beside the numbers: whether they are integers."""
    return value if not isinstance(value, tuple) else tuple((np.asarray(x).dtype.kind, x) for x in value)


def _losses(rng, *, square=False, scale=1.0):
    B, N, V = (5, 5, 5) if square else sizes(rng, 3, low=4, high=9)
    n_real = 1 + rng.permutation(N)[np.arange(B) % N]
    n_real[:2] = N, 1
    targets = np.where(np.arange(N) < n_real[:, None], rng.integers(2, V, (B, N)), smoothing.PAD)
    targets[np.arange(B), n_real - 1] = 2
    targets[0, 0] = V - 1
    return {"logits": scale * normal(rng, B, N, V), "targets": targets, "smoothing": 0.1}


def _loss_values(ask, rng):
    ask.matches(**_losses(rng))
    ask.matches(**{**_losses(rng), "smoothing": 0.3})


def _loss_square(ask, rng):
    ask.matches(**_losses(rng, square=True))


def _loss_plain(ask, rng):
    ask.matches(**{**_losses(rng), "smoothing": 0.0})


def _loss_large(ask, rng):
    ask.matches(**_losses(rng, scale=1000.0))
    case = _losses(rng, scale=200.0)
    case["logits"] = case["logits"].astype(np.float32)
    right = smoothing.loss(case["logits"].astype(np.float64), case["targets"], case["smoothing"])
    # One number shows by chance how little rounding there was, so it cannot say how much is to be forgiven.
    unmoved(right, _scalar(ask, case), "large logits in float32 give another loss", case)


def _scalar(ask, case):
    value = ask.call(**case)
    return insist(np.float64(value) if isinstance(value, float) else value, (), case)


def _loss_padding(ask, rng):
    case = _losses(rng)
    hidden = (case["targets"] == smoothing.PAD)[..., None]
    other = {**case, "logits": np.where(hidden, normal(rng, *case["logits"].shape), case["logits"])}
    unmoved(_scalar(ask, case), _scalar(ask, other), "with other logits in the padding, the loss changes", case)


def _loss_wider(ask, rng):
    case = _losses(rng)
    wide = {
        **case,
        "logits": np.concatenate([case["logits"], normal(rng, *case["logits"].shape)], axis=1),
        "targets": np.pad(case["targets"], ((0, 0), (0, case["targets"].shape[1]))),
    }
    unmoved(_scalar(ask, case), _scalar(ask, wide), "with more columns of padding, the loss changes", case)


def _loss_kept(ask, rng):
    case = _losses(rng)
    logits, targets = read_only(case["logits"], case["targets"])
    ask.matches(logits=logits, targets=targets, smoothing=0.2)


def _links(rng, *, chance=0.3, square=False):
    B, Nq, Nk = (4, 4, 4) if square else sizes(rng, 3, low=4, high=7)
    sure, merely = (rng.random((B, Nq, Nk)) < chance for _ in range(2))
    sure[0, :2, :2], merely[0, :2, :2] = np.eye(2, dtype=bool), ~np.eye(2, dtype=bool)
    predicted = np.where(rng.random(sure.shape) < 0.7, sure | merely & (rng.random(sure.shape) < 0.5),
                         rng.random(sure.shape) < 0.3)  # fmt: skip
    predicted[0, 0] = True
    return {"predicted": predicted, "sure": sure, "possible": merely}


def _rates(ask, rng):
    ask.matches(**_links(rng))
    ask.matches(**_links(rng, chance=0.15))


def _rates_listed(ask, rng):
    case = _links(rng)
    ask.matches(**{**case, "possible": case["possible"] | case["sure"]})


def _rates_square(ask, rng):
    ask.matches(**_links(rng, square=True))


def _rates_uneven(ask, rng):
    """A sentence pair with many links, all right, beside others with one link, and a wrong one."""
    case = _links(rng)
    case["predicted"][0] = case["sure"][0] = rng.random(case["sure"][0].shape) < 0.8
    for name in case:
        case[name][1:] = False
    case["predicted"][1:, 0, 0] = case["sure"][1:, 1, 1] = True
    ask.matches(**case)


def _rates_empty(ask, rng):
    case = _links(rng)
    nothing = np.zeros_like(case["sure"])
    ask.matches(predicted=nothing, sure=nothing, possible=case["possible"])
    ask.matches(predicted=nothing, sure=case["sure"], possible=case["possible"])
    ask.matches(predicted=case["predicted"], sure=nothing, possible=case["possible"])


def _rates_perfect(ask, rng):
    case = _links(rng)
    ask.matches(**{**case, "predicted": case["sure"]})


def _rates_kept(ask, rng):
    case = _links(rng)
    ask.matches(**dict(zip(case, read_only(*case.values()), strict=True)))


def _known(reads, guesses):
    def test(ask, rng):
        for _ in range(3):
            ask.probe_matches(_translator(rng, reads, guesses), rng)

    return test


def _translator(rng, reads, guesses):
    """Draw one that does not do as well, by chance, with the source before as with the next, unless it reads none."""
    while True:
        B, Nk, Nq = sizes(rng, 3, low=6, high=11)
        model = blind.Translator(rng, B, Nk, Nq + 3, reads=reads, guesses=guesses)
        before, following = (blind.measure(model, rng, blind=who)[1] for who in (blind.ones_before, blind.next_ones))
        if before != following or not reads:
            return model


def _accepts_right_ones(ask, rng):
    accused = [name for name, translate in translators.RIGHT.items() if not ask.verdict(translate, rng)]
    if accused:
        raise Violation(f"it said False to one whose sentences mind their own business: {accused[0]}")


def _catches(name, translate):
    def test(ask, rng):
        if ask.verdict(translate, rng):
            raise Violation("your test said True to it: which batch would give it away?")

    return Property(f"catches: {name}", 1, test)


EXERCISES = {
    "collate": Exercise(
        reference=collate.collate,
        plain=collate.collate,
        observe=_whole_numbers,
        properties=(
            Property("right for sentences of different lengths", 3, _ragged),
            Property("right for as many words as sentences", 1, _as_many_words_as_sentences),
            Property("right for a single sentence, and for an empty one", 1, _empty_sentence),
            Property("right without writing into what was given", 1, _sentences_kept),
        ),
        misconceptions=collate.MISTAKES,
        compositions=collate.composed,
        alternatives=collate.ALTERNATIVES,
    ),
    "label_smoothed_loss": Exercise(
        reference=smoothing.loss,
        plain=smoothing.loss,
        properties=(
            Property("right when all sizes differ", 3, _loss_values),
            Property("right when they are the same", 1, _loss_square),
            Property("without smoothing it is the cross-entropy", 1, _loss_plain),
            Property("large logits do not overflow", 2, _loss_large),
            Property("what stands in the padding has no effect", 1, _loss_padding),
            Property("more padding has no effect", 1, _loss_wider),
            Property("right without writing into what was given", 1, _loss_kept),
        ),
        misconceptions=smoothing.MISTAKES,
        compositions=smoothing.composed,
        alternatives=smoothing.ALTERNATIVES,
    ),
    "blind_source_baseline": Exercise(
        reference=blind.measure,
        plain=blind.measure,
        properties=(
            Property("right for a model that reads its source", 2, _known(1.0, 0.0)),
            Property("right for a model that never reads it", 1, _known(0.0, 0.7)),
            Property("right for a model that does both", 2, _known(0.5, 0.5)),
        ),
        misconceptions=blind.MISTAKES,
        compositions=blind.composed,
        alternatives=blind.ALTERNATIVES,
    ),
    "batch_invariance_test": Exercise(
        reference=batch_tests.keeps,
        properties=(
            Property("accepts every translator whose sentences mind their own business", 0, _accepts_right_ones,
                     gate=True),
            *(_catches(name, translate) for name, translate in translators.WRONG.items()),
        ),
        misconceptions=batch_tests.MISTAKES,
        alternatives=batch_tests.ALTERNATIVES,
    ),
    "alignment_error_rate": Exercise(
        reference=alignment.rate,
        plain=alignment.rate,
        properties=(
            Property("right for any links", 3, _rates),
            Property("right where sure links are listed as possible, too", 1, _rates_listed),
            Property("right when all sizes agree", 1, _rates_square),
            Property("all sentence pairs are counted together", 2, _rates_uneven),
            Property("right where there are no links", 2, _rates_empty),
            Property("0 for the sure links themselves", 1, _rates_perfect),
            Property("right without writing into what was given", 1, _rates_kept),
        ),
        misconceptions=alignment.MISTAKES,
        compositions=alignment.composed,
        alternatives=alignment.ALTERNATIVES,
    ),
}  # fmt: skip
