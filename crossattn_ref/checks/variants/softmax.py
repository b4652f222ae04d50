"""Mistakes in the softmax of a row of scores, and right answers computed another way. Each keeps the dtype given."""

from functools import partial

import numpy as np

from crossattn_ref.checks.report import Misconception


def softmax(x, axis=-1):
    exp = np.exp(x - x.max(axis=axis, keepdims=True))
    return exp / exp.sum(axis=axis, keepdims=True)


def quiet(function):
    """Let a mistake overflow or divide by zero in silence: it is wrong on purpose."""

    def run(*args, **kwargs):
        with np.errstate(all="ignore"):
            return function(*args, **kwargs)

    return run


def naive(x, axis=-1):
    exp = np.exp(x)
    return exp / exp.sum(axis=axis, keepdims=True)


def log_softmax(x):
    shifted = x - x.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def over_everything(x):
    exp = np.exp(x - x.max())
    return exp / exp.sum()


def shifted_by_the_global_top(x):
    exp = np.exp(x - x.max())
    return exp / exp.sum(axis=-1, keepdims=True)


def without_exp(x):
    return x / x.sum(axis=-1, keepdims=True)


def not_normalised(x):
    return np.exp(x - x.max(axis=-1, keepdims=True))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def hard(x):
    return (x == x.max(axis=-1, keepdims=True)).astype(x.dtype)


def base_two(x):
    power = np.exp2(x - x.max(axis=-1, keepdims=True))
    return power / power.sum(axis=-1, keepdims=True)


def _shifted_by_the_bottom(x):
    exp = np.exp(x - x.min(axis=-1, keepdims=True))
    return exp / exp.sum(axis=-1, keepdims=True)


def _divided_by_the_top(x):
    exp = np.exp(x / x.max(axis=-1, keepdims=True))
    return exp / exp.sum(axis=-1, keepdims=True)


def _flipped(x):
    return softmax(-x)


def _sum_without_keepdims(x):
    exp = np.exp(x - x.max(axis=-1, keepdims=True))
    return exp / exp.sum(axis=-1)


def _two_axes_only(x):
    exp = np.exp(x - x.max(axis=1, keepdims=True))
    return exp / exp.sum(axis=1, keepdims=True)


def _written_into_its_input(x):
    x -= x.max(axis=-1, keepdims=True)
    np.exp(x, out=x)
    x /= x.sum(axis=-1, keepdims=True)
    return x


def _half_precision(x):
    return softmax(x.astype(np.float16)).astype(x.dtype)


MISTAKES = tuple(
    Misconception(name, quiet(wrong), symptom, hint)
    for name, wrong, symptom, hint in (
        ("over the rows", partial(softmax, axis=-2), "with the sum taken down the columns, over axis -2",
         "Each row must share out 100 %: along which axis do its numbers lie?"),
        ("over the first axis", partial(softmax, axis=0), "with the sum taken over axis 0",
         "What is axis 0 once there is a batch axis in front?"),
        ("axis 1 hard-coded", _two_axes_only, "with axis 1 written into the code",
         "Which number names the last axis, however many there are?"),
        ("over everything", over_everything, "with one sum over the whole array",
         "Each row must share out 100 % of its own: how many sums does a matrix of 5 rows need?"),
        ("no max subtraction", naive, "without taking the largest score off first",
         "exp(800) does not fit into a float. Which number may you take off every score, and keep the weights?"),
        ("global max", shifted_by_the_global_top, "with the largest score of the whole array taken off every row",
         "A row whose scores lie far below those of another row: what is left of it after exp?"),
        ("min instead of max", _shifted_by_the_bottom, "with the smallest score taken off, not the largest",
         "After the subtraction, what is the largest number that goes into exp?"),
        ("divided by max", _divided_by_the_top, "with the scores divided by their largest, not lowered by it",
         "Which operation on the scores leaves every ratio exp(a)/exp(b) as it is?"),
        ("log softmax", log_softmax, "with the logarithm of the weights returned",
         "Can a share of 100 % be negative?"),
        ("no exp", without_exp, "without exp: scores divided by their sum", "What happens to a negative score?"),
        ("not normalised", not_normalised, "without the division by the sum",
         "What do the numbers of a row add up to?"),
        ("sigmoid", sigmoid, "with a sigmoid for each score alone",
         "Do the numbers of one row compete with each other?"),
        ("argmax", hard, "with all the weight on the largest score", "Soft or hard: what do the runners-up get?"),
        ("base two", base_two, "with powers of 2 in place of powers of e", "Which base does exp have?"),
        ("sign flipped", _flipped, "with the signs of the scores turned round", "Does the largest score get most?"),
        ("no keepdims", _sum_without_keepdims, "with sums that lost their axis: row i is divided by the sum of row j",
         "What shape has x.sum(axis=-1), and along which axis does NumPy line it up with x?"),
        ("writes into its input", _written_into_its_input, "when the scores are overwritten in place",
         "After your function has run, does the caller still have the scores?"),
        ("half precision", _half_precision, "with float16 inside", "How many digits does float16 keep?"),
    )
)  # fmt: skip


def _by_logarithm(x):
    top = x.max(axis=-1, keepdims=True)
    return np.exp(x - (top + np.log(np.exp(x - top).sum(axis=-1, keepdims=True))))


def _by_loop(x):
    out = np.empty(x.shape, np.float64)
    for index in np.ndindex(x.shape[:-1]):
        exp = [float(np.exp(float(score) - float(x[index].max()))) for score in x[index]]
        out[index] = np.array(exp) / sum(exp)
    return out


def _moved_to_the_front(x):
    front = np.moveaxis(x, -1, 0)
    exp = np.exp(front - front.max(axis=0))
    return np.moveaxis(exp / exp.sum(axis=0), 0, -1)


def _by_einsum(x):
    exp = np.exp(x - np.amax(x, -1)[..., None])
    return np.einsum("...j,...->...j", exp, 1 / np.einsum("...j->...", exp))


def _in_float32(x):
    return softmax(x.astype(np.float32))


def _by_differences(x):
    return 1 / np.exp(np.minimum(x[..., None, :] - x[..., :, None], 80.0 if x.dtype == np.float32 else 700.0)).sum(-1)


ALTERNATIVES = (_by_logarithm, _by_loop, _moved_to_the_front, _by_einsum, _in_float32, _by_differences)
