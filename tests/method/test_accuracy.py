import numpy as np
import pytest

from pd_trl.method.accuracy import binomial_error, half_of_prompts, pair_metrics, share_error, verdict, vote_metrics
from pd_trl.trainers.reward.results import warn_of_weakness


def test_error_by_prompt_is_the_spread_of_repeated_draws():
    """Prompts of five pairs of which all are right or all wrong: the share varies as if there were one pair a prompt."""
    generator = np.random.default_rng(0)
    prompts = np.repeat(np.arange(60), 5)
    draws = [np.repeat(generator.random(60) < 0.7, 5) for _ in range(400)]
    spread = np.std([hits.mean() for hits in draws])
    errors = [share_error(hits, prompts) for hits in draws]
    assert np.mean(errors) == pytest.approx(spread, rel=0.1)
    assert np.mean([share_error(hits) for hits in draws]) < 0.5 * spread


@pytest.mark.parametrize("size", [1, 7, 50])
def test_error_of_single_pairs_and_of_a_single_prompt_is_the_binomial_one(size):
    hits = np.arange(size) % 3 > 0
    for prompts in (None, np.arange(size), np.zeros(size)):
        assert share_error(hits, prompts) == pytest.approx(binomial_error(hits.mean(), size))


def test_error_by_prompt_is_never_the_smaller_one_and_knows_no_order():
    generator = np.random.default_rng(1)
    prompts, hits = generator.integers(0, 20, 100), generator.random(100) < 0.6
    assert share_error(hits, prompts) >= binomial_error(hits.mean(), 100)
    order = generator.permutation(100)
    assert share_error(hits[order], prompts[order]) == pytest.approx(share_error(hits, prompts))
    assert share_error(np.ones(100), prompts) == binomial_error(1.0, np.unique(prompts).size)


def test_halves_are_by_prompt_and_by_content():
    prompts, pairs = np.repeat(np.arange(11), 3), np.arange(33)
    half = half_of_prompts(prompts, pairs, 7)
    assert np.unique(prompts[half]).size == 6 and not set(prompts[half]) & set(prompts[~half])
    assert np.array_equal(half_of_prompts(prompts[::-1], pairs[::-1], 7)[::-1], half)
    assert not np.array_equal(half_of_prompts(prompts, pairs, 8), half)
    one = half_of_prompts(np.zeros(33), pairs, 7)
    assert one.sum() == 17 and np.array_equal(half_of_prompts(np.zeros(33), pairs[::-1], 7)[::-1], one)


def test_both_gaps_are_measured_on_the_same_pairs():
    gaps, delta = np.array([3.0, 1.0, -1.0, 2.0]), np.array([10, 10, -4, 1])
    found = vote_metrics(gaps, gaps - 0.2 * delta, delta, [0, 0, 1, 1])
    assert (found["raw_pair_accuracy"], found["pair_accuracy"]) == (0.75, 0.5)
    assert found["num_prompts"] == 2 and found["num_pairs"] == 4
    assert found["raw_gap_length_correlation"] == pair_metrics(gaps, delta)["gap_length_correlation"]


@pytest.mark.parametrize(
    "right,pairs,expected",
    [
        (1, 11, "worse than a coin"),
        (30, 100, "worse than a coin"),
        (0, 2, "no better than a coin"),
        (5, 11, "no better than a coin"),
        (70, 100, "no better than length"),
        (95, 100, "better"),
        (0, 0, "not measured"),
    ],
)
def test_verdicts(caplog, right, pairs, expected):
    gaps = np.where(np.arange(pairs) < right, 1.0, -1.0)
    metrics = pair_metrics(gaps, np.where(np.arange(pairs) % 4, 1, -1))
    assert verdict(metrics) == expected
    warn_of_weakness("honesty", metrics)
    told = {"worse than a coin": "is worse than a coin: right on", "no better than a coin": "is no better than a coin",
            "no better than length": "is no better than 'longer wins'"}  # fmt: skip
    warned = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(warned) == (expected in told) and told.get(expected, "") in "".join(warned)
