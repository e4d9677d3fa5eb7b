"""Kept and dropped rows as parquet shards, copied batch by batch; no value becomes a Python object."""

import contextlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from datasets import Features, Value
from numpy.typing import NDArray

from ...runs.artifacts import read_json, write_json
from ...safety.media import check_media_table
from ..reasons import ALL_PAIRS, decide
from ..report_inputs import Batch, number_columns, text_lengths
from ..report_sums import ReportSums
from .columns import to_float64
from .decision import Decision
from .ids import id_hashes, write_hashes
from .parquet import ParquetSource, Unit
from .passes import Selection
from .scores import text_ids

PARTS = ("selected", "dropped")
_ADDED = {"pd": "float32", "pd_kept": "bool", "pd_reason": "string"}
# Input rows of one pair of shards, and the maximum number of rows in a row group.
ROWS_PER_SHARD = 500_000
_GROUP_ROWS = 100_000
_GROUP_BYTES = 64 << 20


@dataclass
class Decider:
    """Decides for each row of a batch whether it is kept, and why."""

    selection: Selection
    decision: Decision

    def __post_init__(self) -> None:
        per_aspect = self.selection.filter.per_aspect
        self.names = np.array(self.decision.labels if per_aspect else [ALL_PAIRS], dtype=object)
        limits = [self.decision.thresholds.get(name) for name in self.names]
        self.limits = np.array([np.nan if limit is None else limit.score for limit in limits])
        self.last = np.array(["" if limit is None else limit.pair_id for limit in limits], dtype=object)
        self.per_aspect = per_aspect

    def __call__(self, scores: NDArray, own: NDArray[np.integer], ids: Any) -> tuple[NDArray[np.bool_], pa.Array]:
        """Mask of the kept rows, and the reasons. [`decide`] gives the reason once for each case."""
        group = own if self.per_aspect else np.zeros_like(own)
        limit = self.limits[group]
        case = 5 * group.astype(np.int64) + (scores > limit)
        case[np.isnan(scores)] += 4
        tied = np.flatnonzero(scores == limit)
        names = np.full(len(scores), "", dtype=object)
        if tied.size:
            names[tied] = text_ids(ids.take(pa.array(tied))).to_pylist()
            case[tied] += np.where(names[tied] <= self.last[group[tied]], 2, 3)
        _, first, inverse = np.unique(case, return_index=True, return_inverse=True)
        kept, reasons = decide(
            scores[first],
            names[first],
            self.names[group[first]],
            self.decision.thresholds,
            self.selection.filter.selector,
        )
        return kept[inverse], pa.array(reasons, pa.string()).take(pa.array(inverse))

    def decide(self, batch: pa.RecordBatch, unit: Unit, row: int) -> tuple[Batch, pa.Array]:
        """A batch that starts at `row` of the unit's file in the form that the report's sums take, and the reasons."""
        selection, decision = self.selection, self.decision
        gaps = selection.gaps.read(batch, unit, row)
        clipped = np.zeros(len(decision.weights), dtype=np.int64)
        divergence = selection.divergence(gaps, decision, clipped)
        scores = selection.scores.read(batch, divergence, unit, row)
        kept, reasons = self(scores, gaps.own, batch.column("pair_id"))
        columns = number_columns(batch.schema, decision.reported)
        numbers = {name: to_float64(batch.column(name)) for name in columns}
        lengths = text_lengths(batch.schema, lambda name: pa.chunked_array([batch.column(name)]))
        return Batch(gaps, kept, numbers, lengths, divergence, clipped), reasons


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


def shard_tasks(source: ParquetSource, rows_per_shard: int = ROWS_PER_SHARD) -> list[list[Unit]]:
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


def write_parts(decider: Decider, tasks: Sequence[Sequence[Unit]], folder: Path) -> ReportSums:
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


def _write_task(decider: Decider, tasks: Sequence[Sequence[Unit]], index: int, folder: Path) -> Path:
    # The sums are written last: if they exist, so do the shards and the ids.
    done = folder / "sums" / f"{index:05d}.json"
    if done.exists():
        return done
    source = decider.selection.source
    schema = output_schema(source.schema, bool(decider.selection.gaps.names))
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
                decided = _with_decision(batch, rows, reasons, schema)
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


def _with_decision(batch: pa.RecordBatch, rows: Batch, reasons: pa.Array, schema: pa.Schema) -> pa.RecordBatch:
    added = {"pd_kept": pa.array(rows.kept), "pd_reason": reasons}
    if rows.divergence is not None:
        added["pd"] = pa.array(rows.divergence, from_pandas=True)
    columns = [added[field.name] if field.name in added else batch.column(field.name) for field in schema]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def summed(decider: Decider) -> ReportSums:
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
        self.writer = pq.ParquetWriter(self.temporary, schema)
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
