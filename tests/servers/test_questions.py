"""Keys of requests: the same as those that lie in logs, whatever the arguments."""

import math

import pytest

from pd_trl.runs.identity import digest_of
from pd_trl.safety.secrets import masked
from pd_trl.servers.questions import request_key

ARGUMENTS = [
    {"model": "m", "temperature": 0.0, "max_tokens": 8},
    {"model": "m", "extra_headers": {"Authorization": "Bearer abcdefghijklmnop", "X-Team": "a"}, "stop": ("a", "b")},
    {"model": "ü", "extra_body": {"choice": ["1", "2"], "url": "http://me:pass@host/v1?key=1", "nan": math.nan}, "user": None},
    {"model": "m", "stop": {"b", "a"}},
]  # fmt: skip


@pytest.mark.parametrize("arguments", ARGUMENTS)
def test_keys_stand_for_texts_and_arguments_without_secrets(arguments):
    request = {
        "endpoint": "chat",
        "messages": [{"role": "user", "content": "sk-abcdefghijklmnopqrstuvwx"}],
        **arguments,
    }
    rest = {name: value for name, value in request.items() if name != "messages"}
    expected = digest_of({**masked(rest), "messages": request["messages"]})
    assert request_key(request) == request_key(request) == expected
    assert request_key({**request, "messages": [{"role": "user", "content": "other"}]}) != expected


def test_one_and_true_are_not_the_same():
    keys = {request_key({"endpoint": "chat", "messages": [], "n": value}) for value in (1, True, 1.0)}
    assert len(keys) == 3
