"""[`load_published`]: a published reward model as a [`MultiAspectRewardModel`], with its tokenizer."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jinja2 import TemplateError
from transformers import AutoConfig, AutoModel, LlamaModel, PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from ...errors import InputError
from ..heads.configuration import MultiAspectRewardConfig
from ..heads.modeling import MultiAspectRewardModel
from ..heads.names import other_heads_left_out
from ..loading import foreign, load_tokenizer
from . import internlm2
from .checkpoint import Checkpoint
from .families import Family, Head, head_of

# What a configuration says of code, and of outputs, which are the head's.
_NOT_BACKBONE = ("auto_map", "num_labels", "id2label", "label2id", "problem_type")


@dataclass(frozen=True)
class LoadedModel:
    """
    A published reward model.

    Args:
        model ([`MultiAspectRewardModel`]): The model, with the outputs as they were published.
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]): Its tokenizer, with the template and the end that it was trained with.
        signs (`list` of `int`): -1 for an output of which less is better.
    """

    model: MultiAspectRewardModel
    tokenizer: PreTrainedTokenizerBase
    signs: list[int]


def load_published(
    checkpoint: Checkpoint, family: Family, loading: dict[str, Any], tokenizer: Path | None = None
) -> LoadedModel:
    """
    Loads a checkpoint without running code that comes with it.

    Args:
        checkpoint ([`Checkpoint`]): The folder.
        family ([`Family`]): Its family.
        loading (`dict`): Arguments of `from_pretrained`; `trust_remote_code` has no effect.
        tokenizer (`Path`, *optional*): Where the tokenizer is, if not beside the model.

    Raises:
        InputError: When weights or the tokenizer cannot be read.
    """
    options = {name: value for name, value in loading.items() if name != "trust_remote_code"}
    head = head_of(family, checkpoint)
    backbone = _backbone(checkpoint, options)
    own = _tokenizer(checkpoint, family, tokenizer)
    pad = _pad_token(backbone.config, own, family.reads_last)
    backbone.config.get_text_config().pad_token_id = backbone.config.pad_token_id = pad
    return LoadedModel(_with_head(backbone, head), own, list(head.signs))


def _backbone(checkpoint: Checkpoint, options: dict[str, Any]) -> PreTrainedModel:
    what = f"The backbone of the reward model in {checkpoint.folder}"
    with foreign(what):
        if checkpoint.config.get("model_type") == internlm2.MODEL_TYPE:
            config = internlm2.llama_config(checkpoint)
            model, info = LlamaModel.from_pretrained(
                None,
                config=config,
                state_dict=internlm2.llama_weights(checkpoint, config),
                output_loading_info=True,
                **options,
            )
        else:
            with other_heads_left_out():
                model, info = AutoModel.from_pretrained(
                    checkpoint.folder, config=_known_config(checkpoint, what), use_safetensors=True, output_loading_info=True,
                    key_mapping={r"^transformer\.": ""}, **options,
                )  # fmt: skip
    if missing := sorted(info["missing_keys"]):
        raise InputError(f"{what} lacks the weights {', '.join(missing[:3])}.")
    return model


def _known_config(checkpoint: Checkpoint, what: str) -> PretrainedConfig:
    """The configuration of the backbone by transformers' own class, whatever code the checkpoint names."""
    content = {name: value for name, value in checkpoint.config.items() if name not in _NOT_BACKBONE}
    kind = content.pop("model_type", None)
    if kind not in CONFIG_MAPPING:
        raise InputError(
            f"{what} is of the type {kind!r}, which transformers does not know; code of a model is not run."
        )
    return AutoConfig.for_model(kind, **content)


def _with_head(backbone: PreTrainedModel, head: Head) -> MultiAspectRewardModel:
    widths = [len(weight) for weight, _ in head.layers[:-1]]
    config = MultiAspectRewardConfig(
        text_config=backbone.config, aspects=head.names, pooling="last", head_widths=widths,
        head_bias=any(bias is not None for _, bias in head.layers),
        attn_implementation=backbone.config._attn_implementation,
    )  # fmt: skip
    # The backbone is held once: the one that belongs to the empty model is without weights.
    with torch.device("meta"):
        model = MultiAspectRewardModel(config)
    model.model = backbone
    model.score = model.score.to_empty(device=backbone.device).to(backbone.dtype)
    with torch.no_grad():
        for layer, (weight, bias) in zip(model.head_layers, head.layers, strict=True):
            if layer.weight.shape != weight.shape:
                raise InputError(
                    f"The head reads {weight.shape[1]} values, and the backbone gives {layer.weight.shape[1]}: they are not of one model."
                )
            layer.weight.copy_(weight)
            if layer.bias is not None:
                layer.bias.copy_(torch.zeros(len(weight)) if bias is None else bias)
    model.config.dtype = backbone.dtype
    return model.eval()


def _tokenizer(checkpoint: Checkpoint, family: Family, given: Path | None) -> PreTrainedTokenizerBase:
    what = f"the reward model in {checkpoint.folder}"
    try:
        tokenizer = load_tokenizer(given or checkpoint.folder, what)
    except InputError as error:
        raise InputError(
            f"{error} Code of its own is not run. Convert the model with another one: `pd-trl convert --tokenizer FOLDER`."
        ) from None
    if not tokenizer.chat_template:
        tokenizer.chat_template = family.template(checkpoint)
    end = family.end_token(checkpoint)
    if end is not None:
        _end_with(tokenizer, end, what)
    return tokenizer


def _end_with(tokenizer: PreTrainedTokenizerBase, token: int, what: str) -> None:
    """Lets every conversation and every plain text end with a token, which the reward is read at."""
    text = tokenizer.convert_ids_to_tokens(token) if 0 <= token < len(tokenizer) else None
    if not isinstance(text, str) or tokenizer.encode(text, add_special_tokens=False) != [token]:
        raise InputError(
            f"The tokenizer of {what} has no token of id {token} that a text can hold, which ends every conversation of this model. "
            "Take the model's own tokenizer."
        )
    tokenizer.eos_token = text
    if tokenizer.chat_template and text not in str(tokenizer.chat_template):
        tokenizer.chat_template = f"{tokenizer.chat_template}{{{{ '{text}' }}}}"


def _pad_token(config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase, reads_last: bool) -> int | None:
    """
    The pad token to read rewards with. Our models read at the last token that differs from it, so that a family that reads the
    last token whatever it is needs one that ends no text.
    """
    stated = config.get_text_config().pad_token_id
    if not reads_last:
        return tokenizer.pad_token_id if stated is None else stated
    ends = {tokenizer.eos_token_id, _last_of_chat(tokenizer)}
    candidates = (
        tokenizer.pad_token_id,
        stated,
        tokenizer.bos_token_id,
        tokenizer.unk_token_id,
        *range(len(ends) + 1),
    )
    size = config.get_text_config().vocab_size
    pad = next(token for token in candidates if token is not None and 0 <= token < size and token not in ends)
    if pad != tokenizer.pad_token_id:
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(pad)
    return int(pad)


def _last_of_chat(tokenizer: PreTrainedTokenizerBase) -> int | None:
    if not tokenizer.chat_template:
        return None
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "a"}]
    try:
        return tokenizer.apply_chat_template(turns, tokenize=True, return_dict=True)["input_ids"][-1]
    except (TemplateError, TypeError, ValueError, KeyError, IndexError):
        return None  # a template that takes other messages says so where it gets them
