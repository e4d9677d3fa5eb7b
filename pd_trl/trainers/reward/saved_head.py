"""Makes an adapter save a reward head that its base does not have."""

import copy
import functools
import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from peft import PeftConfig

logger = logging.getLogger(__name__)


HEAD_NAMES = ("score", "classifier")


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


@functools.cache
def _say_once(message: str) -> None:
    logger.warning(message)
