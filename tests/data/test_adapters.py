import json

import pytest
from datasets import Dataset

from pd_trl.data import ADAPTERS, aspects_of, check_pairs, is_chat, read_pairs
from pd_trl.data.adapters import recognize
from pd_trl.data.loading import load_pairs
from pd_trl.errors import InputError, InputTypeError

from . import schemas
from .schemas import assistant, user

CASES = [(name, index) for name, sources in schemas.SOURCES.items() for index in range(len(sources))]


def test_every_adapter_has_a_fixture():
    assert set(schemas.SOURCES) == set(ADAPTERS)


@pytest.mark.parametrize(("name", "index"), CASES)
@pytest.mark.parametrize("medium", ["memory", "parquet", "jsonl"])
def test_contract_of_every_adapter(name, index, medium, tmp_path):
    source = schemas.SOURCES[name][index]()
    path = tmp_path / f"data.{medium}"
    if medium == "memory":
        opened = source
    elif medium == "parquet":
        source.to_parquet(path)
        opened = path
    else:
        # Written as the Hub's own JSONL files are, one object a line.
        path.write_text("".join(json.dumps(row, allow_nan=True) + "\n" for row in _plain(source)))
        opened = path
    # JSON has no 32-bit integers, by which HelpSteer is told from HelpSteer2.
    adapter = "helpsteer" if name == "helpsteer" and medium == "jsonl" else None
    pairs, report = read_pairs(opened, adapter=adapter)
    assert report.adapter == name
    assert report.rows == len(source)
    assert report.formed == report.kept + sum(report.dropped.values()) == len(pairs)
    check_pairs(pairs)
    types = {name: str(feature) for name, feature in pairs.features.items()}
    assert pairs.column_names[:5] == ["pair_id", "prompt_id", "prompt", "response_a", "response_b"]
    for column in pairs.column_names:
        if column.startswith(("pref_", "rating_")):
            assert types[column] == "Value('float64')"
    assert len(set(pairs["pair_id"])) == len(pairs)
    assert any(column.startswith("pref_") for column in pairs.column_names)
    if is_chat(pairs):
        for row in pairs:
            assert row["prompt"][-1]["role"] == "user"
            assert [message["role"] for message in row["response_a"]] == ["assistant"]
            assert set(row["response_b"][0]) == {"role", "content"}
    # The same rows again, whatever they came from, have the same ids.
    assert list(pairs["pair_id"]) == list(load_pairs(source, adapter=adapter)["pair_id"])
    # Pairs are themselves a source: loading them again changes nothing.
    again = load_pairs(pairs)
    assert again.column_names == pairs.column_names
    assert again.to_list() == pairs.to_list()


def _plain(source: Dataset) -> list[dict]:
    rows = source.to_list()
    for row in rows:
        for key, value in row.items():
            if isinstance(value, float) and value != value:
                row[key] = None
    return rows


def test_ultrafeedback_pairs_ratings_and_counts():
    pairs, report = read_pairs(schemas.ultrafeedback())
    assert report.pairing == "all"
    assert report.skipped == {"prompts with fewer than two responses": 2}
    assert len(pairs) == 6 + 1
    assert aspects_of(pairs) == ["helpfulness", "honesty", "instruction_following", "truthfulness"]
    by_sides = {(row["response_a"], row["response_b"]): row for row in pairs}
    assert list(by_sides) == [
        ("alpha", "beta"),
        ("alpha", "gamma"),
        ("alpha", "delta"),
        ("beta", "gamma"),
        ("beta", "delta"),
        ("gamma", "delta"),
        ("one", "two"),
    ]
    row = by_sides["alpha", "gamma"]
    assert (row["rating_helpfulness_a"], row["rating_helpfulness_b"], row["pref_helpfulness"]) == (4, 5, 0.0)
    assert row["rating_honesty_b"] is None and row["pref_honesty"] is None  # "N/A"
    assert row["pref_instruction_following"] == row["pref_truthfulness"] == 1.0
    assert row["rating_overall_a"] == 7.5 and row["pref_overall"] is None
    assert (row["model_a"], row["model_b"], row["source"]) == ("llama-2-13b-chat", "ultralm-65b", "truthful_qa")
    assert row["fine-grained_score_a"] == 4.5
    assert by_sides["alpha", "delta"]["pref_helpfulness"] == 0.5
    assert by_sides["alpha", "delta"]["pref_truthfulness"] is None


def test_ultrafeedback_from_before_the_hub_has_the_same_ratings():
    now = load_pairs(schemas.ultrafeedback().select([0, 1]))
    before = load_pairs(schemas.ultrafeedback_before_the_hub())
    assert now.to_list() == before.select_columns(now.column_names).to_list()


@pytest.mark.parametrize(
    ("pairing", "expected"),
    [
        ("adjacent", [("alpha", "beta"), ("gamma", "delta"), ("one", "two")]),
        ("best_worst", [("beta", "delta"), ("one", "two")]),
    ],
)
def test_ultrafeedback_pairing_rules(pairing, expected):
    pairs = load_pairs(schemas.ultrafeedback(), pairing=pairing)
    assert list(zip(pairs["response_a"], pairs["response_b"], strict=True)) == expected


def test_ultrafeedback_warns_of_the_revision_before_the_fix(caplog):
    rows = schemas.ultrafeedback_rows()[:1]
    rows[0]["completions"][0] = schemas.completion("m", "bad", ("1", "1", "2", "1"), overall=10.0)
    load_pairs(Dataset.from_list(rows, features=schemas.ULTRAFEEDBACK_FEATURES))
    assert "40b436560ca83a8dba36114c22ab3c66e43f6d5e" in caplog.text
    caplog.clear()
    load_pairs(schemas.ultrafeedback())
    assert "revision" not in caplog.text


def test_ultrafeedback_rating_out_of_range_or_not_a_number():
    rows = schemas.ultrafeedback_rows()
    rows[0]["completions"][0] = schemas.completion("m", "r", ("7", "1", "2", "1"))
    with pytest.raises(InputError, match=r"rating_helpfulness_a.*\[1, 5\].*rows \[0, 1, 2\] hold \[7.0"):
        load_pairs(Dataset.from_list(rows, features=schemas.ULTRAFEEDBACK_FEATURES))
    rows[0]["completions"][0]["annotations"]["helpfulness"]["Rating"] = "four"
    with pytest.raises(InputTypeError, match=r"helpfulness.Rating.*rows \[0\] hold \['four'\]"):
        load_pairs(Dataset.from_list(rows, features=schemas.ULTRAFEEDBACK_FEATURES))


def test_json_files_whose_annotations_vary_in_type(tmp_path):
    rows = schemas.ultrafeedback_rows()[:2]
    annotations = rows[0]["completions"][0]["annotations"]
    annotations["helpfulness"] = [annotations["helpfulness"] | {"Type": "None"}]
    annotations["truthfulness"]["Type"] = None
    rows[0]["completions"][1]["annotations"]["honesty"]["Rating"] = 5
    path = tmp_path / "uf.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    expected = load_pairs(schemas.ultrafeedback().select([0, 1]))
    # Reading JSON, `datasets` rounds floats to ten digits.
    expected = expected.remove_columns(["fine-grained_score_a", "fine-grained_score_b"])
    assert load_pairs(path).select_columns(expected.column_names).to_list() == expected.to_list()


def test_helpsteer_groups_by_prompt_even_when_rows_are_apart():
    pairs, report = read_pairs(schemas.helpsteer(first_version=True))
    assert report.skipped == {"prompts with fewer than two responses": 1}
    assert list(zip(pairs["response_a"], pairs["response_b"], strict=True)) == [
        ("a class", "a struct"),
        ("a class", "an enum"),
        ("a struct", "an enum"),
        ("more", "much more"),
    ]
    assert list(pairs["pref_helpfulness"]) == [0.0, 1.0, 1.0, 0.0]
    assert not is_chat(pairs)


def test_helpsteer2_pair_rows_and_multi_turn_prompts():
    pairs, report = read_pairs(schemas.helpsteer())
    assert report.pairing == "adjacent"
    assert len(pairs) == 2
    # One marked prompt makes the whole set conversational.
    assert pairs[0]["prompt"] == [user("c#")]
    assert pairs[1]["prompt"] == [user("Hi"), assistant("Hello!"), user("Tell me more")]
    assert pairs[1]["response_b"] == [assistant("much more")]
    assert pairs[0]["rating_correctness_a"] == 4 and pairs[0]["pref_correctness"] == 0.5
    assert not is_chat(load_pairs(schemas.helpsteer().select([0, 1])))


def test_helpsteer2_rows_that_are_no_longer_aligned():
    shifted = schemas.helpsteer().select([1, 2, 3])
    with pytest.raises(InputError, match="rows 0 and 1.*pairing='all'"):
        load_pairs(shifted)
    assert len(load_pairs(shifted, pairing="all")) == 1


def test_helpsteer2_row_without_a_partner_is_counted():
    pairs, report = read_pairs(schemas.helpsteer().select([0, 1, 2]))
    assert len(pairs) == 1
    assert report.skipped == {"prompts with fewer than two responses": 1}


@pytest.mark.parametrize(("split", "strengths"), [("train", [-3, 0, 2, -100]), ("val", [1]), ("validation", [1])])
def test_helpsteer2_preference_reads_the_split_column(split, strengths):
    pairs, report = read_pairs(schemas.helpsteer2_preference(), split=split)
    assert list(pairs["preference_strength"]) == strengths
    meaning = {-3: 1.0, 0: 0.5, 2: 0.0, 1: 0.0, -100: None}
    assert list(pairs["pref_overall"]) == [meaning[strength] for strength in strengths]
    assert sum(report.skipped.values()) == 5 - len(strengths)
    assert aspects_of(pairs) == []


def test_preference_strength_out_of_range():
    rows = [row | {"preference_strength": 4} for row in schemas.helpsteer2_preference().to_list()]
    with pytest.raises(InputError, match=r"preference_strength.*\[-3, 3\]"):
        load_pairs(Dataset.from_list(rows))


def test_helpsteer3_is_conversational_with_an_overall_label():
    pairs = load_pairs(schemas.helpsteer3())
    assert list(pairs["pref_overall"]) == [1.0, 0.5, 0.0]
    assert pairs[1]["prompt"] == [user("Hi"), assistant("Hello"), user("Bye")]
    assert pairs[0]["response_a"] == [assistant("one 0")]
    assert pairs[0]["individual_preference"] == [{"score": -2, "reasoning": "why"}]


def test_saferlhf_has_two_aspects_and_sides_of_the_rest():
    pairs = load_pairs(schemas.saferlhf())
    assert aspects_of(pairs) == ["helpfulness", "safety"]
    assert list(pairs["pref_helpfulness"]) == [1.0, 1.0, 0.0, 0.0]
    assert list(pairs["pref_safety"]) == [1.0, 0.0, 1.0, 0.0]
    row = pairs[1]
    assert (row["severity_level_a"], row["severity_level_b"]) == (3, 0)
    assert (row["is_safe_a"], row["is_safe_b"]) == (False, True)
    assert row["harm_category_a"] == dict.fromkeys(schemas.HARMS, True)
    assert row["source_b"] == "alpaca-1" and row["prompt_source"] == "generated"


def test_saferlhf_single_dimension_has_the_overall_label_only():
    pairs = load_pairs(schemas.saferlhf_single_dimension())
    assert aspects_of(pairs) == []
    assert list(pairs["pref_overall"]) == [1.0, 1.0, 0.0, 0.0]


def test_saferlhf_wrong_id():
    rows = [row | {"safer_response_id": 2} for row in schemas.saferlhf().to_list()]
    with pytest.raises(InputError, match=r"safer_response_id.*must be 0 or 1.*rows \[0, 1, 2, 3\]"):
        load_pairs(Dataset.from_list(rows))


def test_binarized_scores_make_ties_and_do_not_reverse_the_sides(caplog):
    pairs = load_pairs(schemas.trl_binarized())
    assert list(pairs["pref_overall"]) == [1.0, 0.5, 1.0, 0.5]
    assert pairs[2]["rating_overall_a"] < pairs[2]["rating_overall_b"] and "The labels are kept" in caplog.text
    assert set(pairs["label_aspect"]) == {"overall"}
    assert pairs[1]["prompt"] == [user("Hi"), assistant("Hello"), user("question 1")]
    assert pairs[1]["response_a"] == [assistant("good 1")]
    # Identical conversations still leave their last message as the response.
    assert pairs[3]["prompt"] == [user("same?")] and pairs[3]["response_b"] == [assistant("same")]


@pytest.mark.parametrize("sides", [("chosen", "rejected"), ("a", "b")])
def test_binarized_with_a_score_and_an_overall_rating(sides):
    rows = [{"prompt": f"q{i}", "chosen": f"x{i}", "rejected": f"y{i}"} for i in range(2)]
    scores = [{"score_chosen": 5.0, "score_rejected": 1.0}, {"score_chosen": 3.0, "score_rejected": 3.0}]
    rated = [dict(zip((f"rating_overall_{side}" for side in sides), pair, strict=True)) for pair in [(4, 4), (2, 3)]]
    pairs = load_pairs(Dataset.from_list([a | b | c for a, b, c in zip(rows, scores, rated, strict=True)]))
    # Equal overall ratings are a tie, equal scores are none, and the order of the source is the label.
    assert pairs["pref_overall"][:] == [0.5, 1.0]
    assert pairs["rating_overall_b"][:] == [4.0, 3.0] and pairs["score_a"][:] == [5.0, 3.0]
    assert not any(name.endswith(("chosen", "rejected")) for name in pairs.column_names)


def test_binarized_variants():
    h4 = load_pairs(schemas.h4_binarized())
    assert list(h4["prompt_id"]) == ["id0", "id1", "id2"]
    assert "messages" not in h4.column_names
    assert h4[1]["prompt"][0] == user("Hi")
    assert list(load_pairs(schemas.skywork())["pref_overall"]) == [1.0, 1.0, 1.0]
    argilla = load_pairs(schemas.argilla_binarized())
    assert argilla[0]["prompt"] == "do 0" and argilla[0]["rating_overall_b"] == 1.25
    assert (argilla[0]["model_a"], argilla[0]["model_b"]) == ("gpt-4", None)
    cleaned = load_pairs(schemas.argilla_cleaned())
    assert (cleaned[0]["model_a"], cleaned[0]["model_b"]) == ("gpt-4", "alpaca-7b")


def test_pairing_is_refused_where_rows_are_pairs():
    with pytest.raises(InputError, match="one pair already"):
        load_pairs(schemas.skywork(), pairing="all")
    with pytest.raises(InputError, match="'best_worst'"):
        load_pairs(schemas.helpsteer(), pairing="bestworst")


def test_hub_id_decides_between_helpsteer_versions():
    fields = {field.name: field.type for field in schemas.helpsteer().features.arrow_schema}
    assert recognize(fields, "nvidia/HelpSteer", "x").name == "helpsteer"
    assert recognize(fields, "nvidia/helpsteer2", "x").name == "helpsteer2"
    assert recognize(fields, None, "x").name == "helpsteer2"


def test_unknown_schema_lists_columns_and_the_closest():
    dataset = Dataset.from_list([{"prompt": "p", "response_0": "a", "response_1": "b", "winner": 1}])
    with pytest.raises(InputError, match=r"\['prompt', 'response_0', 'response_1', 'winner'\].*'saferlhf'") as error:
        load_pairs(dataset)
    assert "column_mapping={'prompt': '<column>'" in str(error.value)


def test_ambiguous_schema():
    dataset = Dataset.from_list(
        [{"prompt": "p", "response_a": "a", "response_b": "b", "pref_x": 1.0, "chosen": "a", "rejected": "b"}]
    )
    with pytest.raises(InputError, match="several adapters: binarized, columns"):
        load_pairs(dataset)
    assert len(load_pairs(dataset, adapter="columns")) == 1


def test_unknown_adapter():
    with pytest.raises(InputError, match="Did you mean 'ultrafeedback'"):
        load_pairs(schemas.skywork(), adapter="ultrafeedbck")


@pytest.mark.parametrize("name", [name for name in ADAPTERS if name != "columns"])
def test_wrong_adapter_names_the_missing_columns(name):
    with pytest.raises(InputError, match="must have"):
        load_pairs(Dataset.from_list([{"question": "p", "answer": "a"}]), adapter=name)


def test_rated_responses_have_the_better_one_as_chosen():
    pairs, report = read_pairs(schemas.rated_on_the_whole())
    assert report.skipped == {"prompts with fewer than two responses": 1}
    sides = list(zip(pairs["response_a"], pairs["response_b"], strict=True))
    assert sides == [("high", "low"), ("x", "y"), ("z", "x"), ("z", "y"), ("known", "unknown")]
    assert list(pairs["pref_overall"]) == [1, 0.5, 1, 1, None]
    assert list(pairs["label_aspect"]) == ["overall"] * 4 + [None]
    assert list(pairs["rating_depth_a"]) == [1, 2, 3, 3, None] and list(pairs["pref_tone"]) == [1, 0.5, 1, 1, 1]
    assert list(pairs["model_a"]) == ["m-high", "m-x", "m-z", "m-z", "m-known"]
    assert set(pairs["topic_a"]) == {"t"} and set(pairs["prompt_id"]) == {"id-p0", "id-p1", "id-p2"}
    best = load_pairs(schemas.rated_on_the_whole(), pairing="best_worst")
    assert [row["response_a"] for row in best] == ["high", "z"]


def test_rated_responses_without_an_overall_rating_have_no_label_of_their_own():
    rows = schemas.rated_on_the_whole().to_list()
    for row in rows:
        row["responses"] = [{k: v for k, v in entry.items() if k != "overall"} for entry in row["responses"]]
    pairs = load_pairs(Dataset.from_list(rows))
    assert "label_aspect" not in pairs.column_names and list(pairs["response_a"])[:2] == ["low", "x"]


def test_ratings_of_responses_that_cannot_be_read():
    rows = [{"prompt": "p", "responses": [{"response": name, "ratings": 3, "overall": 1} for name in "ab"]}]
    with pytest.raises(InputError, match=r"responses\[\]\.ratings must map aspects to numbers"):
        load_pairs(Dataset.from_list(rows))
    for entry in rows[0]["responses"]:
        entry["ratings"] = {"depth": "deep"}
    with pytest.raises(InputError, match=r"ratings\.depth"):
        load_pairs(Dataset.from_list(rows))
