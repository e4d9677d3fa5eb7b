"""Cards and pushes of the trainers."""

from pathlib import Path
from typing import Any

from huggingface_hub import CommitInfo

from ..hub import hub_api
from ..trainers.publisher import Publisher, set_publisher
from .model_files import model_files
from .model_push import push_model
from .training_facts import card_name, existing_card, load_model_facts, planned_card, write_model_card


def _write_card(trainer: Any, name: str | None, old: str | None, **facts: Any) -> None:
    write_model_card(trainer, card_name(trainer, name), old, **facts)


def _push(folder: str | Path, facts_folder: str, repo_id: str, message: str | None, **settings: Any) -> CommitInfo:
    commit = push_model(folder, repo_id, facts=load_model_facts(facts_folder), message=message, **settings).commit
    return CommitInfo(
        commit_url=f"{hub_api().endpoint}/{commit.repo_id}/commit/{commit.sha}",
        commit_message=message or "",
        commit_description="",
        oid=str(commit.sha),
        pr_url=commit.pr_url,
    )


def serve_trainers() -> None:
    """Makes the trainers of this process write our cards and push in one commit."""
    set_publisher(Publisher(existing_card, planned_card, _write_card, model_files, _push))
