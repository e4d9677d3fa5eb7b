"""Readers of instructions and of outputs: the same parts of prompts as in pairs, and files that cannot be read."""

import json

import pytest

from pd_trl.data import load_pairs
from pd_trl.errors import InputError
from pd_trl.evaluation.alpaca.outputs import align, read_outputs
from pd_trl.generation import load_instructions

SYSTEM = {"role": "system", "content": "Be brief."}
USER = {"role": "user", "content": "q"}


@pytest.mark.parametrize("column", ["input", "context"])
def test_an_instruction_is_followed_by_its_input(column):
    rows = [{"instruction": "Sum up.", column: text} for text in ("one text", "another", None, "")]
    items = load_instructions(rows)
    assert [item.prompt for item in items] == ["Sum up.\n\none text", "Sum up.\n\nanother", "Sum up."]


@pytest.mark.parametrize("column", ["system", "system_prompt"])
def test_a_system_column_becomes_the_system_message(column):
    text, messages, plain = load_instructions(
        [{"prompt": "q", column: "Be brief."}, {"prompt": [USER, {"role": "assistant", "content": "a"}, USER], column: "Be brief."}]
        + [{"prompt": "q", column: None}]
    )  # fmt: skip
    assert text.prompt == [SYSTEM, USER] and text.text == "system: Be brief.\n\nuser: q"
    assert messages.prompt[0] == SYSTEM and len(messages.prompt) == 4
    assert plain.prompt == plain.text == "q"
    (same,) = load_instructions([{"messages": [SYSTEM, USER], "system": "Be brief."}])
    assert same.prompt == [SYSTEM, USER]
    with pytest.raises(InputError, match="Row 0 of custom has a system column and messages that begin with another"):
        load_instructions([{"messages": [SYSTEM, USER], "system": "Be long."}])


def test_prompts_of_pairs_and_of_instructions_are_the_same():
    row = {"system": "s", "instruction": "i", "input": "x", "chosen": "a", "rejected": "b"}
    path_rows = [row, row | {"system": None}]
    from datasets import Dataset

    pairs = load_pairs(Dataset.from_list(path_rows))
    items = load_instructions(path_rows)
    assert pairs[0]["prompt"] == items[0].prompt
    assert pairs[1]["prompt"] == [{"role": "user", "content": items[1].prompt}]


def test_columns_that_may_be_parts_of_the_prompt_are_named(caplog):
    load_instructions([{"prompt": "q", "history": [["a", "b"]], "context": "a text"}, {"prompt": "r", "history": []}])
    assert "prompts of 1 rows of custom do not contain column 'history'" in caplog.text
    assert "column 'context'" in caplog.text
    caplog.clear()
    load_instructions([{"instruction": "q", "input": "x", "system": "s"}])
    assert not caplog.text


@pytest.mark.parametrize(
    "message",
    [
        {"role": "narrator", "content": "q"},
        {"role": "user", "content": "q", "tool_calls": [{"name": "f"}]},
        {"role": "user", "content": ["q"]},
        {"role": "user", "content": None},
    ],
)
def test_messages_that_would_be_half_read(message):
    with pytest.raises(InputError, match="Row 1 of custom must have"):
        load_instructions([{"messages": [USER]}, {"messages": [message]}])


def test_outputs_are_aligned_by_the_whole_instruction():
    rows = [{"instruction": "Sum up.", "input": text} for text in ("one", "two")]
    items = load_instructions(rows)
    ours = read_outputs(
        [{"instruction": item.text, "output": f"o{i}"} for i, item in enumerate(items)], "model outputs"
    )
    theirs = read_outputs([row | {"output": f"r{i}"} for i, row in enumerate(rows)], "reference outputs")
    aligned = align(ours, theirs)
    assert {(row["output_1"], row["output_2"]) for row in aligned.rows} == {("r0", "o0"), ("r1", "o1")}
    assert theirs.num_duplicates == 0


@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
@pytest.mark.parametrize(
    ("encoding", "words"), [("latin-1", r"row 1, column 'instruction' has bytes"), ("utf-16", "UTF-16")]
)
def test_files_in_another_encoding(suffix, encoding, words, tmp_path):
    rows = [{"instruction": text, "output": "o"} for text in ("cafe", "café")]
    content = json.dumps(rows, ensure_ascii=False) if suffix == ".json" else "\n".join(
        json.dumps(row, ensure_ascii=False) for row in rows
    )  # fmt: skip
    path = tmp_path / f"x{suffix}"
    path.write_bytes(content.encode(encoding))
    for read in (load_instructions, lambda source: read_outputs(source, "model outputs")):
        with pytest.raises(InputError, match=rf"x\{suffix}.*{words}"):
            read(path)


def test_half_of_a_surrogate_pair_in_a_json_file(tmp_path):
    path = tmp_path / "x.json"
    path.write_text(json.dumps(["fine", "x\ud83d"]))
    with pytest.raises(InputError, match=r"x.json: row 1 has half of a surrogate pair"):
        load_instructions(path)
    path.write_text(json.dumps(["fine"]), encoding="utf-8-sig")
    assert load_instructions(path)[0].text == "fine"


@pytest.mark.parametrize(
    "row",
    [
        {"conversations": [{"from": "human", "value": "q"}]},
        {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "an old answer"}]},
        {"messages": {"role": "user", "content": "q"}},
        {"messages": [{"role": "Human", "content": [{"type": "text", "text": "q"}]}]},
        {"prompt": {"from": "human", "value": "q"}},
        [{"from": "human", "value": "q"}],
    ],
)
def test_conversations_of_other_forms(row, tmp_path):
    item = load_instructions([row])[0]
    assert item.prompt == [{"role": "user", "content": "q"}] and item.text == "q"
    if isinstance(row, dict):
        path = tmp_path / "rows.jsonl"
        path.write_text(json.dumps(row) + "\n")
        assert load_instructions(path)[0].prompt == item.prompt
        assert load_instructions([row | {"system": "Be brief."}])[0].prompt[0] == {
            "role": "system",
            "content": "Be brief.",
        }


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ([{"type": "image", "image": "x.png"}], "Row 0 of custom has messages with parts other than text"),
        (None, "Row 0 of custom must have a text"),
    ],
)
def test_conversations_that_would_be_half_read(content, reason):
    with pytest.raises(InputError, match=reason):
        load_instructions([{"messages": [{"role": "user", "content": content}]}])
