"""Whose label a pair of a chosen/rejected source carries, and what changes sides with it."""

import json

import numpy as np
import pytest
from datasets import Dataset, concatenate_datasets

from pd_trl import PDFilter
from pd_trl.data import check_preferences, load_pairs, prepare_preferences, read_pairs, to_preferences
from pd_trl.data.sided import sided_columns
from pd_trl.errors import InputError

from . import schemas


def rated(count=20, seed=0, **columns):
    """Chosen/rejected with ratings of two aspects; `clarity` contradicts every fourth label."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(count):
        low, high = sorted(rng.choice(5, 2, replace=False).tolist())
        clarity = (low, high) if i % 4 == 0 else (high, low)
        row = {"prompt": f"q{i}", "chosen": f"good {i}", "rejected": f"bad {i}"}
        row |= {"rating_clarity_chosen": clarity[0], "rating_clarity_rejected": clarity[1]}
        row |= {"rating_depth_chosen": 3, "rating_depth_rejected": int(rng.integers(0, 3))}
        rows.append(row | {name: values(i) for name, values in columns.items()})
    return Dataset.from_list(rows)


@pytest.mark.parametrize("aspects", [None, ["clarity"], ["clarity", "depth"]])
def test_the_label_of_the_source_stays(aspects, caplog):
    preferences, report = prepare_preferences(load_pairs(rated()), aspects=aspects)
    assert preferences["chosen"][:] == [f"good {i}" for i in range(20)]
    assert set(preferences["aspect"]) == {"overall"} and set(preferences["vote_overall"]) == {1}
    assert report.reversed == 0 and report.rows_per_aspect == {"overall": 20}
    assert [row["vote_clarity"] for row in preferences] == [-1 if i % 4 == 0 else 1 for i in range(20)]
    assert "rows reverse the source's chosen" not in caplog.text and check_preferences(preferences) == ["overall"]


def test_single_aspect_labels_when_asked_with_every_reversal_counted(caplog):
    pairs = load_pairs(rated())
    preferences, report = prepare_preferences(pairs, labels="one", aspects=["clarity"])
    reversed_rows = [i for i, row in enumerate(preferences) if row["chosen"].startswith("bad")]
    assert reversed_rows == list(range(0, 20, 4)) and report.reversed == 5
    assert "5 of 20 rows reverse the source's chosen and rejected responses" in caplog.text
    assert "rows that reverse the source's own chosen and rejected: 5" in str(report)
    assert report.rows_against_overall == 0.25
    _, every = prepare_preferences(pairs, labels="all")
    assert every.rows == 40 and every.reversed == 5
    _, constructed = prepare_preferences(pairs, conflict=0.1)
    assert constructed.reversed == round(0.1 * constructed.rows)


def test_overall_is_found_by_relabel():
    pairs = load_pairs(rated())
    preferences, report = prepare_preferences(pairs, labels="one", relabel="overall")
    assert preferences["chosen"][:] == [f"good {i}" for i in range(20)] and report.reversed == 0
    assert set(preferences["label_aspect"]) == {"clarity", "depth"}
    _, mean = prepare_preferences(pairs, relabel="mean")
    assert set(mean.rows_per_aspect) == {"mean"} and mean.reversed is not None


def test_labels_of_the_source_by_aspect_stay_too():
    rows = [row | {"aspect": ("depth", "clarity")[i % 2]} for i, row in enumerate(rated().to_list())]
    preferences, report = prepare_preferences(load_pairs(Dataset.from_list(rows)))
    assert preferences["aspect"][:] == [row["aspect"] for row in rows]
    assert preferences["chosen"][:] == [row["chosen"] for row in rows] and report.reversed == 0
    _, part = prepare_preferences(load_pairs(Dataset.from_list(rows)), aspects=["depth"])
    assert part.dropped == {"label of an aspect that is left out": 10} and part.rows == 10


def test_a_label_by_aspect_leaves_the_others_their_votes():
    rows = [row | {"aspect": ("depth", "clarity")[i % 2]} for i, row in enumerate(rated().to_list())]
    preferences, report = prepare_preferences(load_pairs(Dataset.from_list(rows)))
    # Own labels stay, and each rating is a vote, against the label too.
    assert preferences["vote_clarity"][:] == [-1 if i % 4 == 0 else 1 for i in range(20)]
    assert preferences["vote_depth"][:] == [1] * 20
    assert report.unlabelled == {"clarity": 0, "depth": 0}
    assert report.conflict["clarity"]["depth"] == 0.25
    # The row of an aspect that has no ratings is decided by the label alone, and votes that the source gives stay.
    given = [row | {"aspect": "tone" if i == 1 else row["aspect"], "pref_depth": 0} for i, row in enumerate(rows)]
    preferences = to_preferences(load_pairs(Dataset.from_list(given)))
    assert preferences["vote_tone"][:] == [1 if i == 1 else None for i in range(20)]
    assert preferences["vote_depth"][:] == [1 if i % 2 == 0 else -1 for i in range(20)]


def test_scores_do_not_reverse_the_label(caplog):
    dataset = rated(score_chosen=lambda i: 1.0 if i == 3 else 5.0, score_rejected=lambda i: 5.0 if i == 4 else 2.0)
    rows = [{k: v for k, v in row.items() if not k.startswith("rating_")} for row in dataset.to_list()]
    pairs = load_pairs(Dataset.from_list(rows))
    assert pairs["pref_overall"][:] == [0.5 if i == 4 else 1.0 for i in range(20)]
    assert "1 rows of 'pref_overall' prefer the response with the lower rating" in caplog.text
    preferences, report = prepare_preferences(pairs)
    assert all(name.startswith("good") for name in preferences["chosen"])
    assert report.dropped == {"tie of the source's own label": 1}


def test_sources_without_chosen_and_rejected_are_labelled_by_one_aspect():
    pairs = load_pairs(schemas.ultrafeedback())
    preferences, report = prepare_preferences(pairs)
    assert "overall" not in preferences["aspect"][:] and report.reversed is None
    assert preferences.to_list() == to_preferences(pairs, labels="one").to_list()
    with pytest.raises(InputError, match="labels='own'.*labels='one'"):
        to_preferences(pairs, labels="own")
    with pytest.raises(InputError, match="conflict needs labels='one'"):
        to_preferences(load_pairs(rated()), labels="own", conflict=0.2)


def test_pairs_of_two_sources_keep_what_each_has():
    own = load_pairs(rated(6))
    other = [row | {"label_aspect": None, "prompt": f"other {i}"} for i, row in enumerate(own.to_list())]
    other = [{k: v for k, v in row.items() if not k.endswith("_id")} for row in other]
    pairs = concatenate_datasets([own, load_pairs(Dataset.from_list(other, features=None)).cast(own.features)])
    preferences, report = prepare_preferences(pairs)
    assert preferences["aspect"][:6] == ["overall"] * 6 and "overall" not in preferences["aspect"][6:]
    assert report.reversed == 0 and report.kept == 12


def test_pairs_keep_their_labels_through_files(tmp_path):
    pairs = load_pairs(rated(score_chosen=lambda i: i, score_rejected=lambda i: -i))
    pairs.to_parquet(tmp_path / "pairs.parquet")
    again = load_pairs(tmp_path / "pairs.parquet")
    assert again.to_list() == pairs.to_list()
    assert to_preferences(again).to_list() == to_preferences(pairs).to_list()


def test_pd_of_the_overall_label_hears_every_aspect():
    preferences = to_preferences(load_pairs(rated(40)))
    pd_filter = PDFilter(0.5, source="ratings")
    kept = pd_filter(preferences)
    dropped = pd_filter.dropped_
    assert len(kept) == 20 and set(kept["aspect"]) == {"overall"}
    # The ten pairs that `clarity` contradicts have the highest PD.
    assert {row["pair_id"] for row in preferences if row["vote_clarity"] == -1} <= set(dropped["pair_id"])


def sided(**columns):
    rows = [{"prompt": f"q{i}", "rating_x_chosen": i, "rating_x_rejected": 2 - i} for i in (0, 2)]
    rows = [row | {"chosen": f"good {i}", "rejected": f"bad {i}"} for i, row in enumerate(rows)]
    return Dataset.from_list(
        [row | {name: values[i] for name, values in columns.items()} for i, row in enumerate(rows)]
    )


@pytest.mark.parametrize(
    ("chosen", "rejected"),
    [
        ("note_chosen", "note_rejected"),
        ("chosen_note", "rejected_note"),
        ("chosen-note", "rejected-note"),
        ("num.chosen.tokens", "num.rejected.tokens"),
    ],
)
@pytest.mark.parametrize("values", [[[1, 2], [3, 4]], [["s", "t"], [None, "v"]], [[[1], [2]], [[3], [4, 5]]]])
def test_columns_of_one_response_follow_it(chosen, rejected, values):
    preferences = to_preferences(load_pairs(sided(**{chosen: values[0], rejected: values[1]})), labels="one")
    assert preferences["chosen"][:] == ["bad 0", "good 1"]  # only the first is reversed
    assert preferences[chosen][:] == [values[1][0], values[0][1]]
    assert preferences[rejected][:] == [values[0][0], values[1][1]]
    own = to_preferences(load_pairs(sided(**{chosen: values[0], rejected: values[1]})))
    assert own[chosen][:] == values[0] and own[rejected][:] == values[1]


def test_what_cannot_be_swapped_is_left_out_with_a_warning(caplog):
    pairs = load_pairs(sided(chosen_by=["ann", "bo"], winner=["a", "a"], source=["s", "t"]))
    own = to_preferences(pairs)
    assert own["chosen_by"][:] == ["ann", "bo"] and own["winner"][:] == ["a", "a"]
    assert "left out" not in caplog.text
    swapped = to_preferences(pairs, labels="one")
    assert not {"chosen_by", "winner"} & {*swapped.column_names} and swapped["source"][:] == ["s", "t"]
    assert "Columns ['chosen_by', 'winner'] of the pairs are left out" in caplog.text


@pytest.mark.parametrize("name", ["margin", "reward_margin", "score_diff"])
@pytest.mark.parametrize(("values", "expected"), [([2.5, 1.0], [-2.5, 1.0]), ([2, None], [-2, None])])
def test_signed_columns_change_their_sign(name, values, expected):
    preferences = to_preferences(load_pairs(sided(**{name: values})), labels="one")
    assert preferences[name][:] == expected


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("label", [0, 1]),
        ("label", [-1, 1]),
        ("Label", [True, False]),
        ("human_label", [1.0, 0.5]),
        ("labels", ["0", "1"]),
        ("target", [1, 2]),
        ("y", [1, 0]),
        ("winner_id", [0, 1]),
        ("preferredResponse", ["first text", "second text"]),
        ("better-response-id", [0, 0]),
        ("gpt4_choice", [1, None]),
        ("verdict", ["[[A]]", "[[B]]"]),
        ("said", ["model_a", "tie"]),
        ("judged", ["B", "A"]),
        ("is_a_better", [True, False]),
    ],
)
def test_which_side_won_in_other_forms_is_left_behind(name, values, caplog):
    swapped = to_preferences(load_pairs(sided(**{name: values})), labels="one")
    assert name not in swapped.column_names and f"Columns ['{name}'] of the pairs are left out" in caplog.text


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("label", ["maths", "code"]),
        ("label", [3, 17]),
        ("turn", [0, 1]),
        ("category", ["1", "2"]),
        ("source", ["a long one", "b"]),
        ("is_toxic", [True, False]),
    ],
)
def test_labels_of_other_things_stay(name, values):
    swapped = to_preferences(load_pairs(sided(**{name: values})), labels="one")
    assert swapped[name][:] == values


def test_sides_named_by_other_words():
    rows = [
        {"q": "p", "answer_1": "x", "answer_2": "y", "score_1": 1, "score_2": 5, "margin": -4, "h1": 1, "h2": 5}
        | {"model1": "m", "model2": "n", "option_1": "u", "option_2": "v", "option_3": "w"}
    ]
    mapping = {"prompt": "q", "response_a": "answer_1", "response_b": "answer_2"}
    mapping |= {"rating_h_a": "h1", "rating_h_b": "h2"}
    row = to_preferences(load_pairs(Dataset.from_list(rows), column_mapping=mapping))[0]
    assert (row["chosen"], row["score_chosen"], row["score_rejected"], row["margin"]) == ("y", 5, 1, 4)
    assert (row["model_chosen"], row["model_rejected"]) == ("n", "m")
    assert [row[f"option_{i}"] for i in (1, 2, 3)] == ["u", "v", "w"]  # a list of three is no pair of sides


def test_strengths_follow_the_sides_of_helpsteer(caplog):
    preferences = to_preferences(load_pairs(schemas.helpsteer3()), relabel="overall")
    assert preferences["overall_preference"][:] == [-2, -3]
    assert "individual_preference" not in preferences.column_names and "individual_preference" in caplog.text


def test_a_column_with_one_of_our_names_is_said_to_be_left_out():
    row = {"prompt": "p", "chosen": "x", "rejected": "y", "chosen_model": "m", "model_a": "other"}
    pairs, report = read_pairs(Dataset.from_list([row]))
    assert pairs[0]["model_a"] == "m" and pairs[0]["model_b"] is None and report.left_out == ["model_a"]


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (("Chosen Model", "Rejected Model"), ("chosen Model", "rejected Model")),
        (("CHOSEN_ID", "REJECTED_ID"), ("chosen_ID", "rejected_ID")),
        (("chosenScore", "rejectedScore"), ("chosen_Score", "rejected_Score")),
        (("ScoreChosen", "ScoreRejected"), ("Score_chosen", "Score_rejected")),
        (("n.Chosen.tokens", "n.Rejected.tokens"), ("n.chosen.tokens", "n.rejected.tokens")),
    ],
)
def test_columns_follow_their_response_in_any_case(tmp_path, names, found):
    rows = [
        {"prompt": f"q{i}", "chosen": "c", "rejected": "r", names[0]: "of c", names[1]: "of r", "Score_Diff_pct": 4.0}
        | {"rating_help_chosen": 1 + 4 * i, "rating_help_rejected": 5 - 4 * i}
        for i in range(2)
    ]
    (tmp_path / "d.jsonl").write_text("\n".join(map(json.dumps, rows)))
    made = to_preferences(load_pairs(str(tmp_path / "d.jsonl")), labels="one")
    assert {row["chosen"] for row in made} == {"c", "r"}
    for row in made:
        assert (row[found[0]], row[found[1]]) == (f"of {row['chosen']}", f"of {row['rejected']}")
        assert row["Score_Diff_pct"] == (4.0 if row["chosen"] == "c" else -4.0)
    assert not {*names} & {*made.column_names}


def test_words_that_only_begin_alike_are_no_sides():
    assert not sided_columns(
        ["chosenness", "rejectedness", "xchosen", "xrejected"], ("chosen", "rejected"), ("a", "b")
    )
