"""What stages read: each other's folders, other data sets, and mappings."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from datasets import Dataset

from ...data import load_source
from ...errors import InputError
from ...runs.artifacts import Manifest, read_rows
from ...runs.launch import is_main_process as is_main_process


def rows_of(name_or_path: str | None, part: str, *, split: str = "train", revision: str | None = None) -> Dataset:
    """
    The rows of a stage's folder (its subfolder `part`, which is also accepted itself), or of any other data set that
    `load_source` reads: a Hub id (its configuration `part`, where it has one), a folder, a file.
    """
    if not name_or_path:
        raise InputError("No data: name it with `dataset_name` (a stage's folder, a file, or a Hub id).")
    folder = Path(name_or_path).expanduser()
    for candidate in (folder / part, folder):
        if any(candidate.glob("train-*-of-*.parquet")) and split == "train":
            return read_rows(candidate)
    if (folder / "manifest.json").is_file():
        manifest = Manifest.load(folder)
        raise InputError(
            f"{folder} holds the results of `{manifest.stage if manifest else '?'}`, which have no {part}."
        )
    # A published selection has its preferences, kept and dropped, under the name `scored`; its default is the kept ones.
    prefer = (part, "scored") if part == "preferences" else part
    return load_source(name_or_path, split=split, revision=revision, prefer=prefer)


def mapping_of(value: str | Mapping[str, Any] | None, name: str) -> dict[str, Any]:
    """A mapping from YAML, or from the json of a command line such as '{"honesty": 2.0}'."""
    if value is None:
        return {}
    if isinstance(value, Mapping):
        return dict(value)
    expected = (
        f'`{name}` must be a mapping in YAML, or a json object such as \'{{"key": "value"}}\' on the command line'
    )
    try:
        content = json.loads(value)
    except (json.JSONDecodeError, TypeError) as error:
        raise InputError(f"{expected}, got {value!r} ({error}).") from None
    if not isinstance(content, dict):
        raise InputError(f"{expected}, got {value!r}.")
    return content
