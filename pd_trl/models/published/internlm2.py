"""InternLM2's decoder as the Llama decoder that it is: other names, and one matrix for queries, keys and values."""

import re

import torch
from transformers import LlamaConfig, PretrainedConfig

from ...errors import InputError
from .checkpoint import Checkpoint

MODEL_TYPE = "internlm2"
_COPIED = (
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
    "hidden_act", "max_position_embeddings", "initializer_range", "rms_norm_eps", "bos_token_id", "eos_token_id", "pad_token_id",
)  # fmt: skip
_RENAMED = (
    (r"^tok_embeddings\.", "embed_tokens."),
    (r"\.attention_norm\.", ".input_layernorm."),
    (r"\.ffn_norm\.", ".post_attention_layernorm."),
    (r"\.attention\.wo\.", ".self_attn.o_proj."),
    (r"\.feed_forward\.w1\.", ".mlp.gate_proj."),
    (r"\.feed_forward\.w2\.", ".mlp.down_proj."),
    (r"\.feed_forward\.w3\.", ".mlp.up_proj."),
)


def llama_config(checkpoint: Checkpoint) -> PretrainedConfig:
    """The configuration of the Llama decoder; raises `InputError` where the decoder has biases, which Llama's has not."""
    if checkpoint.config.get("bias"):
        raise InputError(f"The decoder in {checkpoint.folder} has biases (`bias=true`), which is not supported.")
    known = {name: checkpoint.config.get(name) for name in _COPIED}
    scaling = dict(checkpoint.config.get("rope_scaling") or {})
    rope = {
        "rope_type": scaling.pop("type", "default"),
        "rope_theta": checkpoint.config.get("rope_theta", 10000),
        **scaling,
    }
    return LlamaConfig(rope_parameters=rope, **{name: value for name, value in known.items() if value is not None})


def llama_weights(checkpoint: Checkpoint, config: PretrainedConfig) -> dict[str, torch.Tensor]:
    """The decoder's tensors by Llama's names."""
    found: dict[str, torch.Tensor] = {}
    for name in checkpoint.files:
        if not name.startswith("model."):
            continue
        new, tensor = name.removeprefix("model."), checkpoint.tensor(name)
        if new.endswith(".attention.wqkv.weight"):
            prefix = new.removesuffix("attention.wqkv.weight")
            for part, weight in zip("qkv", _split(tensor, config), strict=True):
                found[f"{prefix}self_attn.{part}_proj.weight"] = weight
            continue
        for pattern, replacement in _RENAMED:
            new = re.sub(pattern, replacement, new)
        found[new] = tensor
    return found


def _split(weight: torch.Tensor, config: PretrainedConfig) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Queries, keys and values: each group of heads has its queries, then its key and its value."""
    groups, heads = config.num_key_value_heads, config.num_attention_heads
    size = config.hidden_size // heads
    parts = weight.reshape(groups, heads // groups + 2, size, weight.shape[1])
    queries, keys, values = parts[:, :-2], parts[:, -2], parts[:, -1]
    return tuple(part.reshape(-1, weight.shape[1]).contiguous() for part in (queries, keys, values))  # type: ignore[return-value]
