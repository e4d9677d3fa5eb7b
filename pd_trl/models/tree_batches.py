"""Sequences that begin alike, packed so that the model reads what they share once."""

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedModel

from ..errors import InputError
from .probes import rounding

Tree: TypeAlias = tuple[Sequence[int], Sequence[Sequence[int]]]

_PREFIX, _PADDING = 0, -1
_ATTENTION = ("sdpa", "eager")


@dataclass(frozen=True)
class TreeBatch:
    """
    Rows of a prefix and its branches, one after the other.

    Attributes:
        input_ids (`torch.Tensor` of shape `(rows, width)`):
            Tokens: the prefix, each branch, padding.
        position_ids (`torch.Tensor` of shape `(rows, width)`):
            Position of each token in its own sequence: those of a branch go on where the prefix ends.
        segments (`torch.Tensor` of shape `(rows, width)`):
            0 in the prefix, 1, 2, … in the branches, -1 in the padding.
        last (`torch.Tensor` of shape `(num_branches, 2)`):
            Row and column of the last token of each branch, trees and branches in their order. For an empty branch that is
            the last token of the prefix.
        num_tokens (`int`):
            Tokens without the padding.
    """

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    segments: torch.Tensor
    last: torch.Tensor
    num_tokens: int

    @property
    def attention_mask(self) -> torch.Tensor:
        """
        Which token sees which, boolean of shape `(rows, 1, width, width)`: the prefix and its own branch, never what comes
        later. Padding sees padding, so that no row of the softmax is empty.
        """
        return tree_mask(self.segments)

    def to(self, device: torch.device | str) -> "TreeBatch":
        """The batch on another device. The mask is built there."""
        moved = {name: getattr(self, name).to(device, non_blocking=True) for name in _TENSORS}
        return replace(self, **moved)

    def inputs_for(self, model: Any) -> dict[str, torch.Tensor]:
        """What a backbone takes: `input_ids`, `position_ids` and `attention_mask` in the form that its attention wants."""
        mask = mask_for(backbone_of(model), self.attention_mask)
        return {"input_ids": self.input_ids, "position_ids": self.position_ids, "attention_mask": mask}

    def last_hidden(self, hidden: torch.Tensor) -> torch.Tensor:
        """Hidden states at the last token of each branch, shape `(num_branches, hidden_size)`."""
        return hidden[self.last[:, 0], self.last[:, 1]]


_TENSORS = ("input_ids", "position_ids", "segments", "last")


def tree_batch(trees: Sequence[Tree], pad_token_id: int) -> TreeBatch:
    """
    Packs trees, one a row.

    Args:
        trees (`list` of `tuple`):
            Prefix and branches of each, as token ids. A branch may be empty (the prefix is the whole sequence), and so may
            a prefix (the branches share nothing).
        pad_token_id (`int`):
            Token that fills the rows; no other token sees it.

    Returns:
        [`TreeBatch`]

    Raises:
        InputError: When there is no tree, a tree has no branch, or a prefix and one of its branches are both empty.

    Example:

    ```python
    >>> batch = tree_batch([([5, 6, 7], [[8, 9], [10]])], pad_token_id=0)
    >>> batch.input_ids, batch.position_ids
    (tensor([[ 5,  6,  7,  8,  9, 10]]), tensor([[0, 1, 2, 3, 4, 3]]))
    ```
    """
    if not len(trees) or any(not len(branches) for _, branches in trees):
        raise InputError("A tree batch needs at least one tree, and each tree at least one branch.")
    parts = [np.asarray(part, dtype=np.int64) for prefix, branches in trees for part in (prefix, *branches)]
    lengths = np.array([part.size for part in parts])
    parts_of_row = np.array([1 + len(branches) for _, branches in trees])
    first = np.cumsum(parts_of_row) - parts_of_row
    row = np.repeat(np.arange(len(trees)), parts_of_row)
    segment = np.arange(len(parts)) - first[row]
    prefix_length = lengths[first][row]
    before = np.cumsum(lengths) - lengths
    column = before - before[first][row]
    is_branch = segment != _PREFIX
    if (is_branch & (prefix_length + lengths == 0)).any():
        raise InputError(
            "A tree batch cannot hold an empty sequence: a prefix and one of its branches are both empty."
        )

    width = int(np.add.reduceat(lengths, first).max())
    part = np.repeat(np.arange(len(parts)), lengths)
    within = np.arange(lengths.sum()) - before[part]
    cell = (row[part], column[part] + within)
    input_ids = np.full((len(trees), width), pad_token_id, dtype=np.int64)
    position_ids = np.zeros_like(input_ids)
    segments = np.full_like(input_ids, _PADDING)
    input_ids[cell] = np.concatenate(parts)
    position_ids[cell] = within + np.where(is_branch, prefix_length, 0)[part]
    segments[cell] = segment[part]
    last_column = np.where(lengths > 0, column + lengths, prefix_length) - 1
    last = np.stack([row, last_column], axis=1)[is_branch]
    ids, positions, parts_of_cells, ends = map(torch.from_numpy, (input_ids, position_ids, segments, last))
    return TreeBatch(ids, positions, parts_of_cells, ends, num_tokens=int(lengths.sum()))


def tree_mask(segments: torch.Tensor) -> torch.Tensor:
    """Boolean mask of shape `(rows, 1, width, width)` of rows with these segments (see [`TreeBatch`])."""
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
    if hasattr(model, "peft_config") and hasattr(model, "get_base_model"):
        model = model.get_base_model()
    return model.base_model


def why_no_trees(model: Any) -> str | None:
    """
    Why a model cannot take tree batches, or `None` where it can.

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
    prefix, branches = [1, 2, 3], [[4, 5], [6, 7, 8]]
    vocabulary = backbone.get_input_embeddings().num_embeddings
    prefix, *branches = ([token % vocabulary for token in part] for part in (prefix, *branches))
    device = next(backbone.parameters()).device
    batch = tree_batch([(prefix, branches)], pad_token_id=0).to(device)
    with _evaluating(backbone):
        try:
            packed = backbone(**batch.inputs_for(backbone), use_cache=False).last_hidden_state[0].float()
        except (TypeError, ValueError, RuntimeError, IndexError) as error:
            return f"it does not take a 4D attention mask with position ids ({type(error).__name__}: {error})"
        alone = [
            backbone(input_ids=torch.tensor([prefix + branch], device=device), use_cache=False)
            .last_hidden_state[0]
            .float()
            for branch in branches
        ]
    split = len(prefix), len(prefix) + len(branches[0])
    expected = torch.cat([alone[0], alone[1][split[0] :]])
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
