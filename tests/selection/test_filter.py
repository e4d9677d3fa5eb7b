import json

import numpy as np
import pytest
from datasets import Dataset, DatasetDict
from hypothesis import given, settings
from hypothesis import strategies as st

from pd_trl import PDFilter, preference_divergence
from pd_trl.errors import InputError
from pd_trl.method.ranking import SELECTORS
from pd_trl.selection import report_inputs
from tests.selection.out_of_core.data import scored_rows
from tests.tiny import ASPECTS, tiny_preferences


def scored(count: int = 60, seed: int = 0, ties: bool = False) -> Dataset:
    """Preferences with gaps, ratings, votes and lengths."""
    data = tiny_preferences(count, seed=seed)
    generator = np.random.default_rng(seed)
    for aspect in ASPECTS:
        gaps = generator.integers(-2, 3, count) + 0.1 if ties else generator.normal(size=count)
        data = data.add_column(f"reward_gap_{aspect}", gaps.astype(np.float32))
        chosen = generator.integers(1, 6, count)
        rejected = generator.integers(1, 6, count)
        data = data.add_column(f"rating_{aspect}_chosen", chosen.astype(float))
        data = data.add_column(f"rating_{aspect}_rejected", rejected.astype(float))
        data = data.add_column(f"vote_{aspect}", np.sign(chosen - rejected).astype(np.int8))
    data = data.add_column("reward_gap_overall", generator.normal(size=count).astype(np.float32))
    data = data.add_column("vote_overall", generator.choice([-1, 1], count).astype(np.int8))
    return data.add_column("delta_length", generator.integers(-9, 10, count).astype(np.int32))


def expected_pd(data: Dataset, prefix: str = "reward_gap_{}") -> np.ndarray:
    names = sorted(ASPECTS)
    gaps = np.array([data[prefix.format(name)][:] for name in names]).T
    return preference_divergence(gaps, np.array([names.index(a) for a in data["aspect"]])).values


def test_keeps_the_lowest_pd_with_all_columns():
    data = scored()
    pd_filter = PDFilter(budget=0.3)
    kept = pd_filter(data)
    values = expected_pd(data)
    assert len(kept) == 18 and len(pd_filter.dropped_) == 42
    assert kept["pair_id"][:] == [data["pair_id"][i] for i in sorted(np.argsort(values, kind="stable")[:18])]
    assert set(data.column_names) | {"pd", "pd_kept", "pd_reason"} == set(kept.column_names)
    assert kept.features["pd"].dtype == "float32" and all(kept["pd_kept"]) and not any(pd_filter.dropped_["pd_kept"])
    assert set(kept["pd_reason"]) == {"kept: pd within budget"}
    assert set(pd_filter.dropped_["pd_reason"]) == {"dropped: pd over budget"}


def test_ratings_missing_ones_have_no_vote(caplog):
    data = scored()
    ratings = [None if i % 7 == 0 else value for i, value in enumerate(data["rating_honesty_chosen"])]
    data = data.remove_columns(["rating_honesty_chosen", "vote_honesty"]).add_column("rating_honesty_chosen", ratings)
    pd_filter = PDFilter(budget=10, source="ratings")
    kept = pd_filter(data)
    names = sorted(ASPECTS)
    gaps = np.array(
        [np.subtract(np.array(data[f"rating_{n}_chosen"][:], float), data[f"rating_{n}_rejected"][:]) for n in names]
    ).T
    own = np.array([names.index(a) for a in data["aspect"]])
    values = preference_divergence(gaps, own, allow_missing=True).values
    assert len(kept) == 10 and np.allclose(sorted(kept["pd"]), sorted(values)[:10])
    # Of two votes one is missing: the other counts twice.
    fewer = np.isnan(gaps[:, 1]) & (own != 1)
    other = np.where(own == 0, 2, 0)[fewer]
    scale = pd_filter.quantiles_
    expected = [-2 * np.clip(g[k] / scale[names[k]], -1, 1) for g, k in zip(gaps[fewer], other, strict=True)]
    assert np.allclose(values[fewer], expected) and fewer.sum() == 6
    assert pd_filter.report_["missing_votes"] == {"fewer": 6, "none": 0}
    assert "6 of 60 pairs have fewer votes" in str(pd_filter.report_)
    assert pd_filter.report_["missing_gaps"] == {"honesty": 9} and "9 of 60" in caplog.text


def test_votes_stand_in_for_ratings():
    data = scored().remove_columns([f"rating_{a}_{s}" for a in ASPECTS for s in ("chosen", "rejected")])
    kept = PDFilter(budget=0.5, source="ratings", gamma=1.0)(data)
    assert len(kept) == 30 and set(np.unique(kept["pd"])) <= {-2.0, -1.0, 0.0, 1.0, 2.0}


# The rivals' columns are in tests/selection/test_selectors.py.
@pytest.mark.parametrize("selector", sorted(name for name, rule in SELECTORS.items() if not rule.made_by))
@pytest.mark.parametrize("per_aspect", [False, True])
def test_every_selector_counts_nests_and_reapplies(selector, per_aspect):
    data = scored(50, ties=True)
    previous: set[str] = set()
    for budget in (0.1, 0.3, 0.7, 1.0):
        pd_filter = PDFilter(budget=budget, selector=selector, per_aspect=per_aspect)
        kept = pd_filter(data)
        ids = set(kept["pair_id"])
        assert len(ids) == len(kept) == -(-50 * int(budget * 10) // 10) and previous <= ids
        assert len(pd_filter.dropped_) == 50 - len(kept)
        assert set(pd_filter.transform(data).filter(lambda r: r["pd_kept"])["pair_id"]) == ids
        previous = ids
        shares = [entry["kept"] / entry["total"] for entry in pd_filter.report_["kept_by_aspect"].values()]
        assert not per_aspect or max(shares) - min(shares) < 0.1
        assert str(pd_filter.report_) and json.loads(json.dumps(pd_filter.report_.to_dict()))
    assert ids == set(data["pair_id"])


@settings(max_examples=15, deadline=None)
@given(st.permutations(range(30)))
def test_order_does_not_matter(order):
    data = scored(30, ties=True)
    assert set(PDFilter(7)(data.select(order))["pair_id"]) == set(PDFilter(7)(data)["pair_id"])


def test_weights():
    data = scored()
    names = sorted(ASPECTS)
    kept = PDFilter(0.2, weights={"honesty": 3.0, "helpfulness": 0.0})(data)
    gaps = np.array([data[f"reward_gap_{n}"][:] for n in names]).T
    own = np.array([names.index(a) for a in data["aspect"]])
    values = preference_divergence(
        gaps, own, weights=[{"honesty": 3.0, "helpfulness": 0.0}.get(n, 1.0) for n in names]
    ).values
    assert np.allclose(sorted(kept["pd"]), sorted(values)[:12])


def test_save_load_stream_and_new_data(tmp_path):
    data, new = scored(60), scored(40, seed=5)
    pd_filter = PDFilter(0.3, weights={"honesty": 2.0}).fit(data)
    pd_filter.save(tmp_path / "filter.json")
    loaded = PDFilter.load(tmp_path / "filter.json")
    assert loaded.report_.to_dict() == json.loads(json.dumps(pd_filter.report_.to_dict()))
    expected = pd_filter.transform(new)
    assert loaded.transform(new).to_list() == expected.to_list()
    stream = loaded.transform(new.to_iterable_dataset(num_shards=3))
    assert list(stream) == expected.to_list()
    assert [r["pair_id"] for r in loaded(new.to_iterable_dataset())] == [
        r["pair_id"] for r in expected if r["pd_kept"]
    ]
    threshold = max(data_row["pd"] for data_row in pd_filter.transform(data) if data_row["pd_kept"])
    assert [row["pd_kept"] for row in expected] == [row["pd"] <= threshold for row in expected]


def test_dataset_dict():
    splits = DatasetDict({"train": scored(60), "test": scored(20, seed=3)})
    kept = PDFilter(0.3)(splits)
    assert len(kept["train"]) == 18 and all(kept["test"]["pd_kept"])
    with pytest.raises(InputError, match="'train'.*left, right"):
        PDFilter(0.3)(DatasetDict({"left": scored(9), "right": scored(9)}))


def test_reward_models_score_what_has_no_gaps(tiny_models):
    from pd_trl import score_pairs

    models = {aspect: tiny_models["reward"] for aspect in ASPECTS}
    data = tiny_preferences(30)
    kept = PDFilter(0.5, reward_models=models)(data)
    by_hand = PDFilter(0.5)(score_pairs(data, models))
    assert kept.to_list() == by_hand.to_list() and len(kept) == 15


def test_weak_proxies_are_reported_and_can_be_left_out(caplog):
    metrics = {
        "helpfulness": dict(pair_accuracy=0.9, pair_accuracy_se=0.02, length_accuracy=0.5),
        "honesty": dict(pair_accuracy=0.52, pair_accuracy_se=0.02, length_accuracy=0.5),
        "truthfulness": dict(pair_accuracy=0.7, pair_accuracy_se=0.02, length_accuracy=0.7),
    }
    pd_filter = PDFilter(0.5, proxy_metrics=metrics, min_proxy_accuracy=0.6)
    kept = pd_filter(scored())
    without = PDFilter(0.5, weights={"honesty": 0.0})(scored())
    assert kept["pair_id"][:] == without["pair_id"][:]
    text = str(pd_filter.report_)
    assert "'honesty' has no vote (weight 0)" in text and "'truthfulness' is not better than 'longer wins'" in text
    assert "52.0 %" in caplog.text
    voting = PDFilter(0.5, proxy_metrics=metrics)
    voting(scored())
    assert "'honesty' is no better than a coin" in str(voting.report_)
    with pytest.raises(InputError, match="No aspect is left"):
        PDFilter(0.5, proxy_metrics=metrics, min_proxy_accuracy=0.95)(scored())
    with pytest.raises(InputError, match="not.*known"):
        PDFilter(0.5, min_proxy_accuracy=0.6)(scored())


def test_the_report_is_the_same_in_parts_of_any_size(monkeypatch):
    """Gaps that are missing and clipped count once, whatever the rows that are summed at a time."""
    rows = scored(100).to_list()
    for row in rows[::9]:
        row["rating_honesty_chosen"] = None
    found = []
    for size in (1000, 7):
        monkeypatch.setattr("pd_trl.selection.report._BLOCK", size)
        pd_filter = PDFilter(0.3, source="ratings", gamma=0.5)
        pd_filter(Dataset.from_list(rows))
        found.append(json.loads(json.dumps(pd_filter.report_.to_dict())))
    assert found[0]["aspects"]["honesty"]["clipped"] > 0 and found[0]["missing_gaps"]["honesty"] > 0
    assert flat(found[0]) == pytest.approx(flat(found[1]), nan_ok=True)


def flat(report, name=""):
    """The numbers of a report by their place."""
    if isinstance(report, dict):
        return {place: n for key, part in report.items() for place, n in flat(part, f"{name}/{key}").items()}
    if isinstance(report, list):
        return {place: n for key, part in enumerate(report) for place, n in flat(part, f"{name}/{key}").items()}
    return {name: report} if isinstance(report, (int, float)) else {}


def test_report_numbers_by_brute_force():
    data = scored(80)
    pd_filter = PDFilter(0.25)
    kept = pd_filter(data)
    report = pd_filter.report_
    ids = set(kept["pair_id"])
    rows = data.to_list()
    overall = [row["vote_overall"] > 0 for row in rows if row["pair_id"] in ids]
    assert report["unseen_labels"]["overall"]["kept"] == pytest.approx(np.mean(overall))
    agree = total = 0
    for row in rows:
        for aspect in ASPECTS:
            if row["pair_id"] not in ids and aspect != row["aspect"] and row[f"vote_{aspect}"] != 0:
                agree, total = agree + (row[f"vote_{aspect}"] > 0), total + 1
    assert report["unseen_labels"]["other aspects"]["dropped"] == pytest.approx(agree / total)
    votes = {f"{n} of 2 agree": 0 for n in range(3)}
    for row in rows:
        votes[f"{sum(row[f'reward_gap_{a}'] > 0 for a in ASPECTS if a != row['aspect'])} of 2 agree"] += 1
    assert {name: entry["total"] for name, entry in report["kept_by_votes"].items()} == votes
    assert sum(entry["kept"] for entry in report["kept_by_votes"].values()) == report["kept"] == 20
    assert report["lengths"]["kept"]["mean_characters_chosen"] == pytest.approx(
        np.mean([len(t) for t in kept["chosen"]])
    )
    longest = sorted(rows, key=lambda r: (-r["delta_length"], r["pair_id"]))[:20]
    assert report["overlap"]["length"] == pytest.approx(len(ids & {r["pair_id"] for r in longest}) / 20)
    for aspect in ASPECTS:
        others = [row for row in rows if row["aspect"] != aspect]
        entry = report["aspects"][aspect]
        expected = np.corrcoef([r[f"reward_gap_{aspect}"] for r in others], [r["delta_length"] for r in others])[0, 1]
        assert entry["length_correlation"] == pytest.approx(expected, abs=1e-6)
        assert entry["clipped"] == pytest.approx(0.1, abs=0.03)


BAD_ARGUMENTS = [
    (dict(budget=0.0), "budget"),
    (dict(budget=-0.1), "budget"),
    (dict(budget=1.5), "budget"),
    (dict(budget=0), "budget"),
    (dict(gamma=0.0), "gamma"),
    (dict(gamma=1.01), "gamma"),
    (dict(source="labels"), "rewards, ratings, column"),
    (dict(selector="best"), "pd, pd_high"),
    (dict(weights={"honesty": -1.0}), "'honesty': -1"),
    (dict(weights=[1.0]), "dict"),
    (dict(min_proxy_accuracy=2.0), "min_proxy_accuracy"),
]


@pytest.mark.parametrize("bad,message", BAD_ARGUMENTS, ids=str)
def test_refuses_arguments(bad, message):
    with pytest.raises(InputError, match=message):
        PDFilter(**bad)


def drop(data, *columns):
    return data.remove_columns(list(columns))


GAP_COLUMNS = [f"reward_gap_{aspect}" for aspect in ASPECTS]
BAD_DATA = [
    (lambda d: d.to_list(), {}, "got list"),
    (lambda d: d.select([]), {}, "empty"),
    (lambda d: drop(d, "pair_id"), {}, "no column 'pair_id'"),
    (lambda d: drop(d, "aspect"), {}, "no column 'aspect'"),
    (lambda d: drop(d, *GAP_COLUMNS), {}, "no `reward_gap_<aspect>` columns"),
    (lambda d: drop(d, GAP_COLUMNS[0]), {}, "labelled by the aspect 'helpfulness'"),
    (lambda d: drop(d.filter(lambda r: r["aspect"] == ASPECTS[0]), *GAP_COLUMNS[1:]), {}, "at least two aspects"),
    (lambda d: d, dict(budget=61), "only 60"),
    (lambda d: d, dict(weights={"humour": 1.0}), "'humour'.*helpfulness, honesty, truthfulness"),
    (lambda d: d, dict(weights=dict.fromkeys(ASPECTS, 0.0)), "all weights are 0"),
    (lambda d: drop(d, GAP_COLUMNS[1]).add_column(GAP_COLUMNS[1], [0.0] * 60), {}, "'honesty' is 0"),
    (lambda d: drop(d, GAP_COLUMNS[1]).add_column(GAP_COLUMNS[1], [float("nan")] * 60), {}, "nan in row 0"),
    (lambda d: drop(d, GAP_COLUMNS[1]).add_column(GAP_COLUMNS[1], [None] * 59 + [1.0]), {}, "nan in row 0"),
    (lambda d: d, dict(selector="margin", margin_column="nothing"), "'nothing'"),
    (lambda d: d, dict(source="column"), "'pd'"),
    (lambda d: drop(d, "pair_id").add_column("pair_id", ["same"] * 60), {}, "more than once"),
]


@pytest.mark.parametrize("change,arguments,message", BAD_DATA)
def test_refuses_data(change, arguments, message):
    with pytest.raises(InputError, match=message):
        PDFilter(**{"budget": 0.3, **arguments})(change(scored()))


def test_refuses_to_transform_before_fit_and_broken_files(tmp_path):
    with pytest.raises(InputError, match="fit"):
        PDFilter().transform(scored())
    with pytest.raises(InputError, match="fit"):
        PDFilter().save(tmp_path / "x.json")
    with pytest.raises(InputError, match="nothing.json"):
        PDFilter.load(tmp_path / "nothing.json")
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(InputError, match="saved PDFilter"):
        PDFilter.load(tmp_path / "other.json")


def test_an_aspect_whose_ratings_decide_only_its_own_pairs_has_no_vote(caplog):
    data = scored()
    own = [aspect == "honesty" for aspect in data["aspect"]]
    for side, value in (("chosen", 5.0), ("rejected", 1.0)):
        column = [value if mine else 3.0 for mine in own]
        name = f"rating_honesty_{side}"
        data = data.remove_columns(name).add_column(name, column)
    pd_filter = PDFilter(0.3, source="ratings")
    assert len(pd_filter(data)) == 18
    assert pd_filter.report_["aspects"]["honesty"]["weight"] == 0.0 and "'honesty' has no vote" in caplog.text


def test_a_filter_without_a_single_vote_is_loaded_again(tmp_path):
    """Of pairs that are drawn at random, none need have a PD."""
    rows = {
        "pair_id": list("abcd"),
        "prompt": ["q"] * 4,
        "chosen": ["x"] * 4,
        "rejected": ["y"] * 4,
        "aspect": ["one"] * 4,
    }
    gaps = {f"reward_gap_{name}": [0.1, 0.2, 0.3, 0.4] for name in ("one", "two")}
    pd_filter = PDFilter(0.5, selector="random", weights={"two": 0.0})
    kept = pd_filter(Dataset.from_dict({**rows, **gaps}))
    pd_filter.save(tmp_path / "filter.json")
    loaded = PDFilter.load(tmp_path / "filter.json")
    assert str(loaded.report_) == str(pd_filter.report_)
    assert loaded.transform(kept)["pd_kept"][:] == [True, True]


def test_a_selection_neither_reads_nor_copies_texts(monkeypatch):
    data = scored_rows(60, levels=2)
    expected = PDFilter(0.4)(data)
    shuffled = data.shuffle(seed=3)
    read = []
    whole = report_inputs.text_length
    monkeypatch.setattr(report_inputs, "text_length", lambda column: (read.append(column.type), whole(column))[1])
    for rows in (data, shuffled):
        pd_filter = PDFilter(0.4)
        kept = pd_filter(rows)
        assert not read and sorted(kept["pair_id"]) == sorted(expected["pair_id"])
        stored = [
            part.data.column("chosen").chunk(0).buffers()[2].address for part in (rows, kept, pd_filter.dropped_)
        ]
        assert len(set(stored)) == 1
        assert kept[0]["chosen"] in rows.filter(lambda row, i=kept[0]["pair_id"]: row["pair_id"] == i)["chosen"]
    assert pd_filter.report_["lengths"]["kept"]["mean_characters_chosen"] > 0 and len(read) == 2
