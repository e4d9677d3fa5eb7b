"""Loads reward models from folders: a full model, a model with heads, or LoRA adapters on one base."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedModel, PreTrainedTokenizerBase
from trl.trainer.reward_trainer import suppress_seqcls_warning

from ..errors import InputError
from ..hub import local_model_folder
from ..models.adapters import adapter_config, base_folder, is_adapter, saves_head
from ..models.heads.modeling import MultiAspectRewardModel, head_indices, heads_of_model
from ..models.loading import has_tokenizer, load_tokenizer, model_device
from ..models.sidecar import RewardSidecar
from ..runs.identity import digest_of, file_keys
from ..runs.model_identity import model_key
from .scorer import RewardModelScorer


def load_full(aspect: str, folder: Path, loading: dict[str, Any]) -> RewardModelScorer:
    """The whole model of one aspect. `loading` holds the arguments of `from_pretrained`."""
    model = _load_classifier(folder, f"The reward model of aspect '{aspect}' ({folder})", loading)
    return RewardModelScorer(
        model.to(model_device()), _tokenizer(folder, loading), {aspect: RewardSidecar.load(folder)}, model_key(folder)
    )


def load_heads(folder: Path, heads: list[str], aspects: list[str], loading: dict[str, Any]) -> RewardModelScorer:
    """The model, or the adapter of one, that has `heads`, for those of them that are `aspects`."""
    what = f"The reward model with heads in {folder}"
    outputs = head_indices(heads, aspects, what)
    sidecars = {aspect: RewardSidecar.load(folder, aspect) for aspect in aspects}
    model: Any
    base, pad_token_id = None, None
    if is_adapter(folder):
        from peft import PeftModel

        base, pad_token_id = base_folder(folder, str(folder)), _pad_of_adapter(folder, loading)
        whole = MultiAspectRewardModel.from_backbone(base, heads, **loading)
        _check_head_is_saved(folder, what, ["score.weight"] if heads_of_model(base) is None else [])
        model = PeftModel.from_pretrained(whole, str(folder))
    else:
        model = _load_classifier(folder, what, loading, outputs=len(heads))
    return RewardModelScorer(
        model.to(model_device()), _tokenizer(folder, loading, base), sidecars, model_key(folder), heads=outputs,
        pad_token_id=pad_token_id,
    )  # fmt: skip


def load_adapters(base: str, folders: dict[str, Path], loading: dict[str, Any]) -> RewardModelScorer:
    """The adapters of several aspects, by aspect, on their one base."""
    from peft import PeftModel

    folder_of_base = local_model_folder(base, what="base model of the LoRA reward models")
    model: Any = _load_classifier(
        folder_of_base, f"The base model {base}", {**loading, "num_labels": 1}, headless=True
    )
    absent = _absent_heads(folder_of_base, model)
    for aspect, folder in folders.items():
        _check_head_is_saved(folder, f"The LoRA reward model of aspect '{aspect}' ({folder})", absent)
        if hasattr(model, "peft_config"):
            model.load_adapter(str(folder), adapter_name=aspect)
        else:
            model = PeftModel.from_pretrained(model, str(folder), adapter_name=aspect)
    first = next(iter(folders.values()))
    sidecars = {aspect: RewardSidecar.load(folder) for aspect, folder in folders.items()}
    return RewardModelScorer(
        model.to(model_device()), _tokenizer(first, loading, folder_of_base), sidecars,
        digest_of([model_key(folder) for folder in folders.values()]), adapters=True,
        pad_token_id=_pad_of_adapter(first, loading),
    )  # fmt: skip


def reading_of_adapter(folder: Path, loading: dict[str, Any]) -> str:
    """What decides how an adapter's rows are read. Adapters that read them alike can share a pass."""
    return f"{_pad_of_adapter(folder, loading)} {_tokenizer_files(folder)}"


def heads_in(folder: Path) -> list[str]:
    """Aspects of the heads of the model or adapter in `folder`; none where it has a single output."""
    if is_adapter(folder):
        return list(RewardSidecar.load(folder).heads)
    return heads_of_model(folder) or []


# What decides how rows are read.
_TOKENIZER_FILES = (
    "tokenizer*", "*.model", "special_tokens_map.json", "added_tokens.json", "vocab*", "merges.txt", "chat_template*", "config.json",
)  # fmt: skip


def _tokenizer_files(folder: Path) -> str:
    """Hash of what decides how an adapter's rows are read: its tokenizer, template and pad token."""
    names = {path.name for name in _TOKENIZER_FILES for path in folder.glob(name)}
    return digest_of(file_keys(folder, names))


def _pad_of_adapter(folder: Path, loading: dict[str, Any]) -> int | None:
    """
    The pad token that an adapter was trained with: its trainer wrote it, else a configuration beside it says it, else its
    tokenizer, whose pad token TRL copies into the model. The base's configuration is older than the training. `None` where
    nothing says it.
    """
    known = RewardSidecar.load(folder).pad_token_id
    if known is not None:
        return known
    if (folder / "config.json").is_file():
        config = AutoConfig.from_pretrained(folder, trust_remote_code=loading["trust_remote_code"])
        pad = getattr(config.get_text_config(), "pad_token_id", None)
        if pad is not None:
            return int(pad)
    if not has_tokenizer(folder):
        return None
    tokenizer = _tokenizer(folder, loading)
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


def _tokenizer(folder: Path, loading: dict[str, Any], base: Path | None = None) -> PreTrainedTokenizerBase:
    what = f"the reward model in {folder}"
    return load_tokenizer(folder, what, base=base, trust_remote_code=loading["trust_remote_code"])
