"""Mistakes in programming attention to reverse a sequence, and right programs of other makes.

A program takes x (N, D) and returns q and k, so that attention(q, k, x) is x from last to first.
"""

import numpy as np

from crossattn_ref.checks.report import Misconception

SHARP = 1e4  # scores this far apart leave the losing keys a weight of exactly zero


def _one_hot(x, sharpness):
    positions = np.eye(len(x))
    return sharpness * positions[::-1], positions


def _same_order(x):
    return SHARP * np.eye(len(x)), np.eye(len(x))


def _content(x):
    return SHARP * x[::-1], x


def _direction(x):
    unit = x / np.linalg.norm(x, axis=-1, keepdims=True)
    return SHARP * unit[::-1], unit


def _rolled(x):
    return SHARP * np.roll(np.eye(len(x)), 1, axis=0), np.eye(len(x))


def _number_line(x):
    position = np.arange(len(x), dtype=float)[:, None]
    return SHARP * position[::-1], position


def _swapped_halves(x):
    return SHARP * np.roll(np.eye(len(x)), len(x) // 2, axis=0), np.eye(len(x))


def _scores_turned(x):
    return SHARP * -np.eye(len(x)), np.eye(len(x))


MISTAKES = (
    Misconception("same order", _same_order, "when every query finds its own position",
                  "Query 0 must find the last key. Which key does yours find?"),
    Misconception("too soft", lambda x: _one_hot(x, 1.0), "when the scores of right and wrong keys differ by about 1",
                  "Print the weights. How far apart must two scores be for the softmax to give all to one?"),
    Misconception("still too soft", lambda x: _one_hot(x, 10.0), "when the scores are divided by the square root of "
                  "Dk after you made them sharp", "How much of your sharpness does the division leave?"),
    Misconception("addressed by content", _content, "when positions are told apart by what stands there",
                  "A long row has large products with every query. What else tells positions apart?"),
    Misconception("addressed by direction", _direction, "when positions are told apart by the direction of their rows",
                  "Two rows may point the same way. What differs between positions whatever they hold?"),
    Misconception("shifted by one", _rolled, "when each query finds a neighbour of its position",
                  "With five rows, where does row 1 end up?"),
    Misconception("a number as position", _number_line, "when a position is one number and the largest wins",
                  "Multiply any positive query with the keys 0, 1, 2, 3: which one wins?"),
    Misconception("halves swapped", _swapped_halves, "when the two halves change places",
                  "Within each half, which way does the order run?"),
    Misconception("own position avoided", _scores_turned, "when each query shuns one key and takes all the others",
                  "One key must win. Which of your scores is the largest?"),
)  # fmt: skip


def _rotated(x):
    basis, _ = np.linalg.qr(np.random.default_rng(len(x)).standard_normal((len(x), len(x))))
    return SHARP * basis[::-1], basis


def _on_a_circle(x):
    angle = 2 * np.pi * np.arange(len(x)) / len(x)
    points = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return SHARP * points[::-1], points


def _on_a_parabola(x):
    j = np.arange(len(x), dtype=float)
    return SHARP * np.stack([2 * j[::-1], -np.ones(len(x))], axis=1), np.stack([j, j**2], axis=1)


def _keys_turned(x):
    return np.eye(len(x)), SHARP * np.eye(len(x))[::-1]


def _loop(x):
    q, k = np.zeros((len(x), len(x)), np.float32), np.zeros((len(x), len(x)), np.float32)
    for i in range(len(x)):
        q[i, len(x) - 1 - i] = 300.0
        k[i, i] = 30.0
    return q, k


ALTERNATIVES = (_rotated, _on_a_circle, _on_a_parabola, _keys_turned, _loop)
