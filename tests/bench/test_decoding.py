"""The suite of decoding, small: what it measures, and that it refuses to compare what does not write the same."""

import pytest
import torch

from crossattn_ref.bench import decoding

SMALL = decoding.Size(
    name="small",
    n_tokens=601,
    d_model=22,
    n_heads=2,
    n_layers=3,
    d_ff=29,
    n_sentences=3,
    width=2,
    n_source=7,
    n_steps=5,
)


@pytest.fixture(scope="module")
def measured():
    return {(m.case, m.metric): m for m in decoding.measure(size=SMALL, seeds=(0, 1), rounds=1)}


def test_a_speedup_is_the_ratio_of_the_times_beside_it(measured):
    case = "small/beam2"
    speedup = measured[case, "speedup_over_transformers"].samples
    ours, theirs = (measured[case, name].samples for name in ("seconds", "transformers_seconds"))
    assert speedup == [b / a for a, b in zip(ours, theirs, strict=True)]
    assert len(speedup) == 2


def test_the_source_is_projected_once_and_takes_the_bytes_of_one_memory_however_wide_the_beam(measured):
    keys_and_values = 2 * SMALL.n_layers * SMALL.n_sentences * SMALL.n_source * SMALL.d_model * 4
    assert measured["small/beam2", "cross_memory_bytes"].samples == [keys_and_values] * 2
    assert measured["small/beam2", "cross_projections"].samples == [1, 1]


def test_the_parts_of_both_are_named_alike_and_none_is_negative(measured):
    parts = {whose: {m for c, m in measured if c == f"small/beam2/{whose}"} for whose in ("ours", "transformers")}
    assert parts["ours"] == parts["transformers"]
    assert parts["ours"] > {"self-attention", "cross-attention", "feed-forward", "output projection", "encoder"}
    assert all(min(m.samples) > 0 for (case, _), m in measured.items() if case.startswith("small/beam2/"))


def test_two_that_write_different_tokens_are_not_compared(monkeypatch):
    monkeypatch.setattr(
        decoding, "generate", lambda theirs, src, *, width, n_steps, forced: torch.zeros(len(src), n_steps)
    )
    with pytest.raises(ValueError, match="must write the same tokens, and with seed 0 they do not"):
        list(decoding.measure(size=SMALL, seeds=(0,), rounds=1))


def test_the_full_size_is_that_of_the_published_models():
    size = decoding.Size()
    assert (size.n_layers, size.d_model, size.n_tokens) == (6, 512, 58_101)
    assert (size.n_sentences, size.width, size.n_source, size.n_steps) == (8, 4, 40, 64)
