"""A prompt with a list of responses, and their ratings beside them or inside: distilabel, Argilla, and the like."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from ...errors import InputError
from ..checks import first_reasons, raise_problems
from ..columnar import from_numpy, is_list, is_text, take_table
from ..forms.messages import to_messages
from ..forms.values import UnreadError, json_column, mark, values_of
from ..json_columns import Problems, is_json, is_json_list
from ..pairing import Responses, build_pairs
from ..prompts import with_input
from ..ratings import parse_numbers
from .base import Adapter, Converted, Options, pass_through
from .binarized import ADAPTER as BINARIZED
from .columns import ADAPTER as COLUMNS
from .list_ratings import OVERALL, add_ratings, aspect_of, without_metadata
from .responses import ADAPTER as RESPONSES
from .ultrafeedback import ADAPTER as ULTRAFEEDBACK

logger = logging.getLogger(__name__)

_PROMPTS = ("prompt", "instruction", "conversations", "messages", "conversation", "question", "query", "input")
_RESPONSES = ("completions", "generations", "responses", "outputs", "candidates", "answers", "replies", "samples")
_TEXTS = ("response", "completion", "text", "content", "output", "answer", "generation", "message", "messages")
_MODELS = ("models", "model", "generation_models", "model_names")


def _column_of(fields: Mapping[str, pa.DataType], names: Sequence[str]) -> str | None:
    return next((name for name in names if name in fields), None)


def _responses_column(fields: Mapping[str, pa.DataType]) -> str | None:
    for name in _RESPONSES:
        dtype = fields.get(name)
        if dtype is None:
            continue
        if is_json(dtype) or is_json_list(dtype):
            return name
        if is_list(dtype) and (
            is_text(dtype.value_type) or pa.types.is_struct(dtype.value_type) or is_list(dtype.value_type)
        ):
            return name
    return None


def _matches(fields: Mapping[str, pa.DataType]) -> bool:
    found = _responses_column(fields) is not None and _column_of(fields, _PROMPTS) is not None
    # A source that says which of the responses is the chosen one is read by that.
    return found and not any(adapter.matches(fields) for adapter in (ULTRAFEEDBACK, BINARIZED, COLUMNS, RESPONSES))


def convert(table: pa.Table, options: Options) -> Converted:
    """
    Returns pairs of the responses of each prompt, with their ratings by aspect; a rating that names no aspect is the overall one.

    Ratings are a list as long as the responses (of numbers, texts, or mappings of aspects), a mapping of aspects to such lists, or
    inside the responses. A row whose lists differ in length is refused.
    """
    fields = {field.name: field.type for field in table.schema}
    responses, prompt = _responses_column(fields), _column_of(fields, _PROMPTS)
    if responses is None or prompt is None:
        raise InputError(
            f"Lists of responses must have a column called {', '.join(_RESPONSES)}, and their prompts one called "
            f"{', '.join(_PROMPTS)}, but the columns are {table.column_names}."
        )
    rows = values_of(table.column(responses))
    beside = _columns_beside(table, rows, responses)
    refused: Problems = {}
    read = [_read_row(row, rows[row], beside, responses, refused, len(table)) for row in range(len(table))]
    if refused and options.on_invalid != "drop":
        raise_problems(refused, len(table), "Mend them, or drop them with on_invalid='drop'.")
    invalid, counts = first_reasons(refused, len(table))
    kept = np.flatnonzero(~invalid)
    entries = [(group, entry) for group, row in enumerate(kept) for entry in read[row]]
    table = take_table(table, kept)
    groups = np.array([group for group, _ in entries], dtype=np.int64)
    columns, scores, problems, left_out = _columns(entries)
    if problems and options.on_invalid != "drop":
        found = {reason: _rows_with(mask, groups, kept, len(invalid)) for reason, mask in problems.items()}
        raise_problems(found, len(invalid), "Turn them into numbers, into null, or drop them with on_invalid='drop'.")
    prompts = pass_through(table, {prompt, responses, *beside})
    prompts = {"prompt": with_input(table, prompt), **prompts}
    grouped = Responses(
        groups=groups,
        columns=columns,
        prompt_columns=prompts,
        scores=scores,
        prompt_keys=[str(key or "") for key in prompts["prompt"].to_pylist()],
        problems=problems,
    )
    pairs, unpaired, odd = build_pairs(grouped, options.pairing, options.seed)
    skipped = {f"rows whose {reason}": count for reason, count in counts.items()} | unpaired
    return Converted(pairs, skipped, left_out, odd)


def _columns_beside(table: pa.Table, rows: list[Any], responses: str) -> dict[str, list[Any]]:
    """Columns with a value for each response: ratings, and the names of models."""
    found = {}
    for name in table.column_names:
        dtype = table.field(name).type
        holds_several = is_list(dtype) or pa.types.is_struct(dtype) or is_json(dtype)
        if name == responses or not holds_several or not (name in _MODELS or aspect_of(name) is not None):
            continue
        values = values_of(table.column(name))
        if OVERALL.fullmatch(name) or any(_fits(value, given) for value, given in zip(values, rows, strict=True)):
            found[name] = values
        else:
            logger.warning(
                "Column %r has in no row a value for each of the %s: it is no rating of theirs.", name, responses
            )
    return found


def _fits(value: Any, responses: Any) -> bool:
    if isinstance(value, Mapping):
        return any(_fits(part, responses) for part in value.values())
    return isinstance(value, list) and isinstance(responses, list) and len(value) == len(responses)


def _read_row(
    row: int, responses: Any, beside: Mapping[str, list[Any]], name: str, refused: Problems, num_rows: int
) -> list[dict[str, Any]]:
    """The responses of a row, each with its `response`, `model` and `rating_<aspect>`."""
    if responses is None:
        mark(refused, f"{name} are null", row, num_rows)
        return []
    if not isinstance(responses, list):
        mark(refused, f"{name} are no list", row, num_rows)
        return []
    try:
        entries = [_read_response(value) for value in responses]
    except UnreadError as error:
        mark(refused, f"{name} have {error}", row, num_rows)
        return []
    for column, values in beside.items():
        try:
            together = _add(entries, column, values[row])
        except UnreadError as error:
            mark(refused, str(error), row, num_rows)
            continue
        if not together:
            mark(refused, f"{column} and {name} do not belong together one by one", row, num_rows)
    return entries


def _read_response(value: Any) -> dict[str, Any]:
    if isinstance(value, str):
        return {"response": value}
    if isinstance(value, Mapping):
        name = next((name for name in _TEXTS if value.get(name) is not None), None)
        if name is None:
            raise UnreadError("a response without a text")
        is_message = value.get("role") is not None or value.get("from") is not None
        text = to_messages(value if is_message else value[name])
        entry = {"response": _only_text(text)}
        for key, rating in value.items():
            if key in ("model", "model_name") and isinstance(rating, str):
                entry["model"] = rating
            elif key not in (*_TEXTS, "role", "from") and rating is not None:
                add_ratings(entry, key, rating)
        return entry
    return {"response": _only_text(to_messages(value))}


def _only_text(value: Any) -> str:
    """The text of a response that is a text, or a single message of the assistant."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], Mapping):
        message = value[0]
        if (
            set(message) == {"role", "content"}
            and message["role"] == "assistant"
            and isinstance(message["content"], str)
        ):
            return str(message["content"])
    raise UnreadError("a response that is neither a text nor a single message of the assistant")


def _add(entries: list[dict[str, Any]], column: str, value: Any) -> bool:
    """Adds what a column says of each response; `False` where there is another number of values than of responses."""
    if value is None:
        return True
    if isinstance(value, Mapping):
        parts = {key: part for key, part in value.items() if part is not None}
        lists = all(isinstance(part, list) for part in parts.values())
        return lists and all(_add(entries, f"rating_{key}", part) for key, part in parts.items())
    if not isinstance(value, list) or len(value) != len(entries):
        return False
    for entry, part in zip(entries, value, strict=True):
        if column in _MODELS:
            entry["model"] = part if isinstance(part, str) else None
        elif part is not None and not add_ratings(entry, column, part):
            return False
    return True


def _rows_with(mask: np.ndarray, groups: np.ndarray, kept: np.ndarray, num_rows: int) -> np.ndarray:
    """The rows of the source of which a response is marked."""
    rows = np.zeros(num_rows, dtype=bool)
    rows[kept[groups[mask]]] = True
    return rows


def _columns(
    entries: list[tuple[int, dict[str, Any]]],
) -> tuple[dict[str, pa.ChunkedArray], np.ndarray, Problems, list[str]]:
    """The responses' columns, what ranks them, the responses that cannot be read, and what is left out."""
    problems: Problems = {}
    entries, metadata = without_metadata(entries)
    columns = {"response": pa.chunked_array([pa.array([entry["response"] for _, entry in entries], pa.string())])}
    names = dict.fromkeys(key for _, entry in entries for key in entry if key != "response")
    scores: dict[str, np.ndarray] = {}
    left_out = metadata
    for name in names:
        values = [entry.get(name) for _, entry in entries]
        if name == "model":
            columns[name] = pa.chunked_array([pa.array(values, pa.string())])
            continue
        found: Problems = {}
        numbers = parse_numbers(json_column(values), name, found)
        if np.isnan(numbers).all():
            left_out.append(name.removeprefix("rating_"))
            continue
        problems |= found
        scores[name] = numbers
        columns[name] = from_numpy(numbers)
    if left_out:
        logger.warning("%s of the responses are no ratings, and are left out.", ", ".join(map(repr, left_out)))
    overall = scores.get("rating_overall")
    table = np.array([values for name, values in scores.items() if name != "rating_overall"])
    known = (~np.isnan(table)).sum(axis=0) if len(table) else np.zeros(len(entries))
    total = np.nansum(table, axis=0) if len(table) else np.zeros(len(entries))
    mean = np.divide(total, known, out=np.full(len(entries), np.nan), where=known > 0)
    return columns, mean if overall is None else overall, problems, left_out


ADAPTER = Adapter(
    name="lists",
    hub_ids=(),
    columns=("prompt", "completions", "ratings"),
    matches=_matches,
    convert=convert,
    pairing="all",
)
