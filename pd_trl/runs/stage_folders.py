"""What all stages share: a folder of their own, skipping what is done, and what they tell the user."""

import copy
import functools
import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import InputError
from .artifacts import Manifest
from .folders import (
    OWNER_NAME,
    at_work,
    beside,
    check_local,
    check_place,
    folder_lock,
    is_empty,
    places_beside,
    put_back,
    runs_at_work,
    swap,
)
from .identity import canonical
from .launch import is_main_process, shared, wait_for_all

logger = logging.getLogger(__name__)

# Seconds to wait for another command that holds a folder for a moment.
_WAIT = 600.0


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
    put_back(folder)
    check_place(output_dir)
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
    put_back(folder)
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
        _tidy(Path(folder).expanduser())
        return StageResult(manifest.stage, str(folder), found.counts, skipped=True)
    if overwrite:
        return None
    changed = [f"input '{k}'" for k, v in manifest.inputs.items() if found.inputs.get(k) != v]
    changed += [f"`{k}`" for k, v in manifest.arguments.items() if _plain(found.arguments.get(k)) != _plain(v)]
    raise InputError(
        f"{folder} holds the result of another run (different: {', '.join(changed) or 'its arguments'}). Choose another "
        "`output_dir`, or pass --overwrite to replace it."
    )


def _tidy(folder: Path) -> None:
    """Removes what a kill left half made beside a finished result, and says what lies there to go on from."""
    if not is_main_process():
        return
    with suppress(InputError), folder_lock(folder):
        pass
    busy = {key for key, _ in runs_at_work(folder)}
    for place in places_beside(folder, "new"):
        if place.name.rpartition(".")[2] not in busy:
            logger.warning(
                "%s holds an unfinished result that was to replace %s. The same command with --overwrite goes on with it; another "
                "--overwrite removes it.", place, folder,
            )  # fmt: skip


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
    """The arguments with the user's home in `output_dir`, a local path; those of the caller stay as they are."""
    check_local(getattr(arguments, "output_dir", None))
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
    with ExitStack() as stack:
        if exclusive:
            stack.enter_context(folder_lock(folder))
        stage, key = (owner, "") if isinstance(owner, str) else (owner.stage, owner.key)
        # Runs that hold nothing while they work come and go one by one. A folder without a key lies in one that is held.
        with folder_lock(folder, wait=_WAIT) if key else nullcontext():
            # Not before it is held: what a kill left aside takes the place of a folder that is missing.
            folder.mkdir(parents=True, exist_ok=True)
            place = _place(folder, key, overwrite)
            # An attempt that is refused must not take another run's unfinished work for its own.
            if not (place / OWNER_NAME).is_file():
                (place / OWNER_NAME).write_text(f"{stage}\n{key}\n", encoding="utf-8")
            if key and not exclusive:
                stack.enter_context(at_work(folder, key[:12], in_place=place == folder))
        shared(str(place))
        yield place
        if place != folder:
            wait_for_all()
            if Manifest.load(place) is not None:
                with folder_lock(folder, wait=_WAIT):
                    _refuse_others(
                        folder, key, f"This result stays in {place}: the same command puts it in its place."
                    )
                    swap(place, folder)


def _place(folder: Path, key: str, overwrite: bool) -> Path:
    """Where a run's result grows. Unfinished results of others that nobody works on are removed where it replaces one."""
    finished = Manifest.load(folder) is not None
    _refuse_others(folder, key)
    if not overwrite or not (finished or (_owner_of(folder)[1] != key and not is_empty(folder))):
        return folder
    return beside(folder, f"new.{key[:12]}", alone=True, keep={other for other, _ in runs_at_work(folder)})


def _refuse_others(folder: Path, key: str, then: str = "") -> None:
    """Raises `InputError` where a run of other settings writes into the folder itself."""
    if any(in_place and other != key[:12] for other, in_place in runs_at_work(folder)):
        raise InputError(
            f"Another command is writing into {folder}. Wait for it, or choose another `output_dir`. {then}".rstrip()
        )


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(canonical(value)))


@contextmanager
def timed(manifest: Manifest) -> Iterator[None]:
    """Adds the seconds of the block to the manifest."""
    start = time.perf_counter()
    yield
    manifest.seconds = round(manifest.seconds + time.perf_counter() - start, 3)
