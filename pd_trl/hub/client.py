"""The client of the Hub, what its errors mean to a user, and which requests are tried again."""

import logging
import random
import time
from collections.abc import Callable
from typing import TypeVar

from huggingface_hub import HfApi, get_token
from huggingface_hub.errors import HfHubHTTPError, HTTPError, LocalTokenNotFoundError, OfflineModeIsEnabled
from huggingface_hub.utils import parse_ratelimit_headers

from .._version import __version__
from ..errors import InputError
from ..safety.secrets import masked_text
from ..text.waits import asked_wait

logger = logging.getLogger(__name__)

T = TypeVar("T")

TRANSIENT = (429, 500, 502, 503, 504)
# The branch moved since its head was read (412), or is being moved at this moment (409).
MOVED = (409, 412)
# Jitter must not draw from the generators that a user has seeded.
jitter = random.SystemRandom()


class HubError(InputError):
    """The Hub refused a request or could not be reached. The message says what was changed there."""


class HubUnreachableError(HubError):
    """The Hub could not be asked: there is no token, it is switched off, or the connection is lost."""


def hub_api(token: str | None = None) -> HfApi:
    """A client of the Hub, by `token` or else the one that the user is logged in with."""
    return HfApi(token=token, library_name="pd_trl", library_version=__version__)


def scrubbed(text: str, token: str | None = None) -> str:
    """`text` without secrets: neither the tokens in use nor anything that looks like one."""
    return masked_text(text, (token, get_token()))


def status_of(error: Exception) -> int | None:
    """Status of the response behind an error; `None` where there was no response."""
    return getattr(getattr(error, "response", None), "status_code", None)


def is_transient(error: Exception) -> bool:
    """Whether the same request may succeed later."""
    status = status_of(error)
    return status in TRANSIENT if status is not None else isinstance(error, HTTPError)


def seconds_to_wait(error: Exception, attempt: int) -> float:
    """Pause before the next try: what the Hub asks for, or twice as long each time."""
    headers = getattr(getattr(error, "response", None), "headers", None) or {}
    asked, limit = asked_wait(headers), parse_ratelimit_headers(headers)
    # Every answer says when the limit is renewed; it is worth waiting for where nothing of it is left.
    if asked is None and limit is not None and limit.remaining == 0:
        asked = float(limit.reset_in_seconds)
    if asked is not None:
        return asked + jitter.uniform(0, 0.2)
    return min(60.0, 2.0**attempt) * jitter.uniform(0.5, 1)


class Patience:
    """
    Pauses between tries, until `attempts` were spent or the pauses add up to `seconds`.

    Args:
        attempts (`int`, *optional*, defaults to `6`): Tries in all.
        seconds (`float`, *optional*, defaults to `900.0`): Longest sum of pauses.
    """

    def __init__(self, attempts: int = 6, seconds: float = 900.0):
        self.left, self.seconds, self.tries = attempts - 1, seconds, 0

    def wait(self, error: Exception, what: str, pause: float | None = None) -> bool:
        """Pauses and returns `True`, or returns `False` where no try or too little time is left."""
        pause = seconds_to_wait(error, self.tries) if pause is None else pause
        if self.left <= 0 or pause > self.seconds:
            return False
        self.left, self.seconds, self.tries = self.left - 1, self.seconds - pause, self.tries + 1
        reason = status_of(error) or type(error).__name__
        logger.info("%s: the Hub answered %s; trying again in %.1f s.", what, reason, pause)
        time.sleep(pause)
        return True


def retried(call: Callable[[], T], what: str, *, attempts: int = 6) -> T:
    """
    What `call()` returns, tried again while the Hub is busy or the connection is lost.

    [`HfApi`] tries uploads again, but neither a commit nor a question that the Hub answers with 429 or 5xx:
    test_commit_is_tried_again_while_the_hub_is_busy, test_busy_hub_is_asked_again.

    Raises:
        HubError: When it is refused, or all tries are spent. `what` says in the message what was attempted.
    """
    patience = Patience(attempts)
    while True:
        try:
            return call()
        except (HTTPError, OfflineModeIsEnabled, LocalTokenNotFoundError) as error:
            if not is_transient(error) or not patience.wait(error, what):
                raise explained(error, what) from None


def explained(error: Exception, what: str) -> HubError:
    """One message for the error of a request, which says what to do."""
    status, kind = status_of(error), HubError
    server = " ".join(scrubbed(getattr(error, "server_message", None) or "").split())
    said = f" The Hub says: {server.rstrip('.')}." if server else ""
    if isinstance(error, OfflineModeIsEnabled):
        kind, advice = HubUnreachableError, "the Hub is switched off by HF_HUB_OFFLINE. Unset it, or publish later."
    elif isinstance(error, LocalTokenNotFoundError):
        kind, advice = HubUnreachableError, "there is no token. Log in with `hf auth login`, or set HF_TOKEN."
    elif status == 401:
        advice = f"the token is not valid, or has expired. Log in again with `hf auth login`, or set HF_TOKEN.{said}"
    elif status == 403:
        advice = (
            f"the token has no right to do this.{said} Use a token with write access, ask the organization for it, or propose "
            "the change with create_pr (--create_pr true)."
        )
    elif status == 404:
        advice = f"it is not there, or the token may not see it.{said}"
    elif status == 429:
        advice = f"the Hub limits the rate of requests, also after several tries.{said} Try again later."
    elif status in MOVED:
        advice = f"others kept changing the repository at the same time.{said} Try again later."
    elif status is not None and status >= 500:
        advice = f"the Hub failed (status {status}), also after several tries.{said} Try again later."
    elif isinstance(error, HfHubHTTPError):
        advice = f"the Hub refused it (status {status}).{said}"
    else:
        reason = scrubbed(" ".join(str(error).split())) or type(error).__name__
        kind = HubUnreachableError
        advice = f"the connection to the Hub was lost ({reason.rstrip('.')}). Check it, and try again."
    return kind(f"{what}: {advice}")
