"""Reading files, folders and data sets of the Hub with `datasets`, and what its errors mean."""

import re
import shutil
import time
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
from datasets.exceptions import DatasetGenerationError, DatasetNotFoundError, DatasetsError
from huggingface_hub.errors import HfHubHTTPError

from ..errors import InputError
from ..hub import check_dataset_files, download_file
from ..hub.readme import split_readme
from ..runs.artifacts import system_error
from ..safety.schema import MAX_BYTES, read_text
from .columnar import table_dataset
from .csv_files import SUFFIXES, csv_dataset
from .encoding import json_table, json_trouble

FORMATS = {
    ".parquet": "parquet",
    ".jsonl": "json",
    ".json": "json",
    ".jsonl.gz": "json",
    ".json.gz": "json",
    ".jsonl.zst": "json",
    ".csv": "csv",
    ".tsv": "csv",
}


def suffix_of(path: str) -> str | None:
    """The ending of a file that can be read, else `None`."""
    return next((suffix for suffix in sorted(FORMATS, key=len, reverse=True) if path.lower().endswith(suffix)), None)


def _load(what: str, *args: Any, split: str, files: Sequence[Path] = (), **kwargs: Any) -> datasets.Dataset:
    try:
        loaded = datasets.load_dataset(*args, split=split, **kwargs)
    except (DatasetGenerationError, EOFError, zlib.error) as error:
        if (full := system_error(error)) is not None:
            raise full from None
        _raise_trouble(files, error)
        if args[:1] == ("json",) and "[" not in split:
            # Readable, but a column has several types, and the change comes too late for `datasets` to expect it.
            return table_dataset(json_table(files))
        raise InputError(
            f"{what} could not be read: {error.__cause__ or error}. The file is damaged, its name says another "
            "format, or its rows have different types."
        ) from error
    except (DatasetNotFoundError, HfHubHTTPError, ConnectionError) as error:
        raise InputError(_hub_message(what, error)) from error
    except (DatasetsError, ValueError, OSError, StopIteration) as error:
        if (full := system_error(error)) is not None:
            raise full from None
        if isinstance(error, FileNotFoundError) and "doesn't contain any data files" in str(error):
            raise InputError(f"{what} has no data files (parquet, jsonl, json, csv).") from error
        empty = isinstance(error, StopIteration) or "corresponds to no data" in str(error)
        if not empty:
            _raise_trouble(files, error)
        packed = "zstd not supported" in str(error)
        # `datasets` before 5 does not read a byte order mark.
        if args[:1] == ("json",) and (packed or (isinstance(error, ValueError) and "[" not in split and not empty)):
            if "[" in split:
                raise InputError(
                    f"{what} is packed with zstd: install zstandard to read a part of it, split {split!r}."
                ) from error
            return table_dataset(json_table(files))
        if "data_files" in kwargs and isinstance(error, ValueError) and not empty:
            raise InputError(
                f"{what} could not be read: {error}. The file is damaged, or its name says another format."
            ) from error
        reason = "it has no rows" if empty else re.sub(r"\s+", " ", str(error)).strip()
        raise InputError(f"{what} (split {split!r}) could not be loaded: {reason.rstrip('.')}.") from error
    return loaded


def _raise_trouble(files: Sequence[Path], error: Exception) -> None:
    for file in files:
        if trouble := json_trouble(file):
            raise InputError(f"{file} could not be read: {trouble}.") from error


def load_from_hub(name: str, hub_id: str, split: str, kwargs: Mapping[str, Any]) -> datasets.Dataset:
    """Loads from the Hub. Files that were prepared just now are checked against the Hub's listing; earlier ones were before."""
    for _ in range(2):
        started = time.time()
        loaded = _load(name, hub_id, split=split, **kwargs)
        prepared = {Path(file["filename"]) for file in loaded.cache_files}
        folders = {path.parent for path in prepared if path.stat().st_mtime >= started - 1}
        commits = {folder.name for folder in folders if re.fullmatch("[0-9a-f]{40}", folder.name)}
        whole = False
        try:
            whole = all(check_dataset_files(hub_id, sha) for sha in commits)
        finally:
            if not whole:
                for folder in folders:
                    shutil.rmtree(folder, ignore_errors=True)
        if whole:
            break
    return loaded


def _hub_message(name: str, error: Exception) -> str:
    text = re.sub(r"\s+", " ", str(error)).strip()
    if "gated" in text.lower() or "401" in text or "403" in text:
        advice = "Accept the terms on its page and log in with `hf auth login`."
    elif isinstance(error, ConnectionError):
        advice = (
            "The Hub cannot be reached: check the connection (or HF_HUB_OFFLINE), or pass a local folder or file of "
            "the data."
        )
    else:
        advice = "Check the spelling and the revision; a private dataset needs `hf auth login`."
    return (
        f"{name} could not be loaded from the Hub: {text.rstrip('.')}. There is no local file or folder of that name "
        f"either. {advice}"
    )


def open_files(paths: Sequence[str], split: str, num_proc: int | None) -> datasets.Dataset:
    """The rows of files, which must have one format."""
    if not paths:
        raise InputError("The list of files is empty.")
    formats = {}
    for path in paths:
        file = Path(path).expanduser()
        if not file.is_file():
            parent = file.parent
            siblings = (
                sorted(found.name for found in parent.iterdir() if suffix_of(found.name)) if parent.is_dir() else []
            )
            there = f" {parent} has {siblings[:8]}." if siblings else ""
            raise InputError(f"File {path} does not exist.{there}")
        suffix = suffix_of(path)
        if suffix is None:
            raise InputError(f"File {path} must end with one of {', '.join(FORMATS)}.")
        if file.stat().st_size == 0:
            raise InputError(f"File {path} is empty.")
        formats[str(file)] = FORMATS[suffix]
    kinds = sorted(set(formats.values()))
    if len(kinds) > 1:
        raise InputError(f"All files must have one format, but there are {' and '.join(kinds)} files.")
    name = str(paths[0]) if len(paths) == 1 else f"{len(paths)} files ({paths[0]}, ...)"
    # Files have no splits, so any name works; "train[:100]" and the like still select rows.
    base = re.split(r"[\[+]", split)[0] or "train"
    if kinds[0] == "csv":
        return csv_dataset([*map(Path, formats)], split, base)
    return _load(
        name, kinds[0], data_files={base: list(formats)}, split=split, num_proc=num_proc, files=[*map(Path, formats)]
    )


def open_folder(folder: Path, split: str, config: str | None, num_proc: int | None) -> datasets.Dataset:
    """The rows of a folder: one that `save_to_disk` wrote, or one of files."""
    if (folder / "state.json").is_file() or (folder / "dataset_dict.json").is_file():
        try:
            loaded = datasets.load_from_disk(str(folder))
        except (OSError, ValueError) as error:
            raise InputError(f"Folder {folder} could not be read: {error}.") from error
        if isinstance(loaded, datasets.DatasetDict) and split not in loaded:
            raise InputError(f"Folder {folder} has no split {split!r}; its splits are {list(loaded)}.")
        return loaded[split] if isinstance(loaded, datasets.DatasetDict) else loaded
    parts = sorted({path.parent.name for path in folder.glob("*/train-*-of-*.parquet")})
    if (folder / "manifest.json").is_file() and len(parts) > 1:
        # `datasets` would merge them into one split.
        raise InputError(
            f"{folder} has several sets of rows, {', '.join(parts)}: name one of them, such as {folder / parts[0]}."
        )
    files = data_files(folder)
    if files and all(file.suffix.lower() in SUFFIXES for file in files) and config is None:
        return open_files([*map(str, files)], split, num_proc)
    return _load(f"Folder {folder}", str(folder), name=config, split=split, num_proc=num_proc, files=files)


def data_files(folder: Path) -> list[Path]:
    """The files of a folder that can be read, sorted."""
    return sorted(path for path in folder.rglob("*") if path.is_file() and suffix_of(path.name))


def has_config(name: str, config: str, revision: str | None) -> bool:
    """
    Whether the card of a dataset on the Hub names this configuration. If the Hub cannot be reached, `datasets` would
    list those in its cache and silently take another one.
    """
    card = download_file(name, "README.md", revision=revision)
    if card is None:
        return False
    try:
        metadata, _ = split_readme(read_text(card, MAX_BYTES))
    except InputError as error:
        raise InputError(f"The card of {name}: {error}") from None
    entries = metadata.get("configs")
    return isinstance(entries, list) and any(isinstance(e, dict) and e.get("config_name") == config for e in entries)
