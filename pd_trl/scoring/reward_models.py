"""Reward models as scorers: full models, and LoRA adapters that share one base."""

import gc
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import torch
from huggingface_hub import try_to_load_from_cache
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from trl.trainer.reward_trainer import suppress_seqcls_warning

from ..errors import InputError, InputTypeError
from ..hub import local_model_folder
from ..hub.names import is_repo_id
from ..models.adapters import adapter_config, base_of, is_adapter, saves_head
from ..models.heads.modeling import MultiAspectRewardModel, head_indices, heads_of_model
from ..models.sidecar import SIDECAR_NAME, RewardSidecar
from ..runs.identity import digest_of, file_keys, memory_key, model_key
from .scorer import RewardModelScorer

logger = logging.getLogger(__name__)

RewardModel: TypeAlias = str | os.PathLike | PreTrainedModel | tuple[PreTrainedModel, PreTrainedTokenizerBase]


_LARGE_BYTES = 1 << 28
_TOKENIZER_FILES = (
    "tokenizer*", "*.model", "special_tokens_map.json", "added_tokens.json", "vocab*", "merges.txt", "chat_template*", "config.json",
)  # fmt: skip


def load_scorers(
    reward_models: Mapping[str, RewardModel],
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
    dtype: torch.dtype | None = None,
    attn_implementation: str | None = None,
    trust_remote_code: bool = False,
) -> Iterator[RewardModelScorer]:
    """
    Scorers of all aspects, each loaded when its turn comes and, once the caller has let go of it, freed before the next. LoRA adapters of one base make one
    scorer, with the base held once, and so do the aspects of one [`MultiAspectRewardModel`], whose heads are scored in one pass.

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
    device = scoring_device()
    dtype = dtype or (torch.bfloat16 if device.type == "cuda" and torch.cuda.is_bf16_supported() else torch.float32)
    loading: dict[str, Any] = {"dtype": dtype, "trust_remote_code": trust_remote_code}
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
        base = None if _heads_in(folder) else _base_of_adapter(folder)
        # Adapters with tokenizers or pad tokens of their own read their rows in other ways, so they share no pass.
        group = (
            (str(folder), "")
            if base is None
            else (base, f"{_pad_of_adapter(folder, loading)} {_tokenizer_files(folder)}")
        )
        groups.setdefault(group, {})[aspect] = folder
    for aspects, source in in_memory.values():
        yield _from_memory(aspects, source, tokenizer)
    for (base, _), folders in groups.items():
        some_folder = next(iter(folders.values()))
        heads = _heads_in(some_folder)
        if heads:
            scorer = _load_heads(some_folder, heads, list(folders), device, loading)
            yield scorer
        elif is_adapter(some_folder):
            scorer = _load_adapters(base, folders, device, loading)
            yield scorer
        else:
            for aspect, folder in folders.items():
                scorer = _load_full(aspect, folder, device, loading)
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


def scoring_device() -> torch.device:
    """The accelerator of this process (by `LOCAL_RANK`), or the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)) % torch.cuda.device_count())
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def _load_full(aspect: str, folder: Path, device: torch.device, loading: dict[str, Any]) -> RewardModelScorer:
    what = f"The reward model of aspect '{aspect}' ({folder})"
    model = _load_classifier(folder, what, loading)
    tokenizer = _load_tokenizer(folder, loading)
    return RewardModelScorer(model.to(device), tokenizer, {aspect: RewardSidecar.load(folder)}, model_key(folder))


def _load_heads(
    folder: Path, heads: list[str], aspects: list[str], device: torch.device, loading: dict[str, Any]
) -> RewardModelScorer:
    what = f"The reward model with heads in {folder}"
    outputs = head_indices(heads, aspects, what)
    sidecars = {aspect: RewardSidecar.load(folder, aspect) for aspect in aspects}
    base, pad_token_id = _base_of_adapter(folder), None
    if base is None:
        model = _load_classifier(folder, what, loading, outputs=len(heads))
        tokenizer, digest = _load_tokenizer(folder, loading), model_key(folder)
    else:
        from peft import PeftModel

        base_folder = local_model_folder(base, what=f"base model of {folder}")
        whole = MultiAspectRewardModel.from_backbone(base_folder, heads, **loading)
        _check_head_is_saved(folder, what, ["score.weight"] if heads_of_model(base_folder) is None else [])
        pad_token_id = _pad_of_adapter(folder, loading)
        model = PeftModel.from_pretrained(whole, str(folder))
        tokenizer = _load_tokenizer(folder, loading, fallback=base_folder)
        digest = model_key(folder)
    return RewardModelScorer(model.to(device), tokenizer, sidecars, digest, heads=outputs, pad_token_id=pad_token_id)


def _heads_in(folder: Path) -> list[str]:
    """Aspects of the heads of the model or adapter in `folder`; none where it has a single output."""
    if (folder / "adapter_config.json").is_file():
        return list(RewardSidecar.load(folder).heads)
    return heads_of_model(folder) or []


def _load_adapters(
    base: str, folders: dict[str, Path], device: torch.device, loading: dict[str, Any]
) -> RewardModelScorer:
    from peft import PeftModel

    base_folder = local_model_folder(base, what="base model of the LoRA reward models")
    model = _load_classifier(base_folder, f"The base model {base}", {**loading, "num_labels": 1}, headless=True)
    absent = _absent_heads(base_folder, model)
    for i, (aspect, folder) in enumerate(folders.items()):
        _check_head_is_saved(folder, f"The LoRA reward model of aspect '{aspect}' ({folder})", absent)
        if i == 0:
            model = PeftModel.from_pretrained(model, str(folder), adapter_name=aspect)
        else:
            model.load_adapter(str(folder), adapter_name=aspect)
    tokenizer = _load_tokenizer(next(iter(folders.values())), loading, fallback=base_folder)
    sidecars = {aspect: RewardSidecar.load(folder) for aspect, folder in folders.items()}
    digest = digest_of([model_key(folder) for folder in folders.values()])
    pad_token_id = _pad_of_adapter(next(iter(folders.values())), loading)
    return RewardModelScorer(model.to(device), tokenizer, sidecars, digest, adapters=True, pad_token_id=pad_token_id)


def _tokenizer_files(folder: Path) -> str:
    """Hash of what decides how an adapter's rows are read: its tokenizer, template and pad token."""
    names = {path.name for name in _TOKENIZER_FILES for path in folder.glob(name)}
    return digest_of(file_keys(folder, names))


def _pad_of_adapter(folder: Path, loading: dict[str, Any]) -> int | None:
    """
    The pad token that an adapter was trained with: what its trainer wrote, else that of a configuration beside it, else of its
    tokenizer, which TRL mirrors into the model; its base's configuration dates from before the training. `None` where none
    says.
    """
    known = RewardSidecar.load(folder).pad_token_id
    if known is not None:
        return known
    if (folder / "config.json").is_file():
        config = AutoConfig.from_pretrained(folder, trust_remote_code=loading["trust_remote_code"])
        pad = getattr(config.get_text_config(), "pad_token_id", None)
        if pad is not None:
            return int(pad)
    if not _has_tokenizer(folder):
        return None
    tokenizer = _load_tokenizer(folder, loading)
    return tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id


def _check_head_is_saved(folder: Path, what: str, absent: Sequence[str]) -> None:
    """Raises `InputError` unless the adapter or its base, which lacks `absent`, holds the reward head."""
    if not absent or saves_head(adapter_config(folder), adapted=False):
        return
    raise InputError(
        f"{what} was saved without its reward head. Train it with `modules_to_save=['score']`, as `PDRewardTrainer` does."
    )


def _load_classifier(
    folder: Path, what: str, loading: dict[str, Any], headless: bool = False, outputs: int = 1
) -> PreTrainedModel:
    advice = "Train one with `PDRewardTrainer` or `pd-trl reward`."
    try:
        # A missing head is reported below, in one line.
        with suppress_seqcls_warning():
            model, info = AutoModelForSequenceClassification.from_pretrained(
                folder, use_safetensors=True, output_loading_info=True, **loading
            )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise InputError(f"{what} cannot be loaded as a sequence classifier: {str(error).strip()}") from None
    missing = [] if headless else sorted({*info["missing_keys"], *_absent_heads(folder, model)})
    if missing:
        raise InputError(
            f"{what} lacks the weights {', '.join(missing[:3])}: it is not a trained reward model. {advice}"
        )
    if model.config.num_labels != outputs:
        raise InputError(
            f"{what} has {model.config.num_labels} outputs, but a reward model has one (`num_labels=1`). {advice}"
        )
    return model


def _absent_heads(folder: Path, model: PreTrainedModel) -> list[str]:
    """The model's head where no file of `folder` holds it: TRL's guard leaves it out of the loader's missing keys."""
    from safetensors import safe_open

    held: set[str] = set()
    for path in folder.glob("*.safetensors"):
        with safe_open(path, framework="pt") as file:
            held |= set(file.keys())
    names = {name for name, _ in model.named_parameters() if name.split(".")[0] in ("score", "classifier")}
    return sorted(names - held)


def _has_tokenizer(folder: Path) -> bool:
    return any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer_config.json"))


def _load_tokenizer(folder: Path, loading: dict[str, Any], fallback: Path | None = None) -> PreTrainedTokenizerBase:
    for place in (folder, fallback):
        if place is not None and _has_tokenizer(place):
            return AutoTokenizer.from_pretrained(place, trust_remote_code=loading["trust_remote_code"])
    raise InputError(
        f"No tokenizer beside the reward model in {folder}. Save it there with `tokenizer.save_pretrained`."
    )


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
        tokenizer = _load_tokenizer(local_model_folder(name, what="tokenizer"), {"trust_remote_code": False})
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


def _base_of_adapter(folder: Path) -> str | None:
    """Path or Hub id of the base model where `folder` holds a PEFT adapter."""
    return base_of(folder) if is_adapter(folder) else None
