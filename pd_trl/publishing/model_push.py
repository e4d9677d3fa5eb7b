"""The folder of a model on the Hub: which files are published, what is checked of them, and the push."""

import json
import logging
import os
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from ..cards import ModelFacts, cell, model_card, outside_text, split_readme
from ..cards.evaluations import eval_results_files
from ..errors import InputError
from ..hub import Commit, Head, HubError, check_access, read_head, split_revision
from ..hub.head import Content
from ..hub.names import is_repo_id
from ..hub.readme import join_readme
from ..models.adapters import ADAPTER_CONFIG, adapter_config, base_of, is_adapter, is_reward_adapter, read_config
from ..models.sidecar import SIDECAR_NAME, RewardSidecar
from ..runs.artifacts import read_json
from ..runs.results import RESULTS_NAME, EvalResult, load_results
from ..safety.schema import anything, mapping, parse_json, read_document, record, text
from .publication import Publication, publish
from .training_facts import existing_card, load_model_facts

logger = logging.getLogger(__name__)

_WEIGHTS = ("*.safetensors", "*.safetensors.index.json")
_BESIDE = (
    "config.json", "generation_config.json", "adapter_config.json", "tokenizer*", "special_tokens_map.json",
    "added_tokens.json", "vocab.json", "vocab.txt", "merges.txt", "spiece.model", "sentencepiece*.model", "chat_template.*",
    "additional_chat_templates/*.jinja", "preprocessor_config.json", "processor_config.json", "LICENSE*", "NOTICE*",
    SIDECAR_NAME,
)  # fmt: skip
# What an earlier push left there and would be loaded in place of the new model, or holds a pickle.
_OUTDATED = (*_WEIGHTS, "adapter_config.json", "pytorch_model*.bin", "pytorch_model.bin.index.json", "adapter_model.bin",
             "training_args.bin", "optimizer.*", "scheduler.*", "rng_state*.pth", SIDECAR_NAME)  # fmt: skip
_DTYPE_BYTES_HEADER = 8
_INDEX = record({"weight_map": mapping(text())}, others=anything)


def model_files(folder: str | os.PathLike, extra: Sequence[str] = ()) -> dict[str, Path]:
    """
    The files of a model that are published, by their path in the repository: weights in safetensors, configuration,
    tokenizer, `pd_reward.json`, licence and evaluation results. Never pickles, checkpoints, optimiser states or logs.

    Args:
        folder (`str`): Folder of a model or adapter.
        extra (sequence of `str`): Patterns of further files.

    Raises:
        InputError: When there is no model, its weights are not safetensors, or a file of them is missing or cut short.
    """
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise InputError(f"The model to publish must be a folder, but {folder} is none.")
    config = next(
        (folder / name for name in ("adapter_config.json", "config.json") if (folder / name).is_file()), None
    )
    if config is None:
        raise InputError(f"{folder} holds no model: it has neither config.json nor adapter_config.json.")
    patterns = [*_WEIGHTS, *_BESIDE, *extra]
    if "auto_map" in read_config(config):
        patterns.append("*.py")  # a model with code of its own cannot be loaded without it
    files = {
        path.relative_to(folder).as_posix(): path
        for pattern in patterns
        for path in sorted(folder.glob(pattern))
        if path.is_file() and path.name != "README.md"
    }
    pickles = sorted(path.name for path in folder.glob("*") if fnmatch(path.name, "*model*.bin"))
    _check_weights(folder, files, pickles)
    return dict(sorted(files.items()))


def _check_weights(folder: Path, files: Mapping[str, Path], pickles: Sequence[str]) -> None:
    weights = [path for name, path in files.items() if name.endswith(".safetensors")]
    if not weights:
        found = f", only {', '.join(pickles)}: load it and save it again with `save_pretrained`" if pickles else ""
        raise InputError(f"{folder} has no weights in safetensors (*.safetensors){found}. Pickles are not published.")
    for name, path in files.items():
        if name.endswith(".safetensors.index.json"):
            index = read_document(path, _INDEX, "an index of weights")
            missing = sorted(set(index.get("weight_map", {}).values()) - set(files))
            if missing:
                raise InputError(
                    f"{path} names {', '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not there."
                )
    for path in weights:
        _check_safetensors(path)


def _check_safetensors(path: Path) -> None:
    """Raises `InputError` unless the file is as long as its header says."""
    size = path.stat().st_size
    try:
        with open(path, "rb") as file:
            (length,) = struct.unpack("<Q", file.read(_DTYPE_BYTES_HEADER))
            header = parse_json(file.read(length), path) if length < size else {}
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        expected = _DTYPE_BYTES_HEADER + length + max(ends, default=0)
    except (struct.error, ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise InputError(f"{path} is no safetensors file ({type(error).__name__}). Save the model again.") from None
    if size != expected:
        raise InputError(
            f"{path} has {size:,} bytes, but its header says {expected:,}: it was cut short. Save the model again."
        )


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
        facts ([`ModelFacts`], *optional*): Facts of the card. `None` is what the trainer left in the folder.
        change_facts (callable, *optional*): What the publisher changes of them.
        beside (`dict`, *optional*): Content of further files by their path.
    """
    local_files = model_files(folder, extra)
    access = check_access(repo_id, "model", private=private, create_pr=create_pr, branch=branch, tag=tag, token=token)
    records = list(results) if results is not None else read_results(folder)
    facts = facts or load_model_facts(folder) or _unknown_facts(Path(folder), access.repo_id)
    local = existing_card(folder)
    name = access.repo_id.split("/")[-1]
    local = None if local is None else _renamed(local, facts.name, name)
    facts = replace(facts, repo_id=access.repo_id, name=name, results=records)
    if change_facts is not None:
        facts = change_facts(facts)
    files = _without_local_names(local_files, Path(folder).expanduser(), facts)
    more = {**(beside or {}), **(eval_results_files(records) if eval_results else {})}

    def outdated(head: Head) -> list[str]:
        left = [path for path in head.files if path not in files and "/" not in path]
        return [path for path in left if any(fnmatch(path, pattern) for pattern in _OUTDATED)]

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
    The card to merge into: the one on the Hub, unless only the local one has words of a user.

    A card without words of a user has a title at most.
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
    """A local card under the name of its repository: its title, and its results of the old name go."""
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
    """The evaluations in a folder, none where it has no `eval_results.json`."""
    return load_results(folder) if (Path(folder).expanduser() / RESULTS_NAME).is_file() else []


def _without_local_names(files: Mapping[str, Path], folder: Path, facts: ModelFacts) -> dict[str, Content]:
    """The files to publish. Where they name a folder of this machine, the model's Hub id takes its place, or nothing does."""
    published: dict[str, Content] = dict(files)
    for name in ("config.json", "tokenizer_config.json"):
        if name in files:
            content = read_json(files[name])
            cleaned = _cleaned(content)
            if cleaned != content:
                published[name] = _json(cleaned)
    if ADAPTER_CONFIG in files:
        config = adapter_config(folder)
        stated = config.get("base_model_name_or_path")
        base, revision = split_revision(_base_on_hub(folder, facts) or "")
        if stated != (base or None):
            content = {**config, "base_model_name_or_path": base or None, "revision": revision}
            published[ADAPTER_CONFIG] = _json(_cleaned(content))
    return published


def _base_on_hub(folder: Path, facts: ModelFacts) -> str | None:
    """Hub id of an adapter's base: the publisher's, the trainer's or the adapter's own word."""
    if facts.base_model and is_repo_id(split_revision(facts.base_model)[0], namespaced=False):
        return facts.base_model
    stated = adapter_config(folder).get("base_model_name_or_path")
    if not _is_local_model(stated, folder):
        return str(stated)
    logger.warning(
        "The base model of the adapter in %s is a folder of this machine (%s). Its name is left out, and others cannot load the "
        "adapter by its id. Publish the base too, and name it: `base_model` (--base_model org/model).",
        folder, stated,
    )  # fmt: skip
    return None


def _is_local_model(name: object, folder: Path) -> bool:
    """Whether a name that a configuration gives a model is no Hub id, or a folder here."""
    if not isinstance(name, str) or not is_repo_id(split_revision(name)[0], namespaced=False):
        return True
    return Path(name).exists() or (folder / name).exists()


def _cleaned(value: object) -> object:
    """Json without the folders that transformers notes beside a configuration."""
    if isinstance(value, dict):
        return {
            key: _cleaned(entry)
            for key, entry in value.items()
            if not (key in ("_name_or_path", "name_or_path") and isinstance(entry, str) and _is_path(entry))
        }
    return [_cleaned(entry) for entry in value] if isinstance(value, list) else value


def _is_path(name: str) -> bool:
    return bool(name) and (not is_repo_id(split_revision(name)[0], namespaced=False) or Path(name).exists())


def _json(content: object) -> bytes:
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()


def _unknown_facts(folder: Path, repo_id: str) -> ModelFacts:
    """Facts of a model whose making no trainer of pd_trl recorded: only what its files say."""
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
        base_model=base if base and not _is_local_model(base, folder) else None,
        peft=adapter,
        chat=(folder / "chat_template.jinja").is_file(),
        is_known=False,
        num_train=sidecar.num_train,
        aspect=sidecar.aspect,
        heads=sidecar.heads,
        length=length if (folder / SIDECAR_NAME).is_file() else {},
        metrics=sidecar.metrics,
    )


def _kind_of(folder: Path, config: Mapping[str, Any], adapter: bool) -> str:
    """
    `"reward"` or `"policy"`, by the sidecar, the task or the head of a model.

    Raises:
        InputError: When it is neither a sequence classifier nor a language model, such as a token classifier.
    """
    if (folder / SIDECAR_NAME).is_file():
        return "reward"
    if adapter:
        task = config.get("task_type")
        if task not in (None, "SEQ_CLS", "CAUSAL_LM"):
            raise InputError(f"{folder} is an adapter for {task}. Reward models and language models are published.")
        return "reward" if is_reward_adapter(config) else "policy"
    architectures = [str(name) for name in config.get("architectures") or []]
    if any("SequenceClassification" in name or name == "MultiAspectRewardModel" for name in architectures):
        return "reward"
    others = ("TokenClassification", "QuestionAnswering", "MultipleChoice", "MaskedLM", "ImageClassification")
    other = next((name for name in architectures if name.endswith(others)), None)
    if other is not None:
        raise InputError(f"{folder} is a {other}. Reward models and language models are published.")
    return "policy"


def _verify(commit: Commit, files: Mapping[str, Content], token: str | None) -> None:
    """Raises `HubError` unless the commit has every file as it is here."""
    revision = commit.pr_revision or commit.sha
    head = read_head(commit.repo_id, "model", revision=revision, token=token, missing_ok=False)
    wrong = sorted(name for name, path in files.items() if name not in head.files or not head.files[name].holds(path))
    if wrong:
        raise HubError(
            f"The model {commit.repo_id} was published at {revision}, but {', '.join(wrong)} there is not what is here. Did the "
            "folder change meanwhile? Publish again."
        )
