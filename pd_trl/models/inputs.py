"""What a model can take in: rows that its tokenizer writes out, tokens that have an embedding, positions that it has."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from datasets import Dataset, IterableDataset
from jinja2 import TemplateError
from numpy.typing import ArrayLike
from torch.utils._python_dispatch import TorchDispatchMode

from ..errors import InputError

# What a chat template raises on messages that it does not take: by itself, or where content is null or of another type.
TEMPLATE_FAULTS = (TemplateError, TypeError, ValueError, KeyError, AttributeError, IndexError)

_ID_COLUMNS = ("prompt_ids", "chosen_ids", "rejected_ids")
_PAD_ADVICE = (
    "The tokenizer has no pad token in its vocabulary, and no EOS token in its place. Set `tokenizer.pad_token` (the argument "
    "`pad_token` of a training) to a token that it has and texts have not."
)

# A conversation: what to call it, its messages, and arguments of the template.
Conversation = tuple[str, Any, Mapping[str, Any]]


def with_eos(tokenizer: Any, response: str) -> str:
    """A plain response, ended by EOS, as TRL's trainers end it."""
    check_eos(tokenizer)
    return response if response.endswith(tokenizer.eos_token) else response + tokenizer.eos_token


def check_eos(tokenizer: Any) -> None:
    """Raises `InputError` where the tokenizer has no EOS token, which ends every plain text."""
    if tokenizer.eos_token is None:
        advice = f" Its `sep_token` is {tokenizer.sep_token!r}." if getattr(tokenizer, "sep_token", None) else ""
        raise InputError(
            "The tokenizer has no EOS token, which ends every response of plain text. Set `tokenizer.eos_token` (the argument "
            f"`eos_token` of a reward training) to the token that ends a text.{advice}"
        )


@contextmanager
def naming_missing_pad() -> Iterator[None]:
    """A block in which TRL makes a trainer. Where it finds no pad token, an `InputError` says what to set."""
    try:
        yield
    except ValueError as error:
        if "`pad_token`" not in str(error):
            raise
        raise InputError(_PAD_ADVICE) from None


def check_pad(tokenizer: Any) -> None:
    """Raises `InputError` where nothing can fill up a batch: the tokenizer has neither a pad nor an EOS token."""
    if tokenizer.pad_token is None and tokenizer.eos_token is None:
        raise InputError(_PAD_ADVICE)


@contextmanager
def naming_refused_rows(tokenizer: Any, conversations: Callable[[], Iterable[Conversation]]) -> Iterator[None]:
    """
    A block that applies a chat template. Where it fails, and a conversation fails by itself too, an `InputError` names that
    conversation.

    Args:
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]): The tokenizer.
        conversations (callable): Gives what the block reads. Called after a failure only.
    """
    try:
        yield
    except InputError:
        raise
    except TEMPLATE_FAULTS:
        for conversation in conversations():
            check_template(tokenizer, *conversation)
        raise


def check_template(tokenizer: Any, name: str, messages: Any, options: Mapping[str, Any]) -> None:
    """Raises `InputError` where the chat template does not take these messages."""
    try:
        tokenizer.apply_chat_template(messages, tokenize=False, **options)
    except TEMPLATE_FAULTS as error:
        roles = ", ".join(str(m.get("role")) for m in messages if isinstance(m, Mapping))
        raise InputError(
            f"The model's chat template refuses {name} (roles: {roles or 'none'}): {' '.join(str(error).split())}. Change its "
            "messages, or leave the row out."
        ) from None


def check_token_ids(
    ids: ArrayLike, lengths: ArrayLike, size: int | None, tokenizer: Any, name: Callable[[int], str]
) -> None:
    """
    Raises `InputError`, naming the sequence, where a token has no embedding.

    Args:
        ids (array of shape `(num_tokens,)`): Tokens of all sequences.
        lengths (array of shape `(num_sequences,)`): Tokens of each.
        size (`int`, *optional*): Embeddings of the model, see [`num_embeddings`]. `None` checks nothing.
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]): Its tokenizer.
        name (callable): What to call the sequence at a position.
    """
    ids = np.asarray(ids)
    if size is None or not ids.size or int(ids.max()) < size:
        return
    place = int(np.argmax(ids >= size))
    row = int(np.searchsorted(np.cumsum(lengths), place, side="right"))
    raise InputError(
        f"{_capitalised(name(row))} has the token {tokenizer.convert_ids_to_tokens(int(ids[place]))!r} with the id {int(ids[place])}, but the "
        f"model has {size} embeddings (ids 0 to {size - 1}). Use the tokenizer that the model was trained with, or call "
        "`model.resize_token_embeddings(len(tokenizer))` and train it."
    )


def num_embeddings(model: Any) -> int | None:
    """Rows of the model's table of token embeddings; `None` where it has none."""
    size = getattr(_token_table(model), "num_embeddings", None)
    return size if isinstance(size, int) and size > 0 else None


def _token_table(model: Any) -> Any:
    try:
        return model.get_input_embeddings()
    except (AttributeError, NotImplementedError):
        return None


def positions_of(model: Any) -> int | None:
    """
    Most tokens that a model takes: what its configuration says, or less where it cannot use all rows of its table of positions
    (RoBERTa's begin behind its pad token's). `None` where nothing limits it.
    """
    limits = [limit for limit in (stated_positions(model.config), table_positions(model)) if limit is not None]
    return min(limits, default=None)


def stated_positions(config: Any) -> int | None:
    """Positions in a configuration; `None` where it names none or says that they have no limit, as XLNet's does."""
    stated = getattr(config.get_text_config(), "max_position_embeddings", None)
    return stated if isinstance(stated, int) and stated > 0 else None


def table_positions(model: Any) -> int | None:
    """
    Most tokens that a model's learned position embeddings are enough for; `None` where it has none.

    It is found by running the model on two short rows: a table is one of positions where it is asked for consecutive rows, one
    for each token.
    """
    tokens = _token_table(model)
    tables = [m for m in model.modules() if isinstance(m, torch.nn.Embedding) and m is not tokens]
    if not tables:
        return None
    found = [_lookups(model, length) for length in (3, 4)]
    usable = [size - first for size, first in found[0] & found[1]]
    return min(usable, default=None)


def _lookups(model: Any, length: int) -> set[tuple[int, int]]:
    """Rows and first index of each table that is asked for consecutive rows, one for each of `length` tokens."""
    config = model.config.get_text_config()
    pad, end = getattr(config, "pad_token_id", None), getattr(config, "eos_token_id", None)
    ends = end if isinstance(end, list) else [end]
    special = {pad, *ends}
    token = next(i for i in range(len(special) + 1) if i not in special)
    # A classifier of BART's kind reads its reward at EOS.
    size = num_embeddings(model) or 0
    last = token if ends[0] in (None, pad) or not 0 <= ends[0] < size else ends[0]
    device = next(model.parameters()).device
    row = torch.tensor([[token] * (length - 1) + [last]], device=device)
    asked = _TableLookups()
    training = model.training
    model.eval()
    try:
        with torch.no_grad(), asked:
            model(input_ids=row, attention_mask=torch.ones_like(row))
    except (RuntimeError, NotImplementedError, TypeError, ValueError, IndexError, AttributeError):
        # A model that does not run like this tells nothing; what it was asked before counts.
        pass
    finally:
        model.train(training)
    return {
        (size, int(rows[0]))
        for size, rows in asked.seen
        if len(rows) >= length and bool((rows[:length].diff() == 1).all())
    }


class _TableLookups(TorchDispatchMode):
    """Records what tables of embeddings are asked for, row by row of the first sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[int, torch.Tensor]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.embedding.default:
            table, rows = args[:2]
            # A matrix of rows is of relative positions, or of a batch, which this is not.
            if rows.ndim == 1 or (rows.ndim == 2 and rows.shape[0] == 1):
                self.seen.append((table.shape[0], rows.reshape(-1).clone()))
        return func(*args, **(kwargs or {}))


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
        yield f"the {side} side of {row_name(row, index, dataset_name)}", messages, options


def row_name(row: Mapping[str, Any], index: int, dataset_name: str) -> str:
    """What to call a row: by its position, and its `pair_id` where it has one."""
    known = f" (pair_id {row['pair_id']!r})" if row.get("pair_id") is not None else ""
    return f"row {index} of the {dataset_name} set{known}"


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
            check_token_ids(row[column], [length], size, tokenizer, lambda _: row_name(row, index, name))
        needed = lengths.pop("prompt_ids", 0) + max(lengths.values(), default=0)
        needed = needed if max_length is None else min(needed, max_length)
        if usable is not None and needed > usable:
            raise InputError(_too_long(row_name(row, index, name), needed, usable))
        return {}

    return dataset.map(check, with_indices=True, features=dataset.features)


def _too_long(row: str, needed: int, usable: int, others: str = "") -> str:
    return (
        f"{_capitalised(row)} has {needed} tokens, but the model has positions for {usable}{others}. Set `max_length` to {usable} or "
        "less."
    )


def _check_prepared(dataset: Dataset, name: str, model: Any, tokenizer: Any, max_length: int | None) -> None:
    import pyarrow.compute as pc

    columns = [c for c in _ID_COLUMNS if c in dataset.column_names]
    table = dataset.with_format("arrow").select_columns(columns)[:]
    lengths = {}

    def called(row: int) -> str:
        known = {"pair_id": dataset["pair_id"][row]} if "pair_id" in dataset.column_names else {}
        return row_name(known, row, name)

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


def _capitalised(text: str) -> str:
    return text[:1].upper() + text[1:]
