"""Folders that stages leave for each other: parquet shards, json and a manifest, each written whole or not at all."""

import contextlib
import errno
import importlib.metadata
import itertools
import json
import os
import re
import secrets
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from datasets import Dataset, load_dataset
from datasets.exceptions import DatasetGenerationError

from ..errors import InputError
from ..safety.media import check_media
from ..safety.schema import MAX_ROWS_BYTES, anything, parse_json, read_document, read_text, record
from ..safety.secrets import masked
from .folders import replaced_folder as replaced_folder
from .forms import MANIFEST
from .identity import digest_of as digest_of
from .identity import file_keys, settings_key

MANIFEST_NAME = "manifest.json"
ROWS_PER_SHARD = 50_000
_VERSIONED_PACKAGES = ("pd_trl", "trl", "transformers", "datasets", "torch", "accelerate", "peft", "numpy")


@dataclass
class Manifest:
    """
    What a stage did, kept beside what it made.

    Args:
        stage (`str`): Name of the stage.
        inputs (`dict`): Digest of each input.
        arguments (`dict`): Arguments that decide the result.
        counts (`dict`): Numbers of rows, such as `{"total": 10, "kept": 3}`.
        seconds (`float`): Wall-clock time.
        results (`dict`): Anything else worth keeping, such as an accuracy.
        versions (`dict`): Versions of the libraries that matter.
        created (`str`): UTC time of writing.
        files (`dict`): Digest of each file of the result, by its path in the folder.
    """

    stage: str
    inputs: dict[str, str] = field(default_factory=dict)
    arguments: dict[str, Any] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    results: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=lambda: library_versions())
    created: str = field(default_factory=lambda: time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))
    files: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # Masked before they are compared, so that neither a key nor a file depends on a password or a token.
        self.arguments = masked(self.arguments)
        self.inputs = {name: masked(digest) for name, digest in self.inputs.items()}

    @property
    def key(self) -> str:
        """Digest of what decides the result: the stage, its inputs and its arguments."""
        return settings_key({"stage": self.stage, "inputs": self.inputs, "arguments": self.arguments})

    def save(self, folder: str | os.PathLike, known: Mapping[str, str] | None = None) -> None:
        """Writes `manifest.json` into `folder`, with the digests of the files that are there; those that are `known` are not read."""
        known = known or {}
        unread = [name for name in _result_files(Path(folder)) if name not in known]
        self.files = {**known, **file_keys(Path(folder), unread)}
        content = {**asdict(self), "results": masked(self.results), "key": self.key}
        write_json(Path(folder) / MANIFEST_NAME, content, private=True)

    @classmethod
    def load(cls, folder: str | os.PathLike) -> "Manifest | None":
        """The manifest in `folder`, or `None` where there is none."""
        path = Path(folder) / MANIFEST_NAME
        if not path.is_file():
            return None
        form = record({**{entry.name: anything for entry in fields(cls)}, **MANIFEST}, required=("stage",))
        content = read_document(path, form, "a manifest of pd_trl", "Remove the folder or choose another.")
        return cls(**{name: value for name, value in content.items() if name != "key"})

    def is_done_in(self, folder: str | os.PathLike) -> bool:
        """Whether `folder` holds the finished result of the same stage, inputs and arguments."""
        done = Manifest.load(folder)
        if done is None or done.key != self.key:
            return False
        done.check_files(folder)
        return True

    def check_files(self, folder: str | os.PathLike, names: Iterable[str] | None = None) -> None:
        """
        Raises `InputError` where a file of the result is not what was written. What is written after the result, such as a card,
        is not checked, nor is a manifest of a version that kept no digests.

        Args:
            folder (`str`): Folder of the result.
            names (iterable of `str`, *optional*): Files to look at. `None` is all.
        """
        root = Path(folder)
        wanted = [name for name in (self.files if names is None else names) if name in self.files]
        missing = [name for name in wanted if not (root / name).is_file()]
        found = file_keys(root, [name for name in wanted if name not in missing])
        damaged = [name for name in found if found[name] != self.files[name]]
        if missing or damaged:
            what = f"{root / missing[0]} is missing" if missing else f"{root / damaged[0]} is damaged"
            more = f", and {len(missing) + len(damaged) - 1} more" if len(missing) + len(damaged) > 1 else ""
            raise InputError(
                f"{what}{more}: not what the stage '{self.stage}' wrote. Run that stage again with --overwrite. If the change was "
                f"meant, remove {root / MANIFEST_NAME}."
            )


# What a run needs to go on, what is written after it, and our own marks.
_NO_RESULT = re.compile(
    r"(.*/)?(\..*|checkpoint-\d+/.*|runs/.*|shards/.*|README\.md|pd_card\.json|manifest\.json|run_identity\.json|error\.log|.*\.jsonl)"
)


def _result_files(folder: Path) -> list[str]:
    names = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return [name for name in names if not any(_NO_RESULT.fullmatch(part) for part in _tails(name))]


def _tails(name: str) -> list[str]:
    """A path and what follows each of its folders."""
    parts = name.split("/")
    return ["/".join(parts[start:]) for start in range(len(parts))]


def library_versions() -> dict[str, str]:
    """Installed versions of the libraries that a result depends on."""
    versions = {}
    for package in _VERSIONED_PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return versions


def write_json(path: str | os.PathLike, content: Any, private: bool = False) -> None:
    """Writes json so that a reader sees the old content or the new, never a part; `private` for this user's eyes only (0600)."""
    with _written(Path(path), content, private) as temporary:
        os.replace(temporary, path)


def create_json(path: str | os.PathLike, content: Any, private: bool = False) -> bool:
    """[`write_json`] where there is no such file yet: of several processes that call it, one gets `True`."""
    with _written(Path(path), content, private) as temporary:
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
        except OSError:
            # A file system without links.
            if Path(path).exists():
                return False
            os.replace(temporary, path)
    return True


@contextlib.contextmanager
def _written(path: Path, content: Any, private: bool) -> Iterator[Path]:
    """A file beside `path` with the content, which is removed with the block."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _beside(path)
    try:
        with open(temporary, "w", encoding="utf-8", opener=opened_privately if private else None) as file:
            file.write(json.dumps(content, indent=2, ensure_ascii=False, default=str) + "\n")
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def _beside(path: Path) -> Path:
    """A name that no other process has, on this machine or on another one."""
    return path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")


def opened_privately(path: str, flags: int) -> int:
    """Opener of a file that only this user may read and write, whatever the umask says."""
    descriptor = os.open(path, flags, 0o600)
    if hasattr(os, "fchmod"):  # before Python 3.13, Windows has none
        os.fchmod(descriptor, 0o600)
    return descriptor


def read_json(path: str | os.PathLike) -> Any:
    """Reads json; raises `InputError` naming the file where it cannot, or where that is too large or nested too deeply."""
    return parse_json(read_text(path, MAX_ROWS_BYTES), path)


def write_rows(dataset: Dataset, folder: str | os.PathLike, rows_per_shard: int = ROWS_PER_SHARD) -> None:
    """Writes `dataset` as parquet shards into `folder`, which `read_rows` and `datasets.load_dataset` read back."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    check_media(dataset, "the data set to write")
    num_shards = max(1, -(-len(dataset) // rows_per_shard))
    for index in range(num_shards):
        shard = dataset.shard(num_shards=num_shards, index=index, contiguous=True)
        write_parquet(shard, folder / f"train-{index:05d}-of-{num_shards:05d}.parquet")


def write_parquet(dataset: Dataset, path: Path) -> None:
    """Writes one parquet file so that it is there whole or not at all."""
    temporary = _beside(path)
    try:
        dataset.to_parquet(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def read_rows(folder: str | os.PathLike) -> Dataset:
    """Reads what `write_rows` wrote."""
    folder = Path(folder)
    files = sorted(folder.glob("train-*.parquet"))
    if not files:
        raise InputError(f"No parquet shards (train-*.parquet) in {folder}: run the stage that writes them first.")
    check_complete(files)
    check_read(files)
    if len(files) == 1 and pq.read_metadata(files[0]).num_rows == 0:
        # `load_dataset` knows no split without rows; the parquet schema carries the features.
        return Dataset(pq.read_table(files[0]))
    try:
        dataset = load_dataset("parquet", data_files=[str(f) for f in files], split="train", keep_in_memory=False)
    except DatasetGenerationError as error:
        if (full := system_error(error)) is not None:
            raise full from None
        raise InputError(f"The parquet shards in {folder} cannot be read: {error.__cause__ or error}.") from None
    if not isinstance(dataset, Dataset):
        raise InputError(f"{folder} does not hold a single data set.")
    return check_media(dataset, str(folder))


def check_complete(files: Sequence[Path]) -> None:
    """Raises `InputError` where shards are missing: their names hold their number."""
    expected = int(files[0].stem.rsplit("-", 1)[1])
    if len(files) != expected:
        raise InputError(
            f"{files[0].parent} holds {len(files)} of {expected} parquet shards: run the stage that writes them again."
        )


def check_read(files: Iterable[Path]) -> None:
    """Compares files with the manifest of their stage, which lies in their folder or the one above, where there is one."""
    for folder, group in itertools.groupby(sorted(files), key=lambda path: path.parent):
        for root in (folder, folder.parent):
            manifest = Manifest.load(root)
            if manifest is not None:
                manifest.check_files(root, [path.relative_to(root).as_posix() for path in group])
                break


# The disk, its quota, the limits on a file's size and on open files, memory.
_OF_THE_SYSTEM = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOMEM,
    errno.EROFS,
    errno.EACCES,
)


def system_error(error: BaseException | None) -> OSError | None:
    """The error of the system, such as a full disk, among the causes of an error: the file itself is sound then."""
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        if isinstance(error, OSError) and error.errno in _OF_THE_SYSTEM:
            return error
        seen.append(error)
        error = error.__cause__ or error.__context__
    return None
