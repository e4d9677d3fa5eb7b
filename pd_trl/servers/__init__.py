"""OpenAI-compatible servers: requests with limits and retries, and answers that are checked before they are kept."""

from .client import OpenAIClient, public_address
from .requests import RequestFailed, RequestPool, UselessAnswers, known_answers
from .settings import RequestSettings, request_settings

__all__ = [
    "OpenAIClient",
    "RequestFailed",
    "RequestPool",
    "RequestSettings",
    "UselessAnswers",
    "known_answers",
    "public_address",
    "request_settings",
]
