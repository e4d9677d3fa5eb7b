"""Adapters: each is the one place that knows a public schema."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from ..json_columns import Problems


@dataclass(frozen=True)
class Options:
    """
    Arguments of [`load_pairs`] that an adapter may need.

    Args:
        pairing (`str`):
            Pairing rule for more than two responses per prompt.
        seed (`int`):
            Seed of the `"random"` pairing.
        split (`str`, defaults to `"train"`):
            Requested split, for sources that keep it in a column.
        column_mapping (`Mapping[str, str]`, *optional*):
            Names of our columns in the source.
        on_invalid (`str`, defaults to `"error"`):
            Whether unreadable values are an error, or their rows are marked.
    """

    pairing: str
    seed: int
    split: str = "train"
    column_mapping: Mapping[str, str] | None = None
    on_invalid: str = "error"

    def new_problems(self) -> Problems | None:
        """A new collection of rows that cannot be read; `None` if they are an error."""
        return {} if self.on_invalid == "drop" else None


@dataclass
class Converted:
    """
    The pairs that an adapter makes from a source table.

    Args:
        table (`pa.Table`):
            One row per pair: `prompt` (absent for conversations that share their first messages), `response_a`,
            `response_b`, labels `rating_<aspect>_a`, `rating_<aspect>_b`, `pref_<aspect>`, and columns passed through.
        skipped (`dict[str, int]`):
            Rows, prompts or responses of the source that formed no pair, by reason.
        left_out (`list[str]`):
            Columns or fields of the source that are not passed through.
        problems (`dict[str, np.ndarray]`):
            Rows of the table with values that cannot be read, by reason.
    """

    table: pa.Table
    skipped: dict[str, int] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    problems: Problems = field(default_factory=dict)


@dataclass(frozen=True)
class Adapter:
    """
    A family of sources with one schema.

    Args:
        name (`str`):
            Name to pass as `adapter`.
        hub_ids (`tuple[str, ...]`):
            Hub datasets it serves.
        columns (`tuple[str, ...]`):
            Columns that identify the schema, shown when nothing matches.
        matches (`Callable`):
            Whether a table with these Arrow fields (name to type) has the schema.
        convert (`Callable`):
            Turns the source table into pairs.
        pairing (`str`, *optional*):
            Default pairing rule; `None` where each row of the source is one pair.
        rating_range (`tuple[float, float]`, *optional*):
            Lowest and highest aspect rating; outside is an error.
        load_kwargs (`Mapping`, *optional*):
            For a config name, arguments of `load_dataset` in place of the config.
        hub_splits (`Mapping[str, Mapping[str, str]]`, *optional*):
            For a Hub id (or `<id>/<config>`), the real name of each requested split.
        by_row (`bool`, defaults to `False`):
            Whether a row of the source becomes the same pairs whatever other rows there are, so that rows can be read in
            parts. Not for the pairing `"best_worst"`.
    """

    name: str
    hub_ids: tuple[str, ...]
    columns: tuple[str, ...]
    matches: Callable[[Mapping[str, pa.DataType]], bool]
    convert: Callable[[pa.Table, Options], Converted]
    pairing: str | None = None
    rating_range: tuple[float, float] | None = None
    load_kwargs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    hub_splits: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    by_row: bool = False


def has_columns(*required: str) -> Callable[[Mapping[str, pa.DataType]], bool]:
    """Returns a `matches` that holds when all the columns are there."""
    return lambda fields: set(required) <= set(fields)


def pass_through(table: pa.Table, consumed: set[str]) -> dict[str, pa.ChunkedArray]:
    """Returns the columns of the table that are not consumed."""
    return {name: table.column(name) for name in table.column_names if name not in consumed}
