"""How a stage declares an argument: its default and its help, which `--help` shows."""

from collections.abc import Sequence
from dataclasses import field
from typing import Any

from ...servers.settings import RequestSettings

# Of arguments that many stages have.
OVERWRITE = "Replace another run's result in `output_dir`."
OVERWRITE_KEEPS_ANSWERS = f"{OVERWRITE} Answers that are paid for are kept."
REMOTE_CODE = "Whether to run code that comes with a model."
RESUMED = "Folder of the result. A run that was interrupted goes on there."
BASE_URL = "Address of an OpenAI-compatible server."
API_KEY_ENV = "Environment variable with the key."

# Flags of the settings of requests, and what `--help` says of them.
_REQUESTS = {
    "max_concurrency": ("max_concurrency", "Number of requests at the same time."),
    "max_retries": ("max_retries", "Number of retries after a 429, a 5xx or a timeout."),
    "request_timeout": ("timeout", "Longest time from the start of a request to the end of its answer, in seconds."),
    "max_askings": (
        "max_askings",
        "How often a question is asked while no answer can be read; half as often within one run.",
    ),
}


def request_argument(flag: str) -> Any:
    """The field of a stage that holds a setting of requests; [`request_settings_of`] reads it."""
    name, help = _REQUESTS[flag]
    return argument(getattr(RequestSettings, name), help)


def request_settings_of(arguments: Any) -> RequestSettings:
    """The settings of requests of a stage that has all their flags."""
    return RequestSettings(**{name: getattr(arguments, flag) for flag, (name, _) in _REQUESTS.items()})


def listed(value: str | Sequence[Any]) -> list[str]:
    """The values of an argument that takes several, with spaces or commas between them."""
    texts = [value] if isinstance(value, str) else value
    return [part.strip() for text in texts for part in str(text).split(",") if part.strip()]


def argument(default: Any, help: str, *, choices: Sequence[Any] | None = None) -> Any:
    """
    A field of a dataclass of arguments.

    Args:
        default: Its default.
        help (`str`): What `--help` says of it.
        choices (sequence, *optional*): The values it takes.
    """
    metadata = {"help": help} | ({"choices": list(choices)} if choices is not None else {})
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=metadata)
    return field(default=default, metadata=metadata)
