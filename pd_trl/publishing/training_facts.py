"""Facts about a model for its card, from the trainer."""

import dataclasses
import enum
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from accelerate.utils import is_peft_model
from datasets import Dataset

from ..cards import ModelFacts, model_card, split_readme
from ..cards.trl_card import TRLCard, read_trl_card
from ..hub.names import is_repo_id
from ..hub.readme import join_readme
from ..runs.artifacts import library_versions, write_json
from ..runs.forms import MODEL_FACTS
from ..runs.provenance import model_facts
from ..runs.results import EvalResult
from ..safety.schema import anything, read_document, record
from ..safety.secrets import is_secret_name, masked, masked_text

# Facts of the last card that a trainer wrote. A publication writes the card again with later results.
FACTS_NAME = "pd_card.json"
_VERSIONS = ("pd_trl", "trl", "transformers", "torch", "datasets", "peft")
_ESSENTIAL = ("learning_rate", "num_train_epochs", "max_steps", "beta", "loss_type", "pd_loss", "max_length", "seed")
_AUTOMATIC = ("automatically according to the information the Trainer had", "# Model Card for Model ID")
_PEFT_VERSIONS = re.compile(r"\n#+ Framework versions\n\n- PEFT \S+\s*$")
# Output, logging and reporting. None of it decides the weights.
_UNTOLD = {
    "output_dir", "logging_dir", "run_name", "disable_tqdm", "log_level", "log_level_replica", "report_to", "project",
    "resume_from_checkpoint", "push_to_hub", "do_train", "do_eval", "do_predict", "logging_strategy", "logging_steps",
    "logging_first_step", "save_strategy", "save_steps", "save_total_limit", "save_only_model", "eval_strategy", "eval_steps",
    "dataset_num_proc", "dataloader_num_workers", "local_rank", "use_cpu", "overwrite_output_dir", "include_for_metrics",
    "distributed_state", "accelerator_config", "pad_to_multiple_of", "activation_checkpointing", "gradient_checkpointing", "deepspeed_plugin", "parallelism_config",
}  # fmt: skip
_UNTOLD_STARTS = ("hub_", "push_to_hub", "trackio_", "dataloader_")


def write_model_card(trainer: Any, name: str, old: str | None, **particular: Any) -> None:
    """
    Replaces the card that TRL wrote into `output_dir` by ours, and saves its facts in `pd_card.json`.

    Args:
        trainer ([`~trl.DPOTrainer`] or [`~trl.RewardTrainer`]): The trainer.
        name (`str`): Name of the model.
        old (`str`, *optional*): The previous card. Its text outside our markers is kept.
        particular: Fields of [`ModelFacts`] that the kind of trainer knows.
    """
    folder = Path(trainer.args.output_dir)
    written = read_trl_card((folder / "README.md").read_text(encoding="utf-8"))
    facts = _facts(trainer, name, written, particular)
    save_model_facts(facts, folder)
    (folder / "README.md").write_text(model_card(facts, old), encoding="utf-8")


def planned_card(trainer: Any, **particular: Any) -> str:
    """The card as far as it is known before training, so that its metadata can be checked."""
    return model_card(_facts(trainer, card_name(trainer), TRLCard(), particular))


def card_name(trainer: Any, name: str | None = None) -> str:
    """Name of a model: as given, else that of its repository, else that of its folder."""
    return name or (getattr(trainer, "hub_model_id", None) or Path(trainer.args.output_dir).name).split("/")[-1]


def _facts(trainer: Any, name: str, written: TRLCard, particular: dict[str, Any]) -> ModelFacts:
    base, revision = _base_of(trainer.model.config)
    started_from = getattr(trainer.model.config, "_name_or_path", None)
    inherited = model_facts(started_from) if started_from else {}
    known = {
        "name": name,
        "repo_id": getattr(trainer, "hub_model_id", None),
        "base_model": base,
        "base_revision": revision or inherited.get("revision"),
        "base_license": inherited.get("license"),
        "base_license_name": inherited.get("license_name"),
        "base_license_link": inherited.get("license_link"),
        "languages": inherited.get("languages", []),
        "peft": is_peft_model(trainer.model),
        "chat": bool(getattr(trainer.processing_class, "chat_template", None)),
        "tags": _names(written.metadata.get("tags")),
        "datasets": _names(written.metadata.get("datasets")),
        "num_train": len(trainer.train_dataset) if isinstance(trainer.train_dataset, Dataset) else None,
        "essentials": _essentials(trainer),
        "hyperparameters": changed_arguments(trainer.args),
        "trl_section": written.procedure,
        "citations": written.citations,
        "versions": {name: version for name, version in library_versions().items() if name in _VERSIONS},
    }
    return ModelFacts(**{**known, **particular})


def existing_card(folder: str | os.PathLike) -> str | None:
    """
    The card in a folder, without what libraries wrote into it; `None` if no text of a user or of ours is left.

    TRL's and transformers' cards do not count as a user's. PEFT adds a list of versions at the end of any card, and
    the path of the base model to its YAML.
    """
    try:
        text = (Path(folder) / "README.md").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    metadata, body = split_readme(text)
    if "licence" in metadata or any(phrase in body for phrase in _AUTOMATIC):
        return None
    if not is_repo_id(metadata.get("base_model", "a/b"), namespaced=False):
        del metadata["base_model"]
    if isinstance(metadata.get("tags"), list):
        metadata["tags"] = [tag for tag in metadata["tags"] if not str(tag).startswith("base_model:")]
    return join_readme(metadata, _PEFT_VERSIONS.sub("", body))


def changed_arguments(args: Any) -> dict[str, Any]:
    """The training arguments that differ from their defaults and matter to the result. Never a token."""
    changed = {}
    for item in dataclasses.fields(args):
        if item.name in _UNTOLD or item.name.startswith(_UNTOLD_STARTS) or is_secret_name(item.name):
            continue
        default = item.default if item.default_factory is dataclasses.MISSING else item.default_factory()
        value = getattr(args, item.name, default)
        shown, usual = _plain(value), _plain(default)
        if shown != usual and not (shown in (None, {}, [], "") and usual in (None, {}, [], "", dataclasses.MISSING)):
            changed[item.name] = shown
    return {name: value for name, value in changed.items() if not _is_local(value)}


def save_model_facts(facts: ModelFacts, folder: str | os.PathLike) -> None:
    """Writes `pd_card.json` into `folder`."""
    write_json(Path(folder) / FACTS_NAME, masked(asdict(facts)))


def load_model_facts(folder: str | os.PathLike) -> ModelFacts | None:
    """The facts that [`save_model_facts`] wrote, or `None` if there are none."""
    path = Path(folder) / FACTS_NAME
    if not path.is_file():
        return None
    form = record(MODEL_FACTS, required=("kind", "name"), others=anything)
    content = read_document(path, form, "what a trainer of pd_trl writes", "Remove it, and publish again.")
    known = {entry.name for entry in fields(ModelFacts)}
    results = [EvalResult(**result) for result in content.get("results", [])]
    return ModelFacts(**{**{k: v for k, v in content.items() if k in known}, "results": results})


def _base_of(config: Any) -> tuple[str | None, str | None]:
    """Hub id and commit of the model that the weights started from."""
    name = getattr(config, "_name_or_path", None)
    if not name or os.path.isdir(name) or not is_repo_id(name, namespaced=False):
        return None, None
    return name, getattr(config, "_commit_hash", None)


def _essentials(trainer: Any) -> dict[str, Any]:
    args = trainer.args
    found = {name: _plain(getattr(args, name)) for name in _ESSENTIAL if getattr(args, name, None) is not None}
    if found.get("max_steps", -1) > 0:
        found.pop("num_train_epochs", None)
    else:
        found.pop("max_steps", None)
    batch = args.per_device_train_batch_size * args.gradient_accumulation_steps * max(1, args.world_size)
    done = {"steps": trainer.state.global_step} if trainer.state.global_step else {}
    return {**found, "effective batch size": batch, **done}


def _plain(value: Any) -> Any:
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, Mapping):
        shown = {str(key): _plain(entry) for key, entry in masked(value).items()}
        return {key: entry for key, entry in shown.items() if entry is not None}
    if isinstance(value, (list, tuple, set)):
        entries = [_plain(entry) for entry in value]
        return entries[0] if len(entries) == 1 and isinstance(entries[0], str) else entries
    if value is None or value is dataclasses.MISSING or isinstance(value, (bool, int, float)):
        return value
    return masked_text(str(value))


def _is_local(value: Any) -> bool:
    """Whether a value is, or holds, a local path, which must not be published."""
    if isinstance(value, (Mapping, list)):
        return any(_is_local(entry) for entry in (value.values() if isinstance(value, Mapping) else value))
    return isinstance(value, str) and (masked(value, public=True) != masked(value) or os.path.exists(value))


def _names(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else [str(entry) for entry in value] if isinstance(value, list) else []
