"""Pairs that are written to shards while the source is read."""

from collections.abc import Iterable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Features
from numpy.typing import NDArray

from ...runs.identity import DataKey
from ...runs.row_shards import ShardWriter, shard_tables
from ...safety.media import media_columns
from ..columnar import features_of
from ..forms.nested import may_hold_ratings
from ..hash_files import repeated_hashes, write_hashes
from ..id_columns import id_hashes
from ..ids import canonical_json, content_hashes, hex_ids, number_repeats
from ..json_columns import has_json_fields, is_json, is_json_list
from ..normal_form import column_order
from ..opened import LoadReport, OpenedPairs
from ..parts import NeedsWholeError
from ..prompts import SYSTEM_COLUMNS
from .messages import SummedMessages

_LABELS = ("rating_", "pref_")


class PairStream:
    """
    Turns the rows of a source into pairs, part by part, and writes them.

    Args:
        opened ([`OpenedPairs`]): The source.
        folder (`Path`): Where the shards of the pairs grow.
        scratch (`Path`): Folder for hashes of ids.

    Attributes:
        report ([`LoadReport`]): What was read and kept.
        features ([`~datasets.Features`]): Columns of the pairs.
        paths (`list` of `Path`): The shards.
        given_ids (`bool`): Whether the source names its pairs.
    """

    def __init__(self, opened: OpenedPairs, folder: Path, scratch: Path):
        self.opened, self.folder, self.scratch = opened, folder, scratch
        self.report: LoadReport | None = None
        self.features: Features | None = None
        self.given_ids = False
        self.paths: list[Path] = []
        self.key = ""
        self._writer: ShardWriter | None = None
        self._hashes: list[Path] = []

    def tables(self, batches: Iterable[pa.Table], messages: SummedMessages) -> Iterable[pa.Table]:
        """The pairs of each batch of the source that has any, which are written at the same time."""
        for batch in batches:
            _check_columns(batch.schema)
            columns, report = self.opened.convert(batch)
            self._add_report(report)
            if report.kept:
                pairs = self._identified(columns)
                self._begin(pairs.schema).add(pairs)
                yield pairs
            messages.first_row += report.formed
        if self.report is None or not self.report.kept:
            raise NeedsWholeError("no pair, which is an error")
        self._begin(None).finish()

    def _begin(self, schema: pa.Schema | None) -> ShardWriter:
        if self._writer is None and schema is not None:
            self.features = features_of(schema, self.opened.source.dataset.features)
            if media_columns(self.features):
                raise NeedsWholeError("images or sounds")
            self._writer = ShardWriter(self.folder, self.features)
            self.schema = schema
        if self._writer is None or (schema is not None and schema != self.schema):
            raise NeedsWholeError("columns that depend on the values of all rows")
        return self._writer

    def _add_report(self, report: LoadReport) -> None:
        if self.report is None:
            self.report = report
            return
        merged: dict[str, Any] = {}
        for entry in fields(report):
            ours, theirs = getattr(self.report, entry.name), getattr(report, entry.name)
            if isinstance(ours, bool) or entry.name in ("source", "adapter", "pairing", "left_out"):
                # Of rows that gave nothing, these are not known.
                known = [part for part, of in ((ours, self.report), (theirs, report)) if of.kept]
                if len(known) == 2 and ours != theirs:
                    raise NeedsWholeError(f"{entry.name} that depends on all rows")
                merged[entry.name] = known[0] if known else ours
            elif isinstance(ours, int):
                merged[entry.name] = ours + theirs
            elif isinstance(ours, dict):
                merged[entry.name] = {k: ours.get(k, 0) + theirs.get(k, 0) for k in dict.fromkeys((*ours, *theirs))}
        self.report = replace(self.report, **merged)

    def _identified(self, columns: dict[str, pa.ChunkedArray]) -> pa.Table:
        """The pairs with ids, of which those of the content may still repeat; their hashes go to the disk."""
        hashes, prompts = content_hashes(columns["prompt"], columns["response_a"], columns["response_b"])
        self.given_ids = "pair_id" in columns
        if self.given_ids:
            if columns["pair_id"].null_count:
                raise NeedsWholeError("pairs without their id, which is an error")
            ids = columns["pair_id"].cast(pa.string())
            hashes = np.concatenate([id_hashes(chunk) for chunk in ids.chunks])
        else:
            ids = pa.chunked_array([hex_ids(hashes)])
        self._hashes.append(self.scratch / f"{len(self._hashes):06d}.npy")
        write_hashes([hashes], self._hashes[-1])
        prompt_ids = pa.chunked_array([hex_ids(prompts)])
        if "prompt_id" in columns:
            given = columns["prompt_id"].cast(pa.string())
            prompt_ids = pc.if_else(given.is_valid(), given, prompt_ids)
        columns = {**columns, "pair_id": ids, "prompt_id": prompt_ids}
        return pa.table({name: columns[name] for name in column_order(columns)})

    def finish(self) -> None:
        """Gives equal pairs ids of their own, and the shards their names."""
        if self._writer is None or self.report is None:
            raise NeedsWholeError("no pair, which is an error")
        with self._writer as writer:
            suspects = repeated_hashes(self._hashes, self.report.kept)
            if suspects.size and self.given_ids:
                raise NeedsWholeError("ids that may be repeated")
            if suspects.size:
                self._renumber(writer, suspects)
        self.paths = writer.paths

    def _renumber(self, writer: ShardWriter, suspects: NDArray[np.uint64]) -> None:
        """As [`add_ids`] does: the second, third, … pair of the same content has a number behind its id."""
        repeated = hex_ids(suspects)
        labels = [name for name in self.schema.names if name.startswith(_LABELS)]
        rows, ids, contents, first = [], [], [], 0
        for table in shard_tables(writer.paths, ["pair_id", *labels]):
            found = np.flatnonzero(np.asarray(pc.is_in(table.column("pair_id"), value_set=repeated)))
            some = table.take(pa.array(found))
            rows += (first + found).tolist()
            ids += some.column("pair_id").to_pylist()
            contents += [canonical_json(row) for row in some.select(labels).to_pylist()]
            first += len(table)
        numbered = number_repeats(ids, lambda places: [contents[place] for place in places])
        new = {row: after for row, before, after in zip(rows, ids, numbered, strict=True) if before != after}
        first = 0
        for path in writer.paths:
            shard = pa.concat_tables(shard_tables([path]))
            changed = [row for row in range(first, first + len(shard)) if row in new]
            if changed:
                names = shard.column("pair_id").to_pylist()
                for row in changed:
                    names[row - first] = new[row]
                place = shard.column_names.index("pair_id")
                writer.write(shard.set_column(place, "pair_id", pa.array(names, pa.string())), path)
            first += len(shard)

    def digest(self) -> str:
        """[`~runs.identity.data_key`] of the pairs."""
        key = DataKey(self.schema.names)
        for table in shard_tables(self.paths):
            key.add(table)
        return key.digest()


def _check_columns(schema: pa.Schema) -> None:
    """Refuses columns of which a part can mean something else than the whole."""
    for field in schema:
        if is_json(field.type) or is_json_list(field.type) or has_json_fields(field.type):
            raise NeedsWholeError("columns of JSON")
        if pa.types.is_nested(field.type) and may_hold_ratings(field.name):
            raise NeedsWholeError("ratings inside a column")
    if len([name for name in SYSTEM_COLUMNS if name in schema.names]) > 1:
        raise NeedsWholeError("several columns that may be the system message")
    if {"aspect", "chosen"} <= set(schema.names) and "response_a" in schema.names:
        raise NeedsWholeError("sides and a chosen response")
