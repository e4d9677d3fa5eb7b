"""A real client at a server that does what it likes: no request takes longer, or more memory, than its limits say."""

import math
import re
import resource
import time
import zlib
from dataclasses import replace

import pytest

from pd_trl.errors import InputError
from pd_trl.evaluation.judges import Comparison, load_judge
from pd_trl.servers.requests import RequestSettings
from tests.servers import faults
from tests.servers.faults import HEAD, body, bomb, chat, drip, packed, raw
from tests.servers.replay_server import replay

LIMITS = RequestSettings(max_retries=0, timeout=0.8, retry_wait=0.01, max_wait=0.05, max_answer_bytes=200_000)
TIME_OUT = r"time-out: no whole answer within 0\.8 s"
LARGER = "answer larger than 200,000 bytes"
ONE = [Comparison("do", "one", "two")]

FAULTS = {
    "headers that drip": (drip(b"HTTP/1.1 200 OK\r\nX: "), TIME_OUT),
    "a status that drips": (drip(b"HTT", 0.05), "connection lost"),
    "a body that drips": (drip(HEAD + b"\r\n"), TIME_OUT),
    "an error that drips": (drip(b"HTTP/1.1 500 No\r\n\r\n"), TIME_OUT),
    "chunks that drip": (drip(HEAD + b"Transfer-Encoding: chunked\r\n\r\n5;"), TIME_OUT),
    "headers that promise headers": (faults.informational, TIME_OUT),
    "silence": (lambda handler: time.sleep(1.5), TIME_OUT),
    "headers without end": (raw(HEAD + b"X: " + b"x" * 3_000_000), "connection lost"),
    "a body without end": (faults.Endless(), LARGER),
    "a body that is too large": (body(b'"' + b"x" * 300_000 + b'"'), LARGER),
    "a bomb": (bomb(), LARGER),
    "a bomb by another name": (bomb(coding="x-gzip"), LARGER),
    "two packings": (bomb(1, coding="gzip, gzip"), "packed in a way"),
    "an unknown packing": (body(b"x", content_encoding="br"), "packed in a way"),
    "a damaged packing": (body(b"not gzip", content_encoding="gzip"), "packed answer is damaged"),
    "nothing": (lambda handler: None, "connection lost"),
    "a reset": (faults.reset, "connection lost"),
    "half an answer": (raw(HEAD + b"Content-Length: 1000\r\n\r\n{"), "connection lost"),
    "no HTTP": (raw(b"\x16\x03\x01 hello\r\n\r\n"), "connection lost"),
    "HTML": (body(b"<!doctype html><h1>Welcome</h1>", content_type="text/html"), "HTML instead of JSON"),
    "a stream": (body(b"data: {}\n\n", content_type="text/event-stream"), "text instead of JSON"),
    "an error that is nested too deeply": (body(b"[" * 50_000, 400), "status 400"),
    "an error without end": (faults.Endless(400), "status 400"),
    "an error of another kind": (body([1, {"a": "\ud800"}], 422), "status 422"),
}


def test_nothing_is_sent_where_an_answer_points_to():
    with replay([], lambda prompt, attempt: body(chat())) as other:
        moved = raw(
            f"HTTP/1.1 307 Moved\r\nLocation: {other.base_url}/chat/completions\r\nContent-Length: 0\r\n\r\n".encode()
        )
        with replay([], lambda prompt, attempt: moved) as server:
            judge = load_judge("openai:m", base_url=server.base_url, settings=replace(LIMITS, timeout=20))
            assert dict(judge.compare(ONE)) == {0: None}
        assert not other.counts


@pytest.mark.parametrize("name", FAULTS)
def test_faults(name):
    """Each is a failed request with its reason, in time; the next request of the same client is answered."""
    fault, words = FAULTS[name]
    with replay([], lambda prompt, attempt: fault if attempt == 1 else body(chat())) as server:
        # What is no matter of time has more of it, on a machine that is busy.
        settings = LIMITS if words == TIME_OUT else replace(LIMITS, timeout=10.0)
        judge = load_judge("openai:m", base_url=server.base_url, settings=settings)
        start = time.monotonic()
        assert dict(judge.compare(ONE)) == {0: None}
        assert time.monotonic() - start < 3.0
        (reason,) = judge.reasons
        assert re.search(words, reason), reason
        assert dict(judge.compare(ONE)) == {0: 1.0}


def test_little_is_read_of_an_answer_without_end():
    endless, failing = faults.Endless(), faults.Endless(500)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with replay([], lambda prompt, attempt: [failing, endless, bomb(250), body(chat())][attempt - 1]) as server:
        settings = RequestSettings(max_retries=3, retry_wait=0.01, max_answer_bytes=1_000_000, timeout=20)
        judge = load_judge("openai:m", base_url=server.base_url, settings=settings)
        assert dict(judge.compare(ONE)) == {0: 1.0}
    # What the kernel's buffers take of it is sent, whoever reads it.
    assert endless.sent < 30_000_000 and failing.sent < 30_000_000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 120_000  # KiB


def test_packed_answers_and_kept_connections():
    with replay([], lambda prompt, attempt: packed(chat("B"))) as server:
        judge = load_judge("openai:m", base_url=server.base_url, settings=replace(LIMITS, timeout=20))
        assert dict(judge.compare([Comparison(f"{i}", "a", "b") for i in range(5)])) == dict.fromkeys(range(5), 0.0)


@pytest.mark.parametrize(
    "value", ["1e9", "inf", "-inf", "nan", "-5", "1e400", "soon", "", "Fri, 31 Dec 2099 23:59:59 GMT", "Wed, 21 Oct 2015 07:28:00 GMT",
              "Fri, 31 Dec 99999 23:59:59 GMT", "0x10", "1" * 400]
)  # fmt: skip
@pytest.mark.parametrize("header", ["retry-after", "retry-after-ms"])
def test_waits_are_capped(header, value):
    busy = body({"error": {"message": "busy"}}, 429, **{header: value})
    with replay([], lambda prompt, attempt: busy if attempt <= 2 else body(chat())) as server:
        settings = RequestSettings(retry_wait=0.01, max_wait=0.05, timeout=10)
        start = time.monotonic()
        judge = load_judge("openai:m", base_url=server.base_url, settings=settings)
        assert dict(judge.compare(ONE)) == {0: 1.0}
        assert time.monotonic() - start < 5.0 and server.counts.total() == 3


@pytest.mark.parametrize("judge", ["openai:m", "alpaca:weighted_alpaca_eval_gpt4_turbo", "alpaca:alpaca_eval_gpt4"])
@pytest.mark.parametrize("fault", ["HTML", "wrong shape", "a text", "no log-probabilities"])
def test_nonsense_costs_what_the_bound_says(judge, fault):
    """A judge that gives nothing of use is left after 32 answers in a row, at most one more for each thread."""
    answer = {
        "HTML": body(b"<html>"),
        "wrong shape": body(chat({})),
        "a text": body(chat("Well, it depends.")),
        "no log-probabilities": body(chat("...", choices=[{"message": {"content": ""}, "logprobs": {"content": []}}])),
    }[fault]
    if judge.startswith("alpaca"):
        pytest.importorskip("patsy", reason="the extra `alpaca` is not installed")
    limits = {"max_concurrency": 4, "retry_wait": 0.001, "max_wait": 0.002, "timeout": 20}
    with replay([], lambda prompt, attempt: answer) as server:
        name = "settings" if judge.startswith("openai") else "requests"
        asked = load_judge(judge, base_url=server.base_url, **{name: limits})
        with pytest.raises(InputError, match="32 answers in a row are of no use, the last: .*Answers so far are kept"):
            list(asked.compare([Comparison(f"{i}", "a", "b") for i in range(200)]))
        assert 32 <= server.counts.total() <= 36
        assert max(server.counts.values()) <= (9 if fault in ("HTML", "wrong shape") else 3)


def test_a_third_of_wrong_answers_changes_nothing():
    kinds = [body(b"<html>"), body(chat(None)), body(chat({})), faults.reset, body(chat("A"), 503), bomb(2)]

    def status(prompt, attempt):
        fate = zlib.crc32(f"{attempt}{prompt}".encode())
        return kinds[fate // 3 % len(kinds)] if fate % 3 == 0 else body(chat("A"))

    with replay([], status) as server:
        settings = {"retry_wait": 0.001, "max_askings": 20, "max_answer_bytes": 500_000}
        judge = load_judge("openai:m", base_url=server.base_url, settings=settings)
        found = dict(judge.compare([Comparison(f"{i}", "a", "b") for i in range(60)]))
        assert found == dict.fromkeys(range(60), 1.0) and server.counts.total() > 75


def test_limits_of_settings():
    for name, value in [("max_answer_bytes", 0), ("max_askings", 0), ("max_wait", math.inf), ("timeout", math.nan), ("retry_wait", 1e300)]:  # fmt: skip
        with pytest.raises(InputError, match=name):
            RequestSettings(**{name: value})
    with pytest.raises(InputError, match="`max_askings` of the requests must be a whole number"):
        load_judge("openai:m", base_url="http://127.0.0.1:9/v1", settings={"max_askings": 2.5})
