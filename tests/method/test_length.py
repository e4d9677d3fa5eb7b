import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pd_trl import LengthBalancedSampler
from pd_trl.errors import InputError
from pd_trl.method.length import (
    PENALTY_RULES,
    adjusted_gap,
    balanced_shares,
    balancing_penalty,
    decorrelating_penalty,
    parse_length_penalty,
    training_margin,
)
from pd_trl.trainers.reward.sampler import group_by_length

DELTAS = st.lists(st.integers(-20, 20), min_size=1, max_size=80)
TEMPERATURES = st.one_of(st.floats(1e-6, 100), st.just(math.inf))


def test_shares_by_hand():
    # softmax(.8, .2) = e^.8 / (e^.8 + e^.2)
    assert balanced_shares(0.8, 1.0)[0] == pytest.approx(math.exp(0.8) / (math.exp(0.8) + math.exp(0.2)))
    assert balanced_shares(0.8, math.inf) == (0.5, 0.5)
    assert balanced_shares(0.8, 1e-9)[0] == pytest.approx(1.0) and balanced_shares(0.2, 1e-9)[0] == pytest.approx(0.0)


@given(DELTAS, TEMPERATURES, st.integers(0, 3))
def test_an_epoch_has_the_promised_shares_without_early_repeats(deltas, temperature, epoch):
    deltas = np.array(deltas)
    sampler = LengthBalancedSampler(deltas, temperature, seed=7)
    drawn = sampler.indices(epoch)
    assert len(drawn) == len(sampler) == len(deltas)
    sides = {"longer": np.flatnonzero(deltas >= 0), "shorter": np.flatnonzero(deltas < 0)}
    if all(rows.size for rows in sides.values()):
        share = balanced_shares(sides["longer"].size / len(deltas), temperature)[0]
        assert abs((deltas[drawn] >= 0).sum() - share * len(deltas)) <= 1
    for rows in sides.values():
        counts = np.bincount(drawn, minlength=len(deltas))[rows]
        assert counts.size == 0 or counts.max() - counts.min() <= 1


@given(DELTAS, st.integers(0, 5))
def test_order_is_a_function_of_seed_and_epoch(deltas, epoch):
    one, two = (LengthBalancedSampler(deltas, seed=3, epoch=e) for e in (epoch, lambda: epoch))
    assert list(one) == list(two) == list(one)
    if len(deltas) > 30:
        assert list(one) != list(LengthBalancedSampler(deltas, seed=3, epoch=epoch + 1))
        assert list(one) != list(LengthBalancedSampler(deltas, seed=4, epoch=epoch))


@given(st.lists(st.integers(1, 500), min_size=1, max_size=200), st.integers(1, 8))
def test_grouping_keeps_every_row_once_and_starts_with_the_longest(lengths, batch_size):
    lengths = np.array(lengths)
    order = np.random.default_rng(0).permutation(len(lengths))
    grouped = group_by_length(order.copy(), lengths, batch_size)
    assert sorted(grouped) == list(range(len(lengths)))
    assert lengths[grouped[0]] == lengths.max()


def test_one_side_only_is_said(caplog):
    assert sorted(LengthBalancedSampler([1, 2, 3])) == [0, 1, 2]
    assert "chosen response is never the shorter one" in caplog.text


def test_signs_of_the_length_term():
    assert [training_margin(0.2, kind) for kind in ("penalty", "residual", "none")] == [0.2, -0.2, 0.0]
    assert adjusted_gap([1.0, 1.0], [5, -5], 0.1, "penalty").tolist() == [0.5, 1.5]
    assert (
        adjusted_gap([1.0], [5], 0.1, "residual").tolist() == adjusted_gap([1.0], [5], 0.1, "none").tolist() == [1.0]
    )


@pytest.mark.parametrize("temperature", [0, -1.0, float("nan")])
def test_refuses_temperatures(temperature):
    with pytest.raises(InputError, match="length_balance_temperature"):
        LengthBalancedSampler([1, -1], temperature)


def test_refuses_the_rest():
    with pytest.raises(InputError, match="non-empty"):
        LengthBalancedSampler([])
    for penalty in (-0.1, math.inf, math.nan):
        with pytest.raises(InputError, match="length_penalty"):
            training_margin(penalty, "penalty")
    with pytest.raises(InputError, match="penalty, residual, none"):
        training_margin(0.1, "squared")


def balanced_accuracy(rho, gaps, deltas):
    right = gaps - rho * deltas > 0
    return (right[deltas > 0].mean() + right[deltas < 0].mean()) / 2


@given(st.integers(0, 10_000), st.integers(4, 60))
def test_chosen_penalty_is_the_best_of_a_fine_grid(seed, size):
    rng = np.random.default_rng(seed)
    gaps, deltas = rng.normal(size=size), rng.integers(-9, 10, size)
    rho = balancing_penalty(gaps, deltas)
    assert rho >= 0
    if not ((deltas > 0).any() and (deltas < 0).any()):
        assert rho == 0
        return
    right = gaps - np.linspace(0, 12, 4001)[:, None] * deltas > 0
    best = ((right[:, deltas > 0].mean(axis=1) + right[:, deltas < 0].mean(axis=1)) / 2).max()
    assert balanced_accuracy(rho, gaps, deltas) >= best - 1e-12


def test_chosen_penalty_recovers_a_bias_and_leaves_none_where_there_is_none():
    rng = np.random.default_rng(0)
    truth, deltas = rng.normal(size=20_000), rng.integers(-20, 21, 20_000)
    sides = np.where(truth > 0, 1, -1)
    # Labels follow the truth; the rewards add 0.1 a token. Oriented as chosen minus rejected.
    gaps = sides * (truth + 0.1 * deltas)
    for rule in PENALTY_RULES.values():
        assert rule(gaps, sides * deltas) == pytest.approx(0.1, abs=0.02)
        assert rule(sides * truth, sides * deltas) == pytest.approx(0.0, abs=0.01)


@given(st.integers(0, 10_000))
def test_decorrelating_penalty_leaves_no_slope_whichever_side_is_named_first(seed):
    rng = np.random.default_rng(seed)
    deltas = rng.integers(-9, 10, 40)
    gaps, flips = rng.normal(size=40) + 0.3 * deltas, rng.choice([-1, 1], 40)
    rho = decorrelating_penalty(gaps, deltas)
    assert rho == pytest.approx(decorrelating_penalty(flips * gaps, flips * deltas))
    assert float((gaps - rho * deltas) @ deltas) == pytest.approx(0.0, abs=1e-9) or rho == 0.0
    assert decorrelating_penalty(-gaps, deltas) == pytest.approx(
        max(0.0, -float(gaps @ deltas) / float(deltas @ deltas))
    )


def test_decorrelating_penalty_of_equal_lengths_is_zero():
    assert decorrelating_penalty([1.0, -2.0], [0, 0]) == 0.0


@pytest.mark.parametrize(
    "text, correction, expected", [("auto", "penalty", "auto"), (" AUTO ", "penalty", "auto"), ("0.5", "residual", 0.5),
                                   ("auto", "none", 0.0), ("decorrelate", "penalty", "decorrelate"), (None, "penalty", 0.0), (1, "penalty", 1.0)],
)  # fmt: skip
def test_penalty_as_written(text, correction, expected):
    assert parse_length_penalty(text, correction) == expected


@pytest.mark.parametrize(
    "text, correction", [("auto", "residual"), ("much", "penalty"), ([], "penalty"), (-1, "penalty")]
)
def test_penalty_that_cannot_be_read(text, correction):
    with pytest.raises(InputError, match="length_penalty"):
        parse_length_penalty(text, correction)
