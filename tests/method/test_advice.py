"""The interval of a difference of shares: by hand, by a resampling of its own, and by its coverage."""

import numpy as np
import pytest

from pd_trl.method.advice import label_information, matched_weights, share_difference


def test_the_difference_has_a_hit_and_a_miss_more_of_each_group():
    # Selected: 3 of 4; control: 1 of 4. With one hit and one miss more: 4/6 - 2/6.
    hits = [1, 1, 1, 0, 1, 0, 0, 0]
    selected = [1, 1, 1, 1, 0, 0, 0, 0]
    effect = share_difference(hits, selected, [1 - s for s in selected], np.arange(8))
    assert effect.estimate == pytest.approx(2 / 6)
    # Two independent shares, with the factor of 12 prompts.
    assert effect.standard_error == pytest.approx(np.sqrt(2 * (4 / 6 * 2 / 6 / 6) * 12 / 11))
    assert -1 <= effect.low < effect.estimate < effect.high <= 1 and effect.sign == 0
    assert effect.high - effect.estimate == pytest.approx(effect.estimate - effect.low)


def test_the_same_group_twice_has_no_difference_and_a_certain_sample_is_not_certain():
    ones = np.ones(40)
    effect = share_difference(np.arange(40) % 3 == 0, ones, ones, np.arange(40))
    assert effect.estimate == pytest.approx(0) and effect.low < 0 < effect.high
    selected = np.arange(40) < 20
    sure = share_difference(selected, selected, ~selected, np.arange(40))
    assert sure.sign == 1 and sure.standard_error > 0.05


def test_pairs_of_a_prompt_count_together():
    rng = np.random.default_rng(0)
    prompts = np.repeat(np.arange(60), 5)
    hits = np.repeat(rng.random(60) < 0.6, 5)
    selected = np.repeat(rng.random(60) < 0.5, 5)
    together = share_difference(hits, selected, ~selected, prompts)
    apart = share_difference(hits, selected, ~selected, np.arange(300))
    assert together.estimate == pytest.approx(apart.estimate)
    assert 1.7 < together.standard_error / apart.standard_error < 2.6
    assert share_difference(hits, selected, ~selected, np.zeros(300)) is None
    assert share_difference(hits, np.zeros(300), ~selected, prompts) is None


def test_it_covers_what_it_says():
    # 300 samples of 25 selected pairs at .85 and 75 others at .6, three to a prompt: 90 % cover, by 3 standard errors.
    covered = 0
    for number in range(300):
        rng = np.random.default_rng(number)
        selected = np.arange(100) % 4 == 0
        hits = rng.random(100) < np.where(selected, 0.85, 0.6)
        effect = share_difference(hits, selected, ~selected, np.arange(100) // 3, num_resamples=300, seed=number)
        covered += effect.low <= 0.25 <= effect.high
    assert 254 <= covered <= 286


def test_matched_weights_give_all_pairs_the_strata_of_the_selected():
    strata = np.array([0, 0, 0, 0, 1, 1, 2, 2])
    selected = np.array([1, 0, 0, 0, 1, 1, 0, 0], dtype=bool)
    weights = matched_weights(strata, selected)
    assert np.allclose(weights, [1 / 3 * 2] * 4 + [2 / 3 * 4] * 2 + [0, 0])
    shares = np.bincount(strata, weights=weights) / weights.sum()
    assert np.allclose(shares, [1 / 3, 2 / 3, 0])


def test_what_labels_are_worth():
    assert label_information(1.0, 1.0) == 1.0 and label_information(0.5, 0.75) == 0.125
    assert label_information(0.3, 0.4) == 0.0
