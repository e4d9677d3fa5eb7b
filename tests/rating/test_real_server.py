"""Ratings by servers that decode, see `tests/servers/real_server.py`."""

import pytest

from pd_trl import load_pairs, server_judge
from pd_trl.rating.rubric import load_rubric
from pd_trl.rating.run import rate
from tests.rating.scripted import write_pairs
from tests.servers.real_server import real_server  # noqa: F401

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
# Nobody listens there.
NOWHERE = "http://127.0.0.1:9/v1"


@pytest.mark.parametrize("mode", ["pointwise", "pairwise"])
def test_a_real_model_rates_and_is_not_asked_twice(real_server, tmp_path, mode):  # noqa: F811
    pairs = load_pairs(write_pairs(tmp_path / "pairs.jsonl", 2))
    # A model of this size writes whole sentences. vLLM can hold it to the answers; else what can be read of them counts.
    arguments = {"extra_body": {"structured_outputs": {"choice": "{answers}"}}} if real_server.gives_logprobs else {}

    def rated(base_url):
        settings = {"timeout": 600, "max_concurrency": 2, "max_askings": 1, "max_retries": 0}
        judge = server_judge(real_server.model, base_url=base_url, settings=settings, arguments=arguments)
        return rate(
            pairs, judge, load_rubric(), mode=mode, max_problem_share=1.0, output_dir=tmp_path / "out", repeat_share=0
        )

    found, report = rated(real_server.base_url)
    assert report.calls["asked"] == 2 * 2 * 4
    answered = report.calls["asked"] - report.calls["unanswered"]
    assert report.tokens["questions"] > 0
    if real_server.gives_logprobs:
        assert answered == report.calls["expected"] == report.calls["asked"]
    elif real_server.gives_logprobs is False:
        assert report.calls["expected"] == 0
        # Of two responses it says in a sentence which is better, which nobody reads as a letter: that is counted.
        assert answered > 0 or (mode == "pairwise" and sum(report.reasons.values()) > 0)
    low, high = (1, 5) if mode == "pointwise" else (0, 1)
    values = [row[f"rating_{aspect}_{side}"] for row in found for aspect in load_rubric().names for side in "ab"]
    known = [value for value in values if value is not None]
    assert bool(known) == (answered > 0) and all(low <= value <= high for value in known)
    again, second = rated(NOWHERE)
    assert again[:] == found[:]
    assert second.calls["answered_before"] == report.calls["asked"]
