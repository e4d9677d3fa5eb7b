"""Fits a [`PDFilter`] to a stream. The rows are read once, and only the columns that decide are kept, on the disk."""

import contextlib
import itertools
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset, IterableDataset

from ...data.hash_files import write_hashes
from ...data.id_columns import id_hashes
from ...errors import InputError
from ..aspect_columns import GAP_PREFIX, VOTE_PREFIX, is_number_type
from ..fitted import FittedFilter
from ..model_gaps import STREAM_ROWS, ModelGaps
from .columns import check_numeric
from .ids import check_unique
from .parquet import ParquetSource
from .passes import Selection
from .search import Budgets
from .writing import BatchDecider, summed

_ROWS = 50_000
_DECISIVE = ("pair_id", "aspect", "delta_length")
_PREFIXES = (GAP_PREFIX, "rating_", VOTE_PREFIX)


def fit_stream(
    pd_filter: FittedFilter,
    stream: IterableDataset,
    *,
    batch_rows: int = _ROWS,
    scratch: str | None = None,
    budgets: Budgets | None = None,
) -> None:
    """
    Computes the statistics and the report of `pd_filter` from a stream, exactly as `PDFilter.fit` does from a
    `Dataset`, in bounded memory. Ids, aspects, gaps, ratings and votes are written to a temporary folder. Texts are
    not, so the report has no mean lengths.

    Args:
        pd_filter ([`FittedFilter`]): The filter, with `source` `"rewards"` or `"ratings"`.
        stream ([`~datasets.IterableDataset`]): Rows. It is read once.
        batch_rows (`int`, *optional*, defaults to `50_000`): Rows in memory at a time.
        scratch (`str`, *optional*): Parent of the temporary folder. `None` is the system's default.
        budgets ([`Budgets`], *optional*): Bounds of the passes.
    """
    if pd_filter.source == "column":
        raise InputError("A filter is fitted to a stream by gaps or ratings: use source='rewards' or 'ratings'.")
    with TemporaryDirectory(prefix="pd_trl-", dir=scratch) as folder:
        rows = Path(folder) / "rows.parquet"
        spool = _Spool(pd_filter, rows, batch_rows)
        hashes = spool.write(stream)
        source = ParquetSource(rows, rows_per_unit=batch_rows)
        selection = Selection(pd_filter, source, budgets)
        check_unique(source, hashes, source.num_rows)
        decision = selection.decide()
        pd_filter.report_ = selection.report(summed(BatchDecider(selection, decision)))


class _Spool:
    """
    Writes the columns of a stream that decide to the disk.

    Args:
        pd_filter ([`FittedFilter`]): The filter; its reward models score the rows that have no gaps.
        path (`Path`): Parquet file to write.
        batch_rows (`int`): Rows in memory at a time.
    """

    def __init__(self, pd_filter: FittedFilter, path: Path, batch_rows: int):
        self.filter, self.path, self.batch_rows = pd_filter, path, batch_rows
        self.ranked = {pd_filter.column_of(name) for name in pd_filter.rule.inputs if name != "pd"}
        self.also = {pd_filter.margin_column, *self.ranked}

    def write(self, stream: IterableDataset) -> list[Path]:
        """Reads the stream and returns the files with the hashes of its ids."""
        hashes: list[Path] = []
        schema: pa.Schema | None = None
        with contextlib.ExitStack() as stack:
            for table in self._tables(stream):
                if schema is None:
                    schema = _spool_schema(table.schema)
                    writer = stack.enter_context(pq.ParquetWriter(self.path, schema))
                writer.write_table(self._as_spooled(table, schema))
                hashes.append(self.path.with_name(f"ids-{len(hashes):06d}.npy"))
                write_hashes([id_hashes(chunk) for chunk in table.column("pair_id").chunks], hashes[-1])
        if schema is None:
            raise InputError("The stream is empty: there is nothing to select from.")
        return hashes

    def _tables(self, stream: IterableDataset) -> Iterator[pa.Table]:
        models: ModelGaps = self.filter.models
        if models.missing(list(stream.features or {})):
            rows = iter(stream)
            while batch := list(itertools.islice(rows, min(self.batch_rows, STREAM_ROWS))):
                scored = models.add_to_part(Dataset.from_list(batch, features=stream.features))
                names = [name for name in scored.column_names if _is_decisive(name, self.also)]
                yield scored.select_columns(names).with_format("arrow")[:]
            return
        yield from _tables(stream, self.also, self.batch_rows)

    def _as_spooled(self, table: pa.Table, schema: pa.Schema) -> pa.Table:
        missing = sorted(set(schema.names) - set(table.column_names))
        if missing:
            raise InputError(
                f"Column {missing[0]!r} is missing in later rows of the stream. All rows need the same columns."
            )
        for name in schema.names:
            dtype, wanted = table.schema.field(name).type, schema.field(name).type
            if wanted == pa.string() or is_number_type(dtype):
                continue
            if self._decides(name):
                check_numeric(table.schema, name)
            # Only the report reads this number: there it is missing.
            nulls = pa.nulls(len(table), wanted)
            table = table.set_column(table.column_names.index(name), name, nulls)
        return table.select(schema.names).cast(schema)

    def _decides(self, name: str) -> bool:
        """Whether the selection needs numbers in this column, and not only the report."""
        gaps = {"rewards": GAP_PREFIX, "ratings": "rating_"}[self.filter.source]
        return name in self.ranked or (
            self.filter.needs_divergence and name.startswith(gaps) and name != self.filter.margin_column
        )


def _tables(stream: IterableDataset, also: set[str], batch_rows: int) -> Iterator[pa.Table]:
    if stream.features is not None:
        for table in stream.with_format("arrow").iter(batch_size=batch_rows):
            yield table.select([name for name in table.column_names if _is_decisive(name, also)])
        return
    # Where the types are not known, `datasets` fails on batches whose values suggest different ones.
    rows = iter(stream)
    while batch := list(itertools.islice(rows, batch_rows)):
        names = [name for name in batch[0] if _is_decisive(name, also)]
        yield pa.table({name: pa.array([row.get(name) for row in batch]) for name in names})


def _is_decisive(name: str, also: set[str]) -> bool:
    return name in _DECISIVE or name in also or name.startswith(_PREFIXES)


def _spool_schema(given: pa.Schema) -> pa.Schema:
    # A stream may not know its types, and a batch without values has none: the usual type of the column is used.
    if "pair_id" not in given.names:
        raise InputError(
            "The stream has no column 'pair_id', by which ties are broken and results are checked; of the columns that decide "
            f"it has {', '.join(given.names) or 'none'}."
        )
    fields = []
    for name in given.names:
        kind = (
            pa.string()
            if name in _DECISIVE[:2]
            else pa.int8()
            if given.field(name).type == pa.int8()
            else pa.float64()
        )
        fields.append((name, kind))
    return pa.schema(fields)
