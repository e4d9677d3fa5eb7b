"""What a server may say: whatever it is, it is an answer or a failed request, and a log that is read again."""

import copy
import json
import math

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pd_trl.evaluation.alpaca.annotator import Annotator, JudgeSettings
from pd_trl.evaluation.alpaca.completions import completions_of
from pd_trl.evaluation.judges.openai_client import unreadable
from pd_trl.runs.row_log import RowLog
from pd_trl.servers.answers import CHAT, COMPLETION, check_answer, read_answer
from pd_trl.servers.requests import RequestFailed, RequestPool, RequestSettings
from tests.servers.faults import chat

MESSAGE = {"role": "assistant", "content": "A"}
WRONG = {
    "a list": [1],
    "a text": "no",
    "null": None,
    "no choices": chat(choices=[]),
    "choices of another kind": chat(choices={"0": MESSAGE}),
    "an empty choice": chat(choices=[{}]),
    "a choice that is null": chat(choices=[None]),
    "no message": chat(choices=[{"message": None}]),
    "a message that is a text": chat(choices=[{"message": "A"}]),
    "content of parts": chat([{"type": "text", "text": "A"}]),
    "content that is a number": chat(7),
    "content that is true": chat(True),
    "content that is a mapping": chat({"text": "A"}),
    "half a surrogate pair": chat("A\ud800"),
    "half a surrogate pair in a name": chat(choices=[{"message": MESSAGE, "logprobs": {"top_logprobs": [{"\udc00": -1.0}]}}]),
    "half a surrogate pair in the model": chat(model="m\udfff"),
    "usage that is a number": chat(usage=5),
    "usage that is a list": chat(usage=[5]),
    "tokens of text": chat(usage={"total_tokens": "many"}),
    "tokens below zero": chat(usage={"total_tokens": -3}),
    "tokens without end": chat(usage={"total_tokens": 10**400}),
    "tokens that are nan": chat(usage={"total_tokens": math.nan}),
    "a model that is a number": chat(model=3),
    "tool calls that are a text": chat(choices=[{"message": {"tool_calls": "f"}}]),
    "arguments of a mapping": chat(choices=[{"message": {"tool_calls": [{"function": {"arguments": {"a": 1}}}]}}]),
    "log-probabilities that are a number": chat(choices=[{"message": MESSAGE, "logprobs": -1.0}]),
    "tokens that are texts": chat(choices=[{"message": MESSAGE, "logprobs": {"content": ["A"]}}]),
    "a log-probability that is a text": chat(choices=[{"message": MESSAGE, "logprobs": {"content": [{"logprob": "x"}]}}]),
    "a log-probability that is nan": chat(choices=[{"message": MESSAGE, "logprobs": {"content": [{"logprob": math.nan}]}}]),
    "an error": {"error": {"message": "overloaded"}},
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_wrong_shapes(name):
    for endpoint in (CHAT, COMPLETION):
        if endpoint == COMPLETION and name == "an empty choice":
            continue
        with pytest.raises(RequestFailed) as caught:
            read_answer(json.dumps(WRONG[name]).encode(), endpoint)
        assert caught.value.retry and caught.value.answered


@pytest.mark.parametrize(
    "body, words",
    [(b"<html><body>502</body></html>", "HTML instead of JSON"), (b"  ", "empty answer"), (b"", "empty answer"),
     (b"\xff\xfe", "not in UTF-8"), (b"Service \x1b[31munavailable", "text instead of JSON .'Service"), (b"[" * 100_000, "nested too deeply"),
     (b'{"choices": ' + b'{"a":' * 100_000, "nested too deeply"), (b'{"a": ' + b"9" * 5000 + b"}", "instead of JSON|no choices"),
     (b'{"error": {"message": "no\\u001b[2J funds"}}', "error with a status of success: no.\\[2J funds")],
)  # fmt: skip
def test_what_is_no_json(body, words):
    with pytest.raises(RequestFailed, match=words) as caught:
        read_answer(body, CHAT)
    assert "\x1b" not in str(caught.value)


def test_what_is_read():
    """Odd things that decide nothing are left out, and what is kept has the right shape."""
    sent = chat("A", created="yesterday", system_fingerprint=[1])
    sent["choices"][0] |= {"finish_reason": {"odd": 1}, "stop": ["x"]}
    sent["choices"][0]["message"] |= {"reasoning": "because", "extra": {"deep": [[]]}, "tool_calls": None}
    sent["usage"]["details"] = {"cached": 1}
    found = read_answer(json.dumps(sent).encode(), CHAT)
    assert found["choices"] == [{"index": 0, "message": {**MESSAGE, "reasoning": "because", "tool_calls": None}}]
    assert (found["total_tokens"], found["model"]) == (6, "m")
    assert read_answer(b"\xef\xbb\xbf" + json.dumps(chat()).encode(), CHAT)["choices"][0]["message"]["content"] == "A"
    long = read_answer(json.dumps(chat(model="x\x1b" * 5000, usage=None)).encode(), CHAT)
    assert len(long["model"]) == 200 and "\x1b" not in long["model"] and long["total_tokens"] is None
    infinite = {"content": [{"token": "m", "logprob": -math.inf, "top_logprobs": []}]}
    assert read_answer(json.dumps(chat(choices=[{"message": MESSAGE, "logprobs": infinite}])).encode(), CHAT)
    with pytest.raises(RequestFailed, match="choice 0 has no message"):
        read_answer(json.dumps(chat(choices=[{"text": "A"}])).encode(), CHAT)
    assert read_answer(json.dumps(chat(choices=[{"text": "A"}])).encode(), COMPLETION)["choices"] == [{"text": "A"}]


LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(st.characters(exclude_categories=()), max_size=5), st.just("A")
)  # fmt: skip
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
PATHS = [
    ("choices",), ("choices", 0), ("choices", 0, "message"), ("choices", 0, "message", "content"), ("choices", 0, "logprobs"),
    ("choices", 0, "logprobs", "content"), ("choices", 0, "logprobs", "content", 0), ("choices", 0, "logprobs", "content", 0, "top_logprobs"),
    ("choices", 0, "logprobs", "content", 0, "top_logprobs", 0, "logprob"), ("choices", 0, "text"), ("choices", 0, "message", "tool_calls"),
    ("choices", 0, "message", "function_call"), ("usage",), ("usage", "total_tokens"), ("model",), ("id",), ("choices", 0, "index"),
]  # fmt: skip


def whole():
    top = [{"token": "m", "logprob": -0.1}, {"token": "M", "logprob": -2.0}]
    logprobs = {"content": [{"token": "m", "logprob": -0.1, "top_logprobs": top}]}
    return chat(choices=[{"index": 0, "text": "A", "message": {**MESSAGE, "tool_calls": None}, "logprobs": logprobs}])


def damaged(path, value):
    answer = place = whole()
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return answer


@pytest.fixture(scope="module")
def annotators():
    pytest.importorskip("patsy", reason="the extra `alpaca` is not installed")
    return [Annotator(JudgeSettings(name)) for name in ("weighted_alpaca_eval_gpt4_turbo", "alpaca_eval_gpt4")]


@settings(max_examples=150, suppress_health_check=list(HealthCheck), deadline=None)
@example(path=("choices", 0, "logprobs", "content"), value=[{"\x85": False}], alone=False, endpoint=CHAT)
@given(path=st.sampled_from(PATHS), value=VALUES, alone=st.booleans(), endpoint=st.sampled_from([CHAT, COMPLETION]))
def test_any_answer_is_read_or_refused(path, value, alone, endpoint, annotators, tmp_path_factory):
    """
    Nothing but a failed request is raised, what is kept can be read again and by everyone who reads it, and the same log is of
    use to a later run.
    """
    body = json.dumps(value if alone else damaged(path, value)).encode()
    log_path = tmp_path_factory.mktemp("log") / "log.jsonl"

    def send(request):
        return {**read_answer(body, endpoint), "seconds": 0.1, "date": "d", "endpoint": "e"}

    limits = RequestSettings(max_concurrency=1, max_retries=0, retry_wait=1e-6, max_askings=2)
    for check in (unreadable, *(annotator.unreadable for annotator in annotators)):
        log_path.unlink(missing_ok=True)
        for _ in range(2):
            with RowLog(log_path, {}) as log:
                pool = RequestPool(send, log, limits, check)
                ((key, answer),) = pool.answers({"k": 1})
                assert (answer is None) == (key not in log) and (answer is not None or pool.failures[key])
                if answer is not None:
                    check_answer(answer, endpoint)
                    columns = completions_of([json.loads(json.dumps(answer))], {"price_per_token": 1.0})
                    assert {len(column) for column in columns.values()} == {1}
        # Bytes: text would be split at other ends of a line, too, which json leaves as they are.
        assert all(json.loads(line) for line in log_path.read_bytes().splitlines())


@settings(max_examples=100, suppress_health_check=list(HealthCheck), deadline=None)
@given(path=st.sampled_from(PATHS), value=VALUES, alone=st.booleans())
def test_any_row_of_an_older_log(path, value, alone, annotators):
    """A row that another version left is an answer or is forgotten, and never ends a run."""
    from pd_trl.runs.row_log import MemoryLog
    from pd_trl.servers.requests import known_answers

    row = value if alone else damaged(path, copy.deepcopy(value))
    for check in (unreadable, *(annotator.unreadable for annotator in annotators)):
        log = MemoryLog()
        log.add("k", row)
        known = known_answers(log, ["k", "other"], RequestSettings(), check)
        assert set(known) <= {"k"} and ("k" in log or not known)
