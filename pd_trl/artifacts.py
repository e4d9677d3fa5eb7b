"""Folders that stages leave for each other: parquet shards, json and a manifest, each written whole or not at all."""

import contextlib
import hashlib
import importlib.metadata
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from datasets import Dataset, load_dataset
from datasets.exceptions import DatasetGenerationError

from .errors import InputError
from .media import check_media, undecoded_batches
from .runs.forms import MANIFEST
from .runs.schema import MAX_ROWS_BYTES, anything, parse_json, read_document, read_text, record
from .runs.secrets import masked

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
    """

    stage: str
    inputs: dict[str, str] = field(default_factory=dict)
    arguments: dict[str, Any] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    results: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=lambda: library_versions())
    created: str = field(default_factory=lambda: time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))

    def __post_init__(self) -> None:
        # Masked before they are compared, so that neither a key nor a file depends on a password or a token.
        self.arguments = masked(self.arguments)
        self.inputs = {name: masked(digest) for name, digest in self.inputs.items()}

    @property
    def key(self) -> str:
        """Digest of what decides the result: the stage, its inputs and its arguments."""
        return digest_of({"stage": self.stage, "inputs": self.inputs, "arguments": self.arguments})

    def save(self, folder: str | os.PathLike) -> None:
        """Writes `manifest.json` into `folder`."""
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
        return done is not None and done.key == self.key


def library_versions() -> dict[str, str]:
    """Installed versions of the libraries that a result depends on."""
    versions = {}
    for package in _VERSIONED_PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return versions


def digest_of(value: Any) -> str:
    """Hex digest of a json-like value, the same in every process."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def dataset_digest(dataset: Dataset, columns: list[str] | None = None) -> str:
    """Hex digest of the rows of `dataset` (of `columns`, where given), in order, however they are stored."""
    names = sorted(columns if columns is not None else dataset.column_names)
    digest = hashlib.blake2b(json.dumps(names).encode(), digest_size=16)
    for batch in undecoded_batches(dataset.select_columns(names)):
        digest.update(json.dumps([batch[name] for name in names], ensure_ascii=False, default=str).encode())
    return digest.hexdigest()


def write_json(path: str | os.PathLike, content: Any, private: bool = False) -> None:
    """Writes json so that a reader sees the old content or the new, never a part; `private` for this user's eyes only (0600)."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(temporary, "w", encoding="utf-8", opener=opened_privately if private else None) as file:
            file.write(json.dumps(content, indent=2, ensure_ascii=False, default=str) + "\n")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def opened_privately(path: str, flags: int) -> int:
    """Opener of a file that only this user may read and write, whatever the umask says."""
    descriptor = os.open(path, flags, 0o600)
    os.fchmod(descriptor, 0o600)
    return descriptor


def read_json(path: str | os.PathLike) -> Any:
    """Reads json; raises `InputError` naming the file where it cannot, or where that is too large or nested too deeply."""
    return parse_json(read_text(path, MAX_ROWS_BYTES), path)


@contextlib.contextmanager
def replaced_folder(folder: str | os.PathLike) -> Iterator[Path]:
    """
    Yields an empty folder that takes the place of `folder` when the block ends well. An error, or a kill, leaves what was
    there before.
    """
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary, old = (folder.with_name(f".{folder.name}.{kind}") for kind in ("new", "old"))
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        yield temporary
        if folder.exists():
            shutil.rmtree(old, ignore_errors=True)
            os.replace(folder, old)
        os.replace(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if folder.exists():
            shutil.rmtree(old, ignore_errors=True)
        elif old.exists():
            os.replace(old, folder)


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
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
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
    expected = int(files[0].stem.rsplit("-", 1)[1])
    if len(files) != expected:
        raise InputError(
            f"{folder} holds {len(files)} of {expected} parquet shards: run the stage that writes them again."
        )
    if expected == 1 and pq.read_metadata(files[0]).num_rows == 0:
        # `load_dataset` knows no split without rows; the parquet schema carries the features.
        return Dataset(pq.read_table(files[0]))
    try:
        dataset = load_dataset("parquet", data_files=[str(f) for f in files], split="train", keep_in_memory=False)
    except DatasetGenerationError as error:
        if isinstance(error.__cause__, OSError):
            raise error.__cause__ from None  # such as a full disk
        raise InputError(f"The parquet shards in {folder} cannot be read: {error.__cause__ or error}.") from None
    if not isinstance(dataset, Dataset):
        raise InputError(f"{folder} does not hold a single data set.")
    return check_media(dataset, str(folder))


def copy_arguments(arguments: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """The named entries of `arguments`, for a manifest."""
    return {name: arguments[name] for name in names if name in arguments}
