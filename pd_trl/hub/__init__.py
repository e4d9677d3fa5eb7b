"""The one place that talks to the Hugging Face Hub: checks before, atomic commits, downloads."""

from .client import HubError, HubUnreachableError, hub_api, retried, scrubbed
from .commit import commit_files
from .download import (
    check_dataset_files,
    dataset_snapshot,
    download_file,
    local_file,
    local_model_folder,
    split_revision,
)
from .head import Changes, Commit, Head, read_head
from .preflight import (
    Access,
    check_access,
    check_card,
    check_name,
    check_namespace,
    check_training_push,
    planned_access,
    read_info,
)

__all__ = [
    "Access",
    "Changes",
    "Commit",
    "Head",
    "HubError",
    "HubUnreachableError",
    "check_access",
    "check_card",
    "check_dataset_files",
    "check_name",
    "check_namespace",
    "check_training_push",
    "commit_files",
    "dataset_snapshot",
    "download_file",
    "hub_api",
    "local_file",
    "local_model_folder",
    "planned_access",
    "read_head",
    "read_info",
    "retried",
    "scrubbed",
    "split_revision",
]
