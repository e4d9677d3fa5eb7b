"""What all stages share: reading each other's folders, skipping what is done, parsing mappings."""

import json
import logging
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datasets import Dataset

from ..artifacts import Manifest, read_rows
from ..data import load_source
from ..errors import InputError

logger = logging.getLogger(__name__)


@dataclass
class StageResult:
    """
    What a stage tells the user.

    Args:
        stage (`str`): Its name.
        folder (`str`): Where its results are.
        counts (`dict`): Numbers of rows.
        lines (`list` of `str`): Text to show.
        skipped (`bool`): Whether the folder already held the same results.
    """

    stage: str
    folder: str
    counts: dict[str, int] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)
    skipped: bool = False

    def __str__(self) -> str:
        counts = ", ".join(f"{name} {count:,}" for name, count in self.counts.items())
        head = f"[{self.stage}] {'already done' if self.skipped else 'done'}: {self.folder}"
        return "\n".join([f"{head} ({counts})" if counts else head, *self.lines])


def rows_of(name_or_path: str | None, part: str, *, split: str = "train", revision: str | None = None) -> Dataset:
    """
    The rows of a stage's folder (its subfolder `part`, which is also accepted itself), or of any other data set that
    `load_source` reads: a Hub id, a folder, a file.
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
    return load_source(name_or_path, split=split, revision=revision)


def is_main_process() -> bool:
    """Whether this process writes the results."""
    return int(os.environ.get("RANK", 0)) == 0


def skip_if_done(manifest: Manifest, folder: str | os.PathLike, overwrite: bool) -> StageResult | None:
    """
    The result of a stage whose folder already holds it; `None` when there is work to do.

    Raises:
        InputError: When the folder holds another result and `overwrite` is off.
    """
    found = Manifest.load(folder)
    if found is None:
        return None
    if found.key == manifest.key:
        return StageResult(manifest.stage, str(folder), found.counts, skipped=True)
    if overwrite:
        return None
    changed = [f"input '{k}'" for k, v in manifest.inputs.items() if found.inputs.get(k) != v]
    changed += [f"`{k}`" for k, v in manifest.arguments.items() if _plain(found.arguments.get(k)) != _plain(v)]
    if found.stage != manifest.stage:
        changed = [f"stage '{found.stage}'"]
    raise InputError(
        f"{folder} holds the result of another run (different: {', '.join(changed) or 'its arguments'}). Choose another "
        "`output_dir`, or pass --overwrite to replace it."
    )


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value, default=str))


@contextmanager
def timed(manifest: Manifest) -> Iterator[None]:
    """Adds the seconds of the block to the manifest."""
    start = time.perf_counter()
    yield
    manifest.seconds = round(manifest.seconds + time.perf_counter() - start, 3)


def mapping_of(value: str | Mapping[str, Any] | None, name: str) -> dict[str, Any]:
    """A mapping from YAML, or from the json of a command line such as '{"honesty": 2.0}'."""
    if value is None:
        return {}
    if isinstance(value, Mapping):
        return dict(value)
    try:
        content = json.loads(value)
    except json.JSONDecodeError as error:
        raise InputError(
            f"`{name}` must be a json object such as '{{\"honesty\": 2.0}}', got {value!r} ({error})."
        ) from None
    if not isinstance(content, dict):
        raise InputError(f"`{name}` must be a json object such as '{{\"honesty\": 2.0}}', got {value!r}.")
    return content
