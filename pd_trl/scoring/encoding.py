"""Tokens of a prompt and its response, the same as TRL's RewardTrainer makes of them."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from ..errors import InputError
from ..models.inputs import Conversation, naming_refused_rows, with_eos
from ..models.responses import common_start, prompt_ids, split_conversation, template_options

Text = str | list[dict[str, Any]]
# The responses of a row: those of a pair, or the only one.
PAIR, SINGLE = ("chosen", "rejected"), ("response",)


def conversations(
    tokenizer: PreTrainedTokenizerBase, rows: Sequence[Mapping[str, Any]], sides: Sequence[str] = PAIR
) -> list[Text]:
    """Prompt and response of each side, the sides of each row in turn, ended by EOS where they are strings."""
    texts: list[Text] = []
    for row in rows:
        for side in sides:
            response = row[side]
            if isinstance(response, str):
                response = with_eos(tokenizer, response)
            texts.append(row["prompt"] + response if row.get("prompt") is not None else response)
    return texts


def encode_responses(
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[Text],
    rows: Sequence[Mapping[str, Any]] | None = None,
    name: Callable[[int], str] = lambda index: f"conversation {index}",
) -> list[list[int]]:
    """
    Tokens of each conversation of [`conversations`]. `rows`, the row of each conversation, are needed only where they
    carry `tools` or `chat_template_kwargs`; `name` says what to call the conversation at a position that the chat template
    refuses.
    """
    if not texts:
        return []
    if isinstance(texts[0], str):
        # Quiet about texts beyond the model's length: the caller counts them.
        return tokenizer(text=list(texts), verbose=False)["input_ids"]
    if not tokenizer.chat_template:
        raise InputError(
            "The data is conversational, but the reward model's tokenizer has no chat template. Set "
            "`tokenizer.chat_template` as in training, or pass plain strings."
        )
    options = [template_options(row) for row in rows] if rows is not None else []

    def named() -> Iterator[Conversation]:
        return ((name(i), text, options[i] if options else {}) for i, text in enumerate(texts))

    with naming_refused_rows(tokenizer, named):
        if any(options):
            return [
                tokenizer.apply_chat_template(text, tokenize=True, return_dict=True, **options[i])["input_ids"]
                for i, text in enumerate(texts)
            ]
        return tokenizer.apply_chat_template(list(texts), tokenize=True, return_dict=True)["input_ids"]


def response_key(text: Text, row: Mapping[str, Any]) -> str:
    """What two conversations share when they have the same tokens."""
    if isinstance(text, str):
        return text
    return json.dumps([text, template_options(row)], ensure_ascii=False, sort_keys=True, default=str)


def response_counts(
    tokenizer: PreTrainedTokenizerBase,
    encoded: Sequence[Sequence[int]],
    rows: Sequence[Mapping[str, Any]],
    responses: Sequence[Text],
    name: Callable[[int], str] = lambda index: f"conversation {index}",
) -> NDArray[np.int64]:
    """
    Tokens of the response with which each encoded conversation ends, shape `(num_conversations,)`.

    Args:
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]): Tokenizer of the reward model.
        encoded (sequence): What [`encode_responses`] gave.
        rows (sequence of mappings): Row of each conversation.
        responses (sequence): The row's response.
        name (callable, *optional*): What to call the conversation at a position.

    Raises:
        InputError: Where a text holds its prompt, so that nothing says where the response begins.
    """
    known: dict[str, list[int]] = {}
    counts = np.empty(len(encoded), dtype=np.int64)
    for i, (ids, row, response) in enumerate(zip(encoded, rows, responses, strict=True)):
        prompt = split_conversation(row.get("prompt"), response, partial(name, i))
        key = response_key(prompt, row)
        if key not in known:
            known[key] = prompt_ids(tokenizer, prompt, template_options(row))
        counts[i] = max(1, len(ids) - common_start(known[key], ids))
    return counts
