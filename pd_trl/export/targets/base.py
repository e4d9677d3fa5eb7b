"""What a trainer reads: the form of a row, what it cannot hold, and how its configuration names the data."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ...text.names import display_name
from ..pairs import Message, Pair

# Fields of a message that every reader of conversations takes.
PLAIN = frozenset({"role", "content"})


@dataclass(frozen=True)
class Written:
    """
    Data that lies in a folder, as configurations name it.

    Args:
        folder (`Path`): The folder, absolute.
        files (mapping): File of each part, `kept` and `dropped`, relative to the folder.
        rows (mapping): Number of rows of each part.
        chat (`bool`): Whether its texts are messages.
        tools (`bool`): Whether some rows have tools or tool calls.
        longest (`int`, *optional*): Tokens of the longest conversation, where a tokenizer was given.
        model (`str`, *optional*): The model of that tokenizer, where it has a name.
    """

    folder: Path
    files: Mapping[str, str]
    rows: Mapping[str, int]
    chat: bool
    tools: bool
    longest: int | None
    model: str | None

    def path(self, part: str) -> str:
        """Absolute path of a part."""
        return str(self.folder / self.files[part])

    @property
    def model_shown(self) -> str:
        """The model's name on a line of a comment."""
        return display_name(self.model) if self.model else "MODEL"

    def limit(self, room: int = 8) -> int | None:
        """A length that cuts no conversation, with `room` for what the trainer puts beside it."""
        return None if self.longest is None else self.longest + room

    def setting(self, name: str, default: str, room: int = 8) -> str:
        """A line of YAML that sets [`limit`], or says what happens without it."""
        if self.longest is None:
            return f"# {name}: {default}\n"
        return f"{name}: {self.limit(room)}  # the longest conversation has {self.longest} tokens\n"


@dataclass(frozen=True)
class Target:
    """
    A trainer that data is exported to.

    Args:
        title (`str`): Its name.
        row (callable): A pair in its form.
        refuses (callable): What of a pair it cannot hold, in words that follow a count; `None` where it holds all.
        files (callable): Name and text of each file that configures it.
        reads_chat (`bool`, *optional*, defaults to `True`): Whether it reads messages.
        reads_strings (`bool`, *optional*, defaults to `True`): Whether it reads plain texts.
        bare (`bool`, *optional*, defaults to `False`): Whether special tokens of plain texts must stand in the text.
        renders (`bool`, *optional*, defaults to `False`): Whether it takes messages as the text of a chat template.
        ends (`bool`, *optional*, defaults to `False`): Whether it puts a space and EOS after a text that does not end by EOS.
        parquet (`bool`, *optional*, defaults to `False`): Whether it reads parquet, and no jsonl.
        check_tokenizer (callable, *optional*): Raises `InputError` on a tokenizer with which it reads other tokens.
    """

    title: str
    row: Callable[[Pair], dict[str, Any]]
    refuses: Callable[[Pair], str | None]
    files: Callable[[Written], dict[str, str]]
    reads_chat: bool = True
    reads_strings: bool = True
    bare: bool = False
    renders: bool = False
    ends: bool = False
    parquet: bool = False
    check_tokenizer: Callable[[Any], None] = lambda texts: None


def other_fields(pair: Pair, known: frozenset[str] = PLAIN) -> str | None:
    """What messages have beside the `known` fields, in words; `None` where nothing."""
    found = {name for message in pair.messages for name in message} - known
    return f"messages with {', '.join(map(display_name, sorted(found)))}" if found else None


def chat_only(pair: Pair) -> str | None:
    """What a reader of role and content alone, which gives its template nothing else, cannot hold."""
    if pair.tools:
        return "tools"
    if pair.template_kwargs:
        return "arguments of the chat template"
    return other_fields(pair)


def single(side: Any) -> Message | None:
    """The only message of a response; `None` where there are more."""
    return side[0] if len(side) == 1 else None


def as_yaml(content: Any) -> str:
    """`content` as YAML."""
    return str(yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120))


def as_json(content: Any) -> str:
    """`content` as JSON for a file."""
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"
