import numpy as np
import pytest

from crossattn_ref.checks.compare import Violation, closeness, disagreement, unmoved

EXACT = np.array([[0.25, 0.5, 0.25]] * 2)
ROUNDED = EXACT.astype(np.float32)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (EXACT.T, "shape (3, 2), where (2, 3)"),
        (EXACT[0], "shape (3,)"),
        (EXACT[:, :1], "shape (2, 1)"),
        (np.float64(0.25), "shape ()"),
        (EXACT.astype(np.float16), "float16"),
        (EXACT.astype(object), "object"),
        (EXACT.astype(complex), "complex128"),
        (np.ones((2, 3), int), "int64"),
        (EXACT > 0, "bool"),
        (EXACT * np.nan, "NaN or inf in 6 of 6 places"),
        (EXACT + np.eye(2, 3) * 1e-5, "wrong in 2 of 6 places, first at [0,0]"),
        (3, "3, a int"),
        ((EXACT, EXACT), "tuple of 2"),
    ],
    ids=str,
)
def test_a_value_of_the_wrong_form_or_with_wrong_numbers_is_told_so_without_the_right_ones(value, says):
    problem = disagreement(value, EXACT, ROUNDED)
    assert says in problem
    assert "0.25" not in problem.replace("0.25, a", "")


@pytest.mark.parametrize("value", [EXACT, ROUNDED, EXACT + 5e-7, np.asfortranarray(EXACT)], ids=str)
def test_a_right_value_passes_in_float32_and_float64(value):
    assert disagreement(value, EXACT, ROUNDED) is None


def test_what_float32_rounding_costs_is_forgiven_sixteen_times_and_no_more():
    rounded = EXACT + 1e-4
    assert disagreement(EXACT + 15e-4, EXACT, rounded) is None
    assert "wrong" in disagreement(EXACT + 17e-4, EXACT, rounded)


MASK = EXACT > 0.3


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (MASK.astype(int), "int64, where bool"),
        (MASK.astype(float), "float64, where bool"),
        (MASK[0], "shape (3,)"),
        (~MASK, "wrong in 6 of 6 places, first at [0,0]"),
        (MASK.all(), "where an array is wanted"),
        (MASK, None),
    ],
    ids=str,
)
def test_a_mask_must_be_boolean_and_right_everywhere(value, says):
    problem = disagreement(value, MASK, MASK)
    assert problem is None if says is None else says in problem


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (np.array([3, 1]), None),
        (np.array([3, 1], np.int32), None),
        (np.array([3.0, 1.0]), "float64, where int64 or int32"),
        (np.array([True, True]), "bool, where int64"),
        (np.array([1, 3]), "wrong in 2 of 2 places, first at [0]"),
        (np.array([[3, 1]]), "shape (1, 2)"),
    ],
    ids=str,
)
def test_whole_numbers_must_be_integers_and_right_everywhere(value, says):
    problem = disagreement(value, np.array([3, 1]), np.array([3, 1]))
    assert problem is None if says is None else says in problem


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (0.5, None),
        (np.float32(0.5), None),
        (np.array(0.5), None),
        (0.4, "the number is wrong"),
        (1, "it returned 1, a int, where an array is wanted"),
        (np.array([0.5]), "shape (1,)"),
        (float("nan"), "NaN"),
    ],
    ids=str,
)
def test_a_single_number_may_be_one_of_pythons(value, says):
    problem = disagreement(value, np.float64(0.5), np.float64(0.5))
    assert problem is None if says is None else says in problem


def test_half_precision_is_an_answer_where_the_question_was_put_in_it():
    half = EXACT.astype(np.float16)
    assert disagreement(half, EXACT, half) is None
    assert "float16, where float32 or float64" in disagreement(half, EXACT, ROUNDED)


def test_results_that_moved_are_told_and_so_are_those_that_are_not_numbers():
    unmoved(EXACT, EXACT + 1e-7, "it moved", {})
    for after in (EXACT + 1e-3, EXACT * np.nan, EXACT * np.inf):
        with pytest.raises(Violation, match="it moved"):
            unmoved(EXACT, after, "it moved", {})


def test_a_tuple_is_compared_item_by_item():
    assert disagreement((EXACT, EXACT), (EXACT, EXACT), (ROUNDED, ROUNDED)) is None
    assert "item 1" in disagreement((EXACT, -EXACT), (EXACT, EXACT), (ROUNDED, ROUNDED))
    assert "tuple of 2 arrays" in disagreement(EXACT, (EXACT, EXACT), (ROUNDED, ROUNDED))
    assert "a tuple of 1" in disagreement((EXACT,), (EXACT, EXACT), (ROUNDED, ROUNDED))


def test_closeness_measures_numbers_and_tells_kinds_apart():
    assert closeness(EXACT + 0.5, EXACT) == 0.5
    assert closeness(100 * EXACT + 5, 100 * EXACT) == pytest.approx(0.1)
    assert closeness(EXACT, EXACT.T) == np.inf
    assert closeness(EXACT * np.nan, EXACT) == np.inf
    assert closeness(EXACT * np.nan, EXACT * np.nan) == 0
    assert closeness("ValueError", "ValueError") == 0
    assert closeness("ValueError", "TypeError") == np.inf
    assert closeness("ValueError", EXACT) == np.inf
    assert closeness((EXACT, EXACT + 1), (EXACT, EXACT)) == 1
    assert closeness((EXACT,), (EXACT, EXACT)) == np.inf
    assert closeness(1.0, True) == np.inf
    assert closeness(MASK.astype(int), MASK) == np.inf
    assert closeness(MASK, ~MASK) == 1


def test_complex_numbers_and_objects_are_of_another_kind_than_the_numbers_that_they_equal():
    for odd in (EXACT + 0j, EXACT.astype(object)):
        assert closeness(odd, EXACT) == closeness(EXACT, odd) == np.inf
        assert closeness(odd, odd) == 0
