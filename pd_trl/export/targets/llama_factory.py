"""LLaMA-Factory: its sharegpt form for messages, its alpaca form for plain texts."""

import json
from typing import Any

from ..pairs import Message, Pair
from .base import PLAIN, Target, Written, as_json, as_yaml, other_fields, single

# Who may speak at even places, and who at odd ones.
_TURNS = (("user", "tool"), ("assistant",))
_FIELDS = PLAIN | {"tool_calls", "tool_call_id", "name"}
# Its templates put the number of the turn in the place of the first, and look for thoughts and calls by the others.
_TURN_NUMBER = "{{idx}}"
_CALL_MARKS = ("<tool_call>", "<think>")
_TAGS = {
    "role_tag": "role",
    "content_tag": "content",
    "user_tag": "user",
    "assistant_tag": "assistant",
    "observation_tag": "tool",
    "function_tag": "function_call",
    "system_tag": "system",
}


def _row(pair: Pair) -> dict[str, Any]:
    if not pair.is_chat:
        return pair.identified(instruction=pair.prompt, chosen=pair.chosen, rejected=pair.rejected)
    system, turns = _system_and_turns(pair)
    return pair.identified(
        conversations=[_message(message) for message in turns],
        chosen=_message(pair.chosen[0]),
        rejected=_message(pair.rejected[0]),
        system=system,
        tools=json.dumps(pair.tools, ensure_ascii=False) if pair.tools else "",
    )


def _system_and_turns(pair: Pair) -> tuple[str, list[Message]]:
    prompt: Any = pair.prompt
    if prompt and prompt[0]["role"] == "system":
        return prompt[0]["content"], prompt[1:]
    return "", prompt


def _message(message: Any) -> Message:
    calls = message.get("tool_calls")
    if calls:
        return {"role": "function_call", "content": _calls(calls)}
    return {"role": message["role"], "content": message["content"]}


def _calls(calls: list[Any]) -> str:
    return json.dumps([call["function"] for call in calls], ensure_ascii=False)


def _refuses(pair: Pair) -> str | None:
    if not pair.is_chat:
        return f"texts with {_TURN_NUMBER}" if _TURN_NUMBER in str(pair.prompt) else None
    if pair.template_kwargs:
        return "arguments of the chat template"
    for name, side in (("chosen", pair.chosen), ("rejected", pair.rejected)):
        message = single(side)
        if message is None:
            return f"a {name} side of several messages"
        if message["role"] != "assistant":
            return f"a {name} side that is not the assistant's"
    system, turns = _system_and_turns(pair)
    if pair.prompt != turns and not system:
        return "an empty system message"
    if len(turns) % 2 == 0 or any(m["role"] not in _TURNS[i % 2] for i, m in enumerate(turns)):
        return "turns that do not alternate between the user (or a tool) and the assistant"
    return other_fields(pair, _FIELDS) or next(filter(None, map(_unreadable, pair.messages)), None)


def _unreadable(message: Message) -> str | None:
    calls = message.get("tool_calls")
    if message["role"] != "tool" and message.get("name") is not None:
        return "messages with name, other than a tool's"
    if calls and (message["content"] or "").strip():
        return "messages with both a text and tool calls"
    if calls and any(mark in _calls(calls) for mark in _CALL_MARKS):
        return f"tool calls whose arguments hold {' or '.join(_CALL_MARKS)}"
    if message["role"] == "user" and _TURN_NUMBER in message["content"]:
        return f"texts with {_TURN_NUMBER}"
    return None


def _files(written: Written) -> dict[str, str]:
    columns = {"chosen": "chosen", "rejected": "rejected"}
    if written.chat:
        form: dict[str, Any] = {
            "formatting": "sharegpt",
            "columns": {"messages": "conversations", **columns, "system": "system", "tools": "tools"},
            "tags": _TAGS,
        }
    else:
        form = {"formatting": "alpaca", "columns": {"prompt": "instruction", **columns}}
    entries = {f"pd_{part}": {"file_name": name, "ranking": True, **form} for part, name in written.files.items()}
    template = "template: TEMPLATE  # the name that LLaMA-Factory has for the chat template of your model\n"
    if written.chat and written.tools:
        template = template.rstrip("\n") + "; its words for tools are its own\n"
    if not written.chat:
        template = "template: empty  # the texts have their special tokens\n"
    # Its templates may have a system message and words for tools of their own.
    room = (256 + 1024 * written.tools) if written.chat else 8
    settings = {"stage": "dpo", "do_train": True, "dataset_dir": str(written.folder), "dataset": "pd_kept"}
    if written.model:
        settings = {"model_name_or_path": written.model, **settings}
    return {
        "dataset_info.json": as_json(entries),
        "llama_factory.yaml": "# llamafactory-cli train llama_factory.yaml\n"
        + as_yaml(settings)
        + template
        + written.setting("cutoff_len", "2048 is LLaMA-Factory's default; longer conversations are cut", room),
    }


LLAMA_FACTORY = Target("LLaMA-Factory", _row, _refuses, _files, bare=True, renders=True)
