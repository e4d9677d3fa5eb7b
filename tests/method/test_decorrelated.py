"""Weights by which copies of an aspect do not outvote the others, against the definition solved by search."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pd_trl.method.votes import decorrelated_weights, gap_correlations, gap_moments


def correlated(count, aspects, seed):
    generator = np.random.default_rng(seed)
    mixed = generator.normal(size=(count, aspects)) + generator.normal(size=(count, 1)) * generator.random(aspects)
    return mixed.astype(np.float32)


def objective(weights, correlations):
    return weights @ correlations**2 @ weights - 2 * weights.sum()


def test_by_hand():
    assert decorrelated_weights(np.eye(3)).tolist() == [1, 1, 1]
    # Two of correlation r weigh 1 / (1 + r^2) each.
    assert decorrelated_weights([[1, 0.5, 0], [0.5, 1, 0], [0, 0, 1]]) == pytest.approx([0.8, 0.8, 1])
    assert decorrelated_weights([[1, -0.5], [-0.5, 1]]) == pytest.approx([0.8, 0.8])
    # One that the two others say together is left out, as far as they do.
    r = np.sqrt(0.5)
    assert decorrelated_weights([[1, r, r], [r, 1, 0], [r, 0, 1]]) == pytest.approx([0, 1, 1], abs=1e-3)


def test_gaps_that_do_not_vary_are_correlated_with_none():
    gaps = np.array([[1, 2, 5], [2, 1, 5], [3, 5, 5]], dtype=np.float32)
    found = gap_correlations(gap_moments(list(gaps.T)))
    assert np.isnan(found[2]).all()
    assert decorrelated_weights(found)[2] == 1


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 7), st.integers(0, 1000))
def test_no_other_weights_are_better(aspects, seed):
    gaps = correlated(50, aspects, seed)
    correlations = gap_correlations(gap_moments(list(gaps.T)))
    assert np.allclose(correlations, np.corrcoef(gaps.T.astype(np.float64)).reshape(aspects, aspects))
    found = decorrelated_weights(correlations)
    assert (found >= 0).all() and (found <= 1 + 1e-6).all()
    generator = np.random.default_rng(seed)
    best = objective(found, correlations)
    for scale in (1e-3, 1e-2, 0.1, 1.0):
        other = np.clip(found + generator.normal(scale=scale, size=(200, aspects)), 0, None)
        assert min(objective(w, correlations) for w in other) >= best - 1e-4


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 6), st.integers(1, 6), st.integers(0, 1000), st.sampled_from([1.0, -3.0]))
def test_copies_weigh_together_what_one_weighs(aspects, copies, seed, scale):
    gaps = correlated(80, aspects, seed)
    more = np.concatenate([gaps, *[scale * gaps[:, :1]] * copies], axis=1)
    once, often = (decorrelated_weights(gap_correlations(gap_moments(list(g.T)))) for g in (gaps, more))
    assert often[0] + often[aspects:].sum() == pytest.approx(once[0], abs=2e-3)
    assert often[1:aspects] == pytest.approx(once[1:], abs=2e-3)
    assert np.ptp([often[0], *often[aspects:]]) < 1e-4


def test_moments_of_parts_add_up_and_holes_are_left_out():
    gaps = correlated(100, 3, 1)
    gaps[::7, 1] = np.nan
    whole = gap_correlations(gap_moments(list(gaps.T)))
    parts = [gap_moments(list(part.T)) for part in np.array_split(gaps, 3)]
    added = {name: sum(part[name] for part in parts) for name in parts[0]}
    assert np.allclose(whole, gap_correlations(added))
    there = ~np.isnan(gaps[:, 1])
    assert whole[0, 1] == pytest.approx(np.corrcoef(gaps[there, 0], gaps[there, 1])[0, 1], abs=1e-6)
