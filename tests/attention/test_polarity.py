"""The table of masks: the probe is right about made-up attentions, and the table says what each API does."""

import importlib.util
import math

import pytest
import torch

from crossattn_ref.attention.polarity import N_KEYS, N_QUERIES, Api, hugging_faces, ours, probe, table, torchs, versions

SEEN = torch.ones(N_QUERIES, N_KEYS).tril(1)


def weights(seen, nothing=0.0):
    """Spread equal weights over what is seen; a row that sees nothing is filled."""
    seen = seen.double().expand(N_QUERIES, N_KEYS)
    total = seen.sum(dim=-1, keepdim=True)
    return torch.where(total > 0, seen / total, torch.as_tensor(nothing).double())


MADE_UP = {
    ("may look", "zeros"): lambda mask: weights(mask),
    ("do not look", "zeros"): lambda mask: weights(~mask),
    ("may look", "NaN"): lambda mask: weights(mask, math.nan),
    ("do not look", "NaN"): lambda mask: weights(~mask, math.nan),
    ("may look", "the average of everything that is masked"): lambda mask: weights(mask, 1 / N_KEYS),
    ("do not look", "the average of everything that is masked"): lambda mask: weights(~mask, 1 / N_KEYS),
    ("may look", "the weights [0.5, 0.5, 0.5]"): lambda mask: weights(mask, 0.5),
    ("it is ignored", "-"): lambda mask: weights(torch.ones(N_KEYS)),
}


@pytest.mark.parametrize("found", MADE_UP)
def test_the_probe_tells_polarity_and_what_a_query_gets_that_sees_nothing(found):
    finding = probe(Api(name="made up", argument="mask", read=MADE_UP[found]))
    assert (finding.true_means, finding.sees_nothing, finding.causal) == (*found, "-")


@pytest.mark.parametrize(
    ("offset", "alignment"), [(0, "top-left"), (1, "bottom-right"), (2, "neither"), (-1, "neither")]
)
def test_the_probe_tells_how_causality_is_aligned(offset, alignment):
    seen = torch.ones(N_QUERIES, N_KEYS).tril(offset)
    finding = probe(Api(name="made up", argument="is_causal", causal=lambda: weights(seen)))
    assert (finding.true_means, finding.sees_nothing, finding.causal) == ("-", "-", alignment)


def found(apis):
    return {(f.name, f.argument): (f.true_means, f.sees_nothing, f.causal) for f in map(probe, apis)}


def test_every_attention_of_ours_keeps_the_contract():
    for finding in map(probe, ours()):
        assert finding.true_means == "may look"
        assert finding.sees_nothing == "zeros"
    assert [f.causal for f in map(probe, ours())] == ["-", "-", "top-left", "bottom-right", "-"]


def test_torchs_attentions_are_found_to_disagree_with_each_other():
    findings = found(torchs())
    assert findings["scaled_dot_product_attention", "attn_mask, is_causal"] == ("may look", "zeros", "top-left")
    assert findings["nn.MultiheadAttention", "key_padding_mask"] == ("do not look", "NaN", "-")
    assert findings["nn.MultiheadAttention", "attn_mask"] == ("do not look", "NaN", "-")
    assert findings["nn.MultiheadAttention", "key_padding_mask, need_weights=False"][0] == "do not look"
    assert findings["nn.TransformerDecoderLayer", "memory_key_padding_mask"][0] == "do not look"
    assert findings["flex_attention", "mask_mod"][0] == "may look"
    assert findings["scaled_dot_product_attention", "attn_mask=causal_lower_right(...)"][2] == "bottom-right"


def test_the_masks_of_transformers_are_probed_in_whole_models():
    pytest.importorskip("transformers", reason="pip install crossattn-ref[parity]")
    findings = found(hugging_faces())
    assert findings["MarianModel", 'attention_mask ("eager")'][:2] == (
        "may look",
        "the average of everything that is masked",
    )
    assert findings["MarianModel", 'attention_mask ("sdpa")'][0] == "may look"
    assert findings["WhisperModel", 'attention_mask ("sdpa")'] == ("it is ignored", "-", "-")


def test_without_transformers_the_table_has_the_other_rows(monkeypatch):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "transformers" else find_spec(name))
    assert hugging_faces() == []
    assert versions() == f"torch {torch.__version__}"


def test_the_table_has_a_row_for_each_api():
    apis = [
        Api(name="one", argument="mask<b>", read=weights),
        Api(name="two", argument="x", causal=lambda: weights(SEEN)),
    ]
    _, *rows = table(apis).split("<tr>")[1:]
    assert "<code>one</code><br><code>mask&lt;b&gt;</code>" in rows[0]
    assert "<td>may look</td><td>zeros</td><td>-</td></tr>" in rows[0]
    assert "<td>-</td><td>-</td><td>bottom-right</td></tr>" in rows[1]
    assert len(rows) == 2
