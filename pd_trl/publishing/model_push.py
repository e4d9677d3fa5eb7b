"""[`push_model`]: a model folder and its card, in one commit on the Hub."""

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from ..cards import ModelFacts, cell, model_card, outside_text, split_readme
from ..cards.evaluations import eval_results_files
from ..errors import InputError
from ..hub import Commit, Head, HubError, planned_access, read_head
from ..hub.head import Content
from ..hub.readme import join_readme
from ..models.adapters import adapter_config, base_of, is_adapter, is_reward_adapter, read_config
from ..models.sidecar import SIDECAR_NAME, RewardSidecar
from ..runs.results import RESULTS_NAME, EvalResult, load_results
from .model_files import OUTDATED, is_local_model, model_files, without_local_names
from .publication import Publication, publish
from .training_facts import existing_card, load_model_facts

logger = logging.getLogger(__name__)


def push_model(
    folder: str | os.PathLike,
    repo_id: str,
    *,
    facts: ModelFacts | None = None,
    change_facts: Callable[[ModelFacts], ModelFacts] | None = None,
    results: Sequence[EvalResult] | None = None,
    eval_results: bool = False,
    message: str | None = None,
    private: bool | None = None,
    create_pr: bool = False,
    branch: str | None = None,
    tag: str | None = None,
    extra: Sequence[str] = (),
    beside: Mapping[str, bytes] | None = None,
    token: str | None = None,
    dry_run: bool = False,
) -> Publication:
    """
    Publishes a model folder in one commit, or leaves the repository as it was. See [`publish_model`].

    Args:
        facts ([`ModelFacts`], *optional*): Facts of the card. `None` reads those that the trainer left in the folder.
        change_facts (callable, *optional*): Changes of the publisher to the facts.
        beside (`dict`, *optional*): Content of further files by their path.
    """
    local_files = model_files(folder, extra)
    access = planned_access(
        repo_id, "model", private=private, create_pr=create_pr, branch=branch, tag=tag, dry_run=dry_run, token=token
    )
    records = list(results) if results is not None else read_results(folder)
    facts = facts or load_model_facts(folder) or _unknown_facts(Path(folder), access.repo_id)
    local = existing_card(folder)
    name = access.repo_id.split("/")[-1]
    local = None if local is None else _renamed(local, facts.name, name)
    facts = replace(facts, repo_id=access.repo_id, name=name, results=records)
    if change_facts is not None:
        facts = change_facts(facts)
    files = without_local_names(local_files, Path(folder).expanduser(), facts)
    more = {**(beside or {}), **(eval_results_files(records) if eval_results else {})}

    def outdated(head: Head) -> list[str]:
        left = [path for path in head.files if path not in files and "/" not in path]
        return [path for path in left if any(fnmatch(path, pattern) for pattern in OUTDATED)]

    published = publish(
        access, {**files, **more}, lambda there: model_card(facts, preferred_card(there, local)), outdated,
        message=message or f"Publish {facts.name}", private=private, create_pr=create_pr, branch=branch, tag=tag, token=token,
        dry_run=dry_run,
    )  # fmt: skip
    if not dry_run:
        _verify(published.commit, files, token)
    return published


def preferred_card(remote: str | None, local: str | None) -> str | None:
    """
    The card to merge into: the one on the Hub, unless only the local one has text of a user.

    A card without text of a user has at most a title.
    """
    if remote is None or local is None:
        return remote if local is None else local
    words = {name: _words(text) for name, text in (("remote", remote), ("local", local))}
    if words["remote"] and words["local"] and words["remote"] != words["local"]:
        logger.warning(
            "The card on the Hub and the local README.md differ outside the generated part: the Hub's is kept."
        )
    return local if words["local"] and not words["remote"] else remote


def _words(card: str) -> str:
    lines = outside_text(card).splitlines()
    return "\n".join(lines[1:] if lines and lines[0].startswith("# ") else lines).strip()


def _renamed(card: str, old: str, new: str) -> str:
    """A local card with the name of its repository in its title, and without results under the old name."""
    metadata, body = split_readme(card)
    index = metadata.get("model-index")
    if old != new and isinstance(index, list):
        metadata["model-index"] = [entry for entry in index if not isinstance(entry, dict) or entry.get("name") != old]
        if not metadata["model-index"]:
            del metadata["model-index"]
    title = f"# {cell(old)}\n"
    body = body.lstrip()
    return join_readme(metadata, f"# {cell(new)}\n{body[len(title) :]}" if body.startswith(title) else body)


def read_results(folder: str | os.PathLike) -> list[EvalResult]:
    """The evaluations in a folder; none if it has no `eval_results.json`."""
    return load_results(folder) if (Path(folder).expanduser() / RESULTS_NAME).is_file() else []


def _unknown_facts(folder: Path, repo_id: str) -> ModelFacts:
    """Facts of a model that was not trained by pd_trl: only what its files say."""
    folder = folder.expanduser()
    adapter = is_adapter(folder)
    config = adapter_config(folder) if adapter else read_config(folder / "config.json")
    sidecar = RewardSidecar.load(folder)
    base = base_of(folder) if adapter and config.get("base_model_name_or_path") else None
    length = {
        "temperature": sidecar.length_balance_temperature,
        "penalty": sidecar.length_penalty,
        "correction": sidecar.length_correction,
        "max_length": sidecar.max_length,
    }
    return ModelFacts(
        kind=_kind_of(folder, config, adapter),
        name=repo_id.split("/")[-1],
        base_model=base if base and not is_local_model(base, folder) else None,
        peft=adapter,
        chat=(folder / "chat_template.jinja").is_file(),
        is_known=False,
        num_train=sidecar.num_train,
        aspect=sidecar.aspect,
        heads=sidecar.heads,
        reading=sidecar.reading,
        length=length if (folder / SIDECAR_NAME).is_file() else {},
        metrics=sidecar.metrics,
    )


def _kind_of(folder: Path, config: Mapping[str, Any], adapter: bool) -> str:
    """
    `"reward"` or `"policy"`, by the sidecar, the task or the head of a model.

    Raises:
        InputError: If it is neither a sequence classifier nor a language model, but for example a token classifier.
    """
    if (folder / SIDECAR_NAME).is_file():
        return "reward"
    if adapter:
        task = config.get("task_type")
        if task not in (None, "SEQ_CLS", "CAUSAL_LM"):
            raise InputError(
                f"{folder} is an adapter for {task}. Only reward models and language models can be published."
            )
        return "reward" if is_reward_adapter(config) else "policy"
    architectures = [str(name) for name in config.get("architectures") or []]
    if any("SequenceClassification" in name or name == "MultiAspectRewardModel" for name in architectures):
        return "reward"
    others = ("TokenClassification", "QuestionAnswering", "MultipleChoice", "MaskedLM", "ImageClassification")
    other = next((name for name in architectures if name.endswith(others)), None)
    if other is not None:
        raise InputError(f"{folder} is a {other}. Only reward models and language models can be published.")
    return "policy"


def _verify(commit: Commit, files: Mapping[str, Content], token: str | None) -> None:
    """Raises `HubError` unless the commit has the same files as the folder."""
    revision = commit.pr_revision or commit.sha
    head = read_head(commit.repo_id, "model", revision=revision, token=token, missing_ok=False)
    wrong = sorted(name for name, path in files.items() if name not in head.files or not head.files[name].holds(path))
    if wrong:
        raise HubError(
            f"The model {commit.repo_id} was published at {revision}, but {', '.join(wrong)} there differs from the "
            "local file. Did the folder change meanwhile? Publish again."
        )
