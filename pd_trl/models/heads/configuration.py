"""[`MultiAspectRewardConfig`]: a backbone's configuration, and the aspects of its heads."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from transformers import AutoConfig, PretrainedConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_MASKED_LM_MAPPING

from ...errors import InputError

POOLINGS = ("last", "first")


class MultiAspectRewardConfig(PretrainedConfig):
    """
    Configuration of a [`MultiAspectRewardModel`].

    Args:
        text_config ([`~transformers.PretrainedConfig`] or `dict`, *optional*):
            The backbone's configuration.
        aspects (sequence of `str`, *optional*, defaults to `()`):
            Name of the aspect of each head, in the order of the outputs.
        pooling (`str`, *optional*, defaults to `"last"`):
            Hidden state that the heads read: `"last"`, of the last token that is not padding (decoders), or `"first"`, of
            the first token, through the backbone's pooler where it has one (encoders).
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
        """Whether the head is one linear layer without bias, as [`PDRewardTrainer`] trains it."""
        return not self.head_widths and not self.head_bias

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
        if self.is_linear:
            for name in ("head_widths", "head_bias"):
                content.pop(name, None)
        if isinstance(content.get("text_config"), dict):
            content["text_config"].pop("_name_or_path", None)
        return content


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
