"""What reward models are tested on: examples with right and wrong responses, from pairs, preferences and RewardBench."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from datasets import Dataset

from ..data.forms.messages import to_messages
from ..data.forms.values import UnreadError
from ..data.prompts import INPUT_COLUMNS, INSTRUCTION, SYSTEM_COLUMNS, prompt_of_row
from ..data.validation import column_aspects
from ..errors import InputError


@dataclass(frozen=True)
class Example:
    """
    One question to a reward model.

    Args:
        subset (`str`): What it belongs to: an aspect, or a benchmark's subset.
        prompt (`str` or messages, *optional*): The prompt; `None` where responses hold the whole conversation.
        right (`tuple`): Responses that should get the higher rewards.
        wrong (`tuple`): The others.
    """

    subset: str
    prompt: Any
    right: tuple[Any, ...]
    wrong: tuple[Any, ...]


@dataclass
class Examples:
    """
    Examples of one data set.

    Args:
        examples (`list` of [`Example`]): The examples.
        benchmark (`bool`): Whether plain strings are turns of a conversation, as in RewardBench.
        left_out (`dict`): Number of labels left out, by reason.
    """

    examples: list[Example]
    benchmark: bool = False
    left_out: dict[str, int] = field(default_factory=dict)


def to_examples(dataset: Dataset) -> Examples:
    """
    Reads examples from pairs (`response_a`, `response_b`, `pref_<aspect>`: one for each decided label), preferences (`chosen`,
    `rejected`, by `aspect`), allenai/reward-bench (the same, by `subset`), or allenai/reward-bench-2 (lists of responses).

    Raises:
        InputError: When the columns are of none of these, or no example is left.
    """
    names = set(dataset.column_names)
    if {"response_a", "response_b"} <= names:
        result = _from_pairs(dataset)
    elif {"chosen", "rejected"} <= names:
        result = _from_sides(dataset)
    else:
        raise InputError(
            "Reward models are tested on pairs (response_a, response_b, pref_<aspect>), preferences (chosen, rejected), or "
            f"RewardBench's columns, but the columns are {', '.join(sorted(names))}."
        )
    if not result.examples:
        raise InputError(f"No example is left to test on: {result.left_out}.")
    return result


def _from_pairs(dataset: Dataset) -> Examples:
    labels = [name for name in dataset.column_names if name.startswith("pref_") and column_aspects([name])]
    if not labels:
        raise InputError(
            f"Pairs must have a label pref_<aspect>, but the columns are {', '.join(dataset.column_names)}. Pass the data through "
            "`load_pairs` first."
        )
    result = Examples([], left_out={"ties": 0, "unlabelled": 0})
    columns = dataset.select_columns(["response_a", "response_b", *labels])
    for index, (row, prompt) in enumerate(zip(columns, _prompts(dataset), strict=True)):
        first, second = (_read(row[side], index) for side in ("response_a", "response_b"))
        for label in labels:
            value = row[label]
            if value is None or value != value or value == 0.5:
                result.left_out["ties" if value == 0.5 else "unlabelled"] += 1
                continue
            sides = (first,), (second,)
            right, wrong = sides if value > 0.5 else sides[::-1]
            result.examples.append(Example(label.removeprefix("pref_"), prompt, right, wrong))
    return result


def _from_sides(dataset: Dataset) -> Examples:
    names = dataset.column_names
    group = next((name for name in ("subset", "aspect") if name in names), None)
    columns = dataset.select_columns([name for name in ("chosen", "rejected", group) if name in names])
    # Preferences carry the name of their aspect and are scored as they were trained on.
    result = Examples([], benchmark=group == "subset", left_out={"empty sides": 0})
    for index, (row, prompt) in enumerate(zip(columns, _prompts(dataset), strict=True)):
        right, wrong = (_responses(_read(row[side], index)) for side in ("chosen", "rejected"))
        if not right or not wrong:
            result.left_out["empty sides"] += 1
            continue
        subset = str(row[group]) if group and row[group] is not None else "all"
        result.examples.append(Example(subset, prompt, right, wrong))
    return result


def _prompts(dataset: Dataset) -> list[Any]:
    """
    The prompt of each row, an instruction with its input, after the text of a system column: all texts or all messages; `None`
    where the responses hold it.
    """
    column = next((name for name in ("prompt", INSTRUCTION) if name in dataset.column_names), None)
    if column is None:
        return [None] * len(dataset)
    names = [name for name in (column, *INPUT_COLUMNS, *SYSTEM_COLUMNS) if name in dataset.column_names]
    prompts = []
    for index, row in enumerate(dataset.select_columns(names)):
        try:
            prompts.append(prompt_of_row({**row, column: _read(row[column], index)}, column))
        except InputError as error:
            raise InputError(f"Row {index} {error}.") from None
    if any(isinstance(prompt, list) for prompt in prompts):
        return [[{"role": "user", "content": p}] if isinstance(p, str) else p for p in prompts]
    return prompts


def _read(value: Any, index: int) -> Any:
    """A text or conversation in any form that is known, as text or messages."""
    try:
        return to_messages(value)
    except UnreadError as error:
        raise InputError(f"Row {index} has {error}.") from None


def _responses(side: Any) -> tuple[Any, ...]:
    """One response (a text, or messages) or a list of them."""
    if side is None:
        return ()
    if isinstance(side, str):
        return (side,)
    if side and isinstance(side[0], Mapping):
        return (side,)
    return tuple(side)


def characters(response: Any) -> int:
    """Length of a response in characters; of messages, the length of the last turn."""
    return len(response if isinstance(response, str) else str(response[-1].get("content") or ""))
