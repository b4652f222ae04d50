"""The exercises of the assignment "vqa": by brute force, against torch, and what a learner reads."""

import itertools
import secrets

import numpy as np
import pytest
import torch
from torch.nn import functional

from crossattn_ref.checks import examine, reference
from crossattn_ref.checks.variants import reading
from crossattn_ref.checks.vqa import _items, _most_pairs, _paired, _reading

SEED = secrets.randbelow(2**32)


def most_by_trying(questions, answers):
    """The largest number of pairs, by trying every way to pair."""

    def best(left):
        if len(left) < 2:
            return 0
        first, rest = left[0], left[1:]
        partners = [i for i in rest if questions[i] == questions[first] and answers[i] != answers[first]]
        return max([best(rest), *(1 + best([i for i in rest if i != partner]) for partner in partners)])

    return best(list(range(len(questions))))


def test_no_way_to_pair_makes_more_pairs_than_the_right_one():
    rng = np.random.default_rng(SEED)
    for _ in range(40):
        case = _items(rng, 2, 3, 8)
        pairs = reference("vqa/balanced_pairs")(**case)
        assert len(pairs) == most_by_trying(**case) == _most_pairs(**case)
        assert _paired(tuple(case.values()), pairs)[1:] == (0, 0, 0)


def test_on_balanced_pairs_no_guess_from_the_question_is_right_more_than_half_the_time():
    case = _items(np.random.default_rng(SEED), 3, 4, 60)
    chosen = reference("vqa/balanced_pairs")(**case).ravel()
    for guess in itertools.product(range(4), repeat=3):
        right = case["answers"][chosen] == np.array(guess)[case["questions"][chosen]]
        assert right.mean() <= 0.5


@pytest.mark.parametrize("encode", [reading.right, reading.encode], ids=["reference", "stages"])
def test_the_right_reading_is_torchs_attention_and_a_mean_of_real_words(encode):
    case = _reading(np.random.default_rng(SEED))
    words, patches = torch.from_numpy(case["words"]), torch.from_numpy(case["patches"])
    q, k, v = (x @ torch.from_numpy(case[w]) for x, w in ((words, "w_query"), (patches, "w_key"), (patches, "w_value")))
    h = words + functional.scaled_dot_product_attention(q, k, v)
    expected = torch.stack([row[:n].mean(0) for row, n in zip(h, case["n_real"].tolist(), strict=True)])
    np.testing.assert_allclose(encode(**case), expected.numpy(), rtol=0, atol=1e-12)


def test_a_prior_fitted_on_the_test_is_asked_who_knows_its_answers():
    def cheat(train, test):
        return reference("vqa/question_prior")(test, test)

    report = examine("vqa/question_prior", cheat, SEED)
    assert [mistake.name for mistake in report.diagnosis] == ["fitted on the test"]
    assert "Who knows the answers of the test before it is written?" in " ".join(str(report).split())


def test_what_is_no_dict_and_a_dict_of_other_keys_are_told_so():
    for answer, words in (
        (lambda train, test: 0.5, "it returned 0.5, a float, where a dict is wanted"),
        (lambda train, test: {"x": 0.5}, "its keys are ['x'], where a share for each kind in test is wanted"),
        (lambda train, test: {kind: "a" for kind, _ in test}, "where one number is wanted"),
        (lambda train, test: {}, "its keys are [], where a share for each kind in test is wanted"),
    ):
        assert words in " ".join(str(examine("vqa/question_prior", answer, SEED)).split())


def test_pairs_that_are_none_are_told_so():
    for answer, words in (
        (lambda q, a: np.zeros((3, 2)), "float64 of shape (3, 2), where integers of shape (P, 2) are wanted"),
        (lambda q, a: [(0, 1)], "it returned a list, where an array is wanted"),
        (lambda q, a: np.array([[0, 99]]), "it names an item that there is not"),
        (lambda q, a: np.array([[0, 0]]), "the answers agree"),
    ):
        assert words in " ".join(str(examine("vqa/balanced_pairs", answer, SEED)).split())
