"""Opening a dataset from the Hub, from files and folders, or from memory."""

import logging
import re
import shutil
import time
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path
from typing import Any, TypeAlias

import datasets
from datasets.exceptions import DatasetGenerationError, DatasetNotFoundError, DatasetsError
from huggingface_hub.errors import HfHubHTTPError

from ..errors import InputError, InputTypeError
from ..hub import check_dataset_files, download_file, split_revision
from ..hub.readme import split_readme
from ..runs.artifacts import system_error
from ..safety.media import check_media
from ..safety.schema import MAX_BYTES, read_text
from .bundled import SAMPLE, SAMPLE_FILE, is_bundled
from .columnar import dataset_table, table_dataset
from .csv_files import SUFFIXES, csv_dataset
from .encoding import broken_text, describe_broken, json_table, json_trouble

logger = logging.getLogger(__name__)

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

SourceLike: TypeAlias = str | PathLike[str] | Sequence[str | PathLike[str]] | datasets.Dataset


@dataclass
class Source:
    """
    An opened source.

    Args:
        dataset (`Dataset`):
            Its rows.
        name (`str`):
            Its name in messages.
        hub_id (`str`, *optional*):
            Its id on the Hub, where it has one.
        files (`Sequence[Path]`):
            The files that it was read from, if known.
    """

    dataset: datasets.Dataset
    name: str
    hub_id: str | None = None
    files: Sequence[Path] = ()

    def check_text(self) -> None:
        """Raises [`InputError`] naming file, row and column where text is not UTF-8."""
        if broken := broken_text(dataset_table(self.dataset)):
            raise InputError(describe_broken(self.name, self.files, broken))


def _suffix(path: str) -> str | None:
    return next((suffix for suffix in sorted(FORMATS, key=len, reverse=True) if path.lower().endswith(suffix)), None)


def is_path(name: str) -> bool:
    """Whether a name is a file or folder rather than a dataset on the Hub."""
    if is_bundled(name):
        return True
    looks_like_path = _suffix(name) is not None or name.startswith((".", "/", "~")) or name.count("/") > 1
    return looks_like_path or Path(name).expanduser().exists()


def require_dataset(value: Any, what: str = "data", split: str | None = None) -> datasets.Dataset:
    """
    Returns the value if it is a non-empty `Dataset`.

    Args:
        value:
            What was passed.
        what (`str`, defaults to `"data"`):
            Name of the argument.
        split (`str`, *optional*):
            Split to take from a `DatasetDict`. `None` refuses a `DatasetDict`.

    Raises:
        InputTypeError: If the value is not a `Dataset`.
        InputError: If it has no rows, or is a `DatasetDict` without the split.
    """
    if isinstance(value, datasets.DatasetDict):
        if split is None or split not in value:
            example = next(iter(value), "train")
            raise InputTypeError(
                f"{what} must be a Dataset, but it is a DatasetDict with the splits {list(value)}. Choose one, e.g. "
                f"dataset[{example!r}]."
            )
        value = value[split]
    if isinstance(value, (datasets.IterableDataset, datasets.IterableDatasetDict)):
        raise InputTypeError(
            f"{what} must be a Dataset, but it is an {type(value).__name__}, which has no length. Load it without "
            "streaming=True, or save the part you need to a file first."
        )
    if not isinstance(value, datasets.Dataset):
        raise InputTypeError(
            f"{what} must be a datasets.Dataset, but it is a {type(value).__name__}. Make one with "
            "datasets.Dataset.from_list(rows) or datasets.load_dataset."
        )
    if len(value) == 0:
        raise InputError(f"{what} has no rows.")
    return value


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


def _load_from_hub(name: str, hub_id: str, split: str, kwargs: Mapping[str, Any]) -> datasets.Dataset:
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


def _open_files(paths: Sequence[str], split: str, num_proc: int | None) -> datasets.Dataset:
    if not paths:
        raise InputError("The list of files is empty.")
    formats = {}
    for path in paths:
        file = Path(path).expanduser()
        if not file.is_file():
            parent = file.parent
            siblings = (
                sorted(found.name for found in parent.iterdir() if _suffix(found.name)) if parent.is_dir() else []
            )
            there = f" {parent} has {siblings[:8]}." if siblings else ""
            raise InputError(f"File {path} does not exist.{there}")
        suffix = _suffix(path)
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


def _open_folder(folder: Path, split: str, config: str | None, num_proc: int | None) -> datasets.Dataset:
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
    files = _data_files(folder)
    if files and all(file.suffix.lower() in SUFFIXES for file in files) and config is None:
        return _open_files([*map(str, files)], split, num_proc)
    return _load(f"Folder {folder}", str(folder), name=config, split=split, num_proc=num_proc, files=files)


def _data_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and _suffix(path.name))


def _has_config(name: str, config: str, revision: str | None) -> bool:
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


def open_source(
    name_or_path: SourceLike,
    *,
    split: str = "train",
    config: str | None = None,
    revision: str | None = None,
    num_proc: int | None = None,
    load_kwargs: Mapping[str, Any] | None = None,
    hub_split: str | None = None,
    prefer: str | Sequence[str] | None = None,
) -> Source:
    """
    Opens a source of rows.

    Args:
        name_or_path (`str`, path, list of paths, or `Dataset`):
            A dataset id on the Hub (with a revision: `"me/data@v1"`), a local folder (of files, or written by
            `save_to_disk`), parquet, JSON(L) or CSV files, a dataset in memory, or `"sample"`, the bundled sample.
        split (`str`, defaults to `"train"`):
            Split, with `datasets`' slicing (`"train[:1000]"`).
        config (`str`, *optional*):
            Configuration of a dataset with several.
        revision (`str`, *optional*):
            Branch, tag or commit on the Hub.
        num_proc (`int`, *optional*):
            Processes that read files.
        load_kwargs (`Mapping`, *optional*):
            Further arguments of `load_dataset` for a dataset on the Hub, in place of the configuration.
        hub_split (`str`, *optional*):
            Name of the split on the Hub, if another.
        prefer (`str` or sequence of `str`, *optional*):
            Configuration to take if none is asked for and the dataset has it; of several, the first that it has. In a
            local folder, the subfolder with such rows.

    Raises:
        InputError: If there is no such source, it cannot be read, or it has no rows.
    """
    wanted = [prefer] if isinstance(prefer, str) else list(prefer or ())
    if isinstance(name_or_path, (str, PathLike)):
        name = fspath(name_or_path)
        if is_bundled(name):
            return Source(_open_sample(split), name, files=[SAMPLE_FILE])
        if name == SAMPLE:
            logger.warning("%s is read, not the bundled sample of that name.", Path(name).resolve())
        if not is_path(name):
            hub_id, pinned = split_revision(name)
            revision = revision or pinned
            if config is None and not load_kwargs:
                config = next((part for part in wanted if _has_config(hub_id, part, revision)), None)
            options = dict(load_kwargs) if load_kwargs else {"name": config}
            kwargs = {"revision": revision, "num_proc": num_proc, **options}
            loaded = _load_from_hub(name, hub_id, hub_split or split, kwargs)
            return Source(_read(loaded, name), f"Dataset {name}", hub_id)
        folder = Path(name).expanduser()
        if folder.is_dir():
            parts = (folder / part for part in wanted)
            folder = next((part for part in parts if any(part.glob("train-*-of-*.parquet"))), folder)
            loaded, files = _open_folder(folder, split, config, num_proc), _data_files(folder)
        else:
            loaded, files = _open_files([name], split, num_proc), [folder]
        return Source(_read(loaded, name), name, files=files)
    if isinstance(name_or_path, (list, tuple)) and all(isinstance(path, (str, PathLike)) for path in name_or_path):
        names = [fspath(path) for path in name_or_path]
        loaded = _read(_open_files(names, split, num_proc), "The files")
        return Source(loaded, f"{len(names)} files", files=[Path(name).expanduser() for name in names])
    return Source(require_dataset(name_or_path, "name_or_path"), "The dataset")


def _open_sample(split: str) -> datasets.Dataset:
    if set(split) & set("[+"):
        return _open_files([str(SAMPLE_FILE)], split, None)
    # Without `datasets`' cache: nothing is written, and no bar is shown for so few rows.
    return table_dataset(json_table([SAMPLE_FILE]))


def _read(loaded: Any, name: str) -> datasets.Dataset:
    return check_media(require_dataset(loaded, name), name)


def load_source(
    name_or_path: SourceLike,
    *,
    split: str = "train",
    config: str | None = None,
    revision: str | None = None,
    num_proc: int | None = None,
    prefer: str | Sequence[str] | None = None,
) -> datasets.Dataset:
    """Returns the rows of a source unchanged; text must be UTF-8. For the arguments see [`open_source`]."""
    source = open_source(name_or_path, split=split, config=config, revision=revision, num_proc=num_proc, prefer=prefer)
    source.check_text()
    return source.dataset
