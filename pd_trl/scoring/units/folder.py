"""[`UnitFolder`]: where the units of a run are written, and what their markers say of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset

from ..shards import ShardFolder, read_marker

ROWS = "scored"
_MARKERS = "shards/units"


@dataclass
class UnitFolder(ShardFolder):
    """
    [`ShardFolder`] of a run whose shards are its result: `scored/train-00003-of-00024.parquet` is that of unit 3, and its marker lies
    in `shards/units`. What is done is known by the size of its file: to compare digests would be to read all of it.
    """

    @classmethod
    def of(cls, root: Path, num_units: int, identity: dict[str, Any]) -> "UnitFolder":
        """The units in a stage's folder."""
        (root / ROWS).mkdir(parents=True, exist_ok=True)
        return cls(root / _MARKERS, num_units, identity)

    @property
    def rows(self) -> Path:
        """Folder of the scored rows."""
        return self.folder.parent.parent / ROWS

    def path(self, index: int) -> Path:
        """Parquet file of a unit."""
        return self.rows / f"train-{index:05d}-of-{self.num_shards:05d}.parquet"

    def _is_as_written(self, path: Path, marker: Mapping[str, Any]) -> bool:
        return path.stat().st_size == marker.get("bytes")

    def marked(self) -> list[int]:
        """Indices of the units that have a marker."""
        return [int(path.stem) for path in self.folder.glob("*.done") if path.stem.isdecimal()]

    def digests(self) -> dict[str, str]:
        """Digest of each file, by its path in the stage's folder."""
        return {
            f"{ROWS}/{self.path(index).name}": read_marker(self.marker(index))["digest"]
            for index in range(self.num_shards)
        }

    def remove_leftovers(self) -> None:
        """Removes files that a kill left half written."""
        for path in self.rows.glob(".train-*.parquet.*"):
            path.unlink(missing_ok=True)

    def moments(self, columns: Sequence[str]) -> dict[str, tuple[float, float, float]]:
        """Mean, standard deviation and share above 0 of each column, over all units."""
        total, sums = 0, np.zeros((len(columns), 3))
        for index in range(self.num_shards):
            marker = read_marker(self.marker(index))
            total += marker["rows"]
            sums += np.array([marker["sums"][name] for name in columns]).reshape(-1, 3)
        mean, square, positive = (sums / max(1, total)).T
        deviation = np.sqrt(np.maximum(0, square - mean**2))
        return dict(zip(columns, zip(mean.tolist(), deviation.tolist(), positive.tolist(), strict=True), strict=True))


def sums_of(rows: Dataset, columns: Sequence[str]) -> dict[str, list[float]]:
    """Sum, sum of squares and number above 0 of columns, for a marker."""
    found = {}
    for name in columns:
        values = rows.data.column(name).to_numpy().astype(np.float64)
        found[name] = [float(values.sum()), float((values**2).sum()), float((values > 0).sum())]
    return found
