"""Shards of a scoring run in a Hub data set, through which jobs on machines without a shared disk exchange them."""

import logging
import os
import re
import shutil
from pathlib import Path

from ..errors import InputError
from ..hub import Changes, Head, check_access, commit_files, download_file, read_head
from ..safety.schema import anything, check_content, mapping, parse_json, read_document

logger = logging.getLogger(__name__)

IDENTITY = "identity.json"
_SHARD = re.compile(r"[^/\\]+/(identity\.json|\d{5,}\.(parquet|done))")


def pull_shards(repo_id: str, output_dir: str | os.PathLike, *, path: str = "shards", token: str | None = None) -> int:
    """
    Downloads the finished shards of a run that are not in its folder.

    Args:
        repo_id (`str`):
            Data set of the shards. If it does not exist, there is nothing to download.
        output_dir (`str`):
            `output_dir` of [`score_pairs`] or [`score_shard`].
        path (`str`, *optional*, defaults to `"shards"`):
            Folder of the run in the repository.
        token (`str`, *optional*):
            Token; the one of `hf auth login` or HF_TOKEN where unset.

    Returns:
        `int`: shards downloaded.

    Raises:
        InputError: When the repository holds another run's shards under `path`.
        HubError: When the Hub is out of reach, or refuses.
    """
    head = read_head(repo_id, "dataset", token=token)
    folder = Path(output_dir) / "shards"
    names = (name[len(path) + 1 :] for name in head.files if name.startswith(f"{path}/"))
    # Other names are not ours, and must not become paths on this disk.
    known = {name for name in names if _SHARD.fullmatch(name) and ".." not in name}
    for name in sorted(name for name in known if name.endswith(IDENTITY)):
        _check_identity(head, path, name, folder / name)
        if not (folder / name).is_file():
            _fetch(head, f"{path}/{name}", folder / name)
    fetched = 0
    for name in sorted(name for name in known if name.endswith(".done")):
        rows = f"{name[: -len('.done')]}.parquet"
        if rows in known and not (folder / name).is_file():
            # The marker is written last, so a kill never leaves an incomplete shard that looks finished.
            _fetch(head, f"{path}/{rows}", folder / rows)
            _fetch(head, f"{path}/{name}", folder / name)
            fetched += 1
    return fetched


def push_shards(
    repo_id: str,
    output_dir: str | os.PathLike,
    *,
    path: str = "shards",
    private: bool | None = None,
    token: str | None = None,
) -> int:
    """
    Uploads the finished shards of a run that are not in the repository, in one commit; others may push at the same time.

    Args:
        repo_id (`str`):
            Data set of the shards. Made where it does not exist.
        output_dir (`str`):
            `output_dir` of [`score_pairs`] or [`score_shard`].
        path (`str`, *optional*, defaults to `"shards"`):
            Folder of the run in the repository.
        private (`bool`, *optional*):
            Visibility of a new repository. `None` is the namespace's default.
        token (`str`, *optional*):
            Token; the one of `hf auth login` or HF_TOKEN where unset.

    Returns:
        `int`: shards uploaded.

    Raises:
        InputError: When the repository holds another run's shards under `path`. HubError: If the Hub refuses it.
            Then nothing was changed there, and the shards are in `output_dir`.
    """
    folder = Path(output_dir) / "shards"
    access = check_access(repo_id, "dataset", private=private, token=token)

    def build(head: Head) -> Changes:
        files: dict[str, Path | bytes] = {}
        for identity in sorted(folder.glob(f"*/{IDENTITY}")):
            name = identity.relative_to(folder).as_posix()
            _check_identity(head, path, name, identity)
            files[f"{path}/{name}"] = identity
        for marker in sorted(folder.glob("*/*.done")):
            name = marker.relative_to(folder).as_posix()
            rows = marker.with_suffix(".parquet")
            # A shard that another job has pushed is equally good; only its times differ.
            if f"{path}/{name}" not in head.files and rows.is_file():
                files[f"{path}/{name}"] = marker
                files[f"{path}/{rows.relative_to(folder).as_posix()}"] = rows
        return Changes(files)

    commit = commit_files(
        access.repo_id, "dataset", build, message="Shards of a scoring run, by pd_trl", private=private, token=token
    )
    return sum(name.endswith(".done") for name in commit.added)


def _check_identity(head: Head, path: str, name: str, local: Path) -> None:
    text = head.read(f"{path}/{name}")
    if text is None or not local.is_file():
        return
    what, form = "the identity of a scoring run", mapping(anything)
    ours = read_document(local, form, what)
    place = f"{path}/{name} of {head.repo_id}"
    theirs = check_content(parse_json(text, place), form, place, what)
    if ours != theirs:
        changed = sorted(key for key in {*ours, *theirs} if ours.get(key) != theirs.get(key))
        raise InputError(
            f"{head.repo_id} holds the shards of another run under {path!r} ({', '.join(changed)} differ). Choose another path "
            "(--shards_path), or the arguments of that run."
        )


def _fetch(head: Head, name: str, target: Path) -> None:
    local = download_file(head.repo_id, name, repo_type="dataset", revision=head.sha, token=head.token)
    if local is None:
        raise InputError(f"{name} is no longer in {head.repo_id}. Run the command again.")
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    shutil.copyfile(local, temporary)
    os.replace(temporary, target)
