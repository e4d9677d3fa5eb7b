"""[`publish_report`]: the interactive report of a selection as a static Space."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ..cards import cell, merge_section, split_readme
from ..errors import InputError
from ..hub import planned_access
from ..hub.readme import join_readme, merge_metadata
from .publication import Publication, publish

PAGE = "index.html"


def publish_report(
    path: str | os.PathLike,
    repo_id: str,
    *,
    dataset: str | None = None,
    title: str | None = None,
    private: bool | None = None,
    create_pr: bool = False,
    branch: str | None = None,
    tag: str | None = None,
    dry_run: bool = False,
    token: str | None = None,
) -> Publication:
    """
    Publishes the report of a selection as a static Space.

    Args:
        path (`str`):
            HTML file or folder of `pd-trl report`, or the folder of a selection or of a whole run; the report is then made.
        repo_id (`str`):
            `"name"` or `"namespace/name"` of the Space. Made where it does not exist.
        dataset (`str`, *optional*):
            Hub id of the data set that it reports on, which the Space then links.
        title (`str`, *optional*):
            Title of the Space. `None` keeps the one it has, or takes the name.
        private, create_pr, branch, tag, dry_run, token:
            As in [`publish_dataset`].

    Returns:
        [`Publication`]

    Raises:
        HubError: If the Hub refuses it. The message says if the Space was changed.
        InputError: When there is no report.
    """
    with _page(path) as page:
        access = planned_access(
            repo_id,
            "space",
            private=private,
            create_pr=create_pr,
            branch=branch,
            tag=tag,
            dry_run=dry_run,
            token=token,
        )

        def card_on(existing: str | None) -> str:
            return space_card(access.repo_id, existing, dataset=dataset, title=title)

        return publish(
            access, {PAGE: page}, card_on, message="Report of a selection, by pd_trl", private=private, create_pr=create_pr,
            branch=branch, tag=tag, token=token, dry_run=dry_run, space_sdk="static",
        )  # fmt: skip


def space_card(repo_id: str, existing: str | None, *, dataset: str | None = None, title: str | None = None) -> str:
    """The README.md of the Space. Changes by the user are kept."""
    metadata, body = split_readme(existing or "")
    ours: dict[str, Any] = {
        "title": title or metadata.get("title") or repo_id.split("/")[-1],
        "colorFrom": metadata.get("colorFrom") or "blue",
        "colorTo": metadata.get("colorTo") or "yellow",
        "sdk": "static",
        "app_file": PAGE,
        "pinned": metadata.get("pinned", False),
        "datasets": [dataset] if dataset else [],
        "tags": ["pd_trl", "preference"],
    }
    about = f" of the data set [{cell(dataset)}](https://huggingface.co/datasets/{dataset})" if dataset else ""
    section = (
        f"Interactive report of a selection by Preference Divergence{about}: which preference pairs were kept, and why. Made with "
        "pd_trl; the page is one file that works offline too."
    )
    return join_readme(merge_metadata(metadata, ours), merge_section(body, section))


@contextmanager
def _page(path: str | os.PathLike) -> Iterator[Path]:
    local = Path(path).expanduser()
    if local.is_file():
        with open(local, "rb") as file:
            if b"<html" not in file.read(4096).lower():
                raise InputError(f"{local} is not an HTML file. Make the report with `pd-trl report`.")
        yield local
        return
    if not local.is_dir():
        raise InputError(f"There is no report and no folder of a selection at {local}.")
    from ..report.writing import PAGE_NAME

    if (local / PAGE_NAME).is_file():
        yield local / PAGE_NAME
        return
    from ..report import write_report

    with TemporaryDirectory(prefix="pd_trl-") as scratch:
        yield Path(write_report(local, Path(scratch) / PAGE))
