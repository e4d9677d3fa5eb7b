"""What a server may answer: everything of another shape is a failed request, and is not kept."""

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

from ..text.tables import printable
from .requests import RequestFailed

CHAT, COMPLETION = "chat", "completion"
# The longest name of a model that is kept of what a server says.
_NAME_LENGTH = 200
_LARGEST = 1e15


def _is_text(value: Any) -> bool:
    if not isinstance(value, str):
        return False
    if value.isascii():
        return True
    try:
        value.encode()
    except UnicodeEncodeError:  # half of a surrogate pair, which no file takes
        return False
    return True


def _is_number(value: Any) -> bool:
    """A log-probability may be minus infinity; nan is no number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and -math.inf <= value <= _LARGEST


def _is_count(value: Any) -> bool:
    return _is_number(value) and value >= 0


# A shape is a test of a value, a list with the shape of its entries, or a mapping of names to shapes ("*" is any other name).
# None is of every shape.
_NAMES: dict[Callable[[Any], bool], str] = {_is_text: "text", _is_number: "a number", _is_count: "a count"}
_FUNCTION = {"name": _is_text, "arguments": _is_text}
_TOKEN = {"token": _is_text, "logprob": _is_number, "bytes": [_is_number]}
_CHOICE = {
    "text": _is_text,
    "message": {"content": _is_text, "function_call": _FUNCTION, "tool_calls": [{"function": _FUNCTION}]},
    "logprobs": {
        "content": [{**_TOKEN, "top_logprobs": [_TOKEN]}],
        "tokens": [_is_text],
        "token_logprobs": [_is_number],
        "top_logprobs": [{"*": _is_number}],
        "text_offset": [_is_number],
    },
}
_USAGE = dict.fromkeys(("total_tokens", "prompt_tokens", "completion_tokens"), _is_count)
_SENT = {"choices": [_CHOICE], "usage": _USAGE, "model": _is_text}
_KEPT = {
    "choices": [_CHOICE],
    **_USAGE,
    **dict.fromkeys(("model", "date", "endpoint"), _is_text),
    "seconds": _is_number,
}
_DECODED = {"decoder": _is_text, "text": _is_text}


class _Misshaped(Exception):
    """A value of another shape than `expected`; `steps` lead to it, from the inside out."""

    def __init__(self, value: Any, expected: str):
        super().__init__(expected)
        self.value, self.expected = value, expected
        self.steps: list[str] = []


def _shaped(value: Any, shape: Any) -> Any:
    """`value` with what its shape names, and of the rest what is plain text or a number."""
    if value is None:
        return None
    if isinstance(shape, list):
        if not isinstance(value, list):
            raise _Misshaped(value, "a list")
        return [_step(i, entry, shape[0]) for i, entry in enumerate(value)]
    if isinstance(shape, dict):
        if not isinstance(value, dict):
            raise _Misshaped(value, "a mapping")
        found, others = {}, shape.get("*")
        for name, entry in value.items():
            inner = shape.get(name, others)
            if name not in shape and not _is_text(name):
                raise _Misshaped(name, "a mapping of texts")
            if inner is not None:
                found[name] = _step(name, entry, inner)
            elif _is_text(entry) or _is_number(entry) or isinstance(entry, bool):
                found[name] = entry
        return found
    if not shape(value):
        raise _Misshaped(value, _NAMES[shape])
    return value


def _step(step: str | int, value: Any, shape: Any) -> Any:
    try:
        return _shaped(value, shape)
    except _Misshaped as error:
        error.steps.append(f"[{step}]" if isinstance(step, int) else f".{printable(step)[:40]}")
        raise


def _checked(value: Any, shape: Any) -> Any:
    """See `_shaped`; raises [`RequestFailed`] with the place of what has another shape."""
    try:
        return _shaped(value, shape)
    except _Misshaped as error:
        raise _wrong("it" + "".join(reversed(error.steps)), error.value, error.expected) from None


def _wrong(where: str, value: Any, expected: str) -> RequestFailed:
    kind = "half a surrogate pair" if isinstance(value, str) and expected == "text" else type(value).__name__
    found = f"the number {value}" if isinstance(value, float) else kind
    return RequestFailed(
        f"the answer has a wrong shape: {where} is {found} instead of {expected}", retry=True, answered=True
    )


def _with_choices(answer: Any, endpoint: str, shape: Any) -> dict[str, Any]:
    if not isinstance(answer, Mapping):
        raise _wrong("it", answer, "a mapping")
    found: dict[str, Any] = _checked(dict(answer), shape)
    if not found.get("choices"):
        raise RequestFailed("the answer has no choices", retry=True, answered=True)
    for i, choice in enumerate(found["choices"]):
        has_answer = choice is not None and (
            choice.get("message") is not None or (endpoint == COMPLETION and "text" in choice)
        )
        if not has_answer:
            wanted = "message" if endpoint == CHAT else "text"
            raise RequestFailed(f"the answer has a wrong shape: choice {i} has no {wanted}", retry=True, answered=True)
    return found


def read_answer(body: bytes, endpoint: str) -> dict[str, Any]:
    """
    Choices, tokens and model of a body that a server sent.

    Raises:
        RequestFailed: When it is no answer of the endpoint.
    """
    try:
        text = body.decode("utf-8-sig")
        content = json.loads(text)
    except UnicodeDecodeError:
        raise RequestFailed("the answer is not in UTF-8", retry=True, answered=True) from None
    except RecursionError:
        raise RequestFailed("the answer is nested too deeply", retry=True, answered=True) from None
    except ValueError:
        raise RequestFailed(_no_json(text), retry=True, answered=True) from None
    if isinstance(content, dict) and content.get("error") and not content.get("choices"):
        error = content["error"]
        message = error.get("message") if isinstance(error, dict) else error
        said = f": {printable(' '.join(message.split()))[:200]}" if isinstance(message, str) else ""
        raise RequestFailed(f"an error with a status of success{said}", retry=True, answered=True)
    found = _with_choices(content, endpoint, _SENT)
    usage = found.get("usage") or {}
    model = found.get("model")
    return {
        "choices": found["choices"],
        **{name: usage.get(name) for name in _USAGE},
        "model": model if model is None else printable(model)[:_NAME_LENGTH],
    }


def _no_json(text: str) -> str:
    if not text.strip():
        return "an empty answer"
    if text.lstrip().startswith("<"):
        return "HTML instead of JSON"
    return f"text instead of JSON ({printable(' '.join(text[:200].split()))[:40]!r})"


def unreadable_text(text: str | None) -> str:
    """Message for an answer that has the right shape, but no preference."""
    if text is None or not text.strip():
        return "an answer without text"
    return f"an answer that is no preference ({printable(' '.join(text[:200].split()))[:40]!r})"


def check_answer(answer: Any, endpoint: str) -> None:
    """
    Checks an answer in the form in which it is kept.

    Raises:
        RequestFailed: When it has a wrong shape.
    """
    _with_choices(answer, endpoint, _KEPT)


def check_decoded(answer: Any) -> None:
    """
    Checks an answer of one of alpaca_eval's decoders in the form in which it is kept.

    Raises:
        RequestFailed: When it has a wrong shape.
    """
    if not isinstance(answer, Mapping):
        raise _wrong("it", answer, "a mapping")
    if _checked(dict(answer), _DECODED).get("decoder") is None:
        raise RequestFailed("the answer has a wrong shape: it names no decoder", retry=True, answered=True)
