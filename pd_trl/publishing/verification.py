"""Checks that a published data set loads from the Hub."""

from collections.abc import Mapping

from datasets import load_dataset_builder
from datasets.exceptions import DatasetsError
from huggingface_hub import HfFileSystem
from huggingface_hub.errors import HTTPError

from ..hub import HubError, scrubbed


def verify_rows(repo_id: str, sha: str, rows: Mapping[str, int], *, token: str | None = None) -> None:
    """
    Loads each configuration of a commit as `datasets` reads its card, and counts the rows by the footers of the files,
    without downloading rows.

    Args:
        repo_id (`str`): Data set.
        sha (`str`): Commit.
        rows (`dict`): Rows that each configuration must have.
        token (`str`, *optional*): Token.

    Raises:
        HubError: If a configuration does not load, or has another number of rows.
    """
    files = HfFileSystem(token=token)
    for config, expected in rows.items():
        where = f"The configuration {config!r} of {repo_id} at commit {sha}, which was published"
        try:
            builder = load_dataset_builder(repo_id, config, revision=sha, token=token)
            counted = sum(_rows(files, str(path)) for path in (builder.config.data_files or {}).get("train", []))
        except (DatasetsError, HTTPError, OSError, ValueError, KeyError) as error:
            reason = scrubbed(" ".join(str(error).split()), token)
            raise HubError(f"{where}, could not be loaded back: {type(error).__name__}: {reason}") from None
        stated = (builder.info.splits or {}).get("train")
        found = {counted, stated.num_examples if stated is not None else counted}
        if found != {expected}:
            raise HubError(
                f"{where}, has {' or '.join(map(str, sorted(found)))} rows instead of {expected}. Another change to "
                "its files or its card may be the cause: look at the history of the repository, and publish again."
            )


def _rows(files: HfFileSystem, path: str) -> int:
    import pyarrow.parquet as pq

    with files.open(path, block_size=1 << 18) as file:
        return int(pq.read_metadata(file).num_rows)
