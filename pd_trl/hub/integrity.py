"""Whether what a download left in the cache is what the Hub lists."""

import logging
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from huggingface_hub.constants import HF_HUB_OFFLINE
from huggingface_hub.errors import HTTPError, OfflineModeIsEnabled

from ..errors import InputError
from .client import hub_api
from .files import RemoteFile, digest_like, listed_files

logger = logging.getLogger(__name__)


def listing(
    repo_id: str, repo_type: str, sha: str, paths: Iterable[str], token: str | None = None
) -> dict[str, RemoteFile]:
    """What the Hub lists of these files at a commit; nothing where it cannot be asked."""
    if HF_HUB_OFFLINE:
        return {}
    try:
        entries = hub_api(token).get_paths_info(repo_id, list(paths), repo_type=repo_type, revision=sha)
    except (HTTPError, OfflineModeIsEnabled) as error:
        logger.info("The files of %s are not compared with its listing (%s).", repo_id, type(error).__name__)
        return {}
    return dict(listed_files(entries))


def check_downloads(
    folder: Path,
    paths: Iterable[str],
    listed: Mapping[str, RemoteFile],
    name: str,
    again: Callable[[str], object] | None = None,
) -> bool:
    """
    Compares the files of a snapshot in the cache with the digests that the Hub lists, and with those that the cache names them by.

    Args:
        folder (`Path`): The snapshot.
        paths (iterable of `str`): Its files.
        listed (`dict` of `str` to [`RemoteFile`]): What the Hub lists.
        name (`str`): What to call the repository.
        again (callable, *optional*): Downloads a file once more. `None` where the Hub cannot be reached.

    Returns:
        `bool`: Whether all were whole, and none had to be downloaded again.

    Raises:
        InputError: Where a file is another one, also when it is downloaded again.
    """
    whole = True
    for path in paths:
        local, remote = folder / path, listed.get(path)
        if _is_whole(local, remote):
            continue
        whole = False
        if again is not None:
            logger.warning("%s of %s is damaged in the cache, and is downloaded again.", path, name)
            again(path)
        if again is None or not _is_whole(local, remote):
            raise InputError(
                f"{path} of {name} is not the file that the Hub lists: its size or digest differ"
                f"{', also after another download' if again is not None else ''}. Remove {local.resolve()} and try again."
            )
    return whole


def _is_whole(local: Path, remote: RemoteFile | None) -> bool:
    # The cache keeps a file under the name of its digest, as the Hub gave it with the file.
    target = local.resolve()
    stored = target.name if local.is_symlink() and target.parent.name == "blobs" else ""
    if len(stored) in (40, 64) and set(stored) <= set("0123456789abcdef") and digest_like(stored, target) != stored:
        return False
    return remote is None or remote.holds(target)
