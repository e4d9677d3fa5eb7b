"""Sets of instructions: AlpacaEval's, local files, and data sets of the Hub."""

import logging
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from ..data import load_source
from ..data.checks import ROLES
from ..data.encoding import read_json_rows
from ..data.forms.messages import to_messages
from ..data.forms.values import UnreadError
from ..data.json_columns import MEANINGFUL_FIELDS
from ..data.prompts import missing_parts, prompt_of_row
from ..errors import InputError
from ..hub import download_file, split_revision
from ..safety.media import without_media

logger = logging.getLogger(__name__)

ALPACA_EVAL = "alpaca_eval"
ALPACA_REPOSITORY = "tatsu-lab/alpaca_eval"
ALPACA_FILE = "alpaca_eval_gpt4_baseline.json"
ALPACA_REVISION = "2edc6fad8be6b14ea7230aabfd08188da6b8b814"
ALPACA_COUNT = 805

_COLUMNS = ("instruction", "prompt", "messages", "conversations", "conversation", "question")
Messages: TypeAlias = list[dict[str, Any]]


@dataclass(frozen=True)
class Instruction:
    """
    One instruction.

    Args:
        text (`str`): What identifies it: its text, or the turns of a conversation with their roles.
        prompt (`str` or `list` of messages): What the model answers.
        dataset (`str`): The set it belongs to.
    """

    text: str
    prompt: str | Messages
    dataset: str


def load_instructions(
    source: str | os.PathLike | Iterable[Any],
    *,
    split: str = "train",
    revision: str | None = None,
    column: str | None = None,
) -> list[Instruction]:
    """
    The distinct instructions of a set, in order.

    Args:
        source (`str`, path, or iterable):
            `"alpaca_eval"` (the 805 of AlpacaEval, from the Hub), a json, jsonl or parquet file, a folder, a Hub id
            (`"me/data@revision"`), or the rows themselves: strings, or mappings with one of the columns `instruction`, `prompt`,
            `messages`, `conversations`, `conversation` and `question`. An `instruction` is followed by its `input` (or `context`), and the text of a `system` column is the
            system message.
        split (`str`, *optional*, defaults to `"train"`):
            Split of a data set.
        revision (`str`, *optional*):
            Revision of a data set on the Hub. AlpacaEval's defaults to the one its numbers are known for.
        column (`str`, *optional*):
            Column of the instruction, where it has another name.

    Raises:
        InputError: When there is no such set, or an instruction is missing, empty, or no text.
    """
    if isinstance(source, (str, os.PathLike)):
        rows, name = _open(str(source), split, revision)
    else:
        rows, name = list(source), "custom"
    if not rows:
        raise InputError(f"The instruction set {name} has no rows.")
    column = column or _column_of(rows[0], name)
    items = [_instruction(row, i, column, name) for i, row in enumerate(rows)]
    _warn_of_parts(rows, items, column, name)
    instructions = {item.text: item for item in items}
    if len(instructions) < len(rows):
        logger.warning(
            "%d of the %d instructions of %s repeat another and are answered once.",
            len(rows) - len(instructions),
            len(rows),
            name,
        )
    if str(source) == ALPACA_EVAL and len(instructions) != ALPACA_COUNT:
        raise InputError(
            f"{ALPACA_FILE} of {ALPACA_REPOSITORY} has {len(instructions)} distinct instructions instead of {ALPACA_COUNT}. Pass a "
            f"revision whose file is whole, such as {ALPACA_REVISION}."
        )
    return list(instructions.values())


def _open(source: str, split: str, revision: str | None) -> tuple[list[Any], str]:
    if source == ALPACA_EVAL:
        path = download_file(ALPACA_REPOSITORY, ALPACA_FILE, revision=revision or ALPACA_REVISION)
        if path is None:
            raise InputError(f"The data set {ALPACA_REPOSITORY} has no file {ALPACA_FILE} at this revision.")
        return read_json_rows(Path(path)), ALPACA_EVAL
    local = Path(source).expanduser()
    if local.suffix == ".json" and local.is_file():
        rows = read_json_rows(local)
        if not isinstance(rows, list):
            raise InputError(f"{source} must hold a json list of instructions, but holds a {type(rows).__name__}.")
        return rows, local.stem
    if local.exists():
        return without_media(load_source(source, split=split)).to_list(), local.stem
    repo_id, pinned = split_revision(source)
    return without_media(load_source(repo_id, split=split, revision=revision or pinned)).to_list(), source


def _column_of(row: Any, name: str) -> str:
    if not isinstance(row, Mapping):
        return ""
    found = [column for column in _COLUMNS if row.get(column) is not None]
    if not found:
        raise InputError(
            f"The rows of {name} must have one of the columns {', '.join(_COLUMNS)}, but have {', '.join(map(str, row))}. Name "
            "yours with `instruction_column`."
        )
    return found[0]


def _warn_of_parts(rows: list[Any], items: list[Instruction], column: str, name: str) -> None:
    found = Counter(
        part
        for row, item in zip(rows, items, strict=True)
        if isinstance(row, Mapping)
        for part in missing_parts({k: v for k, v in row.items() if k != column}, item.prompt)
    )
    for part, count in found.items():
        logger.warning(
            "The prompts of %d rows of %s do not contain column %r. If a model should answer it too, add it to the prompt first.",
            count,
            name,
            part,
        )


def instruction_text(row: Mapping[str, Any]) -> Any:
    """What identifies the `instruction` of a row of outputs, as that of the instructions it answers."""
    prompt = prompt_of_row(row, "instruction")
    return conversation_text(prompt) if isinstance(prompt, list) else prompt


def conversation_text(messages: Messages) -> str:
    """What identifies a conversation: the text of a single message, or all turns with their roles."""
    if len(messages) == 1:
        return messages[0]["content"]
    return "\n\n".join(f"{message['role']}: {message['content']}" for message in messages)


def _instruction(row: Any, position: int, column: str, name: str) -> Instruction:
    try:
        if isinstance(row, Mapping):
            row = {**row, column: to_messages(row.get(column))}
        prompt = prompt_of_row(row, column) if isinstance(row, Mapping) else to_messages(row)
    except InputError as error:
        raise InputError(f"Row {position} of {name} {error}.") from None
    except UnreadError as error:
        raise InputError(f"Row {position} of {name} has {error}.") from None
    dataset = str(row.get("dataset") or name) if isinstance(row, Mapping) else name
    if isinstance(prompt, str) and prompt.strip():
        return Instruction(prompt, prompt, dataset)
    if isinstance(prompt, list) and prompt and all(_is_message(message) for message in prompt):
        messages = [{"role": message["role"], "content": message["content"]} for message in prompt]
        if messages[-1]["role"] == "assistant":
            messages.pop()
        if messages:
            return Instruction(conversation_text(messages), messages, dataset)
    raise InputError(
        f"Row {position} of {name} must have a text that is not empty, or messages with a role ({', '.join(ROLES)}), a content and "
        f"no {', no '.join(MEANINGFUL_FIELDS)}, {f'in {column!r}' if column else 'as the instruction'}, but has {str(prompt)[:60]!r}."
    )


def _is_message(message: Any) -> bool:
    return (
        isinstance(message, Mapping)
        and message.get("role") in ROLES
        and isinstance(message.get("content"), str)
        and not any(message.get(name) for name in MEANINGFUL_FIELDS)
    )
