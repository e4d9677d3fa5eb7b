"""Kept and dropped rows as parquet shards, copied batch by batch; no value becomes a Python object."""

import contextlib
import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from datasets import Features, Value
from datasets.config import DEFAULT_CDC_OPTIONS
from numpy.typing import NDArray

from ...data.hash_files import write_hashes
from ...data.id_columns import id_hashes
from ...runs.artifacts import read_json, write_json
from ...safety.media import check_media_table
from ..gaps import Gaps
from ..reasons import ALL_PAIRS, Decider
from ..report_inputs import Batch, number_columns, text_lengths
from ..report_sums import ReportSums
from .columns import to_float64
from .decision import Decision
from .passes import Selection
from .source import RowSource, Unit

PARTS = ("selected", "dropped")
_ADDED = {"pd": "float32", "pd_kept": "bool", "pd_reason": "string"}
# Input rows of one pair of shards, and the maximum number of rows in a row group.
ROWS_PER_SHARD = 500_000
_GROUP_ROWS = 100_000
_GROUP_BYTES = 64 << 20


class BatchDecider:
    """Decides for each row of a batch whether it is kept, and why."""

    def __init__(self, selection: Selection, decision: Decision):
        self.selection, self.decision = selection, decision
        self.per_aspect = selection.filter.per_aspect
        names = decision.labels if self.per_aspect else [ALL_PAIRS]
        self.decides = Decider(names, decision.thresholds, selection.filter.selector)

    def kept(self, batch: pa.RecordBatch, unit: Unit, row: int) -> "Decided":
        """The decision about a batch that starts at `row` of the unit's file."""
        selection, decision = self.selection, self.decision
        gaps = selection.gaps.read(batch, unit, row)
        clipped = np.zeros(len(decision.weights), dtype=np.int64)
        divergence = selection.divergence(gaps, decision, clipped)
        scores = selection.scores.read(batch, divergence, unit, row)
        group = gaps.own if self.per_aspect else np.zeros_like(gaps.own)
        return Decided(gaps, divergence, clipped, *self.decides(scores, group, batch.column("pair_id")))

    def decide(self, batch: pa.RecordBatch, unit: Unit, row: int) -> tuple[Batch, pa.Array]:
        """The batch in the form that the report's sums take, and the reasons."""
        gaps, divergence, clipped, kept, reasons = self.kept(batch, unit, row)
        columns = number_columns(batch.schema, self.decision.reported)
        numbers = {name: to_float64(batch.column(name)) for name in columns}
        lengths = text_lengths(batch.schema, lambda name: pa.chunked_array([batch.column(name)]))
        return Batch(gaps, kept, numbers, lengths, divergence, clipped), reasons


class Decided(NamedTuple):
    """
    What is decided about a batch.

    Args:
        gaps ([`Gaps`]): Labels, and gaps where there are any.
        divergence (array of shape `(num_rows,)`, *optional*): PD.
        clipped (array of shape `(num_aspects,)`): Gaps of each aspect that count and exceed their scale.
        kept (boolean array of shape `(num_rows,)`): Which rows are kept.
        reasons (`pa.Array`): Why.
    """

    gaps: Gaps
    divergence: NDArray[np.float32] | None
    clipped: NDArray[np.int64]
    kept: NDArray[np.bool_]
    reasons: pa.Array


def output_schema(schema: pa.Schema, has_divergence: bool) -> pa.Schema:
    """The input's columns with `pd` (where there is one), `pd_kept` and `pd_reason` at the end, and what `datasets` keeps about them."""
    new = {name: kind for name, kind in _ADDED.items() if has_divergence or name != "pd"}
    metadata = {key: value for key, value in (schema.metadata or {}).items() if key not in (b"pandas", b"huggingface")}
    features = Features.from_arrow_schema(schema)
    kept = [field for field in schema if field.name not in new]
    features = Features(
        {field.name: features[field.name] for field in kept} | {name: Value(kind) for name, kind in new.items()}
    )
    metadata |= features.arrow_schema.metadata or {}
    added = [pa.field(name, features.arrow_schema.field(name).type) for name in new]
    return pa.schema([*kept, *added], metadata=metadata)


def shard_tasks(source: RowSource, rows_per_shard: int = ROWS_PER_SHARD) -> list[list[Unit]]:
    """Groups of consecutive units, each for one pair of shards."""
    tasks: list[list[Unit]] = []
    rows = 0
    for unit in source.units:
        if not tasks or rows + unit.num_rows > rows_per_shard:
            tasks.append([])
            rows = 0
        tasks[-1].append(unit)
        rows += unit.num_rows
    return tasks


def write_parts(decider: BatchDecider, tasks: Sequence[Sequence[Unit]], folder: Path) -> ReportSums:
    """
    Writes the shards of all tasks into `folder`, except those that an earlier run finished, and returns the sums of
    the report. A finished shard has its sums beside it.
    """
    for name in (*PARTS, "ids", "sums"):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for unfinished in (folder / name).glob(".*"):  # of a run that was killed
            unfinished.unlink()
    total = ReportSums(decider.decision)
    with ThreadPoolExecutor(decider.selection.source.num_threads) as pool:
        try:
            for done in pool.map(lambda index: _write_task(decider, tasks, index, folder), range(len(tasks))):
                total.merge(ReportSums(decider.decision, read_json(done)))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return total


def _write_task(decider: BatchDecider, tasks: Sequence[Sequence[Unit]], index: int, folder: Path) -> Path:
    # The sums are written last: if they exist, so do the shards and the ids.
    done = folder / "sums" / f"{index:05d}.json"
    if done.exists():
        return done
    source = decider.selection.source
    schema = output_schema(source.schema, decider.selection.writes_divergence)
    features = Features.from_arrow_schema(source.schema)
    sums = ReportSums(decider.decision)
    hashes: list[NDArray[np.uint64]] = []
    writers = [_ShardWriter(folder / part / shard_name(index, len(tasks)), schema) for part in PARTS]
    try:
        for unit in tasks[index]:
            for row, batch in source.batches(unit):
                check_media_table(batch, features, source.name(unit.file), row)
                hashes.append(id_hashes(batch.column("pair_id")))
                rows, reasons = decider.decide(batch, unit, row)
                sums.add(rows)
                decided = _with_decision(batch, rows, reasons, schema, decider.selection.scores.inputs.get("pd"))
                mask = pa.array(rows.kept)
                for writer, part in zip(writers, (mask, pc.invert(mask)), strict=True):
                    writer.write(decided.filter(part))
        for writer in writers:
            writer.finish()
    finally:
        for writer in writers:
            writer.discard()
    write_hashes(hashes, folder / "ids" / f"{index:05d}.npy")
    write_json(done, sums.to_dict())
    return done


def _with_decision(
    batch: pa.RecordBatch, rows: Batch, reasons: pa.Array, schema: pa.Schema, given: str | None
) -> pa.RecordBatch:
    """The batch with the columns of the decision; `given` is the column that holds PD, where it is not computed."""
    added = {"pd_kept": pa.array(rows.kept), "pd_reason": reasons}
    divergence = rows.divergence if given is None else to_float64(batch.column(given)).astype(np.float32)
    if divergence is not None:
        added["pd"] = pa.array(divergence, from_pandas=True)
    columns = [added[field.name] if field.name in added else batch.column(field.name) for field in schema]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def summed(decider: BatchDecider) -> ReportSums:
    """The sums of the report without texts, for a dry run."""
    selection, decision = decider.selection, decider.decision
    source = selection.source
    read = [*selection.columns, "pair_id", *number_columns(source.schema, decision.reported)]
    columns = list(dict.fromkeys(read))

    def work(unit: Unit) -> ReportSums:
        sums = ReportSums(decision)
        for row, batch in source.batches(unit, columns):
            sums.add(decider.decide(batch, unit, row)[0])
        return sums

    total = ReportSums(decision)
    for part in source.each(work):
        total.merge(part)
    return total


def close_parts(folder: Path, sums: ReportSums, schema: pa.Schema) -> None:
    """Keeps one empty shard of a part without rows, and removes the others: `datasets` cannot read several empty ones."""
    for part, rows in zip(PARTS, sums.sums["rows"][1:], strict=True):
        shards = sorted((folder / part).glob("train-*.parquet"))
        if not rows and len(shards) > 1:
            for shard in shards:
                shard.unlink()
            writer = _ShardWriter(folder / part / shard_name(0, 1), schema)
            writer.finish()


def shard_name(index: int, count: int) -> str:
    """File name of a shard."""
    return f"train-{index:05d}-of-{count:05d}.parquet"


class _ShardWriter:
    """Writes one parquet file in row groups of bounded size. It gets its name once it is complete."""

    def __init__(self, path: Path, schema: pa.Schema):
        self.path, self.schema = path, schema
        self.temporary = path.with_name(f".{path.name}.{os.getpid()}")
        # As `datasets` writes: chunks that later versions of a published file share are stored once by the Hub.
        self.writer = pq.ParquetWriter(
            self.temporary, schema, use_content_defined_chunking=DEFAULT_CDC_OPTIONS, write_page_index=True
        )
        self.writer.add_key_value_metadata({"content_defined_chunking": json.dumps(DEFAULT_CDC_OPTIONS)})
        self.waiting: list[pa.RecordBatch] = []
        self.rows = self.bytes = 0

    def write(self, batch: pa.RecordBatch) -> None:
        if not batch.num_rows:
            return
        self.waiting.append(batch)
        self.rows += batch.num_rows
        self.bytes += batch.nbytes
        if self.rows >= _GROUP_ROWS or self.bytes >= _GROUP_BYTES:
            self._flush()

    def _flush(self) -> None:
        if self.waiting:
            self.writer.write_table(pa.Table.from_batches(self.waiting, self.schema), row_group_size=max(self.rows, 1))
        self.waiting, self.rows, self.bytes = [], 0, 0

    def finish(self) -> None:
        self._flush()
        self.writer.close()
        os.replace(self.temporary, self.path)

    def discard(self) -> None:
        """Removes what is not finished."""
        if self.temporary.exists():
            # On a full disk, writing the rest would fail too.
            with contextlib.suppress(OSError):
                self.writer.close()
            self.temporary.unlink(missing_ok=True)
