"""No part of a prompt is lost: inputs, system messages, prompts beside whole conversations."""

import json

import pytest
from datasets import Dataset

from pd_trl.data import load_pairs, read_pairs
from pd_trl.data.conversations import merge_prompts, says_all
from pd_trl.errors import InputError
from pd_trl.generation import load_instructions

from .schemas import assistant, user


def system(text):
    return {"role": "system", "content": text}


def load(*rows, **options):
    return load_pairs(Dataset.from_list(list(rows)), **options)


def sides(first="good", second="bad"):
    return {"chosen": first, "rejected": second}


@pytest.mark.parametrize("extra", [{}, {"rating_x_chosen": 1, "rating_x_rejected": 2}])
@pytest.mark.parametrize("column", ["input", "context"])
def test_an_instruction_is_followed_by_its_input(extra, column):
    texts = ["bonjour", "", None, " ", "Say in French: x"]
    rows = [{"instruction": "Say in French: x", column: text} | sides() | extra for text in texts]
    pairs = load(*rows)
    alone = "Say in French: x"
    assert pairs["prompt"][:] == [
        "Say in French: x\n\nbonjour",
        alone,
        alone,
        alone,
        alone,
    ]  # the last is said already
    assert pairs[column][:] == texts and len({*pairs["prompt_id"]}) == 2
    mapped = load(*rows, column_mapping={"prompt": "instruction", **{s: s for s in ("chosen", "rejected")}})
    assert mapped["prompt"][:] == pairs["prompt"][:]
    assert load_pairs(pairs)["prompt"][:] == pairs["prompt"][:]


def test_the_input_of_ultrafeedback_like_rows():
    completions = [{"response": r, "annotations": {"x": {"Rating": n}}} for r, n in (("a", "1"), ("b", "3"))]
    pairs = load({"instruction": "Sum up.", "input": "a text", "completions": completions})
    assert pairs["prompt"][:] == ["Sum up.\n\na text"]


@pytest.mark.parametrize("column", ["system", "system_prompt"])
def test_a_system_column_becomes_the_system_message(column, caplog):
    pairs = load({column: "Be brief.", "prompt": "q"} | sides(), {column: None, "prompt": "r"} | sides())
    assert pairs["prompt"][:] == [[system("Be brief."), user("q")], [user("r")]]
    assert pairs["response_a"][0] == [assistant("good")]
    assert f"begin with the text of column '{column}'" in caplog.text
    assert load_pairs(pairs).to_list() == pairs.to_list()


def test_a_system_column_beside_messages():
    rows = [
        {"system": "A", "chosen": [user("q"), assistant("x")], "rejected": [user("q"), assistant("y")]},
        {
            "system": "A",
            "chosen": [system("A"), user("q"), assistant("x")],
            "rejected": [system("A"), user("q"), assistant("y")],
        },
    ]
    assert load(*rows)["prompt"][:] == [[system("A"), user("q")]] * 2
    other = rows[1] | {"system": "B"}
    with pytest.raises(
        InputError, match=r"another system message than column 'system': 1 of 2 pairs, the first pairs \[1\]"
    ):
        load(rows[0], other)
    pairs, report = read_pairs(Dataset.from_list([rows[0], other]), on_invalid="drop")
    assert len(pairs) == 1 and sum(report.dropped.values()) == 1


@pytest.mark.parametrize(
    ("column", "value"),
    [("history", [["a", "b"]]), ("context", "a long article"), ("conversations", [{"from": "human", "value": "x"}])],
)
def test_columns_that_may_be_parts_of_the_prompt_are_named(column, value, caplog):
    pairs = load({"prompt": "q", column: value} | sides(), {"prompt": "r", column: None} | sides())
    assert pairs["prompt"][:] == ["q", "r"]
    assert f"prompts of 1 pairs do not contain column '{column}'" in caplog.text


def test_messages_that_are_no_copy_of_the_chosen_conversation_are_kept(caplog):
    turns = [user("q"), assistant("a"), user("and?")]
    pairs = load({"prompt": "and?", "messages": turns} | sides())
    assert pairs["messages"][0] == turns and "column 'messages'" in caplog.text


Q, A1, Q2, S, T = user("q"), assistant("a1"), user("q2"), system("s"), system("t")


@pytest.mark.parametrize(
    ("given", "shared", "expected"),
    [
        ([S, Q], [Q], [S, Q]),
        ([S], [Q, A1, Q2], [S, Q, A1, Q2]),
        ([Q], [S, Q], [S, Q]),
        ([Q], [Q, A1, Q2], [Q, A1, Q2]),
        ([Q, A1, Q2], [Q2], [Q, A1, Q2]),
        ([S, Q, A1, Q2], [Q2], [S, Q, A1, Q2]),
        ([Q], [], [Q]),
        ([S, Q], [T, Q], None),
        ([Q, A1], [Q2], None),
        ([user("x")], [Q], None),
        ([user(" q\n"), A1], [Q, A1, Q2], [Q, A1, Q2]),  # spaces are no difference
    ],
)
def test_prompt_messages_and_shared_messages(given, shared, expected):
    assert merge_prompts(given, shared) == expected


def test_a_prompt_text_beside_conversations():
    assert says_all([S, Q], "q") and says_all([Q, A1, Q2], "q2") and says_all([user("a  b\n")], "a b")
    assert not says_all([Q], "Answer in French. q")
    both = {"chosen": [user("q"), assistant("x")], "rejected": [user("q"), assistant("y")]}
    assert load({"prompt": "q"} | both)["prompt"][0] == [user("q")]
    with pytest.raises(InputError, match="prompt and the conversations of the responses disagree: 1 of 2"):
        load({"prompt": "q"} | both, {"prompt": "in French: q"} | both)


def test_rows_of_different_forms_in_one_set():
    """Responses alone, whole conversations, and conversations whose prompt column says more."""
    rows = [
        {"prompt": [user("p0")], "chosen": [assistant("x")], "rejected": [assistant("y")]},
        {"prompt": [user("p1")], "chosen": [user("p1"), assistant("x")], "rejected": [user("p1"), assistant("y")]},
        {"prompt": [S, user("p2")], "chosen": [user("p2"), assistant("x")], "rejected": [user("p2"), assistant("y")]},
        {"prompt": [user("p3")], "chosen": [user("p3"), assistant("x")], "rejected": [assistant("y")]},
    ]
    pairs, report = read_pairs(Dataset.from_list(rows), on_invalid="drop")
    assert pairs["prompt"][:] == [[user("p0")], [user("p1")], [S, user("p2")]]
    assert pairs["response_a"][:] == [[assistant("x")]] * 3 and pairs["response_b"][:] == [[assistant("y")]] * 3
    assert report.dropped == {"response_a is not a single assistant message": 1}
    bare = [{k: v for k, v in row.items() if k != "prompt"} for row in rows[:2]]
    with pytest.raises(InputError, match="prompt is null: 1 of 2"):
        load(*bare)


@pytest.mark.parametrize(
    ("instruction", "part"),
    [
        ("Translate into German.", "man"),
        ("Is this a word?", "a"),
        ("Add 3.", 3),
        ("Double it.", 0),
        ("Halve it.", 2.5),
    ],
)
def test_a_short_input_that_stands_in_the_instruction_by_chance(instruction, part):
    assert load({"instruction": instruction, "input": part} | sides())["prompt"][:] == [f"{instruction}\n\n{part}"]


def test_inputs_of_several_types(tmp_path):
    path = tmp_path / "x.jsonl"
    inputs = ["text", 7, None]
    path.write_text("\n".join(json.dumps({"instruction": "Go.", "input": part} | sides()) for part in inputs))
    assert load_pairs(path)["prompt"][:] == ["Go.\n\ntext", "Go.\n\n7", "Go."]
    with_prompt = [{"instruction": "Go.", "input": part} for part in inputs]
    assert [item.prompt for item in load_instructions(with_prompt)] == ["Go.\n\ntext", "Go.\n\n7", "Go."]


def test_a_prompt_text_that_stands_in_a_word_of_the_conversation():
    assert not says_all([user("Equip the German ship")], "man")


@pytest.mark.parametrize("column", ["inputs", "developer", "Document", "passage", "chat_history"])
def test_more_columns_that_may_be_parts_of_the_prompt(column, caplog):
    load({"prompt": "q", column: "about x"} | sides())
    assert f"do not contain column {column!r}" in caplog.text
    caplog.clear()
    load_instructions([{"prompt": "q", column: "about x"}])
    assert f"do not contain column {column!r}" in caplog.text
