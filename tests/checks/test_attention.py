"""The exercises on attention: what they draw leaves nothing to rounding."""

import numpy as np
import pytest

from crossattn_ref.checks import attention as exercises


@pytest.mark.parametrize("times", [300, 3000])
def test_large_scores_are_large_and_one_key_leads_by_more_than_rounding_can_move(times):
    rng = np.random.default_rng(5)
    largest = []
    for _ in range(200):
        case = exercises._loud(rng, times)
        scores = np.einsum("id,jd->ij", case["q"], case["k"]) / case["q"].shape[1] ** 0.5
        in_float32 = (case["q"].astype("f4") @ case["k"].astype("f4").T) / np.float32(case["q"].shape[1] ** 0.5)
        rest = np.sort(scores, axis=1)[:, -2]
        assert (scores.max(axis=1) - rest > 1000 * np.abs(scores - in_float32).max()).all()
        largest.append(np.abs(scores).max())
    assert np.median(largest) > times
