"""How a stage declares an argument: its default and its help, which `--help` shows."""

from collections.abc import Sequence
from dataclasses import field
from typing import Any

from ...errors import InputError
from ...runs.launch import num_processes
from ...runs.on_ray import ENGINES
from ...servers.settings import RequestSettings

# Of arguments that many stages have.
OVERWRITE = "Replace another run's result in `output_dir`."
OVERWRITE_KEEPS_ANSWERS = f"{OVERWRITE} Answers that are paid for are kept."
REMOTE_CODE = "Whether to run code that comes with a model."
RESUMED = "Folder of the result. A run that was interrupted goes on there."
BASE_URL = "Address of an OpenAI-compatible server."
API_KEY_ENV = "Environment variable with the key."

WEIGHTS = "Type of the weights. auto is bfloat16 on a GPU or a CPU that computes in it, else float32. Where unset, a CPU has float32."
DTYPES = ("float32", "bfloat16", "float16")
NUM_ACTORS = "Actors of --engine ray. Where unset, one a GPU, else one a CPU."

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


def weights_argument(what: str = WEIGHTS) -> Any:
    """The field of a stage that names the type of the weights it computes with."""
    return argument(None, what, choices=("auto", *DTYPES))


def engine_argument(process: str) -> Any:
    """The field of a stage that says who works; `process` is what `--help` says of the engine without Ray."""
    return argument("process", f"process ({process}) or ray (at RAY_ADDRESS, or this machine).", choices=list(ENGINES))


def check_engine(arguments: Any, elsewhere: str = "") -> None:
    """Raises `InputError` where `engine` and `num_actors` of a stage do not fit. `elsewhere` says what does without Ray."""
    count, on_ray = arguments.num_actors, arguments.engine == "ray"
    if count is not None and count < 1:
        raise InputError(f"`num_actors` must be at least 1, got {count}.")
    if count is not None and not on_ray:
        raise InputError(f"`num_actors` is of --engine ray.{elsewhere and ' '}{elsewhere}")
    if on_ray and num_processes() > 1:
        raise InputError("--engine ray needs no launcher: start one process, and Ray has the others (`num_actors`).")


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
