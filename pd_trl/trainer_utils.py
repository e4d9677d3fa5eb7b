"""What both trainers share: default arguments, the count of rows that TRL drops, and the saved reward head."""

import copy
import dataclasses
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from .errors import InputError, InputTypeError

if TYPE_CHECKING:
    from datasets import Dataset
    from peft import PeftConfig
    from transformers import TrainingArguments

logger = logging.getLogger(__name__)

ConfigT = TypeVar("ConfigT", bound="TrainingArguments")


def default_arguments(
    args: Any, config_class: type[ConfigT], model: Any, suffix: str, neutral: Mapping[str, Any]
) -> ConfigT:
    """
    `args` as a `config_class`: a default one where `None` (named after the model, as TRL does), an upgraded copy where it
    is the TRL config that `config_class` extends.
    """
    if args is None:
        from trl.trainer.utils import get_config_model_id

        name = model if isinstance(model, str) else get_config_model_id(model.config)
        return config_class(f"{str(name).split('/')[-1]}-{suffix}")
    if isinstance(args, config_class):
        return args
    if isinstance(args, config_class.__bases__):
        upgraded: Any = object.__new__(config_class)
        for item in dataclasses.fields(config_class):
            if not hasattr(args, item.name):
                setattr(upgraded, item.name, neutral.get(item.name, item.default))
        upgraded.__dict__.update(args.__dict__)
        return upgraded
    raise InputTypeError(f"`args` must be a `{config_class.__name__}`, got `{type(args).__name__}`.")


def check_offloading(args: Any) -> None:
    """Raises `InputError` where TRL's activation offloading has no device to offload from."""
    import torch

    if getattr(args, "activation_offloading", False) and not torch.accelerator.is_available():
        raise InputError(
            "`activation_offloading` moves activations from a GPU to the host, and there is no GPU. Leave it out here."
        )


def check_sides(dataset: Any, dataset_name: str) -> None:
    """Raises `InputError` unless the rows have both sides, as text or tokens."""
    columns = set(getattr(dataset, "column_names", None) or [])
    sides = ({"chosen", "rejected"}, {"chosen_ids", "rejected_ids"}, {"chosen_input_ids", "rejected_input_ids"})
    if columns and not any(pair <= columns for pair in sides):
        raise InputError(
            f"The {dataset_name} set must have the columns 'chosen' and 'rejected', but its columns are "
            f"{', '.join(sorted(columns))}. Rename yours with `rename_column`."
        )


def describe_dropped(given: int, left: int, dataset_name: str, reason: str) -> None:
    """Warns of rows that TRL's preparation dropped; raises `InputError` when none is left."""
    if left == 0 and given > 0:
        raise InputError(
            f"None of the {given} rows of the {dataset_name} set is left to use: all are {reason}. Raise `max_length`, or "
            "shorten the data."
        )
    if left < given:
        logger.warning(
            "%d of the %d rows of the %s set (%.1f %%) are %s and are dropped by TRL.",
            given - left,
            given,
            dataset_name,
            100 * (given - left) / given,
            reason,
        )


def sampling_strategy(args: Any) -> str:
    """`train_sampling_strategy`, also for transformers below 5.1, which has `group_by_length` instead."""
    if hasattr(args, "train_sampling_strategy"):
        return args.train_sampling_strategy
    return "group_by_length" if getattr(args, "group_by_length", False) else "random"


def orders_by_length(args: Any) -> bool:
    """Whether the sampler of transformers looks for the column `length_column_name`."""
    return sampling_strategy(args) in ("group_by_length", "batch_rebalance")


def token_counts(dataset: "Dataset", *columns: str) -> list[NDArray[np.int64]]:
    """Number of tokens in these columns of each row, without loading the tokens into Python."""
    import pyarrow.compute as pc

    table = dataset.with_format("arrow").select_columns(list(columns))[:]
    return [pc.list_value_length(table[name]).to_numpy().astype(np.int64) for name in columns]


def row_keys(dataset: "Dataset") -> NDArray[np.str_]:
    """The `pair_id` of each row, shape `(num_rows,)`, or its position where the data set has none."""
    if "pair_id" not in dataset.column_names:
        return np.array([f"{row:012d}" for row in range(len(dataset))])
    values = dataset["pair_id"][:]
    null = [row for row, value in enumerate(values) if value is None]
    if null:
        raise InputError(
            f"`pair_id` must not be null, but it is in {len(null)} rows, the first of them row {null[0]}."
        )
    ids = np.asarray(values, dtype=str)
    unique, counts = np.unique(ids, return_counts=True)
    if unique.size < ids.size:
        raise InputError(
            f"`pair_id` must be unique, but {int((counts > 1).sum())} ids occur more than once, such as "
            f"{str(unique[counts > 1][0])!r}. Give each row an id of its own, or remove the column."
        )
    return ids


def ensure_score_is_saved(peft_config: "PeftConfig | None") -> "PeftConfig | None":
    """
    A copy of a LoRA-like configuration with the reward head among its `modules_to_save`: without it the head is lost on
    saving. The head is called `score` in decoders and `classifier` in encoders; a name the model lacks has no effect.
    """
    if peft_config is None or not hasattr(peft_config, "modules_to_save"):
        return peft_config
    saved = peft_config.modules_to_save
    if isinstance(saved, str) or (saved is not None and {"score", "classifier"} & set(saved)):
        return peft_config
    logger.info("Adding the reward head to `modules_to_save` of the PEFT configuration, so that it is saved.")
    complete = copy.copy(peft_config)
    complete.modules_to_save = [*(saved or []), "score", "classifier"]
    return complete


def device_arguments() -> dict[str, Any]:
    """Training arguments that fit the device: TRL's defaults need an accelerator with bfloat16."""
    import torch

    if torch.cuda.is_available():
        return {"bf16": torch.cuda.is_bf16_supported()}
    if torch.backends.mps.is_available():
        return {"bf16": False}
    return {"bf16": False, "use_cpu": True}
