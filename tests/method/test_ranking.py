import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pd_trl.errors import InputError
from pd_trl.method.ranking import (
    SELECTORS,
    parse_budget,
    random_keys,
    resolve_budget,
    select_lowest,
    select_per_stratum,
)

VALUES = st.lists(st.sampled_from([-1.0, -0.5, 0.0, -0.0, 0.5, 2.0]), min_size=1, max_size=40)


def ids_for(values):
    return np.array([f"p{(7919 * i) % 1000:03d}" for i in range(len(values))])


@given(VALUES, st.data())
def test_keeps_exactly_the_lowest_with_ties_by_id(values, data):
    ids = ids_for(values)
    count = data.draw(st.integers(1, len(values)))
    kept, threshold = select_lowest(np.array(values), ids, count)
    expected = {i for _, i in sorted(zip(values, ids, strict=True), key=lambda t: (t[0], t[1]))[:count]}
    assert set(ids[kept]) == expected and kept.sum() == count
    assert np.array_equal(threshold.keep(np.array(values), ids), kept)


@given(VALUES, st.data())
def test_budgets_are_nested_and_orders_do_not_matter(values, data):
    values, ids = np.array(values), ids_for(values)
    small, large = sorted(data.draw(st.tuples(*[st.integers(1, len(values))] * 2)))
    order = np.array(data.draw(st.permutations(range(len(values)))))
    assert set(ids[select_lowest(values, ids, small)[0]]) <= set(ids[select_lowest(values, ids, large)[0]])
    assert set(ids[order][select_lowest(values[order], ids[order], small)[0]]) == set(
        ids[select_lowest(values, ids, small)[0]]
    )
    strata = np.array([i[-1] for i in ids])
    first, _ = select_per_stratum(values, ids, strata, small)
    second, _ = select_per_stratum(values, ids, strata, large)
    assert set(ids[first]) <= set(ids[second])


@given(VALUES, st.data())
def test_strata_get_their_share(values, data):
    values, ids = np.array(values), ids_for(values)
    strata = np.array(data.draw(st.lists(st.sampled_from("abc"), min_size=len(values), max_size=len(values))))
    count = data.draw(st.integers(1, len(values)))
    kept, thresholds = select_per_stratum(values, ids, strata, count)
    assert kept.sum() == count
    for name in np.unique(strata):
        rows = strata == name
        number = int(kept[rows].sum())
        assert abs(number - count * rows.sum() / len(values)) <= 1.0 + 1e-9
        if number:
            assert set(ids[rows][select_lowest(values[rows], ids[rows], number)[0]]) == set(ids[rows & kept])
            assert np.array_equal(thresholds[name].keep(values[rows], ids[rows]), kept[rows])


@given(st.integers(1, 10**7), st.integers(1, 1000))
def test_share_is_rounded_up_exactly(num_pairs, thousandths):
    assert resolve_budget(thousandths / 1000, num_pairs) == math.ceil(Fraction(thousandths, 1000) * num_pairs)


def test_budgets():
    assert resolve_budget(0.07, 100) == 7 and resolve_budget(0.3, 10) == 3 and resolve_budget(1.0, 7) == 7
    assert resolve_budget(7, 7) == 7 and resolve_budget(np.int64(3), 7) == 3
    for bad in (0, 0.0, -0.1, 1.5, -3, 8, float("nan"), True, "x"):
        with pytest.raises((InputError, TypeError), match="budget"):
            resolve_budget(bad, 7)
    assert parse_budget("12") == 12 and parse_budget("0.5") == 0.5 and parse_budget("1e-1") == 0.1
    with pytest.raises(InputError, match="'lots'"):
        parse_budget("lots")


def test_random_is_a_function_of_seed_and_id():
    ids = np.array([f"{i}" for i in range(5000)])
    keys = random_keys(ids, 1)
    assert np.array_equal(random_keys(ids[::-1], 1), keys[::-1])
    assert not np.array_equal(random_keys(ids, 2), keys)
    assert abs(keys.mean() - 0.5) < 0.02 and keys.min() >= 0 and keys.max() < 1


@pytest.mark.parametrize("name", sorted(SELECTORS))
def test_selector_contract(name):
    """Each score depends on its row alone, and only on the declared inputs."""
    generator = np.random.default_rng(0)
    inputs = {
        "pair_id": np.array([f"{i}" for i in range(20)]),
        "pd": generator.normal(size=20),
        "margin": generator.normal(size=20),
        "delta_length": generator.integers(-9, 9, 20),
        "edit_distance": generator.integers(0, 9, 20),
        "logp_distance": generator.random(20),
    }
    for column in ("worst_gap", "implicit_margin", "alignment_potential", "bees", "validation_loss"):
        inputs[column] = generator.normal(size=20)
    selector = SELECTORS[name]
    declared = {key: inputs[key] for key in ("pair_id", *selector.inputs)}
    score = selector.score(declared, 3)
    assert score.shape == (20,) and np.isfinite(score).all() and selector.description
    part = {key: column[5:9] for key, column in declared.items()}
    assert np.array_equal(selector.score(part, 3), score[5:9])


def test_refuses_nan():
    with pytest.raises(InputError, match="row 1"):
        select_lowest([0.0, float("nan")], ["a", "b"], 1)
