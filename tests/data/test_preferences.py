import json
import random
import time
from collections import Counter

import numpy as np
import pytest
from datasets import Dataset, DatasetDict
from hypothesis import given, settings
from hypothesis import strategies as st

from pd_trl.data import aspects_of, check_preferences, is_chat, load_pairs, prepare_preferences, to_preferences
from pd_trl.errors import InputError, InputTypeError

from . import schemas

ASPECTS = ("depth", "safety", "tone")
LABELS = st.sampled_from([0.0, 0.5, 1.0, None])


def make_pairs(labels, **columns):
    """One pair for each tuple (depth, safety, tone, overall)."""
    rows = [
        {"prompt": f"p{index}", "response_a": f"a{index}", "response_b": f"b{index} longer", "model_a": "left"}
        | {"model_b": "right", "index": index}
        | {f"pref_{name}": value for name, value in zip((*ASPECTS, "overall"), values, strict=True)}
        | {name: values_of[index] for name, values_of in columns.items()}
        for index, values in enumerate(labels)
    ]
    return load_pairs(Dataset.from_list(rows))


def random_labels(count, seed=0):
    rng = random.Random(seed)
    return [tuple(rng.choice([0.0, 0.5, 1.0, None]) for _ in range(4)) for _ in range(count)]


def test_by_hand():
    pairs = make_pairs([(1.0, None, None, 0.0), (None, 0.0, 0.5, 0.5)])
    preferences = to_preferences(pairs)
    first, second = preferences
    assert (first["aspect"], first["chosen"], first["rejected"]) == ("depth", "a0", "b0 longer")
    assert (first["vote_depth"], first["vote_safety"], first["vote_overall"]) == (1, None, -1)
    assert (first["model_chosen"], first["model_rejected"]) == ("left", "right")
    assert (second["aspect"], second["chosen"], second["rejected"]) == ("safety", "b1 longer", "a1")
    assert (second["vote_safety"], second["vote_tone"], second["vote_overall"]) == (1, 0, 0)
    assert (second["model_chosen"], second["model_rejected"]) == ("right", "left")
    assert preferences.column_names[:6] == ["pair_id", "prompt_id", "prompt", "chosen", "rejected", "aspect"]
    assert str(preferences.features["vote_depth"]) == "Value('int8')"
    assert aspects_of(preferences) == sorted(ASPECTS)
    assert check_preferences(preferences) == ["depth", "safety"]


def test_ratings_follow_the_sides():
    preferences = to_preferences(load_pairs(schemas.own_columns()), labels="all")
    row = next(row for row in preferences if row["aspect"] == "depth")
    assert (row["chosen"], row["rating_depth_chosen"], row["rating_depth_rejected"]) == ("b0 longer", 2.0, 1.0)
    assert (row["vote_depth"], row["vote_tone"]) == (1, -1)


@settings(max_examples=40, deadline=None)
@given(labels=st.lists(st.tuples(LABELS, LABELS, LABELS, LABELS), min_size=1, max_size=25), seed=st.integers(0, 5))
def test_labels_one_counts_balance_and_order(labels, seed):
    pairs = make_pairs(labels)
    decided = [{k for k, value in zip(ASPECTS, row, strict=False) if value in (0.0, 1.0)} for row in labels]
    if not any(decided):
        with pytest.raises(InputError, match="None of the"):
            to_preferences(pairs, seed=seed)
        return
    preferences, report = prepare_preferences(pairs, seed=seed)
    assert report.pairs == len(pairs) == report.kept + sum(report.dropped.values())
    assert report.kept == report.rows == len(preferences) == sum(map(bool, decided))
    for row in preferences:
        assert row["aspect"] in decided[row["index"]]
        label = labels[row["index"]][ASPECTS.index(row["aspect"])]
        assert row["chosen"] == (f"a{row['index']}" if label == 1.0 else f"b{row['index']} longer")
        assert row[f"vote_{row['aspect']}"] == 1
    order = np.random.default_rng(seed).permutation(len(pairs))
    again = to_preferences(pairs.select(order), seed=seed)
    key = "pair_id"
    assert sorted(again.to_list(), key=lambda row: row[key]) == sorted(preferences.to_list(), key=lambda row: row[key])


def test_balance_and_seed():
    pairs = make_pairs(random_labels(600))
    counts = Counter(to_preferences(pairs)["aspect"])
    assert max(counts.values()) - min(counts.values()) <= 1
    one, other = (to_preferences(pairs, seed=seed)["aspect"] for seed in (1, 2))
    assert 0.3 < np.mean([a != b for a, b in zip(one, other, strict=True)]) < 0.9


def test_labels_all_has_a_row_per_decided_aspect():
    labels = random_labels(60)
    preferences, report = prepare_preferences(make_pairs(labels), labels="all")
    expected = [(index, k) for index, row in enumerate(labels) for k, v in zip(ASPECTS, row) if v in (0.0, 1.0)]  # noqa: B905
    assert list(zip(preferences["index"], preferences["aspect"], strict=True)) == expected
    assert all(i.endswith(f"/{k}") for i, k in zip(preferences["pair_id"], preferences["aspect"], strict=True))
    assert report.rows == len(expected) and report.kept == len({index for index, _ in expected})
    assert report.pairs == report.kept + sum(report.dropped.values())
    assert check_preferences(preferences, aspects=list(ASPECTS)) == list(ASPECTS)


@settings(max_examples=40, deadline=None)
@given(
    labels=st.lists(st.tuples(LABELS, LABELS, LABELS, LABELS), min_size=1, max_size=40),
    conflict=st.sampled_from([0.0, 0.1, 0.2, 0.5, 1.0]),
)
def test_conflict_share_is_exact(labels, conflict):
    pairs = make_pairs(labels)
    try:
        preferences, report = prepare_preferences(pairs, conflict=conflict)
    except InputError as error:
        assert "conflict" in str(error) or "None of the" in str(error)
        return
    votes = [vote for vote in preferences["vote_overall"] if vote in (-1, 1)]
    assert votes.count(-1) == round(conflict * len(votes))
    assert report.pairs == report.kept + sum(report.dropped.values())
    left_out = report.dropped.get("left out to reach the share of conflict", 0)
    undecided = {reason: count for reason, count in report.dropped.items() if "aspect" in reason}
    assert len(preferences) + left_out + sum(undecided.values()) == len(pairs)


def test_conflict_that_cannot_be_reached():
    agreeing = make_pairs([(1.0, 1.0, None, 1.0)] * 4)
    with pytest.raises(InputError, match=r"conflict=0.2 cannot be reached.*from 0.000 to 0.000"):
        to_preferences(agreeing, conflict=0.2)
    with pytest.raises(InputError, match="conflict needs an overall label"):
        to_preferences(make_pairs([(1.0, 1.0, None, None)]), conflict=0.2)


@pytest.mark.parametrize("conflict", [None, 0.3])
@pytest.mark.parametrize("relabel", ["overall", "mean"])
def test_relabel_uses_the_same_pairs(relabel, conflict):
    labels = random_labels(300, seed=3)
    pairs = make_pairs(labels)
    base = to_preferences(pairs, conflict=conflict)
    preferences, report = prepare_preferences(pairs, relabel=relabel, conflict=conflict)
    original = dict(zip(base["index"], base["aspect"], strict=True))
    assert set(preferences["aspect"]) == {relabel}
    assert report.pairs == report.kept + sum(report.dropped.values())
    expected = {}
    for index in original:
        if relabel == "overall":
            value = labels[index][3]
        else:
            known = [value for value in labels[index][:3] if value is not None]
            value = sum(known) / len(known)
        if value not in (None, 0.5):
            expected[index] = f"a{index}" if value > 0.5 else f"b{index} longer"
    assert dict(zip(preferences["index"], preferences["chosen"], strict=True)) == expected
    assert all(row["label_aspect"] == original[row["index"]] for row in preferences)
    if relabel == "overall":
        assert set(preferences["vote_overall"]) == {1}
        missing = sum(labels[index][3] is None for index in original)
        assert report.dropped["no overall label"] == missing


def test_relabel_mean_prefers_ratings_to_votes():
    row = {"prompt": "p", "response_a": "a", "response_b": "b"}
    ratings = {"x": (5.0, 1.0), "y": (2.0, 3.0), "z": (2.0, 3.0)}
    row |= {f"rating_{name}_{side}": value for name, pair in ratings.items() for side, value in zip("ab", pair)}  # noqa: B905
    preferences = to_preferences(load_pairs(Dataset.from_list([row])), relabel="mean")
    assert preferences[0]["chosen"] == "a"  # +4 -1 -1 in ratings, though two of three votes are for b


def test_mean_ties_of_decimals_are_ties():
    row = {"prompt": "p", "response_a": "a", "response_b": "b"}
    ratings = {"x": (0.3, 0.0), "y": (0.0, 0.1), "z": (0.0, 0.2)}
    row |= {f"rating_{name}_{side}": value for name, pair in ratings.items() for side, value in zip("ab", pair)}  # noqa: B905
    with pytest.raises(InputError, match="'tie of the mean label': 1"):
        to_preferences(load_pairs(Dataset.from_list([row])), relabel="mean")


def test_identical_responses_and_undecided_pairs_are_dropped_by_reason():
    pairs = make_pairs([(1.0, 1.0, 1.0, 1.0), (None, None, None, 1.0), (0.5, None, 0.5, 1.0), (0.0, None, None, 1.0)])
    same = pairs.to_list()
    same[0]["response_b"] = same[0]["response_a"]
    preferences, report = prepare_preferences(load_pairs(Dataset.from_list(same)))
    assert report.dropped == {
        "identical responses": 1,
        "no labelled aspect": 1,
        "tied on every labelled aspect": 1,
    }
    assert list(preferences["index"]) == [3]


def test_a_choice_of_aspects():
    pairs = make_pairs(random_labels(50))
    preferences = to_preferences(pairs, aspects=["tone", "depth"])
    assert aspects_of(preferences) == ["depth", "tone"]
    assert "vote_overall" in preferences.column_names
    with pytest.raises(InputError, match=r"got \['tne'\]. Did you mean 'tone'"):
        to_preferences(pairs, aspects=["tne"])


def test_chat_pairs():
    pairs = load_pairs(schemas.helpsteer())
    preferences = to_preferences(pairs, labels="all")
    assert is_chat(preferences)
    row = next(row for row in preferences if row["aspect"] == "helpfulness" and len(row["prompt"]) == 3)
    assert row["chosen"] == [schemas.assistant("much more")]
    same = load_pairs(schemas.trl_binarized())
    _, report = prepare_preferences(same, relabel="overall")
    assert report.dropped == {"identical responses": 1, "tie of the overall label": 1}
    assert report.chat


def test_only_the_overall_label():
    rated = load_pairs(schemas.helpsteer3())
    assert to_preferences(rated).to_list() == to_preferences(rated, relabel="overall").to_list()
    for arguments in ({"labels": "one"}, {"labels": "all"}, {"conflict": 0.2}, {"relabel": "mean"}):
        with pytest.raises(InputError, match="only the overall label. Leave it out"):
            to_preferences(rated, **arguments)
    pairs = load_pairs(schemas.skywork())
    preferences = to_preferences(pairs, relabel="overall")
    assert set(preferences["aspect"]) == {"overall"} and "label_aspect" not in preferences.column_names
    assert to_preferences(pairs).to_list() == preferences.to_list()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"labels": "two"}, "labels must be"),
        ({"relabel": "ova"}, "relabel must be"),
        ({"conflict": 1.5}, r"share in \[0, 1\]"),
        ({"conflict": "0.2"}, r"share in \[0, 1\]"),
        ({"labels": "all", "conflict": 0.2}, "conflict needs labels='one'"),
        ({"labels": "all", "relabel": "mean"}, "relabel needs labels='one'"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(InputError, match=message):
        to_preferences(make_pairs(random_labels(5)), **arguments)


def test_not_pairs():
    with pytest.raises(InputTypeError, match="pairs must be a datasets.Dataset, but it is a list"):
        to_preferences([1])
    with pytest.raises(InputTypeError, match="DatasetDict"):
        to_preferences(DatasetDict(train=schemas.own_columns()))
    with pytest.raises(InputError, match=r"\['pair_id'\] are missing.*load_pairs"):
        to_preferences(schemas.own_columns())
    pairs = make_pairs(random_labels(3))
    with pytest.raises(InputError, match="must be unique"):
        to_preferences(load_pairs(pairs).select([0, 0]))


def test_columns_that_change_sides_or_collide(caplog):
    pairs = make_pairs(
        [(1.0, 1.0, 1.0, 1.0), (0.0, 0.0, 0.0, 1.0)], tag_a=[1, 2], tag_b=[3, 4], area_a=["x", "y"], aspect=["m", "n"]
    )
    preferences = to_preferences(pairs)
    assert list(zip(preferences["tag_chosen"], preferences["tag_rejected"], strict=True)) == [(1, 3), (4, 2)]
    assert list(preferences["area_a"]) == ["x", "y"]  # without a counterpart it has no sides
    assert set(preferences["aspect"]) <= set(ASPECTS)
    assert "['aspect'] of the pairs are left out" in caplog.text


def test_json_columns_pass_through(tmp_path):
    path = tmp_path / "x.jsonl"
    rows = [
        {"prompt": "p", "response_a": f"a{i}", "response_b": "b", "pref_x": 1.0 - i, "meta": meta, "note_a": i + 1}
        | {"note_b": None}
        for i, meta in enumerate(["s", ["t"]])
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    preferences = to_preferences(load_pairs(path))
    assert list(preferences["meta"]) == ["s", ["t"]]
    assert list(preferences["note_chosen"]) == [1, None]


def test_round_trip_through_files(tmp_path):
    preferences = to_preferences(make_pairs(random_labels(20)))
    preferences.to_parquet(tmp_path / "x.parquet")
    again = Dataset.from_parquet(str(tmp_path / "x.parquet"))
    assert again.features == preferences.features and again.to_list() == preferences.to_list()
    preferences.to_json(tmp_path / "x.jsonl")
    again = Dataset.from_json(str(tmp_path / "x.jsonl"))
    assert again.to_list() == preferences.to_list()
    assert check_preferences(again) == check_preferences(preferences)


@pytest.mark.slow
def test_400_000_pairs_in_under_a_minute():
    count = 400_000
    rng = np.random.default_rng(0)
    words = ["".join(chr(97 + letter) for letter in rng.integers(0, 26, 1200)) for _ in range(50)]
    columns = {
        "prompt": [f"{index // 6}" for index in range(count)],
        "response_a": [words[index % 50] for index in range(count)],
        "response_b": [words[(index * 7 + 1) % 50][:-3] for index in range(count)],
    }
    for name in ("w", "x", "y", "z", "overall"):
        columns[f"rating_{name}_a"], columns[f"rating_{name}_b"] = rng.integers(1, 6, (2, count)).astype(float)
    dataset = Dataset.from_dict(columns)
    start = time.perf_counter()
    pairs = load_pairs(dataset)
    preferences = to_preferences(pairs, conflict=0.2)
    assert time.perf_counter() - start < 60
    votes = np.array(preferences.with_format("arrow")[:].column("vote_overall").fill_null(0))
    assert (votes == -1).sum() == round(0.2 * (votes != 0).sum())
