"""What clients of the Hub do in tests: each runs in a process of its own."""

from pathlib import Path
from typing import Any

from pd_trl.hub import Changes, Commit, Head, commit_files


def publish(
    repo_id: str,
    files: dict[str, "bytes | str"],
    *,
    repo_type: str = "dataset",
    append: str | None = None,
    **options: Any,
) -> Commit:
    """
    Makes `files` (contents, or paths of local files) the content of a repository, as far as their folders go; with `append`,
    a line is added to LOG.md, so that no publisher may overwrite another's.
    """

    def build(head: Head) -> Changes:
        add: dict[str, Any] = {path: Path(f) if isinstance(f, str) else f for path, f in files.items()}
        folders = {path.rsplit("/", 1)[0] + "/" for path in files if "/" in path}
        stale = [path for path in head.files if path not in files and any(path.startswith(f) for f in folders)]
        if append is not None:
            add["LOG.md"] = ((head.read("LOG.md") or "") + append + "\n").encode()
        return Changes(add, stale)

    return commit_files(repo_id, repo_type, build, message="test", **options)


def publish_by_token(repo_id: str, secret: str, files: dict[str, "bytes | str"], **options: Any) -> Commit:
    """[`publish`] with a token that is not stored anywhere."""
    return publish(repo_id, files, token=secret, **options)


def tokens_in(folder: str, tokens: tuple[str, ...]) -> list[str]:
    """Files below a folder that hold one of the tokens."""
    found = []
    for path in Path(folder).rglob("*"):
        if path.is_file() and any(token.encode() in path.read_bytes() for token in tokens):
            found.append(str(path))
    return found
