import pytest
from datasets import Dataset, DatasetDict

from pd_trl.data import aspects_of, check_pairs, check_preferences, is_chat, load_pairs, to_preferences
from pd_trl.errors import InputError, InputTypeError

from . import schemas
from .schemas import assistant, user


def row(**changes):
    return {"pair_id": "1", "prompt": "p", "chosen": "a", "rejected": "b", "aspect": "x"} | changes


def chat_row(prompt, **changes):
    return row(prompt=prompt, chosen=[assistant("a")], rejected=[assistant("b")]) | changes


def implicit(chosen, rejected):
    return {"pair_id": "1", "chosen": chosen, "rejected": rejected, "aspect": "x"}


GOOD = [
    [row(), row(pair_id="2", aspect="y")],
    [chat_row([user("p")])],
    [chat_row([{"role": "system", "content": "s"}, user("p"), assistant("q"), user("r")])],
    [implicit([user("p"), assistant("a")], [user("p"), assistant("b")])],
    [implicit("p a", "p b")],
]


@pytest.mark.parametrize("rows", GOOD)
def test_good_preferences(rows):
    assert check_preferences(Dataset.from_list(rows)) == sorted({r["aspect"] for r in rows})


BAD = [
    ([row(), row()], "'pair_id' must be unique"),
    ([row(pair_id=None)], "'pair_id' must not be null"),
    ([row(chosen=None)], "chosen is null: 1 of 1 rows"),
    ([row(rejected=" ")], "rejected is empty"),
    ([row(), row(pair_id="2", chosen="b")], r"chosen and rejected are identical: 1 of 2 rows, the first rows \[1\]"),
    ([row(aspect=None)], "'aspect' must hold strings|aspect is null"),
    ([row(aspect=3)], "'aspect' must hold strings, but its type is int64"),
    ([row(chosen=1)], "'chosen' must hold strings"),
    ([row(chosen=[assistant("a")])], "Standard and chat data are mixed"),
    ([{"pair_id": "1", "chosen": "a", "rejected": "b"}], r"\['aspect'\] are missing"),
    ([{"pair_id": "1", "chosn": "a", "rejected": "b", "aspect": "x"}], "Did you mean 'chosn'"),
    ([chat_row([assistant("p"), user("q")])], "prompt starts with the assistant"),
    ([chat_row([{"role": "robot", "content": "p"}])], "prompt has a role other than"),
    ([chat_row([user("p")], chosen=[user("a")])], "chosen is not a single assistant message"),
    (
        [implicit([assistant("a")], [assistant("b")])],
        "chosen starts with the assistant.*no prompt before the response",
    ),
    ([implicit([user("p"), user("a")], [user("p"), assistant("b")])], "chosen does not end with an assistant message"),
    (
        [implicit([user("p"), assistant("a")], [user("p"), assistant("a")])],
        "chosen and rejected are identical",
    ),
]


@pytest.mark.parametrize(("rows", "message"), BAD)
def test_bad_preferences(rows, message):
    with pytest.raises(InputError, match=message):
        check_preferences(Dataset.from_list(rows))


def test_not_a_dataset():
    with pytest.raises(InputTypeError, match="preferences must be a datasets.Dataset, but it is a dict"):
        check_preferences({})
    with pytest.raises(InputTypeError, match=r"DatasetDict with the splits \['train'\]"):
        check_preferences(DatasetDict(train=Dataset.from_list(GOOD[0])))
    with pytest.raises(InputError, match="preferences has no rows"):
        check_preferences(Dataset.from_list(GOOD[0]).select([]))


def test_aspects_asked_for():
    dataset = Dataset.from_list(GOOD[0])
    assert check_preferences(dataset, aspects=["x", "y"]) == ["x", "y"]
    with pytest.raises(InputError, match=r"\['y'\], which are not among the aspects \['x'\]: the first rows \[1\]"):
        check_preferences(dataset, aspects=["x"])
    with pytest.raises(InputError, match=r"Aspects \['z'\] have no rows"):
        check_preferences(dataset, aspects=["x", "y", "z"])
    relabelled = to_preferences(load_pairs(schemas.saferlhf()), relabel="mean")
    assert set(relabelled["aspect"]) == {"mean"}


def test_aspects_of_every_kind_of_data():
    pairs = load_pairs(schemas.own_columns())
    assert aspects_of(pairs) == aspects_of(to_preferences(pairs)) == check_pairs(pairs) == ["depth", "tone"]
    assert aspects_of(Dataset.from_list(GOOD[0])) == ["x", "y"]
    scored = Dataset.from_list([row() | {"reward_gap_y": 0.5, "pd": 1.0, "delta_length": 3}])
    assert aspects_of(scored) == ["x", "y"]
    assert aspects_of(to_preferences(pairs, relabel="overall")) == ["depth", "tone"]


def test_is_chat():
    assert is_chat(load_pairs(schemas.helpsteer3())) and not is_chat(load_pairs(schemas.own_columns()))
    with pytest.raises(InputError, match="'chosen' or 'response_a'"):
        is_chat(Dataset.from_list([{"x": 1}]))


def test_check_pairs_names_what_is_missing():
    pairs = load_pairs(schemas.own_columns())
    with pytest.raises(InputError, match="must have a label pref_<aspect>"):
        check_pairs(pairs.select_columns(["pair_id", "prompt", "response_a", "response_b"]))
    with pytest.raises(InputError, match=r"\['prompt'\] are missing"):
        check_pairs(pairs.remove_columns("prompt"))
