"""Shards of a scoring run: claimed by a file lock, written whole, marked when done, merged once."""

import contextlib
import json
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from datasets import Dataset
from filelock import FileLock, Timeout

from ..errors import InputError
from ..runs.artifacts import write_json, write_parquet
from ..runs.forms import MARKER
from ..runs.identity import file_key, settings_key
from ..safety.schema import anything, mapping, read_document
from ..safety.secrets import masked

logger = logging.getLogger(__name__)

_POLL_SECONDS = 0.05
_DIGEST = "digest"


class OtherRunError(InputError):
    """A folder holds the shards of another run."""


@dataclass
class ShardFolder:
    """
    A folder of shards of one run. A finished shard has a parquet file and a marker, `00003.done`; a kill leaves neither,
    or a file without a marker, which is written again. A lock held by a process that dies is released by the system, so
    another process takes the shard over.

    Args:
        folder (`Path`): Where the shards are.
        num_shards (`int`): Their number.
        identity (`dict`): What decides the content: hashes of data and models, and arguments.
    """

    folder: Path
    num_shards: int
    identity: dict[str, Any]

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / "identity.json"
        identity = json.loads(json.dumps(masked({**self.identity, "num_shards": self.num_shards}), default=str))
        with FileLock(self.folder / "identity.lock"):
            if path.is_file():
                found = masked(read_document(path, mapping(anything), "the identity of a scoring run"))
                if settings_key(found) != settings_key(identity):
                    changed = sorted(k for k in {*found, *identity} if found.get(k) != identity.get(k))
                    raise OtherRunError(
                        f"{self.folder} holds shards of another run: {', '.join(changed)} differ. Use another output folder, "
                        "or remove this one."
                    )
            else:
                write_json(path, identity, private=True)

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
        digest = read_document(marker, MARKER, "the marker of a shard").get(_DIGEST)
        if digest is None or file_key(path) == digest:
            return True
        logger.warning("%s is damaged: its pairs are scored again.", path)
        marker.unlink(missing_ok=True)
        return False

    @property
    def done(self) -> list[int]:
        """Indices of the finished shards."""
        return [index for index in range(self.num_shards) if self.is_done(index)]

    def claimed(self, indices: Sequence[int] | None = None) -> Iterator[int]:
        """
        Yields shards to compute, each held by this process alone while it is computed, until all are finished, by this
        process or another.

        Args:
            indices (sequence of `int`, *optional*): Shards to look at. `None` is all.
        """
        while True:
            waiting = 0
            for index in range(self.num_shards) if indices is None else indices:
                if self.is_done(index):
                    continue
                with contextlib.ExitStack() as stack:
                    try:
                        stack.enter_context(FileLock(self.folder / f"{index:05d}.lock", timeout=0))
                    except Timeout:
                        waiting += 1
                        continue
                    if not self.is_done(index):
                        yield index
            if not waiting:
                return
            time.sleep(_POLL_SECONDS)

    def finish(self, index: int, rows: Dataset, counts: dict[str, int]) -> None:
        """Writes a shard and then its marker."""
        write_parquet(rows, self.path(index))
        write_json(self.marker(index), {"rows": len(rows), **counts, _DIGEST: file_key(self.path(index))})

    def merged(self) -> tuple[Dataset, dict[str, int]]:
        """All rows in order, and the sum of the counts of the markers."""
        files = [str(self.path(index)) for index in range(self.num_shards)]
        counts: dict[str, int] = {}
        for index in range(self.num_shards):
            found = read_document(self.marker(index), MARKER, "the marker of a shard")
            found.pop(_DIGEST, None)
            for key, value in found.items():
                counts[key] = counts.get(key, 0) + value
        # Read as they are: `load_dataset` would leave a copy in the cache for each output folder.
        return Dataset(pq.ParquetDataset(files).read()), counts


def compute_shards(
    shards: ShardFolder,
    compute: Callable[[int], tuple[Dataset, dict[str, int]]],
    indices: Sequence[int] | None = None,
    finished: Callable[[], None] = lambda: None,
) -> None:
    """
    Computes what is left of `shards`, or of those at `indices`, together with whichever other processes do, and calls
    `finished` after each.
    """
    for index in shards.claimed(indices):
        rows, counts = compute(index)
        shards.finish(index, rows, counts)
        finished()


def job_indices(job: str, num_shards: int) -> range:
    """
    Shards of one job of several: every N-th.

    Args:
        job (`str`): `"i/N"`, job `i` of `N`, counted from 0.
        num_shards (`int`): Shards of all jobs.

    Raises:
        InputError: On another form, or `i` beyond `N`.
    """
    number, slash, count = job.partition("/")
    if not (slash and number.isdigit() and count.isdigit() and int(number) < int(count)):
        raise InputError(f"`shard` must be 'i/N' with i from 0 to N - 1, such as '0/8', got {job!r}.")
    return range(int(number), num_shards, int(count))
