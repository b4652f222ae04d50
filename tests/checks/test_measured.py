"""Files to be audited: an honest line is honest by NumPy's own reckoning, and a cut one is no JSON."""

import json

import numpy as np
import pytest

from crossattn_ref.checks import measured


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("bound", ["bytes", "operations"])
def test_a_record_lies_where_it_is_told_to_over_its_floor(seed, bound):
    rng = np.random.default_rng(seed)
    bandwidth, rate = machine = measured.machine(rng)
    record = measured.record(rng, machine, over=1.7, bound=bound, n=6)
    floor = 1e6 * max(record["bytes"] / bandwidth, record["operations"] / rate)
    assert np.median(record["samples_us"]) / floor == pytest.approx(1.7, rel=1e-3)
    assert record["median_us"] == pytest.approx(np.median(record["samples_us"]), abs=0.01)
    waits = {"bytes": record["bytes"] / bandwidth, "operations": record["operations"] / rate}
    assert max(waits, key=waits.get) == bound


@pytest.mark.parametrize("n", [5, 6, 7])
def test_mean_and_middle_of_the_list_are_no_median(n):
    rng = np.random.default_rng(n)
    for _ in range(20):
        samples = measured.record(rng, measured.machine(rng), n=n)["samples_us"]
        middle = (samples[(n - 1) // 2] + samples[n // 2]) / 2
        for other in (np.mean(samples), middle, min(samples), max(samples)):
            assert abs(other / np.median(samples) - 1) > 2e-3


def test_what_is_left_out_is_not_there_and_a_cut_line_is_no_json():
    rng = np.random.default_rng(0)
    record = measured.record(rng, measured.machine(rng), kernel=measured.LEFT_OUT)
    assert "kernel" not in record
    assert json.loads(measured.written(rng, record)) == record
    for _ in range(50):
        with pytest.raises(json.JSONDecodeError):
            json.loads(measured.written(rng, record, cut=True))
