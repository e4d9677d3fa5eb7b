import pytest
import torch

from pd_trl import load_pairs, rate_pairs
from pd_trl.errors import InputError
from pd_trl.rating.local_judge import local_judge
from pd_trl.rating.questions import PREFERENCES, Question
from pd_trl.runs.row_log import MemoryLog
from tests.rating.scripted import write_pairs
from tests.rating.tiny_judge import tiny_judge

LEVELS = {"1": 1.0, "2": 2.0, "5": 5.0}


@pytest.fixture(scope="module")
def model():
    """A model whose tokenizer knows digits and letters."""
    return tiny_judge()


def questions(*texts, scale=LEVELS):
    return {text: Question(text, scale, "x") for text in texts}


def test_rating_is_the_expected_level_by_the_models_probabilities(model):
    network, tokenizer = model
    judge = local_judge(model, batch_size=2)
    asked = questions("rate this good", "bad", "rate rate rate bad good good")
    found = dict(judge.answers(asked, MemoryLog()))
    for text, answer in found.items():
        ids = tokenizer(f"{text}\n\nAnswer:", return_tensors="pt")["input_ids"]
        with torch.no_grad():
            shares = torch.softmax(network(ids).logits[0, -1].float(), dim=-1)
        levels = {label: float(shares[tokenizer.convert_tokens_to_ids(label)]) for label in LEVELS}
        expected = sum(LEVELS[label] * share for label, share in levels.items()) / sum(levels.values())
        assert answer.expected and answer.value == pytest.approx(expected, abs=1e-5)


def test_answers_in_the_log_are_not_computed_again(model):
    judge, log = local_judge(model), MemoryLog()
    asked = questions("good", "bad")
    first = dict(judge.answers(asked, log))
    assert set(log.rows) == set(asked)
    judge.__dict__["_model"] = None  # what is known needs no model
    assert dict(judge.answers(asked, log)) == first


def test_preferences_and_missing_tokens(model):
    judge = local_judge(model)
    (answer,) = dict(judge.answers(questions("good", scale=PREFERENCES), MemoryLog())).values()
    assert 0 < answer.value < 1
    with pytest.raises(InputError, match="'7'"):
        list(judge.answers(questions("good", scale={"1": 1.0, "7": 7.0}), MemoryLog()))


def test_questions_longer_than_the_model_are_counted(model):
    judge = local_judge(model)
    found = dict(judge.answers(questions("good " * 600, "bad"), MemoryLog()))
    reasons = [answer.reason for answer in found.values()]
    assert sorted(map(bool, reasons)) == [False, True] and "512 positions" in next(filter(None, reasons))


def test_pairs_are_rated_by_a_model_in_memory(model, tmp_path):
    pairs = load_pairs(write_pairs(tmp_path / "pairs.jsonl", 4))
    rubric = {"aspects": {"depth": {"question": "rate this", "levels": {1: "bad", 5: "good"}}}}
    judge = local_judge(model)
    rated = rate_pairs(pairs, judge=judge, rubric=rubric, output_dir=tmp_path / "out")
    assert all(1 <= row["rating_depth_a"] <= 5 for row in rated)
    assert judge.identity["kind"] == "local" and len(judge.identity["model"]) > 10
