"""What all stages share: a folder of their own, skipping what is done, and what they tell the user."""

import copy
import functools
import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import InputError
from .artifacts import Manifest
from .folders import OWNER_NAME, beside, folder_lock, is_empty, swap
from .identity import canonical
from .launch import is_main_process, shared, wait_for_all

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
        state = "already done" if self.skipped else "would write" if "(dry run)" in self.stage else "done"
        head = f"[{self.stage}] {state}: {self.folder}"
        return "\n".join([f"{head} ({counts})" if counts else head, *self.lines])


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
        # Also by a link, or by `..`.
        places = (path, path.resolve()) if path is not None and path.exists() else ()
        if any({folder, folder.resolve()} & {place, *place.parents} for place in places):
            raise InputError(f"`output_dir` {output_dir} holds the input {name}, which would be lost. Choose another.")
    if not folder.is_dir():
        return
    owner, _ = _owner_of(folder)
    if owner is None and is_empty(folder):
        return
    if owner is None:
        raise InputError(
            f"`output_dir` {output_dir} is not empty and was not made by `{stage}`. Choose another folder, or empty this one."
        )
    if owner != stage:
        raise InputError(
            f"`output_dir` {output_dir} holds the result of the stage '{owner}'. Choose another for '{stage}'."
        )


def _owner_of(folder: Path) -> tuple[str | None, str]:
    """The stage whose folder this is, and the key of its run, where they are known."""
    manifest = Manifest.load(folder)
    if manifest is not None:
        return manifest.stage, manifest.key
    path = folder / OWNER_NAME
    stage, _, key = path.read_text(encoding="utf-8").partition("\n") if path.is_file() else ("", "", "")
    return stage or None, key.strip()


def skip_if_done(
    manifest: Manifest, folder: str | os.PathLike, overwrite: bool, hold: bool = True
) -> StageResult | None:
    """
    The result of a stage whose folder already holds it; `None` when there is work to do.

    Args:
        manifest ([`Manifest`]): What the stage will have done.
        folder (`str`): Folder of its result.
        overwrite (`bool`): Whether another result may be replaced.
        hold (`bool`, *optional*, defaults to `True`): Whether to keep other commands out until the stage ends.

    Raises:
        InputError: When the folder holds another result and `overwrite` is off, when its result is damaged, or when another
            command is writing there.
    """
    locks = getattr(_running, "locks", None)
    if locks is not None and hold:
        locks.enter_context(folder_lock(folder))
    found = Manifest.load(folder)
    if found is None:
        return None
    if found.key == manifest.key:
        try:
            found.check_files(folder)
        except InputError:
            if overwrite:
                return None
            raise
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
    """What a stage would do: nothing where it is done. Says what would stop it."""
    found = Manifest.load(folder)
    if found is not None and found.stage == manifest.stage and found.key == manifest.key:
        found.check_files(folder)
        return StageResult(manifest.stage, folder, found.counts, skipped=True)
    if found is not None:
        lines = [*lines, f"{folder} holds the result of another run: refused unless --overwrite is given."]
    return StageResult(f"{manifest.stage} (dry run)", folder, counts, lines)


def held_folder(run: Callable[..., StageResult], exclusive: bool = True) -> Callable[..., StageResult]:
    """
    A stage that, if `exclusive`, keeps other commands out of its `output_dir` from [`skip_if_done`] on.
    An error that leaves it carries the folder as its attribute `output_dir`.
    """

    @functools.wraps(run)
    def held(*arguments: Any) -> StageResult:
        arguments = tuple(_expanded(part) for part in arguments)
        folder = next((part.output_dir for part in arguments if getattr(part, "output_dir", None)), None)
        writes = is_main_process() and not getattr(arguments[0], "dry_run", False)
        outer = getattr(_running, "locks", None)
        try:
            with ExitStack() as stack:
                _running.locks = stack if writes and exclusive else None
                return run(*arguments)
        except Exception as error:
            if folder and writes and not hasattr(error, "output_dir"):
                error.output_dir = folder  # type: ignore[attr-defined]
            raise
        finally:
            _running.locks = outer

    return held


_running = threading.local()


def shared_folder(run: Callable[..., StageResult]) -> Callable[..., StageResult]:
    """[`held_folder`] for a stage whose processes share the work in one folder."""
    return held_folder(run, exclusive=False)


def _expanded(arguments: Any) -> Any:
    """The arguments with the user's home in `output_dir`; those of the caller stay as they are."""
    if not str(getattr(arguments, "output_dir", None) or "").startswith("~"):
        return arguments
    arguments = copy.copy(arguments)
    arguments.output_dir = str(Path(arguments.output_dir).expanduser())
    return arguments


@contextmanager
def owned_folder(
    owner: Manifest | str, output_dir: str | os.PathLike, overwrite: bool, exclusive: bool = True
) -> Iterator[Path]:
    """
    Yields the folder in which a stage's result grows (checkpoints, shards): `output_dir`, or, where another run's result is to
    be overwritten, a folder of the same name beside it. That one takes the place of `output_dir` when the block ends and it
    holds a manifest; a run that fails or is killed leaves the old result, and the same run goes on beside it.

    Args:
        owner ([`Manifest`] or `str`): What the stage will have done, or its name.
        output_dir (`str`): Folder of the result.
        overwrite (`bool`): Whether another run's result may be replaced.
        exclusive (`bool`, *optional*, defaults to `True`): Whether to keep other commands out.
    """
    folder = Path(output_dir).expanduser()
    if not is_main_process():
        place = Path(shared())
        yield place
        if place != folder:
            wait_for_all()
        return
    with folder_lock(folder) if exclusive else nullcontext():
        stage, key = (owner, "") if isinstance(owner, str) else (owner.stage, owner.key)
        folder.mkdir(parents=True, exist_ok=True)
        place = folder
        finished = Manifest.load(folder) is not None
        if overwrite and (finished or _owner_of(folder)[1] != key and not is_empty(folder)):
            place = beside(folder, f"new.{key[:12]}", alone=exclusive)
        # An attempt that is refused must not take another run's unfinished work for its own.
        if not (place / OWNER_NAME).is_file():
            (place / OWNER_NAME).write_text(f"{stage}\n{key}\n", encoding="utf-8")
        shared(str(place))
        yield place
        if place != folder:
            wait_for_all()
            if Manifest.load(place) is not None:
                swap(place, folder)


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(canonical(value)))


@contextmanager
def timed(manifest: Manifest) -> Iterator[None]:
    """Adds the seconds of the block to the manifest."""
    start = time.perf_counter()
    yield
    manifest.seconds = round(manifest.seconds + time.perf_counter() - start, 3)
