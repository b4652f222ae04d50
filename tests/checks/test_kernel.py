"""The exercise that asks for a kernel: what is to be passed, and counts that are told in words."""

import pytest

from crossattn_ref.checks import examine
from crossattn_ref.checks.variants import kernels

pytest.importorskip("triton", reason="no triton here: run `pip install triton` (Linux)")


def wrong(name):
    return next(m.wrong for m in kernels.MISTAKES if m.name == name)


def failed(report):
    return {finding.property: finding.message for finding in report.findings if not finding.passed}


def test_a_kernel_that_is_not_launched_is_refused_with_the_remedy():
    report = examine("gpu-efficiency/kernel", lambda *args: args[0])
    assert report.score == 0
    assert "pass what launched() makes of your kernel" in str(report)


def test_a_kernel_that_is_not_written_yet_is_told_so():
    class Stub:
        source = kernels.SIGNATURE + "    raise NotImplementedError('your turn')\n"

        def __call__(self, *args):
            return kernels.launched(self)(*args)

    assert "not written yet" in str(examine("gpu-efficiency/kernel", Stub()))


def test_queries_that_do_not_share_what_is_fetched_lose_the_point_for_reading_once():
    (message,) = failed(examine("gpu-efficiency/kernel", wrong("one query at a time"))).values()
    assert "numbers of k and v were read" in message


def test_tiles_behind_the_length_are_noticed_though_nothing_in_them_is_read():
    report = examine("gpu-efficiency/kernel", wrong("all tiles visited"))
    assert list(failed(report)) == ["keys read once for a tile of queries, and no padding"]
    assert [m.name for m in report.diagnosis] == ["all tiles visited"]


def test_queries_without_a_mask_are_right_by_luck_and_stray():
    found = failed(examine("gpu-efficiency/kernel", wrong("queries unmasked")))
    assert "places were read or written that belong to nothing" in found["nothing read or written that was not given"]


def test_no_piece_of_the_kernel_is_replaced_in_vain():
    with pytest.raises(ValueError, match="the kernel must hold"):
        kernels.Kernel("", until="range(0, 1)")
