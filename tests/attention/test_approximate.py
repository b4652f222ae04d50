"""Approximations: exact where they should be, by hand where they are not, honest about masks."""

import math
import re

import pytest
import torch

from crossattn_ref.attention import approximate, dense
from crossattn_ref.attention.approximate import latents, linear, low_rank, quantise, quantised, segments, top_k
from crossattn_ref.attention.inputs import Lengths
from crossattn_ref.attention.multihead import MultiHeadAttention

B, H, HKV, NQ, NK, DK, DV = 2, 6, 3, 5, 7, 11, 13
SEEDS = torch.randn(4, DK, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
WAYS = {
    "top_k": lambda *args: top_k(*args, n=3),
    "linear": linear,
    "latents": lambda *args: latents(*args, seeds=SEEDS),
    "quantised": lambda *args: quantised(*args, bits=4),
}
READS = WAYS | {  # these err little where a dtype rounds another way: all keys are among the best, and steps are small
    "top_k": lambda *args: top_k(*args, n=NK),
    "quantised": lambda *args: quantised(*args, bits=8),
    "low_rank": lambda *args: low_rank(*args, projection=segments(3, NK)),
}


def sequences(seed=3, *, n_kv_heads=HKV, n_keys=NK):
    generator = torch.Generator().manual_seed(seed)
    shapes = (B, H, NQ, DK), (B, n_kv_heads, n_keys, DK), (B, n_kv_heads, n_keys, DV)
    return tuple(torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes)


def close(a, b, atol=1e-12):
    torch.testing.assert_close(a, b, rtol=0, atol=atol)


# Exact where nothing is left out


def test_top_k_of_all_keys_is_attention():
    q, k, v = sequences()
    for mask in (None, Lengths(torch.tensor([3, 7])), torch.ones(NQ, NK, dtype=torch.bool).tril(-1)):
        close(top_k(q, k, v, mask, n=NK), dense.attention(q, k, v, mask))
        close(top_k(q, k, v, mask, n=100), dense.attention(q, k, v, mask))


def test_a_segment_for_each_key_is_attention():
    q, k, v = sequences()
    close(low_rank(q, k, v, projection=segments(NK, NK).double()), dense.attention(q, k, v))


def test_sharp_seeds_that_are_the_keys_themselves_give_attention():
    q, k, v = sequences()
    k = torch.eye(NK, DK, dtype=torch.float64).expand(B, HKV, NK, DK)
    close(latents(q, k, v, seeds=1e4 * torch.eye(NK, DK)), dense.attention(q, k, v))


def test_whole_numbers_that_fit_into_the_bits_are_read_exactly():
    q, k, v = sequences()
    k, v = (torch.randint(-127, 128, x.shape).double() for x in (k, v))
    k[..., 0] = v[..., 0] = 127
    close(quantised(q / 100, k, v, bits=8), dense.attention(q / 100, k, v), atol=1e-10)


# By hand, where something is left out


def test_top_one_carries_the_value_of_the_best_key_away():
    q, k, v = sequences(n_kv_heads=H)
    best = (q @ k.mT).argmax(dim=-1)
    close(top_k(q, k, v, n=1), torch.take_along_dim(v, best[..., None], dim=2))


def test_linear_is_the_average_by_the_products_of_features_written_out_key_by_key():
    q, k, v = sequences(n_kv_heads=H)

    def phi(x):
        return torch.where(x > 0, x + 1, x.exp())

    weights = torch.einsum("bhqd,bhkd->bhqk", phi(q), phi(k))
    weights = weights / weights.sum(dim=-1, keepdim=True)
    close(linear(q, k, v), weights @ v)


def test_low_rank_attends_to_averages_of_neighbours():
    q, k, v = sequences(n_keys=6)
    pairs = [x.unflatten(2, (3, 2)).mean(dim=3) for x in (k, v)]
    close(low_rank(q, k, v, projection=segments(3, 6).double()), dense.attention(q, *pairs))


@pytest.mark.parametrize(("r", "n_keys"), [(1, 7), (3, 7), (5, 7), (7, 7)])
def test_segments_average_each_key_once(r, n_keys):
    rows = segments(r, n_keys)
    torch.testing.assert_close(rows.sum(dim=1), torch.ones(r))
    assert ((rows > 0).sum(dim=0) == 1).all()
    lengths = (rows > 0).sum(dim=1)
    assert lengths.max() - lengths.min() <= 1


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_rounding_errs_by_at_most_half_a_step_and_keeps_so_many_levels(bits):
    x = sequences()[1]
    numbers, scale = quantise(x, bits)
    assert numbers.dtype == torch.int8
    assert numbers.abs().max() == 2 ** (bits - 1) - 1
    assert ((numbers * scale - x).abs() <= scale / 2 + 1e-12).all()
    assert quantise(torch.zeros(3, 5), bits)[0].abs().max() == 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_a_scale_that_was_rounded_down_turns_no_number_round(bits, dtype):
    x = torch.randn(1009, 5, generator=torch.Generator().manual_seed(0)).to(dtype)
    numbers, _ = quantise(x, bits)
    assert numbers.abs().max() == 2 ** (bits - 1) - 1 == -numbers.min()
    assert (numbers * x >= 0).all()


# Errors shrink as more is kept


@pytest.mark.parametrize(
    "reads",
    [
        [lambda *a, n=n: top_k(*a, n=n) for n in (4, 16, 64)],
        [lambda *a, b=b: quantised(*a, bits=b) for b in (2, 4, 8)],
        [lambda *a, r=r: low_rank(*a, projection=segments(r, 64).double()) for r in (4, 32, 64)],
    ],
    ids=["top_k", "quantised", "low_rank"],
)
def test_the_error_falls_as_more_of_the_memory_is_kept(reads):
    q, k, v = sequences(n_keys=64)
    errors = [(read(q, k, v) - dense.attention(q, k, v)).norm().item() for read in reads]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > 0.05


# Masks and layers


@pytest.mark.parametrize("way", WAYS)
def test_masking_keys_equals_deleting_them_and_hidden_content_has_no_effect(way):
    q, k, v = sequences()
    mask = Lengths(torch.full((B,), 4))
    out = WAYS[way](q, k, v, mask)
    close(out, WAYS[way](q, k[:, :, :4], v[:, :, :4]), atol=1e-10)
    k[:, :, 4:] = v[:, :, 4:] = 1e3
    close(WAYS[way](q, k, v, mask), out, atol=1e-10)


@pytest.mark.parametrize("way", WAYS)
def test_a_query_that_may_look_at_nothing_gets_zeros(way):
    q, k, v = sequences()
    out = WAYS[way](q, k, v, Lengths(torch.tensor([0, 4])))
    assert (out[0] == 0).all()
    assert (out[1] != 0).any()


@pytest.mark.parametrize("way", WAYS)
def test_a_layer_takes_it_as_its_algorithm_and_learns_through_it(way):
    layer = MultiHeadAttention(6 * DK, 6, n_kv_heads=3, attend=WAYS[way]).double()
    exact = MultiHeadAttention(6 * DK, 6, n_kv_heads=3).double()
    exact.load_state_dict(layer.state_dict())
    x = torch.randn(2, 5, 6 * DK, generator=torch.Generator().manual_seed(2)).double()
    out = layer(x)
    assert (out - exact(x)).abs().max() > 1e-6
    out.square().sum().backward()
    for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
        assert getattr(layer, name).weight.grad.abs().sum() > 1e-6, name


@pytest.mark.parametrize("way", READS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_every_dtype_comes_back_near_the_answer_in_double(way, dtype):
    tensors = [x.to(dtype) for x in sequences()]
    out, right = READS[way](*tensors), READS[way](*(x.double() for x in tensors))
    assert out.dtype == dtype
    close(out.double(), right, atol=16 * torch.finfo(dtype).eps)


Q, K, V = sequences()


def mixed(projection, mask=None):
    return low_rank(Q, K, V, mask, projection=projection)


def asked(seeds, mask=None):
    return latents(Q, K, V, mask, seeds=seeds)


@pytest.mark.usefixtures("shapes_unchecked")
@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: top_k(Q, K, V, n=0), ValueError, "n must be at least 1, got 0"),
        (lambda: top_k(Q, K, V, n=2.5), TypeError, "n must be an integer, got 2.5"),
        (lambda: quantised(Q, K, V, bits=1), ValueError, "bits must lie between 2 and 8, got 1"),
        (lambda: quantised(Q, K, V, bits=4.5), TypeError, "bits must be an integer, got 4.5"),
        (lambda: quantised(Q, K, V, bits="4"), TypeError, "bits must be an integer, got '4'"),
        (lambda: quantise(K, 9), ValueError, "bits must lie between 2 and 8, got 9"),
        (lambda: segments(8, 7), ValueError, r"r must be at most the number of keys \(7\), got 8"),
        (lambda: segments(2.0, 7), TypeError, r"r must be an integer, got 2\.0"),
        (lambda: segments(1, 0), ValueError, "n_keys must be at least 1, got 0"),
        (lambda: mixed(segments(3, 6)), ValueError, r"projection must have .* row of 7 numbers, got shape \(3, 6\)"),
        (lambda: mixed(torch.ones(7)), ValueError, r"projection must have the shape \(r, Nk\), .* got shape \(7,\)"),
        (lambda: mixed(torch.ones(0, 7)), ValueError, r"at least one row of 7 numbers, got shape \(0, 7\)"),
        (lambda: mixed([[1.0] * 7]), TypeError, "projection must be a tensor of floating numbers, got list"),
        (lambda: mixed(torch.ones(3, 7) > 0), TypeError, r"projection must be .*, got dtype torch\.bool"),
        (lambda: mixed(segments(3, 7), Lengths(torch.tensor([1, 1]))), ValueError, "mask must be None"),
        (lambda: linear(Q, K, V, torch.ones(NQ, NK) > 0), ValueError, "hide the same keys from all heads and queries"),
        (lambda: asked(SEEDS, torch.ones(NQ, NK) > 0), ValueError, "hide the same keys"),
        (lambda: asked(SEEDS.tolist()), TypeError, "seeds must be a tensor of floating numbers, got list"),
        (lambda: asked(SEEDS[:0]), ValueError, r"at least one row of 11 numbers, got shape \(0, 11\)"),
        (lambda: asked(SEEDS.mT), ValueError, r"seeds must have the shape \(m, Dk\), .*, got shape \(11, 4\)"),
    ],
)
def test_a_bad_call_is_told_the_name_the_rule_and_the_value(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_each_names_its_source_what_there_is_to_save_what_it_saves_here_and_where_it_errs():
    for name in ("top_k", "linear", "low_rank", "latents", "quantised"):
        words = getattr(approximate, name).__doc__
        assert all(re.search(rf"\b{word}", words) for word in ("Source: ", "Saves ", "[Hh]ere ", "Errs ")), name
    assert math.isclose(sum(segments(2, 4)[0]), 1)
