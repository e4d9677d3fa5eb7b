"""Parquet files that `score` reads in a stream, and what it leaves of them."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...models.named import ModelOutput
from ...runs.artifacts import Manifest
from ...scoring.single import REWARD_PREFIX
from ...scoring.units import FilesToScore, UnitFolder, score_files
from ...selection.aspect_columns import GAP_PREFIX


class ToScore(ABC):
    """What is scored, in memory or not."""

    @property
    @abstractmethod
    def part(self) -> str:
        """`"pairs"` or `"responses"`."""

    @property
    @abstractmethod
    def num_rows(self) -> int:
        """How many rows there are."""

    @property
    def prefix(self) -> str:
        """What the columns that are added begin with."""
        return GAP_PREFIX if self.part == "pairs" else REWARD_PREFIX

    def __str__(self) -> str:
        return f"{self.num_rows} {self.part}"


@dataclass
class StreamToScore(ToScore):
    """
    [`RowsToScore`] of files that are never in memory as a whole.

    Args:
        files ([`FilesToScore`]): The files.
    """

    files: FilesToScore
    lost: list[str] = field(default_factory=list)

    @property
    def part(self) -> str:
        """`"pairs"` or `"responses"`."""
        return self.files.part

    @property
    def mapping(self) -> dict[str, str]:
        """Names of the columns of single responses."""
        return self.files.mapping

    @property
    def digest(self) -> str:
        """What tells these files from others."""
        return self.files.plan.digest

    @property
    def num_rows(self) -> int:
        """Rows of all files."""
        return self.files.plan.num_rows

    def __str__(self) -> str:
        return f"{super().__str__()} in {len(self.files.plan.units)} units"

    def score(
        self, models: Mapping[str, ModelOutput], root: Path, settings: dict[str, Any], manifest: Manifest, **how: Any
    ) -> "ScoredFiles":
        """Scores what is left of the files into a stage's folder. `how` is the engine, and its number of actors."""
        identity = {"run": manifest.key, **manifest.inputs, **manifest.arguments}
        folder = score_files(self.files, models, root, identity, settings, **how)
        moments = folder.moments([f"{self.prefix}{name}" for name in models])
        counts = folder.counts()
        return ScoredFiles(folder, self.num_rows, counts["rows"], dict(zip(models, moments.values(), strict=True)))


@dataclass
class ScoredFiles:
    """
    What scoring files left.

    Args:
        folder ([`UnitFolder`]): The units.
        total (`int`): Rows that were there.
        kept (`int`): Rows that were scored.
        moments (`dict`): Mean, standard deviation and share above 0 by each model.
    """

    folder: UnitFolder
    total: int
    kept: int
    moments: dict[str, tuple[float, ...]]

    def write(self, root: Path) -> dict[str, str]:
        """Tidies up: the rows are there. Returns the digests of their files."""
        self.folder.remove_leftovers()
        return self.folder.digests()
