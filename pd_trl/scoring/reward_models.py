"""[`load_scorers`]: a scorer for each reward model; models that share a base or a pass have one together."""

import gc
import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import torch
from huggingface_hub import try_to_load_from_cache
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..errors import InputError, InputTypeError
from ..hub import local_model_folder
from ..hub.names import is_repo_id
from ..models.adapters import base_of, is_adapter
from ..models.heads.modeling import head_indices, heads_of_model
from ..models.loading import load_tokenizer, model_dtype
from ..models.sidecar import SIDECAR_NAME, RewardSidecar
from ..runs.model_identity import memory_key
from .loading import heads_in, load_adapters, load_full, load_heads, reading_of_adapter
from .scorer import RewardModelScorer

logger = logging.getLogger(__name__)

RewardModel: TypeAlias = str | os.PathLike | PreTrainedModel | tuple[PreTrainedModel, PreTrainedTokenizerBase]


_LARGE_BYTES = 1 << 28


def load_scorers(
    reward_models: Mapping[str, RewardModel],
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
    dtype: torch.dtype | None = None,
    attn_implementation: str | None = None,
    trust_remote_code: bool = False,
) -> Iterator[RewardModelScorer]:
    """
    Scorers of all aspects. Each is loaded when its turn comes; once the caller has let go of it, it is freed before the next.
    LoRA adapters of one base make one scorer, with the base held once, and so do the aspects of one
    [`MultiAspectRewardModel`], whose heads are scored in one pass.

    Args:
        reward_models (`dict`):
            A model for each aspect: the path or Hub id of a model or adapter, a model in memory, or a tuple of a model and
            its tokenizer. One with heads is given for each of its aspects that is asked for.
        tokenizer ([`~transformers.PreTrainedTokenizerBase`], *optional*):
            Tokenizer of models in memory that do not say where theirs is.
        dtype (`torch.dtype`, *optional*):
            `None` is bfloat16 on a GPU that has it, float32 elsewhere.
        attn_implementation (`str`, *optional*):
            Attention of models that are loaded. `None` is transformers' choice.
        trust_remote_code (`bool`, *optional*, defaults to `False`):
            Whether to run code that comes with a model.

    Raises:
        InputError: When a model cannot be loaded, has not exactly one output (or no head for its aspect), or was saved
            without its reward head.
    """
    check_reward_models(reward_models)
    loading: dict[str, Any] = {"dtype": model_dtype(dtype), "trust_remote_code": trust_remote_code}
    if attn_implementation is not None:
        loading["attn_implementation"] = attn_implementation
    groups: dict[tuple[str, str], dict[str, Path]] = {}
    in_memory: dict[str | int, tuple[list[str], Any]] = {}
    for aspect, source in reward_models.items():
        if not isinstance(source, (str, os.PathLike)):
            model = source[0] if isinstance(source, tuple) else source
            key = aspect if heads_of_model(model) is None else id(model)
            in_memory.setdefault(key, ([], source))[0].append(aspect)
            continue
        folder = local_model_folder(source, what=f"reward model of aspect '{aspect}'")
        shares_base = is_adapter(folder) and not heads_in(folder)
        group = (base_of(folder), reading_of_adapter(folder, loading)) if shares_base else (str(folder), "")
        groups.setdefault(group, {})[aspect] = folder
    for aspects, source in in_memory.values():
        yield _from_memory(aspects, source, tokenizer)
    for (base, _), folders in groups.items():
        some_folder = next(iter(folders.values()))
        heads = heads_in(some_folder)
        if heads:
            scorer = load_heads(some_folder, heads, list(folders), loading)
            yield scorer
        elif is_adapter(some_folder):
            scorer = load_adapters(base, folders, loading)
            yield scorer
        else:
            for aspect, folder in folders.items():
                scorer = load_full(aspect, folder, loading)
                yield scorer
        large = _is_large(scorer.model)
        del scorer
        if large:
            # A collection takes a third of a second, longer than a small model needs for its pairs.
            gc.collect()


def _is_large(model: torch.nn.Module) -> bool:
    return sum(weight.nbytes for weight in model.parameters()) > _LARGE_BYTES


def check_reward_models(reward_models: Any) -> None:
    """Raises `InputError` unless `reward_models` maps aspects to models."""
    if not isinstance(reward_models, Mapping) or not all(isinstance(name, str) for name in reward_models):
        raise InputTypeError(
            "`reward_models` must be a dict of aspect to model, such as {'honesty': 'me/rm-honesty'}, got "
            f"{type(reward_models).__name__}."
        )
    if not reward_models:
        raise InputError("`reward_models` is empty: give a reward model for at least one aspect.")


def _from_memory(aspects: list[str], source: Any, tokenizer: PreTrainedTokenizerBase | None) -> RewardModelScorer:
    model: Any
    model, own = source if isinstance(source, tuple) else (source, None)
    what = f"The reward model of aspect '{aspects[0]}'"
    if not hasattr(model, "config"):
        raise InputTypeError(f"{what} must be a path, a Hub id or a model, got {type(source).__name__}.")
    heads = heads_of_model(model)
    outputs = None if heads is None else head_indices(heads, aspects, what)
    if heads is None and model.config.num_labels != 1:
        raise InputError(f"{what} has {model.config.num_labels} outputs instead of one.")
    tokenizer = own or tokenizer
    if tokenizer is None:
        name = getattr(model.config, "_name_or_path", "")
        if not name:
            raise InputError(
                f"{what} is in memory and does not say where its tokenizer is. Pass a tuple (model, tokenizer)."
            )
        tokenizer = load_tokenizer(local_model_folder(name, what="tokenizer"), f"{what[0].lower()}{what[1:]}")
    known = _sidecar_of(model)
    sidecars = {aspect: known.of_head(aspect) for aspect in aspects}
    return RewardModelScorer(model, tokenizer, sidecars, memory_key(model, tokenizer), heads=outputs)


def _sidecar_of(model: Any) -> RewardSidecar:
    """
    How a model in memory was trained: what its [`PDRewardTrainer`] left on it, else what the folder that it was loaded from
    says.
    """
    own = getattr(model, "pd_reward_sidecar", None)
    if isinstance(own, RewardSidecar):
        return own
    if hasattr(model, "peft_config"):
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
