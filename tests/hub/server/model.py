"""What all parts of the server share: errors, ids as git and LFS make them, and the metadata of cards."""

import hashlib
import re
from datetime import datetime, timezone
from typing import Any

import yaml

PREFIX = {"models": "", "datasets": "datasets/", "spaces": "spaces/"}
LFS_PATTERNS = ["*.parquet", "*.arrow", "*.safetensors", "*.bin", "*.pt", "*.npy", "*.npz", "*.zip", "*.gz", "*.zst",
                "*.model", "*.msgpack", "*.onnx", "*tfevents*", "*.png", "*.jpg", "*.gif", "*.mp4"]  # fmt: skip
GITATTRIBUTES = "".join(f"{pattern} filter=lfs diff=lfs merge=lfs -text\n" for pattern in LFS_PATTERNS)
LARGEST_REGULAR = 10 * 1024 * 1024


class HubError(Exception):
    """An answer other than success, with the headers that clients read."""

    def __init__(self, status: int, message: str, code: str | None = None, body: Any = None, headers: Any = None):
        super().__init__(message)
        self.status, self.message, self.code, self.body, self.headers = status, message, code, body, headers or {}


def now() -> str:
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def git_blob_sha1(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def lfs_pointer(sha256: str, size: int) -> bytes:
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()


def as_list(value: Any) -> list[Any]:
    return [] if value is None else value if isinstance(value, list) else [value]


def card_data(text: str) -> tuple[dict[str, Any] | None, str | None]:
    """The YAML block of a card, or what is wrong with it."""
    found = re.match(r"^\ufeff?\s*---[ \t]*\r?\n(.*?\r?\n?)---[ \t]*(?:\r?\n|$)", text, re.S)
    if not found:
        return None, None
    try:
        data = yaml.safe_load(found.group(1))
    except yaml.YAMLError as error:
        return None, str(error)
    if data is not None and not isinstance(data, dict):
        return None, "metadata is not a mapping"
    return data, None
