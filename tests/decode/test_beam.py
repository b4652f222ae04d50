"""Beam search: by hand, against every sentence there is, against transformers, and what it must not depend on."""

import itertools
import math

import pytest
import torch
from transformers import GenerationConfig

from crossattn_ref.bench.decoding import Size, marian, translator_of
from crossattn_ref.decode.beam import beam, best, gnmt, power
from crossattn_ref.decode.sequential import greedy
from tests.decode.toys import BOS, EOS, SEED, Prefixes, alone, random_model, translator


def every_sentence(model, number, max_tokens):
    """Yield (tokens, log probability, number of tokens with EOS) of all sentences up to max_tokens, by recursion."""

    def go_on(prefix, log_prob):
        log_probs = model.logits_of(number, prefix).log_softmax(-1).tolist()
        for token in range(EOS, model.n_tokens):
            total, n = log_prob + log_probs[token], len(prefix)
            if token == EOS:
                yield prefix[1:], total, n
            elif n == max_tokens:
                yield (*prefix[1:], token), total, n
            else:
                yield from go_on((*prefix, token), total)

    yield from go_on((BOS,), 0.0)


def decoded(model, n=2, **options):
    return beam(model, torch.arange(n), torch.ones(n, dtype=torch.long), **options)


# By hand


def test_a_beam_finds_what_greedy_decoding_misses():
    """The likelier first word, 3, leads to words of 1/2 at best; the other one, 4, to a sure end: .6 * .5 < .4 * 1."""
    table = {(BOS,): {3: 0.6, 4: 0.4}, (BOS, 3): {3: 0.5, EOS: 0.5}, (BOS, 4): {EOS: 1.0}}

    def logits_of(_, prefix):
        shares = table.get(prefix, {EOS: 1.0})
        return torch.tensor([math.log(shares[token]) if token in shares else -1e9 for token in range(5)])

    model = Prefixes(logits_of)
    found = decoded(model, 1, width=2, max_tokens=3, penalty=power(0.0))[0]
    assert found[0].tokens == (4,)
    assert found[0].log_prob == pytest.approx(math.log(0.4))
    assert found[0].ended
    assert greedy(model, torch.arange(1), torch.ones(1, dtype=torch.long), max_tokens=1)[0].tokens == (3,)


def test_penalties_are_worked_out_by_hand():
    assert (power(0.0)(7), power(1.0)(7), power(0.5)(9)) == (1, 7, 3)
    assert (gnmt(1.0)(1), gnmt(1.0)(7), gnmt(0.0)(7)) == (1, 2, 1)


# Against every sentence there is


@pytest.mark.parametrize("penalty", [power(0.0), power(1.0), gnmt(0.6)], ids=["none", "mean", "gnmt"])
def test_a_beam_wide_enough_for_all_sentences_finds_the_best_of_all(penalty):
    model = random_model(SEED)
    found = decoded(model, width=81, max_tokens=4, penalty=penalty, exhaustive=True)
    for number, several in enumerate(found):
        ranked = sorted(every_sentence(model, number, 4), key=lambda s: -s[1] / penalty(s[2]))
        for written, (tokens, log_prob, n) in zip(several[:10], ranked, strict=False):
            assert written.tokens == tokens, SEED
            assert written.log_prob == pytest.approx(log_prob, abs=1e-9)
            assert written.score == pytest.approx(log_prob / penalty(n), abs=1e-9)


def test_a_beam_of_one_that_never_ends_is_greedy():
    model = random_model(SEED)
    (one,) = zip(*decoded(model, 3, width=1, max_tokens=5, eos=None), strict=True)
    assert [w.tokens for w in one] == [
        w.tokens for w in greedy(model, torch.arange(3), torch.ones(3, dtype=torch.long), max_tokens=5, eos=None)
    ]


def test_log_probabilities_are_those_of_the_model_and_sentences_come_best_first():
    model = random_model(SEED)
    for number, several in enumerate(decoded(model, 4, width=3, max_tokens=6)):
        scores = [written.score for written in several]
        assert scores == sorted(scores, reverse=True)
        assert len({(written.tokens, written.ended) for written in several}) == len(several)
        for written in several:
            total, prefix = 0.0, (BOS,)
            for token in (*written.tokens, EOS)[: len(written.tokens) + written.ended]:
                total, prefix = total + float(model.logits_of(number, prefix).log_softmax(-1)[token]), (*prefix, token)
            assert written.log_prob == pytest.approx(total, abs=1e-9)


# Against transformers

TINY = Size(n_tokens=31, d_model=12, n_heads=2, n_layers=2, d_ff=17, n_sentences=5, n_source=7)


def tiny(seed):
    """A Marian model with weights so large that its sentences vary, and our copy of it."""
    torch.manual_seed(seed)
    theirs = marian(TINY, std=0.6)
    theirs.final_logits_bias[0, 0] = 6.0  # the number of EOS
    return theirs, translator_of(theirs), torch.randint(1, TINY.n_tokens - 1, (TINY.n_sentences, TINY.n_source))


@pytest.mark.parametrize(("exhaustive", "early"), [(False, False), (True, "never")])
@pytest.mark.parametrize("alpha", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("width", [2, 4])
def test_sentences_and_scores_are_those_of_transformers(width, alpha, exhaustive, early):
    start, n_ended = TINY.n_tokens - 1, []
    for seed in range(SEED, SEED + 2):
        theirs, ours, src = tiny(seed)
        config = GenerationConfig(
            num_beams=width, num_return_sequences=width, max_new_tokens=9, length_penalty=alpha, eos_token_id=0,
            early_stopping=early, pad_token_id=start, decoder_start_token_id=start, return_dict_in_generate=True,
            output_scores=True, do_sample=False,
        )  # fmt: skip
        lengths = torch.full((len(src),), src.shape[1])
        with torch.inference_mode():
            out = theirs.generate(src, attention_mask=torch.ones_like(src), generation_config=config)
            found = beam(
                ours, ours.encode(src, lengths), lengths, width=width, max_tokens=9, penalty=power(alpha),
                exhaustive=exhaustive, bos=start, eos=0, never=(),
            )  # fmt: skip
        written = [one for several in found for one in several]
        assert [one.score for one in written] == pytest.approx(out.sequences_scores.tolist(), abs=1e-4), seed
        for one, row in zip(written, out.sequences[:, 1:].tolist(), strict=True):
            n = len(one.tokens)
            assert list(one.tokens) == row[:n], seed
            assert row[n : n + 1] == [0] if one.ended else n == 9
        n_ended.append(sum(one.ended for one in written))
    assert any(n_ended)


def test_a_translator_with_copied_weights_computes_the_logits_of_transformers():
    theirs, ours, src = tiny(SEED)
    theirs, ours = theirs.double(), ours.double()
    tgt = torch.randint(0, TINY.n_tokens, (len(src), 5))
    with torch.inference_mode():
        expected = theirs(input_ids=src, decoder_input_ids=tgt).logits
        torch.testing.assert_close(ours(src, torch.full((len(src),), src.shape[1]), tgt), expected, rtol=0, atol=1e-9)


# What it must not depend on


@pytest.mark.parametrize("width", [1, 3])
def test_sentences_of_a_ragged_batch_are_those_of_each_source_alone(width):
    model, src, lengths = translator()

    def write(model, memory, lengths):
        return beam(model, memory, lengths, width=width, max_tokens=11)

    with torch.inference_mode():
        together = write(model, model.encode(src, lengths), lengths)
        for several, own in zip(together, alone(write, model, src, lengths), strict=True):
            assert [w.tokens for w in several] == [w.tokens for w in own], SEED
            assert [w.log_prob for w in several] == pytest.approx([w.log_prob for w in own], abs=1e-9)


@pytest.mark.parametrize("alpha", [0.0, 1.0, 3.0])
def test_what_is_found_does_not_depend_on_how_long_the_others_take(alpha):
    model, options = random_model(SEED), {"width": 2, "max_tokens": 9, "penalty": power(alpha)}
    together = beam(model, torch.arange(30), torch.ones(30, dtype=torch.long), **options)
    for number, several in enumerate(together):
        (own,) = beam(model, torch.tensor([number]), torch.ones(1, dtype=torch.long), **options)
        assert several == own, SEED


def test_logits_of_a_ragged_batch_are_those_of_each_source_alone_in_float32():
    model, src, lengths = translator(torch.float32)
    tokens = torch.randint(3, 19, (4, 5))
    with torch.inference_mode():
        states = [model.start(model.encode(src, lengths), lengths)]
        states += [
            model.start(model.encode(src[b : b + 1, :n], lengths[b : b + 1]), lengths[b : b + 1])
            for b, n in enumerate(lengths.tolist())
        ]
        for row in tokens:
            together, states[0] = model.step(row, states[0])
            for b in range(len(lengths)):
                own, states[b + 1] = model.step(row[b : b + 1], states[b + 1])
                scale = float(own.abs().max())
                torch.testing.assert_close(together[b], own[0], rtol=0, atol=1e-5 * max(1.0, scale))


def test_the_source_is_projected_once_and_its_bytes_depend_on_neither_width_nor_steps():
    model, src, lengths = translator()
    sizes, calls = set(), []
    for layer in model.decoder:
        layer.cross_attention.k_proj.register_forward_hook(lambda *_: calls.append(1))
    for width, n_steps in itertools.product((1, 4), (2, 7)):
        calls.clear()
        with torch.inference_mode():
            memory = model.encode(src, lengths)
            state = model.start(memory, lengths, width=width)
        sizes.add(sum(m.keys.untyped_storage().nbytes() + m.values.untyped_storage().nbytes() for m in state.memories))
        calls.clear()
        beam(model, memory, lengths, width=width, max_tokens=n_steps, eos=None)
        assert len(calls) == len(model.decoder)
    assert len(sizes) == 1


# Parts and errors


@pytest.mark.parametrize(("n_tokens", "count"), [(3, 2), (255, 4), (256 * 5, 4), (256 * 9 + 7, 8), (256 * 3, 700)])
def test_the_best_tokens_are_those_of_a_full_sort(n_tokens, count):
    logits = torch.randn(5, n_tokens, generator=torch.Generator().manual_seed(SEED), dtype=torch.float64)
    logits[0, -2:] += 9  # where the last block is not full, the best must be found behind it, too
    values, tokens = best(logits, count)
    expected = logits.sort(dim=-1, descending=True)
    assert torch.equal(values, expected.values[:, :count])
    assert torch.equal(tokens, expected.indices[:, :count])


@pytest.mark.parametrize("options", [{"width": 0, "max_tokens": 3}, {"width": 3, "max_tokens": 0}])
def test_a_beam_without_width_or_tokens_is_refused(options):
    with pytest.raises(ValueError, match="must be at least 1, got 0"):
        decoded(random_model(0), **options)
