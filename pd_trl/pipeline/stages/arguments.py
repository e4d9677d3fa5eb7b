"""How a stage declares an argument: its default and its help, which `--help` shows."""

from collections.abc import Sequence
from dataclasses import field
from typing import Any

# Of arguments that many stages have.
OVERWRITE = "Replace another run's result in `output_dir`."
OVERWRITE_KEEPS_ANSWERS = f"{OVERWRITE} Answers that are paid for are kept."
REMOTE_CODE = "Whether to run code that comes with a model."
RESUMED = "Folder of the result. A run that was interrupted goes on there."


def argument(default: Any, help: str, *, choices: Sequence[Any] | None = None) -> Any:
    """
    A field of a dataclass of arguments.

    Args:
        default: Its default.
        help (`str`): What `--help` says of it.
        choices (sequence, *optional*): The values it takes.
    """
    return field(
        default=default, metadata={"help": help} | ({"choices": list(choices)} if choices is not None else {})
    )
