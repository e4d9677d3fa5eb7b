"""An opened source of pairs, all of whose rows, or some, become pairs in normal form."""

import logging
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, TypeAlias

import datasets
import numpy as np
import pyarrow as pa

from ..errors import InputError
from .adapters import Adapter, Converted, Options, recognize
from .chat import equal_text, text_kind
from .checks import first_reasons, raise_problems
from .columnar import dataset_table, table_dataset
from .forms import read_forms
from .labels import label_columns
from .normal_form import add_ids, column_order, id_problems, row_problems, unify_texts
from .parts import needs_whole
from .prompts import warn_of_parts, with_system
from .readable import readable_rows, without_odd
from .sources import Source

logger = logging.getLogger(__name__)

Pairing: TypeAlias = Literal["all", "adjacent", "best_worst", "random"]
OnInvalid: TypeAlias = Literal["error", "drop"]


@dataclass
class LoadReport:
    """
    Report of [`load_pairs`].

    Args:
        source (`str`):
            Name of the source.
        adapter (`str`):
            Adapter used.
        pairing (`str`, *optional*):
            Pairing rule used; `None` if each row of the source is a pair.
        rows (`int`):
            Rows of the source.
        skipped (`dict[str, int]`):
            Rows, prompts or responses that formed no pair, by reason.
        formed (`int`):
            Pairs formed: `kept` plus all of `dropped`.
        kept (`int`):
            Pairs returned.
        dropped (`dict[str, int]`):
            Pairs dropped, by reason. Each pair has one reason.
        identical (`int`):
            Returned pairs with two identical responses.
        labelled (`dict[str, int]`):
            Labelled pairs of each aspect (and `overall`), ties included.
        chat (`bool`):
            Whether the pairs are conversational.
        left_out (`list[str]`):
            Columns or fields of the source that were not passed through.
    """

    source: str
    adapter: str
    pairing: str | None
    rows: int
    skipped: dict[str, int]
    formed: int = 0
    kept: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    identical: int = 0
    labelled: dict[str, int] = field(default_factory=dict)
    chat: bool = False
    left_out: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Returns the report as a dictionary that JSON can hold."""
        return asdict(self)


def _filter(columns: dict[str, pa.ChunkedArray], keep: np.ndarray) -> dict[str, pa.ChunkedArray]:
    mask = pa.chunked_array([pa.array(keep)])
    return {name: column.filter(mask) for name, column in columns.items()}


@dataclass
class OpenedPairs:
    """
    An opened source of pairs, and how its rows become pairs.

    Args:
        source ([`Source`]): The source.
        adapter ([`Adapter`], *optional*): The adapter asked for. `None` recognises it.
        pairing (`str`, *optional*): The pairing rule asked for.
        options ([`Options`]): What adapters are told, but for the pairing.
        rating_range (`tuple[float, float]`, *optional*): Lowest and highest rating of an aspect.
    """

    source: Source
    adapter: Adapter | None
    pairing: Pairing | None
    options: Options
    rating_range: tuple[float, float] | None = None

    def pairs(self) -> tuple[datasets.Dataset, LoadReport]:
        """All pairs in memory, and the report."""
        columns, report = self.convert(dataset_table(self.source.dataset))
        if not report.formed:
            raise InputError(f"{report.source} ({report.rows:,} rows) gives no pairs: {report.skipped}.")
        if not report.kept:
            raise InputError(f"No pair of {report.source} is left: {report.dropped}.")
        columns = add_ids(columns)
        pairs = pa.table({name: columns[name] for name in column_order(columns)})
        log_loaded(report)
        return table_dataset(pairs, self.source.dataset.features), report

    def convert(self, table: pa.Table) -> tuple[dict[str, pa.ChunkedArray], LoadReport]:
        """The pairs that rows of the source give, without ids that the source does not have, and the report of these rows."""
        source, options = self.source, self.options
        num_rows = len(table)
        table, invalid, unreadable = readable_rows(table, source, options.on_invalid)
        read, odd = read_forms(table, options.column_mapping)
        if odd and options.on_invalid == "error":
            raise_problems(odd, len(table), "Mend them, or drop them with on_invalid='drop'.")
        if read is not table:
            needs_whole("a form that is found by all values of a column")
        table = read
        chosen = self.adapter or recognize(
            {field.name: field.type for field in table.schema}, source.hub_id, source.name
        )
        if chosen.pairing is None and self.pairing is not None:
            raise InputError(
                f"pairing={self.pairing!r} is for sources with several responses per prompt, but each row of {source.name} "
                f"(adapter {chosen.name!r}) is one pair already. Leave pairing out."
            )
        rule = self.pairing or chosen.pairing
        if not chosen.by_row or rule == "best_worst":
            needs_whole("rows, or scores, that are compared with each other")
        table, more = without_odd(table, odd, invalid, source, by_two=rule == chosen.pairing == "adjacent")
        unreadable |= more
        converted = chosen.convert(table, replace(options, pairing=rule or "all"))
        skipped = unreadable | converted.skipped
        report = LoadReport(source.name, chosen.name, rule, num_rows, skipped, left_out=converted.left_out)
        if len(converted.table) == 0:
            return {}, report
        return _finish(converted, self.rating_range or chosen.rating_range, options.on_invalid, report), report


def _finish(
    converted: Converted, rating_range: tuple[float, float] | None, on_invalid: str, report: LoadReport
) -> dict[str, pa.ChunkedArray]:
    """Normalises the columns of an adapter, checks them, and fills in the report."""
    table, found = converted.table, dict(converted.problems)
    columns = unify_texts({name: table.column(name) for name in table.column_names}, found)
    columns = with_system(columns, found)
    warn_of_parts(columns)
    columns |= label_columns(columns, rating_range, found if on_invalid == "drop" else None)
    found |= row_problems(columns)
    if on_invalid == "drop":
        found |= id_problems(columns)
    report.formed = report.kept = len(table)
    if found:
        if on_invalid == "error":
            raise_problems(found, len(table), "Fix these rows, or drop them with on_invalid='drop'.", unit="pair")
        invalid, report.dropped = first_reasons(found, len(table))
        report.kept = int((~invalid).sum())
        columns = _filter(columns, ~invalid)
        if not report.kept:
            return columns
    report.identical = int(equal_text(columns["response_a"], columns["response_b"]).sum())
    report.chat = text_kind(columns["prompt"].type) == "chat"
    report.labelled = {
        name.removeprefix("pref_"): len(column) - column.null_count
        for name, column in columns.items()
        if name.startswith("pref_")
    }
    return columns


def log_loaded(report: LoadReport) -> None:
    logger.info(
        "%s: %d rows (adapter %s, pairing %s), %d pairs formed, %d kept.",
        report.source,
        report.rows,
        report.adapter,
        report.pairing,
        report.formed,
        report.kept,
    )
    for reason, count in report.skipped.items():
        logger.warning("%s: %d %s formed no pair.", report.source, count, reason)
    for reason, count in report.dropped.items():
        logger.warning("%s: %d pairs dropped, %s.", report.source, count, reason)
    if report.identical:
        logger.warning("%s: %d pairs have two identical responses.", report.source, report.identical)
    for aspect, count in report.labelled.items():
        if count == 0:
            logger.warning("%s: aspect %r has no labelled pair.", report.source, aspect)
    if report.left_out:
        logger.info("%s: not passed through: %s.", report.source, ", ".join(report.left_out))
