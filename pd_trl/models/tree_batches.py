"""Sequences that begin alike in one row, so that the model reads what they share once: their mask, and which models take it."""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedModel

from .probes import rounding

_PREFIX, _PADDING = 0, -1
_ATTENTION = ("sdpa", "eager")


def tree_mask(segments: torch.Tensor) -> torch.Tensor:
    """
    Which token sees which, boolean of shape `(rows, 1, width, width)`: the prefix and its own branch, never what comes later.
    Padding sees padding, so that no row of the softmax is empty.

    Args:
        segments (`torch.Tensor` of shape `(rows, width)`):
            0 in the prefix, 1, 2, … in the branches, -1 in the padding.
    """
    width = segments.shape[1]
    query, key = segments[:, :, None], segments[:, None, :]
    causal = torch.ones(width, width, dtype=torch.bool, device=segments.device).tril_()
    seen = (key == query).logical_or_((key == _PREFIX) & (query != _PADDING)).logical_and_(causal)
    return seen[:, None]


def mask_for(backbone: Any, mask: torch.Tensor) -> torch.Tensor:
    """The boolean mask as it is for `sdpa`, additive for `eager`."""
    if backbone.config._attn_implementation == "sdpa":
        return mask
    dtype = backbone.dtype
    return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill_(~mask, torch.finfo(dtype).min)


def backbone_of(model: Any) -> nn.Module:
    """The decoder under the head of a model, also under PEFT and the wrappers of distributed training."""
    while hasattr(model, "module") and not isinstance(model, PreTrainedModel):
        model = model.module
    if hasattr(model, "get_base_model"):
        model = model.get_base_model()
    return model.base_model


def why_no_trees(model: Any) -> str | None:
    """
    Why a model cannot read a prefix and its branches in one row, or `None` where it can.

    The configuration is checked first. Then a few tokens are run both ways: some architectures accept the mask and the
    positions but do not use them as ours do.
    """
    backbone = backbone_of(model)
    reason = _why_config_cannot(backbone.config, model) or _why_layers_cannot(backbone)
    if reason is not None or any(parameter.is_meta or not parameter.numel() for parameter in backbone.parameters()):
        return reason
    return _why_outputs_differ(backbone)


def _why_config_cannot(config: Any, model: Any) -> str | None:
    if getattr(config, "is_encoder_decoder", False):
        return "it is an encoder-decoder"
    if config.get_text_config() is not config:
        return "it is a model of text and other modalities"
    peft_config = getattr(model, "peft_config", None)
    if peft_config is not None and any(getattr(item, "is_prompt_learning", False) for item in peft_config.values()):
        return "its PEFT adapter puts virtual tokens before the text"
    if config._attn_implementation not in _ATTENTION:
        return f"its attention is {config._attn_implementation!r}; load it with attn_implementation='sdpa'"
    window = getattr(config, "sliding_window", None) if getattr(config, "use_sliding_window", True) else None
    covered = window is None or window >= getattr(config, "max_position_embeddings", np.inf)
    full = {"full_attention", "global", *(["sliding_attention"] if covered else [])}
    kinds = getattr(config, "layer_types", None) or getattr(config, "attention_layers", None) or []
    partial = sorted(set(kinds) - full)
    if partial or (not kinds and not covered):
        return f"some of its layers do not see the whole sequence ({', '.join(partial) or f'a window of {window}'})"
    if getattr(config, "index_topk", None) is not None:
        return "its attention is sparse"
    return None


def _why_layers_cannot(backbone: Any) -> str | None:
    if getattr(backbone, "_is_stateful", False):
        return "its layers carry a state along the sequence"
    if "position_ids" not in inspect.signature(backbone.forward).parameters:
        return "it takes no position ids (ALiBi, for one, has none)"
    if any(getattr(module, "is_causal", True) is False for module in backbone.modules()):
        return "its attention looks in both directions"
    return None


@torch.no_grad()
def _why_outputs_differ(backbone: Any) -> str | None:
    vocabulary = backbone.get_input_embeddings().num_embeddings
    device = next(backbone.parameters()).device
    prefix, *branches = ([token % vocabulary for token in part] for part in ([1, 2, 3], [4, 5], [6, 7, 8]))
    row, positions, segments = torch.tensor(
        [prefix + branches[0] + branches[1], [0, 1, 2, 3, 4, 3, 4, 5], [0, 0, 0, 1, 1, 2, 2, 2]], device=device
    )[:, None]
    mask = mask_for(backbone, tree_mask(segments))
    with _evaluating(backbone):
        try:
            packed = (
                backbone(input_ids=row, position_ids=positions, attention_mask=mask, use_cache=False)
                .last_hidden_state[0]
                .float()
            )
        except (TypeError, ValueError, RuntimeError, IndexError) as error:
            return f"it does not take a 4D attention mask with position ids ({type(error).__name__}: {error})"
        alone = [
            backbone(input_ids=torch.tensor([prefix + branch], device=device), use_cache=False)
            .last_hidden_state[0]
            .float()
            for branch in branches
        ]
    expected = torch.cat([alone[0], alone[1][len(prefix) :]])
    # On an accelerator float32 may be multiplied in a shorter format.
    tolerance = rounding(backbone.dtype) if device.type == "cpu" else max(rounding(backbone.dtype), 1e-2)
    worst = (packed - expected).abs().max().item()
    if worst <= tolerance * max(1.0, expected.abs().max().item()):
        return None
    return f"its hidden states are others under a 4D attention mask (by up to {worst:.2g})"


@contextmanager
def _evaluating(backbone: nn.Module) -> Iterator[None]:
    training = [module for module in backbone.modules() if module.training]
    backbone.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
