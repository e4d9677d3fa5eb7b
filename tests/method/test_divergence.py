import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pd_trl import preference_divergence
from pd_trl.errors import InputError

# Three aspects; the scale of each (gamma = 1) is its largest gap among the rows of the others.
GAPS = [[9.0, 2.0, -1.0], [1.0, 9.0, 2.0], [-4.0, 1.0, 9.0], [2.0, -2.0, 9.0]]
ASPECTS = [0, 1, 2, 2]


def test_hand_derived_numbers():
    result = preference_divergence(GAPS, ASPECTS, gamma=1.0)
    # q = (max(1, 4, 2), max(2, 1, 2), max(1, 2)) = (4, 2, 2)
    assert result.quantiles.tolist() == [4.0, 2.0, 2.0]
    # row 0: -(2/2 - 1/2); row 1: -(1/4 + 2/2); row 2: -(-4/4 + 1/2); row 3: -(2/4 - 2/2)
    assert result.values.tolist() == [-0.5, -1.25, 0.5, 0.5]
    assert result.values.dtype == np.float32


def test_the_quantile_clips_and_interpolates():
    gaps = [[0.0, g] for g in (1.0, 2.0, 3.0, 4.0, 8.0)]
    result = preference_divergence(gaps, [0] * 5, gamma=0.5)
    assert result.quantiles[1] == 3.0 and np.isnan(result.quantiles[0])
    assert np.allclose(result.values, [-1 / 3, -2 / 3, -1, -1, -1])
    assert result.clipped_share.tolist() == [0.0, 0.4]
    assert preference_divergence(gaps, [0] * 5, gamma=0.9).quantiles[1] == pytest.approx(4 + 0.6 * 4)


def test_weights_and_holistic_labels():
    result = preference_divergence(GAPS, ASPECTS, gamma=1.0, weights=[2.0, 0.5, 0.0])
    assert np.allclose(result.values, [-0.5, -0.5, 2 - 0.25, -1 + 0.5])
    whole = preference_divergence([[1.0, -1.0], [2.0, 4.0]], [-1, -1], gamma=1.0)
    assert np.allclose(whole.values, [-(0.5 - 0.25), -2.0])


def test_stored_quantiles_score_new_rows_alike():
    generator = np.random.default_rng(0)
    gaps, aspects = generator.normal(size=(50, 4)), generator.integers(0, 4, 50)
    whole = preference_divergence(gaps, aspects)
    part = preference_divergence(gaps[:7], aspects[:7], quantiles=whole.quantiles)
    assert np.array_equal(part.values, whole.values[:7])


def brute_force(gaps, aspects, gamma, weights):
    num_pairs, num_aspects = len(gaps), len(gaps[0])
    values = []
    for i in range(num_pairs):
        total = 0.0
        for k in range(num_aspects):
            if k == aspects[i]:
                continue
            others = sorted(abs(gaps[j][k]) for j in range(num_pairs) if aspects[j] != k)
            place = gamma * (len(others) - 1)
            low = int(place)
            high = min(low + 1, len(others) - 1)
            scale = others[low] + (place - low) * (others[high] - others[low])
            total += weights[k] * max(-1.0, min(1.0, gaps[i][k] / scale))
        values.append(-total)
    return values


@st.composite
def problems(draw):
    num_pairs, num_aspects = draw(st.integers(1, 25)), draw(st.integers(2, 5))
    seed = draw(st.integers(0, 2**16))
    generator = np.random.default_rng(seed)
    gaps = generator.normal(size=(num_pairs, num_aspects)).astype(np.float32) + np.float32(0.01)
    return gaps, generator.integers(0, num_aspects, num_pairs), draw(st.floats(0.05, 1.0)), generator


@given(problems())
def test_equals_brute_force(problem):
    gaps, aspects, gamma, generator = problem
    weights = generator.uniform(0.1, 3, gaps.shape[1])
    found = preference_divergence(gaps, aspects, gamma, weights).values
    expected = brute_force(gaps.astype(float).tolist(), aspects.tolist(), gamma, weights.tolist())
    assert np.allclose(found, expected, atol=2e-5)


@given(problems())
def test_invariants(problem):
    gaps, aspects, gamma, generator = problem
    num_pairs, num_aspects = gaps.shape
    result = preference_divergence(gaps, aspects, gamma)
    assert np.abs(result.values).max() <= num_aspects - 1 + 1e-6
    order = generator.permutation(num_pairs)
    assert np.array_equal(preference_divergence(gaps[order], aspects[order], gamma).values, result.values[order])
    scaled = gaps * np.float32(8.0) ** np.arange(num_aspects, dtype=np.float32)
    assert np.array_equal(preference_divergence(scaled, aspects, gamma).values, result.values)
    flipped = preference_divergence(-gaps, aspects, gamma)
    assert np.array_equal(flipped.values, -result.values)
    own = gaps.copy()
    own[np.arange(num_pairs), aspects] = np.nan
    assert np.array_equal(preference_divergence(own, aspects, gamma).values, result.values)


@settings(max_examples=50)
@given(arrays(np.float32, (6, 3), elements=st.floats(-(2.0**99), 2.0**99, width=32)), st.floats(0.01, 1.0))
def test_extreme_gaps_give_finite_values_or_a_clear_refusal(gaps, gamma):
    try:
        result = preference_divergence(gaps, [0, 1, 2, 0, 1, 2], gamma)
    except InputError as error:
        assert "cannot be normalised" in str(error)
    else:
        assert np.isfinite(result.values).all() and np.abs(result.values).max() <= 2


def test_memory_is_at_most_three_times_the_gaps():
    import tracemalloc

    gaps = np.random.default_rng(0).normal(size=(200_000, 4)).astype(np.float32)
    aspects = np.arange(200_000) % 4
    tracemalloc.start()
    preference_divergence(gaps, aspects)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak <= 3 * gaps.nbytes


BAD = [
    (dict(gamma=0.0), "gamma"),
    (dict(gamma=1.1), "gamma"),
    (dict(gamma=float("nan")), "gamma"),
    (dict(weights=[1.0, 1.0]), "each of the 3 aspects"),
    (dict(weights=[1.0, -1.0, 1.0]), "'honesty': -1"),
    (dict(weights=[0.0, 0.0, 0.0]), "All weights are 0"),
    (dict(weights=[1.0, float("nan"), 1.0]), "finite"),
    (dict(quantiles=[1.0]), "each of the 3 aspects"),
    (dict(aspects=[0, 1, 2]), r"shape \(4,\)"),
    (dict(aspects=[0.0, 1.0, 2.0, 2.0]), "integers"),
    (dict(aspects=[0, 1, 2, 3]), "got 3 in row 3"),
    (dict(aspects=[0, -2, 2, 1]), "got -2 in row 1"),
    (dict(reward_gaps=[]), "non-empty"),
    (dict(reward_gaps=[[1.0, np.nan, 1.0]] + GAPS[1:]), "nan in row 0 of aspect 'honesty'"),
    (dict(reward_gaps=GAPS[:3] + [[np.inf, 1.0, 1.0]]), "inf in row 3 of aspect 'helpfulness'"),
    (dict(reward_gaps=[[1.0, 0.0, 1.0]] * 4), "aspect 'honesty' is 0"),
    (dict(reward_gaps=[[1.0]] * 4, aspects=[0] * 4, aspect_names=["honesty"]), "only one aspect"),
]


@pytest.mark.parametrize("change,message", BAD, ids=lambda value: str(value)[:40])
def test_refuses(change, message):
    arguments = dict(reward_gaps=GAPS, aspects=ASPECTS, aspect_names=["helpfulness", "honesty", "truthfulness"], **{})
    with pytest.raises(InputError, match=message):
        preference_divergence(**{**arguments, **change})


def test_an_aspect_without_votes_may_be_left_out():
    gaps = [[1.0, 0.0, 1.0], [1.0, 0.0, 2.0]]
    assert np.allclose(preference_divergence(gaps, [0, 2], 1.0, weights=[1, 0, 1]).values, [-1.0, -1.0])
