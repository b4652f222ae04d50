"""The exercise of the assignment "summarization": against torch's scatter, by hand, and what a learner reads."""

import secrets

import numpy as np
import torch

from crossattn_ref.checks import examine, reference

SEED = secrets.randbelow(2**32)


def test_a_word_that_stands_twice_gets_both_weights():
    half = np.full((1, 1, 2), 0.5)
    out = reference("summarization/copy_distribution")(
        half, np.array([[[0.3, 0.3, 0.4]]]), np.array([[2, 0, 2]]), np.array([[0.5]]), 3
    )
    np.testing.assert_allclose(out[0, 0], [0.25 + 0.15, 0.25, 0.35], rtol=0, atol=1e-12)


def test_the_distribution_is_what_torchs_scatter_adds_up():
    generator = torch.Generator().manual_seed(SEED)
    B, Nq, Nk, V, n_words = 3, 5, 7, 4, 9
    vocabulary, weights = (torch.rand(B, Nq, n, generator=generator).softmax(-1).double() for n in (V, Nk))
    source, gate = torch.randint(0, n_words, (B, Nk), generator=generator), torch.rand(B, Nq, generator=generator)
    expected = torch.zeros(B, Nq, n_words, dtype=torch.float64)
    expected[..., :V] = vocabulary * (1 - gate[..., None])
    expected.scatter_add_(2, source[:, None].expand(-1, Nq, -1), weights * gate[..., None])
    given = (vocabulary.numpy(), weights.numpy(), source.numpy(), gate.numpy())
    out = reference("summarization/copy_distribution")(*given, n_words)
    np.testing.assert_allclose(out, expected.numpy(), rtol=0, atol=1e-7)


def test_whoever_adds_into_repeated_places_at_once_learns_of_it():
    def buffered(vocabulary, weights, source, gate, n_words):
        out = np.zeros((*weights.shape[:2], n_words))
        out[..., : vocabulary.shape[-1]] = (1 - gate[..., None]) * vocabulary
        b, i, _ = np.indices(weights.shape)
        out[b, i, source[:, None, :] + 0 * i] += gate[..., None] * weights
        return out

    report = examine("summarization/copy_distribution", buffered)
    assert "A word stands twice in the source" in " ".join(str(report).split())
    assert report.diagnosis[0].name == "overwritten"
    passed = {finding.property for finding in report.findings if finding.passed}
    assert "right where every source word stands once" in passed
