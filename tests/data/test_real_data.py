import pytest

from pd_trl.data import aspects_of, check_preferences, prepare_preferences, read_pairs, to_preferences
from pd_trl.errors import InputError

FILES = {
    "hellobench_chat": (2352, ["clarity", "completeness", "instruction_following", "task_specific", "truthfulness"]),
    "summeval": (3000, ["coherence", "consistency", "fluency", "relevance"]),
    "oasst1_en_validation": (
        1025,
        ["creativity", "helpfulness", "humor", "nontoxicity", "nonviolence", "quality"],
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_files_with_aspects(shared_data, name):
    rows, aspects = FILES[name]
    pairs, report = read_pairs(shared_data / f"{name}.parquet")
    assert report.rows == report.formed == report.kept == len(pairs) == rows
    assert aspects_of(pairs) == aspects
    assert len(set(pairs["pair_id"])) == rows
    for labels in ("one", "all"):
        preferences, labelled = prepare_preferences(pairs, labels=labels)
        assert labelled.pairs == labelled.kept + sum(labelled.dropped.values()) == rows
        assert check_preferences(preferences, aspects=aspects) == aspects
    counts = prepare_preferences(pairs)[1].rows_per_aspect.values()
    assert max(counts) - min(counts) <= 1
    means = to_preferences(pairs, relabel="mean")
    ids = set(to_preferences(pairs)["pair_id"])
    assert set(means["pair_id"]) <= ids


@pytest.mark.parametrize("name", ["hellobench_chat", "oasst1_en_validation"])
@pytest.mark.parametrize("conflict", [0.1, 0.2, 0.3])
def test_constructed_conflict(shared_data, name, conflict):
    pairs, _ = read_pairs(shared_data / f"{name}.parquet")
    preferences, report = prepare_preferences(pairs, conflict=conflict)
    votes = [vote for vote in preferences["vote_overall"] if vote in (-1, 1)]
    assert votes.count(-1) == round(conflict * len(votes))
    assert report.pairs == report.kept + sum(report.dropped.values())


def test_overall_only_with_ties_and_empty_responses(shared_data):
    path = shared_data / "ultrafeedback_binarized_1200.parquet"
    with pytest.raises(InputError, match="response_a is empty: 2 of 1,200 pairs"):
        read_pairs(path)
    pairs, report = read_pairs(path, on_invalid="drop")
    assert (report.kept, report.identical) == (1198, 5)
    _, labelled = prepare_preferences(pairs, relabel="overall")
    assert labelled.dropped == {"identical responses": 5, "tie of the overall label": 134}
    assert labelled.kept == 1198 - 139
