import json

import pytest
from datasets import Dataset

from pd_trl.data import label_report, load_pairs, prepare_preferences, to_preferences


@pytest.fixture
def pairs() -> Dataset:
    labels = [(1.0, 0.0, 1.0), (1.0, 1.0, 0.0), (0.0, 0.5, 1.0), (0.0, 0.0, None), (None, 1.0, 1.0)]
    rows = [
        {"prompt": f"p{i}", "response_a": "short", "response_b": "the longer one", "pref_x": x, "pref_y": y}
        | {"pref_overall": overall}
        for i, (x, y, overall) in enumerate(labels)
    ]
    return load_pairs(Dataset.from_list(rows))


def test_numbers_by_hand(pairs):
    _, report = prepare_preferences(pairs, labels="all")
    assert (report.pairs, report.kept, report.rows, report.dropped) == (5, 5, 8, {})
    assert report.rows_per_aspect == {"x": 4, "y": 4}
    assert report.decided == {"x": 4, "y": 4, "overall": 4}
    assert report.ties == {"x": 0, "y": 1, "overall": 0}
    assert report.unlabelled == {"x": 1, "y": 0, "overall": 1}
    # Both decide rows 0, 1 and 3, and differ in row 0.
    assert report.conflict == {"x": {"y": pytest.approx(1 / 3)}, "y": {"x": pytest.approx(1 / 3)}}
    # x and overall: rows 0 (same), 1 (differ), 2 (differ); y and overall: rows 0, 1 (differ), 4 (same).
    assert report.conflict_with_overall == {"x": pytest.approx(2 / 3), "y": pytest.approx(2 / 3)}
    assert report.rows_against_overall == pytest.approx(4 / 6)
    assert report.chosen_longer == {"x": 0.5, "y": 0.5}


def test_printed_table_and_dictionary(pairs):
    preferences, report = prepare_preferences(pairs)
    lines = str(report).splitlines()
    assert lines[0] == "5 pairs (standard): 5 kept, 0 dropped; 5 rows"
    header = next(line for line in lines if line.startswith("aspect"))
    rows = [line for line in lines[lines.index(header) :] if not line.startswith("--")]
    assert [row.split()[0] for row in rows] == ["aspect", "x", "y", "overall"]
    assert len({len(row) for row in rows[:3]}) <= 2
    # What is printed is agreement: x and y agree in two of three pairs, each of them with overall in one of three.
    assert header.split()[-6:] == ["with", "overall", "with", "x", "with", "y"]
    assert rows[1].split()[-3:] == ["0.333", "-", "0.667"]
    agreeing = sum(vote == 1 for vote in preferences["vote_overall"]) / sum(
        vote in (-1, 1) for vote in preferences["vote_overall"]
    )
    assert f"  agreement with the overall label: {agreeing:.3f} of the rows it decides" in lines
    assert json.loads(json.dumps(report.to_dict()))["rows"] == 5
    assert label_report(pairs, preferences) == report


def test_counts_what_is_missing_when_reasons_are_not_given(pairs):
    report = label_report(pairs, to_preferences(pairs).select([0, 1]))
    assert report.kept == 2 and report.dropped == {"not in the preferences": 3}


def test_no_pair_decided_by_both():
    rows = [{"prompt": "p", "response_a": "a", "response_b": "b", "pref_x": 1.0, "pref_y": None}]
    _, report = prepare_preferences(load_pairs(Dataset.from_list(rows)))
    assert report.conflict["x"]["y"] is None and "-" in str(report)
