import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from pd_trl.lab.bench.measures import detection_auc, length_controlled_win_rate, mean_and_error, measure, wins


def test_wins_count_ties_half():
    record, baseline = {"gold": [2.0, 1.0, 3.0]}, {"gold": [1.0, 1.0 + 1e-12, 4.0]}
    assert wins(record, baseline).tolist() == [1.0, 0.5, 0.0]


@given(st.integers(0, 1000))
def test_auc_equals_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    values, labels = rng.integers(0, 6, 40) / 2, rng.random(40) < 0.4
    labels[:2] = [True, False]
    assert detection_auc(values, labels) == pytest.approx(roc_auc_score(labels, values))


def test_auc_of_one_class_is_not_defined():
    assert np.isnan(detection_auc([1.0, 2.0], [True, True]))


@given(st.integers(0, 200))
def test_length_control_equals_a_logistic_regression(seed):
    rng = np.random.default_rng(seed)
    extra = rng.integers(-30, 30, 300)
    won = (rng.random(300) < 1 / (1 + np.exp(-0.2 - 0.05 * extra))).astype(float)
    feature = np.tanh(extra / extra.std())[:, None]
    fitted = LogisticRegression(C=1e3, max_iter=1000, tol=1e-10).fit(feature, won)
    expected = 1 / (1 + np.exp(-fitted.intercept_[0]))
    assert length_controlled_win_rate(won, extra) == pytest.approx(expected, abs=2e-3)


def test_length_control_takes_the_length_out():
    rng = np.random.default_rng(0)
    extra = rng.normal(10, 5, 20_000)
    won = rng.random(20_000) < 1 / (1 + np.exp(-3 * np.tanh(extra / extra.std())))
    assert won.mean() > 0.8
    assert length_controlled_win_rate(won, extra) == pytest.approx(0.5, abs=0.03)


def test_length_control_of_a_clean_sweep_is_finite():
    assert 0.9 < length_controlled_win_rate(np.ones(50), np.arange(50)) < 1.0


def test_measures_of_a_row():
    record = {"gold": [3.0, 1.0], "words": [10, 20], "gold_of_aspects": {"a": 1.0}, "num_pairs": 7}
    baseline = {"gold": [1.0, 2.0], "words": [10, 10], "gold_of_aspects": {"a": 1.0}}
    numbers = measure(record, {"SFT": baseline})
    assert numbers["gold"] == 2.0 and numbers["gold_se"] == pytest.approx(1.0)
    assert (numbers["win_rate_SFT"], numbers["win_score_SFT"], numbers["num_pairs"]) == (0.5, 1.0, 7)


def test_mean_and_error_over_seeds():
    assert mean_and_error([1.0, 2.0, 3.0]) == (2.0, pytest.approx(1 / np.sqrt(3)))
    assert np.isnan(mean_and_error([1.0])[1])
