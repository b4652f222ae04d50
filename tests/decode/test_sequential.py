"""One token after the other: against the whole model, against the probabilities drawn from, and errors."""

import math

import pytest
import torch

from crossattn_ref.decode.model import without
from crossattn_ref.decode.sequential import greedy, likeliest, nucleus, sample
from tests.decode.toys import BOS, EOS, PAD, SEED, Prefixes, alone, random_model, translator

LOGITS = torch.tensor([[0.1, 0.2, 0.4, 0.05, 0.25]]).log()


def fixed(_, prefix):
    return LOGITS[0]


def draws(n, **options):
    """Draw one token n times from LOGITS, PAD and BOS not ruled out."""
    generator = torch.Generator().manual_seed(SEED)
    written = sample(
        Prefixes(fixed),
        torch.zeros(n),
        torch.ones(n, dtype=torch.long),
        generator=generator,
        max_tokens=1,
        eos=None,
        never=(),
        **options,
    )
    return torch.tensor([one.tokens[0] for one in written]).bincount(minlength=5) / n


def test_greedy_writes_what_the_whole_model_finds_most_probable():
    """Run the decoder over all that was written: at each place, no token is more probable."""
    model, src, lengths = translator()
    with torch.inference_mode():
        memory = model.encode(src, lengths)
        for b, written in enumerate(greedy(model, memory, lengths, max_tokens=9)):
            tokens = torch.tensor([[BOS, *written.tokens, EOS][: len(written.tokens) + 1 + written.ended]])
            logits = model.decode(tokens[:, :-1], memory[b : b + 1], lengths[b : b + 1])
            logits[..., [PAD, BOS]] = -math.inf
            assert torch.equal(logits.argmax(-1), tokens[:, 1:])
            assert len(written.tokens) <= 9
            assert written.ended or len(written.tokens) == 9


def test_sentences_of_a_ragged_batch_are_those_of_each_source_alone():
    model, src, lengths = translator()

    def write(model, memory, lengths):
        return greedy(model, memory, lengths, max_tokens=11)

    with torch.inference_mode():
        together = write(model, model.encode(src, lengths), lengths)
        assert [w.tokens for w in together] == [w.tokens for w in alone(write, model, src, lengths)]


def test_tokens_are_drawn_as_often_as_they_are_probable():
    n = 20_000
    for options, expected in (
        ({}, [0.1, 0.2, 0.4, 0.05, 0.25]),
        ({"top_k": 2}, [0, 0, 0.4 / 0.65, 0, 0.25 / 0.65]),
        ({"top_p": 0.6}, [0, 0, 0.4 / 0.65, 0, 0.25 / 0.65]),  # .4 is too little, .65 is enough
        ({"top_p": 0.66}, [0, 0.2 / 0.85, 0.4 / 0.85, 0, 0.25 / 0.85]),
        ({"temperature": 0.5}, [p * p / 0.275 for p in (0.1, 0.2, 0.4, 0.05, 0.25)]),
    ):
        shares = torch.tensor(expected)
        spread = (shares * (1 - shares) / n).sqrt()
        assert ((draws(n, **options) - shares).abs() <= 5 * spread + 1e-6).all(), options


def test_the_same_generator_draws_the_same_sentence_and_cold_draws_are_greedy():
    model, memory = random_model(SEED), torch.arange(4)

    def drawn(seed, **options):
        generator = torch.Generator().manual_seed(seed)
        return [
            w.tokens
            for w in sample(
                model, memory, torch.ones(4, dtype=torch.long), generator=generator, max_tokens=8, **options
            )
        ]

    assert drawn(1) == drawn(1)
    assert len({tuple(drawn(seed)) for seed in range(5)}) > 1
    expected = [w.tokens for w in greedy(model, memory, torch.ones(4, dtype=torch.long), max_tokens=8)]
    assert drawn(1, temperature=1e-4) == expected
    assert drawn(2, top_k=1) == expected
    assert drawn(3, top_p=1e-9) == expected


def test_a_log_probability_is_that_of_the_model_whatever_was_drawn_from():
    model = random_model(SEED)
    generator = torch.Generator().manual_seed(SEED)
    for number, written in enumerate(
        sample(
            model,
            torch.arange(3),
            torch.ones(3, dtype=torch.long),
            generator=generator,
            max_tokens=6,
            temperature=0.3,
            top_k=2,
        )
    ):
        total, prefix = 0.0, (BOS,)
        for token in (*written.tokens, EOS)[: len(written.tokens) + written.ended]:
            total, prefix = total + float(model.logits_of(number, prefix).log_softmax(-1)[token]), (*prefix, token)
        assert written.log_prob == pytest.approx(total, abs=1e-9)


def test_some_tokens_are_never_written_and_logits_stay_as_they_were():
    logits = LOGITS.clone()
    assert without(logits, (0, 2)).isinf().tolist() == [[True, False, True, False, False]]
    assert torch.equal(logits, LOGITS)
    model = random_model(SEED)
    for written in greedy(model, torch.arange(9), torch.ones(9, dtype=torch.long), max_tokens=6, never=(PAD, BOS, 4)):
        assert set(written.tokens) <= {3}


def test_nothing_is_left_out_where_nothing_is_asked_for():
    assert likeliest(LOGITS, None) is LOGITS
    assert likeliest(LOGITS, 9) is LOGITS
    assert nucleus(LOGITS, 1.0) is LOGITS


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0.0}, "temperature must be greater than 0, got 0.0"),
        ({"temperature": math.nan}, "temperature must be greater than 0, got nan"),
        ({"top_k": 0}, "top_k must be at least 1, got 0"),
        ({"top_p": 0.0}, "top_p must lie above 0"),
        ({"top_p": 1.5}, "top_p must lie above 0 and be at most 1, got 1.5"),
        ({"max_tokens": 0}, "max_tokens must be at least 1, got 0"),
    ],
)
def test_choices_that_mean_nothing_are_refused(options, message):
    options = {"max_tokens": 3} | options
    with pytest.raises(ValueError, match=message):
        sample(
            random_model(0), torch.arange(2), torch.ones(2, dtype=torch.long), generator=torch.Generator(), **options
        )
