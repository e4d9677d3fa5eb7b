"""The rivals' formulas against numbers written out by hand, and against slow versions."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pd_trl.errors import InputError
from pd_trl.method.rivals import (
    alignment_potential,
    average_margins,
    bayesian_margin,
    distance_calibrated_margin,
    edit_distance,
    implicit_margins,
    validation_loss,
    worst_gap,
)


def close(found, expected):
    assert np.allclose(found, expected, rtol=0, atol=1e-6), (found, expected)


def test_the_implicit_margin_of_dpo():
    # beta * ((log pi - log ref) of the chosen, minus that of the rejected response).
    close(implicit_margins([-10.0, -4.0], [-12.0, -3.0], [-11.0, -4.5], [-11.5, -3.25], 0.1), [0.15, 0.025])


def test_the_margin_without_a_reference_is_per_token():
    close(average_margins([-10.0], [-12.0], [5], [8], 2.0), [2.0 * (-2.0 + 1.5)])


def test_the_validation_loss_is_the_mean_of_the_runs():
    margins = [[0.5, -1.0], [1.5, 1000.0], [0.0, -1000.0]]
    first = -(math.log(1 / (1 + math.exp(-0.5))) + math.log(1 / (1 + math.exp(-1.5))) + math.log(0.5)) / 3
    close(validation_loss(margins), [first, (math.log(1 + math.e) + 0.0 + 1000.0) / 3])
    close(validation_loss([0.0]), [math.log(2)])


def test_the_alignment_potential_is_the_difference_of_both_sizes_in_deviations():
    # |explicit| = 1, 3, 2, 6: mean 3, variance (4 + 0 + 1 + 9) / 4. |implicit| = .2, .1, .4, .1: mean .2, variance .015.
    explicit, implicit = [-1.0, 3.0, 2.0, -6.0], [0.2, 0.1, -0.4, 0.1]
    a, b = math.sqrt(3.5), math.sqrt(0.015)
    expected = [-2 / a, 0 / a + 0.1 / b, -1 / a - 0.2 / b, 3 / a + 0.1 / b]
    close(alignment_potential(explicit, implicit), expected)
    close(alignment_potential(explicit, implicit, 2.5)[2], -1 / a - 2.5 * 0.2 / b)
    with pytest.raises(InputError, match="explicit margins by their standard deviation, which is 0 over 2"):
        alignment_potential([1.0, -1.0], [0.0, 1.0])


def test_dcrm_divides_the_gain_by_both_distances():
    close(distance_calibrated_margin([2.0], [3], [1.5]), [(1 / (1 + math.exp(-2.0)) - 0.5) / 5.5])
    close(distance_calibrated_margin([-800.0, 0.0], [0, 7], [0.0, 1.0], epsilon=0.25), [-2.0, 0.0])


def test_bees_multiplies_the_odds():
    # Bounds +-4 and +-2: the largest of each at the quantile 1.
    margins = [[4.0, 2.0, -1.0, 0.0, 4.0], [1.0, 1.0, 2.0, 0.0, -2.0]]
    p = [(1.0, 0.75), (0.75, 0.75), (0.375, 1.0), (0.5, 0.5)]
    expected = [a * b / (a * b + (1 - a) * (1 - b)) for a, b in p] + [0.5]
    close(bayesian_margin(margins, quantile=1.0), expected)
    # One margin is the probability itself, and beyond the quantile all are equally sure.
    close(bayesian_margin([-3.0, 0.0, 1.0, 3.0, 9.0], quantile=0.5), [0.0, 0.5, 2 / 3, 1.0, 1.0])
    with pytest.raises(InputError, match="above 0, got 0"):
        bayesian_margin([[0.0, 0.0]])


def test_the_worst_gap_leaves_the_own_aspect_out():
    gaps = [[0.5, -0.2, 1.0], [0.5, -0.2, 1.0], [0.3, 0.1, np.nan], [np.nan, -1.0, np.nan]]
    close(worst_gap(gaps, np.array([0, 1, -1, 0])), [-0.2, 0.5, 0.1, -1.0])
    assert np.isnan(worst_gap([[0.5, np.nan]], np.array([0]))[0])
    close(worst_gap([[0.5, -0.2, 1.0]], np.array([0]), [True, False, True]), [1.0])


@given(st.lists(st.integers(0, 3), max_size=12), st.lists(st.integers(0, 3), max_size=12))
def test_the_edit_distance_is_that_of_the_recursion(a, b):
    table = [[max(i, j) if not i or not j else 0 for j in range(len(b) + 1)] for i in range(len(a) + 1)]
    for i in range(1, len(a) + 1):
        for j in range(1, len(b) + 1):
            table[i][j] = min(table[i - 1][j] + 1, table[i][j - 1] + 1, table[i - 1][j - 1] + (a[i - 1] != b[j - 1]))
    assert edit_distance(a, b) == table[-1][-1]
