"""Which aspects vote, missing votes, pairs on which nobody votes, and settings that a fit leaves alone."""

import json
import logging

import numpy as np
import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from pd_trl import PDFilter, preference_divergence, select_out_of_core
from pd_trl.errors import InputError
from pd_trl.method.ranking import SELECTORS
from pd_trl.method.votes import vote_weights
from pd_trl.runs.artifacts import read_rows
from pd_trl.selection.gaps import GapMatrix, gap_matrix, vote_counts
from pd_trl.selection.reasons import NO_VOTES
from tests.selection.out_of_core.data import same

NAMES = ("clarity", "depth", "form")


def rows(count: int = 60, names=NAMES, seed: int = 0, labels=None, **columns) -> Dataset:
    """Pairs with the ratings of all aspects, and further columns."""
    generator = np.random.default_rng(seed)
    labels = labels or names
    data = {
        "pair_id": [f"p{i:03d}" for i in range(count)],
        "chosen": ["x" * int(n) for n in generator.integers(1, 9, count)],
        "rejected": ["y" * int(n) for n in generator.integers(1, 9, count)],
        "aspect": [labels[i % len(labels)] for i in range(count)],
    }
    for name in names:
        for side in ("chosen", "rejected"):
            data[f"rating_{name}_{side}"] = generator.integers(1, 6, count).astype(float).tolist()
    return Dataset.from_dict({**data, **columns})


def gaps(count: int = 60, names=NAMES, seed: int = 0, **columns) -> Dataset:
    """Pairs with the gaps of all aspects, and further columns."""
    generator = np.random.default_rng(seed)
    given = {f"reward_gap_{name}": generator.normal(0.3, 1, count).astype(np.float32) for name in names}
    rated = [f"rating_{name}_{side}" for name in names for side in ("chosen", "rejected")]
    return rows(count, names, seed, **{**given, **columns}).remove_columns(rated)


def replaced(data: Dataset, **columns) -> Dataset:
    return Dataset.from_dict({**data.to_dict(), **columns})


# ---- missing votes


def brute_force(gap_rows, own, scale, weights):
    """The weighted mean of the votes there are, times the total weight of those that could be."""
    values = []
    for i, row in enumerate(gap_rows):
        others = [k for k in range(len(row)) if k != own[i] and weights[k] > 0]
        there = [k for k in others if not np.isnan(row[k])]
        votes = [weights[k] * max(-1.0, min(1.0, row[k] / scale[k])) for k in there]
        total = sum(weights[k] for k in there)
        values.append(-sum(votes) / total * sum(weights[k] for k in others) if there else np.nan)
    return values


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**16), st.integers(2, 6), st.sampled_from([0.0, 0.2, 0.7]), st.booleans(), st.booleans())
def test_the_mean_of_the_votes_there_are(seed, num_aspects, share, weighted, holistic):
    generator = np.random.default_rng(seed)
    gap = generator.normal(size=(30, num_aspects)).astype(np.float32)
    own = generator.integers(-1 if holistic else 0, num_aspects, 30)
    weights = generator.uniform(0.1, 3, num_aspects) if weighted else np.ones(num_aspects)
    whole = preference_divergence(gap, own, weights=weights)
    scale = whole.quantiles
    holes = generator.random(gap.shape) < share
    found = preference_divergence(
        np.where(holes, np.nan, gap), own, weights=weights, quantiles=scale, allow_missing=True, allow_no_votes=True
    )
    expected = brute_force(np.where(holes, np.nan, gap).astype(float), own, scale, weights)
    assert np.allclose(found.values, expected, atol=2e-5, equal_nan=True)
    # Eq. 15, to the last bit, where no vote is missing.
    complete = ~(holes & (own[:, None] != np.arange(num_aspects))).any(axis=1)
    assert np.array_equal(found.values[complete], whole.values[complete])


def test_scales_and_clipped_shares_leave_missing_votes_out():
    gap = [[np.nan, 1.0], [np.nan, 3.0], [np.nan, np.nan]]
    found = preference_divergence(gap, [0, 0, -1], gamma=1.0, quantiles=None, allow_missing=True, allow_no_votes=True)
    assert found.quantiles[1] == 3.0 and np.isnan(found.quantiles[0])
    assert np.allclose(found.values, [-1 / 3, -1, np.nan], equal_nan=True)
    with pytest.raises(InputError, match="nan in row 2 of aspect '0'"):
        preference_divergence(gap, [0, 0, -1])
    with pytest.raises(InputError, match="inf in row 0"):
        preference_divergence([[0.0, np.inf], [1.0, 2.0]], [0, 0], allow_missing=True)


def test_a_missing_rating_is_no_handicap():
    """All agree on all pairs; half of them lack one rating: which half is kept does not depend on it."""
    half = [i % 4 < 2 for i in range(100)]
    names = ("a", "b", "c", "d")
    columns = {f"rating_{n}_{s}": [5.0 if s == "chosen" else 1.0] * 100 for n in names for s in ("chosen", "rejected")}
    columns["rating_d_chosen"] = [None if hole else 5.0 for hole in half]
    data = rows(100, names, labels=("a", "b", "c", "a"), **columns)
    pd_filter = PDFilter(50, source="ratings")
    decided = pd_filter.fit_transform(data)
    assert set(decided["pd"]) == {-3.0}
    assert sum(hole for hole, kept in zip(half, decided["pd_kept"], strict=True) if kept) == 26
    assert pd_filter.report_["missing_votes"] == {"fewer": 50, "none": 0}
    assert {n: g["total"] for n, g in pd_filter.report_["kept_by_votes"].items()} == {
        "2 of 2 agree": 50,
        "3 of 3 agree": 50,
    }
    assert "50 of 100 pairs have fewer votes" in str(pd_filter.report_)


def test_an_accuracy_that_was_not_measured_is_said_and_not_asked_of_aspects_without_a_weight():
    names, known = ("a", "b", "c"), {"pair_accuracy": 0.9}
    with pytest.raises(InputError, match="no pair was left to measure that of 'c'"):
        vote_weights(names, {}, {"a": known, "b": known, "c": {"num_pairs": 0}}, 0.5)
    with pytest.raises(InputError, match="that of 'c' is not known"):
        vote_weights(names, {}, {"a": known, "b": known}, 0.5)
    assert vote_weights(names, {"c": 0}, {"a": known, "b": known}, 0.5).tolist() == [1, 1, 0]


def test_correlations_are_of_the_pairs_on_which_both_vote(tmp_path):
    rng = np.random.default_rng(0)
    rated = {n: rng.uniform(1, 5, 90).tolist() for n in "abc"}
    rated["b"] = [None if i % 3 == 0 else value for i, value in enumerate(rated["a"])]
    rated["c"] = [None if i % 4 == 0 else 2.0 for i in range(90)]
    columns = {f"rating_{n}_chosen": values for n, values in rated.items()}
    columns |= {f"rating_{n}_rejected": [1.0] * 90 for n in rated}
    data = rows(90, tuple(rated), labels=("overall",), **columns)
    pd_filter = PDFilter(0.3, source="ratings").fit(data)
    data.to_parquet(tmp_path / "data.parquet")
    out_of_core = select_out_of_core(tmp_path / "data.parquet", tmp_path / "out", source="ratings").results["report"]
    for report in (pd_filter.report_, out_of_core):
        found = report["gap_correlation"]
        assert found["a"]["b"] == pytest.approx(1.0) and found["a"]["c"] is None and found["c"]["c"] is None


def test_an_aspect_that_is_tied_votes_and_one_that_is_missing_does_not():
    votes = {"vote_clarity": [1, -1] * 6, "vote_depth": [0, 1, -1] * 4, "vote_form": [None, 1, 0, -1] * 3}
    data = Dataset.from_dict({"pair_id": [str(i) for i in range(12)], "aspect": ["overall"] * 12, **votes})
    pd_filter = PDFilter(1.0, source="ratings", gamma=1.0)
    kept = pd_filter(data)
    assert pd_filter.aspects_ == ["clarity", "depth", "form"]
    expected = []
    for i in range(12):
        there = [votes[f"vote_{n}"][i] for n in NAMES if votes[f"vote_{n}"][i] is not None]
        expected.append(-3 * sum(there) / len(there))
    assert np.allclose(kept["pd"], expected)


# ---- pairs on which nobody votes

WEAK = {n: {"pair_accuracy": a, "pair_accuracy_se": 0.02} for n, a in zip(NAMES, (0.9, 0.55, 0.52), strict=True)}
MUTE = [
    pytest.param(gaps(), dict(proxy_metrics=WEAK, min_proxy_accuracy=0.6), {"clarity": 20}, id="accuracy"),
    pytest.param(gaps(), dict(weights={"depth": 0.0, "form": 0.0}), {"clarity": 20}, id="weights"),
    pytest.param(
        replaced(rows(), rating_depth_chosen=[3.0] * 60, rating_depth_rejected=[3.0] * 60, rating_form_rejected=[None] * 60),
        dict(source="ratings"), {"clarity": 20}, id="ties and holes",
    ),
    pytest.param(
        replaced(rows(labels=("clarity", "overall")), **{f"rating_{n}_chosen": [None] * 5 + [1.0, 4.0, 5.0, 2.0, 5.0] * 11 for n in NAMES}),
        dict(source="ratings"), {"none of the aspects": 2, "clarity": 3}, id="rows",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("data", "arguments", "silent"), MUTE)
@pytest.mark.parametrize("place", ["memory", "disk", "stream"])
def test_pairs_without_votes_are_refused_or_dropped_with_a_reason(data, arguments, silent, place, tmp_path, caplog):
    caplog.set_level(logging.WARNING)
    number = sum(silent.values())

    def run(**more):
        settings = {"budget": 0.5, **arguments, **more}
        if place == "disk":
            data.to_parquet(tmp_path / "data.parquet")
            select_out_of_core(tmp_path / "data.parquet", tmp_path / "out", **settings)
            parts = [read_rows(tmp_path / "out" / part).to_list() for part in ("selected", "dropped")]
            return PDFilter.load(tmp_path / "out"), [row for part in parts for row in part]
        pd_filter = PDFilter(**settings)
        if place == "stream":
            stream = data.to_iterable_dataset()
            return pd_filter, list(pd_filter.fit(stream).transform(stream))
        return pd_filter, pd_filter.fit_transform(data).to_list()

    with pytest.raises(InputError, match=f"On {number} of 60 pairs no other aspect votes") as refused:
        run()
    assert all(f"'{name}' ({count})" in str(refused.value) for name, count in silent.items())
    assert "on_no_votes='drop'" in str(refused.value)
    pd_filter, decided = run(on_no_votes="drop")
    without = [row for row in decided if row["pd_reason"] == NO_VOTES]
    assert len(without) == number and not any(row["pd_kept"] for row in without)
    assert all(row["pd"] is None for row in without)
    # The budget is a share of the others.
    assert sum(row["pd_kept"] for row in decided) == -(-(60 - number) // 2)
    assert f"No other aspect votes on {number} of 60 pairs" in caplog.text
    assert f"on {number} of 60 pairs no other aspect votes; they have no PD and are dropped" in str(pd_filter.report_)
    assert pd_filter.report_["kept_by_votes"]["no votes"] == {"total": number, "kept": 0, "share": 0.0}
    assert json.loads(json.dumps(pd_filter.report_.to_dict()))


def test_a_selection_that_does_not_rank_by_pd_keeps_pairs_without_votes():
    pd_filter = PDFilter(0.5, weights={"depth": 0.0, "form": 0.0}, selector="random")
    assert len(pd_filter(gaps())) == 30 and pd_filter.report_["missing_votes"]["none"] == 20
    assert "they have no PD.\n" in f"{pd_filter.report_}\n"


def test_new_data_may_have_pairs_without_votes():
    pd_filter = PDFilter(0.5, source="ratings").fit(rows())
    new = replaced(rows(6, seed=3), **{f"rating_{n}_chosen": [None] * 3 + [1.0, 4.0, 5.0] for n in NAMES})
    with pytest.raises(InputError, match="On 3 of 6 pairs"):
        pd_filter.transform(new)
    drops = PDFilter(0.5, source="ratings", on_no_votes="drop").fit(rows())
    assert [row["pd"] is None for row in drops.transform(new)] == [True] * 3 + [False] * 3


def test_nothing_is_left_to_select():
    data = replaced(rows(labels=("clarity",)), **{f"rating_{n}_chosen": [None] * 60 for n in NAMES[1:]})
    with pytest.raises(InputError, match="On 60 of 60 pairs no other aspect votes"):
        PDFilter(0.5, source="ratings")(data)
    with pytest.raises(InputError, match="no pair has a vote"):
        PDFilter(0.5, source="ratings", on_no_votes="drop")(data)
    with pytest.raises(InputError, match="on_no_votes"):
        PDFilter(0.5, on_no_votes="keep")
    with pytest.raises(InputError, match="no pair has a vote"):
        PDFilter(0.5, weights={"depth": 0.0, "form": 0.0}, on_no_votes="drop")(
            gaps().filter(lambda r: r["aspect"] == "clarity")
        )


def test_a_holistic_label_is_voted_on_by_all():
    pd_filter = PDFilter(1.0, source="ratings", gamma=1.0)
    data = rows(labels=("overall", "clarity"))
    decided = pd_filter(data)
    gap = np.array([np.subtract(data[f"rating_{n}_chosen"][:], data[f"rating_{n}_rejected"][:]) for n in NAMES]).T
    votes = gap / np.array([pd_filter.quantiles_[n] for n in NAMES])
    assert np.allclose(decided["pd"], [-v.sum() if i % 2 == 0 else -v[1:].sum() for i, v in enumerate(votes)])
    groups = pd_filter.report_["kept_by_votes"]
    assert sum(g["total"] for n, g in groups.items() if " of 3 " in n) == 30
    assert sum(g["total"] for n, g in groups.items() if " of 2 " in n) == 30


# ---- settings and statistics


def test_a_fit_leaves_the_settings_alone(tmp_path):
    tied = replaced(rows(), rating_form_chosen=[3.0] * 60, rating_form_rejected=[3.0] * 60)
    given = {"weights": {"clarity": 2.0}, "proxy_metrics": {"depth": {"pair_accuracy": 0.7}}}
    pd_filter = PDFilter(0.3, source="ratings", **given)
    before = {name: value for name, value in vars(pd_filter).items() if not name.endswith("_") and name != "models"}
    pd_filter(tied)
    assert pd_filter.weights_ == {"clarity": 2.0, "depth": 1.0, "form": 0.0}
    assert {name: vars(pd_filter)[name] for name in before} == before and pd_filter.weights == {"clarity": 2.0}
    pd_filter.save(tmp_path / "filter.json")
    loaded = PDFilter.load(tmp_path / "filter.json")
    assert loaded.weights == {"clarity": 2.0} and loaded.weights_ == pd_filter.weights_
    assert loaded.transform(rows(seed=5)).to_list() == pd_filter.transform(rows(seed=5)).to_list()
    fresh = PDFilter(0.3, source="ratings", **given)
    assert pd_filter(rows(seed=1)).to_list() == fresh(rows(seed=1)).to_list()
    with pytest.raises(InputError):
        pd_filter.fit(rows(seed=1).remove_columns("aspect"))
    assert pd_filter.weights_ == fresh.weights_ and pd_filter.aspects_ == fresh.aspects_


def test_a_filter_of_an_earlier_version_has_no_weights(tmp_path):
    pd_filter = PDFilter(0.3, weights={"form": 2.0}).fit(gaps())
    pd_filter.save(tmp_path / "filter.json")
    content = json.loads((tmp_path / "filter.json").read_text())
    del content["statistics"]["weights"], content["arguments"]["on_no_votes"]
    (tmp_path / "filter.json").write_text(json.dumps(content))
    loaded = PDFilter.load(tmp_path / "filter.json")
    assert loaded.transform(gaps(seed=2)).to_list() == pd_filter.transform(gaps(seed=2)).to_list()


# ---- which columns vote

OTHER_COLUMNS = [
    ("vote_count", list(range(60))),
    ("vote_share", [i / 60 for i in range(60)]),
    ("vote_source", ["users"] * 60),
    ("vote_helped", [i % 2 for i in range(60)]),
    ("vote_flag", [i % 2 == 0 for i in range(60)]),
    ("vote_none", [None] * 60),
]


@pytest.mark.parametrize(("name", "values"), OTHER_COLUMNS, ids=[name for name, _ in OTHER_COLUMNS])
def test_columns_that_count_something_else_are_no_votes(name, values, tmp_path, caplog):
    expected = PDFilter(0.3, source="ratings")
    kept = expected(rows())["pair_id"][:]
    data = rows(**{name: values})
    found = PDFilter(0.3, source="ratings")
    assert found(data)["pair_id"][:] == kept and found.aspects_ == list(NAMES) and name in caplog.text
    data.to_parquet(tmp_path / "data.parquet")
    select_out_of_core(tmp_path / "data.parquet", tmp_path / "out", source="ratings")
    assert PDFilter.load(tmp_path / "out").aspects_ == list(NAMES)
    assert read_rows(tmp_path / "out" / "selected")["pair_id"][:] == kept
    streamed = PDFilter(0.3, source="ratings").fit(data.to_iterable_dataset())
    assert streamed.aspects_ == list(NAMES) and streamed.thresholds_ == expected.thresholds_


def test_columns_of_votes_are_votes():
    generator = np.random.default_rng(0)
    unanimous = np.ones(60, dtype=np.int8)
    data = rows(vote_safety=unanimous, vote_tone=generator.integers(-1, 2, 60))
    assert gap_matrix(data, "ratings").names == ["clarity", "depth", "form", "safety", "tone"]
    labelled = rows(names=NAMES, labels=(*NAMES, "safety"), vote_safety=[1] * 60)
    assert gap_matrix(labelled, "ratings").names == ["clarity", "depth", "form", "safety"]
    pd_filter = PDFilter(0.3, source="ratings").fit(data)
    with pytest.raises(InputError, match="Votes must be 1, 0 or -1, but the vote of 'tone' in row 4 is 7"):
        pd_filter.transform(replaced(data, vote_tone=[1, 0, -1, None, 7] * 12))


# ---- columns that a selection does not use

UNUSED = [
    ("delta_length", [None, *[1] * 59]),
    ("delta_length", ["3"] * 60),
    ("delta_length", [float("nan")] * 60),
    ("reward_gap_overall", [None, *[1.0] * 59]),
    ("reward_gap_overall", ["high"] * 60),
    ("vote_overall", ["yes"] * 60),
    ("vote_source", ["u"] * 60),
    ("vote_count", list(range(60))),
]


@pytest.mark.parametrize(("name", "values"), UNUSED)
def test_columns_that_are_not_used_do_not_stop_a_selection(name, values, tmp_path):
    data = gaps(**{name: values, "vote_depth": [1, -1] * 30, "vote_form": [0, 1, -1] * 20})
    expected = PDFilter(0.3)
    kept = expected(gaps())
    pd_filter = PDFilter(0.3)
    assert pd_filter(data)["pair_id"][:] == kept["pair_id"][:]
    report = pd_filter.report_
    number = 1 if values[0] is None else 60
    if name in ("delta_length", "reward_gap_overall"):
        assert report["missing_numbers"] == {name: number}
        assert f"'{name}' has no number in {number} of 60 pairs" in str(report)
        assert {"delta_length": "length", "reward_gap_overall": "margin"}[name] not in report["overlap"]
    assert "nan" not in str(report).lower()
    data.to_parquet(tmp_path / "data.parquet")
    numbers = select_out_of_core(tmp_path / "data.parquet", tmp_path / "out").results["report"]
    streamed = PDFilter(0.3).fit(data.to_iterable_dataset())
    assert streamed.thresholds_ == pd_filter.thresholds_
    for other in (numbers, streamed.report_.to_dict()):
        for part in ("unseen_labels", "missing_numbers", "aspects", "kept_by_votes"):
            assert same(other[part], report[part])


@pytest.mark.parametrize("selector", ["random", "margin", "length"])
def test_selections_without_pd_need_no_gaps(selector, tmp_path):
    generator = np.random.default_rng(0)
    more = {"delta_length": generator.integers(-9, 9, 60), "reward_gap_overall": generator.normal(size=60)}
    bare = gaps(**more).remove_columns([f"reward_gap_{n}" for n in NAMES])
    cases = {
        "no gaps": bare,
        "no aspects": bare.remove_columns("aspect"),
        "a hole in a gap": replaced(gaps(**more), reward_gap_depth=[None, *[1.0] * 59]),
        "a gap of no scale": replaced(gaps(**more), reward_gap_depth=[0.0] * 60),
        "an aspect without gaps": gaps(**more).remove_columns("reward_gap_form"),
    }
    for place, (case, data) in enumerate(cases.items()):
        for per_aspect in (False, True) if "aspect" in data.column_names else (False,):
            arguments = dict(budget=0.4, selector=selector, per_aspect=per_aspect)
            in_memory = PDFilter(**arguments)
            decided = in_memory.fit_transform(data)
            assert "pd" not in decided.column_names and "pd" not in in_memory.report_.to_dict(), case
            streamed = PDFilter(**arguments)
            stream = data.to_iterable_dataset()
            assert list(streamed.fit(stream).transform(stream)) == decided.to_list(), case
            data.to_parquet(tmp_path / "data.parquet")
            out = tmp_path / f"{place}-{per_aspect}"
            numbers = select_out_of_core(tmp_path / "data.parquet", out, **arguments).results["report"]
            parts = [read_rows(out / part).to_list() for part in ("selected", "dropped")]
            assert sorted(map(str, parts[0] + parts[1])) == sorted(map(str, decided.to_list())), case
            for other in (numbers, streamed.report_.to_dict()):
                assert other["kept_by_aspect"] == in_memory.report_["kept_by_aspect"]
                assert other["unseen_labels"] == in_memory.report_["unseen_labels"]


def test_a_selector_that_ranks_by_pd_still_needs_the_gaps():
    for selector in ("pd", "pd_high"):
        with pytest.raises(InputError, match="nan in row 0"):
            PDFilter(0.3, selector=selector)(replaced(gaps(), reward_gap_depth=[None, *[1.0] * 59]))
    assert {name for name, rule in SELECTORS.items() if "pd" in rule.inputs} == {"pd", "pd_high"}


def test_votes_of_very_many_aspects_are_counted():
    own = np.array([0, -1, 299])
    matrix = GapMatrix([str(k) for k in range(300)], np.ones((3, 300), dtype=np.float32), own)
    for counts in vote_counts(matrix, np.ones(300)):
        assert counts.tolist() == [299, 300, 299]


def test_many_aspects_are_counted(tmp_path):
    count = 18
    names = tuple(f"k{i:03d}" for i in range(count))
    columns = {f"vote_{n}": np.ones(300, dtype=np.int8) for n in names}
    data = gaps(300, names, **{f"reward_gap_{n}": np.full(300, 1.0, dtype=np.float32) for n in names}, **columns)
    pd_filter = PDFilter(0.3)
    pd_filter(data)
    expected = {f"{count - 1} of {count - 1} agree": {"total": 300, "kept": 90, "share": 0.3}}
    assert pd_filter.report_["kept_by_votes"] == expected
    assert pd_filter.report_["unseen_labels"]["other aspects"]["all"] == 1.0
    data.to_parquet(tmp_path / "data.parquet")
    numbers = select_out_of_core(tmp_path / "data.parquet", tmp_path / "out").results["report"]
    assert numbers["kept_by_votes"] == expected and numbers["unseen_labels"]["other aspects"]["all"] == 1.0
