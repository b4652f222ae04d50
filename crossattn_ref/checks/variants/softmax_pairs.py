"""Softmaxes of beginners who sum over what is not the row, and take no largest score off either."""

from collections.abc import Iterator
from functools import partial

import numpy as np

from crossattn_ref.checks.report import Misconception
from crossattn_ref.checks.variants.softmax import MISTAKES, naive, quiet


def composed() -> Iterator[Misconception]:
    """Make the mistake of no max subtraction together with each of those that concern the sum."""
    by_name = {mistake.name: mistake for mistake in MISTAKES}
    second = by_name["no max subtraction"]
    for name, wrong in (
        ("over the rows", partial(naive, axis=-2)),
        ("over the first axis", partial(naive, axis=0)),
        ("axis 1 hard-coded", partial(naive, axis=1)),
        ("over everything", partial(naive, axis=None)),
        ("no keepdims", lambda x: np.exp(x) / np.exp(x).sum(axis=-1)),
    ):
        first = by_name[name]
        symptom, hint = f"{first.symptom}, and {second.symptom}", f"{first.hint} And: {second.hint}"
        yield Misconception(f"{name}, {second.name}", quiet(wrong), symptom, hint)
