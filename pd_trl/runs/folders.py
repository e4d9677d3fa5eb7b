"""Folders that one command at a time writes, and that a finished one replaces as a whole."""

import contextlib
import glob
import os
import re
import secrets
import shutil
import threading
from collections.abc import Container, Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from ..errors import InputError

# What lies in a folder beside its content: our marks, and the log of an error.
_OWN = ".pd_trl"
_WORK = "work"
LOCK_NAME = f"{_OWN}_lock"
OWNER_NAME = f"{_OWN}_stage"
ERROR_LOG = "error.log"
# What a kill in the middle of `swap` or `replaced_folder` leaves.
_LEFT = re.compile(r"(old|tmp\.\d+)\.[0-9a-f]{8}")
_NEW, _OLD = "new", "old"
_LAST = "manifest.json"
_held = threading.local()
# A child holds nothing, whatever its parent does.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_held.__dict__.clear)


def check_local(name: object) -> None:
    """Raises `InputError` where a folder to write into is named by an address, of which a path would make folders here."""
    if found := re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", str(name)):
        raise InputError(
            f"`output_dir` must be a folder of this machine, but {name} is an address ({found[1]}://). Name a folder, and copy or "
            "publish its content when it is there."
        )


def check_place(name: str | os.PathLike) -> None:
    """Raises `InputError` where a folder to write into has no name, is a file, or lies below one."""
    if not str(name).strip():
        raise InputError("`output_dir` is empty: name a folder.")
    folder = Path(name).expanduser().absolute()
    found = next(place for place in (folder, *folder.parents) if place.exists())
    if not found.is_dir():
        shown = name if found == folder else found
        raise InputError(f"`output_dir` must be a folder, but {shown} is a file. Choose another.")


def is_empty(folder: Path) -> bool:
    """Whether a folder holds nothing but our own marks."""
    return all(path.name == ERROR_LOG or path.name.startswith(_OWN) for path in folder.iterdir())


@contextlib.contextmanager
def folder_lock(folder: str | os.PathLike, wait: float = 0.0) -> Iterator[None]:
    """
    Holds a folder, so that no other command writes there; a block within a block of the same thread is free. The lock is a
    hidden file beside the folder. It stays there: a process that holds a removed file keeps nobody out.

    Args:
        folder (`str`): The folder, which need not exist.
        wait (`float`, *optional*): Seconds to wait for another command.

    Raises:
        InputError: When another command holds it.
    """
    place = Path(folder).expanduser().resolve()
    held: set[Path] = _held.__dict__.setdefault("folders", set())
    path = _lock_of(place) if place not in held else None
    if path is None:
        yield  # held already, or on a disk that takes no file: whatever is written there fails by itself
        return
    lock = FileLock(path)
    try:
        lock.acquire(timeout=wait)
    except Timeout:
        raise InputError(
            f"Another command is writing into {folder}. Wait for it, or choose another `output_dir`."
        ) from None
    held.add(place)
    try:
        _recover(place)
        yield
    finally:
        held.discard(place)
        lock.release()


def _lock_of(place: Path) -> Path | None:
    path = place / LOCK_NAME if _stays(place) else place.with_name(f".{place.name[:200]}.lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    except OSError:
        return None
    return path


def _stays(place: Path) -> bool:
    """Whether a folder cannot be renamed: a mount point, or the root of what the user may write."""
    return place.is_dir() and (os.path.ismount(place) or not os.access(place.parent, os.W_OK))


def _hidden(folder: Path) -> tuple[Path, str]:
    """Where hidden companions of a folder lie, and how their names begin."""
    place = folder.expanduser().resolve()
    return (place, _OWN) if _stays(place) else (place.parent, f".{place.name[:200]}")


def beside(folder: Path, label: str, alone: bool = False, keep: Container[str] = ()) -> Path:
    """
    A place for what is to replace `folder`: a folder of the same name, in a hidden one beside it, made where missing.

    Args:
        folder (`Path`): The folder.
        label (`str`): A kind, a dot, and what tells this place from others of the kind.
        alone (`bool`, *optional*, defaults to `False`): Whether to remove the others of the kind.
        keep (container of `str`, *optional*): What tells the others apart that are not to be removed.
    """
    root, prefix = _hidden(folder)
    parent = root / f"{prefix}.{label}"
    kind = label.partition(".")[0]
    for other in places_beside(folder, kind) if alone else ():
        if other != parent and other.name.removeprefix(f"{prefix}.{kind}.") not in keep:
            _remove(other)
    new = parent / folder.expanduser().resolve().name
    new.mkdir(parents=True, exist_ok=True)
    return new


def places_beside(folder: Path, kind: str) -> list[Path]:
    """The hidden folders of a kind that [`beside`] made for `folder`."""
    root, prefix = _hidden(folder)
    # What lies beside a folder `out.new` begins alike.
    own = re.compile(re.escape(f"{prefix}.{kind}") + r"\.[0-9a-f]*")
    return sorted(path for path in root.glob(f"{glob.escape(prefix)}.{kind}.*") if own.fullmatch(path.name))


@contextlib.contextmanager
def at_work(folder: Path, key: str, in_place: bool) -> Iterator[None]:
    """
    Tells other commands, during the block, that a run works for `folder` without holding it.

    Args:
        folder (`Path`): The folder.
        key (`str`): What tells runs apart. Processes of one run have the same.
        in_place (`bool`): Whether it writes into `folder` itself.
    """
    root, prefix = _hidden(folder)
    path = root / f"{prefix}.{_WORK}.{key}.{int(in_place)}.{os.getpid()}.{secrets.token_hex(4)}"
    lock = FileLock(path)
    try:
        with contextlib.suppress(OSError):
            lock.acquire(timeout=0)
        yield
    finally:
        # The name is this process's own, so that nobody else waits for it.
        path.unlink(missing_ok=True)
        lock.release()


def runs_at_work(folder: Path) -> set[tuple[str, bool]]:
    """Keys of the runs that [`at_work`] tells of, and whether they write into the folder itself. Call it with the folder held."""
    root, prefix = _hidden(folder)
    found = set()
    for path in root.glob(f"{glob.escape(prefix)}.{_WORK}.*"):
        key, in_place = path.name.removeprefix(f"{prefix}.{_WORK}.").split(".")[:2]
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            found.add((key, in_place == "1"))
            continue
        path.unlink(missing_ok=True)
        lock.release()
    return found


def swap(new: Path, folder: Path) -> None:
    """Puts `new`, made by [`beside`], in the place of `folder`, whose old content is removed."""
    place = folder.expanduser().resolve()
    with folder_lock(place, wait=600.0):
        if _stays(place):
            _swap_content(new, place)
        else:
            old = place.with_name(f".{place.name[:200]}.old.{secrets.token_hex(4)}")
            if place.exists():
                os.replace(place, old)
            os.replace(new, place)
            _remove(old)
        _remove(new.parent)


def _swap_content(new: Path, place: Path) -> None:
    """
    [`swap`] of a folder that cannot be renamed: the old content moves aside, then the new one moves in. A kill before `new`
    is renamed brings back the old content, a later one ends with the new.
    """
    aside = place / f"{_OWN}.old.{secrets.token_hex(4)}"
    (aside / _OLD).mkdir(parents=True)
    try:
        # The manifest goes first and comes last: while it is there, so is the whole result.
        for path in sorted(place.iterdir(), key=lambda path: path.name != _LAST):
            if path.name != LOCK_NAME and not path.name.startswith(f"{_OWN}."):
                os.replace(path, aside / _OLD / path.name)
        os.replace(new, aside / _NEW)
    finally:
        _settle(aside)


def _settle(aside: Path) -> None:
    """Ends what [`_swap_content`] began: forwards if the new content is there, else backwards."""
    source = aside / (_NEW if (aside / _NEW).is_dir() else _OLD)
    for path in sorted(source.iterdir() if source.is_dir() else (), key=lambda path: path.name == _LAST):
        os.replace(path, aside.parent / path.name)
    # Under this name, a half removed folder is taken for neither.
    rest = aside.with_name(f"{_OWN}.tmp.0.{aside.name[-8:]}")
    os.replace(aside, rest)
    _remove(rest)


@contextlib.contextmanager
def replaced_folder(folder: str | os.PathLike) -> Iterator[Path]:
    """
    Yields an empty folder that takes the place of `folder` when the block ends well. An error, or a kill, leaves what was
    there before. Other commands that replace it wait.
    """
    folder = Path(folder)
    with folder_lock(folder, wait=600.0):
        new = beside(folder, f"tmp.{os.getpid()}.{secrets.token_hex(4)}")
        try:
            yield new
            swap(new, folder)
        finally:
            _remove(new.parent)


def put_back(folder: str | os.PathLike) -> None:
    """Brings back a result that a kill in the middle of [`swap`] left aside. Holding the folder does so too."""
    if any(kind == _OLD for _, kind in _left_of(Path(folder).expanduser().resolve())):
        with contextlib.suppress(InputError), folder_lock(folder):
            pass


def _recover(place: Path) -> None:
    """Puts back what a kill left aside in the middle of [`swap`], and removes what one left half made."""
    for path, kind in _left_of(place):
        if kind == _OLD and path.parent == place:
            _settle(path)
        elif kind == _OLD and not place.exists():
            os.replace(path, place)
        else:
            _remove(path)


def _left_of(place: Path) -> list[tuple[Path, str]]:
    """What kills left beside a folder, and its kind: `old` or `tmp` with the number of the process."""
    root, name = _hidden(place)
    paths = sorted(root.glob(f"{glob.escape(name)}.*"))
    # What lies beside a folder `out.old` begins alike.
    found = ((path, _LEFT.fullmatch(path.name[len(name) + 1 :])) for path in paths)
    return [(path, left[1]) for path, left in found if left is not None]


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
