"""The exercises on cost: their line of stages is the package's model, and their shapes wait for what they should."""

import json
from pathlib import Path

import numpy as np
import pytest

from crossattn_ref import cost
from crossattn_ref.checks import cost as exercises
from crossattn_ref.checks import examine
from crossattn_ref.checks.variants import roofline

NOTEBOOK = Path(__file__).parents[2] / "solutions" / "cost" / "cost.ipynb"


@pytest.mark.parametrize("seed", range(5))
def test_the_line_of_stages_is_the_package_s_model(seed):
    for args in exercises._regimes(np.random.default_rng(seed)):
        sizes = {name: args[name] for name in ("B", "H", "Hkv", "Nq", "Nk", "D", "dtype")}
        shape, machine = cost.Shape(**sizes), cost.MACHINES[args["machine"]]
        *bill, seconds, name = roofline.roofline(**args)
        assert bill == [cost.flops(shape), cost.moved(shape), cost.exponentials(shape)]
        assert (seconds, name) == (pytest.approx(machine.floor(shape)), machine.bound(shape))


def test_every_machine_is_asked_about_in_all_three_regimes_and_no_regime_is_close():
    asked = set()
    for args in exercises._regimes(np.random.default_rng(3)):
        s = roofline.Sizes(**args)
        bill = roofline.operations(s), roofline.traffic(s), roofline.exponentials(s)
        times = sorted((a / r, name) for a, r, name in zip(bill, roofline.rates(s), roofline.NAMES, strict=True))
        asked.add((args["machine"], times[-1][1]))
        assert times[-1][0] > 1.2 * times[-2][0], args
    assert asked == {(machine, name) for machine in cost.MACHINES for name in roofline.NAMES}


def test_the_table_of_the_notebook_is_the_one_that_the_check_uses():
    cells = {cell["id"]: "".join(cell["source"]) for cell in json.loads(NOTEBOOK.read_text("utf-8"))["cells"]}
    world = {}
    exec(cells["machines"], world)  # noqa: S102 (a cell of ours)
    for name, machine in cost.MACHINES.items():
        given = dict(world["MACHINES"][name])
        assert given.pop("bandwidth") == machine.bandwidth
        assert given.pop("exp_rate") == machine.exp_rate
        assert given == machine.rates
    assert all(cost.BYTES[dtype] == size for dtype, size in world["BYTES"].items())


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (lambda *_: 7.0, "it returned a float, where a tuple of 5 is wanted: the operations"),
        (lambda *_: (1, 2, 3, 4), "it returned a tuple of 4, where a tuple of 5"),
        (lambda *_: ("1", 2, 3, 4, "memory"), "the operations must be a number, got '1'"),
        (lambda *_: (True, 2, 3, 4, "memory"), "the operations must be a number, got True"),
        (lambda *_: (float("nan"), 2, 3, 4, "memory"), "the operations: too few"),
    ],
)
def test_what_is_no_bill_is_answered_in_words(answer, complaint):
    report = examine("cost/roofline", answer)
    assert report.score == 0
    assert complaint in report.findings[0].message


def test_a_name_that_is_none_of_the_three_is_told_which_there_are():
    report = examine("cost/roofline", lambda *args: (*roofline.roofline(*args)[:4], "RAM"))
    assert report.score == pytest.approx(0.9)
    assert "must be one of products, memory, exponentials, got 'RAM'" in report.findings[-1].message


def test_the_right_numbers_never_stand_in_a_report():
    report = examine("cost/roofline", lambda *args: (*(x * 3 for x in roofline.roofline(*args)[:4]), "memory"))
    right = [str(roofline.roofline(**f.counterexample)[0]) for f in report.findings if f.counterexample]
    assert right
    assert not [number for number in right if number in str(report)]
