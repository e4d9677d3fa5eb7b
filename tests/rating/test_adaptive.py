import numpy as np
import pytest

from pd_trl.errors import InputError
from pd_trl.rating.adaptive import AdaptiveOrder
from pd_trl.rating.gaussian import RatingModel, blocks_of, clipped_mean, normal_cdf


def world(num_prompts=120, per_prompt=3, num_aspects=4, seed=0, own=None):
    """Ratings with a common cause, pairs of the responses to a prompt, and labels by an aspect or by all together."""
    generator = np.random.default_rng(seed)
    num_rows = num_prompts * per_prompt
    ratings = generator.normal(size=(num_rows, 1)) + generator.normal(size=(num_rows, num_aspects))
    ratings += np.repeat(generator.normal(size=(num_prompts, num_aspects)), per_prompt, axis=0)
    rows, prompts = [], []
    for prompt in range(num_prompts):
        first = prompt * per_prompt
        for a in range(per_prompt):
            for b in range(a + 1, per_prompt):
                rows.append((first + a, first + b))
                prompts.append(prompt)
    rows = np.array(rows)
    gaps = ratings[rows[:, 0]] - ratings[rows[:, 1]]
    if own is None:
        labels, signs = np.full(len(rows), -1), np.sign(gaps.sum(axis=1) + 2 * generator.normal(size=len(rows)))
    else:
        labels = np.arange(len(rows)) % num_aspects
        signs = np.sign(gaps[np.arange(len(rows)), labels])
    return ratings, rows, np.array(prompts), labels, signs


def order_of(rows, prompts, labels, signs, num_aspects=4, budget=0.3, **kwargs):
    ids = np.array([f"pair-{i:05d}" for i in range(len(rows))])
    return AdaptiveOrder(signs, labels, rows, prompts, num_aspects, round(budget * len(rows)), ids, **kwargs)


def run(order, ratings):
    known = np.zeros(ratings.shape, dtype=bool)
    values = np.full(ratings.shape, np.nan)
    while (cells := order.next_cells(values)) is not None:
        assert cells.any() and not (cells & known).any()
        known |= cells
        values = np.where(known, ratings, np.nan)
    return known, values


def full_divergence(ratings, rows, labels, signs):
    gaps = (ratings[rows[:, 0]] - ratings[rows[:, 1]]) * signs[:, None]
    scaled = np.clip(gaps / np.quantile(np.abs(gaps), 0.9, axis=0), -1, 1)
    return -np.where(np.arange(ratings.shape[1]) == labels[:, None], 0.0, scaled).sum(axis=1)


def lowest(values, count):
    return set(np.argsort(values, kind="stable")[:count].tolist())


@pytest.mark.parametrize("own", [None, "aspects"])
def test_few_ratings_find_most_of_the_pairs(own):
    ratings, rows, prompts, labels, signs = world(own=own)
    order = order_of(rows, prompts, labels, signs, max_share=0.4)
    known, values = run(order, ratings)
    count = round(0.3 * len(rows))
    truth = full_divergence(ratings, rows, labels, signs)
    kept = lowest(order.divergence(values), count)
    assert known.sum() <= 0.4 * order.total
    assert len(kept & lowest(truth, count)) > 0.7 * count
    gain = truth.mean() - truth[sorted(kept)].mean()
    assert gain > 0.75 * (truth.mean() - np.sort(truth)[:count].mean())
    assert 0 < order.num_stopped(values) <= len(rows)


def test_all_ratings_give_the_full_selection():
    ratings, rows, prompts, labels, signs = world(num_prompts=40)
    order = order_of(rows, prompts, labels, signs, max_share=1.0)
    # Told everything, it knows what the ratings say.
    order.next_cells(np.full(ratings.shape, np.nan))
    order.next_cells(ratings)
    truth = full_divergence(ratings, rows, labels, signs)
    assert np.corrcoef(order.divergence(ratings), truth)[0, 1] > 0.999
    assert order.num_stopped(ratings) == 0


def test_same_seed_asks_the_same_and_another_seed_does_not():
    ratings, rows, prompts, labels, signs = world(num_prompts=60)
    known = [run(order_of(rows, prompts, labels, signs, seed=seed), ratings)[0] for seed in (1, 1, 2)]
    assert (known[0] == known[1]).all() and (known[0] != known[2]).any()


def test_answers_that_never_come_end_the_asking():
    ratings, rows, prompts, labels, signs = world(num_prompts=60)
    ratings[:, 2] = np.nan
    ratings[::7] = np.nan
    order = order_of(rows, prompts, labels, signs)
    run(order, ratings)
    assert np.isfinite(order.divergence(ratings)).all()


def test_a_judge_without_differences_is_no_crash():
    ratings, rows, prompts, labels, signs = world(num_prompts=60)
    ratings[:] = 3.0
    order = order_of(rows, prompts, labels, signs)
    _, values = run(order, ratings)
    assert (order.divergence(values) == 0).all()


def test_pairs_without_a_label_are_not_asked_about():
    ratings, rows, prompts, labels, signs = world(num_prompts=60)
    signs[:90] = 0.0
    order = order_of(rows, prompts, labels, signs)
    known, values = run(order, ratings)
    assert not known[np.unique(rows[:90])].any()
    assert np.isnan(order.divergence(values)[:90]).all() and np.isfinite(order.divergence(values)[90:]).all()


def test_small_data_are_rated_whole():
    ratings, rows, prompts, labels, signs = world(num_prompts=5)
    known, _ = run(order_of(rows, prompts, labels, signs), ratings)
    assert known[np.unique(rows)].all()


def test_one_aspect_and_a_share_of_nothing_are_refused():
    _, rows, prompts, labels, signs = world(num_prompts=5)
    with pytest.raises(InputError, match="two or more"):
        order_of(rows, prompts, labels, signs, num_aspects=1)
    with pytest.raises(InputError, match="max_call_share"):
        order_of(rows, prompts, labels, signs, max_share=0.0)


def test_clipped_mean_against_a_simulation():
    draws = np.random.default_rng(0).normal(size=400_000)
    for mean, deviation in ((0.0, 0.5), (0.9, 1.0), (-3.0, 0.2), (0.3, 5.0)):
        expected = np.clip(mean + deviation * draws, -1, 1).mean()
        assert clipped_mean(np.array([mean]), np.array([deviation]))[0] == pytest.approx(expected, abs=4e-3)
    assert normal_cdf(np.array([-1.96, 0.0, 1.96])) == pytest.approx([0.025, 0.5, 0.975], abs=1e-4)


def test_posterior_is_that_of_the_joint_normal():
    """Against the conditional of a joint normal written out for one prompt of two responses."""
    rows, prompts = np.array([[0, 1]]), np.array([0])
    blocks = blocks_of(rows, prompts, np.array([0]), 2)
    model = RatingModel(rows, np.array([0]), blocks, 2, False)
    model.mean = np.array([3.0, 2.0])
    model.within = np.array([[1.0, 0.5], [0.5, 2.0]])
    model.between = np.array([[0.3, 0.1], [0.1, 0.4]])
    values = np.array([[4.0, np.nan], [np.nan, 1.0]])
    found = model.posterior(blocks[0], values)
    cross = model.between
    own = model.within + model.between
    prior = np.block([[own, cross], [cross, own]])
    # The two known ratings, and the label: the gap of aspect 0 seen through the noise of a sign.
    seen = np.array([[1.0, 0, 0, 0], [0, 0, 0, 1.0], [1.0, 0, -1.0, 0]])
    noise = np.diag([1e-4 * 1.0, 1e-4 * 2.0, (np.pi / 2 - 1) * 2.0])
    gain = prior @ seen.T @ np.linalg.inv(seen @ prior @ seen.T + noise)
    mean = np.array([3.0, 2.0, 3.0, 2.0])
    observed = np.array([4.0, 1.0, np.sqrt(np.pi / 2) * np.sqrt(2.0)])
    assert found.mean[0] == pytest.approx(mean + gain @ (observed - seen @ mean))
    assert found.covariance[0] == pytest.approx(prior - gain @ seen @ prior)


def test_refining_finds_the_correlation_of_aspects():
    ratings, rows, prompts, labels, _ = world(num_prompts=400, own="aspects")
    blocks = blocks_of(rows, prompts, np.arange(len(rows)), 4)
    gaps = ratings[rows[:, 0]] - ratings[rows[:, 1]]
    signs = np.sign(gaps[np.arange(len(rows)), labels])
    sides = np.where((signs > 0)[:, None], rows, rows[:, ::-1])
    model = RatingModel(sides, labels, blocks, 4, False)
    values = np.where(np.random.default_rng(1).random(ratings.shape) < 0.6, ratings, np.nan)
    model.start(values)
    for _ in range(5):
        model.refine(values)
    # A label counts as a gap that was seen through noise, which is rough: the sizes are near, the signs right.
    assert model.within == pytest.approx(1 + np.eye(4), abs=0.6)
    assert model.between == pytest.approx(np.eye(4), abs=0.6)
