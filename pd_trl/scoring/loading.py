"""Loads reward models from folders: a full model, a model with heads, or LoRA adapters on one base."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedModel, PreTrainedTokenizerBase
from trl.trainer.reward_trainer import suppress_seqcls_warning

from ..errors import InputError
from ..hub import local_model_folder
from ..models.adapters import adapter_config, base_folder, is_adapter, saves_head
from ..models.heads.modeling import MultiAspectRewardModel
from ..models.heads.names import heads_of_model
from ..models.loading import foreign, has_tokenizer, load_tokenizer, model_device
from ..models.named import ModelOutput
from ..models.outputs import CLASSIFIER, HEADS, Outputs
from ..models.published import load_published
from ..models.published.checkpoint import check_weights
from ..models.sidecar import RewardSidecar
from ..runs.identity import digest_of, file_keys
from ..runs.model_identity import model_key
from .scorer import RewardModelScorer

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Wanted:
    """
    What is wanted of one model.

    Args:
        folder (`Path`): The model or adapter.
        outputs ([`Outputs`]): Its outputs.
        chosen (`dict` of `str` to [`ModelOutput`]): What was chosen for each aspect.
    """

    folder: Path
    outputs: Outputs
    chosen: dict[str, ModelOutput]

    def indices(self, outputs: Outputs | None = None) -> list[int]:
        """The output for each aspect; raises `InputError` where there is none."""
        what = self.described("with heads in" if self.outputs.kind == HEADS else "in")
        return [(outputs or self.outputs).index(given, aspect, what) for aspect, given in self.chosen.items()]

    def factors(self, indices: Sequence[int], signs: Sequence[int]) -> list[float]:
        """What the output of each aspect is multiplied by, so that more is better."""
        chosen = zip(indices, self.chosen.values(), strict=True)
        return [(signs[i] if given.sign is None else given.sign) * given.scale for i, given in chosen]

    def key(self) -> str:
        """Hash of the weights, and of what was chosen where something was."""
        key, choices = model_key(self.folder), [given.choice for given in self.chosen.values()]
        return digest_of([key, choices]) if any(choices) else key

    def sidecars(self) -> dict[str, RewardSidecar]:
        """How the output of each aspect was trained."""
        return {
            aspect: RewardSidecar.load(self.folder, given.output or aspect) for aspect, given in self.chosen.items()
        }

    def described(self, where: str = "in") -> str:
        """What messages call the model."""
        return f"The reward model {where} {self.folder}"


def load_model(wanted: Wanted, loading: dict[str, Any]) -> RewardModelScorer:
    """
    The outputs of one model that are wanted, which one pass scores: those of a classifier, heads of ours, or published ones.
    `loading` holds the arguments of `from_pretrained`.
    """
    outputs, signs, pad_token_id = wanted.outputs, wanted.outputs.signs, None
    model: Any
    if outputs.kind == CLASSIFIER and not outputs.named:
        # Only loading says whether there is a head that has these outputs.
        model, tokenizer = _load_plain(wanted, loading)
        indices = wanted.indices()
    elif outputs.kind == CLASSIFIER:
        indices = wanted.indices()
        model, tokenizer = _load_plain(wanted, loading)
    elif outputs.checkpoint is not None and outputs.family is not None:
        indices = wanted.indices()
        check_weights(wanted.folder, wanted.described())
        loaded = load_published(outputs.checkpoint, outputs.family, loading)
        model, tokenizer, signs = loaded.model, loaded.tokenizer, loaded.signs
        logger.info("%s is read as %s, by the names of its tensors.", wanted.described(), outputs.family.name)
    else:
        indices = wanted.indices()
        model, tokenizer, pad_token_id = _load_heads(wanted.folder, outputs.names, loading)
    factors = wanted.factors(indices, signs)
    alone = len(outputs.names) == 1 == len(indices)
    return RewardModelScorer(
        model.to(model_device()), tokenizer, wanted.sidecars(), wanted.key(), heads=None if alone else indices, factors=factors,
        pad_token_id=pad_token_id,
    )  # fmt: skip


def _load_plain(wanted: Wanted, loading: dict[str, Any]) -> tuple[Any, PreTrainedTokenizerBase]:
    what = f"The reward model of aspect '{', '.join(wanted.chosen)}' ({wanted.folder})"
    return _load_classifier(wanted.folder, what, loading), _tokenizer(wanted.folder, loading)


def _load_heads(
    folder: Path, heads: list[str], loading: dict[str, Any]
) -> tuple[Any, PreTrainedTokenizerBase, int | None]:
    """The model, or the adapter of one, that has `heads`; its tokenizer; and the pad token where the model does not say it."""
    what = f"The reward model with heads in {folder}"
    if not is_adapter(folder):
        return _load_classifier(folder, what, loading), _tokenizer(folder, loading), None
    from peft import PeftModel

    base, pad_token_id = base_folder(folder, str(folder)), _pad_of_adapter(folder, loading)
    whole = MultiAspectRewardModel.from_backbone(base, heads, **RewardSidecar.load(folder).reading, **loading)
    _check_head_is_saved(folder, what, ["score.weight"] if heads_of_model(base) is None else [])
    model: Any = PeftModel.from_pretrained(whole, str(folder))
    return model, _tokenizer(folder, loading, base), pad_token_id


def load_adapters(base: str, wanted: Sequence[Wanted], loading: dict[str, Any]) -> RewardModelScorer:
    """The adapters of several aspects, by aspect, on their one base."""
    from peft import PeftModel

    folders = {aspect: entry.folder for entry in wanted for aspect in entry.chosen}
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
    factors = [factor for entry in wanted for factor in entry.factors(entry.indices(), entry.outputs.signs)]
    return RewardModelScorer(
        model.to(model_device()), _tokenizer(first, loading, folder_of_base), sidecars,
        digest_of([entry.key() for entry in wanted for _ in entry.chosen]), adapters=True, factors=factors,
        pad_token_id=_pad_of_adapter(first, loading),
    )  # fmt: skip


def reading_of_adapter(folder: Path, loading: dict[str, Any]) -> str:
    """What decides how an adapter's rows are read. Adapters that read them alike can share a pass."""
    return f"{_pad_of_adapter(folder, loading)} {_tokenizer_files(folder)}"


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


def _load_classifier(folder: Path, what: str, loading: dict[str, Any], headless: bool = False) -> PreTrainedModel:
    advice = "Train one with `PDRewardTrainer` or `pd-trl reward`."
    check_weights(folder, what)
    with foreign(f"{what}, read as a sequence classifier,"):
        # A missing head is reported below, in one line.
        with suppress_seqcls_warning():
            model, info = AutoModelForSequenceClassification.from_pretrained(
                folder, use_safetensors=True, output_loading_info=True, **loading
            )
    missing = [] if headless else sorted({*info["missing_keys"], *_absent_heads(folder, model)})
    if missing:
        raise InputError(
            f"{what} lacks the weights {', '.join(missing[:3])}: it is not a trained reward model. {advice}"
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
