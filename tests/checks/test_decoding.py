"""The exercises of the assignment "decoding": against torch, by hand, and what is counted outside."""

import itertools
import secrets

import numpy as np
import torch
from torch.nn import functional

from crossattn_ref.checks import examine, reference
from crossattn_ref.checks.variants import cached, writing

SEED = secrets.randbelow(2**32)


def said(report):
    """What a report says, whatever its line breaks."""
    return " ".join(str(report).split())


def test_greedy_writing_is_worked_out_by_hand():
    def count(tokens=None):
        if tokens is None:
            return np.full((2, 1), 1), 4
        return np.eye(9)[[2 if n == 4 else n for n in (tokens.shape[1] + 2, tokens.shape[1] + 3)]]

    assert reference("decoding/greedy")(count, None).tolist() == [[3, 2, 0, 0], [2, 0, 0, 0]]


def test_the_steps_are_those_of_a_whole_layer_in_torch():
    """Run the layer once more over all rows at once, with torch's own attention under a causal mask."""
    rng = np.random.default_rng(SEED)
    layer = cached.Layer(rng, 3, 5, 4, 6)
    out = reference("decoding/cached_step")(layer, rng)
    x, memory, n = layer()
    rows = [x + layer("place", 0)]
    rows += [layer("next", out[:, t]) + layer("place", t + 1) for t in range(n - 1)]
    q, k, v = (torch.from_numpy(np.stack([layer(name, row) for row in rows], axis=1)) for name in "qkv")
    h = torch.from_numpy(np.stack(rows, axis=1)) + functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    asked = torch.from_numpy(np.stack([layer("cross q", row) for row in h.numpy().swapaxes(0, 1)], axis=1))
    keys, values = (torch.from_numpy(layer(name, memory)) for name in cached.MEMORY)
    whole = h + functional.scaled_dot_product_attention(asked, keys, values)
    np.testing.assert_allclose(out, whole.numpy(), rtol=0, atol=1e-9)


def test_the_memory_projected_at_every_step_is_counted_and_said():
    def forgetful(layer, rng):
        """Right in all but that, and it undoes what gives it away."""
        calls = []

        def undone(what=None, rows=None):
            if what not in cached.MEMORY:
                return layer(what, rows) if what else layer()
            calls.append(what)
            return layer(what, rows) * calls.count(what)

        return cached.steps(undone, rng, remember=lambda layer, memory: lambda: tuple(
            layer(name, memory) for name in cached.MEMORY))  # fmt: skip

    report = examine("decoding/cached_step", forgetful)
    assert [finding.property for finding in report.findings if not finding.passed] == ["the memory is projected once"]
    assert "does the source change while you write?" in said(report)


def _beginning_anew(target):
    """Put every question to something that has just begun anew, and has forgotten what it was asked."""

    def forgetful(*question):
        target()
        answer = target(*question)
        target()
        return answer

    return forgetful


def test_who_begins_anew_does_not_hide_what_was_asked_before():
    def stubborn(model, rng):
        return writing.write(_beginning_anew(model), rng, over=lambda finished: False)

    report = examine("decoding/greedy", stubborn, SEED)
    (failed,) = [finding for finding in report.findings if not finding.passed]
    assert failed.property == "the model is not asked once all sentences have ended"

    def forgetful(layer, rng):
        anew, rows = _beginning_anew(layer), []

        def all_rows(layer, x):
            rows.append(x)
            keys, values = (np.stack([anew(name, row) for row in rows], axis=1) for name in "kv")
            return layer("q", x), keys, values

        def again(layer, memory):
            return lambda: tuple(anew(name, memory) for name in cached.MEMORY)

        return cached.steps(anew, rng, remember=again, project=all_rows, keep=lambda past, new: new)

    report = examine("decoding/cached_step", forgetful, SEED)
    failed = [finding.property for finding in report.findings if not finding.passed]
    assert failed == ["the memory is projected once", "every position is projected once"]


def test_a_beam_step_is_what_torch_finds_among_all_continuations():
    generator = torch.Generator().manual_seed(SEED)
    B, W, V, width = 3, 4, 7, 5
    log_probs = torch.randn(B, W, V, generator=generator, dtype=torch.float64).log_softmax(-1)
    scores = -torch.rand(B, W, generator=generator, dtype=torch.float64) * 3
    finished = torch.rand(B, W, generator=generator) < 0.4
    best, parents, words = reference("decoding/beam_step")(*(x.numpy() for x in (log_probs, scores, finished)), width)
    for b in range(B):
        candidates = {
            (r, v): scores[b, r].item() + (0.0 if finished[b, r] else log_probs[b, r, v].item())
            for r, v in itertools.product(range(W), range(V))
            if v == 0 or not finished[b, r]
        }
        ranked = sorted(candidates, key=candidates.get, reverse=True)[:width]
        found = list(zip(parents[b].tolist(), words[b].tolist(), strict=True))
        assert found[: len(ranked)] == ranked
        np.testing.assert_allclose(best[b, : len(ranked)], [candidates[place] for place in ranked], rtol=0, atol=1e-12)
        # Where every beam has ended, fewer continuations than places exist; what fills the others must never win.
        assert np.isneginf(best[b, len(ranked) :]).all()


def test_folded_queries_read_one_memory_as_torch_reads_a_copy_for_each_beam():
    generator = torch.Generator().manual_seed(SEED)
    B, W, H, Nq, Nk, Dk = 2, 3, 5, 4, 7, 11
    q = torch.randn(B * W, H, Nq, Dk, generator=generator)
    k, v = (torch.randn(B, H, Nk, Dk, generator=generator) for _ in range(2))
    copied = functional.scaled_dot_product_attention(q, *(x.repeat_interleave(W, 0) for x in (k, v)))
    folded = torch.from_numpy(reference("decoding/fold_beams")(q.numpy(), W))
    out = functional.scaled_dot_product_attention(folded, k, v).view(B, H, W, Nq, Dk).transpose(1, 2).flatten(0, 1)
    torch.testing.assert_close(out, copied)


def test_a_model_that_is_asked_on_after_the_end_is_noticed():
    report = examine("decoding/greedy", lambda model, rng: writing.write(model, rng, over=lambda finished: False))
    failed = [finding for finding in report.findings if not finding.passed]
    assert [finding.property for finding in failed] == ["the model is not asked once all sentences have ended"]
    assert "the model was asked" in failed[0].message
