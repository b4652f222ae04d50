import numpy as np
import pytest

from crossattn_ref import plot
from tests.plot.reading import WORDS, parsed, place, strengths, texts


def weights_for(rng, n_queries, n_keys):
    weights = rng.random((n_queries, n_keys))
    return weights / weights.sum(axis=-1, keepdims=True)


def test_a_weight_is_printed_and_is_how_strongly_its_cell_is_filled():
    picture = plot.weights(np.array([[0.25, 0.75]]), **WORDS)
    assert [text for text in texts(picture) if "." in text] == ["0.25", "0.75"]
    assert strengths(picture, "weights")[:2] == [0.25, 0.75]


def test_queries_are_rows_from_top_to_bottom_and_keys_are_columns_from_left_to_right(rng):
    queries, keys = ["ein", "zwei", "drei"], ["un", "deux", "trois", "quatre", "cinq"]
    picture = plot.weights(weights_for(rng, 3, 5), queries=queries, keys=keys, **WORDS)
    heights = [place(picture, query)[1] for query in queries]
    sides = [place(picture, key)[0] for key in keys]
    assert min(np.diff(heights)) > 10
    assert min(np.diff(sides)) > 10


def test_a_masked_place_is_hatched_and_carries_no_number(rng):
    mask = rng.permuted(np.arange(15) < 11).reshape(3, 5)
    picture = plot.weights(np.where(mask, 0.125, 0.0), mask=mask, **WORDS)
    assert sum("url(#" in node.get("style", "") for node in parsed(picture).iter()) == 4
    assert texts(picture).count("0.12") == 11
    assert "0.00" not in texts(picture)


def test_gold_may_be_pairs_or_a_boolean_matrix(rng):
    weights, gold = weights_for(rng, 3, 5), rng.random((3, 5)) < 0.5
    pairs = {(int(query), int(key)) for query, key in np.argwhere(gold)}
    by_pairs = plot.weights(weights, gold=pairs, **WORDS)
    assert by_pairs == plot.weights(weights, gold=gold, **WORDS)
    assert by_pairs.svg.count("stroke: var(--ca-gold") == len(pairs)


def test_a_map_too_fine_for_numbers_has_none_and_keeps_its_labels_apart(rng):
    picture = plot.weights(weights_for(rng, 3, 41), **WORDS)
    assert not [text for text in texts(picture) if "." in text]
    sides = [place(picture, str(key))[0] for key in range(3, 41)]
    assert min(np.diff(sides)) > 10
    assert "min-width" in picture.svg


def test_a_matrix_stands_under_its_name_and_over_its_shape_in_the_colour_of_its_role():
    array = np.array([[0.5, -1.0, 0.75], [1.0, 0.25, 0.125]])
    picture = plot.matrices([{"name": "memory", "array": array, "role": "key"}], **WORDS)
    assert {"memory", "2 \N{MULTIPLICATION SIGN} 3", "\N{MINUS SIGN}1.00", "0.25"} <= set(texts(picture))
    drawn = np.array(strengths(picture, "key"))
    assert drawn / drawn.max() == pytest.approx([0.5, 1.0, 0.75, 1.0, 0.25, 0.125], abs=0.01)


def test_matrices_that_do_not_fit_side_by_side_stand_below_each_other():
    panels = [{"name": name, "array": np.ones((3, 11)), "role": "value"} for name in ("one", "two", "three")]
    picture = plot.matrices(panels, **WORDS)
    (_, one), (_, two), (_, three) = (place(picture, name) for name in ("one", "two", "three"))
    assert one == two < three


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"weights": np.ones(3)}, r"weights must be a matrix of finite numbers, got shape \(3,\)"),
        ({"weights": np.array([[np.nan]])}, "weights must be a matrix of finite numbers"),
        ({"weights": np.array([[1.5, -0.5]])}, r"weights must lie in \[0, 1\], got -0.5 to 1.5"),
        ({"queries": ["one"]}, "queries must hold one label for each of 3, got 1"),
        ({"mask": np.ones((3, 5))}, r"mask must be boolean of shape \(3, 5\), got dtype float64"),
        ({"mask": np.ones((5, 3), bool)}, r"mask must be boolean of shape \(3, 5\), got dtype bool and shape \(5, 3\)"),
        ({"gold": [(4, 1)]}, r"gold must hold pairs \(query, key\) within \(3, 5\), got \(4, 1\)"),
    ],
)
def test_a_map_that_does_not_fit_together_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        plot.weights(**({"weights": np.full((3, 5), 0.2)} | wrong | WORDS))
