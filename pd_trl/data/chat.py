"""Chat messages as Arrow columns: building, normalising and splitting conversations."""

import logging
import re
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..errors import InputTypeError
from .columnar import (
    CHUNK_ROWS,
    MESSAGES_TYPE,
    as_mask,
    chunked,
    is_list,
    is_messages,
    is_text,
    single_array,
    struct_field,
)
from .json_columns import (
    MEANINGFUL_FIELDS,
    Problems,
    half_read,
    has_json_fields,
    is_json,
    is_json_list,
    texts_from_json,
)

logger = logging.getLogger(__name__)


def text_kind(dtype: pa.DataType) -> str | None:
    """Returns `"text"`, `"chat"`, or `None` for a type that is neither."""
    if is_text(dtype):
        return "text"
    return "chat" if is_messages(dtype) else None


def wrap_text(column: pa.ChunkedArray, role: str) -> pa.ChunkedArray:
    """Returns each text as a list with one message of the role; a null text stays null."""
    parts = []
    for chunk in chunked(column).chunks:
        chunk = chunk.cast(pa.string())
        roles = pa.repeat(pa.scalar(role), len(chunk))
        messages = pa.StructArray.from_arrays([roles, chunk.fill_null("")], fields=list(MESSAGES_TYPE.value_type))
        offsets = pa.array(np.arange(len(chunk) + 1, dtype=np.int32))
        mask = chunk.is_null() if chunk.null_count else None
        parts.append(pa.ListArray.from_arrays(offsets, messages, type=MESSAGES_TYPE, mask=mask))
    return pa.chunked_array(parts, type=MESSAGES_TYPE)


def _warn_of_fields(extra: list[str], name: str) -> None:
    if extra:
        logger.warning("Column %r: only role and content of its messages are kept; %s are left out.", name, extra)


def normalize_text(column: pa.ChunkedArray, name: str, problems: Problems | None = None) -> pa.ChunkedArray:
    """
    Returns a text column as `string`, or a chat column as lists of `{"role", "content"}`.

    Args:
        column (`pa.ChunkedArray`):
            Strings, lists of messages (other fields of a message are left out and logged), or JSON of either.
        name (`str`):
            Name of the column, for the message of the error.
        problems (`dict`, *optional*):
            Gets, by reason, the rows that cannot be read: of another kind than most, without text, or with messages
            that say more than their content. Without it, the first two are errors and the last is not checked.

    Raises:
        InputTypeError: If the column holds neither strings nor messages.
        InputError: If some rows are strings and others are messages.
    """
    extra: list[str] = []
    if is_json(column.type) or is_json_list(column.type) or has_json_fields(column.type):
        column, extra = texts_from_json(column, name, problems)
    elif is_list(column.type) and pa.types.is_null(column.type.value_type):
        column = column.cast(MESSAGES_TYPE)
    kind = text_kind(column.type)
    if kind == "text":
        return column if pa.types.is_string(column.type) else _to_string(column)
    if kind is None:
        if pa.types.is_null(column.type):
            return column.cast(pa.string())
        raise InputTypeError(
            f'Column {name!r} must hold strings, or lists of {{"role", "content"}} messages, but its type is '
            f"{column.type}. Name the right column with column_mapping={{{name!r}: '<your column>'}}."
        )
    fields = {field.name for field in column.type.value_type}
    for part in ("role", "content"):
        kind = column.type.value_type.field(part).type
        if not (is_text(kind) or pa.types.is_null(kind)):
            raise InputTypeError(
                f"In column {name!r} the {part} of each message must be a string, but its type is {kind}. Messages of several "
                "parts (images, lists of text) are not supported: join their texts."
            )
    if problems is not None:
        problems |= _half_read_rows(column, name)
    _warn_of_fields(sorted({*extra, *fields} - {"role", "content"}), name)
    if column.type == MESSAGES_TYPE:
        return column
    return pa.chunked_array([_rebuild(chunk) for chunk in column.chunks], type=MESSAGES_TYPE)


def _half_read_rows(column: pa.ChunkedArray, name: str) -> Problems:
    found = {}
    for field in MEANINGFUL_FIELDS:
        if column.type.value_type.get_field_index(field) < 0:
            continue
        masks = []
        for chunk in column.chunks:
            offsets, messages = flatten(chunk)
            values = struct_field(messages, field)
            filled = as_mask(values.is_valid())
            if is_list(values.type):
                filled &= np.asarray(pc.list_value_length(values).fill_null(0)) > 0
            elif is_text(values.type):
                filled &= np.asarray(pc.utf8_length(values).fill_null(0)) > 0
            counts = np.concatenate([[0], np.cumsum(filled)])
            masks.append(counts[offsets[1:]] > counts[offsets[:-1]])
        mask = np.concatenate(masks) if masks else np.zeros(0, dtype=bool)
        if mask.any():
            found[half_read(name, field)] = mask
    return found


def _to_string(column: pa.ChunkedArray) -> pa.ChunkedArray:
    parts: list[pa.Array] = []
    for chunk in column.chunks:
        # A chunk of large_string may be too large for 32-bit offsets.
        step = len(chunk) if chunk.nbytes < 2**30 else 16_384
        parts.extend(chunk.slice(start, step).cast(pa.string()) for start in range(0, len(chunk), max(step, 1)))
    return pa.chunked_array(parts, type=pa.string())


def _rebuild(chunk: pa.Array) -> pa.Array:
    offsets, messages = flatten(chunk)
    fields = [struct_field(messages, name).cast(pa.string()) for name in ("role", "content")]
    structs = pa.StructArray.from_arrays(fields, fields=list(MESSAGES_TYPE.value_type))
    mask = chunk.is_null() if chunk.null_count else None
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), structs, type=MESSAGES_TYPE, mask=mask)


def flatten(column: pa.Array | pa.ChunkedArray) -> tuple[np.ndarray, pa.Array]:
    """Returns the row offsets of a list column, shape `(num_rows + 1,)`, and its concatenated values."""
    array = single_array(column)
    lengths = np.asarray(pc.list_value_length(array).fill_null(0).to_numpy(zero_copy_only=False), dtype=np.int64)
    return np.concatenate([[0], np.cumsum(lengths)]), array.flatten()


def _slice_messages(offsets: np.ndarray, messages: pa.Array, starts: np.ndarray, stops: np.ndarray) -> pa.ListArray:
    lengths = stops - starts
    new_offsets = np.concatenate([[0], np.cumsum(lengths)])
    indices = np.arange(new_offsets[-1]) + np.repeat(offsets[:-1] + starts - new_offsets[:-1], lengths)
    values = messages.take(pa.array(indices))
    return pa.ListArray.from_arrays(pa.array(new_offsets, pa.int32()), values, type=MESSAGES_TYPE)


def common_prefix(first: pa.ChunkedArray, second: pa.ChunkedArray) -> np.ndarray:
    """
    Returns the number of leading messages two conversations share, shape `(num_rows,)`.

    The last message of each conversation is never counted: it is the response, even if both responses are the same.
    """
    offsets_a, messages_a = flatten(first)
    offsets_b, messages_b = flatten(second)
    limit = np.maximum(np.minimum(np.diff(offsets_a), np.diff(offsets_b)) - 1, 0)
    length = np.zeros(len(limit), dtype=np.int64)
    active = np.flatnonzero(limit > 0)
    while len(active):
        left = messages_a.take(pa.array(offsets_a[active] + length[active]))
        right = messages_b.take(pa.array(offsets_b[active] + length[active]))
        same = np.ones(len(active), dtype=bool)
        for field in ("role", "content"):
            same &= as_mask(pc.equal(struct_field(left, field), struct_field(right, field)))
        active = active[same]
        length[active] += 1
        active = active[length[active] < limit[active]]
    return length


def starts_with_role(column: pa.ChunkedArray, role: str) -> np.ndarray:
    """Mask of the conversations whose first message has the role, or that have no messages, shape `(num_rows,)`."""
    parts = []
    for (block,) in _blocks(column):
        offsets, messages = flatten(block)
        starts = np.ones(len(block), dtype=bool)
        rows = np.flatnonzero(np.diff(offsets) > 0)
        roles = struct_field(messages, "role").take(pa.array(offsets[rows]))
        starts[rows] = as_mask(pc.equal(roles, role))
        parts.append(starts)
    return np.concatenate(parts)


def _blocks(*columns: pa.ChunkedArray) -> Iterator[tuple[pa.ChunkedArray, ...]]:
    # Blocks of rows keep every intermediate array far below 2 GiB, the limit of 32-bit offsets.
    for start in range(0, max(len(columns[0]), 1), CHUNK_ROWS):
        yield tuple(column.slice(start, CHUNK_ROWS) for column in columns)


def split_conversations(
    first: pa.ChunkedArray, second: pa.ChunkedArray
) -> tuple[pa.ChunkedArray, pa.ChunkedArray, pa.ChunkedArray]:
    """Returns (prompt, first response, second response): the shared leading messages, and what follows them."""
    prompts, responses_a, responses_b = [], [], []
    for left, right in _blocks(first, second):
        prefix = common_prefix(left, right)
        offsets_a, messages_a = flatten(left)
        offsets_b, messages_b = flatten(right)
        prompts.append(_slice_messages(offsets_a, messages_a, np.zeros_like(prefix), prefix))
        responses_a.append(_slice_messages(offsets_a, messages_a, prefix, np.diff(offsets_a)))
        responses_b.append(_slice_messages(offsets_b, messages_b, prefix, np.diff(offsets_b)))
    prompt, response_a, response_b = (
        pa.chunked_array(parts, type=MESSAGES_TYPE) for parts in (prompts, responses_a, responses_b)
    )
    return prompt, response_a, response_b


def text_length(column: pa.ChunkedArray) -> np.ndarray:
    """Returns the number of characters of each text (of all message contents for chat), shape `(num_rows,)`."""
    if not is_list(column.type):
        return np.asarray(pc.utf8_length(column).fill_null(0).to_numpy(), dtype=np.int64)
    parts = []
    for (block,) in _blocks(column):
        offsets, messages = flatten(block)
        contents = pc.utf8_length(struct_field(messages, "content")).fill_null(0)
        lengths = np.asarray(contents.to_numpy(zero_copy_only=False), dtype=np.int64)
        totals = np.concatenate([[0], np.cumsum(lengths)])
        parts.append(totals[offsets[1:]] - totals[offsets[:-1]])
    return np.concatenate(parts)


def equal_text(first: pa.ChunkedArray, second: pa.ChunkedArray) -> np.ndarray:
    """Mask of the rows in which two text or chat columns hold the same content, shape `(num_rows,)`."""
    if not is_list(first.type):
        return as_mask(pc.equal(first, second))
    return np.concatenate([_equal_messages(left, right) for left, right in _blocks(first, second)])


def _equal_messages(first: pa.ChunkedArray, second: pa.ChunkedArray) -> np.ndarray:
    offsets_a, messages_a = flatten(first)
    offsets_b, messages_b = flatten(second)
    same = (np.diff(offsets_a) == np.diff(offsets_b)) & (np.diff(offsets_a) > 0)
    rows = np.flatnonzero(same)
    last_a = messages_a.take(pa.array(offsets_a[rows + 1] - 1))
    last_b = messages_b.take(pa.array(offsets_b[rows + 1] - 1))
    same[rows] = common_prefix(first, second)[rows] == np.diff(offsets_a)[rows] - 1
    for field in ("role", "content"):
        same[rows] &= as_mask(pc.equal(struct_field(last_a, field), struct_field(last_b, field)))
    return same


_TURN = re.compile(r"\n?<extra_id_[01]>(User|Assistant|System)\n?")


def split_turns(prompt: str) -> list[dict[str, str]]:
    """
    Returns the messages of a prompt with `<extra_id_1>Assistant` / `<extra_id_1>User` turn markers.

    Text before the first marker is the first user message. An empty last assistant turn, the place of the response, is
    left out.
    """
    pieces = _TURN.split(prompt)
    messages = [{"role": "user", "content": pieces[0]}] if pieces[0].strip() else []
    for role, content in zip(pieces[1::2], pieces[2::2], strict=True):
        messages.append({"role": role.lower(), "content": content})
    if messages and messages[-1]["role"] == "assistant" and not messages[-1]["content"].strip():
        messages.pop()
    return messages
