"""Parquet files at an address that fsspec opens."""

from typing import Any

import fsspec  # type: ignore[import-untyped]

from ..errors import InputError


def remote_parquet_files(address: str) -> tuple[Any, list[str]]:
    """
    The file system of an address, and the parquet files that it stands for, in order.

    Args:
        address (`str`): A file, a pattern, or a folder, such as `"hf://datasets/me/data/*.parquet"`.

    Raises:
        InputError: When they cannot be listed, or there are none.
    """
    try:
        file_system, path = fsspec.core.url_to_fs(address)
        if not any(c in path for c in "*?[") and file_system.isdir(path):
            path = f"{path.rstrip('/')}/*.parquet"
        found = file_system.glob(path) if any(c in path for c in "*?[") else [path]
    except (OSError, ValueError, ImportError) as error:
        raise InputError(f"The files at {address} cannot be listed: {' '.join(str(error).split())}.") from None
    if not found:
        raise InputError(f"There are no parquet files at {address}.")
    return file_system, sorted(map(str, found))
