"""What both trainers share: default arguments, the count of rows that TRL drops, and the saved reward head."""

import copy
import dataclasses
import functools
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, InputTypeError

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


def without_empty_images(dataset: Any, dataset_name: str) -> Any:
    """
    The rows without the columns `image` and `images` where no row has an image: TRL takes a set for one of images by the
    columns' names alone. A stream is left as it is, but for a column that is declared to hold nothing.
    """
    from datasets import Dataset

    names = [name for name in ("image", "images") if name in (getattr(dataset, "column_names", None) or [])]
    if isinstance(dataset, Dataset):
        empty = [name for name in names if not _holds_any(dataset, name)]
    else:
        features = getattr(dataset, "features", None) or {}
        empty = [name for name in names if getattr(features.get(name), "dtype", None) == "null"]
    if not empty:
        return dataset
    logger.info("No row of the %s set has an image: %s is left out.", dataset_name, " and ".join(map(repr, empty)))
    return dataset.remove_columns(empty)


def _holds_any(dataset: "Dataset", column: str) -> bool:
    return any(
        not _is_empty(value.as_py())
        for batch in dataset.with_format("arrow").select_columns([column]).iter(batch_size=1000)
        for value in batch[column]
    )


def _is_empty(value: Any) -> bool:
    """Whether a value of an image column, one image or a list of them, holds none."""
    if isinstance(value, Mapping):
        return all(_is_empty(entry) for entry in value.values())
    if isinstance(value, list):
        return all(map(_is_empty, value))
    return value is None or value in ("", b"")


@functools.cache
def _say_once(message: str) -> None:
    logger.warning(message)


HEAD_NAMES = ("score", "classifier")


def ensure_score_is_saved(peft_config: "PeftConfig | None", base_has_head: bool = False) -> "PeftConfig | None":
    """
    The configuration, or where an adapter would lose the reward head a copy with it among its `modules_to_save`. The head is
    called `score` in decoders and `classifier` in encoders; a name the model lacks has no effect.

    It is left as it is where nothing is lost: where the head is saved already, where PEFT saves it by itself
    (`task_type="SEQ_CLS"`), where the base was saved with its head, which the adapter then leaves alone as in TRL, and where
    `target_modules` covers the head, which is then the user's to decide.

    Args:
        peft_config ([`~peft.PeftConfig`], *optional*): Configuration of the adapter.
        base_has_head (`bool`, *optional*, defaults to `False`): Whether the base is a saved reward model, see [`has_head`].
    """
    if peft_config is None or not hasattr(peft_config, "modules_to_save"):
        return peft_config
    saved = peft_config.modules_to_save
    if isinstance(saved, str) or (saved is not None and set(HEAD_NAMES) & set(saved)):
        return peft_config
    if base_has_head or getattr(peft_config.task_type, "value", peft_config.task_type) == "SEQ_CLS":
        return peft_config
    if _targets_head(peft_config):
        _say_once(
            "The reward head is new, and `target_modules` adapts it: the adapter holds what is added to it, and not the head "
            "itself, which is drawn anew when the adapter is loaded on its base. Save the base with its head first, or set "
            "`modules_to_save=['score']` instead."
        )
        return peft_config
    _say_once(
        "The reward head is new, and this PEFT configuration would neither train nor save it: 'score' is added to its "
        "`modules_to_save`. Set `task_type='SEQ_CLS'` or `modules_to_save` yourself to decide."
    )
    complete = copy.copy(peft_config)
    complete.modules_to_save = [*(saved or []), *HEAD_NAMES]
    return complete


def has_head(model: Any, revision: str | None = None) -> bool:
    """
    Whether a model starts from files that hold its reward head, as those of a sequence classifier do: an adapter finds it
    there again.

    Args:
        model (`str` or [`~transformers.PreTrainedModel`]): A folder, a Hub id, or a model in memory.
        revision (`str`, *optional*): Branch, tag or commit on the Hub.
    """
    if isinstance(model, str):
        from transformers import PretrainedConfig

        try:
            architectures = PretrainedConfig.get_config_dict(model, revision=revision)[0].get("architectures")
        except (OSError, ValueError):
            return False  # loading says what is wrong
    else:
        architectures = getattr(getattr(model, "config", None), "architectures", None)
    return any(str(name).endswith("ForSequenceClassification") for name in architectures or [])


def _targets_head(peft_config: Any) -> bool:
    """Whether the adapter is put on the head: by the rules of PEFT, a layer of its own or the linear layers within it."""
    from peft.tuners.tuners_utils import check_target_module_exists

    targets = getattr(peft_config, "target_modules", None)
    parameters = getattr(peft_config, "target_parameters", None) or []
    if any(set(HEAD_NAMES) & set(str(name).split(".")) for name in parameters):
        return True
    if not targets:
        return False
    on_heads = copy.copy(peft_config)
    on_heads.target_modules = list(HEAD_NAMES)
    if not all(check_target_module_exists(on_heads, head) for head in HEAD_NAMES):
        return False  # a head that `exclude_modules` leaves out, or that is in none of `layers_to_transform`
    if isinstance(targets, str) and targets.lower() == "all-linear":
        return True
    layers = [*HEAD_NAMES, "classifier.dense", "classifier.out_proj"]
    return any(bool(check_target_module_exists(peft_config, layer)) for layer in layers)


def device_arguments() -> dict[str, Any]:
    """Training arguments that fit the device: TRL's defaults need an accelerator with bfloat16."""
    import torch

    if torch.cuda.is_available():
        return {"bf16": torch.cuda.is_bf16_supported()}
    if torch.backends.mps.is_available():
        return {"bf16": False}
    return {"bf16": False, "use_cpu": True}
