"""One odd row does not condemn the others: what cannot be read is refused by row, with its reason."""

import json
import math

import pytest
from datasets import Dataset

from pd_trl.data import load_pairs, read_pairs
from pd_trl.errors import InputError

from . import schemas
from .schemas import assistant, user


def pair(i=0, **changes):
    return {"prompt": f"p{i}", "response_a": "a", "response_b": "b", "rating_x_a": 4.0, "rating_x_b": 2.0} | changes


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([4, "n/a", 3, "5"], [4.0, None, 3.0, 5.0]),
        ([4.5, "", None, "+2"], [4.5, None, None, 2.0]),
        (["4", 3, "None", 1e0], [4.0, 3.0, None, 1.0]),
        ([1, True, "0", "-"], [1.0, 1.0, 0.0, None]),
    ],
)
def test_ratings_of_several_types_in_a_file(values, expected, tmp_path):
    rows = [pair(i, rating_x_a=value) for i, value in enumerate(values)]
    assert load_pairs(write(tmp_path / "x.jsonl", rows))["rating_x_a"][:] == expected


@pytest.mark.parametrize("bad", ["high", "8/10", "4,5", "4 to 5", [4], {"said": 4}, "٣x"])
def test_a_rating_that_cannot_be_read(bad, tmp_path):
    rows = [pair(i, rating_x_a="4" if i != 1 else bad) for i in range(3)]
    path = write(tmp_path / "x.jsonl", rows)
    with pytest.raises(InputError, match=r"'rating_x_a' must hold numbers, but 1 of its 3 values are not: rows \[1\]"):
        load_pairs(path)
    pairs, report = read_pairs(path, on_invalid="drop")
    assert pairs["prompt"][:] == ["p0", "p2"] and report.dropped == {"rating_x_a is not a number": 1}


@pytest.mark.parametrize(
    ("changes", "options", "reason"),
    [
        ({"rating_x_b": math.inf}, {}, "rating_x_b is infinite"),
        ({"rating_x_b": 11.0}, {"rating_range": (1, 10)}, "rating_x_b is not in [1, 10]"),
        ({"pref_y": 0.7}, {}, "pref_y is not 1 (a better), 0 (b better), 0.5 (tie) or null"),
        ({"pair_id": None}, {}, "pair_id is null"),
        ({"pair_id": "0"}, {}, "pair_id is that of an earlier row"),
        ({"response_a": "\n\nHuman: q\n\nAssistant: yes"}, {}, "response_a is a whole transcript"),
    ],
)
def test_other_values_that_cannot_be_used(changes, options, reason):
    extra = {"pref_y": 1.0, "pair_id": "x"}
    rows = [pair(i, **extra | {"pair_id": str(i)}) for i in range(3)]
    rows[2] |= changes
    dataset = Dataset.from_list(rows)
    with pytest.raises(InputError):
        load_pairs(dataset, **options)
    pairs, report = read_pairs(dataset, on_invalid="drop", **options)
    assert len(pairs) == 2 and next(iter(report.dropped)).startswith(reason)
    assert report.formed == 3 == report.kept + sum(report.dropped.values())


def test_one_response_of_several_cannot_be_read():
    rows = schemas.ultrafeedback_rows()
    rows[0]["completions"][0]["annotations"]["helpfulness"]["Rating"] = "four"
    pairs, report = read_pairs(Dataset.from_list(rows, features=schemas.ULTRAFEEDBACK_FEATURES), on_invalid="drop")
    assert "alpha" not in {*pairs["response_a"], *pairs["response_b"]} and len(pairs) == 4
    assert report.dropped == {"completions[].annotations.helpfulness.Rating is not a number": 3}
    rows = [row | {"coherence": str(row["coherence"])} for row in schemas.helpsteer(first_version=True).to_list()]
    rows[0]["coherence"] = "?"
    pairs, report = read_pairs(Dataset.from_list(rows), on_invalid="drop", adapter="helpsteer")
    assert report.dropped == {"coherence is not a number": 2} and len(pairs) == 2


@pytest.mark.parametrize(
    ("source", "column", "bad"),
    [
        (schemas.saferlhf, "safer_response_id", 2),
        (schemas.helpsteer3, "overall_preference", 5),
        (schemas.helpsteer2_preference, "preference_strength", -7),
    ],
)
def test_a_wrong_choice_in_one_row(source, column, bad):
    rows = source().to_list()
    rows[0][column] = bad
    with pytest.raises(InputError, match=column):
        load_pairs(Dataset.from_list(rows))
    pairs, report = read_pairs(Dataset.from_list(rows), on_invalid="drop")
    assert sum(report.dropped.values()) == 1 and column in next(iter(report.dropped)) and len(pairs) == report.kept


def test_texts_of_another_kind_than_the_others(tmp_path):
    good = {"prompt": [user("p")], "chosen": [assistant("a")], "rejected": [assistant("b")]}
    odd = [{"prompt": "text"}, {"chosen": 3}, {"chosen": [{"role": "assistant", "content": ["x"]}]}, {"prompt": ["x"]}]
    path = write(tmp_path / "x.jsonl", [good, good, good, *(good | change for change in odd)])
    with pytest.raises(InputError, match="mixes standard and chat data: row 3 is a string, row 0.*the first pairs"):
        load_pairs(path)
    pairs, report = read_pairs(path, on_invalid="drop")
    assert len(pairs) == 3 and sum(report.dropped.values()) == 4
    strings = [{"prompt": f"p{i}", "chosen": "a", "rejected": "b"} for i in range(3)]
    pairs, report = read_pairs(write(tmp_path / "y.jsonl", [*strings, good]), on_invalid="drop")
    assert pairs["prompt"][:] == ["p0", "p1", "p2"] and sum(report.dropped.values()) == 1


@pytest.mark.parametrize("medium", ["memory", "jsonl"])
@pytest.mark.parametrize(
    ("field", "value"), [("tool_calls", [{"name": "f"}]), ("function_call", {"name": "f"}), ("thinking", "hm")]
)
def test_messages_that_would_be_half_read(field, value, medium, tmp_path, caplog):
    turns = [user("p"), {"role": "assistant", "content": "", field: value}, user("and?")]
    rows = [
        {"chosen": [user("p"), assistant("a")], "rejected": [user("p"), assistant("b")]},
        {"chosen": [*turns, assistant("a")], "rejected": [*turns, assistant("b")]},
    ]
    source = Dataset.from_list(rows) if medium == "memory" else write(tmp_path / "x.jsonl", rows)
    with pytest.raises(InputError, match=f"messages with {field}, which are not read: 1 of 2"):
        load_pairs(source)
    pairs, report = read_pairs(source, on_invalid="drop")
    assert pairs["prompt"][:] == [[user("p")]] and sum(report.dropped.values()) == 1
    # A field that is there and always empty is nothing to lose.
    for message in rows[1]["chosen"] + rows[1]["rejected"]:
        message.pop(field, None)
    rows[1]["chosen"][0][field] = None
    assert len(load_pairs(Dataset.from_list(rows))) == 2


def test_a_type_that_changes_late_in_a_large_file(tmp_path):
    """`datasets` decides on types by the first ten megabytes."""
    rows = [pair(i, response_a="y" * 10_000, rating_x_a=4 if i != 1150 else "N/A") for i in range(1200)]
    pairs = load_pairs(write(tmp_path / "x.jsonl", rows))
    assert pairs["rating_x_a"][1149:1152] == [4.0, None, 4.0] and len(pairs) == 1200


@pytest.mark.parametrize(
    "odd",
    [
        {"role": "assistant", "content": [{"type": "image", "text": "x"}]},
        {"role": 3, "content": "x"},
        {"role": "assistant", "content": 5},
        {"role": "assistant", "content": "x", "reasoning": "hm"},
        {"role": "assistant", "content": "x", "video": "v.mp4"},
    ],
)
def test_one_message_of_another_form(odd, tmp_path):
    rows = [{"prompt": [user(f"p{i}")], "chosen": [assistant("a")], "rejected": [assistant("b")]} for i in range(4)]
    rows[2]["chosen"] = [odd]
    path = write(tmp_path / "x.jsonl", rows)
    with pytest.raises(InputError, match=r"1 of 4 (pair|row)s, the first (pair|row)s \[2\]"):
        load_pairs(path)
    pairs, report = read_pairs(path, on_invalid="drop")
    assert pairs["prompt"][:] == [[user(f"p{i}")] for i in (0, 1, 3)]
    assert sum((report.skipped | report.dropped).values()) == 1
