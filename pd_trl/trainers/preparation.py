"""Checks of a trainer's rows, before and after TRL tokenises them."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from datasets import Dataset, IterableDataset
from numpy.typing import NDArray

from ..errors import InputError
from ..models.inputs import (
    Conversation,
    capitalised,
    check_eos,
    check_pad,
    check_template,
    check_token_ids,
    naming_refused_rows,
    num_embeddings,
)
from ..models.positions import stated_positions, table_positions
from ..safety.media import check_images, media_columns, undecoded

logger = logging.getLogger(__name__)

# What TRL reads images from.
_IMAGES = ("image", "images")
_ID_COLUMNS = ("prompt_ids", "chosen_ids", "rejected_ids")


def check_sides(dataset: Any, dataset_name: str) -> None:
    """Raises `InputError` unless the rows have both sides, as text or tokens."""
    columns = set(getattr(dataset, "column_names", None) or [])
    sides = ({"chosen", "rejected"}, {"chosen_ids", "rejected_ids"}, {"chosen_input_ids", "rejected_input_ids"})
    if columns and not any(pair <= columns for pair in sides):
        raise InputError(
            f"The {dataset_name} set must have the columns 'chosen' and 'rejected', but its columns are "
            f"{', '.join(sorted(columns))}. Rename yours with `rename_column`."
        )


def trained_rows(dataset: Any, dataset_name: str, images: bool = True) -> Any:
    """
    The rows (of each part of a mapping) as TRL may read them: without the columns of media that no trainer reads, so that
    nothing decodes them, and without empty columns of images.

    Args:
        dataset: Rows, a stream, a mapping of several, or `None`.
        dataset_name (`str`): Name of the set.
        images (`bool`, *optional*, defaults to `True`): Whether the trainer reads the columns `image` and `images`.

    Raises:
        InputError: Where a row's image, that the trainer would read, cannot be decoded.
    """
    if isinstance(dataset, dict):
        return {name: trained_rows(part, name, images) for name, part in dataset.items()}
    read = _IMAGES if images else ()
    unused = [name for name in media_columns(getattr(dataset, "features", None)) if name not in read]
    if unused:
        if isinstance(dataset, IterableDataset) and unused == media_columns(dataset.features):
            dataset = undecoded(dataset)
        dataset = dataset.remove_columns(unused)
        logger.info("The %s set's media in %s are not read.", dataset_name, ", ".join(map(repr, unused)))
    if images:
        dataset = _without_empty_images(dataset, dataset_name)
        if isinstance(dataset, Dataset):
            check_images(
                dataset, [name for name in _IMAGES if name in dataset.column_names], f"the {dataset_name} set"
            )
    return dataset


@contextmanager
def naming_images() -> Iterator[None]:
    """A block in which TRL makes a trainer. Where it finds images that the model cannot read, an `InputError` says what to do."""
    try:
        yield
    except ValueError as error:
        if "vision-related" not in str(error):
            raise
        raise InputError(
            "The data have images (columns 'image' or 'images'), and the model reads text only, though TRL takes such a set for one of "
            "vision. Train a vision-language model, or remove the columns where the texts are enough."
        ) from None


def _without_empty_images(dataset: Any, dataset_name: str) -> Any:
    """
    The rows without the columns `image` and `images` where no row has an image: TRL takes a set for one of images by the
    columns' names alone. A stream is left as it is, but for a column that is declared to hold nothing.
    """
    names = [name for name in _IMAGES if name in (getattr(dataset, "column_names", None) or [])]
    if isinstance(dataset, Dataset):
        empty = [name for name in names if not _holds_any(dataset, name)]
    else:
        features = getattr(dataset, "features", None) or {}
        empty = [name for name in names if getattr(features.get(name), "dtype", None) == "null"]
    if not empty:
        return dataset
    logger.info("No row of the %s set has an image: %s is left out.", dataset_name, " and ".join(map(repr, empty)))
    return dataset.remove_columns(empty)


def _holds_any(dataset: Dataset, column: str) -> bool:
    return any(
        not _is_empty(value.as_py())
        for batch in dataset.with_format("arrow").select_columns([column]).iter(batch_size=1000)
        for value in batch[column]
    )


def _is_empty(value: Any) -> bool:
    """Whether a value of an image column, one image or a list of them, holds none."""
    if isinstance(value, Mapping):
        return all(_is_empty(entry) for entry in value.values())
    if isinstance(value, list):
        return all(map(_is_empty, value))
    return value is None or value in ("", b"")


@contextmanager
def readable_rows(dataset: Any, tokenizer: Any, dataset_name: str) -> Iterator[Any]:
    """
    A block in which TRL tokenises preferences: rows that the tokenizer does not take are named. Gives the data set to
    tokenise, of a stream one that checks each row when it is read.

    Args:
        dataset ([`~datasets.Dataset`] or [`~datasets.IterableDataset`]): The preferences.
        tokenizer ([`~transformers.PreTrainedTokenizerBase`] or processor): The tokenizer.
        dataset_name (`str`): Name of the set.
    """
    check_pad(getattr(tokenizer, "tokenizer", tokenizer))
    first = next(iter(dataset), None)
    if first is None or "chosen" not in first:
        yield dataset
        return
    if isinstance(first["chosen"], str):
        check_eos(getattr(tokenizer, "tokenizer", tokenizer))
        yield dataset
        return
    if not tokenizer.chat_template:
        raise InputError(
            f"The {dataset_name} set is conversational, but the tokenizer has no chat template. Set `tokenizer.chat_template` "
            "(the argument `chat_template_path` of a reward training), or pass plain strings."
        )

    def conversations() -> Iterator[Conversation]:
        for index, row in enumerate(dataset):
            yield from _sides(row, index, dataset_name)

    if isinstance(dataset, IterableDataset):

        def checked(row: Mapping[str, Any], index: int) -> dict[str, Any]:
            for conversation in _sides(row, index, dataset_name):
                check_template(tokenizer, *conversation)
            return {}

        dataset = dataset.map(checked, with_indices=True, features=dataset.features)
    with naming_refused_rows(tokenizer, conversations):
        yield dataset


def _sides(row: Mapping[str, Any], index: int, dataset_name: str) -> Iterator[Conversation]:
    tools = row.get("tools")
    options = {**(row.get("chat_template_kwargs") or {}), **({"tools": tools} if tools else {})}
    prompt = row.get("prompt") or []
    for side in ("chosen", "rejected"):
        messages = [*prompt, *row[side]] if isinstance(row.get(side), list) else row.get(side)
        yield f"the {side} side of {_row_name(row, index, dataset_name)}", messages, options


def _row_name(row: Mapping[str, Any], index: int, dataset_name: str) -> str:
    """What to call a row: by its position, and its `pair_id` where it has one."""
    known = f" (pair_id {row['pair_id']!r})" if row.get("pair_id") is not None else ""
    return f"row {index} of the {dataset_name} set{known}"


def describe_dropped(given: int, left: int, dataset_name: str, reason: str) -> None:
    """Warns of rows that TRL's preparation dropped; raises `InputError` when none is left."""
    if left == 0 and given > 0:
        raise InputError(
            f"None of the {given} rows of the {dataset_name} set is left to use: all are {reason}. Raise `max_length`, or "
            "shorten the data."
        )
    if left < given:
        logger.warning(
            "%d of the %d rows of the %s set (%.1f %%) are %s and are dropped by TRL.",
            given - left,
            given,
            dataset_name,
            100 * (given - left) / given,
            reason,
        )


def token_counts(dataset: Dataset, *columns: str) -> list[NDArray[np.int64]]:
    """Number of tokens in these columns of each row, without loading the tokens into Python."""
    import pyarrow.compute as pc

    table = dataset.with_format("arrow").select_columns(list(columns))[:]
    return [pc.list_value_length(table[name]).to_numpy().astype(np.int64) for name in columns]


def check_tokenised(trainer: Any) -> None:
    """
    Raises `InputError` where a prepared row of a trainer's data has a token without an embedding, or more tokens than the model
    has learned positions for. The rows of a stream are checked when they are read.
    """
    tokenizer = getattr(trainer.processing_class, "tokenizer", trainer.processing_class)
    args = trainer.model, tokenizer, trainer.args.max_length

    def checked(dataset: Any, name: str) -> Any:
        if isinstance(dataset, dict):
            return type(dataset)({part: checked(rows, part) for part, rows in dataset.items()})
        if isinstance(dataset, IterableDataset):
            return _checked_stream(dataset, name, *args)
        if isinstance(dataset, Dataset) and "chosen_ids" in dataset.column_names and len(dataset):
            _check_prepared(dataset, name, *args)
        return dataset

    trainer.train_dataset = checked(trainer.train_dataset, "train")
    trainer.eval_dataset = checked(trainer.eval_dataset, "eval")


def _checked_stream(
    dataset: IterableDataset, name: str, model: Any, tokenizer: Any, max_length: int | None
) -> IterableDataset:
    size, usable = num_embeddings(model), table_positions(model)

    def check(row: Mapping[str, Any], index: int) -> dict[str, Any]:
        lengths = {column: len(row[column]) for column in _ID_COLUMNS if row.get(column)}
        for column, length in lengths.items():
            check_token_ids(row[column], [length], size, tokenizer, lambda _: _row_name(row, index, name))
        needed = lengths.pop("prompt_ids", 0) + max(lengths.values(), default=0)
        needed = needed if max_length is None else min(needed, max_length)
        if usable is not None and needed > usable:
            raise InputError(_too_long(_row_name(row, index, name), needed, usable))
        return {}

    return dataset.map(check, with_indices=True, features=dataset.features)


def _too_long(row: str, needed: int, usable: int, others: str = "") -> str:
    return (
        f"{capitalised(row)} has {needed} tokens, but the model has positions for {usable}{others}. Set `max_length` to {usable} or "
        "less."
    )


def _check_prepared(dataset: Dataset, name: str, model: Any, tokenizer: Any, max_length: int | None) -> None:
    import pyarrow.compute as pc

    columns = [c for c in _ID_COLUMNS if c in dataset.column_names]
    table = dataset.with_format("arrow").select_columns(columns)[:]
    lengths = {}

    def called(row: int) -> str:
        known = {"pair_id": dataset["pair_id"][row]} if "pair_id" in dataset.column_names else {}
        return _row_name(known, row, name)

    for column in columns:
        lengths[column] = pc.list_value_length(table[column]).to_numpy().astype(np.int64)
        ids = pc.list_flatten(table[column]).to_numpy()
        check_token_ids(ids, lengths[column], num_embeddings(model), tokenizer, called)
    needed = np.maximum(lengths["chosen_ids"], lengths["rejected_ids"]) + lengths.get("prompt_ids", 0)
    needed = needed if max_length is None else np.minimum(needed, max_length)
    stated = stated_positions(model.config)
    # A table is read in another way at its end only: short rows need no look.
    if stated is not None and needed.max() <= stated // 2:
        return
    usable = table_positions(model)
    if usable is not None and needed.max() > usable:
        row = int(np.argmax(needed > usable))
        raise InputError(_too_long(called(row), needed[row], usable, f" ({(needed > usable).sum()} such rows)"))
