"""Advice: what it answers in worlds where the answer is known, what it reads, and what it refuses."""

import json

import numpy as np
import pytest
from datasets import Dataset

from pd_trl import advise, load_pairs, to_preferences
from pd_trl.errors import InputError
from pd_trl.method.ranking import random_keys
from tests.cli.conftest import command  # noqa: F401


def world(count=2000, aspects=4, noise=0.7, length=0.0, seed=0, margin=False, labels=True) -> Dataset:
    """
    Pairs of which the label of one aspect is right by its own noise; `noise` is that of the proxies, `length` is how much of the
    aspects and of the overall label is length.
    """
    rng = np.random.default_rng(seed)
    long = rng.normal(size=count)
    common = rng.normal(size=count)
    if length:
        common = (1 - length) * common + length * long
    true = 0.6 * common[:, None] + 0.8 * rng.normal(size=(count, aspects))
    own = rng.integers(0, aspects, count)
    side = np.where(true[np.arange(count), own] > 0, 1, -1)
    gaps = true + noise * rng.normal(size=true.shape)
    if length == 1.0:
        gaps = np.repeat(long[:, None], aspects, axis=1) + 0.2 * rng.normal(size=true.shape)
    overall = common + 0.3 * rng.normal(size=count)
    columns = {
        "pair_id": [f"p{i:05d}" for i in range(count)],
        "prompt": [f"prompt {i // 3}" for i in range(count)],
        "chosen": [f"good {i}" for i in range(count)],
        "rejected": [f"bad {i}" for i in range(count)],
        "aspect": [f"a{k}" for k in own],
        "delta_length": np.rint(40 * long * side),
    }
    columns |= {f"reward_gap_a{k}": (gaps[:, k] * side).astype(np.float32) for k in range(aspects)}
    if margin:
        columns["reward_gap_overall"] = overall * side
    if labels:
        columns["vote_overall"] = (np.sign(overall) * side).astype(np.int8)
    return Dataset.from_dict(columns)


def test_it_selects_where_the_proxies_know_something():
    advice = advise(world())
    assert advice.select and advice.codes == ["gain"] and advice.budget in (0.1, 0.2, 0.3, 0.5, 0.7)
    assert advice.labelled == 300 and advice.total == 2000 and advice.reference == "overall"
    entry = next(entry for entry in advice.budgets if entry.budget == advice.budget)
    assert entry.effects["random"].low > 0 and set(entry.effects) == {"random", "same length"}
    assert all(values["share"] > 0.5 for values in advice.aspects.values())
    text = str(advice)
    assert text.startswith(f"SELECT: try a budget of {advice.budget:g}.") and "PD - random" in text
    assert json.loads(json.dumps(advice.to_dict()))["budget"] == advice.budget
    assert str(advise(world())) == text
    assert str(advise(world().shuffle(seed=1))) == text


@pytest.mark.parametrize(
    ("options", "codes"),
    [
        ({"aspects": 2}, ["two_aspects"]),
        ({"noise": 1000.0}, ["unclear", "proxies"]),
        ({"noise": -1.0}, ["harm", "proxies"]),
        ({"length": 1.0}, ["length"]),
        ({"noise": 6.0, "margin": True, "count": 3000}, ["raf"]),
    ],
    ids=str,
)
def test_it_says_why_not(options, codes):
    reversed_ = options.get("noise") == -1.0
    rows = world(**({**options, "noise": 0.7} if reversed_ else options))
    if reversed_:
        rows = rows.map(lambda row: {f"reward_gap_a{k}": -row[f"reward_gap_a{k}"] for k in range(4)})
    advice = advise(rows, max_pairs=900 if codes == ["raf"] else 300)
    assert (advice.select, advice.codes) == (False, codes), advice
    assert advice.budget is None and str(advice).startswith("DO NOT SELECT")


def test_a_few_labels_of_another_data_set_are_joined_by_pair_and_by_side():
    rows = world(600)
    order = np.argsort(random_keys(rows["pair_id"][:], 5))[:80]
    few = rows.select(order)
    bare = rows.remove_columns("vote_overall")
    expected = advise(
        rows.map(lambda row, i: {"vote_overall": row["vote_overall"] if i in set(order) else 0}, with_indices=True)
    )
    found = advise(bare, few)
    assert found.labelled == 80 and found.budgets == expected.budgets

    def swapped(row):
        return {"chosen": row["rejected"], "rejected": row["chosen"], "vote_overall": -row["vote_overall"]}

    assert advise(bare, few.map(swapped)).budgets == found.budgets
    with pytest.raises(InputError, match="has other texts in `labelled`"):
        advise(bare, few.map(lambda row: {"chosen": "else"}))
    with pytest.raises(InputError, match="None of the 80 labelled pairs is among the 600"):
        advise(bare, few.map(lambda row: {"pair_id": "x" + row["pair_id"]}))
    with pytest.raises(InputError, match="no column 'pair_id'"):
        advise(bare, few.remove_columns("pair_id"))


def test_rated_pairs_are_joined_though_they_carry_other_labels():
    pairs = load_pairs("sample")
    one, other = (to_preferences(pairs, labels="one", seed=seed) for seed in (1, 2))
    rng = np.random.default_rng(0)
    names = ("harmlessness", "helpfulness", "honesty", "instruction_following")
    for name in names:
        one = one.add_column(f"reward_gap_{name}", rng.normal(size=len(one)))
    sides = dict(zip(other["pair_id"], other["chosen"], strict=True))
    assert any(sides[row["pair_id"]] == row["rejected"] for row in one)
    for reference in ("mean", "overall"):
        assert advise(one, other, reference=reference).to_dict() == advise(one, reference=reference).to_dict()


def test_the_reference_is_overall_or_the_mean_of_the_ratings():
    rows = world(200, labels=False)
    with pytest.raises(InputError, match="no labels to compare with"):
        advise(rows)
    with pytest.raises(InputError, match="There is no overall label"):
        advise(rows, reference="overall")
    rng = np.random.default_rng(1)
    ratings = rng.integers(1, 6, (2, 2, 200)).astype(float)
    ratings[0, 0, :150] = np.nan
    for k in range(2):
        for s, side in enumerate(("chosen", "rejected")):
            rows = rows.add_column(f"rating_a{k}_{side}", ratings[k, s])
    gaps = ratings[:, 0] - ratings[:, 1]
    decided = np.nansum(gaps, axis=0) != 0
    advice = advise(rows)
    assert advice.reference == "mean" and advice.labelled == decided.sum() and advice.ties == 200 - decided.sum()
    assert advice.agreement == pytest.approx((np.nansum(gaps, axis=0)[decided] > 0).mean())
    # A label that all pairs carry is no reference of its own.
    overall = rows.map(lambda row: {"aspect": "overall", "vote_overall": 1})
    assert advise(overall).reference == "mean"
    with pytest.raises(InputError, match="`reference` must be"):
        advise(rows, reference="median")


def test_ratings_of_all_pairs_are_tested_by_an_overall_label():
    rows = world(300)
    rng = np.random.default_rng(2)
    gaps = {k: np.array(rows[f"reward_gap_a{k}"]) for k in range(4)}
    for k, gap in gaps.items():
        rows = rows.remove_columns(f"reward_gap_a{k}")
        rejected = np.where(rng.random(300) < 0.1, np.nan, 3.0)
        rows = rows.add_column(f"rating_a{k}_chosen", gap + 3.0).add_column(f"rating_a{k}_rejected", rejected)
    advice = advise(rows, source="ratings", max_pairs=300)
    assert advice.select and advice.reference == "overall" and advice.labelled == 300
    with pytest.raises(InputError, match="their mean says nothing about it"):
        advise(rows, source="ratings", reference="mean")
    # A pair without a vote has no rank: it is in neither group.
    for k in range(1, 4):
        column = np.where(np.arange(300) < 100, np.nan, np.array(rows[f"rating_a{k}_chosen"]))
        rows = rows.remove_columns(f"rating_a{k}_chosen").add_column(f"rating_a{k}_chosen", column)
    own = np.array(rows["aspect"]) == "a0"
    silent = (np.arange(300) < 100) & (own | np.isnan(np.array(rows["rating_a0_rejected"], dtype=float)))
    few = advise(rows, source="ratings")
    assert few.labelled == 300 - silent.sum() and few.budgets[-1].kept == -(-7 * (300 - int(silent.sum())) // 10)


def test_arguments_out_of_range():
    rows = world(100)
    for arguments, message in (
        ({"budgets": [1.0]}, "shares below 1"),
        ({"budgets": []}, "must hold a share"),
        ({"budgets": [0.0]}, "in \\(0, 1\\]"),
        ({"max_pairs": 5}, "at least 20"),
        ({"level": 1.0}, "`level` in \\(0, 1\\)"),
    ):
        with pytest.raises(InputError, match=message):
            advise(rows, **arguments)
    with pytest.raises(InputError, match="Only 12 pairs have an overall label that decides, of 100"):
        advise(rows.map(lambda row, i: {"vote_overall": row["vote_overall"] * (i < 12)}, with_indices=True))


def test_the_command(command, tmp_path):  # noqa: F811
    rows = world(400)
    rows.remove_columns("vote_overall").to_parquet(tmp_path / "scored.parquet")
    rows.select(range(0, 400, 2)).to_parquet(tmp_path / "few.parquet")
    arguments = ["--dataset_name", tmp_path / "scored.parquet", "--labelled", tmp_path / "few.parquet"]
    arguments += ["--output_dir", tmp_path / "out"]
    outcome = command("advise", *arguments)
    assert outcome.code == 0 and "SELECT: try a budget of" in outcome.out and "200 labelled pairs" in outcome.out
    content = json.loads((tmp_path / "out" / "advice.json").read_text())
    assert content["select"] and (tmp_path / "out" / "advice.txt").read_text().strip() in outcome.out
    again = command("advise", *arguments)
    assert again.code == 0 and "already done" in again.out and "SELECT: try a budget of" in again.out
    command("advise", *arguments, "--budgets", "0.2,x", "--overwrite").refused("`budgets` must be shares")
    command("advise", *arguments, "--reference", "mean", "--overwrite").refused("no labels to compare with")


def test_the_overall_label_cannot_test_itself():
    pairs = load_pairs("sample")
    with pytest.raises(InputError, match="carry the overall label, which cannot test itself.*--labels one"):
        advise(to_preferences(pairs), source="ratings")
    assert advise(to_preferences(pairs, labels="one"), source="ratings").reference == "overall"
