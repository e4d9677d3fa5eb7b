"""A reward model as a judge, however many comparisons it is given at once."""

import pytest

from pd_trl.evaluation.judges.base import Comparison
from pd_trl.evaluation.judges.reward_model import RewardModelJudge
from tests.tiny import tiny_reward_model, tiny_tokenizer

COMPARISONS = [Comparison(f"do {i}", "word " * (i % 5 + 1), "other " * (i % 3 + 1)) for i in range(11)]


@pytest.mark.parametrize("at_once", [1, 3])
def test_preferences_are_those_of_all_at_once_and_cuts_are_said_once(monkeypatch, caplog, at_once):
    model = (tiny_reward_model(0), tiny_tokenizer())
    expected = dict(RewardModelJudge(model, max_length=6).compare(COMPARISONS))
    assert {0.0, 1.0} <= set(expected.values())
    caplog.clear()
    monkeypatch.setattr("pd_trl.evaluation.judges.base.COMPARISONS_AT_ONCE", at_once)
    judge = RewardModelJudge(model, max_length=6)
    found = judge.compare(COMPARISONS)
    assert next(found) == (0, expected[0])
    # Only what was asked for is read.
    assert len(judge._scores) <= 2 * at_once
    assert {0: expected[0], **dict(found)} == expected
    assert caplog.text.count("their start is cut") == 1
