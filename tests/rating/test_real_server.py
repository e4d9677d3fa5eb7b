"""Ratings by a server that decodes, see `tests/servers/real_server.py`."""

import pytest

from pd_trl import load_pairs, server_judge
from pd_trl.rating.rubric import load_rubric
from pd_trl.rating.run import rate
from tests.rating.scripted import write_pairs
from tests.servers.real_server import base_url  # noqa: F401

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("mode", ["pointwise", "pairwise"])
def test_a_real_model_rates(base_url, tmp_path, mode):  # noqa: F811
    pairs = load_pairs(write_pairs(tmp_path / "pairs.jsonl", 3))
    judge = server_judge("judge", base_url=base_url, settings={"timeout": 300, "max_concurrency": 2})
    rated, report = rate(
        pairs, judge, load_rubric(), mode=mode, max_problem_share=1.0, output_dir=tmp_path / "out", repeat_share=0
    )
    assert report.calls["asked"] == 3 * 2 * 4
    answered = report.calls["asked"] - report.calls["unanswered"]
    assert answered > 0 and report.tokens["questions"] > 0
    # llama.cpp and vLLM give log-probabilities, and a small model is never sure.
    assert report.calls["expected"] > 0
    values = [row[f"rating_honesty_{side}"] for row in rated for side in "ab"]
    low, high = (1, 5) if mode == "pointwise" else (0, 1)
    assert all(value is None or low <= value <= high for value in values)
