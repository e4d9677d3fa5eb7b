"""Judges behind an OpenAI-compatible server."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ...errors import InputError
from ...safety.secrets import masked
from ...servers.answers import CHAT, check_answer, unreadable_text
from ...servers.client import OpenAIClient
from ...servers.questions import fill, request_arguments, request_key
from ...servers.requests import RequestPool
from ...servers.settings import RequestSettings, request_settings
from .base import AskingJudge, Comparison, Judge

# The first character of the answer counts.
PROMPT = """Which of two answers to an instruction would a person prefer? Judge what they say, not how long they are nor in which \
order they are shown.

Instruction:
{instruction}

Answer A:
{output_a}

Answer B:
{output_b}

Reply with A or B, or with T if neither is better, and nothing else."""


class OpenAIJudge(AskingJudge):
    """
    A judge that asks a chat model for the better of two answers. See [`openai_judge`].

    Args:
        model (`str`): Model of the server.
        client ([`OpenAIClient`]): Where it is served.
        settings ([`RequestSettings`]): Retries and concurrency.
        prompt (`str`): Template with `{instruction}`, `{output_a}` and `{output_b}`.
        arguments (mapping): Further arguments of each request.
    """

    def __init__(
        self,
        model: str,
        client: OpenAIClient,
        settings: RequestSettings,
        prompt: str = PROMPT,
        arguments: Mapping[str, Any] | None = None,
    ):
        super().__init__()
        missing = [name for name in ("{instruction}", "{output_a}", "{output_b}") if name not in prompt]
        if missing:
            raise InputError(f"The judge's prompt must have a place for {', '.join(missing)}.")
        self.client, self.settings, self.prompt = client, settings, prompt
        self.arguments = request_arguments(model, arguments)
        self.name = model
        self.description = f"the chat model {model} at {', '.join(client.endpoints)}"
        self.identity = {"kind": "openai", "prompt": prompt, **masked(self.arguments)}

    def compare(self, comparisons: Sequence[Comparison]) -> Iterator[tuple[int, float | None]]:
        """See [`Judge.compare`]. An answer that is none of A, B and T cannot be read."""
        requests = comparison_requests(comparisons, self.prompt, self.arguments)
        keys = [request_key(request) for request in requests]
        positions: dict[str, list[int]] = {}
        for i, key in enumerate(keys):
            positions.setdefault(key, []).append(i)
        pool = RequestPool(self.client.send, self.log, self.settings, unreadable)
        try:
            for key, answer in pool.answers(dict(zip(keys, requests, strict=True)), self.name):
                preference = None if answer is None else _preference(answer["choices"][0]["message"].get("content"))
                for i in positions[key]:
                    yield i, preference
        finally:
            self.reasons.update(pool.failures.values())


def comparison_requests(
    comparisons: Sequence[Comparison], prompt: str, arguments: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """The request of each comparison."""
    requests = []
    for c in comparisons:
        text = fill(prompt, instruction=c.instruction, output_a=c.output_a, output_b=c.output_b)
        requests.append({"endpoint": CHAT, "messages": [{"role": "user", "content": text}], **arguments})
    return requests


def _preference(text: str | None) -> float:
    answer = (text or "").strip().strip("\"'*`.()[]:").upper()
    return {"A": 1.0, "B": 0.0, "T": 0.5}.get(answer, math.nan)


def unreadable(answer: Any) -> str | None:
    """Why an answer is none of A, B and T, or `None` where it is one."""
    check_answer(answer, CHAT)
    text = answer["choices"][0]["message"].get("content")
    return None if not math.isnan(_preference(text)) else unreadable_text(text)


def openai_judge(
    model: str,
    *,
    base_url: str | None = None,
    api_key_env: str = "OPENAI_API_KEY",
    prompt: str = PROMPT,
    arguments: Mapping[str, Any] | None = None,
    settings: RequestSettings | Mapping[str, Any] | None = None,
) -> Judge:
    """
    A judge that asks a chat model of an OpenAI-compatible server for the better of two answers.

    Args:
        model (`str`):
            Model of the server.
        base_url (`str`, *optional*):
            Address of the server. `None` is `OPENAI_BASE_URL`, then OpenAI's own.
        api_key_env (`str`, *optional*, defaults to `"OPENAI_API_KEY"`):
            Environment variable with the key.
        prompt (`str`, *optional*):
            Template with `{instruction}`, `{output_a}` and `{output_b}`, which asks for A, B or T.
        arguments (`dict`, *optional*):
            Further arguments of each request; `None` as a value takes one of ours away.
        settings ([`RequestSettings`] or `dict`, *optional*):
            Retries and concurrency, such as `{"max_retries": 2}`.
    """
    settings = request_settings(settings)
    client = OpenAIClient(base_url, api_key_env, model=model, settings=settings)
    return OpenAIJudge(model, client, settings, prompt, arguments)


def alpaca_judge(config: str, **settings: Any) -> Judge:
    """
    A judge that asks as one of alpaca_eval's annotators does, in the order of outputs that each comparison has.

    Args:
        config (`str`): Name or folder of an annotator configuration.
        settings: See [`~pd_trl.evaluation.alpaca.judge.AlpacaJudge`].
    """
    from ..alpaca.judge import AlpacaJudge

    return AlpacaJudge(config, **settings)
