"""[`train_aspect_rewards`]: one proxy reward model for each aspect, with its held-out accuracy."""

import copy
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray
from transformers import AutoModelForSequenceClassification, PreTrainedModel, PreTrainedTokenizerBase, set_seed
from trl.trainer.reward_trainer import suppress_seqcls_warning

from .artifacts import Manifest, dataset_digest
from .checkpoints import last_checkpoint
from .data.ids import canonical_json
from .data.validation import check_aspect_names, check_preferences
from .errors import InputError
from .length import balanced_shares
from .reward_config import PDRewardConfig
from .reward_trainer import PDRewardTrainer
from .selection import random_keys, resolve_budget, select_lowest
from .trainer_push import check_push
from .trainer_utils import device_arguments

if TYPE_CHECKING:
    from peft import PeftConfig

logger = logging.getLogger(__name__)

_TRAINED_ON = ("pair_id", "prompt", "chosen", "rejected", "aspect", "margin")


@dataclass
class AspectReward:
    """
    A trained proxy reward model.

    Args:
        aspect (`str`): Its aspect.
        path (`str`): Folder of the model or adapter, with its tokenizer and `pd_reward.json`.
        num_train (`int`): Pairs it was trained on.
        metrics (`dict`): Held-out metrics, see [`pair_metrics`], and `share_longer`, `share_longer_drawn`: the share of
            training pairs whose chosen response is the longer one, before and after length balancing.
    """

    aspect: str
    path: str
    num_train: int
    metrics: dict[str, float]


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
) -> dict[str, AspectReward]:
    """
    Trains a proxy reward model for each aspect on the pairs that carry its label (Eq. 11 and 16 of
    [arXiv 2508.07638](https://huggingface.co/papers/2508.07638)).

    A share of the prompts, the same for all aspects, is held out; on their pairs each model's accuracy is measured, with its
    standard error, and compared with a coin and with "longer wins". Models that are finished are not trained again; one that
    was interrupted goes on from its last checkpoint.

    Args:
        preferences ([`~datasets.Dataset`]):
            Preferences in the data contract.
        model (`str`):
            Path or Hub id of the model to start from.
        output_dir (`str`):
            Folder that gets a subfolder for each aspect.
        args ([`PDRewardConfig`], *optional*):
            Training arguments; `output_dir` is replaced.
        aspects (sequence of `str`, *optional*):
            Aspects to train for. `None` is all.
        heldout (`float`, *optional*, defaults to `0.1`):
            Share of the prompts to hold out, in [0, 1). 0 trains on all and measures nothing.
        peft_config ([`~peft.PeftConfig`], *optional*):
            Trains an adapter for each aspect on one base, which is held once in memory.
        processing_class ([`~transformers.PreTrainedTokenizerBase`], *optional*):
            Tokenizer. `None` is the model's.
        resume (`bool`, *optional*, defaults to `True`):
            Whether to go on from checkpoints.

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
    columns = [name for name in _TRAINED_ON if name in preferences.column_names]
    base = _shared_base(model, args) if peft_config is not None else None
    labels = np.asarray(preferences["aspect"][:])
    for aspect in aspects or found:
        check_push(args, hub_name(args, Path(output_dir), aspect))
    results = {}
    for aspect in aspects or found:
        rows = labels == aspect
        train, test = (
            preferences.select(np.flatnonzero(rows & mask)).select_columns(columns)
            for mask in (~is_heldout, is_heldout)
        )
        if len(train) < 2:
            raise InputError(
                f"The aspect '{aspect}' has {len(train)} pairs to train on ({len(test)} held out): label more pairs by it, or "
                "leave it out with `aspects`."
            )
        results[aspect] = _train_one(
            aspect, model if base is None else base, train, test, Path(output_dir) / aspect, args, peft_config,
            processing_class, resume, {"model": str(model)},
        )  # fmt: skip
    return results


def heldout_rows(preferences: Dataset, share: float, seed: int) -> NDArray[np.bool_]:
    """Mask of shape `(num_pairs,)` of the pairs whose prompt is held out: exactly `ceil(share * num_prompts)` prompts."""
    if share == 0:
        return np.zeros(len(preferences), dtype=bool)
    if "prompt_id" in preferences.column_names:
        prompts = [str(prompt) for prompt in preferences["prompt_id"][:]]
    elif "prompt" in preferences.column_names:
        prompts = [canonical_json(prompt) for prompt in preferences["prompt"]]
    else:
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


def _shared_base(model: str, args: PDRewardConfig) -> PreTrainedModel:
    from trl.trainer.utils import create_model_from_path

    set_seed(args.seed)
    settings = {**(args.model_init_kwargs or {}), "num_labels": 1, "trust_remote_code": args.trust_remote_code}
    with suppress_seqcls_warning():
        return create_model_from_path(model, AutoModelForSequenceClassification, **settings)


def _train_one(
    aspect: str,
    model: str | PreTrainedModel,
    train: Dataset,
    test: Dataset,
    folder: Path,
    args: PDRewardConfig,
    peft_config: "PeftConfig | None",
    processing_class: PreTrainedTokenizerBase | None,
    resume: bool,
    inputs: Mapping[str, str],
) -> AspectReward:
    args = copy.copy(args)
    args.output_dir = str(folder)
    args.hub_model_id = hub_name(args, folder.parent, aspect)
    manifest = Manifest(
        "reward",
        inputs={**inputs, "train": dataset_digest(train), "heldout": dataset_digest(test) if len(test) else ""},
        arguments={**training_identity(args), "peft": peft_config.to_dict() if peft_config is not None else None},
    )
    if manifest.is_done_in(folder):
        logger.info("The reward model of '%s' in %s is finished.", aspect, folder)
        done = Manifest.load(folder)
        return AspectReward(aspect, str(folder), done.counts["train"], done.results["metrics"])  # type: ignore[union-attr]
    checkpoint = last_checkpoint(folder, manifest, args.should_save) if resume else None
    trainer = PDRewardTrainer(
        model=model,
        args=args,
        train_dataset=train,
        eval_dataset=test if len(test) else None,
        processing_class=processing_class,
        peft_config=copy.deepcopy(peft_config),
    )
    trainer.train(resume_from_checkpoint=checkpoint)
    metrics = {}
    if len(test):
        evaluated = trainer.evaluate()
        metrics = {k[len("eval_") :]: v for k, v in evaluated.items() if k[len("eval_") :] in _REPORTED}
    metrics |= _balance(trainer)
    num_train = len(trainer.train_dataset)
    sidecar = trainer.sidecar_
    sidecar.aspect, sidecar.num_train, sidecar.metrics = aspect, num_train, metrics
    trainer.save_model()
    if args.should_save:
        trainer.create_model_card(model_name=f"{Path(args.output_dir).name} reward")
        manifest.counts = {"train": num_train, "train_given": len(train), "heldout": len(test)}
        manifest.results = {"metrics": metrics}
        manifest.seconds = sum(entry.get("train_runtime", 0.0) for entry in trainer.state.log_history)
        manifest.save(folder)
    trainer.accelerator.wait_for_everyone()
    warn_of_weakness(aspect, metrics)
    if peft_config is not None:
        trainer.accelerator.unwrap_model(trainer.model).unload()
    trainer.accelerator.free_memory()
    return AspectReward(aspect, str(folder), num_train, metrics)


_REPORTED = (
    "num_pairs", "pair_accuracy", "pair_accuracy_se", "length_accuracy", "pair_accuracy_chosen_longer",
    "pair_accuracy_chosen_shorter", "gap_length_correlation", "length_penalty", "loss",
)  # fmt: skip

_NOT_IDENTITY = {"output_dir", "logging_dir", "run_name", "disable_tqdm", "log_level", "log_level_replica", "report_to",
                 "hub_token", "push_to_hub_token", "local_rank", "resume_from_checkpoint", "push_to_hub", "hub_model_id",
                 "logging_steps", "save_steps", "save_total_limit", "dataset_num_proc", "dataloader_num_workers"}  # fmt: skip


def training_identity(args: Any) -> dict[str, Any]:
    """The training arguments that decide the weights, for a manifest; tokens are never among them."""
    return {k: v for k, v in _without_tokens(args.to_dict()).items() if k not in _NOT_IDENTITY}


def _without_tokens(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _without_tokens(v) for k, v in value.items() if "token" not in str(k).split("_")[-1:]}
    return [_without_tokens(v) for v in value] if isinstance(value, (list, tuple)) else value


def _balance(trainer: PDRewardTrainer) -> dict[str, float]:
    lengths = [np.array([len(ids) for ids in trainer.train_dataset[f"{side}_ids"]]) for side in ("chosen", "rejected")]
    share = float((lengths[0] >= lengths[1]).mean())
    drawn = share
    if trainer.args.balances_length and 0 < share < 1:
        drawn = balanced_shares(share, trainer.args.length_balance_temperature)[0]
    return {"share_longer": share, "share_longer_drawn": drawn}


def warn_of_weakness(aspect: str, metrics: Mapping[str, float]) -> None:
    """Warns of a reward model that is not better than a coin, or than "longer wins", by two standard errors."""
    if "pair_accuracy" not in metrics:
        return
    accuracy, error = metrics["pair_accuracy"], metrics["pair_accuracy_se"]
    found = f"right on {100 * accuracy:.1f} ± {100 * error:.1f} % of {metrics['num_pairs']} held-out pairs"
    if accuracy - 2 * error <= 0.5:
        logger.warning(
            "The reward model of '%s' cannot be told from a coin: %s. Hold out more prompts to be sure, or leave it out of PD "
            "with `min_proxy_accuracy` or a weight of 0.", aspect, found,
        )  # fmt: skip
    elif accuracy - 2 * error <= metrics["length_accuracy"]:
        logger.warning(
            "The reward model of '%s' is not better than 'longer wins' (%.1f %%): %s.",
            aspect, 100 * metrics["length_accuracy"], found,
        )  # fmt: skip
    else:
        logger.info("The reward model of '%s' is %s.", aspect, found)
