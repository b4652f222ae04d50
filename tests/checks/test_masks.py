import subprocess
import sys

import numpy as np
import pytest

from crossattn_ref.attention import reference
from crossattn_ref.checks import alternatives, examine
from crossattn_ref.checks import masks as exercises
from crossattn_ref.checks.variants import combine, leaks, masked, masks

CASES = {
    "two axes": ((3, 5), (4, 5), (4, 2), (3, 4)),
    "heads": ((2, 7, 3, 5), (2, 7, 11, 5), (2, 7, 11, 13), (2, 1, 1, 11)),
    "a mask for each head": ((2, 7, 3, 5), (2, 7, 11, 5), (2, 7, 11, 13), (2, 7, 3, 11)),
}


def drawn(rng, q, k, v, mask):
    return *(rng.standard_normal(shape) for shape in (q, k, v)), rng.random(mask) < 0.5


@pytest.mark.parametrize("shapes", CASES.values(), ids=CASES)
def test_the_line_of_stages_is_the_package_s_attention_empty_rows_included(shapes):
    case = drawn(np.random.default_rng(3), *shapes)
    assert not case[3].all(axis=-1).all()
    np.testing.assert_allclose(masked.attend(*case), reference.attention(*case), rtol=1e-12, atol=1e-12)


def test_the_lines_of_stages_make_the_package_s_masks():
    lengths = np.array([3, 0, 7, 1])
    np.testing.assert_array_equal(masks.padding(lengths, 7), reference.padding_mask(lengths, 7), strict=True)
    np.testing.assert_array_equal(masks.causal(5), reference.causal_mask(5), strict=True)


def test_masks_are_joined_and_turned_over_as_worked_out_by_hand():
    padding, causal = reference.padding_mask(np.array([2, 3]), 3), reference.causal_mask(3)
    joined = [[[[1, 0, 0], [1, 1, 0], [1, 1, 0]]], [[[1, 0, 0], [1, 1, 0], [1, 1, 1]]]]
    np.testing.assert_array_equal(combine.combine(padding, causal), np.array(joined, dtype=bool), strict=True)
    ignored = np.array([[False, False, True], [False, False, False]])
    np.testing.assert_array_equal(combine.key_padding(padding), ignored, strict=True)


def test_torch_ignores_what_our_turned_mask_hides():
    """The polarity, told by torch itself: with the turned mask, hidden keys have no effect."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    layer = torch.nn.MultiheadAttention(6, 2, batch_first=True).eval()
    mask = reference.padding_mask(np.array([2, 4]), 5)
    ignored = torch.from_numpy(combine.key_padding(mask))
    x = torch.randn(2, 5, 6)
    other = torch.where(ignored[..., None], torch.randn(2, 5, 6), x)
    before, after = (layer(x, keys, keys, key_padding_mask=ignored)[0] for keys in (x, other))
    torch.testing.assert_close(before, after)
    wrong = torch.from_numpy(combine.key_padding(mask, polarity=masks.kept))
    assert (
        layer(x, other, other, key_padding_mask=wrong)[0] - layer(x, x, x, key_padding_mask=wrong)[0]
    ).abs().max() > 0.01


@pytest.mark.parametrize(("rows", "columns"), [(4, 5), (7, 4), (6, 7), (7, 6)])
def test_the_large_scores_catch_a_fill_of_minus_ten_thousand_and_overflow_exp(rows, columns):
    case = exercises._stress(np.random.default_rng(rows), rows, columns)
    scores = case["q"] @ case["k"].T / np.sqrt(columns)
    mask = case["mask"]
    assert np.abs(scores).max() <= 1e5  # as the statement says
    assert scores[0][mask[0]].max() < -1e4
    seen = mask[np.arange(rows), scores.argmax(axis=1)]
    assert not seen[::2].any()
    assert seen[1::2].all()
    assert mask.any(axis=1).all()
    assert not mask.all(axis=1).any()
    assert (scores[mask] > 710).any()


def _leak(operator, rng, **case):
    """How far the output of query 0 moves when what is hidden from it changes."""
    hidden = ~np.broadcast_to(case["mask"], (*case["q"].shape[:-1], case["k"].shape[-2]))[:, :, :1].swapaxes(-1, -2)
    other = {name: np.where(hidden, 50 * rng.standard_normal(case[name].shape), case[name]) for name in ("k", "v")}
    with np.errstate(all="ignore"):
        return np.abs(operator(**{**case, **other}) - operator(**case))[:, :, 0].max()


def _cases(rng):
    """Masks of every kind, and with as many queries as keys or not; a query in two sees everything but one key."""
    for nq, nk in ((3, 5), (4, 4)):
        q, k, v = (rng.standard_normal((3, 2, n, d)) for n, d in ((nq, 4), (nk, 4), (nk, 3)))
        for mask in (
            reference.padding_mask(np.array([nk - 1, 1, 2]), nk),
            np.flip(np.tri(nq, nk, dtype=bool), axis=-1),
            rng.permuted(np.broadcast_to(np.arange(nk) < nk - 2, (3, 1, nq, nk)), axis=-1),
        ):
            yield {"q": q, "k": k, "v": v, "mask": mask}


@pytest.mark.parametrize("operator", leaks.TIGHT.values(), ids=leaks.TIGHT)
def test_a_tight_operator_never_notices_what_is_hidden(operator):
    rng = np.random.default_rng(5)
    assert max(_leak(operator, rng, **case) for case in _cases(rng)) < 1e-4


@pytest.mark.parametrize("operator", leaks.LEAKY.values(), ids=leaks.LEAKY)
def test_a_leaky_operator_notices_under_some_mask(operator):
    rng = np.random.default_rng(5)
    assert max(_leak(operator, rng, **case) for case in _cases(rng)) > 1e-3


def test_a_test_that_accuses_a_right_operator_earns_nothing_and_one_that_finds_some_leaks_its_share():
    assert examine("masks/leak_test", lambda attend, rng: False).score == 0
    right = alternatives("masks/leak_test")[0]

    def trusting(attend, rng):
        return attend is leaks.LEAKY["the mask ignored"] or right(attend, rng)

    score = examine("masks/leak_test", trusting).score
    assert score == pytest.approx((len(leaks.LEAKY) - 1) / len(leaks.LEAKY))


def test_one_is_not_true():
    report = examine("masks/leak_test", lambda attend, rng: 1.0)
    assert report.score == 0
    assert report.diagnosis == ()


@pytest.mark.parametrize("name", ["attention/attention", "masks/masked_attention", "masks/leak_test"])
def test_a_check_of_numpy_exercises_runs_where_there_is_no_torch(name):
    code = f"""
import sys
sys.modules["torch"] = None
from crossattn_ref.checks import examine, reference
assert examine({name!r}, reference({name!r})).score == 1
"""
    subprocess.run([sys.executable, "-c", code], check=True)
