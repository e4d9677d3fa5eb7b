"""Shards of a scoring run: written whole, marked when done. Processes that share a folder need no lock: the marker decides."""

import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from datasets import Dataset

from ..errors import InputError
from ..runs.artifacts import create_json, write_json, write_parquet
from ..runs.forms import MARKER
from ..runs.identity import file_key, settings_key
from ..runs.launch import num_processes, process_rank
from ..safety.schema import anything, mapping, read_document
from ..safety.secrets import masked
from .notes import Notes

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.05
# Seconds that another process has for a shard at least, before it counts as dead.
_PATIENCE = 60.0
_DIGEST, _ATTEMPTS = "digest", "attempts"
# What a marker holds beside counts that can be summed.
_NO_COUNT = (_DIGEST, "sums")


class OtherRunError(InputError):
    """A folder holds the shards of another run."""


@dataclass
class ShardFolder:
    """
    A folder of shards of one run. A finished shard has a parquet file and a marker, `00003.done`; a kill leaves neither,
    or a file without a marker, which is written again. A shard that two processes compute is the same twice and costs only
    work; a note of who has begun with it keeps them apart.

    Args:
        folder (`Path`): Where the shards are.
        num_shards (`int`): Their number.
        identity (`dict`): What decides the content: hashes of data and models, and arguments.
    """

    folder: Path
    num_shards: int
    identity: dict[str, Any]
    notes: Notes = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.notes = Notes(self.folder)
        check_same_run(self.folder / "identity.json", {**self.identity, "num_shards": self.num_shards})

    def path(self, index: int) -> Path:
        """Parquet file of a shard."""
        return self.folder / f"{index:05d}.parquet"

    def marker(self, index: int) -> Path:
        """Marker of a finished shard, with its counts."""
        return self.folder / f"{index:05d}.done"

    def is_done(self, index: int) -> bool:
        """Whether a shard is finished and as it was written; one that is not is scored again."""
        marker, path = self.marker(index), self.path(index)
        if not (marker.is_file() and path.is_file()):
            return False
        if self._is_as_written(path, read_marker(marker)):
            return True
        logger.warning("%s is damaged: its pairs are scored again.", path)
        marker.unlink(missing_ok=True)
        return False

    def _is_as_written(self, path: Path, marker: Mapping[str, Any]) -> bool:
        return marker.get(_DIGEST) in (None, file_key(path))

    @property
    def done(self) -> list[int]:
        """Indices of the finished shards."""
        return [index for index in range(self.num_shards) if self.is_done(index)]

    def following(self, index: int) -> int | None:
        """The shard after `index` with which nobody has begun."""
        after = ((index + k) % self.num_shards for k in range(1, self.num_shards))
        return next((i for i in after if not self.marker(i).is_file() and not self.notes.is_begun(i)), None)

    def claimed(self, offset: int | None = None) -> Iterator[int | None]:
        """
        Yields shards to compute until all are finished, by this process or another, and `None` where all that are left are being
        computed elsewhere. These come last, and only if the other process is dead, or takes far longer than this one does.

        Args:
            offset (`int`, *optional*): Where to start. `None` is a place of this process's own.
        """
        start = own_offset(self.num_shards) if offset is None else offset
        left = [(start + k) % self.num_shards for k in range(self.num_shards)]
        seen: dict[int, float] = {}
        longest = 0.0
        while left:
            waiting = []
            for index in left:
                if self.is_done(index):
                    continue
                late = time.monotonic() - seen.setdefault(index, time.monotonic()) > max(_PATIENCE, 3 * longest)
                if not self.notes.begin(index, anyway=late):
                    waiting.append(index)
                    continue
                begun = time.monotonic()
                yield index
                longest = max(longest, time.monotonic() - begun)
            left = waiting
            if left:
                yield None

    def finish(self, index: int, rows: Dataset, counts: Mapping[str, Any]) -> None:
        """Writes a shard and then its marker."""
        path = self.path(index)
        write_parquet(rows, path)
        content = {
            "rows": len(rows), **counts, _ATTEMPTS: max(1, self.notes.attempts(index)), "bytes": path.stat().st_size,
            _DIGEST: file_key(path),
        }  # fmt: skip
        # Of two processes, the file is that of the later one. Where rounding differs between them, so does the digest.
        if not create_json(self.marker(index), content) and read_marker(self.marker(index)).get(_DIGEST) != file_key(
            path
        ):
            write_json(self.marker(index), {**content, _DIGEST: file_key(path)})
        self.notes.remove(index)

    def counts(self) -> dict[str, int]:
        """Sums of the counts of all markers."""
        found: dict[str, int] = {}
        for index in range(self.num_shards):
            for key, value in read_marker(self.marker(index)).items():
                if key not in _NO_COUNT:
                    found[key] = found.get(key, 0) + value
        return found

    def merged(self) -> tuple[Dataset, dict[str, int]]:
        """All rows in order, and the sum of the counts of the markers."""
        files = [str(self.path(index)) for index in range(self.num_shards)]
        # Read as they are: `load_dataset` would leave a copy in the cache for each output folder.
        return Dataset(pq.ParquetDataset(files).read()), self.counts()


def read_marker(path: Path) -> dict[str, Any]:
    """The content of a marker."""
    return read_document(path, MARKER, "the marker of a shard")


def check_same_run(path: Path, identity: Mapping[str, Any]) -> None:
    """Writes what decides a run where nobody has; raises [`OtherRunError`] where another run has."""
    ours = json.loads(json.dumps(masked(identity), default=str))
    if create_json(path, ours, private=True):
        return
    found = masked(read_document(path, mapping(anything), "the identity of a scoring run"))
    if settings_key(found) != settings_key(ours):
        changed = sorted(k for k in {*found, *ours} if found.get(k) != ours.get(k))
        raise OtherRunError(
            f"{path.parent} holds shards of another run: {', '.join(changed)} differ. Use another output folder, or remove this one."
        )


def own_offset(num_shards: int) -> int:
    """Where this process begins: those of one launch evenly apart, others anywhere."""
    if num_processes() > 1:
        return process_rank() * num_shards // num_processes()
    return int.from_bytes(os.urandom(4), "little") % max(1, num_shards)


def compute_shards(shards: ShardFolder, compute: Callable[[int], tuple[Dataset, dict[str, int]]]) -> None:
    """Computes what is left of `shards`, together with whichever other processes do."""
    for index in shards.claimed():
        if index is None:
            time.sleep(POLL_SECONDS)
            continue
        rows, counts = compute(index)
        shards.finish(index, rows, counts)
