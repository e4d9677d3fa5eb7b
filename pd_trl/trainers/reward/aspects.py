"""[`train_aspect_rewards`]: proxy rewards of all aspects, one model or one head for each, with their held-out accuracy."""

import copy
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray
from transformers import AutoConfig, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase, set_seed

from ...data.ids import prompt_names
from ...data.validation import check_aspect_names, check_preferences
from ...errors import InputError
from ...method.ranking import random_keys, resolve_budget, select_lowest
from ...models.heads.configuration import frozen_reading
from ...models.heads.modeling import MultiAspectRewardModel
from ...runs.artifacts import Manifest
from ...runs.checkpoints import last_checkpoint
from ...runs.identity import data_key
from ...runs.model_identity import model_key, peft_settings, tokenizer_key
from ...runs.progress import part_of
from ...runs.training_fields import training_identity
from ...text.names import display_name
from ..arguments import device_arguments
from ..push import check_push
from .config import PDRewardConfig
from .results import AspectReward, fill_sidecar, rewards_in, warn_of_weakness
from .rows import check_margin
from .trainer import PDRewardTrainer

if TYPE_CHECKING:
    from peft import PeftConfig

logger = logging.getLogger(__name__)

_TRAINED_ON = ("pair_id", "prompt_id", "prompt", "chosen", "rejected", "aspect")
# Folder of the one model that has a head for each aspect.
HEADS_FOLDER = "heads"


def train_aspect_rewards(
    preferences: Dataset,
    model: str,
    output_dir: str | os.PathLike,
    *,
    args: PDRewardConfig | None = None,
    aspects: Sequence[str] | None = None,
    heldout: float = 0.1,
    peft_config: "PeftConfig | None" = None,
    processing_class: PreTrainedTokenizerBase | None = None,
    resume: bool = True,
    heads: bool = False,
) -> dict[str, AspectReward]:
    """
    Trains a proxy reward model for each aspect on the pairs that carry its label (Eq. 11 and 16 of
    [arXiv 2508.07638](https://huggingface.co/papers/2508.07638)), or with `heads` one [`MultiAspectRewardModel`] for all of
    them, whose rewards of all aspects cost one pass.

    A share of the prompts, the same for all aspects, is held out; on their pairs each model's accuracy is measured, with its
    standard error, and compared with a coin and with "longer wins". Models that are finished are not trained again; one that
    was interrupted goes on from its last checkpoint.

    Args:
        preferences ([`~datasets.Dataset`]):
            Preferences in the data contract.
        model (`str`):
            Path or Hub id of the model to start from.
        output_dir (`str`):
            Folder that gets a subfolder for each aspect, or one named `heads`.
        args ([`PDRewardConfig`], *optional*):
            Training arguments; `output_dir` is replaced.
        aspects (sequence of `str`, *optional*):
            Aspects to train for. `None` is all.
        heldout (`float`, *optional*, defaults to `0.1`):
            Share of the prompts to hold out, in [0, 1). 0 trains on all and measures nothing.
        peft_config ([`~peft.PeftConfig`], *optional*):
            Trains an adapter for each aspect on one base. Each starts from the base as it is on disk.
        processing_class ([`~transformers.PreTrainedTokenizerBase`], *optional*):
            Tokenizer. `None` is the model's.
        resume (`bool`, *optional*, defaults to `True`):
            Whether to go on from checkpoints.
        heads (`bool`, *optional*, defaults to `False`):
            Train one backbone with a head for each aspect, each pair by its own aspect's head. The paper trains separate
            models.

    Returns:
        `dict` of `str` to [`AspectReward`].

    Raises:
        InputError: On unusable data, an aspect with too few pairs, or a folder with another run's models.
    """
    found = check_preferences(preferences)
    unknown = [aspect for aspect in aspects or [] if aspect not in found]
    if unknown:
        raise InputError(f"No pair carries a label of {', '.join(unknown)}; the aspects are {', '.join(found)}.")
    if not 0 <= heldout < 1:
        raise InputError(f"`heldout` is a share of prompts and must be in [0, 1), got {heldout}.")
    check_aspect_names(aspects or found)
    args = args or PDRewardConfig(str(output_dir), **device_arguments())
    is_heldout = heldout_rows(preferences, heldout, args.seed)
    check_margin(preferences, args.margin_column, "training")
    columns = [name for name in (*_TRAINED_ON, args.margin_column) if name and name in preferences.column_names]
    labels = np.asarray(preferences["aspect"][:])
    names = list(aspects or found)
    for name in [HEADS_FOLDER] if heads else names:
        check_push(args, hub_name(args, Path(output_dir), name))
    parts: dict[str, tuple[Dataset, Dataset]] = {}
    for aspect in names:
        rows = labels == aspect
        parts[aspect] = _parts(preferences, rows, is_heldout, columns)
        train, test = parts[aspect]
        if len(train) < 2:
            raise InputError(
                f"The aspect '{aspect}' has {len(train)} pairs to train on ({len(test)} held out): label more pairs by it, or "
                "leave it out with `aspects`."
            )
    inputs = {"model": model_key(model, (args.model_init_kwargs or {}).get("revision"))}
    if processing_class is not None:
        inputs["tokenizer"] = tokenizer_key(processing_class)
    if heads:
        train, test = _parts(preferences, np.isin(labels, names), is_heldout, columns)
        folder = Path(output_dir) / HEADS_FOLDER
        return _train(names, model, train, test, folder, args, peft_config, processing_class, resume, inputs)
    results: dict[str, AspectReward] = {}
    for i, (aspect, (train, test)) in enumerate(parts.items(), 1):
        folder = Path(output_dir) / aspect
        with part_of(f"{display_name(aspect)} ({i} of {len(parts)})"):
            results |= _train(aspect, model, train, test, folder, args, peft_config, processing_class, resume, inputs)
    return results


def _parts(
    preferences: Dataset, rows: NDArray[np.bool_], is_heldout: NDArray[np.bool_], columns: list[str]
) -> tuple[Dataset, Dataset]:
    """Those of the rows to train on, and those held out."""
    train, test = (
        preferences.select(np.flatnonzero(rows & mask)).select_columns(columns) for mask in (~is_heldout, is_heldout)
    )
    return train, test


def heldout_rows(preferences: Dataset, share: float, seed: int) -> NDArray[np.bool_]:
    """Mask of shape `(num_pairs,)` of the pairs whose prompt is held out: exactly `ceil(share * num_prompts)` prompts."""
    if share == 0:
        return np.zeros(len(preferences), dtype=bool)
    prompts = prompt_names(preferences)
    if prompts is None:
        prompts = list(preferences["pair_id"][:])
        logger.warning("The data has neither `prompt_id` nor `prompt`: pairs, not prompts, are held out.")
    unique, inverse = np.unique(prompts, return_inverse=True)
    if unique.size < 2:
        raise InputError("Holding out prompts needs at least two of them. Set `heldout` to 0 to train on all pairs.")
    kept, _ = select_lowest(random_keys(unique, seed), unique, resolve_budget(float(share), unique.size))
    return kept[inverse]


def hub_name(args: PDRewardConfig, output_dir: Path, aspect: str) -> str | None:
    """Repository of an aspect's reward model: that of `hub_model_id`, or the folder's name, with the aspect at its end."""
    return f"{args.hub_model_id or output_dir.absolute().name}-{aspect}" if args.push_to_hub else args.hub_model_id


def _with_heads(model: str, args: PDRewardConfig, aspects: Sequence[str]) -> PreTrainedModel:
    set_seed(args.seed)
    settings = {**(args.model_init_kwargs or {}), "trust_remote_code": args.trust_remote_code}
    if args.freeze_backbone:
        named = {name: settings[name] for name in ("revision", "trust_remote_code", "token") if name in settings}
        settings |= frozen_reading(AutoConfig.from_pretrained(model, **named))
    settings |= args.reading
    return MultiAspectRewardModel.from_backbone(model, aspects, **settings)


def _tokenizer(model: str, args: PDRewardConfig) -> PreTrainedTokenizerBase:
    revision = (args.model_init_kwargs or {}).get("revision")
    return AutoTokenizer.from_pretrained(model, revision=revision, trust_remote_code=args.trust_remote_code)


def _train(
    aspects: str | list[str],
    model: str,
    train: Dataset,
    test: Dataset,
    folder: Path,
    args: PDRewardConfig,
    peft_config: "PeftConfig | None",
    processing_class: PreTrainedTokenizerBase | None,
    resume: bool,
    inputs: Mapping[str, str],
) -> dict[str, AspectReward]:
    """Trains the model of one aspect, or of a list of aspects one model with heads."""
    args = copy.copy(args)
    args.output_dir = str(folder)
    args.hub_model_id = hub_name(args, folder.parent, folder.name)
    heads = {} if isinstance(aspects, str) else {"heads": aspects}
    manifest = Manifest(
        "reward",
        inputs={**inputs, "train": data_key(train), "heldout": data_key(test) if len(test) else ""},
        arguments={
            "training": training_identity(args), "peft": peft_settings(peft_config), **heads,
        },
    )  # fmt: skip
    found = Manifest.load(folder)
    if found is not None and found.key != manifest.key:
        raise InputError(
            f"{folder} holds a reward model of other data, another base model or other arguments. Choose another `output_dir`, or "
            "remove it."
        )
    done = found if manifest.is_done_in(folder) else None
    if done is not None:
        logger.info("The reward model in %s is finished.", folder)
        return rewards_in(folder, done, aspects)
    # Without `resume` too: what another run left would be taken for this one's by the next.
    checkpoint = last_checkpoint(folder, manifest, args.should_save)
    # Loaded anew for each aspect: PEFT leaves a trained head, biases or weights made for LoRA behind in a base that it adapted.
    start: str | PreTrainedModel = model
    if isinstance(aspects, list):
        processing_class = processing_class or _tokenizer(model, args)
        start = _with_heads(model, args, aspects)
        args.model_init_kwargs = None
    trainer = PDRewardTrainer(
        model=start,
        args=args,
        train_dataset=train,
        eval_dataset=test if len(test) else None,
        processing_class=processing_class,
        peft_config=copy.deepcopy(peft_config),
    )
    if isinstance(aspects, list):
        _check_none_is_empty(trainer, aspects)
    trainer.train(resume_from_checkpoint=checkpoint if resume else None)
    fill_sidecar(trainer, aspects, trainer.evaluate() if len(test) else {})
    trainer.save_model()
    sidecar = trainer.sidecar_
    manifest.counts = {"train": len(trainer.train_dataset), "train_given": len(train), "heldout": len(test)}
    manifest.results = {
        "metrics": sidecar.metrics,
        "base_model": getattr(trainer.model.config, "_name_or_path", None),
        **({"heads": sidecar.heads} if heads else {}),
    }
    if args.should_save:
        trainer.create_model_card(model_name=f"{Path(args.output_dir).name} reward")
        manifest.seconds = sum(entry.get("train_runtime", 0.0) for entry in trainer.state.log_history)
        manifest.save(folder)
    trainer.accelerator.wait_for_everyone()
    rewards = rewards_in(folder, manifest, aspects)
    for reward in rewards.values():
        warn_of_weakness(reward.aspect, reward.metrics)
    trainer.accelerator.free_memory()
    return rewards


def _check_none_is_empty(trainer: PDRewardTrainer, aspects: list[str]) -> None:
    empty = sorted(set(aspects) - set(trainer.train_dataset["aspect"][:]))
    if empty:
        raise InputError(
            f"No pair of {', '.join(empty)} is left to train on: all are longer than max_length={trainer.args.max_length} tokens "
            "or not in `train_share`. Raise them, or leave the aspect out with `aspects`."
        )
