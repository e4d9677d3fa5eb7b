"""Forms in which preference data come: each is read as it is, or refused by row with a reason."""

import json
import re

import pytest
from datasets import Dataset

from pd_trl.data import load_pairs, read_pairs, to_preferences
from pd_trl.data.scales import read_scale
from pd_trl.errors import InputError

U, A, S = "user", "assistant", "system"


def say(role, content):
    return {"role": role, "content": content}


def share(role, value):
    return {"from": role, "value": value}


def part(text):
    return [{"type": "text", "text": text}]


CHAT = ([say(U, "q")], [say(A, "yes")], [say(A, "no")])
TURNS = ([say(U, "q"), say(A, "a"), say(U, "and?")], [say(A, "yes")], [say(A, "no")])
WITH_SYSTEM = ([say(S, "Be brief."), say(U, "q")], [say(A, "yes")], [say(A, "no")])
TEXT = ("q", "yes", "no")
# Name: a row of a source, prompt and responses, and further columns of its pair.
PAIRS = {
    "sharegpt, sides as messages": (
        {"conversations": [share("human", "q")], "chosen": share("gpt", "yes"), "rejected": share("gpt", "no")}, CHAT, {"pref_overall": 1.0},
    ),
    "sharegpt, several turns": (
        {"conversations": [share("human", "q"), share("gpt", "a"), share("human", "and?")], "chosen": share("gpt", "yes"), "rejected": share("gpt", "no")}, TURNS, {},
    ),
    "sharegpt, lists of one message": (
        {"conversations": [share("system", "Be brief."), share("human", "q")], "chosen": [share("gpt", "yes")], "rejected": [share("gpt", "no")]}, WITH_SYSTEM, {},
    ),
    "sharegpt, whole conversations": (
        {"chosen": [share("human", "q"), share("gpt", "yes")], "rejected": [share("human", "q"), share("gpt", "no")]}, CHAT, {},
    ),
    "sharegpt, sides as texts": ({"conversations": [share("human", "q")], "chosen": "yes", "rejected": "no"}, CHAT, {}),
    "sharegpt beside a system column": (
        {"system": "Be brief.", "conversations": [share("human", "q")], "chosen": share("gpt", "yes"), "rejected": share("gpt", "no")}, WITH_SYSTEM, {},
    ),
    "messages and one-message sides": ({"messages": [say(U, "q")], "chosen": say(A, "yes"), "rejected": say(A, "no")}, CHAT, {}),
    "a prompt of one message": ({"prompt": say(U, "q"), "chosen": say(A, "yes"), "rejected": say(A, "no")}, CHAT, {}),
    "a prompt of one message and texts": ({"prompt": share("human", "q"), "chosen": "yes", "rejected": "no"}, CHAT, {}),
    "content parts": (
        {"chosen": [say(U, part("q")), say(A, part("yes"))], "rejected": [say(U, part("q")), say(A, part("no"))]}, CHAT, {},
    ),
    "content parts here and texts there": (
        {"prompt": [say(U, "q")], "chosen": [say(A, part("y") + part("es"))], "rejected": [say(A, "no")]}, CHAT, {},
    ),
    "other names of roles": (
        {"chosen": [say("Human", "q"), say("Assistant", "yes")], "rejected": [say("Human", "q"), say("Assistant", "no")]}, CHAT, {},
    ),
    "hh-rlhf": ({"chosen": "\n\nHuman: q\n\nAssistant: yes", "rejected": "\n\nHuman: q\n\nAssistant: no"}, CHAT, {"pref_overall": 1.0}),
    "hh-rlhf, several turns": (
        {"chosen": "\n\nHuman: q\n\nAssistant: a\n\nHuman: and?\n\nAssistant: yes", "rejected": "\n\nHuman: q\n\nAssistant: a\n\nHuman: and?\n\nAssistant: no"}, TURNS, {},
    ),
    "hh-rlhf with a prompt": (
        {"prompt": "\n\nHuman: q\n\nAssistant: a\n\nHuman: and?\n\nAssistant:", "chosen": " yes", "rejected": " no"}, TURNS, {},
    ),
    "alpaca": (
        {"instruction": "Translate.", "input": "oui", "chosen": "yes", "rejected": "no"}, ("Translate.\n\noui", "yes", "no"), {},
    ),
    "alpaca with a system column": (
        {"instruction": "q", "input": "", "system": "Be brief.", "chosen": "yes", "rejected": "no"}, WITH_SYSTEM, {},
    ),
    "a question": ({"system": "Be brief.", "question": "q", "chosen": "yes", "rejected": "no"}, WITH_SYSTEM, {}),
    "messages as JSON texts": (
        {"chosen": json.dumps([say(U, "q"), say(A, "yes")]), "rejected": json.dumps([say(U, "q"), say(A, "no")])}, CHAT, {},
    ),
    "completions and ratings": (
        {"prompt": "q", "completions": ["yes", "no"], "ratings": [4, 2]}, TEXT, {"rating_overall_a": 4.0, "pref_overall": 1.0},
    ),
    "distilabel": (
        {"instruction": "q", "generations": ["yes", "no"], "ratings": ["2", "4.5"], "generation_models": ["m", "n"]},
        TEXT, {"rating_overall_b": 4.5, "pref_overall": 0.0, "model_a": "m", "model_b": "n"},
    ),
    "responses and scores": ({"prompt": "q", "responses": ["yes", "no"], "scores": [0.5, 0.5]}, TEXT, {"pref_overall": 0.5}),
    "ratings by aspect, of each response": (
        {"prompt": "q", "responses": ["yes", "no"], "ratings": [{"clarity": 4, "depth": 1}, {"clarity": 2, "depth": 3}]},
        TEXT, {"rating_clarity_a": 4.0, "pref_clarity": 1.0, "pref_depth": 0.0},
    ),
    "ratings by aspect, as lists": (
        {"prompt": "q", "responses": ["yes", "no"], "ratings": {"clarity": [4, 2], "depth": ["1/5", "3/5"]}},
        TEXT, {"rating_clarity_b": 2.0, "rating_depth_b": 3.0, "pref_depth": 0.0},
    ),
    "a list for each aspect": (
        {"prompt": "q", "answers": ["yes", "no"], "clarity_ratings": [4, 2], "score_depth": ["good", "very good"]},
        TEXT, {"pref_clarity": 1.0, "pref_depth": 0.0},
    ),
    "ratings in the completions": (
        {"instruction": "q", "completions": [{"text": "yes", "clarity": 4, "note": "fine"}, {"text": "no", "clarity": 2, "note": "so so"}]},
        TEXT, {"rating_clarity_a": 4.0, "pref_clarity": 1.0},
    ),
    "nested ratings in the completions": (
        {"prompt": "q", "completions": [
            {"response": "yes", "model": "m", "annotations": {"clarity": {"rating": "4", "rationale": "clear"}}},
            {"response": "no", "model": "n", "annotations": {"clarity": {"rating": "2", "rationale": "vague"}}},
        ]}, TEXT, {"rating_clarity_b": 2.0, "model_b": "n"},
    ),
    "completions as messages": (
        {"messages": [share("human", "q")], "completions": [[say(A, "yes")], [say(A, "no")]], "scores": [1, 2]}, CHAT, {"pref_overall": 0.0},
    ),
    "ratings of the sides": (
        {"prompt": "q", "response_a": "yes", "response_b": "no", "ratings_a": {"clarity": 4}, "ratings_b": {"clarity": 2}},
        TEXT, {"rating_clarity_a": 4.0, "pref_clarity": 1.0},
    ),
    "nested ratings of the sides": (
        {"prompt": "q", "chosen": "yes", "rejected": "no", "chosen_ratings": {"clarity": {"rating": "2"}, "note": "a remark"},
         "rejected_ratings": {"clarity": {"rating": "4"}, "note": "another"}},
        TEXT, {"rating_clarity_b": 4.0, "pref_clarity": 0.0, "pref_overall": 1.0},
    ),
    "ratings by side": (
        {"prompt": "q", "chosen": "yes", "rejected": "no", "ratings": {"chosen": {"clarity": 4}, "rejected": {"clarity": 2}}},
        TEXT, {"pref_clarity": 1.0},
    ),
    "ratings by aspect and side": (
        {"prompt": "q", "response_a": "yes", "response_b": "no", "ratings": {"clarity": {"a": 4, "b": 2}, "depth": {"a": 1, "b": 2}}},
        TEXT, {"pref_clarity": 1.0, "pref_depth": 0.0},
    ),
    "a rating with its rationale": (
        {"prompt": "q", "response_a": "yes", "response_b": "no", "rating_x_a": {"rating": "4", "rationale": "r"}, "rating_x_b": {"rating": "5", "rationale": "s"}},
        TEXT, {"rating_x_a": 4.0, "pref_x": 0.0},
    ),
    "fractions": (
        {"prompt": "q", "response_a": "yes", "response_b": "no", "rating_x_a": "8/10", "rating_x_b": "4 / 5", "rating_y_a": "7 out of 10", "rating_y_b": "9 out of 10"},
        TEXT, {"rating_x_a": 8.0, "rating_x_b": 8.0, "pref_x": 0.5, "rating_y_a": 7.0, "pref_y": 0.0},
    ),
    "words": (
        {"prompt": "q", "response_a": "yes", "response_b": "no", "rating_x_a": "Very good", "rating_x_b": "fair", "rating_y_a": "disagree", "rating_y_b": "strongly_agree"},
        TEXT, {"pref_x": 1.0, "pref_y": 0.0},
    ),
}  # fmt: skip


@pytest.mark.parametrize("medium", ["jsonl", "memory"])
@pytest.mark.parametrize("name", PAIRS)
def test_each_form_is_read_as_it_is(name, medium, tmp_path):
    row, texts, columns = PAIRS[name]
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row) + "\n")
    pairs = load_pairs(path if medium == "jsonl" else Dataset.from_list([row]))
    assert len(pairs) == 1
    found = pairs[0]
    assert (found["prompt"], found["response_a"], found["response_b"]) == texts
    assert {key: found[key] for key in columns} == columns
    if name.startswith(("sharegpt", "hh")):
        assert to_preferences(pairs)[0]["chosen"] == found["response_a"]


# Name: rows, of which the second cannot be read whole, and why.
REFUSED = {
    "an image among the parts": (
        [{"chosen": [say(U, part("q")), say(A, part("yes"))], "rejected": [say(U, part("q")), say(A, part("no"))]},
         {"chosen": [say(U, [*part("q"), {"type": "image", "text": None}]), say(A, part("yes"))], "rejected": [say(U, part("q")), say(A, part("no"))]}],
        "parts other than text",
    ),
    "a call of a tool": (
        [{"prompt": [say(U, "q")], "chosen": [say(A, "yes")], "rejected": [say(A, "no")]},
         {"prompt": [say(U, "q"), {"role": A, "content": None, "tool_calls": [{"name": "f"}]}, say("tool", "3")], "chosen": [say(A, "yes")], "rejected": [say(A, "no")]}],
        "messages with tool_calls",
    ),
    "sharegpt's call of a function": (
        [{"conversations": [share("human", "q")], "chosen": share("gpt", "yes"), "rejected": share("gpt", "no")},
         {"conversations": [share("human", "q"), share("function_call", "f()"), share("observation", "3")], "chosen": share("gpt", "yes"), "rejected": share("gpt", "no")}],
        "a call of a function",
    ),
    "an unknown role": (
        [{"conversations": [share("human", "q")], "chosen": share("gpt", "yes"), "rejected": share("gpt", "no")},
         {"conversations": [share("narrator", "q")], "chosen": share("gpt", "yes"), "rejected": share("gpt", "no")}],
        "a role other than",
    ),
    "no transcript among transcripts": (
        [*[PAIRS["hh-rlhf"][0]] * 2, {"chosen": "yes", "rejected": "no"}], "no transcript, as most are",
    ),
    "transcripts that part before their last turn": (
        [PAIRS["hh-rlhf"][0], {"chosen": "\n\nHuman: q\n\nAssistant: a\n\nHuman: and?\n\nAssistant: yes", "rejected": "\n\nHuman: q\n\nAssistant: b\n\nHuman: and?\n\nAssistant: no"}],
        "is not a single assistant message",
    ),
    "fewer ratings than completions": (
        [PAIRS["completions and ratings"][0], {"prompt": "q", "completions": ["yes", "no"], "ratings": [4]}], "do not belong together",
    ),
    "ratings that are none": (
        [PAIRS["completions and ratings"][0], {"prompt": "q", "completions": ["yes", "no"], "ratings": [[4, 3], [2, 1]]}],
        "do not belong together",
    ),
    "a nested rating that is none": (
        [PAIRS["ratings of the sides"][0], PAIRS["ratings of the sides"][0] | {"ratings_a": {"clarity": [1, 2]}}],
        "'?rating_clarity_a'? (?:is not a number|must hold numbers)",
    ),
    "a completion that is no text": (
        [{"prompt": "q", "completions": [{"text": "yes", "score": 4}, {"text": "no", "score": 2}]},
         {"prompt": "q", "completions": [{"text": "yes", "score": 4}, {"text": None, "score": 2}]}], "a response without a text",
    ),
    "a rating of no form": (
        [PAIRS["distilabel"][0], PAIRS["distilabel"][0] | {"ratings": ["2", "rather nice"]}], "rating_overall is not a number",
    ),
    "a plain number beside two scales": (
        [PAIRS["fractions"][0], PAIRS["fractions"][0] | {"rating_x_a": "4"}], "'?rating_x_a'? (?:is not a number|must hold numbers)",
    ),
    "a word of another scale": ([PAIRS["words"][0]] * 2 + [PAIRS["words"][0] | {"rating_x_a": "weekly"}], "'?rating_x_a'? (?:is not a number|must hold numbers)"),
    "mixed types": (
        [{"prompt": [say(U, "q")], "chosen": [say(A, "yes")], "rejected": [say(A, "no")]}] * 2
        + [{"prompt": [say(U, "q")], "chosen": 7, "rejected": [say(A, "no")]}], "chosen|response_a",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_understood_is_refused_by_row(name, tmp_path):
    rows, reason = REFUSED[name]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(InputError, match=rf"(?s)(?:{reason}).*\[{len(rows) - 1}\]"):
        load_pairs(path)
    pairs, report = read_pairs(path, on_invalid="drop")
    lost = {why: count for why, count in (report.skipped | report.dropped).items() if count}
    assert len(pairs) == len(rows) - 1 and list(lost.values()) == [1]
    assert re.search(reason, next(iter(lost))), lost


def test_a_mapping_names_what_lies_inside_a_column():
    row = {
        "prompt": "q",
        "response_a": "yes",
        "response_b": "no",
        "votes": {"a": {"help": 4}, "b": {"help": "2"}},
        "pair": ["yes", "no"],
    }
    mapping = {"rating_help_a": "votes.a.help", "rating_help_b": "votes.b.help"}
    assert load_pairs(Dataset.from_list([row]), column_mapping=mapping)[0]["pref_help"] == 1.0
    sides = {"prompt": "prompt", "response_a": "pair.0", "response_b": "pair.1", **mapping}
    plain = {key: row[key] for key in ("prompt", "votes", "pair")}
    assert load_pairs(Dataset.from_list([plain]), column_mapping=sides)[0]["response_b"] == "no"
    with pytest.raises(InputError, match="'votes.c.help', which is not a column"):
        load_pairs(Dataset.from_list([row]), column_mapping=mapping | {"rating_help_a": "votes.c.help"})


def test_scores_of_something_else_pass_through(caplog):
    row = {"prompt": "q", "completions": ["yes", "no"], "ratings": [4, 2], "retrieval_scores": [0.1, 0.2, 0.3]}
    pair = load_pairs(Dataset.from_list([row, row | {"prompt": "r"}]))[0]
    assert pair["retrieval_scores"] == [0.1, 0.2, 0.3] and pair["pref_overall"] == 1.0
    assert "'retrieval_scores' has in no row a value for each of the completions" in caplog.text


@pytest.mark.parametrize(
    ("beside", "left_out"),
    [
        ({"ratings": {"help": 3}, "tokens": 120, "quality": 7}, ["tokens", "quality"]),
        (
            {"help": 3, "usage": {"cached": 5}, "num_tokens": 120, "model_id": 7, "length": 5},
            ["num_tokens", "model_id", "length"],
        ),
    ],
)
def test_numbers_of_a_response_that_are_no_ratings_do_not_vote(beside, left_out, caplog):
    other = {
        "text": "no",
        **{name: {"help": 1} if name == "ratings" else {"cached": 1} if name == "usage" else 1 for name in beside},
    }
    pair = load_pairs(Dataset.from_list([{"prompt": "q", "responses": [{"text": "yes", **beside}, other]}]))[0]
    assert {name for name in pair if name.startswith("pref_")} == {"pref_help"}
    assert all(repr(name) in caplog.text for name in left_out)


@pytest.mark.parametrize(
    "row",
    [
        {"completions": ["yes", "no"], "ratings": [1, 2], "scores": [2, 1]},
        {"completions": [{"text": "yes", "rating": 1, "score": 2}, {"text": "no", "rating": 1, "score": 1}]},
    ],
)
def test_two_overall_ratings_that_differ_are_refused(row):
    with pytest.raises(InputError, match="two different values of rating_overall"):
        load_pairs(Dataset.from_list([{"prompt": "q", **row}]))


def test_four_completions_make_six_pairs(tmp_path):
    rows = [
        {"prompt": f"q{i}", "completions": list("abcd"), "ratings": [{"x": i + k, "y": -k} for k in range(4)]}
        for i in range(3)
    ]
    pairs, report = read_pairs(Dataset.from_list(rows))
    assert (
        len(pairs) == 18
        and report.adapter == "lists"
        and set(pairs["pref_x"]) == {0.0}
        and set(pairs["pref_y"]) == {1.0}
    )
    best, _ = read_pairs(Dataset.from_list(rows), pairing="best_worst")
    assert len(best) == 3


CSV = 'prompt,response_a,response_b,rating_h_a,rating_h_b,note\n"two\nlines, and ""quotes""",None,42,4,2.5,\nq,007,nan,N/A,1,x\n'


@pytest.mark.parametrize("form", ["plain", "tsv", "semicolon", "mark", "folder", "slice"])
def test_csv_with_line_breaks_in_texts(form, tmp_path):
    text, path, split = CSV, tmp_path / "rows.csv", "train"
    if form == "tsv":
        text, path = (
            "\n".join(
                line.replace(",", "\t")
                if "lines" not in line
                else line.replace('",', '"\t').replace(",42,4,2.5,", "\t42\t4\t2.5\t").replace(", and", " and")
                for line in CSV.split("\n")
            ),
            tmp_path / "rows.tsv",
        )
    if form == "semicolon":
        text = text.replace("lines, and", "lines and").replace(",", ";")
    path.write_text(text, encoding="utf-8-sig" if form == "mark" else "utf-8")
    if form == "slice":
        split = "train[:1]"
    pairs = load_pairs(tmp_path if form == "folder" else path, split=split)
    first = pairs[0]
    assert first["prompt"].startswith("two\nlines") and '"quotes"' in first["prompt"]
    assert (first["response_a"], first["response_b"], first["rating_h_b"], first["note"]) == ("None", "42", 2.5, None)
    assert len(pairs) == (1 if form == "slice" else 2)
    if form != "slice":
        assert (pairs[1]["response_a"], pairs[1]["response_b"], pairs[1]["rating_h_a"]) == ("007", "nan", None)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"prompt,chosen,rejected\nq,a,b\nq,a,b,c\n", ["row 1 has 4 cells", "3 columns"]),
        (b"prompt,chosen,chosen\nq,a,b\n", ["names", "chosen", "twice"]),
        (b'prompt,chosen,rejected\nq,"a,b\n', ["rows.csv", "double quote"]),
        ("prompt,chosen,rejected\nq,caf\xe9,b\n".encode("latin1"), ["row 0, column 1", "UTF-8"]),
        ("prompt,chosen,rejected\nq,a,b\n".encode("utf-16"), ["UTF-16"]),
    ],
)
def test_damaged_csv_is_refused_by_file_and_row(content, words, tmp_path):
    (tmp_path / "rows.csv").write_bytes(content)
    with pytest.raises(InputError) as error:
        load_pairs(tmp_path / "rows.csv")
    assert all(word in str(error.value) for word in words), str(error.value)


def test_columns_that_are_no_texts_stay_as_they_are():
    row = {
        "prompt": "q",
        "chosen": "yes",
        "rejected": "no",
        "meta": [share("human", "x")],
        "tags": {"a": 1},
        "history_of": "Human: x",
    }
    pair = load_pairs(Dataset.from_list([row]))[0]
    assert {key: pair[key] for key in ("meta", "tags", "history_of")} == {
        key: row[key] for key in ("meta", "tags", "history_of")
    }
    text = "Human: who?\n\nAssistant: nobody"
    quoting = {"prompt": f"Continue.\n\n{text}", "chosen": "yes", "rejected": '[{"role": an old play}]'}
    assert load_pairs(Dataset.from_list([quoting]))[0]["prompt"] == quoting["prompt"]


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["8/10", "7 out of 10", "9"], [8, 7, 9]),
        (["8/10", "4 / 5"], [8, 8]),
        (["8/10", "4 / 5", "3"], [8, 8, None]),
        (["80%", "35 %"], [80, 35]),
        (["11/10", "3/10"], [None, 3]),
        (["8/10", "4", "5"], [None, 4, 5]),
        (["5 - excellent", "2: poor", "3"], [5, 2, 3]),
        (["Good (4)", "Bad (1)"], [4, 1]),
        (["4 stars", "1 star"], [4, 1]),
        (["Strongly Agree", "disagree"], [7, 2]),
        (["very-helpful", "Not helpful"], [5, 1]),
        (["yes", "No"], [3, 1]),
        (["low", "blue"], [None, None]),
        (["4,5", "3"], [None, 3]),
        (["1 - 2", "3"], [None, 3]),
    ],
)
def test_ratings_written_as_texts(texts, expected):
    found = read_scale(texts)
    assert [found.get(text) for text in texts] == expected
