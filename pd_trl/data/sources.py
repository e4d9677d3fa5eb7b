"""Opening a dataset from the Hub, from files and folders, or from memory."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path
from typing import Any, TypeAlias

import datasets

from ..errors import InputError, InputTypeError
from ..hub import split_revision
from ..safety.media import check_media
from .bundled import SAMPLE, SAMPLE_FILE, is_bundled
from .columnar import dataset_table, table_dataset
from .encoding import broken_text, describe_broken, json_table
from .opening import data_files, has_config, load_from_hub, open_files, open_folder, suffix_of

logger = logging.getLogger(__name__)

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


def is_path(name: str) -> bool:
    """Whether a name is a file or folder rather than a dataset on the Hub."""
    if is_bundled(name):
        return True
    looks_like_path = suffix_of(name) is not None or name.startswith((".", "/", "~")) or name.count("/") > 1
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
                config = next((part for part in wanted if has_config(hub_id, part, revision)), None)
            options = dict(load_kwargs) if load_kwargs else {"name": config}
            kwargs = {"revision": revision, "num_proc": num_proc, **options}
            loaded = load_from_hub(name, hub_id, hub_split or split, kwargs)
            return Source(_read(loaded, name), f"Dataset {name}", hub_id)
        folder = Path(name).expanduser()
        if folder.is_dir():
            parts = (folder / part for part in wanted)
            folder = next((part for part in parts if any(part.glob("train-*-of-*.parquet"))), folder)
            loaded, files = open_folder(folder, split, config, num_proc), data_files(folder)
        else:
            loaded, files = open_files([name], split, num_proc), [folder]
        return Source(_read(loaded, name), name, files=files)
    if isinstance(name_or_path, (list, tuple)) and all(isinstance(path, (str, PathLike)) for path in name_or_path):
        names = [fspath(path) for path in name_or_path]
        loaded = _read(open_files(names, split, num_proc), "The files")
        return Source(loaded, f"{len(names)} files", files=[Path(name).expanduser() for name in names])
    return Source(require_dataset(name_or_path, "name_or_path"), "The dataset")


def _open_sample(split: str) -> datasets.Dataset:
    if set(split) & set("[+"):
        return open_files([str(SAMPLE_FILE)], split, None)
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
