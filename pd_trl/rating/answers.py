"""What a judge's answer is worth: the expected value over the answers it may give, or the one that it wrote."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ..safety.schema import shown
from ..servers.answers import CHAT, check_answer

_THOUGHT = re.compile(r"<think>.*?(?:</think>|\Z)", re.DOTALL | re.IGNORECASE)
# Of thoughts whose first mark stands in the question, where a chat template opens them.
_THOUGHT_BEFORE = re.compile(r"\A.*</think>", re.DOTALL | re.IGNORECASE)
_OF = r"\s*(?:/|out of|of)\s*"
_NUMBER = re.compile(r"(?<![\w.,-])[-+]?\d+(?:\.\d+)?(?![\w]|[.,]\d)", re.ASCII)
# Two numbers as a range, or as a share of another scale: "3-4", "2/2".
_SEVERAL = re.compile(r"\d\s*[/–—−-]\s*\d")
_QUOTES = " \t\r\n\"'*`.()[]:_#"
# Below this share on the answers that it may give, a judge's probabilities say little of them.
_LEAST_MASS = 0.5


def written_value(text: str | None, scale: Mapping[str, float]) -> float | None:
    """
    What a judge wrote, as a value of the scale; `None` where it wrote none or several.

    A number between the levels counts, such as 3.5, and so do `4/5`, `Rating: 4` and `4 out of 5`. Thoughts between `<think>`
    marks, or before `</think>`, are not looked at.
    """
    answer = _THOUGHT_BEFORE.sub("", _THOUGHT.sub("", text or "")).strip()
    bare = answer.strip(_QUOTES)
    if bare in scale:
        return scale[bare]
    if not all(label.isdigit() for label in scale):
        return scale.get(bare.upper())
    low, high = min(scale.values()), max(scale.values())
    # "4/5" and "4 out of 5" name the scale's end and no second answer.
    answer = re.sub(rf"(\d){_OF}{high:g}\b", r"\1", answer)
    if _SEVERAL.search(answer):
        return None
    found = {float(number) for number in _NUMBER.findall(answer)}
    value = found.pop() if len(found) == 1 else None
    return value if value is not None and low <= value <= high else None


def expected_value(
    tokens: Sequence[Any] | None, scale: Mapping[str, float], written: float
) -> tuple[float, float] | None:
    """
    Expected value over the answers of the scale by the log-probabilities of the token that gives the answer, and their total
    probability; `None` where the server gives none, or an answer may take several tokens.

    Args:
        tokens (sequence, *optional*): Tokens of the answer with their `top_logprobs`.
        scale (mapping): Answers and what each is worth.
        written (`float`): What the judge wrote.
    """
    if not tokens or any(len(label) > 1 for label in scale):
        return None
    digits = all(label.isdigit() for label in scale)
    # The answer comes last: a judge that writes "Rating: 4" thinks of 4 there.
    for token in reversed(list(tokens)):
        label = _label(token.get("token"), scale, digits) if token else None
        if token is None or label is None or scale[label] != written:
            continue
        shares: dict[str, float] = {}
        for top in filter(None, token.get("top_logprobs") or []):
            name, logprob = _label(top.get("token"), scale, digits), top.get("logprob")
            if name is not None and logprob is not None:
                shares[name] = shares.get(name, 0.0) + math.exp(min(logprob, 0.0))
        mass = sum(shares.values())
        # The written answer is among the likely ones, or these are of something else.
        if label not in shares or mass < _LEAST_MASS or len(shares) < 2:
            return None
        return sum(scale[name] * share for name, share in shares.items()) / mass, min(mass, 1.0)
    return None


def _label(token: Any, scale: Mapping[str, float], digits: bool) -> str | None:
    text = str(token or "").strip(_QUOTES + "▁Ġ")
    text = text if digits else text.upper()
    return text if text in scale else None


def scale_of(answer: Mapping[str, Any]) -> dict[str, float]:
    """The scale that a kept answer is on, see [`kept_scale`]."""
    entries = [part.rpartition("=") for part in str(answer.get("scale") or "").split(" ") if part]
    return {label: float(value) for label, _, value in entries}


def kept_scale(scale: Mapping[str, float]) -> str:
    """A scale as a text that is kept with an answer."""
    return " ".join(f"{label}={value:g}" for label, value in scale.items())


def value_of(answer: Mapping[str, Any]) -> tuple[float | None, bool]:
    """What a server's kept answer is worth, `None` where it cannot be read, and whether that is an expected value."""
    scale = scale_of(answer)
    choice = answer["choices"][0]
    written = written_value((choice.get("message") or {}).get("content"), scale) if scale else None
    if written is None:
        return None, False
    expected = expected_value((choice.get("logprobs") or {}).get("content"), scale, written)
    return (written, False) if expected is None else (expected[0], True)


def unreadable(answer: Any) -> str | None:
    """Why a kept answer is of no use; `None` where it is one."""
    check_answer(answer, CHAT)
    value, _ = value_of(answer)
    if value is not None:
        return None
    text = (answer["choices"][0].get("message") or {}).get("content")
    if text is None or not text.strip():
        return "an answer without text"
    return f"an answer that is none of {', '.join(scale_of(answer))}: {shown(' '.join(text[:200].split())[:40])}"
