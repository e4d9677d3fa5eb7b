import json

import pytest
from datasets import Dataset

from pd_trl.errors import InputError
from pd_trl.evaluation.alpaca.outputs import align, read_outputs, read_reference
from tests.evaluation.alpaca.recorded import made_up


def rows(*pairs: tuple[str, str], generator: str = "model") -> list[dict[str, str]]:
    return [{"instruction": i, "output": o, "generator": generator} for i, o in pairs]


def aligned(model, reference, **settings):
    return align(read_outputs(model, "model outputs"), read_reference(reference), **settings)


def test_pairs_by_instruction_whatever_the_order():
    model = rows(("b", "model b"), ("a", "model a"))
    reference = rows(("a", "reference a"), ("b", "reference b"), generator="reference")
    pairs = {row["instruction"]: (row["output_1"], row["output_2"]) for row in aligned(model, reference).rows}
    assert pairs == {"a": ("reference a", "model a"), "b": ("reference b", "model b")}
    assert aligned(model[::-1], reference[::-1]).rows == aligned(model, reference).rows


def test_spaces_and_line_ends_do_not_matter():
    found = aligned(rows(("do this \r\nnow", "x")), rows(("do  this\nnow ", "y")))
    assert found.rows[0]["instruction"] == "do  this\nnow " and not any(found.problems.values())


def test_problems_are_counted():
    model = rows(("a", "1"), ("a", "2"), ("b", "  "), ("x", "3"), ("c", "4"))
    reference = rows(("a", "r"), ("b", "r"), ("c", ""), ("d", "r"))
    found = aligned(model, reference)
    assert found.problems == {"missing": 1, "extra": 1, "duplicate": 1, "empty": 1, "empty in the reference": 1}
    assert found.num_instructions == 4 and found.rows[0]["output_2"] == "1"
    assert aligned(model, reference, subset=True).problems["missing"] == 0


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda model: model[:-1], "1 missing.*Generate them, or pass `subset`"),
        (lambda model: [*model, {**model[0], "instruction": "another"}], "1 extra"),
        (lambda model: [*model, model[0]], "1 duplicate"),
        (lambda model: [{**model[0], "output": ""}, *model[1:]], "1 empty"),
        (lambda model: [{**model[0], "output": None}, *model[1:]], "1 empty"),
    ],
)
def test_problems_are_refused_over_the_share(change, words, evaluate):
    recorded = made_up(20)
    recorded.model = change(recorded.model)
    with pytest.raises(InputError, match=f"{words}") as failure:
        evaluate(recorded, annotations=recorded.annotations)
    assert "largest allowed share is 0.01" in str(failure.value)
    result = evaluate(recorded, annotations=recorded.annotations, max_problem_share=0.05)
    assert sum(result.problems.values()) >= 1


@pytest.mark.parametrize(
    "model, words",
    [
        ([], "have no rows"),
        ([{"instruction": "a"}], "Row 0 .* lacks output; it has instruction"),
        ([{"prompt": "a", "output": "b"}], "lacks instruction"),
        ([{"instruction": "a", "output": ["b"]}], "must have a text as `output`"),
        ([{"instruction": " ", "output": "b"}], "must have a text as `instruction`"),
        ([{"instruction": "a", "output": "b", "generator": g} for g in "xy"], "from 2 models"),
        (["text"], "Row 0 .* must be a mapping"),
        ({"instruction": "a"}, "must be a list of rows"),
        (rows(("other", "x")), "None of the 1 instructions"),
        ("/nowhere/outputs.json", "do not exist"),
    ],
)
def test_bad_outputs(model, words):
    with pytest.raises(InputError, match=words):
        aligned(model, rows(("a", "r")))


def test_sources_are_alike(tmp_path):
    recorded = made_up(5).model
    (tmp_path / "model_outputs.json").write_text(json.dumps(recorded))
    (tmp_path / "outputs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in recorded))
    expected = read_outputs(recorded, "model outputs")
    frame = Dataset.from_list(recorded).to_pandas()
    for source in (
        tmp_path,
        tmp_path / "model_outputs.json",
        tmp_path / "outputs.jsonl",
        Dataset.from_list(recorded),
        frame,
    ):
        found = read_outputs(source, "model outputs")
        assert (found.outputs, found.generator) == (expected.outputs, "model")
    assert read_outputs(recorded, "model outputs", "renamed").generator == "renamed"


def test_reference_needs_the_hub_or_its_cache(evaluate):
    with pytest.raises(InputError, match="alpaca_eval_gpt4_baseline.json .* is not at hand"):
        read_reference(None)
