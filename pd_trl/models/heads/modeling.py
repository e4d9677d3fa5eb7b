"""[`MultiAspectRewardModel`]: rewards of several aspects from one pass of one backbone."""

import os
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput
from transformers.utils import can_return_tuple

from ...data.validation import check_aspect_names
from ...errors import InputError
from .configuration import MultiAspectRewardConfig, check_same_reading, cut_after, pooling_of
from .names import head_indices, other_heads_left_out
from .reading import head_of, mean_over, new_head, states_of


class MultiAspectRewardModel(PreTrainedModel):
    """
    A backbone with a linear reward head for each aspect, without bias as in transformers' sequence classifiers. With one head it
    gives the rewards of the backbone's `…ForSequenceClassification` (decoders).

    Trained by [`PDRewardTrainer`] on pairs of all aspects, each pair by its own aspect's head. `from_pretrained`,
    `save_pretrained`, `push_to_hub` and `AutoModelForSequenceClassification` work as with any model, once this module is
    imported; adapters need `modules_to_save=["score"]`, which [`PDRewardTrainer`] adds.

    Example:

    ```python
    >>> from pd_trl.models.heads import MultiAspectRewardModel

    >>> model = MultiAspectRewardModel.from_backbone("Qwen/Qwen2.5-0.5B-Instruct", ["helpfulness", "honesty"])
    >>> model(input_ids).logits.shape  # (batch_size, 2)
    ```

    Args:
        config ([`MultiAspectRewardConfig`]):
            The backbone's configuration and the aspects.
    """

    config_class = MultiAspectRewardConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    # Whether the backbone has them is the backbone's to say.
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True

    def __init__(self, config: MultiAspectRewardConfig):
        super().__init__(config)
        if config.text_config is None or not config.aspects:
            raise InputError("A `MultiAspectRewardConfig` needs a `text_config` and at least one aspect.")
        self.model = AutoModel.from_config(config.text_config)
        self.score = head_of(config)
        self.post_init()

    @classmethod
    def from_backbone(
        cls,
        backbone: str | os.PathLike,
        aspects: Sequence[str],
        *,
        pooling: str | None = None,
        layers: Sequence[int] = (),
        standardize: bool = False,
        **kwargs: Any,
    ) -> "MultiAspectRewardModel":
        """
        A model with new heads, drawn as transformers draws a classifier's, on a pretrained backbone. A folder that holds a
        `MultiAspectRewardModel` of the same aspects is loaded as it is, its heads put in the order of `aspects`.

        Args:
            backbone (`str`):
                Folder or Hub id of a language model, a sequence classifier (whose head is left out) or a plain backbone.
            aspects (sequence of `str`):
                Aspects of the heads.
            pooling (`str`, *optional*):
                What the heads read: `"last"`, the last token, or `"mean"`, the mean over the response's tokens, of decoders;
                `"first"`, of encoders. `None` is `"last"` or `"first"`.
            layers (sequence of `int`, *optional*, defaults to `()`):
                Layers to read side by side, counted from 1 and ascending. The backbone is cut after the last of them, which is
                read through the backbone's final norm. None is the backbone's last layer.
            standardize (`bool`, *optional*, defaults to `False`):
                Whether the heads read standardized features. [`PDRewardTrainer`] measures mean and standard deviation on its
                training set; the heads then start at 0.
            kwargs:
                Arguments of `from_pretrained`; `dtype` is float32 where not given.

        Raises:
            InputError: On aspects that are no names or not distinct, a backbone that is neither decoder nor encoder, or what
                cannot be read of it.
        """
        aspects = list(aspects)
        check_aspect_names(aspects)
        if not aspects or len(set(aspects)) < len(aspects):
            raise InputError(f"`aspects` must be distinct, and at least one, got {aspects}.")
        if kwargs.get("quantization_config") is not None:
            raise InputError("Heads on a quantized backbone are not supported. Train an adapter for each aspect.")
        kwargs["dtype"] = _dtype(kwargs.get("dtype"))
        named = {key: kwargs[key] for key in ("revision", "trust_remote_code", "token", "cache_dir") if key in kwargs}
        try:
            saved = AutoConfig.from_pretrained(backbone, **named)
        except (OSError, ValueError) as error:
            raise InputError(f"{backbone} has no usable config.json: {' '.join(str(error).split())}") from None
        if isinstance(saved, MultiAspectRewardConfig):
            check_same_reading(saved, pooling, layers, standardize, str(backbone))
            return cls._reordered(cls.from_pretrained(backbone, **kwargs), aspects, str(backbone))
        natural = pooling_of(saved, str(backbone))
        pooling = pooling or natural
        if (pooling == "first") != (natural == "first"):
            known = "'first'" if natural == "first" else "'last' and 'mean'"
            raise InputError(f"The backbone {backbone} ({saved.model_type}) is read by {known}, not by {pooling!r}.")
        if layers:
            kwargs["config"] = cut_after(saved, layers, str(backbone))
        with other_heads_left_out(of_layers=bool(layers)):
            loaded = AutoModel.from_pretrained(backbone, **kwargs)
        config = MultiAspectRewardConfig(
            text_config=loaded.config,
            aspects=aspects,
            pooling=pooling,
            layers=layers,
            standardize=standardize,
            attn_implementation=loaded.config._attn_implementation,
        )
        # The backbone is held once: the one that belongs to the empty model is without weights.
        with torch.device("meta"):
            model = cls(config)
        model.model = loaded
        model.score = new_head(config, dtype=loaded.dtype, device=loaded.device)
        model.config.dtype = loaded.dtype
        model.config.name_or_path = model.name_or_path = str(backbone)
        return model.eval()

    @staticmethod
    def _reordered(model: "MultiAspectRewardModel", aspects: list[str], name: str) -> "MultiAspectRewardModel":
        if set(aspects) != set(model.config.aspects):
            raise InputError(
                f"{name} has heads for {', '.join(model.config.aspects)}, not for {', '.join(aspects)}. Start from its backbone, "
                "or train the same aspects."
            )
        with torch.no_grad():
            order, last = model.heads_of(aspects), model.head_layers[-1]
            for part in (last.weight, last.bias):
                if part is not None:
                    part.copy_(part[order].clone())
        own = model.config
        own.aspects, own.id2label = aspects, dict(enumerate(aspects))
        own.label2id = {aspect: k for k, aspect in enumerate(aspects)}
        return model

    @property
    def head_layers(self) -> list[nn.Linear]:
        """The linear layers of the head, of which the last has an output for each aspect."""
        return [layer for layer in self.score.modules() if isinstance(layer, nn.Linear)]

    @property
    def aspects(self) -> list[str]:
        """Aspects of the heads, in the order of the outputs."""
        return list(self.config.aspects)

    def heads_of(self, aspects: Sequence[str]) -> list[int]:
        """
        Output of each of `aspects`.

        Raises:
            InputError: When one has no head.
        """
        return head_indices(self.config.aspects, aspects, "The model")

    def get_input_embeddings(self) -> nn.Module:
        """The backbone's."""
        return self.model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Sets the backbone's."""
        self.model.set_input_embeddings(value)

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        aspect_ids: torch.LongTensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        response_mask: torch.Tensor | None = None,
        features: torch.Tensor | None = None,
        labels: None = None,
        margin: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> SequenceClassifierOutput:
        """
        Args:
            input_ids (`torch.LongTensor` of shape `(batch_size, sequence_length)`, *optional*):
                Token ids.
            attention_mask (`torch.Tensor` of shape `(batch_size, sequence_length)`, *optional*):
                1 for tokens, 0 for padding.
            aspect_ids (`torch.LongTensor` of shape `(batch_size,)`, *optional*):
                Head to read for each row. `None` is all.
            inputs_embeds (`torch.Tensor` of shape `(batch_size, sequence_length, hidden_size)`, *optional*):
                In place of `input_ids`.
            response_mask (`torch.Tensor` of shape `(batch_size, sequence_length)`, *optional*):
                1 for the tokens of the response, its end tokens too. Only mean pooling reads it, and needs it.
            features (`torch.Tensor` of shape `(batch_size, num_features)`, *optional*):
                What [`read`] gave before, in place of a pass of the backbone.
            labels (*optional*):
                Must be `None`: the loss is the trainer's.
            margin (*optional*):
                Not read: TRL hands a batch's margins to the model too.
            kwargs:
                Further arguments of the backbone.

        Returns:
            [`~transformers.modeling_outputs.SequenceClassifierOutput`]: `logits` of shape `(batch_size, num_aspects)`, or
            `(batch_size, 1)` with `aspect_ids`.
        """
        if labels is not None:
            raise InputError("`MultiAspectRewardModel` has no loss of its own: train it with `PDRewardTrainer`.")
        outputs = None
        if features is None:
            outputs = self._states(input_ids, attention_mask=attention_mask, inputs_embeds=inputs_embeds, **kwargs)
            features = self.pooled(outputs, input_ids, response_mask)
        logits = self.score(features.to(self.head_dtype))
        if aspect_ids is not None:
            logits = logits.gather(1, aspect_ids.to(logits.device)[:, None])
        return SequenceClassifierOutput(
            logits=logits,
            hidden_states=getattr(outputs, "hidden_states", None),
            attentions=getattr(outputs, "attentions", None),
        )

    def _states(self, input_ids: torch.LongTensor | None, **kwargs: Any) -> Any:
        """The backbone's outputs, with what the heads read."""
        arguments = {name: value for name, value in kwargs.items() if value is not None}
        if self.config.pooling == "first":
            arguments.pop("use_cache", None)
        if self.config.reads_several_layers:
            arguments["output_hidden_states"] = True
        return self.model(input_ids, **arguments)

    @torch.no_grad()
    def read(
        self,
        input_ids: torch.LongTensor,
        attention_mask: torch.Tensor | None = None,
        response_mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """
        What the heads read of each row, without dropout and gradients, shape `(batch_size, num_features)`. [`forward`] takes it as
        `features`.
        """
        training = self.model.training
        self.model.eval()
        try:
            outputs = self._states(input_ids, attention_mask=attention_mask, use_cache=False)
            return self.pooled(outputs, input_ids, response_mask)
        finally:
            self.model.train(training)

    @property
    def head_dtype(self) -> torch.dtype:
        """Type of the head's weights."""
        return next(self.score.parameters()).dtype

    def pooled(
        self, outputs: Any, input_ids: torch.LongTensor | None, response_mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        """
        The features that the heads read, shape `(batch_size, num_features)`, from the backbone's outputs: in a decoder the mean
        over the response, or the state of the rightmost token that differs from the pad token, as in transformers' sequence
        classifiers.
        """
        hidden = states_of(outputs, self.config.layers)
        if self.config.pooling == "mean":
            if response_mask is None:
                raise InputError(
                    "The heads read the mean over the response, and `response_mask` does not say where that is. Use "
                    "`score_responses` or `score_pairs`, which know it, or pass a mask of the response's tokens."
                )
            return mean_over(hidden, response_mask)
        if self.config.pooling == "first":
            pooler = getattr(outputs, "pooler_output", None)
            return hidden[:, 0] if pooler is None else pooler
        pad = self.config.get_text_config().pad_token_id
        if input_ids is None:
            return hidden[:, -1]
        if pad is None:
            if hidden.shape[0] > 1:
                raise InputError(
                    "Rows cannot be batched without a pad token. Set `model.config.text_config.pad_token_id`."
                )
            return hidden[:, -1]
        positions = torch.arange(input_ids.shape[1], device=hidden.device)
        last = (positions * (input_ids != pad).to(hidden.device)).argmax(-1)
        return hidden[torch.arange(hidden.shape[0], device=hidden.device), last]


def _dtype(value: Any) -> Any:
    if value is None:
        return torch.float32
    return getattr(torch, value) if isinstance(value, str) and value != "auto" else value


AutoModelForSequenceClassification.register(MultiAspectRewardConfig, MultiAspectRewardModel)
