"""Mistakes in guessing from the question alone and in pairing questions, and right answers computed another way."""

from collections import Counter, defaultdict
from itertools import combinations

import numpy as np

from crossattn_ref.checks.report import Misconception
from crossattn_ref.checks.variants.softmax import quiet
from crossattn_ref.checks.variants.stages import flat, pairs, staged


def _train(train, test):
    return train


def _by_kind(seen):
    """Count the answers of each kind."""
    counts = defaultdict(Counter)
    for kind, answer in seen:
        counts[kind][answer] += 1
    return counts


def _most_frequent(counts):
    return counts.most_common(1)[0][0]  # of equals the one met first


def _zero(counts):
    return None


def _accuracy(test, guess):
    right, asked = Counter(), Counter()
    for kind, answer in test:
        right[kind] += guess(kind) == answer
        asked[kind] += 1
    return {kind: right[kind] / asked[kind] for kind in asked}


def prior(train, test, *, fit=_train, count=_by_kind, choose=_most_frequent, unseen=_zero, measure=_accuracy):
    """Guess by the kind of a question, with any stage replaced; as it stands, the right one."""
    counts = count(fit(train, test))

    def guess(kind):
        return choose(counts[kind]) if counts.get(kind) else unseen(counts)

    return measure(test, guess)


def _all_together(seen):
    """Count the answers of all kinds together, for each kind."""
    together = Counter(answer for _, answer in seen)
    return {kind: together for kind, _ in seen}


def _of_any_kind(counts):
    return sum(counts.values(), Counter()).most_common(1)[0][0]


def _last_met(counts):
    most = max(counts.values())
    return [answer for answer, n in counts.items() if n == most][-1]


def _scaled(factor):
    return lambda test, guess: {kind: factor * share for kind, share in _accuracy(test, guess).items()}


def _over_all(test, guess):
    right = [guess(kind) == answer for kind, answer in test]
    return {kind: sum(right) / len(right) for kind, _ in test}


def _of_all(test, guess):
    right = Counter(kind for kind, answer in test if guess(kind) == answer)
    return {kind: right[kind] / len(test) for kind, _ in test}


def _known_only(test, guess):
    return _accuracy([item for item in test if guess(item[0]) is not None], guess)


def _how_often_in_train(train, test):
    counts = _by_kind(train)
    return {kind: max(counts[kind].values(), default=0) / max(counts[kind].total(), 1) for kind, _ in test}


def _as_many_answers(train, test):
    counts = _by_kind(train)
    return {kind: 1 / max(len(counts[kind]), 1) for kind, _ in test}


def _drawn_at_random(train, test):
    """Expect how often an answer drawn as often as it occurs in train is right."""
    counts, expected, asked = _by_kind(train), Counter(), Counter()
    for kind, answer in test:
        expected[kind] += counts[kind][answer] / max(counts[kind].total(), 1)
        asked[kind] += 1
    return {kind: expected[kind] / asked[kind] for kind in asked}


def _kinds_of_train(train, test):
    return dict.fromkeys((kind for kind, _ in train), 0.0) | prior(train, test)


def _alone(*entries):
    return tuple(Misconception(name, quiet(wrong), *words) for name, wrong, *words in entries)


LEAK = "Who knows the answers of the test before it is written?"
PRIOR_STAGES = staged(
    prior,
    fit=(
        ("fitted on the test", lambda train, test: test, "when the guesses are made from the test's own answers", LEAK),
        ("fitted on both", lambda train, test: [*train, *test], "when the guesses are made from train and test", LEAK),
    ),
    count=(
        ("all kinds together", _all_together, "with one guess for all kinds",
         "May the most frequent answer of all be one to a question of this kind?"),
        ("each answer once", lambda seen: _by_kind(dict.fromkeys(map(tuple, seen))),
         "when every answer counts once, however often it is given", "Which answer is the most frequent?"),
    ),
    choose=(
        ("rarest", lambda counts: counts.most_common()[-1][0], "with the rarest answer",
         "Which guess is right most often?"),
        ("last of equals", _last_met, "with the last of equally frequent answers, not the first",
         "Two answers are as frequent as each other: which did the exercise ask for?"),
        ("first in the alphabet", min, "with the answer that comes first in the alphabet",
         "Which guess is right most often?"),
        ("alphabet decides", lambda counts: min(counts, key=lambda a: (-counts[a], a)),
         "when the alphabet decides between equally frequent answers",
         "Two answers are as frequent as each other: which did the exercise ask for?"),
    ),
    unseen=(
        ("guess of another kind", _of_any_kind, "with another kind's answer where a kind is new",
         "Nothing is known of a kind that is not in train. What did the exercise ask for?"),
    ),
    measure=(
        ("percent", _scaled(100), "with percent in the place of a share", "Between which numbers must a share lie?"),
        ("one for all", _over_all, "with the accuracy over all kinds, for each kind",
         "How many questions of this kind are there?"),
        ("share of all questions", _of_all, "with the right ones divided by all questions, not by those of the kind",
         "Add up your shares: may they exceed 1?"),
        ("error", lambda test, guess: {k: 1 - v for k, v in _accuracy(test, guess).items()},
         "with the share of wrong guesses", "Guess an answer that is always right: is it 0 or 1?"),
        ("new kinds left out", _known_only, "without the kinds that are new in the test",
         "Which kinds must the result hold?"),
        ("numbers, not shares", lambda test, guess: {
            k: v * sum(kind == k for kind, _ in test) for k, v in _accuracy(test, guess).items()},
         "with a number of right guesses, not a share", "Between which numbers must a share lie?"),
    ),
)  # fmt: skip
PRIOR = (
    *flat(PRIOR_STAGES),
    *_alone(
        ("how often in train", _how_often_in_train, "with the share that the guess has in train",
         "On which questions is a guess tried?"),
        ("one of so many", _as_many_answers, "with one over the number of answers",
         "Are all answers of a kind as frequent as each other?"),
        ("drawn at random", _drawn_at_random, "when answers are drawn as often as they occur",
         "Which guess is right most often: always the same one, or now and then another?"),
        ("kinds of train", _kinds_of_train, "with kinds that the test does not ask",
         "Which kinds must the result hold?"),
    ),
)  # fmt: skip


def prior_composed():
    """Make the mistakes that two stages make together."""
    return pairs(prior, {name: PRIOR_STAGES[name] for name in ("fit", "choose", "measure")})


def _sorted_by_hand(train, test):
    out = {}
    for kind in {kind for kind, _ in test}:
        answers = [answer for k, answer in train if k == kind]
        best = max(dict.fromkeys(answers), key=answers.count) if answers else ""
        gold = [answer for k, answer in test if k == kind]
        out[kind] = gold.count(best) / len(gold)
    return out


def _with_numpy(train, test):
    kinds, answers = (np.array(column) for column in zip(*train, strict=True))
    out = {}
    for kind in np.unique([kind for kind, _ in test]):
        gold = np.array([answer for k, answer in test if k == kind])
        known, first, counts = np.unique(answers[kinds == kind], return_index=True, return_counts=True)
        order = np.lexsort((first, -counts))
        out[str(kind)] = np.mean(gold == known[order[0]]) if len(known) else np.float64(0)
    return out


PRIOR_ALTERNATIVES = (_sorted_by_hand, _with_numpy)


# Pairs of questions that differ in the answer.


def _groups(questions):
    return [np.flatnonzero(questions == question) for question in np.unique(questions)]


def _frequent_first(items, answers):
    values, counts = np.unique(answers[items], return_counts=True)
    size = dict(zip(values.tolist(), counts.tolist(), strict=True))
    return sorted(items.tolist(), key=lambda item: (-size[int(answers[item])], answers[item]))


def _apart(items, answers):
    """Pair each item with one that lies so far behind that its answer must be another."""
    _, counts = np.unique(answers[items], return_counts=True)
    step = max(counts.max(), (len(items) + 1) // 2)
    return list(zip(items, items[step:], strict=False))


def _stacked(found):
    return np.array(found, dtype=np.int64).reshape(-1, 2)


def balanced(questions, answers, *, group=_groups, order=_frequent_first, pair=_apart, stack=_stacked):
    """Pair questions with any stage replaced; as it stands, the right one."""
    found = [two for items in group(questions) for two in pair(order(items, answers), answers)]
    return stack(found)


def _neighbours(items, answers):
    return [two for two in zip(items[::2], items[1::2], strict=False) if answers[two[0]] != answers[two[1]]]


def _first_that_differs(items, answers):
    """Give each item, in its order, the first later one that is still free and differs."""
    left, found = list(items), []
    while left:
        one = left.pop(0)
        other = next((item for item in left if answers[item] != answers[one]), None)
        if other is not None:
            left.remove(other)
            found.append((one, other))
    return found


BALANCED_STAGES = staged(
    balanced,
    group=(
        ("different questions", lambda questions: [np.arange(len(questions))],
         "when two of a pair may ask different questions",
         "Two questions with two answers: does a guess from the question alone fail?"),
        ("first question only", lambda questions: _groups(questions)[:1], "when only one question is paired",
         "How many different questions are there?"),
    ),
    order=(
        ("in their order", {"order": lambda items, answers: items.tolist(), "pair": _first_that_differs},
         "when every item takes the first one that differs, in the order given",
         "Two with rare answers pair off, and the frequent one is left with itself. Which should be paired first?"),
        ("rare first", {"order": lambda items, answers: _frequent_first(items, answers)[::-1],
                        "pair": _first_that_differs},
         "when the rare answers are paired off first",
         "Two with rare answers pair off, and the frequent one is left with itself. Which should be paired first?"),
    ),
    pair=(
        ("equal answers", lambda items, answers: list(zip(items[::2], items[1::2], strict=False)),
         "when two of a pair may have the same answer", "Which guess is right for both of a pair?"),
        ("every two", lambda items, answers: [two for two in combinations(items, 2)
                                              if answers[two[0]] != answers[two[1]]],
         "when an item is used in several pairs", "How often does each item occur in your pairs?"),
        ("neighbours", _neighbours, "when only neighbours are compared, and dropped where they agree",
         "Two neighbours agree. Is there nobody else for them?"),
        ("one pair for each question", lambda items, answers: _apart(items, answers)[:1],
         "with one pair for each question", "Is anybody left who could be paired?"),
        ("first with all", lambda items, answers: [(items[0], item) for item in items
                                                   if answers[item] != answers[items[0]]],
         "when the first item is paired with all that differ", "How often does each item occur in your pairs?"),
        ("both ways", lambda items, answers: [two for a, b in _apart(items, answers) for two in ((a, b), (b, a))],
         "with each pair twice, in both orders", "How often does each item occur in your pairs?"),
    ),
    stack=(
        ("transposed", lambda found: _stacked(found).T.copy(), "with two rows, where a row should be a pair",
         "Which shape has (P, 2)?"),
        ("flat", lambda found: _stacked(found).ravel(), "with all pairs in one row", "Which shape has (P, 2)?"),
        ("counted from one", lambda found: _stacked(found) + 1, "with items counted from 1",
         "Which number has the first question?"),
    ),
)  # fmt: skip
BALANCED = flat(BALANCED_STAGES)


def balanced_composed():
    """Make the mistakes that two stages make together."""
    return pairs(balanced, {name: BALANCED_STAGES[name] for name in ("group", "pair", "stack")})


def _by_heaps(questions, answers):
    """Again and again, pair one of the most frequent answer with one of the second most frequent."""
    found = []
    for question in set(questions.tolist()):
        by_answer = defaultdict(list)
        for item in np.flatnonzero(questions == question):
            by_answer[int(answers[item])].append(int(item))
        while len(full := [items for items in by_answer.values() if items]) > 1:
            first, second = sorted(full, key=len)[-2:]
            found.append([first.pop(), second.pop()])
    return np.array(found).reshape(-1, 2)


def _halves(questions, answers):
    found = []
    for question in np.unique(questions):
        items = np.flatnonzero(questions == question)
        frequent = np.bincount(answers[items]).argmax()
        items = np.concatenate(
            [
                items[answers[items] == frequent],
                sorted(items[answers[items] != frequent], key=lambda item: answers[item]),
            ]
        ).astype(int)
        n = min(len(items) // 2, int((answers[items] != frequent).sum()))
        step = len(items) - n
        found += [(items[k + step], items[k]) for k in range(n)]
    return np.asarray(found, dtype=np.int32).reshape(len(found), 2)


BALANCED_ALTERNATIVES = (_by_heaps, _halves)
