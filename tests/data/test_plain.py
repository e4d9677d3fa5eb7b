"""Sources that say only which response was chosen."""

import random

import pytest
from datasets import Dataset

from pd_trl import load_pairs, to_preferences
from pd_trl.data import as_preferences, prepare_preferences
from pd_trl.errors import InputError
from tests.data import schemas
from tests.tiny import sentence


def plain(count: int = 6, **more) -> Dataset:
    generator = random.Random(1)
    rows = [{name: sentence(generator) for name in ("prompt", "chosen", "rejected")} for _ in range(count)]
    return Dataset.from_list(
        [{**row, **{name: values[i] for name, values in more.items()}} for i, row in enumerate(rows)]
    )


def messages(role, text):
    return [{"role": role, "content": text}]


def as_chat(row):
    chat = messages("user", row["prompt"])
    return {"prompt": chat, **{side: messages("assistant", row[side]) for side in ("chosen", "rejected")}}


def as_whole(row):
    chat = as_chat(row)
    return {side: chat["prompt"] + chat[side] for side in ("chosen", "rejected")}


def as_instruction(row):
    return {"instruction": row["prompt"], "input": "", "chosen": row["chosen"], "rejected": row["rejected"]}


def with_system(row):
    return {**row, "system": "be brief"}


FORMS = {"strings": dict, "chat": as_chat, "whole": as_whole, "instruction": as_instruction, "system": with_system}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_ids_and_texts_are_those_of_load_pairs(form):
    given = Dataset.from_list([form(row) for row in plain()])
    found, expected = as_preferences(given), to_preferences(load_pairs(given))
    for name in ("pair_id", "prompt", "chosen", "rejected", "aspect"):
        assert found[name][:] == expected[name][:], name
    assert set(found["aspect"]) == {"overall"}
    assert set(given.column_names) <= set(found.column_names)


def test_ids_do_not_depend_on_the_order_and_repeated_rows_have_their_own():
    given = plain(4, score=[1, 2, 3, 4])
    twice = Dataset.from_list([*given.to_list(), {**given[0], "score": 9}])
    back = Dataset.from_list(twice.to_list()[::-1])
    found, other = (as_preferences(data).to_list() for data in (twice, back))
    assert len({row["pair_id"] for row in found}) == 5
    assert sorted(found, key=str) == sorted(other, key=str)


def test_what_is_given_stays():
    named = plain(3, pair_id=["a", "b", "c"])
    assert as_preferences(named)["pair_id"][:] == ["a", "b", "c"]
    labelled = plain(3, aspect=["tone", "depth", "tone"])
    assert as_preferences(labelled)["aspect"][:] == ["tone", "depth", "tone"]
    whole = as_preferences(plain(3))
    assert as_preferences(whole) is whole


def test_strings_that_hold_their_prompt():
    given = Dataset.from_list([{"chosen": "a dog . yes", "rejected": "a dog . no"}])
    assert as_preferences(given).column_names == ["pair_id", "chosen", "rejected", "aspect"]
    lost = given.add_column("question", ["a dog ?"])
    with pytest.raises(InputError, match="'question' may be it"):
        as_preferences(lost)


def test_pairs_become_preferences_where_there_is_one_label():
    pairs = load_pairs(plain())
    assert as_preferences(pairs).to_list() == to_preferences(pairs).to_list()
    with pytest.raises(InputError, match="labels of several aspects"):
        as_preferences(load_pairs(schemas.helpsteer()))


def test_rows_that_cannot_be_used_are_named():
    broken = Dataset.from_list([*plain(2).to_list(), {"prompt": "a", "chosen": ["b"], "rejected": "c"}][:2])
    assert len(as_preferences(broken)) == 2
    mixed = Dataset.from_dict({"prompt": ["a"], "chosen": [messages("assistant", "x")], "rejected": ["y"]})
    with pytest.raises(InputError, match="mixed"):
        as_preferences(mixed)


def test_the_report_of_labels_has_no_empty_half():
    _, report = prepare_preferences(load_pairs(plain()))
    assert "right half" not in str(report) and "agreement with the overall label" not in str(report)
    assert "with overall" not in str(report) and "overall" in str(report)
