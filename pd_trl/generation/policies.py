"""[`PolicySource`]: the language model that answers, its tokenizer, and the key of both."""

import logging
import os
import platform
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import torch
from transformers import AutoConfig, PreTrainedModel, PreTrainedTokenizerBase

from ..errors import InputError, InputTypeError
from ..hub import local_model_folder
from ..models.adapters import base_folder, is_adapter
from ..models.language_models import load_language_model
from ..models.loading import load_tokenizer, model_device, model_dtype
from ..runs.model_identity import memory_key, model_key
from .padding import check_language_model

logger = logging.getLogger(__name__)

Policy: TypeAlias = str | os.PathLike | tuple[PreTrainedModel, PreTrainedTokenizerBase]


@dataclass
class PolicySource:
    """
    A language model: a folder, a Hub id, a LoRA adapter, or a model in memory with its tokenizer. Its weights are loaded when
    they are first asked for.

    Args:
        model (`str`, path, or tuple of model and tokenizer): The model.
        revision (`str`, *optional*): Revision on the Hub.
        dtype (`torch.dtype` or `str`, *optional*): See [`model_dtype`].
        trust_remote_code (`bool`, *optional*, defaults to `False`): Whether to run code that comes with the model.
    """

    model: Policy
    revision: str | None = None
    dtype: torch.dtype | str | None = None
    trust_remote_code: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.model, (str, os.PathLike)):
            return
        if not (isinstance(self.model, tuple) and len(self.model) == 2 and hasattr(self.model[0], "generate")):
            raise InputTypeError(
                "`model` must be a folder, a Hub id, or a tuple of a language model and its tokenizer, got "
                f"{type(self.model).__name__}."
            )

    @property
    def name(self) -> str:
        """Last part of the folder or id, as the name of the generator."""
        source = (
            self.model if not isinstance(self.model, tuple) else getattr(self.model[0].config, "_name_or_path", "")
        )
        return Path(str(source).partition("@")[0]).name or "model"

    @cached_property
    def folder(self) -> Path:
        """Local folder of the model or adapter."""
        if isinstance(self.model, tuple):
            raise InputError("A model in memory has no folder: save it, and pass the folder.")
        return local_model_folder(self.model, revision=self.revision)

    @cached_property
    def base(self) -> Path | None:
        """Local folder of the base model where the model is an adapter."""
        return base_folder(self.folder, f"the adapter {self.model}") if is_adapter(self.folder) else None

    def check(self) -> None:
        """Raises `InputError` where the model is of a kind that writes no text. Loads no weights."""
        if isinstance(self.model, tuple):
            config: Any = self.model[0].config
        else:
            place = self.base or self.folder
            try:
                config = AutoConfig.from_pretrained(place, trust_remote_code=self.trust_remote_code)
            except (OSError, ValueError, KeyError):
                return  # loading says what is wrong
        check_language_model(config, f"The model {self.name}")

    @cached_property
    def digest(self) -> str:
        """Key of the model with its base and its tokenizer."""
        return memory_key(*self.model) if isinstance(self.model, tuple) else model_key(self.folder)

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The model's tokenizer; an adapter's own goes before its base's."""
        if isinstance(self.model, tuple):
            return self.model[1]
        return load_tokenizer(
            self.folder, f"the model {self.model}", base=self.base, trust_remote_code=self.trust_remote_code
        )

    @property
    def resolved_dtype(self) -> torch.dtype:
        """The type that the weights are loaded in."""
        return self.model[0].dtype if isinstance(self.model, tuple) else model_dtype(self.dtype)

    @cached_property
    def loaded(self) -> Any:
        """The model on its device, in evaluation mode unless it is the caller's."""
        if isinstance(self.model, tuple):
            return self.model[0]
        model = load_language_model(
            self.folder, self.base, self.resolved_dtype, {"trust_remote_code": self.trust_remote_code}
        )
        return model.to(model_device()).eval()


@dataclass(frozen=True)
class PlacedPolicy:
    """
    A [`PolicySource`] for other machines: names of its weights, and what they must be there.

    Args:
        model (`str`): Its folder, by the whole path, or its Hub id.
        revision, trust_remote_code: See [`PolicySource`].
        dtype (`torch.dtype`): Type of the weights.
        asked (`torch.dtype` or `str`, *optional*): What the user asked for. `None` and `"auto"` depend on the machine: the type is
            that of the one where the command was started.
        digest (`str`): Key of the model.
    """

    model: str
    revision: str | None
    trust_remote_code: bool
    dtype: torch.dtype
    asked: torch.dtype | str | None
    digest: str

    @classmethod
    def of(cls, source: PolicySource) -> "PlacedPolicy":
        """The same policy for other machines. Raises `InputError` where it is in memory."""
        folder, name = source.folder, str(source.model)
        local = Path(name).expanduser().is_dir()
        return cls(
            str(folder.absolute()) if local else name, source.revision, source.trust_remote_code, source.resolved_dtype,
            source.dtype, source.digest,
        )  # fmt: skip

    def source(self) -> PolicySource:
        """The policy on this machine. Raises `InputError` where it is absent, or another one."""
        here = platform.node()
        if Path(self.model).is_absolute() and not Path(self.model).is_dir():
            raise InputError(
                f"{self.model} is not there on {here}: a model must lie on a disk that all machines share, or be a Hub id."
            )
        source = PolicySource(self.model, self.revision, self.dtype, self.trust_remote_code)
        if source.digest != self.digest:
            raise InputError(
                f"The model {self.model} on {here} is another one than where the command was started. Give both the same files, or "
                "name a revision."
            )
        if model_dtype(self.asked) != self.dtype:
            logger.warning(
                "Weights are %s, as where the command was started; the devices of Ray's actors would take %s. Name one with --dtype.",
                self.dtype, model_dtype(self.asked),
            )  # fmt: skip
        return source
