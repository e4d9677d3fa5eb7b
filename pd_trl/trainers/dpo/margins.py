"""[`policy_margins`] and [`validation_losses`]: what a policy says of pairs, as columns that other papers' selectors rank by."""

import copy
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
from datasets import Dataset, DatasetInfo
from numpy.typing import NDArray
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ...data.ids import prompt_names
from ...errors import InputError
from ...hub import local_model_folder
from ...method.ranking import random_keys
from ...method.rivals import average_margins, edit_distance, implicit_margins, validation_loss
from ...models.adapters import base_folder, has_adapter, is_adapter
from ...models.language_models import load_language_model
from ...models.loading import load_tokenizer
from ..arguments import device_arguments
from ..preparation import token_counts
from .config import PDDPOConfig
from .trainer import PDDPOTrainer

if TYPE_CHECKING:
    from peft import PeftConfig

logger = logging.getLogger(__name__)

_READ = ("prompt", "chosen", "rejected", "tools", "chat_template_kwargs")
_BETA = 0.1


def policy_margins(
    dataset: Dataset,
    policy: str | PreTrainedModel,
    reference: str | PreTrainedModel | None = None,
    *,
    beta: float = _BETA,
    tokenizer: PreTrainedTokenizerBase | None = None,
    batch_size: int = 8,
    share_prefix: bool = False,
    edit_distances: bool = True,
    model_init_kwargs: Mapping[str, Any] | None = None,
) -> Dataset:
    r"""
    Adds the implicit reward margin of a policy, and what DCRM needs, to each pair. The log-probabilities are those of
    [`PDDPOTrainer`]: they do not depend on batches or padding, but for rounding (1e-4 in float32).

    With a reference, the margin is that of DPO, `beta * ((log pi - log ref)(chosen) - (log pi - log ref)(rejected))`, which
    `selector="difficulty"` ([arXiv 2508.04149](https://huggingface.co/papers/2508.04149)) and `"bees"` ([arXiv
    2502.14560](https://huggingface.co/papers/2502.14560)) rank by. Without one, it is the difference of the mean log-probabilities
    of a token times `beta`, with which the authors of `"alignment_potential"` compute ([arXiv
    2503.01864](https://huggingface.co/papers/2503.01864)).

    Args:
        dataset ([`~datasets.Dataset`]):
            Preferences, as the trainer takes them.
        policy (`str` or [`~transformers.PreTrainedModel`]):
            Path or Hub id of the policy, or the model. A LoRA adapter is merged into its base in memory.
        reference (`str` or [`~transformers.PreTrainedModel`], *optional*):
            What the policy was trained from, given as the policy is.
        beta (`float`, *optional*, defaults to `0.1`):
            Factor of the margin: that of the policy's DPO.
        tokenizer ([`~transformers.PreTrainedTokenizerBase`], *optional*):
            `None` is the policy's.
        batch_size (`int`, *optional*, defaults to `8`):
            Pairs of a batch.
        share_prefix (`bool`, *optional*, defaults to `False`):
            Whether to read a prompt once for both responses, see [`PDDPOConfig`].
        edit_distances (`bool`, *optional*, defaults to `True`):
            Whether to add `edit_distance`. It takes milliseconds a pair where responses have hundreds of tokens.
        model_init_kwargs (`dict`, *optional*):
            Arguments of `from_pretrained` for models that are loaded, such as `{"dtype": "bfloat16"}`.

    Returns:
        [`~datasets.Dataset`]: all columns, `policy_logp_chosen` and `policy_logp_rejected` (nats, sums over the response's
        tokens), `implicit_margin` (nats), `logp_distance` (their absolute difference) and `edit_distance` (tokens). Columns of
        these names are replaced.

    Raises:
        InputError: On rows or models that the trainer cannot use, such as a pair longer than the model has positions for, and on
            an adapter in memory, whose base would be read in its place: merge it first.
    """
    if not beta > 0 or batch_size < 1:
        raise InputError(f"`beta` must be above 0 and `batch_size` at least 1, got {beta} and {batch_size}.")
    settings = {
        "precompute_ref_batch_size": batch_size,
        "share_prefix": share_prefix,
        "model_init_kwargs": dict(model_init_kwargs or {}),
    }
    ours, rows = _log_probs(dataset, *_merged(policy, tokenizer, model_init_kwargs), settings)
    if reference is not None:
        theirs, _ = _log_probs(dataset, *_merged(reference, tokenizer, model_init_kwargs), settings)
        margins = implicit_margins(ours[0], ours[1], theirs[0], theirs[1], beta)
    else:
        tokens = token_counts(rows, "chosen_ids", "rejected_ids")
        margins = average_margins(ours[0], ours[1], tokens[0], tokens[1], beta)
    columns: dict[str, NDArray] = {
        "policy_logp_chosen": ours[0],
        "policy_logp_rejected": ours[1],
        "implicit_margin": margins,
        "logp_distance": np.abs(ours[0] - ours[1]),
    }
    if edit_distances:
        sides = zip(rows["chosen_ids"], rows["rejected_ids"], strict=True)
        columns["edit_distance"] = np.array([edit_distance(chosen, rejected) for chosen, rejected in sides])
    return _with_columns(dataset, columns)


def validation_losses(
    dataset: Dataset,
    model: str | PreTrainedModel,
    *,
    folds: int = 2,
    repeats: int = 3,
    seed: int = 42,
    training: Mapping[str, Any] | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
    peft_config: "PeftConfig | None" = None,
    batch_size: int = 8,
) -> Dataset:
    """
    Adds the cross-fitted DPO loss of each pair, which `selector="selective_dpo"` ranks by ([arXiv
    2502.09650](https://huggingface.co/papers/2502.09650)): policies are trained by DPO on the pairs of other prompts and read
    those they have not seen; the mean of the losses is how difficult a pair is for the model. As the authors do by default, halves
    of the prompts, three times.

    Args:
        dataset ([`~datasets.Dataset`]):
            Preferences with `prompt` or `prompt_id`.
        model (`str` or [`~transformers.PreTrainedModel`]):
            Path or Hub id of the model to train, or the model, which stays as it is. It is the reference, too. A LoRA adapter is
            merged into its base in memory, and all of it is trained.
        folds (`int`, *optional*, defaults to `2`):
            Parts of the prompts: each policy trains on all but one.
        repeats (`int`, *optional*, defaults to `3`):
            Splits, each drawn anew. In all, `folds * repeats` policies are trained.
        seed (`int`, *optional*, defaults to `42`):
            Seed of the first split and its trainings; the next have the numbers after it.
        training (`dict`, *optional*):
            Arguments of [`PDDPOConfig`], such as `{"learning_rate": 5e-7, "beta": 0.01}`.
        tokenizer ([`~transformers.PreTrainedTokenizerBase`], *optional*):
            `None` is the model's.
        peft_config ([`~peft.PeftConfig`], *optional*):
            Trains LoRA adapters.
        batch_size (`int`, *optional*, defaults to `8`):
            Pairs of a batch in which held-out pairs are read.

    Returns:
        [`~datasets.Dataset`]: all columns, and `validation_loss` (nats), replaced if it was there.

    Raises:
        InputError: Where prompts have no names, or there are fewer than `folds` of them.
    """
    if folds < 2 or repeats < 1:
        raise InputError(f"`folds` must be at least 2 and `repeats` at least 1, got {folds} and {repeats}.")
    given = dict(training or {})
    reading = {
        "precompute_ref_batch_size": batch_size,
        "model_init_kwargs": dict(given.get("model_init_kwargs") or {}),
    }
    parts = [prompt_parts(dataset, folds, seed + repeat) for repeat in range(repeats)]
    model, tokenizer = _merged(model, tokenizer, given.get("model_init_kwargs"))
    reference, _ = _log_probs(dataset, model, tokenizer, reading)
    margins = np.full((repeats, len(dataset)), np.nan)
    for repeat, part in enumerate(parts):
        for fold in range(folds):
            train, held_out = np.flatnonzero(part != fold), np.flatnonzero(part == fold)
            logger.info("Split %d, part %d: trains on %d pairs, reads %d.", repeat, fold, len(train), len(held_out))
            beta, policy, processing = _trained(
                dataset.select(train), model, tokenizer, peft_config, {**given, "seed": seed + repeat}
            )
            ours, _ = _log_probs(dataset.select(held_out), policy, processing, reading)
            theirs = [side[held_out] for side in reference]
            margins[repeat, held_out] = implicit_margins(ours[0], ours[1], theirs[0], theirs[1], beta)
    return _with_columns(dataset, {"validation_loss": validation_loss(margins)})


def prompt_parts(dataset: Dataset, folds: int, seed: int) -> NDArray[np.integer]:
    """Part of each pair, shape `(num_pairs,)`: all pairs of a prompt in one, the parts' prompts within one of each other."""
    names = prompt_names(dataset)
    if names is None:
        raise InputError(
            "Cross-fitting splits by prompt, and the data has neither `prompt` nor `prompt_id`; its columns are "
            f"{', '.join(dataset.column_names)}. Load it with `load_pairs` and `to_preferences`."
        )
    unique, inverse = np.unique(np.asarray(names), return_inverse=True)
    if unique.size < folds:
        raise InputError(f"There are {unique.size} prompts, too few for {folds} parts. Lower `folds`, or add data.")
    part = np.empty(unique.size, dtype=int)
    part[np.lexsort((unique, random_keys(unique, seed)))] = np.arange(unique.size) % folds
    return part[inverse]


def _merged(
    model: str | PreTrainedModel, tokenizer: Any, model_init_kwargs: Mapping[str, Any] | None
) -> tuple[str | PreTrainedModel, Any]:
    """The model and its tokenizer; in memory and whole where a path or Hub id is that of an adapter, which TRL does not load."""
    if not isinstance(model, str):
        return model, tokenizer
    settings, what = dict(model_init_kwargs or {}), f"the adapter {model}"
    folder = local_model_folder(model, revision=settings.pop("revision", None))
    if not is_adapter(folder):
        return str(folder), tokenizer
    base = base_folder(folder, what)
    trust = bool(settings.get("trust_remote_code", False))
    tokenizer = tokenizer or load_tokenizer(folder, what, base=base, trust_remote_code=trust)
    return load_language_model(
        folder, base, settings.pop("dtype", None) or "float32", settings
    ).merge_and_unload(), tokenizer


def _trained(
    rows: Dataset,
    model: str | PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase | None,
    peft_config: "PeftConfig | None",
    given: Mapping[str, Any],
) -> tuple[float, PreTrainedModel, Any]:
    """The `beta` of a DPO on these rows, its policy, and the tokenizer."""
    with TemporaryDirectory(prefix="pd_trl-") as folder:
        fixed = {"output_dir": folder, "save_strategy": "no", "report_to": "none", "eval_strategy": "no"}
        args = PDDPOConfig(**{"precompute_ref_log_probs": True, **device_arguments(), **given, **fixed})
        policy = model if isinstance(model, str) else copy.deepcopy(model)
        trainer = PDDPOTrainer(
            model=policy,
            args=args,
            train_dataset=_in_memory(rows),
            processing_class=tokenizer,
            peft_config=peft_config,
        )
        trainer.train()
    trained: Any = trainer.accelerator.unwrap_model(trainer.model)
    return args.beta, trained.merge_and_unload() if peft_config is not None else trained, trainer.processing_class


def _log_probs(
    dataset: Dataset, model: str | PreTrainedModel, tokenizer: Any, settings: Mapping[str, Any]
) -> tuple[tuple[NDArray[np.float64], NDArray[np.float64]], Dataset]:
    """Log-probabilities of both responses of each pair, shape `(num_pairs,)`, and the rows as the trainer prepared them."""
    if len(dataset) == 0:
        raise InputError("The data set is empty: there is nothing to read.")
    if not isinstance(model, str) and has_adapter(model):
        raise InputError("The model is an adapter in memory: merge it first (`merge_and_unload`), or pass its folder.")
    # As the reference of a trainer that precomputes it, a model is read once, and no second one is loaded.
    if not isinstance(model, str):
        settings = {name: value for name, value in settings.items() if name != "model_init_kwargs"}
    with TemporaryDirectory(prefix="pd_trl-") as folder, _without_dropout(model):
        args = PDDPOConfig(
            folder, max_length=None, precompute_ref_log_probs=True, disable_dropout=False, report_to="none",
            **device_arguments(), **settings,
        )  # fmt: skip
        trainer = PDDPOTrainer(model=model, args=args, train_dataset=_in_memory(dataset), processing_class=tokenizer)
        rows = trainer.train_dataset
        if "ref_chosen_logps" not in rows.column_names:
            trainer.get_train_dataloader()
            rows = trainer.train_dataset
        found = tuple(np.asarray(rows[f"ref_{side}_logps"][:], dtype=np.float64) for side in ("chosen", "rejected"))
    if len(rows) != len(dataset):
        raise InputError(f"The trainer dropped {len(dataset) - len(rows)} of {len(dataset)} rows.")
    return (found[0], found[1]), rows


@contextmanager
def _without_dropout(model: str | PreTrainedModel) -> Iterator[None]:
    """A block in which a model in memory is in evaluation mode. One that is loaded is so from the start."""
    training = not isinstance(model, str) and model.training
    if training:
        model.eval()  # type: ignore[union-attr]
    try:
        yield
    finally:
        if training:
            model.train()  # type: ignore[union-attr]


def _in_memory(dataset: Dataset) -> Dataset:
    """The columns that the trainer reads, without files: it would keep its results beside them."""
    names = [name for name in _READ if name in dataset.column_names]
    if not {"chosen", "rejected"} <= set(names):
        raise InputError(
            f"Pairs must have the columns 'chosen' and 'rejected'; the columns are {', '.join(dataset.column_names)}."
        )
    rows = dataset.select_columns(names)
    return Dataset(rows.with_format("arrow")[:], info=DatasetInfo(features=rows.features))


def _with_columns(dataset: Dataset, columns: Mapping[str, NDArray]) -> Dataset:
    dataset = dataset.remove_columns([name for name in columns if name in dataset.column_names])
    for name, values in columns.items():
        dataset = dataset.add_column(name, values)
    return dataset
