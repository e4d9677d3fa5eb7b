"""The bundled sample: what its rows promise, and where its name leads."""

import json
import re
import subprocess
import sys
from collections import Counter
from itertools import combinations

import pytest

from pd_trl.data import aspects_of, check_pairs, load_pairs, read_pairs, to_preferences
from pd_trl.data.bundled import SAMPLE_FILE
from pd_trl.data.sources import is_path
from pd_trl.errors import InputError
from pd_trl.selection.filter import PDFilter

ASPECTS = ["harmlessness", "helpfulness", "honesty", "instruction_following"]
ROWS = [json.loads(line) for line in SAMPLE_FILE.read_text(encoding="utf-8").splitlines()]
RESPONSES = [response for row in ROWS for response in row["responses"]]


def gaps():
    """Of each pair, by the name of its prompt: the ratings of the one preferred on the whole less those of the other."""
    for row in ROWS:
        for pair in combinations(row["responses"], 2):
            worse, better = sorted(pair, key=lambda response: response["overall"])
            yield row["prompt_id"], [better["ratings"][aspect] - worse["ratings"][aspect] for aspect in ASPECTS]


def conflicting(gap):
    return min(gap) < 0 < max(gap)


def test_ids_and_texts_are_unique():
    for texts in (
        [row["prompt_id"] for row in ROWS],
        [row["prompt"] for row in ROWS],
        [response["response"] for response in RESPONSES],
    ):
        assert len(set(texts)) == len(texts)
    assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", row["prompt_id"]) for row in ROWS)
    assert min(Counter(row["topic"] for row in ROWS).values()) >= 5


def test_rows_have_one_form():
    for row in ROWS:
        assert list(row) == ["prompt_id", "topic", "prompt", "responses"]
        assert len(row["responses"]) in (2, 3)
        assert len({response["overall"] for response in row["responses"]}) == len(row["responses"]), row["prompt_id"]
        for response in row["responses"]:
            assert list(response) == ["response", "overall", "ratings"]
            assert sorted(response["ratings"]) == ASPECTS
            assert {response["overall"], *response["ratings"].values()} <= {1, 2, 3, 4, 5}


def test_texts_are_of_readable_length():
    for row in ROWS:
        assert row["prompt"] == row["prompt"].strip() and 5 <= len(row["prompt"].split()) <= 40
    for response in RESPONSES:
        text = response["response"]
        assert text == text.strip() and text.replace("\n", "").isprintable()
        assert 20 <= len(text.split()) <= 90, text


def test_responses_that_follow_a_limit_of_words_keep_it():
    limited = 0
    for row in ROWS:
        found = re.search(r"(under|at most|no more than) (\d+) words", row["prompt"], re.IGNORECASE)
        for response in row["responses"] if found else []:
            most = int(found[2]) - (found[1].lower() == "under")
            kept = len(response["response"].split()) <= most
            assert kept == (response["ratings"]["instruction_following"] >= 4), response["response"]
            limited += 1
    assert limited >= 8


def test_a_third_of_the_pairs_have_aspects_that_disagree():
    found = dict(enumerate(gaps()))
    assert len(found) == 150
    assert 0.30 <= sum(conflicting(gap) for _, gap in found.values()) / len(found) <= 0.40
    assert all(any(gap) for _, gap in found.values()), "a pair that is tied on every aspect"


def test_the_overall_label_is_no_mean_of_the_aspects():
    pairs = [gap for _, gap in gaps()]
    for k, aspect in enumerate(ASPECTS):
        decided = [gap[k] for gap in pairs if gap[k]]
        agreement = sum(gap > 0 for gap in decided) / len(decided)
        assert 0.6 <= agreement <= 0.85, (aspect, agreement)
        assert len(decided) < len(pairs), f"no tie of {aspect}"
    against = sum(sum(gap) < 0 for gap in pairs) / len(pairs)
    assert 0.15 <= against <= 0.3, against


def test_the_sample_gives_pairs_by_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pairs, report = read_pairs("sample")
    check_pairs(pairs)
    assert (report.rows, report.formed, report.kept, report.adapter) == (110, 150, 150, "responses")
    assert aspects_of(pairs) == ASPECTS
    assert set(pairs["prompt_id"]) == {row["prompt_id"] for row in ROWS}
    assert set(pairs["pref_overall"]) == {1.0} and set(pairs["label_aspect"]) == {"overall"}
    assert is_path("sample") and not is_path("Sample")
    sliced = load_pairs("sample", split="train[:10]")
    assert len(set(sliced["prompt_id"])) == 10 and sliced.to_list() == pairs.to_list()[: len(sliced)]
    preferences = to_preferences(pairs)
    assert len(preferences) == 150 and set(preferences["aspect"]) == {"overall"}
    assert set(to_preferences(pairs, labels="one")["aspect"]) == set(ASPECTS)


def test_what_is_kept_and_dropped_can_be_understood():
    pd_filter = PDFilter(budget=0.3, source="ratings")
    kept = pd_filter(to_preferences(load_pairs("sample")))
    assert len(kept) == 45
    votes = [f"vote_{aspect}" for aspect in ASPECTS]
    assert all(sum(row[vote] for vote in votes) >= 2 for row in kept)
    worst = max(pd_filter.dropped_, key=lambda row: row["pd"])
    assert sum(worst[vote] for vote in votes) < 0


def test_a_folder_of_this_name_goes_before_the_sample(tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sample").mkdir()
    (tmp_path / "sample" / "data.jsonl").write_text(json.dumps(ROWS[0]) + "\n")
    with caplog.at_level("WARNING"):
        assert set(load_pairs("sample")["prompt_id"]) == {ROWS[0]["prompt_id"]}
    assert str(tmp_path / "sample") in caplog.text and "not the bundled sample" in caplog.text
    (tmp_path / "sample" / "data.jsonl").unlink()
    with pytest.raises(InputError, match="sample"):
        load_pairs("sample")


def test_the_sample_needs_no_torch(tmp_path):
    program = (
        "import sys; from pd_trl import PDFilter, load_pairs, to_preferences; "
        "PDFilter(source='ratings')(to_preferences(load_pairs('sample'))); "
        "print({'torch', 'transformers', 'trl'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.strip() == "set()", done.stderr
