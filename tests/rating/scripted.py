"""Pairs whose responses say how they are to be rated, and a server that rates them so."""

import hashlib
import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.servers.replay_server import ReplayServer

ASPECTS = ("helpfulness", "truthfulness", "honesty", "instruction_following")
_ASPECT = re.compile(r"The aspect is ([a-z ]+):")
_TEXT = re.compile(r"<(response(?: [AB])?) ([0-9a-f]+)>\n(.*?)\n</\1 \2>", re.DOTALL)


def levels_of(name: str) -> dict[str, int]:
    """Made-up levels of a response, one for each aspect."""
    digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
    return {aspect: 1 + digest[k] % 5 for k, aspect in enumerate(ASPECTS)}


def response(name: str) -> str:
    return f"{name} {' '.join(f'{aspect}={level}' for aspect, level in levels_of(name).items())}"


def write_pairs(path: Path, count: int = 24, sides: tuple[str, str] = ("chosen", "rejected"), shared: int = 0) -> Path:
    """A jsonl file of pairs; `shared` of the prompts have two pairs with the same first response."""
    rows = [
        {"prompt": f"Question {i}?", sides[0]: response(f"first {i}"), sides[1]: response(f"second {i}")}
        for i in range(count)
    ]
    rows += [{**rows[i], sides[1]: response(f"third {i}")} for i in range(shared)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def read_question(prompt: str) -> tuple[str, list[str]]:
    """The aspect that a question is about, and the responses that it shows."""
    aspect = _ASPECT.search(prompt)
    texts = [match[3] for match in _TEXT.finditer(prompt)]
    if aspect is None or not texts:
        raise ValueError(f"no question of a rubric: {prompt[:200]}")
    return aspect[1].replace(" ", "_"), texts


def level_in(text: str, aspect: str) -> int:
    return int(re.search(rf"\b{aspect}=(\d)", text)[1])  # type: ignore[index]


def choice(text: Any, shares: dict[str, float] | None = None) -> dict[str, Any]:
    """A choice of a chat answer, with log-probabilities of its first token where shares are given."""
    found: dict[str, Any] = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
    if shares:
        top = [{"token": token, "logprob": math.log(share), "bytes": None} for token, share in shares.items()]
        found["logprobs"] = {"content": [{"token": text, "logprob": 0.0, "bytes": None, "top_logprobs": top}]}
    return found


def rating(prompt: str, attempt: int = 1) -> dict[str, Any]:
    """Rates as the response says; between two, prefers the higher level."""
    aspect, texts = read_question(prompt)
    levels = [level_in(text, aspect) for text in texts]
    if len(levels) == 1:
        return choice(str(levels[0]))
    return choice("A" if levels[0] > levels[1] else "B" if levels[0] < levels[1] else "T")


def sure_rating(prompt: str, attempt: int = 1) -> dict[str, Any]:
    """The same with log-probabilities: nine tenths on the level, the rest on the one beside it."""
    aspect, texts = read_question(prompt)
    level = level_in(texts[0], aspect)
    beside = level + 1 if level < 5 else level - 1
    return choice(str(level), {str(level): 0.9, f" {beside}": 0.1})


def serve(answer: Callable[[str, int], Any] = rating) -> ReplayServer:
    return ReplayServer([], answer)
