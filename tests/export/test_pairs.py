"""Rows of preferences, one at a time."""

import json

import pytest
from datasets import Dataset, load_dataset

from pd_trl.errors import InputError
from pd_trl.export.pairs import as_messages, pairs_of


def user(text):
    return {"role": "user", "content": text}


def answer(text, **fields):
    return {"role": "assistant", "content": text, **fields}


def pair(**values):
    return next(pairs_of(Dataset.from_list([{"prompt": "p", "chosen": "c", "rejected": "r", **values}])))


def test_strings_and_messages():
    assert (pair().prompt, pair().chosen, pair().rejected, pair().is_chat) == ("p", "c", "r", False)
    assert as_messages(pair()).chosen == [answer("c")]
    chat = pair(prompt=[user("p")], chosen=[answer("c")], rejected=[answer("r")], pair_id=7)
    assert chat.is_chat and chat.messages == [user("p"), answer("c"), answer("r")] and chat.pair_id == "7"
    assert as_messages(chat) is chat


def test_a_prompt_inside_both_sides_is_taken_out():
    rows = [{"chosen": [user("p"), answer("c")], "rejected": [user("p"), answer("r")]}]
    found = next(pairs_of(Dataset.from_list(rows)))
    assert (found.prompt, found.chosen, found.rejected) == ([user("p")], [answer("c")], [answer("r")])


def test_what_arrow_fills_up_is_no_part_of_a_row():
    """A column of mappings gives every row the keys of all."""
    calls = [{"type": "function", "function": {"name": name, "arguments": arguments}} for name, arguments in (("f", {"a": 1}), ("g", {"b": [{"c": 2}]}))]  # fmt: skip
    rows = [{"prompt": [user("p")], "chosen": [answer(None, tool_calls=[call])], "rejected": [answer("r")]} for call in calls]  # fmt: skip
    for row, tool in zip(rows, ("f", "g"), strict=True):
        row["tools"] = [{"type": "function", "function": {"name": tool, "parameters": {tool: {"type": "string"}}}}]
    found = list(pairs_of(Dataset.from_list(rows)))
    assert [pair.chosen[0]["tool_calls"][0]["function"]["arguments"] for pair in found] == [
        {"a": 1},
        {"b": [{"c": 2}]},
    ]
    assert found[1].tools == rows[1]["tools"] and found[0].rejected == [answer("r")]


def test_json_of_any_kind_is_read(tmp_path):
    call = {"type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
    rows = [
        {"prompt": [user("p")], "chosen": [answer("", tool_calls=[call])], "rejected": [answer("r")], "tools": "[]"},
        {
            "prompt": [user("p")],
            "chosen": [answer("c")],
            "rejected": [answer("r")],
            "tools": json.dumps([{"name": "f"}]),
        },
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    first, second = pairs_of(load_dataset("json", data_files=str(path), split="train", cache_dir=str(tmp_path)))
    assert first.chosen[0]["tool_calls"][0]["function"]["arguments"] == {"a": 1} and first.tools == []
    assert second.tools == [{"name": "f"}]


def test_parts_of_text_are_joined_and_others_stay():
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    image = [{"type": "image", "text": None}]
    assert pair(prompt=[user(parts)], chosen=[answer("c")], rejected=[answer("r")]).prompt == [user("ab")]
    assert isinstance(
        pair(prompt=[user(image)], chosen=[answer("c")], rejected=[answer("r")]).prompt[0]["content"], list
    )
    assert pair(images=[b"x"]).media and not pair(images=[]).media and not pair(images=None).media


@pytest.mark.parametrize(
    "values, words",
    [
        ({"chosen": "r"}, "row 0 .*same text on both sides"),
        ({"chosen": " "}, "empty 'chosen'"),
        ({"chosen": None}, "NoneType as 'chosen'"),
        ({"prompt": [user("p")], "chosen": [answer(" \n")], "rejected": [answer("r")]}, "empty 'chosen'"),
        ({"prompt": [user("p")], "chosen": [answer("c")], "rejected": [answer("")]}, "empty 'rejected'"),
        ({"prompt": [user("p")]}, "mixes strings and messages"),
        (
            {"prompt": [{"content": "p", "role": None}], "chosen": [answer("c")], "rejected": [answer("r")]},
            "without a role",
        ),
        (
            {"prompt": [user(None)], "chosen": [answer("c")], "rejected": [answer("r")]},
            "neither content nor tool calls",
        ),
        ({"tools": "{broken"}, "tools that are no JSON"),
        ({"tools": {"a": 1}}, "dict as 'tools'"),
        ({"prompt": 5}, "int as 'prompt'"),
        ({"prompt": [], "chosen": [answer("c")], "rejected": [answer("r")]}, "prompt without messages"),
        ({"tools": '["\\ud800"]'}, "half a surrogate pair in its tools"),
        ({"tools": "[" * 100_000}, "tools that are no JSON"),
    ],
)
def test_what_is_no_preference_is_named_by_its_row(values, words):
    with pytest.raises(InputError, match=f"(?i){words}"):
        pair(**values)


def test_missing_columns_are_named():
    with pytest.raises(InputError, match="'rejected'.*are missing"):
        next(pairs_of(Dataset.from_list([{"prompt": "p", "chosen": "c"}])))
