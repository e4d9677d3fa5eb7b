"""Where the response of a tokenised conversation begins."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from ..errors import InputError


def template_options(row: Mapping[str, Any]) -> dict[str, Any]:
    """What a row hands to the chat template: its tools, and TRL's `chat_template_kwargs`."""
    options = dict(row.get("chat_template_kwargs") or {})
    tools = row.get("tools")
    if tools:
        options["tools"] = json.loads(tools) if isinstance(tools, str) else tools
    return options


def split_conversation(prompt: Any, response: Any, name: Callable[[], str]) -> Any:
    """
    The prompt of a conversation: as given, else the messages before the last.

    Args:
        prompt (`str` or list of messages, *optional*): The prompt, where the row has one.
        response (`str` or list of messages): The response, or the whole conversation.
        name (callable): What to call the conversation in a message.

    Raises:
        InputError: Where a text holds its prompt.
    """
    if prompt is not None:
        return prompt
    if isinstance(response, str):
        raise InputError(
            f"The heads read the mean over the response, and nothing says where it begins in {name()}: the text holds its prompt. "
            "Give the prompt in a column 'prompt'."
        )
    return list(response)[:-1]


def prompt_ids(tokenizer: PreTrainedTokenizerBase, prompt: Any, options: Mapping[str, Any]) -> list[int]:
    """Tokens of a prompt: of a text as they are, of messages with the start of the answer that the chat template sets."""
    if isinstance(prompt, str):
        return list(tokenizer(text=prompt, verbose=False)["input_ids"]) if prompt else []
    if not prompt:
        return []
    ids = tokenizer.apply_chat_template(prompt, tokenize=True, return_dict=True, add_generation_prompt=True, **options)
    return list(ids["input_ids"])


def common_start(one: Sequence[int], other: Sequence[int]) -> int:
    """Number of tokens with which two sequences begin alike: a token across the border of prompt and response is the response's."""
    size = min(len(one), len(other))
    differs = np.flatnonzero(np.asarray(one[:size]) != np.asarray(other[:size]))
    return int(differs[0]) if differs.size else size
