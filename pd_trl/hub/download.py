"""Files and models from the Hub."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import hf_hub_download, snapshot_download
from huggingface_hub.constants import HF_HUB_CACHE, HF_HUB_OFFLINE
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    LocalEntryNotFoundError,
)
from huggingface_hub.utils import filter_repo_objects

from ..errors import InputError
from .files import RemoteFile
from .integrity import check_downloads, listing

# Weights that are not safetensors, and training state, are never fetched.
_IGNORED = ["*.bin", "*.pt", "*.pth", "*.ckpt", "*.msgpack", "*.h5", "*.onnx", "*.gguf", "checkpoint-*/*", "runs/*"]


def split_revision(name: str) -> tuple[str, str | None]:
    """A Hub id and its revision: `"me/data@v1"` is `("me/data", "v1")`."""
    repo_id, _, revision = name.partition("@")
    return repo_id, revision or None


def local_model_folder(name: str | os.PathLike, *, revision: str | None = None, what: str = "model") -> Path:
    """
    The local folder of a model: `name` itself where it is one, or the cached snapshot of the Hub repository `name`, which may
    carry a revision (`"me/model@v1"`).

    Raises:
        InputError: When there is no such folder, and no such repository or no connection.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        return path
    text = str(name)
    if path.is_absolute() or text.startswith((".", "~")) or text.count("/") > 1 or path.exists():
        raise InputError(f"The {what} must be a folder or a Hub id, but there is no folder {text}.")
    return _snapshot(text, what, revision, ignore_patterns=_IGNORED)


def dataset_snapshot(name: str, *, what: str, files: Sequence[str]) -> Path:
    """
    The local copy of those `files` (patterns) of a data set on the Hub, whose id may carry a revision.

    Raises:
        InputError: When there is no such repository, or no connection.
    """
    return _snapshot(name, what, None, repo_type="dataset", allow_patterns=list(files))


def _snapshot(text: str, what: str, revision: str | None, **options: Any) -> Path:
    repo_id, pinned = split_revision(text)
    try:
        folder = Path(snapshot_download(repo_id, revision=revision or pinned, **options))
        _check_snapshot(folder, repo_id, f"the {what} {text!r}", options)
        return folder
    except LocalEntryNotFoundError as error:
        raise InputError(
            f"The {what} {text!r} is no local folder, and the Hub cannot be reached ({type(error).__name__}). Check the path, "
            "or the connection and HF_HUB_OFFLINE."
        ) from None
    except HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        raise InputError(
            f"The {what} {text!r} is no local folder, and the Hub refuses it ({type(error).__name__}, status {status}). Check "
            "the name, and that your token may read it (`hf auth whoami`)."
        ) from None
    except HFValidationError:
        raise InputError(f"The {what} {text!r} is neither a local folder nor a valid Hub id.") from None


def check_dataset_files(repo_id: str, sha: str) -> bool:
    """
    Compares the files of a data set that `datasets` downloaded with the listing of the Hub; `False` where one had to be downloaded
    again.

    Raises:
        InputError: When one is another file, also when it is downloaded again.
    """
    folder = Path(HF_HUB_CACHE) / f"datasets--{repo_id.replace('/', '--')}" / "snapshots" / sha
    return _check_snapshot(folder, repo_id, f"the data set {repo_id!r}", {"repo_type": "dataset"})


def _check_snapshot(folder: Path, repo_id: str, name: str, options: Mapping[str, Any]) -> bool:
    files = [file.relative_to(folder).as_posix() for file in sorted(folder.rglob("*")) if file.is_file()]
    patterns = {key: options.get(key) for key in ("allow_patterns", "ignore_patterns")}
    paths = list(filter_repo_objects(files, **patterns))
    repo_type = options.get("repo_type", "model")
    listed = listing(repo_id, repo_type, folder.name, paths) if paths else {}
    return _check(folder, paths, listed, repo_id, repo_type, name)


def _check(
    folder: Path,
    paths: Sequence[str],
    listed: Mapping[str, RemoteFile],
    repo_id: str,
    repo_type: str,
    name: str,
    token: str | None = None,
) -> bool:
    def again(path: str) -> None:
        hf_hub_download(repo_id, path, repo_type=repo_type, revision=folder.name, token=token, force_download=True)

    return check_downloads(folder, paths, listed, name, None if HF_HUB_OFFLINE else again)


def download_file(
    name: str,
    path: str,
    *,
    repo_type: str = "dataset",
    revision: str | None = None,
    token: str | None = None,
    listed: RemoteFile | None = None,
) -> Path | None:
    """
    The local copy of one file of a repository, whose id may carry a revision; `None` where the repository has no such file.

    Args:
        name (`str`): The repository.
        path (`str`): The file.
        repo_type, revision, token: As for `hf_hub_download`.
        listed ([`RemoteFile`], *optional*): What the Hub lists of it. `None` asks.

    Raises:
        InputError: When there is no such repository, no connection, or the file is not the one that the Hub lists.
    """
    repo_id, pinned = split_revision(name)
    try:
        local = Path(hf_hub_download(repo_id, path, repo_type=repo_type, revision=revision or pinned, token=token))
        folder = local.parents[path.count("/")]
        found = listing(repo_id, repo_type, folder.name, [path], token) if listed is None else {path: listed}
        _check(folder, [path], found, repo_id, repo_type, f"the {repo_type} {name!r}", token)
        return local
    except LocalEntryNotFoundError:
        raise InputError(
            f"{path} of the {repo_type} {name!r} is not at hand, and the Hub cannot be reached. Check the connection and "
            "HF_HUB_OFFLINE."
        ) from None
    except EntryNotFoundError:
        return None
    except HFValidationError:
        raise InputError(f"{name!r} is neither a local path nor a valid Hub id.") from None
    except HTTPError as error:
        status = getattr(getattr(error, "response", None), "status_code", "no response")
        raise InputError(
            f"{path} of the {repo_type} {name!r} cannot be fetched ({type(error).__name__}, {status}). Check the name, and that "
            "your token may read it (`hf auth whoami`)."
        ) from None


def local_file(name: str | os.PathLike, path: str, *, repo_type: str = "dataset") -> Path:
    """
    A file that may be named by itself, by the folder that holds `path`, or by the Hub repository that does.

    Raises:
        InputError: When there is none of these.
    """
    local = Path(name).expanduser()
    if local.is_dir():
        local = local / path
    if local.is_file():
        return local
    text = str(name)
    if local.is_absolute() or local.suffix == Path(path).suffix or text.startswith((".", "~")) or text.count("/") != 1:
        raise InputError(f"There is no file {local}, and {text!r} is no Hub id of the form 'name/repository'.")
    found = download_file(text, path, repo_type=repo_type)
    if found is None:
        raise InputError(f"The {repo_type} {text!r} has no file {path}.")
    return found
