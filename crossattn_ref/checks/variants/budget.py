"""Mistakes in finding out how few keys are enough, and right answers computed another way.

The search is a line of stages: choose keys for each query, weigh them, measure the error, search; a mistake replaces
one of them.

Letters: Nq queries, Nk keys, q (Nq, Dk), k (Nk, Dk), v (Nk, Dv); n keys are read for each query.
"""

import numpy as np

from crossattn_ref.checks.report import Misconception
from crossattn_ref.checks.variants.softmax import quiet, softmax
from crossattn_ref.checks.variants.stages import flat, staged


def dot(q, k):
    return q @ k.T / np.sqrt(np.asarray(q.shape[-1], q.dtype))


def best(scores, n, v):
    """True for the n highest scores of each row."""
    return np.argsort(np.argsort(-scores, axis=-1, kind="stable"), axis=-1) < n


def among_chosen(scores, chosen):
    return softmax(np.where(chosen, scores, np.asarray(-np.inf, scores.dtype)))


def relative(out, exact, weights, full):
    return np.linalg.norm(out - exact) / np.linalg.norm(exact)


def over_queries(out, exact, weights, full):
    return (np.linalg.norm(out - exact, axis=-1) / np.linalg.norm(exact, axis=-1)).mean()


def one_by_one(fits, n_keys):
    return next((n for n in range(1, n_keys + 1) if fits(n)), n_keys)


def within(error, budget):
    return error <= budget


@quiet
def error_budget(
    q, k, v, budget, *,
    score=dot, choose=best, weigh=among_chosen, measure=relative, search=one_by_one, enough=within,
):  # fmt: skip
    """The fewest keys and the output with them, with any stage replaced; as it stands, the right one."""
    scores = score(q, k)
    full = softmax(dot(q, k))
    exact = full @ v

    def read(n):
        weights = weigh(scores, choose(scores, n, v))
        return weights @ v, weights

    def fits(n):
        out, weights = read(n)
        return enough(measure(out, exact, weights, full), budget)

    n = search(fits, len(k))
    return n, read(n)[0]


def halving(fits, n_keys):
    low, high = 1, n_keys
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(middle) else (middle + 1, high)
    return low


def downwards(fits, n_keys):
    n = n_keys
    while n > 1 and fits(n - 1):
        n -= 1
    return n


def _powers_of_two(fits, n_keys):
    n = 1
    while n < n_keys and not fits(n):
        n = min(2 * n, n_keys)
    return n


def _same_for_all(scores, n, v):
    return np.repeat(best(scores.sum(axis=0, keepdims=True), n, v), len(scores), axis=0)


def _over_all_queries(scores, n, v):
    """Take the n Nq highest of the whole matrix, wherever they stand."""
    chosen = best(scores.reshape(1, -1), n * len(scores), v).reshape(scores.shape)
    return chosen | best(scores, 1, v)


_ASK = "The keys are chosen for a query. By what does this query tell which of them matter to it?"
_SHARES = "Ten of a hundred keys are left. What must their weights add up to?"
_ERROR = "An error of 0.1 where the output is 0.2, or where it is 20: which is worse? And over what is it measured?"
_DOWN = "Print the error for every n. Does it fall at each step?"

STAGES = staged(
    error_budget,
    score=(
        ("no scale", lambda q, k: q @ k.T, "without dividing the scores by the square root of Dk",
         "Fewer keys or not, which scores go into the softmax?"),
    ),
    choose=(
        ("lowest scores", lambda s, n, v: best(-s, n, v), "with the keys that score lowest", _ASK),
        ("largest by size", lambda s, n, v: best(np.abs(s), n, v),
         "with the scores that are largest by size, signs ignored",
         "What weight does a score of -5 get?"),
        ("first keys", lambda s, n, v: best(-np.arange(s.shape[1]) + 0 * s, n, v), "with the first n keys", _ASK),
        ("last keys", lambda s, n, v: best(np.arange(s.shape[1]) + 0 * s, n, v), "with the last n keys", _ASK),
        ("same keys for all", _same_for_all, "with the same n keys for all queries", _ASK),
        ("over all queries", _over_all_queries,
         "with n keys for each query on average, and some with more than others",
         "How many keys does each query read?"),
        ("longest values", lambda s, n, v: best(np.linalg.norm(v, axis=-1) + 0 * s, n, v),
         "with the keys whose values are longest", _ASK),
        ("one too many", lambda s, n, v: best(s, n + 1, v), "when n + 1 keys are read where n are counted",
         "With n = 1, how many keys does your query read?"),
        ("one too few", lambda s, n, v: best(s, max(n - 1, 1), v), "when n - 1 keys are read where n are counted",
         "With n = 2, how many keys does your query read?"),
    ),
    weigh=(
        ("not renormalised", lambda s, c: softmax(s) * c, "with the weights that the chosen keys had among all keys",
         _SHARES),
        ("hidden as 0", lambda s, c: softmax(np.where(c, s, 0)), "with the scores of the others set to 0",
         "What is exp(0), and what should a hidden key count?"),
        ("plain average", lambda s, c: c / c.sum(axis=-1, keepdims=True), "with equal weights for the chosen keys",
         "Of the two best keys one scores much higher. Should both count alike?"),
    ),
    measure=(
        ("absolute error", lambda out, exact, *_: np.linalg.norm(out - exact), "with the error not divided by anything",
         _ERROR),
        ("squared error", lambda out, exact, *_: (np.linalg.norm(out - exact) / np.linalg.norm(exact)) ** 2,
         "with the square of the relative error", _ERROR),
        ("largest number", lambda out, exact, *_: np.abs(out - exact).max() / np.abs(exact).max(),
         "with the largest single error over the largest number", _ERROR),
        ("mean over queries", over_queries,
         "with the errors of the queries averaged, each over its own output", _ERROR),
        ("worst query", lambda out, exact, *_: (
            np.linalg.norm(out - exact, axis=-1) / np.linalg.norm(exact, axis=-1)).max(),
         "with the error of the worst query", _ERROR),
        ("weight left out", lambda out, exact, w, full: 1 - (full * (w > 0)).sum(axis=-1).mean(),
         "with the weight of the keys left out, not with the error of the output",
         "The values of what you left out may cancel or agree. Which error is asked for?"),
        ("over the approximation", lambda out, exact, *_: np.linalg.norm(out - exact) / np.linalg.norm(out),
         "with the error divided by the approximation", _ERROR),
        ("signed", lambda out, exact, *_: (out - exact).sum() / np.linalg.norm(exact),
         "when errors of different signs cancel", _ERROR),
    ),
    search=(
        ("by halving", halving, "when the search halves the range, as if more keys were always better", _DOWN),
        ("from above", downwards, "when the search goes down from all keys and stops at the first that is too few",
         _DOWN, "by halving"),
        ("powers of two", _powers_of_two, "when only powers of two are tried", "Is there no number between 4 and 8?"),
        ("all keys", lambda fits, n_keys: n_keys, "when all keys are read", "How few would do?"),
        ("one key", lambda fits, n_keys: 1, "when one key is read, whatever the budget",
         "Is the error with one key within the budget?"),
        ("one short", lambda fits, n_keys: max(one_by_one(fits, n_keys) - 1, 1),
         "with the largest number of keys that is not enough", "Is the error with your n within the budget?"),
        ("one more", lambda fits, n_keys: min(one_by_one(fits, n_keys) + 1, n_keys), "with a key more than needed",
         "Is the error with n - 1 keys within the budget?"),
        ("counted from 0", lambda fits, n_keys: one_by_one(lambda n: fits(n + 1), n_keys - 1),
         "with the place of the last key, which counts from 0, in the place of their number",
         "Is the error with your n within the budget?", "one short"),
    ),
)  # fmt: skip


def _output_of_all(q, k, v, budget):
    n, _ = error_budget(q, k, v, budget)
    return n, softmax(dot(q, k)) @ v


def _order_of_results(q, k, v, budget):
    return error_budget(q, k, v, budget)[::-1]


MISTAKES = (
    *flat(STAGES),
    Misconception("exact output", _output_of_all, "with the output of all keys beside the number of a few",
                  "Which output comes with n keys?"),
    Misconception("order of results", _order_of_results, "with the output in front of the number",
                  "In which order are the two wanted?"),
)  # fmt: skip


def _by_sorting(q, k, v, budget):
    """Sort the keys of each query once, and let running sums give every n at the same time."""
    scores = dot(q, k)
    order = np.argsort(-scores, axis=-1)
    exp = np.exp(np.take_along_axis(scores, order, axis=-1) - scores.max(axis=-1, keepdims=True))
    outs = np.cumsum(exp[..., None] * v[order], axis=1) / np.cumsum(exp, axis=1)[..., None]  # (Nq, Nk, Dv)
    exact = outs[:, -1]
    errors = np.sqrt(np.square(outs - exact[:, None]).sum(axis=(0, 2)) / np.square(exact).sum())
    n = int(np.argmax(errors <= budget)) + 1
    return n, outs[:, n - 1]


def _with_argpartition(q, k, v, budget):
    scores = np.einsum("id,jd->ij", q, k) / q.shape[1] ** 0.5
    exact = softmax(scores) @ v
    for n in range(1, len(k) + 1):
        places = np.argpartition(scores, -n, axis=1)[:, -n:]
        weights = softmax(np.take_along_axis(scores, places, axis=1))
        out = np.einsum("ij,ije->ie", weights, v[places])
        if np.sqrt(((out - exact) ** 2).sum()) <= budget * np.sqrt((exact**2).sum()):
            break
    return np.int64(n), out


def _by_threshold(q, k, v, budget):
    scores = dot(q, k)
    exact = softmax(scores) @ v
    for n in range(1, len(k) + 1):
        lowest = np.sort(scores, axis=-1)[:, -n, None]
        out = softmax(np.where(scores >= lowest, scores, -np.inf)) @ v
        if np.linalg.norm(out - exact) <= budget * np.linalg.norm(exact):
            return n, out.astype(np.float32)
    raise AssertionError("all keys together have no error")


ALTERNATIVES = (_by_sorting, _with_argpartition, _by_threshold)
