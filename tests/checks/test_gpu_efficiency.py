"""The exercises on GPU efficiency: what is counted is what a GPU would do, and their stages are attention."""

import numpy as np
import pytest

from crossattn_ref.attention import online, reference
from crossattn_ref.checks import examine
from crossattn_ref.checks import gpu_efficiency as exercises
from crossattn_ref.checks.variants import packed, splits

NQ, NK, DK, DV = 5, 11, 7, 3


def sequences(seed=0):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape) for shape in ((NQ, DK), (NK, DK), (NK, DV))]


def failed(report):
    return [finding.property for finding in report.findings if not finding.passed]


@pytest.mark.parametrize("n_splits", [1, 2, 4, 11, 13])
def test_split_keys_is_attention_and_the_merge_of_the_package(n_splits):
    q, k, v = sequences()
    out, moved = splits.split_keys(splits.Memory(q, k, v), NK, n_splits)
    np.testing.assert_allclose(out, reference.attention(q, k, v), atol=1e-6)
    met = online.empty(NQ, DV)
    for start, stop in splits.even(NK, n_splits):
        met = online.merge(met, online.partial(q, k[start:stop], v[start:stop]))
    np.testing.assert_allclose(out, met.out(), atol=1e-6)
    assert moved == 8 * n_splits * NQ * (DV + 1)


def test_a_block_that_reads_on_finds_something_else_and_is_told_which_key_it_was():
    q, k, v = sequences()
    memory = splits.Memory(q, k, v)
    assert np.abs(memory(0, NK)[0] - memory(0, NK + 1)[0]).max() > 0.1

    def reads_on(read, n_keys, n_splits):
        size = -(-n_keys // n_splits)
        parts = [read(s * size, (s + 1) * size) for s in range(n_splits)]
        return parts[0][0], 0

    finding = next(
        f for f in examine("gpu-efficiency/split_keys", reads_on).findings if f.property.startswith("every key")
    )
    assert "key 15 was read, of a memory whose last key is 12" in finding.message
    assert finding.misconception == "out-of-bounds reads"


def test_who_lets_all_blocks_wait_for_one_loses_one_point_in_twelve():
    report = examine("gpu-efficiency/split_keys", next(
        m.wrong for m in splits.MISTAKES if m.name == "last takes the rest"))  # fmt: skip
    assert failed(report) == ["as many blocks as asked for, and none that all wait for"]
    assert report.score == pytest.approx(11 / 12)
    assert "one of 8 blocks reads 8 of 15 keys; 2 are its share" in str(report.findings[3].message)


@pytest.mark.parametrize("seed", range(3))
def test_ragged_is_attention_of_each_sample_alone(seed):
    case = exercises._batch(np.random.default_rng(seed), rest=np.nan, empty=True)
    out = packed.ragged(packed.Attend(), **case)
    for b, (n, m) in enumerate(zip(case["query_lengths"], case["key_lengths"], strict=True)):
        alone = reference.attention(case["q"][b, :n], case["k"][b, :m], case["v"][b, :m])
        np.testing.assert_allclose(out[b, :n], alone, atol=1e-12)
        assert not out[b, n:].any()


def test_the_query_mask_of_the_keys_is_called_by_its_name_where_shapes_hide_it():
    wrong = next(m for m in packed.MISTAKES if m.name == "query mask = key mask")
    report = examine("gpu-efficiency/ragged", wrong.wrong)
    assert report.score == 0
    assert "Your result is what one gets when the queries are cut to the lengths of the keys." in " ".join(
        str(report).split()
    )


def test_a_cache_of_one_s_own_is_found_out_by_the_second_memory_alone():
    kept = {}

    def caching(attend, q, k, v, query_lengths, key_lengths):
        k, v = kept.setdefault(k.shape, (k, v))
        return packed.ragged(attend, q, k, v, query_lengths, key_lengths)

    report = examine("gpu-efficiency/ragged", caching)
    assert "another memory of the same size" in failed(report)
    assert [m.name for m in report.diagnosis] == ["stale cache"]


def test_padding_that_is_handed_over_and_thrown_away_again_costs_its_points():
    wrong = next(m.wrong for m in packed.MISTAKES if m.name == "padding asks too")
    report = examine("gpu-efficiency/ragged", wrong)
    assert failed(report) == ["no row of padding handed over, in one launch"]
    assert "of which" in report.findings[4].message


@pytest.mark.parametrize(
    ("name", "answer", "complaint"),
    [
        (
            "split_keys",
            lambda read, n, s: read(0, n)[0],
            "it returned a ndarray, where a tuple of 2 is wanted: out, moved",
        ),
        ("split_keys", lambda read, n, s: read("a", n), "it raised TypeError"),
        ("ragged", lambda attend, q, *_: q[0], "it returned shape"),
        ("ragged", lambda attend, q, k, *_: attend(q, k, k, [0, 1], [0, 1]), "packed q, k, v are (rows, width)"),
        ("audit", lambda text, *_: [], "it returned a list, where a tuple is wanted"),
        ("audit", lambda text, *_: "ok", "it returned a str, where a tuple of verdicts is wanted"),
        ("audit", lambda text, *_: ("ok",), "it returned 1 verdicts for 4 lines"),
        ("audit", lambda text, *_: tuple(text.splitlines()), "a verdict must be one of cut off, not named, no data"),
    ],
)
def test_what_is_no_answer_is_told_in_words(name, answer, complaint):
    report = examine(f"gpu-efficiency/{name}", answer)
    assert report.score == 0
    assert complaint.replace("where a tuple is wanted", "") in report.findings[0].message
