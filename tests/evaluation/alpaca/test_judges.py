import math

import pytest

from pd_trl.errors import InputError
from pd_trl.evaluation.judges import Comparison, load_judge
from pd_trl.evaluation.judges.openai_client import PROMPT, OpenAIJudge
from pd_trl.servers.client import OpenAIClient, public_address
from pd_trl.servers.questions import fill
from pd_trl.servers.requests import RequestPool, RequestSettings
from tests.evaluation.alpaca.conftest import OFFICIAL
from tests.evaluation.alpaca.recorded import made_up
from tests.servers.replay_server import replay

QUICK = RequestSettings(retry_wait=0.01, max_retries=3, timeout=10)


def answers(text: str):
    choice = {"finish_reason": "stop", "index": 0, "message": {"role": "assistant", "content": text}}
    return lambda prompt, attempt: choice


@pytest.mark.parametrize(
    "text, preference", [("A", 1.0), (" b.", 0.0), ("'T'", 0.5), ("Answer A", math.nan), ("", math.nan)]
)
def test_openai_judge_reads(text, preference):
    with replay([], answers(text)) as server:
        judge = load_judge("openai:my-model", base_url=server.base_url, settings=QUICK)
        comparisons = [Comparison("do", "one", "two"), Comparison("do", "two", "one"), Comparison("do", "one", "two")]
        found = dict(judge.compare(comparisons))
        assert found == pytest.approx(dict.fromkeys(range(3), preference), nan_ok=True)
        # The third is the first again; what cannot be read is asked for three times.
        assert sum(server.counts.values()) == (6 if math.isnan(preference) else 2)
        shown = server.bodies[0]["messages"][0]["content"]
    assert "one" in shown and judge.name == "my-model" and judge.identity["model"] == "my-model"


def test_openai_judge_goes_on_after_a_lost_answer():
    choice = {"finish_reason": "stop", "index": 0, "message": {"role": "assistant", "content": "A"}}
    with replay([], lambda prompt, attempt: 400 if "lost" in prompt else choice) as server:
        judge = load_judge("openai:m", base_url=server.base_url, settings=QUICK)
        found = dict(judge.compare([Comparison("do", "one", "two"), Comparison("lost", "one", "two")]))
    assert found == {0: 1.0, 1: None}


@pytest.mark.parametrize(
    "settings, words",
    [({"tries": 3}, "no setting tries; they have max_concurrency"), ({"max_retries": "many"}, "`max_retries`"),
     ({"max_retries": -1}, "must not be negative"), ({"max_concurrency": 1.5}, "whole number")],
)  # fmt: skip
def test_settings_of_requests_from_a_command_line(settings, words):
    for judge, name in (("openai:m", "settings"), (f"alpaca:{OFFICIAL}", "requests")):
        with pytest.raises(InputError, match=words):
            load_judge(judge, base_url="http://127.0.0.1:9/v1", **{name: settings})
    with replay([], answers("A")) as server:
        judge = load_judge("openai:m", base_url=server.base_url, settings={"max_retries": 1, "timeout": 5})
        assert (judge.settings.max_retries, judge.settings.timeout) == (1, 5)


def test_prompt_with_braces():
    """Texts that look like places of the template stay what they are."""
    text = fill(PROMPT, instruction="{output_a}", output_a="{output_b} {instruction}", output_b="{x}")
    assert "Instruction:\n{output_a}\n" in text and "Answer A:\n{output_b} {instruction}\n" in text
    with pytest.raises(InputError, match="a place for {output_b}"):
        OpenAIJudge("m", None, QUICK, prompt="{instruction} {output_a}")


def test_alpaca_judge_keeps_the_order_of_outputs():
    """Both orders of a pair are asked as they are, and agree with the record."""
    recorded = made_up(20)
    comparisons = [Comparison(a["instruction"], a["output_1"], a["output_2"]) for a in recorded.annotations]
    comparisons += [comparison.swapped() for comparison in comparisons]
    with replay(recorded.annotations) as server:
        judge = load_judge(f"alpaca:{OFFICIAL}", base_url=server.base_url, requests=QUICK)
        found = dict(judge.compare(comparisons))
    preferences = [a["preference"] for a in recorded.annotations]
    expected = [2 - p for p in preferences] + [p - 1 for p in preferences]
    assert [found[i] for i in range(len(comparisons))] == pytest.approx(expected, abs=1e-9)
    assert judge.identity["annotators"][OFFICIAL]["arguments"]["model_name"] == "gpt-4-1106-preview"
    assert "sk-" not in str(judge.identity)


def test_alpaca_judge_of_batches():
    with pytest.raises(InputError, match="several comparisons in one request"):
        load_judge("alpaca:alpaca_farm_greedy_gpt4")


@pytest.mark.parametrize(
    "name, value", [("max_concurrency", 0), ("max_retries", -1), ("timeout", 0.0), ("retry_wait", float("nan"))]
)
def test_bad_settings(name, value):
    with pytest.raises(InputError, match=name):
        RequestSettings(**{name: value})


def test_pool_stops_paying_when_its_caller_stops(tmp_path):
    from pd_trl.runs.row_log import RowLog

    sent = []

    def send(request):
        sent.append(request)
        return request

    with RowLog(tmp_path / "log.jsonl", {}) as log:
        pool = RequestPool(send, log, RequestSettings(max_concurrency=2))
        answers = pool.answers({str(i): i for i in range(500)})
        assert next(answers)[1] is not None
        answers.close()
        assert len(sent) < 500 and len(log.rows) == len(sent)


def test_address_without_secrets():
    assert public_address("https://me:secret@host:8000/v1/?key=secret") == "https://host:8000/v1"
    with pytest.raises(InputError, match="base_url"):
        OpenAIClient("http://[broken")
