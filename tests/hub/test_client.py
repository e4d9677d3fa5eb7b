"""What errors mean, when another try is worth it, and that no token is said. No server is needed."""

import time
from email.utils import formatdate
from types import SimpleNamespace

import pytest
from huggingface_hub.errors import HTTPError

from pd_trl.hub.client import HubError, Patience, explained, is_transient, retried, scrubbed, seconds_to_wait
from tests.hub.local import TOKENS


def answered(status: int, headers: "dict[str, str] | None" = None, said: str = "") -> HTTPError:
    error = HTTPError(f"status {status}")
    error.response = SimpleNamespace(status_code=status, headers=headers or {})
    error.server_message = said
    return error


@pytest.mark.parametrize(
    "headers, low, high",
    [
        ({"Retry-After": "7"}, 7, 7.3),
        ({"Retry-After": "soon"}, 2, 4),
        ({"RateLimit": '"api";r=0;t=42'}, 42, 42.3),
        ({"RateLimit": '"api";r=499;t=300'}, 2, 4),
        ({}, 2, 4),
    ],
)
def test_pause_is_what_the_hub_asks_for(headers, low, high):
    assert low <= seconds_to_wait(answered(429, headers), attempt=2) <= high


@pytest.mark.parametrize("seconds, low, high", [(60, 57, 61), (-60, 2, 4)])
def test_pause_until_a_time_of_day(seconds, low, high):
    headers = {"Retry-After": formatdate(time.time() + seconds, usegmt=True)}
    assert low <= seconds_to_wait(answered(429, headers), attempt=2) <= high


def test_pauses_grow_to_a_minute():
    pauses = [seconds_to_wait(HTTPError("lost"), attempt) for attempt in range(12)]
    assert pauses[0] <= 1 and max(pauses) <= 60 and min(pauses[-3:]) >= 30


@pytest.mark.parametrize("status, transient", [(429, True), (500, True), (503, True), (504, True), (400, False),
                                               (401, False), (403, False), (404, False), (412, False), (501, False)])  # fmt: skip
def test_which_answers_are_worth_another_try(status, transient):
    assert is_transient(answered(status)) is transient


def test_lost_connection_is_worth_another_try():
    assert is_transient(HTTPError("connection reset")) and not is_transient(ValueError("no"))


@pytest.mark.parametrize(
    "status, words",
    [
        (401, "has expired. Log in again"),
        (403, "no right to do this. The Hub says: ask the owner. Use a token with write access"),
        (404, "is not there"),
        (412, "others kept changing"),
        (429, "limits the rate"),
        (500, "the Hub failed (status 500)"),
        (418, "refused it"),
    ],
)
def test_messages_say_what_to_do(status, words):
    error = answered(status, said="ask the owner.")
    if status == 418:
        pytest.importorskip("httpx2")
        import httpx2
        from huggingface_hub.errors import HfHubHTTPError

        request = httpx2.Request("GET", "http://127.0.0.1")
        error = HfHubHTTPError("teapot", response=httpx2.Response(418, request=request))
    assert words in str(explained(error, "Publishing"))
    assert isinstance(explained(error, "Publishing"), HubError)


@pytest.mark.parametrize("token", TOKENS)
def test_tokens_are_taken_out_of_texts(token, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "secret-of-another-shape")
    text = scrubbed(f"sent {token} and secret-of-another-shape, and {token}.", token="third")
    assert text == "sent *** and ***, and ***."


def test_server_messages_with_a_token_are_scrubbed():
    assert TOKENS[0] not in str(explained(answered(403, said=f"no rights for {TOKENS[0]}"), "Publishing"))


def test_retried_gives_up_on_what_cannot_change(monkeypatch):
    calls = []

    def refuse():
        calls.append(1)
        raise answered(403)

    with pytest.raises(HubError, match="no right"):
        retried(refuse, "Publishing")
    assert len(calls) == 1


def test_retried_returns_what_came_at_last(monkeypatch):
    pauses = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    answers = iter([answered(503, {"Retry-After": "3"}), HTTPError("lost"), answered(429), "done"])

    def call():
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert retried(call, "Publishing") == "done"
    assert len(pauses) == 3 and 3 <= pauses[0] <= 3.3


def test_patience_ends_by_tries_and_by_time(monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    error = answered(503, {"Retry-After": "400"})
    patience = Patience(attempts=10, seconds=900)
    assert [patience.wait(error, "it") for _ in range(3)] == [True, True, False]
    assert not Patience(attempts=1).wait(error, "it")
