"""How long a busy server asks its clients to wait."""

import contextlib
import email.utils
import math
import time
from collections.abc import Mapping


def asked_wait(headers: Mapping[str, str]) -> float | None:
    """
    Seconds that the headers of an answer ask to wait: in milliseconds, in seconds or by a date. `None` where they ask for no time.
    """
    given = {name.lower(): value for name, value in headers.items()}
    milliseconds, value = given.get("retry-after-ms", ""), given.get("retry-after", "")
    wait = math.nan
    with contextlib.suppress(TypeError, ValueError, OverflowError):
        wait = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
    with contextlib.suppress(ValueError):
        wait = float(value)
    with contextlib.suppress(ValueError):
        wait = float(milliseconds) / 1000
    return wait if wait > 0 else None
