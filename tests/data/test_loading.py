import math
import random

import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from pd_trl.data import load_pairs, read_pairs
from pd_trl.data.loading import resolve
from pd_trl.errors import InputError, InputTypeError

from . import schemas
from .schemas import assistant, user


def pair(**changes):
    return {"prompt": "p", "response_a": "a", "response_b": "b", "pref_x": 1.0} | changes


def chat(prompt, first="a", second="b"):
    return pair(prompt=prompt, response_a=[assistant(first)], response_b=[assistant(second)])


def test_nan_is_null_and_infinity_an_error():
    pairs = load_pairs(schemas.own_columns())
    assert list(pairs["rating_depth_a"]) == [1.0, 3.0, None, None]
    assert list(pairs["pref_depth"]) == [0.0, 0.5, None, None]
    rows = [pair(rating_y_a=1.0, rating_y_b=2.0), pair(rating_y_a=math.inf, rating_y_b=2.0)]
    with pytest.raises(InputError, match=r"'rating_y_a' must hold finite.*rows \[1\]"):
        load_pairs(Dataset.from_list(rows))


@pytest.mark.parametrize("value", [2.0, -1.0, 0.3])
def test_preference_codes(value):
    with pytest.raises(InputError, match=rf"'pref_x' must be 1 \(a better\).*rows \[1\] hold \[{value}\]"):
        load_pairs(Dataset.from_list([pair(), pair(pref_x=value)]))


def test_ratings_of_the_wrong_type():
    with pytest.raises(InputTypeError, match=r"'pref_x' must hold numbers.*rows \[0\] hold \['left'\]"):
        load_pairs(Dataset.from_list([pair(pref_x="left")]))
    with pytest.raises(InputTypeError, match="'rating_y_a' must hold numbers.*its type is list"):
        load_pairs(Dataset.from_list([pair(rating_y_a=[1.0], rating_y_b=[2.0])]))


def test_rating_range():
    dataset = Dataset.from_list([pair(rating_y_a=1.0, rating_y_b=9.0)])
    assert len(load_pairs(dataset)) == 1
    with pytest.raises(InputError, match=r"'rating_y_b' must lie in \[1, 5\].*rows \[0\] hold \[9.0\]"):
        load_pairs(dataset, rating_range=(1, 5))


def test_label_against_the_ratings_is_kept_with_a_warning(caplog):
    pairs = load_pairs(Dataset.from_list([pair(rating_x_a=1.0, rating_x_b=2.0)]))
    assert list(pairs["pref_x"]) == [1.0]
    assert "1 rows of 'pref_x' prefer the response with the lower rating" in caplog.text


INVALID = [
    (pair(prompt=None), "prompt is null"),
    (pair(prompt="  "), "prompt is empty"),
    (pair(response_a=None), "response_a is null"),
    (pair(response_b="\n"), "response_b is empty"),
    (chat([]), "prompt has no messages"),
    (chat(None), "prompt is null"),
    (chat([user("p"), {"role": "narrator", "content": "x"}, user("q")]), "prompt has a role other than system"),
    (chat([assistant("hello"), user("p")]), "prompt starts with the assistant"),
    (chat([{"role": "system", "content": "s"}, assistant("hello"), user("p")]), "prompt starts with the assistant"),
    (chat([user("p"), assistant("x")]), "prompt does not end with a user"),
    (chat([user(None), user("p")]), "prompt has a message without content"),
    (chat([user("p")], first=" "), "response_a is empty"),
    (chat([user("p")]) | {"response_b": [assistant("x"), assistant("y")]}, "response_b is not a single assistant"),
]


@pytest.mark.parametrize(("bad", "reason"), INVALID)
def test_invalid_rows_are_an_error_or_dropped_with_a_count(bad, reason):
    good = chat([user("fine")]) if isinstance(bad["response_a"], list) else pair()
    dataset = Dataset.from_list([good, bad, good, bad])
    with pytest.raises(InputError, match=rf"{reason}.*2 of 4 pairs, the first pairs \[1, 3\].*on_invalid='drop'"):
        load_pairs(dataset)
    pairs, report = read_pairs(dataset, on_invalid="drop")
    assert len(pairs) == report.kept == 2 and report.formed == 4
    assert sum(report.dropped.values()) == 2 and next(iter(report.dropped)).startswith(reason)
    with pytest.raises(InputError, match="No pair of"):
        load_pairs(Dataset.from_list([bad]), on_invalid="drop")


def test_chat_without_a_prompt():
    rows = [{"response_a": [assistant("a")], "response_b": [assistant("b")], "pref_x": 1.0}]
    with pytest.raises(InputError, match="chat data have no prompt"):
        load_pairs(Dataset.from_list(rows))
    different = [{"chosen": [user("p"), assistant("a")], "rejected": [user("q"), assistant("b")]}]
    with pytest.raises(InputError, match="prompt has no messages: 1 of 1"):
        load_pairs(Dataset.from_list(different))


def test_mixed_columns():
    with pytest.raises(InputError, match="one response column holds strings, the other messages"):
        load_pairs(Dataset.from_list([pair(response_b=[assistant("b")])]))
    with pytest.raises(InputTypeError, match="'response_a' must hold strings.*its type is int64"):
        load_pairs(Dataset.from_list([pair(response_a=3)]))
    # A prompt and responses of different kinds are made alike.
    assert load_pairs(Dataset.from_list([chat("p")]))[0]["prompt"] == [user("p")]
    assert load_pairs(Dataset.from_list([pair(prompt=[user("p")])]))[0]["response_a"] == [assistant("a")]


def test_given_ids_are_kept_and_checked():
    rows = [pair(pair_id=7, prompt_id="x"), pair(pair_id=8, prompt_id=None)]
    pairs = load_pairs(Dataset.from_list(rows))
    assert list(pairs["pair_id"]) == ["7", "8"]
    assert pairs[0]["prompt_id"] == "x" and len(pairs[1]["prompt_id"]) == 16
    with pytest.raises(InputError, match=r"'pair_id' must be unique.*'7' is in rows \[0, 1\]"):
        load_pairs(Dataset.from_list([pair(pair_id="7"), pair(pair_id="7")]))
    with pytest.raises(InputError, match=r"'pair_id' must not be null.*rows \[1\]"):
        load_pairs(Dataset.from_list([pair(pair_id="7"), pair(pair_id=None)]))


def test_ids_of_exact_duplicates():
    pairs = load_pairs(Dataset.from_list([pair(), pair(response_a="c"), pair(), pair()]))
    first = pairs[0]["pair_id"]
    assert len(first) == 16 and int(first, 16) >= 0
    assert list(pairs["pair_id"])[2:] == [f"{first}-1", f"{first}-2"]
    assert len(set(pairs["prompt_id"])) == 1


def test_identical_responses_are_kept_and_counted(caplog):
    pairs, report = read_pairs(Dataset.from_list([pair(), pair(response_b="a")]))
    assert len(pairs) == 2 and report.identical == 1
    assert "1 pairs have two identical responses" in caplog.text


def test_aspect_without_labels_is_reported(caplog):
    _, report = read_pairs(Dataset.from_list([pair(pref_y=None), pair(pref_y=None)]))
    assert report.labelled == {"x": 2, "y": 0}
    assert "aspect 'y' has no labelled pair" in caplog.text


def test_unknown_on_invalid():
    with pytest.raises(InputError, match="on_invalid must be"):
        load_pairs(schemas.own_columns(), on_invalid="ignore")


TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Z", "C"]), min_size=1, max_size=4)


@settings(max_examples=25, deadline=None)
@given(
    rows=st.lists(st.tuples(TEXT, TEXT, TEXT, st.sampled_from([0.0, 0.5, 1.0])), min_size=1, max_size=12),
    repeats=st.integers(1, 3),
    seed=st.integers(0, 99),
)
def test_ids_do_not_depend_on_the_order_of_the_rows(rows, repeats, seed):
    names = ("prompt", "response_a", "response_b", "pref_x")
    records = [dict(zip(names, row, strict=True)) for row in rows * repeats]
    shuffled = random.Random(seed).sample(records, len(records))

    def content(records):
        pairs = load_pairs(Dataset.from_list(records))
        assert len(set(pairs["pair_id"])) == len(records)
        return sorted(tuple(row.values()) for row in pairs)

    assert content(records) == content(shuffled)


@settings(max_examples=25, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 5), min_size=1, max_size=8),
    pairing=st.sampled_from(["all", "adjacent", "best_worst", "random"]),
)
def test_pairing_counts(sizes, pairing):
    rows = schemas.ultrafeedback_rows()[:1] * len(sizes)
    rows = [
        row
        | {
            "completions": [
                schemas.completion("m", f"r{i}{j}", (str(j % 5 + 1), "1", "1", "1"), None) for j in range(n)
            ]
        }
        for i, (row, n) in enumerate(zip(rows, sizes, strict=True))
    ]
    dataset = Dataset.from_list(rows, features=schemas.ULTRAFEEDBACK_FEATURES)
    expected = {
        "all": sum(n * (n - 1) // 2 for n in sizes),
        "adjacent": sum(n // 2 for n in sizes),
        "best_worst": sum(n > 1 for n in sizes),
        "random": sum(n > 1 for n in sizes),
    }[pairing]
    if expected == 0:
        with pytest.raises(InputError, match="gives no pairs"):
            load_pairs(dataset, pairing=pairing)
        return
    pairs, report = read_pairs(dataset, pairing=pairing)
    assert len(pairs) == expected
    sides = set(zip(pairs["response_a"], pairs["response_b"], strict=True))
    assert len(sides) == expected and all(a[1] == b[1] and a < b for a, b in sides)
    assert report.skipped.get("prompts with fewer than two responses", 0) == sum(n < 2 for n in sizes)
    if pairing == "random":
        assert load_pairs(dataset, pairing=pairing).to_list() == pairs.to_list()
    if pairing == "best_worst":
        assert all(row["rating_helpfulness_a"] != row["rating_helpfulness_b"] for row in pairs)


def test_random_pairing_depends_on_the_seed_and_not_on_the_order():
    rows = [row | {"instruction": f"i{n}"} for n in range(20) for row in schemas.ultrafeedback_rows()[:1]]
    dataset = Dataset.from_list(rows, features=schemas.ULTRAFEEDBACK_FEATURES)

    def sides(dataset, seed):
        pairs = load_pairs(dataset, pairing="random", seed=seed)
        return dict(zip(pairs["prompt"], zip(pairs["response_a"], pairs["response_b"], strict=True), strict=True))

    assert sides(dataset, 1) == sides(dataset.shuffle(seed=3), 1)
    assert sides(dataset, 1) != sides(dataset, 2)
    assert len(set(sides(dataset, 1).values())) > 3


@pytest.mark.parametrize(
    ("name", "config", "split", "kwargs", "hub_split"),
    [
        ("HuggingFaceH4/ultrafeedback_binarized", None, "train[:10%]", {}, "train_prefs[:10%]"),
        ("HuggingFaceH4/ultrafeedback_binarized", None, "test_sft", {}, None),
        ("nvidia/HelpSteer2", None, "validation", {}, None),
        ("nvidia/HelpSteer2", "preference", "validation", {"data_dir": "preference"}, "train"),
        ("nvidia/HelpSteer2", "preference", "train", {"data_dir": "preference"}, None),
        ("some/dataset", None, "train", {}, None),
    ],
)
def test_what_the_hub_is_asked_for(name, config, split, kwargs, hub_split):
    assert resolve(name, None, config, None, split) == (None, kwargs, hub_split)
