import pytest
from datasets import ClassLabel, Dataset, Features, Value

from pd_trl.data import aspects_of, load_pairs
from pd_trl.errors import InputError, InputTypeError

ROWS = [
    {"q": "p0", "left": "x", "right": "y", "h1": 4, "h2": 2, "safe": "1", "win": "good", "lose": "bad", "kind": "h"},
    {
        "q": "p1",
        "left": "u",
        "right": "v",
        "h1": 1,
        "h2": 1,
        "safe": "N/A",
        "win": "fine",
        "lose": "poor",
        "kind": "s",
    },
]
MAPPING = {
    "prompt": "q",
    "response_a": "left",
    "response_b": "right",
    "rating_help_a": "h1",
    "rating_help_b": "h2",
    "pref_safe": "safe",
}


def test_mapping_renames_and_other_columns_survive():
    pairs = load_pairs(Dataset.from_list(ROWS), column_mapping=MAPPING)
    assert aspects_of(pairs) == ["help", "safe"]
    assert list(pairs["pref_help"]) == [1.0, 0.5]
    assert list(pairs["pref_safe"]) == [1.0, None]
    assert list(pairs["prompt"]) == ["p0", "p1"]
    assert list(pairs["win"]) == ["good", "fine"] and list(pairs["kind"]) == ["h", "s"]


def test_chosen_and_rejected_give_the_overall_label():
    mapping = {"prompt": "q", "chosen": "win", "rejected": "lose"}
    pairs = load_pairs(Dataset.from_list(ROWS), column_mapping=mapping)
    assert list(pairs["response_a"]) == ["good", "fine"]
    assert list(pairs["pref_overall"]) == [1.0, 1.0]
    rated = load_pairs(Dataset.from_list(ROWS), column_mapping=mapping | {"rating_x_chosen": "h1", "rating_x_b": "h2"})
    assert list(rated["pref_x"]) == [1.0, 0.5] and list(rated["pref_overall"]) == [1.0, 1.0]
    assert set(rated["label_aspect"]) == {"overall"}


def test_chosen_and_rejected_with_an_aspect_give_that_label():
    pairs = load_pairs(
        Dataset.from_list(ROWS), column_mapping={"prompt": "q", "chosen": "win", "rejected": "lose", "aspect": "kind"}
    )
    assert list(pairs["pref_h"]) == [1.0, None]
    assert list(pairs["pref_s"]) == [None, 1.0]
    assert "aspect" not in pairs.column_names
    own = [{"prompt": r["q"], "chosen": r["win"], "rejected": r["lose"], "aspect": r["kind"]} for r in ROWS]
    assert load_pairs(Dataset.from_list(own)).select_columns(["pair_id", "pref_h", "pref_s"]).to_list() == (
        pairs.select_columns(["pair_id", "pref_h", "pref_s"]).to_list()
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompt": "qq"}, "maps 'prompt' to 'qq', which is not a column. Did you mean 'q'"),
        ({"respons_a": "left"}, "unknown name 'respons_a'. Did you mean 'response_a'"),
        ({"chosen": "win"}, "gives 'response_a' twice"),
    ],
)
def test_wrong_mappings(change, message):
    with pytest.raises(InputError, match=message):
        load_pairs(Dataset.from_list(ROWS), column_mapping=MAPPING | change)


def test_one_rating_column_of_two():
    mapping = {name: column for name, column in MAPPING.items() if name != "rating_help_b"}
    with pytest.raises(InputError, match="'rating_help_a' has no counterpart 'rating_help_b'"):
        load_pairs(Dataset.from_list(ROWS), column_mapping=mapping)


def test_no_labels_no_responses_no_prompt():
    with pytest.raises(InputError, match="no labels"):
        load_pairs(
            Dataset.from_list(ROWS), column_mapping={"prompt": "q", "response_a": "left", "response_b": "right"}
        )
    with pytest.raises(InputError, match=r"must have the columns \['response_b'\]"):
        load_pairs(Dataset.from_list(ROWS), column_mapping={"prompt": "q", "response_a": "left"})
    with pytest.raises(InputError, match="no prompt"):
        load_pairs(Dataset.from_list(ROWS), column_mapping={"chosen": "win", "rejected": "lose"})


def test_mapping_of_the_wrong_type():
    with pytest.raises(InputTypeError, match="must be a dictionary"):
        load_pairs(Dataset.from_list(ROWS), column_mapping=[("prompt", "q")])
    with pytest.raises(InputTypeError, match="strings to strings"):
        load_pairs(Dataset.from_list(ROWS), column_mapping=MAPPING | {"pref_safe": 3})
    with pytest.raises(InputError, match="needs adapter='columns'"):
        load_pairs(Dataset.from_list(ROWS), column_mapping=MAPPING, adapter="binarized")


def test_a_column_that_collides_is_left_out_and_named(caplog):
    caplog.set_level("INFO")
    rows = [row | {"prompt": "another"} for row in ROWS]
    pairs = load_pairs(Dataset.from_list(rows), column_mapping=MAPPING)
    assert list(pairs["prompt"]) == ["p0", "p1"]
    assert "not passed through: prompt" in caplog.text


def test_features_of_other_columns_survive():
    features = Features({**dict.fromkeys(("prompt", "response_a", "response_b"), Value("string"))})
    features |= {"pref_x": Value("float64"), "domain": ClassLabel(names=["code", "math"])}
    row = {"prompt": "p", "response_a": "a", "response_b": "b", "pref_x": 1.0, "domain": 1}
    pairs = load_pairs(Dataset.from_list([row], features=Features(features)))
    assert pairs.features["domain"].int2str(pairs[0]["domain"]) == "math"


def test_preferences_are_not_pairs():
    row = {"prompt": "p", "chosen": "a", "rejected": "b", "aspect": "x", "vote_x": 1}
    with pytest.raises(InputError, match="preference data already"):
        load_pairs(Dataset.from_list([row]))


def test_mean_is_reserved():
    row = {"prompt": "p", "response_a": "a", "response_b": "b", "pref_mean": 1.0}
    with pytest.raises(InputError, match="reserved"):
        load_pairs(Dataset.from_list([row]))


def test_ratings_named_by_the_sides_chosen_and_rejected():
    rows = [
        {"prompt": f"q{i}", "chosen": f"yes {i}", "rejected": f"no {i}", "rating_clarity_chosen": 4.0 + i % 2, "rating_clarity_rejected": 4.5}
        for i in range(4)
    ]  # fmt: skip
    pairs = load_pairs(Dataset.from_list(rows))
    assert pairs["rating_clarity_a"][:] == [4.0, 5.0, 4.0, 5.0] and pairs["pref_clarity"][:] == [0.0, 1.0, 0.0, 1.0]
    assert pairs["response_a"][:] == [row["chosen"] for row in rows] and set(pairs["pref_overall"]) == {1.0}
    renamed = Dataset.from_list(rows).rename_column("rating_clarity_chosen", "c")
    mapping = {"rating_clarity_a": "c", "rating_clarity_b": "rating_clarity_rejected"}
    mapped = load_pairs(renamed, column_mapping=mapping)
    assert mapped["pref_clarity"][:] == pairs["pref_clarity"][:]
