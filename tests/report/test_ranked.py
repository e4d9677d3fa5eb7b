import numpy as np
import pytest
from datasets import Dataset

from pd_trl.errors import InputError
from pd_trl.method.ranking import select_lowest, select_per_stratum
from pd_trl.report.ranked import packed, rank_pairs, ranking
from pd_trl.selection.filter import PDFilter
from pd_trl.selection.reasons import NO_VOTES
from tests.report.data import ASPECTS, METRICS, scored_set

COUNT = 211
BUDGETS = (1, 2, 30, 64, 110, 210, 211)


def decided_by(budget, missing=(), **settings):
    pd_filter = PDFilter(budget, proxy_metrics=METRICS, **settings)
    generator = np.random.default_rng(1)
    columns = {}
    for aspect in ASPECTS if missing else ():
        for side in ("chosen", "rejected"):
            ratings, share = generator.integers(1, 6, COUNT).tolist(), missing.get(aspect, 0)
            columns[f"rating_{aspect}_{side}"] = [None if generator.random() < share else r for r in ratings]
    return pd_filter.fit_transform(scored_set(COUNT, **columns)), pd_filter


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"per_aspect": True},
        {"source": "ratings"},
        {"selector": "pd_high"},
        {"selector": "random", "seed": 7},
        {"selector": "length"},
        {"selector": "margin", "margin_column": "reward_gap_honesty"},
        {"weights": {"honesty": 0.0, "helpfulness": 2.0}},
        {"selector": "random", "per_aspect": True},
        {"source": "ratings", "missing": {"honesty": 0.3}},
    ],
    ids=lambda settings: ",".join(f"{k}={v}" for k, v in settings.items()) or "default",
)
def test_first_pairs_are_what_the_filter_keeps_at_any_budget(settings):
    """The ranking of one selection tells what the filter itself keeps at every other budget, and its report's numbers."""
    ranked = rank_pairs(*decided_by(60, **settings))
    ids = np.asarray(decided_by(60, **settings)[0]["pair_id"][:])[ranked.rows]
    for budget in BUDGETS:
        decided, pd_filter = decided_by(budget, **settings)
        kept = np.asarray(decided["pair_id"][:])[np.asarray(decided["pd_kept"][:])]
        assert set(ids[:budget]) == set(kept)
        check_numbers(ranked, budget, pd_filter.report_.to_dict())


@pytest.mark.parametrize("settings", [{}, {"per_aspect": True}, {"selector": "pd_high"}], ids=str)
def test_pairs_without_votes_come_last(settings):
    settings = {"source": "ratings", "missing": dict.fromkeys(ASPECTS, 0.3), "on_no_votes": "drop", **settings}
    decided, _ = decided_by(60, **settings)
    ranked = rank_pairs(*decided_by(60, **settings))
    ids = np.asarray(decided["pair_id"][:])[ranked.rows]
    for budget in (1, 30, 64, 110):
        other, pd_filter = decided_by(budget, **settings)
        assert set(ids[:budget]) == set(np.asarray(other["pair_id"][:])[np.asarray(other["pd_kept"][:])])
        check_numbers(ranked, budget, pd_filter.report_.to_dict())
    silent = ranked.columns["voters"] == 0
    number = decided["pd_reason"][:].count(NO_VOTES)
    assert np.isnan(ranked.columns["pd"][-number:]).all() and np.isfinite(ranked.columns["pd"][:-number]).all()
    assert silent.sum() == number > 20 and silent[-number:].all() and "no votes" in ranked.groups["votes"]


def check_numbers(ranked, budget, numbers):
    """What the page counts from the columns is what the report says."""
    columns = ranked.columns
    for grouping, names in ranked.groups.items():
        counts = np.bincount(columns[grouping][:budget], minlength=len(names))
        expected = {name: group["kept"] for name, group in numbers[f"kept_by_{grouping}"].items()}
        assert dict(zip(names, counts.tolist(), strict=True)) == expected
    for part, group in ((slice(budget), "kept"), (slice(budget, None), "dropped"), (slice(None), "all")):
        if not len(columns["longer"][part]):
            continue
        lengths = numbers["lengths"][group]
        assert columns["longer"][part].mean() == pytest.approx(lengths["chosen_longer"])
        for side in ("chosen", "rejected"):
            assert columns[side][part].mean() == pytest.approx(lengths[f"mean_characters_{side}"])
        overall = columns["overall"][part]
        share = (overall > 0).sum() / (overall != 0).sum() if (overall != 0).any() else None
        assert share == pytest.approx(numbers["unseen_labels"]["overall"][group])
        if "other aspects" in numbers["unseen_labels"]:
            total = columns["others_decided"][part].sum(dtype=int)
            share = columns["others_agree"][part].sum(dtype=int) / total if total else None
            assert share == pytest.approx(numbers["unseen_labels"]["other aspects"][group])
        else:
            assert "others_agree" not in columns


def test_ratings_are_no_unseen_labels():
    ranked = rank_pairs(*decided_by(60, source="ratings"))
    assert "others_decided" not in ranked.columns


def test_agreement_counts_the_votes_of_the_report():
    ranked = rank_pairs(*decided_by(60))
    names = np.array(ranked.groups["votes"])[ranked.columns["votes"]]
    assert names.tolist() == [
        f"{a} of {v} agree" for a, v in zip(ranked.columns["agree"], ranked.columns["voters"], strict=True)
    ]


@pytest.mark.slow
def test_counts_of_many_aspects_fit_their_type():
    names = [f"k{i:03d}" for i in range(270)]
    columns = {f"reward_gap_{name}": np.ones(6, dtype=np.float32) for name in names}
    columns |= {f"vote_{name}": np.ones(6, dtype=np.int8) for name in names}
    texts = {"chosen": ["x"] * 6, "rejected": ["yy"] * 6}
    scored = Dataset.from_dict({"pair_id": list("abcdef"), "aspect": names[:6], **texts, **columns})
    pd_filter = PDFilter(2)
    columns = rank_pairs(pd_filter.fit_transform(scored), pd_filter).columns
    for name in ("agree", "decided", "voters", "others_agree", "others_decided"):
        assert columns[name].tolist() == [269] * 6, name


def test_an_aspect_without_weight_has_no_vote():
    ranked = rank_pairs(*decided_by(60, weights={"honesty": 0.0}))
    own = np.array(ranked.groups["aspect"])[ranked.columns["aspect"]]
    assert set(ranked.columns["voters"][own == "honesty"]) == {2}
    assert set(ranked.columns["voters"][own != "honesty"]) == {1}


def test_ranking_agrees_with_selection_at_every_count():
    generator = np.random.default_rng(3)
    scores = generator.integers(0, 6, 40).astype(float)  # many ties
    ids = generator.permutation([f"p{i:02d}" for i in range(40)])
    strata = generator.choice(["a", "b", "c"], 40, p=[0.1, 0.3, 0.6])
    undecided = np.zeros(40, dtype=bool)
    whole, stratified = ranking(scores, ids, undecided), ranking(scores, ids, undecided, strata)
    for count in range(1, 41):
        assert np.array_equal(_mask(whole[:count]), select_lowest(scores, ids, count)[0])
        assert np.array_equal(_mask(stratified[:count]), select_per_stratum(scores, ids, strata, count)[0])


def _mask(rows):
    mask = np.zeros(40, dtype=bool)
    mask[rows] = True
    return mask


def test_scores_that_were_rounded_keep_the_decision():
    """A float64 column that is no longer told apart as float32 `pd`: what was kept still comes first."""
    values = [1.0, 1.0 + 1e-12, 1.0 + 2e-12, 2.0]
    ids = ["d", "c", "b", "a"]
    scored = Dataset.from_dict({"pair_id": ids, "score": values, "chosen": ids, "rejected": ids})
    pd_filter = PDFilter(2, source="column", pd_column="score")
    ranked = rank_pairs(pd_filter.fit_transform(scored), pd_filter)
    assert {ids[row] for row in ranked.rows[:2]} == {"d", "c"}


def test_rows_and_filter_of_two_selections_are_refused():
    decided, _ = decided_by(60)
    other = PDFilter(60, selector="length", proxy_metrics=METRICS).fit(scored_set(COUNT))
    with pytest.raises(InputError, match="pairs marked as kept are not the first ones by the filter's ranking"):
        rank_pairs(decided, other)


def test_conflicts_count_decided_pairs_only():
    scored = scored_set(
        6,
        aspect=["helpfulness"] * 6,
        reward_gap_honesty=np.float32([1, -1, -1, 0, 2, 1]),
        reward_gap_instruction_following=np.float32([1, 1, -1, 1, -2, 1]),
    )
    pd_filter = PDFilter(3)
    ranked = rank_pairs(pd_filter.fit_transform(scored), pd_filter)
    conflict = np.array(ranked.conflicts["all"], dtype=float)
    # helpfulness gave the labels, and prefers every chosen response.
    assert conflict[0] == pytest.approx([np.nan, 2 / 5, 2 / 6], nan_ok=True)
    assert conflict[1, 2] == conflict[2, 1] == pytest.approx(2 / 5)


def test_packed_columns_can_be_read_back():
    ranked = rank_pairs(*decided_by(60))
    layout, content = packed(ranked.columns)
    assert {entry["name"] for entry in layout} == set(ranked.columns)
    for entry in layout:
        assert entry["offset"] % 8 == 0
        values = np.frombuffer(content, entry["type"], entry["length"], entry["offset"])
        assert np.array_equal(values, ranked.columns[entry["name"]])
