"""[`load_scorers`]: a scorer for each reward model; models that share a base or a pass have one together."""

import gc
import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import torch
from huggingface_hub import try_to_load_from_cache
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..errors import InputError, InputTypeError
from ..hub import local_model_folder
from ..hub.names import is_repo_id
from ..models.adapters import base_of, has_adapter, is_adapter
from ..models.loading import load_tokenizer, model_dtype
from ..models.named import ModelOutput, model_output
from ..models.outputs import HEADS, outputs_in_memory, outputs_of, voters_of
from ..models.sidecar import SIDECAR_NAME, RewardSidecar
from ..runs.identity import digest_of
from ..runs.model_identity import memory_key
from .loading import Wanted, load_adapters, load_model, reading_of_adapter
from .scorer import RewardModelScorer

logger = logging.getLogger(__name__)

RewardModel: TypeAlias = (
    str
    | os.PathLike
    | PreTrainedModel
    | tuple[PreTrainedModel, PreTrainedTokenizerBase]
    | Mapping[str, Any]
    | ModelOutput
)

_LARGE_BYTES = 1 << 28


def load_scorers(
    reward_models: Mapping[str, RewardModel],
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
    dtype: torch.dtype | str | None = None,
    attn_implementation: str | None = None,
    trust_remote_code: bool = False,
) -> Iterator[RewardModelScorer]:
    """
    Scorers of all aspects. Each is loaded when its turn comes; once the caller has let go of it, it is freed before the next.
    LoRA adapters of one base make one scorer, with the base held once, and so do the aspects of one model with several outputs,
    which are scored in one pass.

    Args:
        reward_models (`dict`):
            A model for each aspect: the path or Hub id of a model or adapter, a model in memory, or a tuple of a model and
            its tokenizer. One with several outputs is given for each of its aspects that is asked for; [`model_output`] says how
            an output, its sign and its scale are named.
        tokenizer ([`~transformers.PreTrainedTokenizerBase`], *optional*):
            Tokenizer of models in memory that do not say where theirs is.
        dtype (`torch.dtype` or `str`, *optional*):
            `None` is bfloat16 on a GPU that has it, float32 elsewhere; `"auto"` is bfloat16 on a CPU that computes in it, too.
        attn_implementation (`str`, *optional*):
            Attention of models that are loaded. `None` is transformers' choice.
        trust_remote_code (`bool`, *optional*, defaults to `False`):
            Whether to run code that comes with a model.

    Raises:
        InputError: When a model cannot be loaded, has several outputs and none of the aspect's name, or was saved without its
            reward head.
    """
    check_reward_models(reward_models)
    loading: dict[str, Any] = {"dtype": model_dtype(dtype), "trust_remote_code": trust_remote_code}
    if attn_implementation is not None:
        loading["attn_implementation"] = attn_implementation
    groups: dict[tuple[str, str], dict[Path, Wanted]] = {}
    in_memory: dict[str | int, dict[str, ModelOutput]] = {}
    for aspect, source in reward_models.items():
        given = model_output(source)
        if not given.is_named:
            in_memory.setdefault(_memory_group(aspect, given), {})[aspect] = given
            continue
        folder = local_model_folder(given.model, what=f"reward model of aspect '{aspect}'")
        outputs = outputs_of(folder, trust_remote_code)
        shares_base = is_adapter(folder) and outputs.kind != HEADS
        if shares_base:
            group = (base_of(folder), reading_of_adapter(folder, loading))
        else:
            group = (str(folder), aspect if len(outputs.names) == 1 else "")
        wanted = groups.setdefault(group, {}).setdefault(folder, Wanted(folder, outputs, {}))
        wanted.chosen[aspect] = given
    for chosen in in_memory.values():
        yield _from_memory(chosen, tokenizer)
    for (base, _), models in groups.items():
        first = next(iter(models.values()))
        if is_adapter(first.folder) and first.outputs.kind != HEADS:
            scorer = load_adapters(base, list(models.values()), loading)
        else:
            scorer = load_model(first, loading)
        yield scorer
        large = _is_large(scorer.model)
        del scorer
        if large:
            # A collection takes a third of a second, longer than a small model needs for its pairs.
            gc.collect()


def named_models(reward_models: Any, trust_remote_code: bool = False) -> dict[str, RewardModel]:
    """`reward_models` by aspect: one name of a model stands for all its outputs, by their names."""
    if not isinstance(reward_models, (str, os.PathLike)):
        return reward_models
    given = model_output(str(reward_models))
    if given.output is not None and not given.output.isdecimal():
        return {given.output: given}
    folder = local_model_folder(given.model, what="reward model")
    outputs = outputs_of(folder, trust_remote_code)
    if given.output is not None:
        name = outputs.names[outputs.index(given, given.output, f"The reward model in {folder}")]
        return {name if outputs.named else f"output_{name}": given}
    return {
        aspect: replace(found, sign=given.sign)
        for aspect, found in voters_of(folder, given.model, trust_remote_code).items()
    }


def _memory_group(aspect: str, given: ModelOutput) -> str | int:
    """What the aspects of a model in memory share that are scored in one pass."""
    model = given.model[0] if isinstance(given.model, tuple) else given.model
    several = hasattr(model, "config") and len(outputs_in_memory(model).names) > 1
    return id(model) if several else aspect


def _is_large(model: torch.nn.Module) -> bool:
    return sum(weight.nbytes for weight in model.parameters()) > _LARGE_BYTES


def check_reward_models(reward_models: Any) -> None:
    """Raises `InputError` unless `reward_models` maps aspects to models."""
    if not isinstance(reward_models, Mapping) or not all(isinstance(name, str) for name in reward_models):
        raise InputTypeError(
            "`reward_models` must be a dict of aspect to model, such as {'honesty': 'me/rm-honesty'}, or the name of one model, got "
            f"{type(reward_models).__name__}."
        )
    if not reward_models:
        raise InputError("`reward_models` is empty: give a reward model for at least one aspect.")


def _from_memory(chosen: Mapping[str, ModelOutput], tokenizer: PreTrainedTokenizerBase | None) -> RewardModelScorer:
    aspects, source = list(chosen), next(iter(chosen.values())).model
    model: Any
    model, own = source if isinstance(source, tuple) else (source, None)
    what = f"The reward model of aspect '{aspects[0]}'"
    if not hasattr(model, "config"):
        raise InputTypeError(f"{what} must be a path, a Hub id or a model, got {type(source).__name__}.")
    outputs = outputs_in_memory(model)
    indices = [outputs.index(given, aspect, what) for aspect, given in chosen.items()]
    tokenizer = own or tokenizer
    if tokenizer is None:
        name = getattr(model.config, "_name_or_path", "")
        if not name:
            raise InputError(
                f"{what} is in memory and does not say where its tokenizer is. Pass a tuple (model, tokenizer)."
            )
        tokenizer = load_tokenizer(local_model_folder(name, what="tokenizer"), f"{what[0].lower()}{what[1:]}")
    known = _sidecar_of(model)
    sidecars = {aspect: known.of_head(given.output or aspect) for aspect, given in chosen.items()}
    choices, key = [given.choice for given in chosen.values()], memory_key(model, tokenizer)
    return RewardModelScorer(
        model, tokenizer, sidecars, digest_of([key, choices]) if any(choices) else key,
        heads=None if len(outputs.names) == 1 else indices,
        factors=[(given.sign or 1) * given.scale for given in chosen.values()],
    )  # fmt: skip


def _sidecar_of(model: Any) -> RewardSidecar:
    """
    How a model in memory was trained: what its [`PDRewardTrainer`] left on it, else what the folder that it was loaded from
    says.
    """
    own = getattr(model, "pd_reward_sidecar", None)
    if isinstance(own, RewardSidecar):
        return own
    if has_adapter(model):
        logger.warning(
            "A reward model in memory is an adapter and does not say how it was trained: its gaps are scored without a length "
            "term. Pass its folder, or `length_penalty`."
        )
        return RewardSidecar()
    name = getattr(model.config, "_name_or_path", None)
    if name and not os.path.isdir(name):
        cached = try_to_load_from_cache(name, SIDECAR_NAME) if is_repo_id(name, namespaced=False) else None
        name = os.path.dirname(cached) if isinstance(cached, str) else None
    return RewardSidecar.load(name) if name else RewardSidecar()
