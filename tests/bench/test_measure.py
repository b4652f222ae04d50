"""How suites measure: in turn, in both orders, often enough; no test here asserts a time."""

import time

from crossattn_ref.bench.measure import Measurement, hardware, side_by_side, versions


def test_calls_are_timed_in_turn_and_every_other_round_backwards():
    turns = []

    def call(name):
        def sleep():
            time.sleep(0.003)  # longer than a turn must be, so that it is not repeated within one
            turns.append(name)

        return sleep

    samples = side_by_side([call("a"), call("b")], seconds=0.0, at_least=4)
    assert "".join(turns) == "aaaabbbb" + "abba" + "abba"  # four calls each beforehand
    assert [len(of_one) for of_one in samples] == [4, 4]
    assert all(sample >= 3000 for of_one in samples for sample in of_one)  # microseconds


def test_short_calls_are_repeated_within_a_turn():
    count = 0

    def call():
        nonlocal count
        count += 1

    (samples,) = side_by_side([call], seconds=0.0, at_least=5)
    assert len(samples) == 5
    assert count > 5 * 100


def test_rounds_end_at_the_given_number_however_much_time_is_left():
    (samples,) = side_by_side([lambda: time.sleep(0.003)], seconds=60.0, at_most=7)
    assert len(samples) == 7


def test_the_value_of_a_measurement_is_its_median():
    measurement = Measurement(case="c", metric="m", unit="us", samples=[5.0, 1.0, 2.0], seeds=[0])
    assert measurement.value == 2.0


def test_the_machine_and_its_releases_are_named():
    assert set(versions("torch")) == {"python", "torch"}
    found = hardware(threads=1)
    assert found["cpu"]
    assert found["cores"] >= 1
    assert found["threads"] == 1
