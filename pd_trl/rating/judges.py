"""Who rates: a model behind an OpenAI-compatible server, or one on this machine."""

import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from ..runs.row_log import RowLog
from ..safety.secrets import masked
from ..servers.answers import CHAT
from ..servers.client import OpenAIClient
from ..servers.questions import request_arguments, request_key
from ..servers.requests import RequestFailed, RequestPool, known_answers
from ..servers.settings import RequestSettings, request_settings
from .answers import kept_scale, unreadable, value_of
from .questions import Question

logger = logging.getLogger(__name__)

# Stands in the arguments of requests for the answers that a question allows.
ANSWERS = "{answers}"


@dataclass(frozen=True)
class Answer:
    """
    What came of a question.

    Args:
        value (`float`, *optional*): What the answer is worth; `None` where there is none that can be read.
        expected (`bool`): Whether it is an expected value over the answers, and not the one that was written.
        reason (`str`, *optional*): Why there is none.
        tokens (`tuple` of `int`): Tokens of the question and of the answer, 0 where the server does not say.
    """

    value: float | None
    expected: bool = False
    reason: str | None = None
    tokens: tuple[int, int] = (0, 0)


@runtime_checkable
class RatingJudge(Protocol):
    """
    Something that answers questions of a rubric.

    Args:
        name (`str`): Name shown beside its ratings.
        description (`str`): What it is, in a line.
        identity (`dict`): All that decides its answers beside the question, as plain values without secrets.
    """

    name: str
    description: str
    identity: dict[str, Any]

    def key(self, question: Question) -> str:
        """Key of a question's answer in the log."""
        ...

    def known(self, keys: Sequence[str], log: RowLog) -> set[str]:
        """Those of the keys whose answers are in the log and are not asked for again."""
        ...

    def answers(self, questions: Mapping[str, Question], log: RowLog) -> Iterator[tuple[str, Answer]]:
        """Key and answer of each question, in any order. Each answer is written to the log as it comes, and is not asked for again."""
        ...


class ServerJudge:
    """
    A chat model of an OpenAI-compatible server. See [`server_judge`].

    Args:
        model (`str`): Model of the server.
        client ([`OpenAIClient`], *optional*): Where it is served. Without it, questions are counted, and none is asked.
        settings ([`RequestSettings`]): Retries and concurrency.
        arguments (mapping): Further arguments of each request.
    """

    # As many as OpenAI and vLLM give.
    _LOGPROBS = {"logprobs": True, "top_logprobs": 20}

    def __init__(
        self,
        model: str,
        client: OpenAIClient | None,
        settings: RequestSettings,
        arguments: Mapping[str, Any] | None = None,
    ):
        self.client, self.settings = client, settings
        self.arguments = request_arguments(model, arguments, self._LOGPROBS)
        self._plain = {name: value for name, value in self.arguments.items() if name not in self._LOGPROBS}
        self._refuses_logprobs = threading.Event()
        self.name = model
        where = f" at {', '.join(client.endpoints)}" if client is not None else ""
        self.description = f"the chat model {model}{where}"
        self.identity = {"kind": "openai", **masked(self.arguments)}

    @property
    def max_answer_tokens(self) -> int:
        """Most tokens of an answer."""
        limits = (self.arguments.get(name) for name in ("max_tokens", "max_completion_tokens"))
        return max((limit for limit in limits if isinstance(limit, int)), default=0)

    def _request(self, question: Question, arguments: Mapping[str, Any]) -> dict[str, Any]:
        given = _with_answers(arguments, list(question.scale))
        return {"endpoint": CHAT, "messages": [{"role": "user", "content": question.text}], **given}

    def key(self, question: Question) -> str:
        """See [`RatingJudge.key`]. The same with and without log-probabilities."""
        return request_key(self._request(question, self._plain))

    def _send(self, question: Question) -> dict[str, Any]:
        if self.client is None:
            raise RequestFailed("there is no server to ask", fatal=True)
        arguments = self._plain if self._refuses_logprobs.is_set() else self.arguments
        try:
            answer = self.client.send(self._request(question, arguments))
        except RequestFailed as error:
            if arguments is self._plain or error.retry or error.fatal or "logprob" not in str(error):
                raise
            if not self._refuses_logprobs.is_set():
                self._refuses_logprobs.set()
                logger.warning("The server gives no log-probabilities (%s): the written answers count.", error)
            answer = self.client.send(self._request(question, self._plain))
        return {**answer, "about": question.about, "scale": kept_scale(question.scale)}

    def known(self, keys: Sequence[str], log: RowLog) -> set[str]:
        """See [`RatingJudge.known`]."""
        return set(known_answers(log, keys, self.settings, unreadable))

    def answers(self, questions: Mapping[str, Question], log: RowLog) -> Iterator[tuple[str, Answer]]:
        """See [`RatingJudge.answers`]."""
        pool = RequestPool(self._send, log, self.settings, unreadable)
        for key, answer in pool.answers(questions, self.name):
            if answer is None:
                yield key, Answer(None, reason=pool.failures.get(key, "no answer"))
                continue
            value, expected = value_of(answer)
            tokens = (int(answer.get("prompt_tokens") or 0), int(answer.get("completion_tokens") or 0))
            yield key, Answer(value, expected, pool.failures.get(key), tokens)


def _with_answers(value: Any, answers: list[str]) -> Any:
    """`value` with the answers that a question allows in place of each `"{answers}"`."""
    if isinstance(value, Mapping):
        return {key: _with_answers(entry, answers) for key, entry in value.items()}
    if isinstance(value, list):
        return [_with_answers(entry, answers) for entry in value]
    return answers if value == ANSWERS else value


def server_judge(
    model: str,
    *,
    base_url: str | None = None,
    api_key_env: str = "OPENAI_API_KEY",
    arguments: Mapping[str, Any] | None = None,
    settings: RequestSettings | Mapping[str, Any] | None = None,
) -> ServerJudge:
    """
    A judge for [`rate_pairs`] behind an OpenAI-compatible server.

    It is asked for the log-probabilities of its answer. A server that refuses them is asked without.

    Args:
        model (`str`):
            Model of the server.
        base_url (`str`, *optional*):
            Address of the server. `None` is `OPENAI_BASE_URL`, then OpenAI's own.
        api_key_env (`str`, *optional*, defaults to `"OPENAI_API_KEY"`):
            Environment variable with the key.
        arguments (`dict`, *optional*):
            Further arguments of each request; `None` as a value takes one of ours away. `"{answers}"` stands for the list of the
            answers that a question allows, for servers that can hold a model to them, as vLLM does by
            `{"extra_body": {"structured_outputs": {"choice": "{answers}"}}}`.
        settings ([`RequestSettings`] or `dict`, *optional*):
            Retries and concurrency, such as `{"max_concurrency": 32}`.
    """
    settings = request_settings(settings)
    client = OpenAIClient(base_url, api_key_env, model=model, settings=settings)
    return ServerJudge(model, client, settings, arguments)
