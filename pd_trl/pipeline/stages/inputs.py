"""Inputs of stages: other stages' folders, and other data sets."""

from pathlib import Path

from datasets import Dataset

from ...data import load_source
from ...errors import InputError
from ...runs.artifacts import Manifest, read_rows


def rows_of(name_or_path: str | None, part: str, *, split: str = "train", revision: str | None = None) -> Dataset:
    """
    The rows of a stage's folder (of its subfolder `part`, which may also be named itself), or of any other data set
    that `load_source` reads: a Hub id (its configuration `part`, if it has one), a folder, a file.
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
    # In a published selection, `scored` holds all preferences; the default configuration holds only the kept ones.
    prefer = (part, "scored") if part == "preferences" else part
    return load_source(name_or_path, split=split, revision=revision, prefer=prefer)
