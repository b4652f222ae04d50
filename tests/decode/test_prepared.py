"""A model made ready for decoding: the same logits and sentences from the same weights, by other products."""

import pytest
import torch

from crossattn_ref.attention import dense
from crossattn_ref.attention.inputs import Lengths
from crossattn_ref.decode.beam import beam
from crossattn_ref.decode.prepared import FEW, SMALL, FewRows, finite_attention, for_decoding
from tests.decode.toys import SEED, translator


def test_a_ready_model_writes_the_same_sentences_from_the_same_weights():
    model, src, lengths = translator()
    ready = for_decoding(model)
    assert {id(p) for p in ready.parameters()} == {id(p) for p in model.parameters()}
    assert not any(isinstance(module, FewRows) for module in model.modules())
    with torch.inference_mode():
        written = [beam(m, m.encode(src, lengths), lengths, width=3, max_tokens=9) for m in (model, ready)]
    for one, other in zip(*written, strict=True):
        assert [w.tokens for w in one] == [w.tokens for w in other], SEED
        assert [w.log_prob for w in one] == pytest.approx([w.log_prob for w in other], abs=1e-9)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("n_rows", [1, 5, FEW, FEW + 1])
@pytest.mark.parametrize("width", [11, SMALL // 5 + 1])
def test_a_layer_for_few_rows_is_the_layer(n_rows, width, bias):
    torch.manual_seed(SEED)
    layer = torch.nn.Linear(7, width, bias=bias, dtype=torch.float64)
    x = torch.randn(n_rows, 1, 7, dtype=torch.float64)
    few = for_decoding(torch.nn.Sequential(layer))
    with torch.no_grad():
        torch.testing.assert_close(few(x), layer(x), rtol=0, atol=1e-12)
        few_rows_as_columns = n_rows <= FEW and n_rows * width > SMALL
        assert (few(x).stride(0) == 1) == (few_rows_as_columns or width == 1)


@pytest.mark.parametrize("n_kv_heads", [1, 2, 6])
def test_attention_for_finite_numbers_is_attention(n_kv_heads):
    generator = torch.Generator().manual_seed(SEED)
    q = torch.randn(2, 6, 3, 5, generator=generator, dtype=torch.float64)
    k, v = torch.randn(2, 2, n_kv_heads, 7, 5, generator=generator, dtype=torch.float64)
    random = torch.rand(2, 1, 3, 7, generator=generator) < 0.5
    random[0, 0, 1] = False
    for mask in (None, random, Lengths(torch.tensor([4, 0]))):
        expected = dense.attention(q, k, v, mask)
        torch.testing.assert_close(finite_attention(q, k, v, mask), expected, rtol=0, atol=1e-12)


def test_weights_that_are_not_finite_are_refused_by_name():
    model, _, _ = translator()
    with torch.no_grad():
        model.decoder[0].feed_forward.inner.weight[2, 3] = torch.nan
    with pytest.raises(ValueError, match=r"decoder\.0\.feed_forward\.inner\.weight holds NaN or inf"):
        for_decoding(model)
