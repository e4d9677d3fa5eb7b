import numpy as np
import pytest

from pd_trl.errors import InputError
from pd_trl.lab.simulation.annotators import annotate_pair, preference_logit, rate_response
from pd_trl.lab.simulation.data import simulate_corpus, simulate_pairs, simulate_prompts
from pd_trl.lab.simulation.language import parse_response
from pd_trl.lab.simulation.world import SimulatedWorld, is_evaluation_prompt


@pytest.fixture(scope="module")
def world():
    return SimulatedWorld(seed=3)


@pytest.fixture(scope="module")
def pairs(world):
    return simulate_pairs(1500, world=world)


def column(pairs, name):
    return np.asarray(pairs[name], dtype=float)


def test_contract_columns(pairs, world):
    expected = {"pair_id", "prompt_id", "prompt", "response_a", "response_b"}
    for name in (*world.aspects, "overall"):
        expected |= {f"rating_{name}_a", f"rating_{name}_b", f"pref_{name}", f"gold_{name}_a", f"gold_{name}_b"}
    assert set(pairs.column_names) == expected
    assert len(pairs) == 1500
    assert len(set(pairs["pair_id"])) == 1500
    assert all(a != b for a, b in zip(pairs["response_a"], pairs["response_b"], strict=True))
    for name in (*world.aspects, "overall"):
        assert set(pairs[f"pref_{name}"]) == {0.0, 1.0}
        assert set(pairs[f"rating_{name}_a"]) <= {1.0, 2.0, 3.0, 4.0, 5.0}
        assert pairs.features[f"pref_{name}"].dtype == "float64"


def test_responses_recur(pairs):
    assert max(np.unique(pairs["prompt_id"], return_counts=True)[1]) == 6
    ratings = {}
    for side in "ab":
        for row in pairs:
            key = (row["prompt"], row[f"response_{side}"])
            assert ratings.setdefault(key, row[f"rating_honesty_{side}"]) == row[f"rating_honesty_{side}"]
    assert len(ratings) < 1.1 * 1500 * 4 / 6


def test_gold_columns_are_the_gold_rewards(pairs, world):
    for row in pairs.select(range(50)):
        gold = world.gold_rewards(row["prompt"], row["response_b"])
        assert [row[f"gold_{aspect}_b"] for aspect in world.aspects] == gold.tolist()
        assert row["gold_overall_b"] == pytest.approx(world.gold_overall(row["prompt"], row["response_b"]))


def test_same_seed_same_rows(pairs, world):
    again = simulate_pairs(1500, world=SimulatedWorld(seed=3))
    assert again.to_dict() == pairs.to_dict()
    assert simulate_pairs(100, world=world).to_dict() == pairs.select(range(100)).to_dict()
    assert simulate_pairs(100, 4).to_dict() != simulate_pairs(100, 3).to_dict()
    assert simulate_corpus(50, 3) == simulate_corpus(50, 3) != simulate_corpus(50, 4)
    assert simulate_prompts(50, 3) == simulate_prompts(50, 3) != simulate_prompts(50, 4)


def test_labels_do_not_depend_on_order(pairs, world):
    for row in list(pairs)[-1:-30:-1]:
        gold_a, gold_b = (np.array([row[f"gold_{name}_{side}"] for name in world.aspects]) for side in "ab")
        extra_words = len(row["response_a"].split()) - len(row["response_b"].split())
        labels = annotate_pair(world, row["pair_id"], gold_a, gold_b, extra_words)
        assert labels == {name: row[name] for name in labels}
        rating = rate_response(world, row["prompt"], row["response_a"], gold_a)
        assert rating == {name: row[f"rating_{name}_a"] for name in rating}


def test_aspects_trade_off(pairs, world):
    def gold(pairs, side):
        return np.stack([column(pairs, f"gold_{name}_{side}") for name in world.aspects], axis=1)

    assert (gold(pairs, "a").std(axis=0) > 0.5).all()
    rivals = np.corrcoef(gold(simulate_pairs(1500, world=SimulatedWorld(seed=3, conflict=1.0)), "a").T)
    off_diagonal = rivals[np.triu_indices(4, k=1)]
    assert off_diagonal.mean() < -0.05
    assert (off_diagonal < -0.1).sum() >= 3


def test_labels_conflict_with_the_whole(pairs, world):
    overall = column(pairs, "gold_overall_a") - column(pairs, "gold_overall_b")
    decided = np.abs(overall) > 1e-9
    for name in world.aspects:
        label = column(pairs, f"pref_{name}")[decided] > 0.5
        assert 0.15 < (label != (overall[decided] > 0)).mean() < 0.45
    label = column(pairs, "pref_overall")[decided] > 0.5
    assert (label != (overall[decided] > 0)).mean() < 0.2


def test_conflict_and_noise_are_dials():
    def conflict_share(**settings):
        pairs = simulate_pairs(600, world=SimulatedWorld(seed=5, **settings))
        overall = column(pairs, "gold_overall_a") - column(pairs, "gold_overall_b")
        labels = np.stack([column(pairs, f"pref_{name}") for name in ("helpfulness", "honesty")], axis=1)
        decided = (np.abs(overall) > 1e-9)[:, None] & (labels != 0.5)
        return ((labels > 0.5) != (overall > 0)[:, None])[decided].mean()

    assert conflict_share(conflict=0.0) + 0.05 < conflict_share(conflict=1.0)
    assert conflict_share(noise=0.0) + 0.03 < conflict_share(noise=3.0)


def test_annotators_follow_bradley_terry():
    world = SimulatedWorld(noise=0.5, length_bias=0.1)
    gold_a, gold_b = np.full(4, 3.5), np.full(4, 3.0)

    def share(extra_words):
        labels = [annotate_pair(world, f"id{i}", gold_a, gold_b, extra_words) for i in range(3000)]
        assert labels[0].keys() == {f"pref_{name}" for name in (*world.aspects, "overall")}
        return np.mean([label["pref_honesty"] for label in labels]), np.mean(
            [label["pref_overall"] for label in labels]
        )

    # sigmoid(0.5 / 0.5) = 0.731, sigmoid(1 - 2) = 0.269; overall 4 * 0.5 / sqrt(4) = 1 point: sigmoid(2) = 0.881
    assert share(0) == pytest.approx((0.731, 0.881), abs=0.03)
    assert share(-20) == pytest.approx((0.269, 0.5), abs=0.03)


def test_annotators_are_independent():
    world = SimulatedWorld(length_bias=0.0)
    labels = [annotate_pair(world, f"id{i}", np.zeros(4), np.zeros(4), 30) for i in range(3000)]
    table = np.array([[label[f"pref_{name}"] for name in world.aspects] for label in labels])
    assert table.mean(0) == pytest.approx(np.full(4, 0.5), abs=0.03)
    assert np.abs(np.corrcoef(table.T) - np.eye(4)).max() < 0.08


def test_annotators_without_noise_see_ties():
    world = SimulatedWorld(noise=0.0, length_bias=5.0)
    labels = annotate_pair(world, "id", np.array([3.0, 2.0, 4.0, 1.6]), np.array([3.0, 3.0, 3.0, 1.6]), 9)
    assert list(labels.values()) == [0.5, 0.0, 1.0, 0.5, 0.5]
    assert preference_logit(0.2, -9, world) == float("inf")


def test_longer_answers_are_rated_higher():
    world = SimulatedWorld(length_bias=0.5)
    short, long = (
        np.mean([rate_response(world, str(i), "word " * n, np.full(4, 3.0))["honesty"] for i in range(300)])
        for n in (10, 30)
    )
    assert long > short + 1


def test_evaluation_prompts_are_never_trained_on():
    evaluation = simulate_prompts(800, 7)
    assert len(set(evaluation)) == 800
    assert all(map(is_evaluation_prompt, evaluation))
    trained = {row["prompt"] for row in simulate_corpus(4000, 8)} | set(simulate_pairs(600, 9)["prompt"])
    assert not trained & set(evaluation)


def test_the_grammar_writes_nothing_it_cannot_read():
    rows = simulate_corpus(400, world=SimulatedWorld(seed=1, num_aspects=8))
    kinds = {sentence.kind for row in rows for sentence in parse_response(row["completion"])}
    assert "unknown" not in kinds
    assert all(row["completion"] for row in simulate_corpus(4000, world=SimulatedWorld(seed=1)))
    assert {"step", "risky", "rude", "polite", "digression", "encouragement", "refusal", "question"} <= kinds


@pytest.mark.parametrize("num_aspects", range(2, 9))
def test_two_to_eight_aspects(num_aspects):
    world = SimulatedWorld(seed=1, num_aspects=num_aspects)
    pairs = simulate_pairs(120, world=world)
    assert sum(name.startswith("pref_") for name in pairs.column_names) == num_aspects + 1
    assert all(column(pairs, f"gold_{aspect}_a").std() > 0.1 for aspect in world.aspects)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: SimulatedWorld(num_aspects=9), "between 2 and 8"),
        (lambda: SimulatedWorld(conflict=1.5), "conflict"),
        (lambda: SimulatedWorld(noise=-1.0), "noise"),
        (lambda: SimulatedWorld(length_bias=float("nan")), "length_bias"),
        (lambda: simulate_pairs(0), "num_pairs"),
        (lambda: simulate_pairs(10, responses_per_prompt=1), "at least 2"),
        (lambda: simulate_prompts(10**6), "num_prompts"),
        (lambda: simulate_corpus(-1), "num_texts"),
        (lambda: SimulatedWorld().write_response("Tell me a joke.", np.random.default_rng(0)), "joke"),
    ],
)
def test_bad_arguments(call, message):
    with pytest.raises(InputError, match=message):
        call()
