"""The requests and the cost of an evaluation, before anything is sent."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...runs.row_log import RowLog
from ...servers.questions import estimated_tokens, request_arguments, request_key
from ...servers.requests import known_answers
from ...servers.settings import RequestSettings
from ...text.tables import table
from ..judges.openai_client import PROMPT, comparison_requests, unreadable
from .annotator import Annotator
from .completions import price_per_token
from .judging import shown_comparisons
from .outputs import AlignedOutputs
from .session import alpaca_eval_session


@dataclass(frozen=True)
class AlpacaPlan:
    """
    An evaluation before it runs.

    Args:
        judge (`str`): Name of the judge.
        num_instructions (`int`): Instructions to compare.
        problems (`dict`): Problems of the outputs.
        num_requests (`int`): Requests of the whole evaluation.
        num_known (`int`): Requests that an earlier run has answered, which are not sent.
        num_tokens (`int`): Estimated tokens of the other requests, prompt and answer.
        cost (`float`, *optional*): Estimate in dollars. `None` if the price is unknown, 0 for a judge on this machine.
        length_control (`str`, *optional*): Why there will be no length-controlled win rate; `None` if there will be one.
    """

    judge: str
    num_instructions: int
    problems: dict[str, int]
    num_requests: int
    num_known: int
    num_tokens: int
    cost: float | None
    length_control: str | None

    def __str__(self) -> str:
        cost = "unknown (give `price_per_million_tokens`)" if self.cost is None else f"about ${self.cost:.2f}"
        rows = [["judge", self.judge], ["instructions", f"{self.num_instructions:,}"]]
        rows += [[f"{kind} instructions or outputs", f"{n:,}"] for kind, n in self.problems.items() if n]
        rows += [
            ["requests", f"{self.num_requests:,} ({self.num_known:,} answered before)"],
            ["tokens still to pay (estimate)", f"{self.num_tokens:,}"],
            ["cost (estimate)", cost],
            ["length control", "yes" if self.length_control is None else f"no: {self.length_control}"],
        ]
        return "\n".join(table([["AlpacaEval, dry run", ""], *rows]))


def plan_requests(
    annotator: Annotator, aligned: AlignedOutputs, log: RowLog, price_per_million_tokens: float | None
) -> tuple[int, int, int, float | None]:
    """Number of requests, number of answered ones, and tokens and cost of the others."""
    requests = annotator.requests(aligned.rows)
    known_keys = known_answers(log, requests, annotator.settings.requests, annotator.unreadable)
    left = [request for key, request in requests.items() if key not in known_keys]
    tokens = sum(estimated_tokens(request) for request in left)
    if price_per_million_tokens is not None:
        cost: float | None = tokens * price_per_million_tokens / 1e6
    else:
        with alpaca_eval_session():
            prices = [price_per_token(single.completions_kwargs) for single in annotator.singles.values()]
        known = [price for price in prices if price is not None]
        cost = tokens * max(known) if len(known) == len(prices) else None
    return len(requests), len(requests) - len(left), tokens, cost


def plan_comparisons(
    model: str, arguments: Mapping[str, Any] | None, aligned: AlignedOutputs, log: RowLog
) -> tuple[int, int, int]:
    """For a chat model with our prompt: number of requests, number of answered ones, and tokens of the others."""
    requests = comparison_requests(shown_comparisons(aligned.rows), PROMPT, request_arguments(model, arguments))
    by_key = {request_key(request): request for request in requests}
    known = known_answers(log, by_key, RequestSettings(), unreadable)
    left = [request for key, request in by_key.items() if key not in known]
    return len(by_key), len(by_key) - len(left), sum(map(estimated_tokens, left))
