"""Attacks on this judge succeed once the wall that is meant to stop them is gone, and fail on the judge as it is."""

import secrets

import pytest

from crossattn_ref.judge import sandbox
from tests.judge.attacks.own import OWN
from tests.judge.attacks.weakened import WEAKENED, graded, table

UNSAFE = ("one file system for all", "one network for all")


@pytest.fixture(scope="module")
def unsafe_kernel():
    started = sandbox.start(("numpy",), unsafe=True)
    yield started
    started.close()


@pytest.mark.parametrize("attack", OWN, ids=lambda attack: attack.name)
def test_it_succeeds_where_one_wall_is_missing(attack, kernel, request):
    weak = request.getfixturevalue("unsafe_kernel") if attack.against in UNSAFE else kernel
    outcome = graded(attack, weak, {"@TABLE@": table(0), "@NONCE@": secrets.token_hex(8)})
    assert attack.evidence(outcome), outcome


def test_every_wall_that_can_be_taken_down_stops_an_attack():
    assert {attack.against for attack in OWN} == set(WEAKENED)
