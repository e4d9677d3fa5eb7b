"""Rows of preferences, one at a time: what a trainer reads of them."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from datasets import Dataset

from ..errors import InputError
from ..safety.media import undecoded_batches
from ..text.names import display_name

Message: TypeAlias = dict[str, Any]
Text: TypeAlias = str | list[Message]

_SIDES = ("prompt", "chosen", "rejected")
_MEDIA = ("image", "images", "video", "videos", "audio", "audios")


@dataclass(frozen=True)
class Pair:
    """
    A preference as TRL's DPO trainer reads it.

    Args:
        row (`int`): Its position in the data.
        prompt (`str` or `list` of messages): The prompt.
        chosen (`str` or `list` of messages): The better response.
        rejected (`str` or `list` of messages): The other.
        tools (`list`): Definitions of tools.
        template_kwargs (`dict`): Further arguments of the chat template.
        media (`bool`): Whether there are images, sounds or the like.
        pair_id (`str`, *optional*): Its id.
    """

    row: int
    prompt: Text
    chosen: Text
    rejected: Text
    tools: list[Any] = field(default_factory=list)
    template_kwargs: dict[str, Any] = field(default_factory=dict)
    media: bool = False
    pair_id: str | None = None

    @property
    def is_chat(self) -> bool:
        """Whether its texts are messages."""
        return not isinstance(self.prompt, str)

    @property
    def messages(self) -> list[Message]:
        """All messages; none of strings."""
        sides = (self.prompt, self.chosen, self.rejected)
        return [message for side in sides if not isinstance(side, str) for message in side]

    def identified(self, **columns: Any) -> dict[str, Any]:
        """`columns` with the id, where there is one."""
        return columns if self.pair_id is None else {**columns, "pair_id": self.pair_id}


def pairs_of(dataset: Dataset) -> Iterator[Pair]:
    """
    The rows of `dataset`.

    Raises:
        InputError: Where a row is no preference.
    """
    missing = [name for name in ("chosen", "rejected") if name not in dataset.column_names]
    if missing:
        raise InputError(
            f"Preferences must have the columns 'chosen' and 'rejected', but {missing} are missing: the columns are "
            f"{dataset.column_names}. Make preferences from pairs with to_preferences, or name the folder of `pd-trl select`."
        )
    wanted = {*_SIDES, *_MEDIA, "tools", "chat_template_kwargs", "pair_id"}
    dataset = dataset.select_columns([name for name in dataset.column_names if name in wanted])
    row = 0
    for batch in undecoded_batches(dataset):
        for values in zip(*batch.values(), strict=True):
            yield _pair(row, dict(zip(batch, values, strict=True)))
            row += 1


def as_messages(pair: Pair) -> Pair:
    """A pair of strings as a user's message and an assistant's answers."""
    if pair.is_chat:
        return pair
    prompt = [{"role": "user", "content": pair.prompt}]
    chosen, rejected = ([{"role": "assistant", "content": side}] for side in (pair.chosen, pair.rejected))
    return replace(pair, prompt=prompt, chosen=chosen, rejected=rejected)


def _pair(row: int, values: dict[str, Any]) -> Pair:
    if "prompt" not in values:
        values |= _split_prompt(row, values)
    texts = {name: _text(values[name], name, row) for name in _SIDES}
    if len({isinstance(text, str) for text in texts.values()}) > 1:
        raise _wrong(row, "mixes strings and messages. Make all three strings, or all three lists of messages")
    if texts["chosen"] == texts["rejected"]:
        raise _wrong(row, "has the same text on both sides. Remove it")
    if texts["prompt"] == []:
        raise _wrong(row, "has a prompt without messages. Remove it")
    for name in ("chosen", "rejected"):
        if _is_blank(texts[name]):
            raise _wrong(row, f"has an empty {name!r} side. Remove it")
    return Pair(
        row,
        **texts,
        tools=_tools(values.get("tools"), row),
        template_kwargs=_without_nulls(_json(values.get("chat_template_kwargs"), "chat_template_kwargs", row) or {}),
        media=any(values.get(name) not in (None, [], b"") for name in _MEDIA),
        pair_id=None if values.get("pair_id") is None else str(values["pair_id"]),
    )


def _is_blank(side: Text) -> bool:
    """Whether a response says nothing: no text, and no call of a tool."""
    if isinstance(side, str):
        return not side.strip()
    said = (m["content"].strip() if isinstance(m["content"], str) else m["content"] for m in side)
    return not any(said) and not any(m.get("tool_calls") for m in side)


def _split_prompt(row: int, values: Mapping[str, Any]) -> dict[str, Any]:
    from trl import extract_prompt

    sides = {name: values[name] for name in ("chosen", "rejected")}
    if any(not isinstance(side, (str, list)) for side in sides.values()) or len({*map(type, sides.values())}) > 1:
        raise _wrong(row, "holds neither two strings nor two lists of messages")
    if sides["chosen"] == sides["rejected"]:
        raise _wrong(row, "has the same text on both sides. Remove it")
    found = extract_prompt(sides)
    if not found["prompt"]:
        raise _wrong(row, "has no prompt: its sides share no beginning. Add a column 'prompt'")
    return dict(found)


def _text(value: Any, name: str, row: int) -> Text:
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise _wrong(row, f"holds {type(value).__name__} as {name!r}, which must be a string or a list of messages")
    messages = []
    for message in value:
        if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
            raise _wrong(row, f"has a message in {name!r} without a role")
        # Arrow gives each message the fields of all.
        known = {key: part for key, part in message.items() if part is not None}
        known["content"] = message.get("content")
        if isinstance(known["content"], list):
            known["content"] = _joined(known["content"])
        if known.get("tool_calls"):
            known["tool_calls"] = [_tool_call(call, name, row) for call in known["tool_calls"]]
        else:
            known.pop("tool_calls", None)
            if known["content"] is None:
                raise _wrong(row, f"has a message in {name!r} with neither content nor tool calls")
        messages.append(known)
    return messages


def _joined(parts: list[Any]) -> Any:
    """Parts of text as one text; others stay, and are refused by every target."""
    texts = [part.get("text") for part in parts if isinstance(part, Mapping) and part.get("type") == "text"]
    return "".join(map(str, texts)) if len(texts) == len(parts) and None not in texts else parts


def _tool_call(call: Any, name: str, row: int) -> dict[str, Any]:
    function = call.get("function") if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise _wrong(row, f"has a tool call in {name!r} that names no function")
    arguments = _json(function.get("arguments"), f"arguments of {display_name(function['name'])}", row)
    known = {key: part for key, part in call.items() if part is not None}
    known["function"] = {"name": function["name"], "arguments": _without_nulls(arguments or {})}
    return known


def _tools(value: Any, row: int) -> list[Any]:
    tools = _json(value, "tools", row) or []
    if not isinstance(tools, list):
        raise _wrong(row, f"holds {type(tools).__name__} as 'tools', which must be a list of definitions")
    return [_without_nulls(_json(tool, "tools", row)) for tool in tools]


def _json(value: Any, name: str, row: int) -> Any:
    if not isinstance(value, str):
        return value
    try:
        found = json.loads(value)
        json.dumps(found, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise _wrong(row, f"has half a surrogate pair in its {name}") from None
    except (ValueError, RecursionError):
        raise _wrong(row, f"has {name} that are no JSON") from None
    return found


def _without_nulls(value: Any) -> Any:
    """What Arrow fills up: a mapping of a column has the keys of all rows."""
    if isinstance(value, Mapping):
        return {key: _without_nulls(part) for key, part in value.items() if part is not None}
    return [_without_nulls(part) for part in value] if isinstance(value, list) else value


def _wrong(row: int, what: str) -> InputError:
    return InputError(f"Row {row} of the preferences {what.rstrip('.')}.")
