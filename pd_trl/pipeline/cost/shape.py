"""The sizes of a model that decide its cost, from its configuration. No weight is loaded."""

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ...errors import InputError


@dataclass(frozen=True)
class ModelShape:
    """
    Sizes of a transformer that decide its cost.

    Args:
        name (`str`): The model.
        parameters (`int`): Weights, with tied ones counted once, as by `num_parameters`.
        matmul (`int`): Weights of the layers that each token is multiplied with. For a mixture of experts, only
            the experts that a token uses.
        head (`int`): Weights of the head: hidden size times vocabulary, or times the number of rewards.
        layers (`int`): Layers.
        hidden (`int`): Width of the residual stream.
        intermediate (`int`): Width of the MLP.
        heads (`int`): Heads of the attention.
        query (`int`): Heads times the width of one.
        key_value (`int`): Heads of keys (as many as those of values) times the width of one.
        vocabulary (`int`): Tokens.
        positions (`int`, *optional*): Maximum number of tokens of a sequence.
        adapter (`int`): Trained weights of LoRA; 0 without LoRA.
        attention (`str`): Implementation of the attention.
        sparse (`bool`): Whether it is a mixture of experts.
    """

    name: str
    parameters: int
    matmul: int
    head: int
    layers: int
    hidden: int
    intermediate: int
    heads: int
    query: int
    key_value: int
    vocabulary: int
    positions: int | None = None
    adapter: int = 0
    attention: str = "sdpa"
    sparse: bool = False

    @property
    def frozen(self) -> bool:
        """Whether the base is frozen."""
        return self.adapter > 0

    @property
    def trainable(self) -> int:
        """Weights that are trained."""
        return self.adapter or self.parameters


def model_shape(
    config: Any,
    *,
    task: str = "causal",
    outputs: int = 1,
    peft_config: Any = None,
    attention: str | None = None,
    name: str = "model",
    trust_remote_code: bool = False,
) -> ModelShape:
    """
    The shape of a model, counted on the model itself, which is built from its configuration on the meta device.

    Args:
        config ([`~transformers.PreTrainedConfig`]): Configuration.
        task (`str`, *optional*, defaults to `"causal"`): `"causal"` for a language model, `"reward"` for a sequence classifier.
        outputs (`int`, *optional*, defaults to `1`): Rewards of a sequence classifier.
        peft_config ([`~peft.PeftConfig`], *optional*): LoRA to train.
        attention (`str`, *optional*): `attn_implementation`. `None` is `"sdpa"`.
        name (`str`, *optional*, defaults to `"model"`): Name of the model.
        trust_remote_code (`bool`, *optional*, defaults to `False`): Whether to run code that comes with the model.

    Raises:
        InputError: If the model has no class for the task, or sizes are missing from its configuration.
    """
    text = config.get_text_config()
    model: Any = _on_meta(config, task, outputs, attention, trust_remote_code, name)
    parameters = model.num_parameters()
    head, matmul, sparse = _matmul_weights(model, text)
    adapter = 0
    if peft_config is not None:
        adapter = _adapter_weights(model, peft_config)
    try:
        heads = text.num_attention_heads
        width = getattr(text, "head_dim", None) or text.hidden_size // heads
        return ModelShape(
            name=name, parameters=parameters, matmul=matmul, head=head, layers=text.num_hidden_layers, hidden=text.hidden_size,
            intermediate=getattr(text, "intermediate_size", None) or 4 * text.hidden_size, heads=heads, query=heads * width,
            key_value=(getattr(text, "num_key_value_heads", None) or heads) * width, vocabulary=text.vocab_size,
            positions=getattr(text, "max_position_embeddings", None), adapter=adapter, attention=attention or "sdpa",
            sparse=sparse,
        )  # fmt: skip
    except AttributeError as error:
        raise InputError(f"The configuration of {name} lacks a size that the plan needs: {error}.") from None


def _on_meta(
    config: Any, task: str, outputs: int, attention: str | None, trust_remote_code: bool, name: str
) -> nn.Module:
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    kind = AutoModelForSequenceClassification if task == "reward" else AutoModelForCausalLM
    if task == "reward":
        config = copy.deepcopy(config)
        config.num_labels = outputs
    # The weights do not depend on the implementation of the attention, which may not be installed here.
    usable = attention if attention in ("eager", "sdpa") else None
    try:
        with torch.device("meta"):
            return kind.from_config(config, attn_implementation=usable, trust_remote_code=trust_remote_code)
    except (ValueError, KeyError, ImportError) as error:
        raise InputError(
            f"The model {name} cannot be built as {'a reward model' if task == 'reward' else 'a language model'}: "
            f"{' '.join(str(error).split())[:300]}"
        ) from None


def _matmul_weights(model: Any, text: Any) -> tuple[int, int, bool]:
    """Weights of the head; weights of the layers that a token uses; whether there are experts that it does not use."""
    modules = (model.get_output_embeddings(), getattr(model, "score", None), getattr(model, "classifier", None))
    head_module = next((module for module in modules if isinstance(module, nn.Module)), nn.Identity())
    head_ids = {id(p) for p in head_module.parameters()}
    head = sum(p.numel() for p in head_module.parameters() if p.dim() > 1)
    experts = getattr(text, "num_local_experts", None) or getattr(text, "num_experts", None)
    met = getattr(text, "num_experts_per_tok", None)
    share = met / experts if experts and met else 1.0
    embeddings = {id(p) for m in model.modules() if isinstance(m, nn.Embedding) for p in m.parameters()}
    matmul = 0.0
    for name, parameter in model.named_parameters():
        if parameter.dim() < 2 or id(parameter) in embeddings or id(parameter) in head_ids:
            continue
        matmul += parameter.numel() * (share if ".experts." in name else 1.0)
    return head, round(matmul), share < 1


def _adapter_weights(model: Any, peft_config: Any) -> int:
    from peft import get_peft_model

    with torch.device("meta"):
        wrapped = get_peft_model(model, copy.deepcopy(peft_config))
    return sum(p.numel() for p in wrapped.parameters() if p.requires_grad)
