"""Exercises of the assignment "vqa": what the question alone tells, pairs that take it away, and reading a picture.

Letters: B questions in a batch, P pairs, Nq words, Nk patches, D width of a word, Dm width of a patch.
"""

from collections import Counter

import numpy as np

from crossattn_ref.checks.compare import Violation, number
from crossattn_ref.checks.draw import normal, read_only, sizes
from crossattn_ref.checks.exercise import Exercise, Property
from crossattn_ref.checks.modules import lengths
from crossattn_ref.checks.variants import priors, reading

ANSWERS = {
    "colour": ("red", "blue", "green", "black"),
    "compare": ("yes", "no"),
    "count": ("two", "one", "three"),
    "exist": ("yes", "no"),
    "shape": ("square", "circle", "triangle"),
}


def _asked(rng, kinds, n, shift=0):
    """Draw questions as (kind, answer), the first answers of a kind more frequent; shift moves which ones are."""
    drawn = []
    for kind in kinds:
        answers = ANSWERS[kind]
        rank = np.minimum(rng.geometric(0.45, size=n + int(rng.integers(3, 9))) - 1, len(answers) - 1)
        drawn += [(kind, answers[(place + shift) % len(answers)]) for place in rank]
    return tuple(drawn[place] for place in rng.permutation(len(drawn)))


def _shares(value, exact, case):
    """Raise Violation unless a value is a dict that holds a share for each kind of the test, and the right ones."""
    if not isinstance(value, dict):
        raise Violation(f"it returned {value!r:.60}, a {type(value).__name__}, where a dict is wanted", case)
    if set(value) != set(exact):
        raise Violation(f"its keys are {sorted(value)}, where a share for each kind in test is wanted", case)
    for kind, share in exact.items():
        given = number(value[kind], case)
        if not 0 <= given <= 1:
            raise Violation(f"the share of {kind!r} is {given:.4g}; it must lie from 0 to 1", case)
        if abs(given - share) > 1e-6:
            raise Violation(f"the share of {kind!r} is wrong", case)


def _prior(ask, case):
    _shares(ask.call(**case), priors.prior(**case), case)


def _prior_by_hand(ask, _):
    train = (("exist", "no"), ("exist", "yes"), ("exist", "yes"), ("count", "two"), ("count", "one"), ("count", "one"))
    test = (("count", "one"), ("exist", "no"), ("exist", "yes"), ("exist", "no"), ("count", "two"))
    case = {"train": train, "test": test}
    _shares(ask.call(**case), {"exist": 1 / 3, "count": 1 / 2}, case)


def _prior_drawn(ask, rng):
    for _ in range(2):
        kinds = rng.permutation(list(ANSWERS)).tolist()
        _prior(ask, {"train": _asked(rng, kinds, 12), "test": _asked(rng, kinds, 5)})


def _prior_shifted(ask, rng):
    """Let other answers be frequent in the test than in train."""
    kinds = list(ANSWERS)
    _prior(ask, {"train": _asked(rng, kinds, 12), "test": _asked(rng, kinds, 9, shift=1)})


def _prior_new_kind(ask, rng):
    """Ask in the test whether something exists, and in train whether there is more: the answers are yes and no, too."""
    favourite = str(rng.choice(ANSWERS["compare"]))
    train = (*_asked(rng, ("shape",), 6), *[("compare", favourite)] * 19)
    test = (*_asked(rng, ("shape", "exist"), 6), ("exist", favourite))
    _prior(ask, {"train": train, "test": test})


def _prior_ties(ask, rng):
    """Let the alphabet's order and its reverse be wrong once each: drawn alone, they could be right every time."""
    for backwards in (True, False):
        answers = rng.permutation(ANSWERS["colour"]).tolist()
        answers[:2] = sorted(answers[:2], reverse=backwards)
        train = tuple(("colour", answer) for answer in (*answers[:3], answers[1], answers[0], answers[3]))
        test = tuple(("colour", answer) for answer in np.repeat(answers, [1, 2, 4, 7]).tolist())
        _prior(ask, {"train": train, "test": test})


def _paired(args, value):
    """What counts of pairs: how many of them, and how many are not as they should be."""
    questions, answers = args
    value = np.asarray(value)
    if value.ndim != 2 or value.shape[1] != 2 or value.dtype.kind not in "iu":
        return value
    if value.size and not (value.min() >= 0 and value.max() < len(questions)):
        return value
    one, other = value.T
    return (
        float(len(value)), float((questions[one] != questions[other]).sum()),
        float((answers[one] == answers[other]).sum()), float(len(value) * 2 - len(np.unique(value))),
    )  # fmt: skip


def _most_pairs(questions, answers):
    """Count the pairs that can be made: half of each question's items, or all that lack its most frequent answer."""
    total = 0
    for question in set(questions.tolist()):
        counts = Counter(answers[questions == question].tolist())
        total += min(counts.total() // 2, counts.total() - max(counts.values()))
    return total


def _pairs(ask, case):
    value = ask.call(**case)
    if isinstance(value, np.ndarray) and value.shape == (0, 2):
        value = value.astype(int)  # no number says of which kind it is
    if not isinstance(value, np.ndarray) or value.ndim != 2 or value.shape[1] != 2 or value.dtype.kind not in "iu":
        found = f"{value.dtype} of shape {value.shape}" if isinstance(value, np.ndarray) else f"{value!r:.60}"
        raise Violation(f"it returned {found}, where integers of shape (P, 2) are wanted", case)
    if value.size and not (value.min() >= 0 and value.max() < len(case["questions"])):
        raise Violation("it names an item that there is not", case)
    n, strangers, equal, twice = _paired(tuple(case.values()), value)
    if strangers:
        raise Violation(f"in {strangers:.0f} of {n:.0f} pairs the questions differ", case)
    if equal:
        raise Violation(f"in {equal:.0f} of {n:.0f} pairs the answers agree", case)
    if twice:
        raise Violation("an item occurs more than once", case)
    if n < _most_pairs(**case):
        raise Violation("more pairs can be made than yours", case)


def _items(rng, n_questions, n_answers, n):
    questions = rng.integers(n_questions, size=n)
    answers = np.minimum(rng.geometric(0.4, size=n) - 1, n_answers - 1)
    return {"questions": questions, "answers": (answers + questions) % n_answers}


def _pairs_by_hand(ask, _):
    questions = np.array([0, 0, 1, 0, 1, 0, 1])
    answers = np.array([0, 1, 1, 2, 1, 2, 0])
    _pairs(ask, {"questions": questions, "answers": answers})


def _pairs_drawn(ask, rng):
    for n in (23, 40):
        _pairs(ask, _items(rng, *sizes(rng, 2, low=3, high=5), n))


def _pairs_last_resort(ask, rng):
    """Let the rare answers come first and pair off: then the frequent one would be left with itself."""
    for _ in range(2):
        rare = rng.permutation(np.arange(1, 5))
        answers = np.concatenate([rare, np.zeros(4, int), 5 + rng.permutation(2), np.full(2, 7)])
        questions = np.repeat([3, 1], [8, 4])
        _pairs(ask, {"questions": questions, "answers": answers})


def _pairs_few(ask, rng):
    _pairs(ask, {"questions": np.arange(5), "answers": rng.integers(3, size=5)})
    _pairs(ask, {"questions": np.zeros(6, int), "answers": np.full(6, 2)})
    _pairs(ask, {"questions": np.zeros(7, int), "answers": np.array([1, 1, 4, 1, 1, 1, 2])})


def _reading(rng, *, square=False):
    """Draw questions and pictures of which every size is another, or all counts alike and words as wide as patches."""
    B, Nq, Nk, D, Dm = sizes(rng, 5, high=8)
    if square:
        Nq = Nk = B
        Dm = D
    weights = {
        "w_query": normal(rng, D, D, decimals=2) / 2, "w_key": normal(rng, Dm, D, decimals=2) / 2,
        "w_value": normal(rng, Dm, D, decimals=2) / 2,
    }  # fmt: skip
    return {"words": normal(rng, B, Nq, D), "n_real": lengths(rng, B, Nq), "patches": normal(rng, B, Nk, Dm), **weights}


def _reading_values(ask, rng):
    ask.matches(**_reading(rng))
    ask.matches(**_reading(rng))


def _reading_square(ask, rng):
    ask.matches(**_reading(rng, square=True))
    case = _reading(rng, square=True)
    case["n_real"] = np.full_like(case["n_real"], case["words"].shape[1])
    ask.matches(**case)


def _reading_padding(ask, rng):
    case = _reading(rng)
    padded = np.concatenate([case["words"], normal(rng, *case["words"].shape)], axis=1)
    ask.matches(**{**case, "words": padded})


def _reading_one_word(ask, rng):
    case = _reading(rng)
    ask.matches(**{**case, "n_real": np.ones_like(case["n_real"])})


def _reading_kept(ask, rng):
    case = _reading(rng)
    ask.matches(**dict(zip(case, read_only(*case.values()), strict=True)))


def _sorted_items(_, value):
    """What counts of a dict: its keys and values, in whatever order."""
    return tuple((key, float(share)) for key, share in sorted(value.items())) if isinstance(value, dict) else value


EXERCISES = {
    "question_prior": Exercise(
        reference=priors.prior,
        wanted="dict",
        observe=_sorted_items,
        properties=(
            Property("right for a few questions", 1, _prior_by_hand),
            Property("right for five kinds of questions", 2, _prior_drawn),
            Property("right where the test has other favourites", 1, _prior_shifted),
            Property("0 for a kind that is new in the test", 1, _prior_new_kind),
            Property("of equally frequent answers, the one met first", 1, _prior_ties),
        ),
        misconceptions=priors.PRIOR,
        compositions=priors.prior_composed,
        alternatives=priors.PRIOR_ALTERNATIVES,
    ),
    "balanced_pairs": Exercise(
        reference=priors.balanced,
        observe=_paired,
        properties=(
            Property("right for seven items", 1, _pairs_by_hand),
            Property("right for several questions", 2, _pairs_drawn),
            Property("as many pairs as can be made", 2, _pairs_last_resort),
            Property("few pairs, or none", 1, _pairs_few),
        ),
        misconceptions=priors.BALANCED,
        compositions=priors.balanced_composed,
        alternatives=priors.BALANCED_ALTERNATIVES,
    ),
    "encode": Exercise(
        reference=reading.right,
        plain=reading.encode,
        properties=(
            Property("right values when every size is another", 3, _reading_values),
            Property("right values when counts agree, and words are as wide as patches", 1, _reading_square),
            Property("padding has no effect", 1, _reading_padding),
            Property("questions of one word", 1, _reading_one_word),
            Property("right without writing into what was given", 1, _reading_kept),
        ),
        misconceptions=reading.MISTAKES,
        compositions=reading.composed,
        alternatives=reading.ALTERNATIVES,
    ),
}
