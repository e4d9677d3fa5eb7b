"""What all stages share: reading each other's folders, owning their own, skipping what is done, parsing mappings."""

import json
import logging
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datasets import Dataset
from filelock import FileLock, Timeout

from ..artifacts import Manifest, read_rows
from ..data import load_source
from ..errors import InputError

logger = logging.getLogger(__name__)

_OWNER = ".pd_trl_stage"
_LOCK = ".pd_trl_lock"


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
        state = "already done" if self.skipped else "would write" if "(dry run)" in self.stage else "done"
        head = f"[{self.stage}] {state}: {self.folder}"
        return "\n".join([f"{head} ({counts})" if counts else head, *self.lines])


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


def is_main_process() -> bool:
    """Whether this process writes the results."""
    return int(os.environ.get("RANK", 0)) == 0


def check_folder(stage: str, output_dir: str | os.PathLike, inputs: Iterable[str | None]) -> None:
    """
    Raises `InputError` unless a stage may write into `output_dir`: it is new, empty or the same stage's, and none of the
    stage's inputs is, holds or lies in it. Of several processes, the first one checks.
    """
    if not is_main_process():
        return
    folder = Path(output_dir).expanduser().absolute()
    if folder.exists() and not folder.is_dir():
        raise InputError(f"`output_dir` must be a folder, but {output_dir} is a file. Choose another.")
    for name in inputs:
        path = Path(name).expanduser().absolute() if name else None
        if path is not None and path.exists() and (path == folder or folder in path.parents):
            raise InputError(f"`output_dir` {output_dir} holds the input {name}, which would be lost. Choose another.")
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    manifest = Manifest.load(folder)
    owner = manifest.stage if manifest is not None else _owner_of(folder)
    if owner is None:
        raise InputError(
            f"`output_dir` {output_dir} is not empty and was not made by `{stage}`. Choose another folder, or empty this one."
        )
    if owner != stage:
        raise InputError(
            f"`output_dir` {output_dir} holds the result of the stage '{owner}'. Choose another for '{stage}'."
        )


def _owner_of(folder: Path) -> str | None:
    path = folder / _OWNER
    return path.read_text(encoding="utf-8").split("\n")[0] if path.is_file() else None


def _launch_id() -> str:
    """What the processes of one launch have in common, and no other launch."""
    return " ".join(os.environ.get(name, "") for name in ("MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RUN_ID"))


def _wait_for_owner(folder: Path, stage: str, seconds: float = 300.0) -> None:
    """Waits until the first process of this launch has claimed the folder, so that it never finds our files there."""
    deadline = time.monotonic() + seconds
    marker = folder / _OWNER
    while not (marker.is_file() and marker.read_text(encoding="utf-8") == f"{stage}\n{_launch_id()}\n"):
        if time.monotonic() > deadline:
            raise InputError(
                f"The first process did not claim {folder} within {seconds:.0f} s. See its messages above."
            )
        time.sleep(0.05)


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
    raise InputError(
        f"{folder} holds the result of another run (different: {', '.join(changed) or 'its arguments'}). Choose another "
        "`output_dir`, or pass --overwrite to replace it."
    )


def stored_results(folder: str | os.PathLike) -> dict[str, Any]:
    """The main numbers of a finished stage."""
    found = Manifest.load(folder)
    return found.results if found is not None else {}


def dry_result(manifest: Manifest, folder: str, counts: dict[str, int], lines: list[str]) -> StageResult:
    """What a stage would do: nothing where it is done, and what stands in the way."""
    found = Manifest.load(folder)
    if found is not None and found.stage == manifest.stage and found.key == manifest.key:
        return StageResult(manifest.stage, folder, found.counts, skipped=True)
    if found is not None:
        lines = [*lines, f"{folder} holds the result of another run: refused unless --overwrite is given."]
    return StageResult(f"{manifest.stage} (dry run)", folder, counts, lines)


@contextmanager
def owned_folder(stage: str, output_dir: str | os.PathLike, overwrite: bool, exclusive: bool = True) -> Iterator[None]:
    """
    Marks a folder as a stage's while it grows there (checkpoints, shards), empties it first where a result is overwritten,
    and, if `exclusive`, keeps other commands out of it. Processes of one launch share it.
    """
    folder = Path(output_dir).expanduser()
    if not is_main_process():
        _wait_for_owner(folder, stage)
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / _LOCK)
    try:
        if exclusive:
            lock.acquire(timeout=0)
    except Timeout:
        raise InputError(
            f"Another command is writing into {folder}. Wait for it, or choose another `output_dir`."
        ) from None
    try:
        if overwrite:
            _clear(folder)
        (folder / _OWNER).write_text(f"{stage}\n{_launch_id()}\n", encoding="utf-8")
        yield
    finally:
        if exclusive:
            lock.release()
            (folder / _LOCK).unlink(missing_ok=True)


def _clear(folder: Path) -> None:
    for path in folder.iterdir():
        if path.name == _LOCK:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


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
