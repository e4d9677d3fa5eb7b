"""Publishes files and their card on the Hub, and reports what changed or would change."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from ..hub import Access, Changes, Commit, Head, check_card, commit_files, hub_api, read_head
from ..hub.files import Content, size_of
from ..hub.names import page_path

CARD = "README.md"

# Makes the card to publish from the existing one.
CardOn: TypeAlias = Callable[[str | None], str]


@dataclass
class Publication:
    """
    A publication on the Hub. Printed, it says what changed there.

    Args:
        commit ([`Commit`]): What changed.
        url (`str`): Page to look at.
        rows (`dict`): Rows of each configuration, of a data set.
        card (`str`): The complete card.
        private (`bool`, *optional*): Whether the repository is private; `None` if it is new and its namespace decides.
        dry_run (`bool`, *optional*, defaults to `False`): Whether nothing was done.
        tag (`str`, *optional*): Tag of the commit.
        unasked (`str`, *optional*): Why a dry run did not ask the Hub.
    """

    commit: Commit
    url: str
    rows: dict[str, int] = field(default_factory=dict)
    card: str = ""
    private: bool | None = None
    dry_run: bool = False
    tag: str | None = None
    unasked: str | None = None

    @property
    def sha(self) -> str | None:
        """The commit; for a dry run, the head on which it was planned."""
        return self.commit.sha

    def __str__(self) -> str:
        commit = self.commit
        what = f"{commit.repo_type} {commit.repo_id}"
        visibility = {True: "private", False: "public", None: "visibility of its namespace"}[self.private]
        if self.dry_run:
            head = f"[{what} (dry run)] would change {self.url} ({visibility})"
        elif commit.is_empty:
            head = f"[{what}] nothing to change: {self.url} ({visibility}) has all of it"
        elif commit.pr_url:
            head = f"[{what}] proposed: {commit.pr_url}"
        else:
            head = f"[{what}] published: {self.url} ({visibility}), commit {commit.sha}"
        if self.tag:
            head += f", tag {self.tag}"
        lines = [head]
        if self.unasked:
            lines.append(f"Not compared with the Hub: this is what a new repository would hold. {self.unasked}")
        if self.rows:
            lines.append("configurations: " + ", ".join(f"{name} {count:,} rows" for name, count in self.rows.items()))
        for sign, paths in (("+", sorted(commit.added)), ("-", commit.deleted), ("=", sorted(commit.unchanged))):
            for path in paths if self.dry_run else ():
                lines.append(f"{sign} {path}" + (f"  {megabytes(commit.added[path])}" if sign == "+" else ""))
        if not self.dry_run:
            size = megabytes(sum(commit.added.values()))
            lines.append(
                f"{len(commit.added)} files added ({size}), {len(commit.deleted)} deleted, {len(commit.unchanged)} unchanged"
            )
        return "\n".join([*lines, "", self.card.rstrip()] if self.dry_run and self.card else lines)


def publish(
    access: Access,
    files: Mapping[str, Content],
    card_on: CardOn,
    outdated: Callable[[Head], list[str]] = lambda head: [],
    *,
    message: str,
    private: bool | None,
    create_pr: bool,
    branch: str | None,
    tag: str | None,
    token: str | None,
    dry_run: bool,
    space_sdk: str | None = None,
    rows: Mapping[str, int] | None = None,
) -> Publication:
    """
    Publishes files and a card that the Hub accepts, in one commit. For the other arguments see [`commit_files`].

    Args:
        access ([`Access`]): The repository, as [`check_access`] found it.
        files (`dict`): Content of each path, the card left out.
        card_on (callable): Takes the existing card and returns the one to publish.
        outdated (callable, *optional*): Takes the [`Head`], and returns the paths to delete.
        rows (`dict`, *optional*): Rows of each configuration of a data set.
    """
    cards: list[str] = []

    def build(head: Head) -> Changes:
        card = card_on(head.read(CARD))
        if cards[-1:] != [card]:
            check_card(card, access.repo_type, access.what, token=token)
        cards.append(card)
        return Changes({**files, CARD: card.encode()}, outdated(head))

    if access.unasked is not None:
        card = card_on(None)
        sizes = {name: size_of(content) for name, content in {**files, CARD: card.encode()}.items()}
        commit = Commit(access.repo_id, access.repo_type, None, added=sizes, branch=branch)
        return Publication(commit, page_of(commit), dict(rows or {}), card, private, True, unasked=access.unasked)
    # Before the repository is made, so that a refused card leaves no empty repository.
    build(read_head(access.repo_id, access.repo_type, revision=branch, token=token))
    commit = commit_files(
        access.repo_id, access.repo_type, build, message=message, branch=branch, create_pr=create_pr, private=private,
        space_sdk=space_sdk, tag=tag, token=token, dry_run=dry_run,
    )  # fmt: skip
    visibility = access.private if access.exists else private
    shown_tag = None if dry_run else tag
    return Publication(commit, page_of(commit, token), dict(rows or {}), cards[-1], visibility, dry_run, shown_tag)


def page_of(commit: Commit, token: str | None = None) -> str:
    """The page of a repository on the Hub."""
    return f"{hub_api(token).endpoint}/{page_path(commit.repo_id, commit.repo_type)}"


def megabytes(size: int) -> str:
    """A readable number of bytes."""
    return f"{size:,} bytes" if size < 100_000 else f"{size / 1e6:,.1f} MB"
