"""What clients of the Hub do in tests of data sets: each runs in a process of its own."""

import os
import re
import signal
import sys
import time
from pathlib import Path
from typing import Any

import datasets

from pd_trl import PDFilter, load_pairs
from pd_trl.publishing.dataset import publish_dataset
from tests.publishing.selections import kept_ids


def publish(folder: str, repo_id: str, picture: bool = False, **options: Any) -> dict[str, Any]:
    """Publishes a selection and returns what is said about it. A picture takes longer than the rest."""
    done = publish_dataset(folder, repo_id, picture=picture, **options)
    commit = done.commit
    return {"sha": done.sha, "rows": done.rows, "text": str(done), "added": sorted(commit.added), "card": done.card,
            "deleted": commit.deleted, "unchanged": sorted(commit.unchanged), "pr_url": commit.pr_url}  # fmt: skip


def publish_rows(file: str, repo_id: str, budget: float, **options: Any) -> dict[str, Any]:
    """Publishes pairs in memory."""
    rows = datasets.Dataset.from_parquet(str(file), keep_in_memory=True)
    done = publish_dataset(rows, repo_id, pd_filter=PDFilter(budget), **options)
    return {"sha": done.sha, "rows": done.rows}


def loaded(repo_id: str, config: str | None = None, revision: str | None = None) -> dict[str, list[Any]]:
    """The rows of a configuration, as any user loads them."""
    return datasets.load_dataset(repo_id, config, split="train", revision=revision).to_dict()


def configs(repo_id: str) -> list[str]:
    return datasets.get_dataset_config_names(repo_id)


def kept_at(repo_id: str, budget: float | int) -> list[str]:
    """What another budget keeps, by the published rows and statistics, without a model."""
    scored = datasets.load_dataset(repo_id, "scored", split="train")
    by_arguments = kept_ids(scored, budget=budget)
    by_file = sorted(PDFilter.load(repo_id, budget=budget)(scored)["pair_id"])
    if by_file != by_arguments:
        raise RuntimeError("the filter of the repository selects other pairs")
    return by_arguments


def transformed(repo_id: str) -> list[str]:
    """What the published filter keeps of a stream of the published rows, as it is."""
    stream = datasets.load_dataset(repo_id, "scored", split="train", streaming=True)
    return sorted(row["pair_id"] for row in PDFilter.load(repo_id).transform(stream) if row["pd_kept"])


def pairs(repo_id: str, **options: Any) -> dict[str, list[Any]]:
    return load_pairs(repo_id, **options).to_dict()


def command(*arguments: Any) -> tuple[int, str]:
    """Exit code of a command and what it says, in this process."""
    import contextlib
    import io
    import logging

    from pd_trl.cli.main import main

    logging.getLogger("pd_trl").handlers.clear()
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = main([str(argument) for argument in arguments])
    sys.stdout.write(said.getvalue())
    return code, said.getvalue()


def parallel(folders: dict[str, str], repo_id: str) -> dict[str, int]:
    """Publishes variants at once, each in a process of its own; exit code of each."""
    children = {}
    for variant, folder in folders.items():
        child = os.fork()
        if child == 0:
            _leave(
                lambda variant=variant, folder=folder: publish_dataset(folder, repo_id, variant=variant, picture=False)
            )
        children[variant] = child
    return {variant: os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for variant, child in children.items()}


def killed(folder: str, repo_id: str, seconds: float | None) -> tuple[int, float]:
    """Publishes in a process that is killed after some time (never, where `None`); its exit code, and how long it ran."""
    start = time.monotonic()
    child = os.fork()
    if child == 0:
        _leave(lambda: publish_dataset(folder, repo_id, picture=False))
    if seconds is not None:
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return code, time.monotonic() - start


def _leave(work: Any) -> None:
    """Ends a forked process with what `work` came to, past all that the parent has registered."""
    try:
        work()
    except BaseException as error:
        os.write(2, f"{error}\n".encode())
        os._exit(1)
    os._exit(0)


def with_temporary_files_in(folder: str, function: Any, *arguments: Any, **options: Any) -> Any:
    """Runs a function whose temporary files go to `folder`."""
    import tempfile

    before, tempfile.tempdir = tempfile.tempdir, folder
    try:
        return function(*arguments, **options)
    finally:
        tempfile.tempdir = before


def holding(folder: str, texts: tuple[str, ...]) -> list[str]:
    """Files below a folder that hold one of the texts."""
    return [
        str(path)
        for path in Path(folder).rglob("*")
        if path.is_file() and any(text.encode() in path.read_bytes() for text in texts)
    ]


def snippets(card: str) -> dict[str, list[str]]:
    """Runs the snippets of a card that load and select, one after the other, and returns the ids of what they leave."""

    names: dict[str, Any] = {}
    found = []
    for code in re.findall(r"```python\n(.*?)```", card, re.DOTALL):
        if "Trainer" not in code:
            exec(code, names)  # noqa: S102
            found.append(sorted(names["selected"]["pair_id"]))
    return {"loaded": found[0], "selected": found[1], "kept": sorted(names["kept"]["pair_id"])}


def trained_by_snippet(card: str, model: str, folder: str) -> list[str]:
    """Runs the snippet of our trainer with a small model, and returns the ids that it trains on."""

    from pd_trl.trainers.dpo import trainer as dpo_trainer

    seen: list[str] = []
    whole = dpo_trainer.PDDPOTrainer.train
    dpo_trainer.PDDPOTrainer.train = lambda self: seen.extend(self.train_dataset["pair_id"])  # type: ignore[method-assign]
    try:
        (code,) = (c for c in re.findall(r"```python\n(.*?)```", card, re.DOTALL) if "PDDPOTrainer(" in c)
        code = code.replace("Qwen/Qwen3-0.6B", model).replace('"dpo"', f"{folder!r}, bf16=False, use_cpu=True")
        exec(code, {})  # noqa: S102
    finally:
        dpo_trainer.PDDPOTrainer.train = whole  # type: ignore[method-assign]
    return sorted(seen)
