"""[`MultiAspectRewardConfig`]: a backbone's configuration, and the aspects of its heads."""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from transformers import AutoConfig, PretrainedConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_MASKED_LM_MAPPING

from ...errors import InputError

POOLINGS = ("last", "mean", "first")


class MultiAspectRewardConfig(PretrainedConfig):
    """
    Configuration of a [`MultiAspectRewardModel`].

    Args:
        text_config ([`~transformers.PretrainedConfig`] or `dict`, *optional*):
            The backbone's configuration.
        aspects (sequence of `str`, *optional*, defaults to `()`):
            Name of the aspect of each head, in the order of the outputs.
        pooling (`str`, *optional*, defaults to `"last"`):
            Hidden state that the heads read: `"last"`, of the last token that is not padding (decoders); `"mean"`, the mean
            over the response's tokens (decoders); or `"first"`, of the first token, through the backbone's pooler where it
            has one (encoders).
        layers (sequence of `int`, *optional*, defaults to `()`):
            Layers whose hidden states the heads read side by side, counted from 1 and ascending; the last of them is the
            backbone's last layer, which passes the backbone's final norm. None is the last layer alone.
        standardize (`bool`, *optional*, defaults to `False`):
            Whether the heads read each feature minus its mean and over its standard deviation, which are kept with the head.
        head_widths (sequence of `int`, *optional*, defaults to `()`):
            Widths of layers between the hidden state and the outputs, each followed by ReLU. None is one linear head.
        head_bias (`bool`, *optional*, defaults to `False`):
            Whether the layers of the head have a bias.
    """

    model_type = "multi_aspect_reward"
    sub_configs = {"text_config": AutoConfig}
    has_no_defaults_at_init = True

    def __init__(
        self,
        text_config: PretrainedConfig | dict[str, Any] | None = None,
        aspects: Sequence[str] = (),
        pooling: str = "last",
        layers: Sequence[int] = (),
        standardize: bool = False,
        head_widths: Sequence[int] = (),
        head_bias: bool = False,
        **kwargs: Any,
    ):
        if pooling not in POOLINGS:
            raise InputError(f"`pooling` must be one of {', '.join(POOLINGS)}, got {pooling!r}.")
        if isinstance(aspects, str) or not all(isinstance(aspect, str) and aspect for aspect in aspects):
            raise InputError(f"`aspects` must be a list of names, got {aspects!r}.")
        if len(set(aspects)) != len(list(aspects)):
            raise InputError(f"`aspects` must name each aspect once, got {list(aspects)}.")
        if isinstance(text_config, dict):
            text_config = AutoConfig.for_model(**text_config)
        self.text_config, self.aspects, self.pooling = text_config, list(aspects), pooling
        self.layers, self.standardize = check_layers(layers), bool(standardize)
        self.head_widths, self.head_bias = [int(width) for width in head_widths], bool(head_bias)
        self._reads_one_head = False
        kwargs.pop("num_labels", None)
        kwargs["id2label"] = dict(enumerate(self.aspects))
        kwargs["label2id"] = {aspect: k for k, aspect in enumerate(self.aspects)}
        kwargs.setdefault("problem_type", "regression")
        super().__init__(**kwargs)

    @property
    def num_labels(self) -> int:
        """Number of heads; 1 while a trainer reads one head of each row."""
        return 1 if self._reads_one_head else len(self.aspects)

    @num_labels.setter
    def num_labels(self, num_labels: int) -> None:
        # TRL loads reward models with `num_labels=1`; the heads are the aspects', whatever is asked for.
        pass

    @property
    def is_linear(self) -> bool:
        """Whether the head is one linear layer without bias on the features as they are."""
        return not self.head_widths and not self.head_bias and not self.standardize

    @property
    def reads_several_layers(self) -> bool:
        """Whether the heads need the states of layers before the last."""
        return len(self.layers) > 1

    @property
    def num_features(self) -> int:
        """Numbers that the heads read of a conversation."""
        return self.get_text_config().hidden_size * max(1, len(self.layers))

    @property
    def reading(self) -> dict[str, Any]:
        """What of the backbone the heads read, where it is not the last token at the last layer: arguments of this class."""
        found = {"layers": self.layers, "standardize": self.standardize}
        found = {name: value for name, value in found.items() if value}
        return found if self.pooling != "mean" else {"pooling": "mean", **found}

    @contextmanager
    def reading_one_head(self) -> Iterator[None]:
        """A block in which the model passes for one of a single output, which it is for rows that name their aspect."""
        self._reads_one_head = True
        try:
            yield
        finally:
            self._reads_one_head = False

    def to_dict(self) -> dict[str, Any]:
        """As [`~transformers.PretrainedConfig`]'s, without the folder that the backbone came from."""
        content = super().to_dict()
        content.pop("_reads_one_head", None)
        # What is as it was before there was a choice is left out, so that older releases read it and its hash stays.
        for name in ("head_widths", "head_bias", "layers", "standardize"):
            if not content.get(name):
                content.pop(name, None)
        if isinstance(content.get("text_config"), dict):
            content["text_config"].pop("_name_or_path", None)
        return content


def check_layers(layers: Sequence[int]) -> list[int]:
    """The layers as a list; raises `InputError` unless they are numbers from 1 on that ascend."""
    found = list(layers)
    if not all(isinstance(n, int) and not isinstance(n, bool) and n > 0 for n in found) or sorted({*found}) != found:
        raise InputError(f"`layers` must be numbers of layers, counted from 1 and ascending, got {layers!r}.")
    return found


def cut_after(config: PretrainedConfig, layers: Sequence[int], name: str) -> PretrainedConfig:
    """
    A copy of a backbone's configuration that ends with the last of `layers`: what comes behind is not read.

    Raises:
        InputError: When the backbone has fewer layers, or none that can be left out.
    """
    config, wanted = copy.deepcopy(config), max(check_layers(layers))
    if config.get_text_config() is not config or getattr(config, "num_hidden_layers", None) is None:
        raise InputError(f"`layers` cannot be chosen in the backbone {name} ({config.model_type}): leave them out.")
    if wanted > config.num_hidden_layers:
        raise InputError(
            f"The backbone {name} has {config.num_hidden_layers} layers, and `layers` names layer {wanted}."
        )
    for key, value in vars(config).items():
        if key == "layer_types" and value:
            setattr(config, key, list(value)[:wanted])
    config.num_hidden_layers = wanted
    return config


def check_same_reading(
    saved: MultiAspectRewardConfig, pooling: str | None, layers: Sequence[int], standardize: bool, name: str
) -> None:
    """Raises `InputError` where something else is to be read than the saved heads do."""
    asked = {"pooling": pooling, "layers": list(layers), "standardize": standardize}
    for key, value in asked.items():
        if value and value != getattr(saved, key):
            raise InputError(
                f"{name} has heads that read {key}={getattr(saved, key)!r}, not {value!r}. Start from its backbone."
            )


def frozen_reading(config: PretrainedConfig) -> dict[str, Any]:
    """
    What heads on a backbone that is not trained read unless they are told: of decoders the mean over the response at two thirds of
    the depth. Arguments of [`MultiAspectRewardModel.from_backbone`]; empty for a model that has heads.
    """
    if isinstance(config, MultiAspectRewardConfig):
        return {}
    if is_encoder(config):
        return {"standardize": True}
    depth = getattr(config, "num_hidden_layers", None) if config.get_text_config() is config else None
    layers = {"layers": [max(1, round(2 * depth / 3))]} if depth else {}
    return {"pooling": "mean", **layers, "standardize": True}


def pooling_of(config: PretrainedConfig, name: str) -> str:
    """
    How heads read a backbone: `"first"` for encoders, `"last"` for decoders.

    Raises:
        InputError: When the backbone is neither, or comes with code of its own.
    """
    if type(config) not in CONFIG_MAPPING.values():
        raise InputError(
            f"The backbone {name} comes with code of its own, which a model with heads cannot be saved with."
        )
    text = config.get_text_config()
    if config.is_encoder_decoder or not hasattr(text, "hidden_size"):
        raise InputError(
            f"The backbone {name} ({config.model_type}) must be a decoder, such as Llama or Qwen, or an encoder, such as BERT."
        )
    if is_encoder(config):
        return "first"
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING and type(text) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise InputError(f"The backbone {name} ({config.model_type}) is not a language model.")
    return "last"


def is_encoder(config: PretrainedConfig) -> bool:
    """Whether a configuration is of an encoder, such as BERT's."""
    masked = type(config) in MODEL_FOR_MASKED_LM_MAPPING and not config.is_encoder_decoder
    return masked and not getattr(config, "is_decoder", False)


AutoConfig.register(MultiAspectRewardConfig.model_type, MultiAspectRewardConfig)
