"""Pairs that carry the overall label alone: all aspects vote (Eq. 13-15 with a sum over all of them)."""

import json

import numpy as np
import pytest
from datasets import Dataset, concatenate_datasets

from pd_trl import PDFilter, select_out_of_core
from pd_trl.errors import InputError
from pd_trl.runs.artifacts import read_rows
from pd_trl.selection.report import SelectionReport
from tests.selection.test_filter import scored
from tests.tiny import ASPECTS, tiny_preferences


def labelled(count: int = 60, label: str = "overall", seed: int = 3) -> Dataset:
    """Scored pairs that carry the overall label, of which some models vote with ties and beyond their scale."""
    data = tiny_preferences(count, seed=seed).remove_columns("aspect")
    generator = np.random.default_rng(seed)
    for k, aspect in enumerate(ASPECTS):
        gaps = generator.standard_t(2, count) * 10.0**k if k else generator.integers(-2, 3, count)
        data = data.add_column(f"reward_gap_{aspect}", gaps.astype(np.float32))
    data = data.add_column("vote_overall", np.ones(count, dtype=np.int8))
    data = data.add_column("delta_length", generator.integers(-9, 10, count).astype(np.int32))
    return data.add_column("aspect", [label] * count)


def brute_force(rows: list[dict], names: list[str], gamma: float, weights: dict[str, float]) -> list[float]:
    """PD by METHOD's equations, pair by pair and aspect by aspect, in plain Python."""
    scales = {}
    for name in names:
        outside = sorted(abs(row[f"reward_gap_{name}"]) for row in rows if row["aspect"] != name)  # z' not in D_k
        place = gamma * (len(outside) - 1)
        low, high = outside[int(place)], outside[min(int(place) + 1, len(outside) - 1)]
        scales[name] = float(np.float32(low + (place - int(place)) * (high - low)))  # Eq. 13
    values = []
    for row in rows:
        total = 0.0
        for name in names:
            if row["aspect"] == name:
                continue
            ratio = row[f"reward_gap_{name}"] / scales[name]
            total -= weights.get(name, 1.0) * max(-1.0, min(1.0, ratio))  # Eq. 14 and 15
        values.append(total)
    return values


@pytest.mark.parametrize("mixed", [False, True], ids=["overall", "some of aspects"])
@pytest.mark.parametrize(("gamma", "weights"), [(0.9, {}), (0.5, {"honesty": 2.0}), (1.0, {"truthfulness": 0.0})])
def test_pd_is_the_sum_over_all_aspects_in_memory_in_streams_and_out_of_core(tmp_path, mixed, gamma, weights):
    data = labelled()
    if mixed:
        own = Dataset.from_list([
            {**row, "pair_id": f"own-{i}", "aspect": ASPECTS[i % 3]} for i, row in enumerate(labelled(30, seed=5))
        ])  # fmt: skip
        data = concatenate_datasets([data, own.cast(data.features)])
    names = sorted(ASPECTS)
    expected = brute_force(data.to_list(), names, gamma, weights)
    order = sorted(range(len(data)), key=lambda i: (np.float32(expected[i]), data["pair_id"][i]))
    wanted = {data["pair_id"][i] for i in order[: -(-3 * len(data) // 10)]}

    settings = {"gamma": gamma, "weights": weights}
    decided = PDFilter(0.3, **settings).fit_transform(data)
    np.testing.assert_allclose(decided["pd"][:], expected, atol=1e-6)
    assert {row["pair_id"] for row in decided if row["pd_kept"]} == wanted

    stream = list(PDFilter(0.3, **settings)(data.to_iterable_dataset(num_shards=2)))
    by_id = dict(zip(data["pair_id"][:], expected, strict=True))
    assert {row["pair_id"] for row in stream} == wanted
    np.testing.assert_allclose([row["pd"] for row in stream], [by_id[row["pair_id"]] for row in stream], atol=1e-6)

    data.to_parquet(tmp_path / "scored.parquet")
    select_out_of_core(tmp_path / "scored.parquet", tmp_path / "out", 0.3, **settings)
    rows = concatenate_datasets([read_rows(tmp_path / "out" / part) for part in ("selected", "dropped")])
    assert {row["pair_id"] for row in rows if row["pd_kept"]} == wanted
    np.testing.assert_allclose(rows["pd"][:], [by_id[name] for name in rows["pair_id"][:]], atol=1e-6)


def test_the_bound_of_pd_is_the_number_of_aspects():
    data = labelled(200)
    values = np.array(PDFilter(1.0, gamma=0.2).fit_transform(data)["pd"][:])
    assert values.min() == -3 and values.max() == 3


def test_one_model_is_enough():
    data = labelled().remove_columns([f"reward_gap_{name}" for name in ASPECTS[1:]])
    pd_filter = PDFilter(0.3)
    assert len(pd_filter(data)) == 18
    assert "correlation of gaps" not in str(pd_filter.report_)


def test_the_report_speaks_of_the_label_and_shows_no_table_of_one_row():
    pd_filter = PDFilter(0.3)
    pd_filter(labelled())
    text = str(pd_filter.report_)
    for words in (
        "agrees with the overall label",
        "votes of the aspects",
        "All pairs carry the overall label",
        "no more often",
    ):
        assert words in text
    for words in (
        "other aspects",
        "own pairs",
        "kept by aspect",
        "proxy accuracy",
        "label agrees with the overall label",
    ):
        assert words not in text
    numbers = pd_filter.report_.to_dict()
    assert numbers["kept_by_aspect"] == {"overall": {"total": 60, "kept": 18, "share": 0.3}}
    assert "overall" not in numbers["unseen_labels"]


def test_models_that_agree_with_the_label_are_not_complained_about():
    data = labelled()
    for name in ASPECTS:
        gaps = np.abs(np.array(data[f"reward_gap_{name}"][:])) + 0.1
        data = data.remove_columns(f"reward_gap_{name}").add_column(f"reward_gap_{name}", gaps.astype(np.float32))
    pd_filter = PDFilter(0.3)
    pd_filter(data)
    assert "no more often than a coin" not in str(pd_filter.report_)


def test_models_against_the_label_are_spoken_of():
    data = labelled(200)
    gaps = -np.abs(np.array(data["reward_gap_honesty"][:])) - 0.1
    data = data.remove_columns("reward_gap_honesty").add_column("reward_gap_honesty", gaps.astype(np.float32))
    pd_filter = PDFilter(0.3)
    pd_filter(data)
    assert "'honesty' agrees with the overall label on 0.0 ± " in str(pd_filter.report_)
    assert "less often than a coin" in str(pd_filter.report_)


def test_ties_are_no_votes_against_the_label():
    data = labelled(200)
    gaps = np.array([2.0, -1.0, 1.0, 0.0, 0.0] * 40, dtype=np.float32)  # two thirds of what is decided agree
    data = data.remove_columns("reward_gap_honesty").add_column("reward_gap_honesty", gaps)
    pd_filter = PDFilter(0.3)
    pd_filter(data)
    entry = pd_filter.report_.to_dict()["aspects"]["honesty"]
    assert (entry["agrees"], entry["decided"]) == (pytest.approx(2 / 3), 120)
    assert "'honesty' agrees with" not in str(pd_filter.report_)


def test_measured_models_show_their_accuracy():
    metrics = {name: {"pair_accuracy": 0.7, "pair_accuracy_se": 0.02, "num_pairs": 90} for name in ASPECTS}
    pd_filter = PDFilter(0.3, proxy_metrics=metrics, min_proxy_accuracy=0.6)
    pd_filter(labelled())
    assert "proxy accuracy" in str(pd_filter.report_) and "0.700 ± 0.020" in str(pd_filter.report_)


def test_a_share_of_each_aspect_is_one_share():
    data = labelled()
    kept, same = PDFilter(0.3)(data), PDFilter(0.3, per_aspect=True)(data)
    assert kept["pair_id"][:] == same["pair_id"][:] and set(same["pd_reason"]) == {"kept: pd within budget"}


def test_the_mean_of_ratings_as_a_label_keeps_its_comparison_with_the_overall_one():
    pd_filter = PDFilter(0.3)
    pd_filter(labelled(label="mean"))
    assert "label agrees with the overall label" in str(pd_filter.report_)
    assert "agrees with the mean of the ratings" in str(pd_filter.report_)


def test_labels_of_aspects_are_spoken_of_as_before():
    pd_filter = PDFilter(0.3)
    pd_filter(scored())
    text = str(pd_filter.report_)
    for words in ("own pairs", "kept by aspect", "votes of the other aspects", "proxy accuracy"):
        assert words in text
    assert "overall label alone" not in text


def test_a_saved_filter_selects_again(tmp_path):
    data = labelled()
    pd_filter = PDFilter(0.3)
    kept = pd_filter(data)
    pd_filter.save(tmp_path / "filter.json")
    loaded = PDFilter.load(tmp_path / "filter.json")
    assert loaded.transform(data).filter(lambda row: row["pd_kept"])["pair_id"][:] == kept["pair_id"][:]
    assert str(loaded.report_) == str(pd_filter.report_)
    assert len(PDFilter.load(tmp_path / "filter.json", budget=0.5)(data)) == 30
    assert str(SelectionReport(json.loads(json.dumps(pd_filter.report_.to_dict())))) == str(pd_filter.report_)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            {"min_proxy_accuracy": 0.6},
            ["Pairs with an overall label alone cannot measure it", "leave `min_proxy_accuracy`"],
        ),
        ({"source": "ratings"}, ["The pairs have reward gaps: use source='rewards'"]),
    ],
    ids=["accuracy", "ratings"],
)
def test_refusals_show_a_way_through(tmp_path, arguments, words):
    data = labelled()
    data.to_parquet(tmp_path / "scored.parquet")
    for select in (
        lambda: PDFilter(0.3, **arguments)(data),
        lambda: PDFilter(0.3, **arguments)(data.to_iterable_dataset()),
        lambda: select_out_of_core(tmp_path / "scored.parquet", tmp_path / "out", 0.3, **arguments),
    ):
        with pytest.raises(InputError) as error:
            select()
        for text in words:
            assert text in str(error.value)


@pytest.mark.parametrize(
    ("source", "words"),
    [("ratings", "let reward|need reward models that vote"), ("rewards", "Score the pairs with `score_pairs`")],
)
def test_pairs_without_any_vote_show_a_way_through(source, words):
    plain = labelled().remove_columns([f"reward_gap_{name}" for name in ASPECTS])
    with pytest.raises(InputError, match=words):
        PDFilter(0.3, source=source)(plain)


def test_the_gap_of_an_overall_model_is_no_vote():
    data = labelled().remove_columns([f"reward_gap_{name}" for name in ASPECTS])
    data = data.add_column("reward_gap_overall", np.arange(60, dtype=np.float32))
    with pytest.raises(InputError, match="selector='margin' ranks by it"):
        PDFilter(0.3)(data)
    assert len(PDFilter(0.3, selector="margin")(data)) == 18
