"""Names of heads, and what loading says of the heads of other models."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from transformers import PretrainedConfig, PreTrainedModel

from ...errors import InputError
from .configuration import MultiAspectRewardConfig


def head_indices(heads: Sequence[str], aspects: Sequence[str], what: str) -> list[int]:
    """Output of each of `aspects`; `InputError` when one is not among `heads`. A single head stands for any name."""
    if len(heads) == 1 and len(aspects) == 1:
        return [0]
    missing = [aspect for aspect in aspects if aspect not in heads]
    if missing:
        raise InputError(
            f"{what} has heads for {', '.join(heads)}, but none for {', '.join(missing)}. Give it for aspects that it has a head "
            f"for (a judge is named as in FOLDER#{heads[0]})."
        )
    return [list(heads).index(aspect) for aspect in aspects]


# Heads of language models, classifiers and published reward models, and what lies beside these.
_OTHER_HEADS = (
    r"^(lm_head|cls|score|classifier|regression_layer|regression_head|score_head|v_head|normalizer|gating|weights)\.|"
    "^reward_transform_matrix$"
)


@contextmanager
def other_heads_left_out(of_layers: bool = False) -> Iterator[None]:
    """
    A block in which loading says nothing of the head that a backbone's files hold, such as a language model's, nor, with
    `of_layers`, of layers that were left out.
    """
    before = PreTrainedModel._keys_to_ignore_on_load_unexpected
    PreTrainedModel._keys_to_ignore_on_load_unexpected = [
        _OTHER_HEADS,
        *([r"(^|\.)(layers|h|block)\.\d+\."] if of_layers else []),
    ]
    try:
        yield
    finally:
        PreTrainedModel._keys_to_ignore_on_load_unexpected = before


def heads_of_model(model: Any, revision: str | None = None) -> list[str] | None:
    """
    Aspects of the heads of a model in memory, adapted or not, or of a folder or Hub id; `None` for another kind of model.

    Args:
        model (`str`, model or [`~peft.PeftModel`]): The model.
        revision (`str`, *optional*): Branch, tag or commit on the Hub.
    """
    if isinstance(model, (str, os.PathLike)):
        try:
            content, _ = PretrainedConfig.get_config_dict(model, revision=revision)
        except (OSError, ValueError):
            return None  # an adapter, or nothing: loading says which
        is_heads = content.get("model_type") == MultiAspectRewardConfig.model_type
        return list(content["aspects"]) if is_heads else None
    config = getattr(model, "config", None)
    return list(config.aspects) if isinstance(config, MultiAspectRewardConfig) else None
