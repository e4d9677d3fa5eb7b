"""Pairs packed one a row, and the attention of such rows."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from ...models.tree_batches import mask_for, tree_mask

# Cells of a packed batch, as a share of those of the padded one, up to which packing is worth its work.
MOST_CELLS = 0.9

_SPLIT_SDPA = "pd_trl_split_sdpa"


@dataclass(frozen=True)
class PackedPairs:
    """
    Pairs packed one a row: the chosen side, padded, then what the rejected side does not share with it, padded.

    Attributes:
        input_ids, position_ids, segments (`torch.Tensor` of shape `(num_pairs, width)`):
            Tokens, their positions in their own side, and the segments of [`tree_mask`]: what both sides share, the rest of the
            chosen one, the rest of the rejected one.
        source (`torch.Tensor` of shape `(2 * num_pairs, length)`):
            Where each cell of the padded batch is in the packed one, as an index into its cells. That of padding is any.
        num_chosen (`int`):
            Columns of the chosen sides.
        num_shared (`int`):
            Columns that hold all that is shared.
    """

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    segments: torch.Tensor
    source: torch.Tensor
    num_chosen: int
    num_shared: int

    def inputs_for(self, backbone: Any, split: bool = False) -> dict[str, torch.Tensor]:
        """What a backbone takes. With `split`, within [`splitting_attention`], attention is computed in two parts."""
        mask = tree_mask(self.segments)
        if split:
            # Lost where something copies the mask: attention is then computed in one part, from the same mask.
            mask.pd_trl_split = (self.num_chosen, self.num_shared)  # type: ignore[attr-defined]
        else:
            mask = mask_for(backbone, mask)
        return {"input_ids": self.input_ids, "position_ids": self.position_ids, "attention_mask": mask}

    def unpack(self, hidden: torch.Tensor) -> torch.Tensor:
        """Hidden states in the layout of the padded batch, shape `(2 * num_pairs, length, hidden_size)`."""
        return hidden.flatten(0, 1).index_select(0, self.source.flatten()).unflatten(0, self.source.shape)


def pack_pairs(input_ids: torch.Tensor, attention_mask: torch.Tensor) -> PackedPairs | None:
    """
    Packs a batch of TRL's collators: all chosen sides, then all rejected ones, padded on the right.

    Args:
        input_ids (`torch.Tensor` of shape `(2 * num_pairs, length)`):
            Tokens.
        attention_mask (`torch.Tensor` of shape `(2 * num_pairs, length)`):
            1 where there is a token.

    Returns:
        [`PackedPairs`], or `None` where packing does not pay (more than `MOST_CELLS` of the cells) or padding is not on the
        right.
    """
    length, device = input_ids.shape[1], input_ids.device
    real = attention_mask.bool()
    (chosen, rejected), (chosen_real, rejected_real) = input_ids.chunk(2), real.chunk(2)
    shared = ((chosen == rejected) & chosen_real & rejected_real).cumprod(dim=1).sum(dim=1, keepdim=True)
    chosen_length, rejected_length = real.sum(dim=1, keepdim=True).chunk(2)
    left_padded = (real[:, 1:] & ~real[:, :-1]).any()
    # One transfer from the device for all.
    facts = [chosen_length.max(), (rejected_length - shared).max(), shared.max(), left_padded.to(shared.dtype)]
    num_chosen, num_rest, num_shared, left_padded_rows = torch.stack(facts).tolist()
    width = num_chosen + num_rest
    if left_padded_rows or width > MOST_CELLS * 2 * length:
        return None
    step = torch.arange(length, device=device).expand_as(chosen)
    # Step of the rejected side in each column of its part.
    rest = shared + step[:, :num_rest]
    rest_real = rest < rejected_length
    rest = rest.clamp(max=length - 1)
    tokens = torch.cat([chosen[:, :num_chosen], rejected.gather(1, rest)], dim=1)
    position = torch.cat([step[:, :num_chosen], rest], dim=1)
    in_chosen = (step >= shared).long().masked_fill(~chosen_real, -1)[:, :num_chosen]
    segments = torch.cat([in_chosen, torch.where(rest_real, 2, -1)], dim=1)
    rejected_column = torch.where(step < shared, step, num_chosen + step - shared)
    column = torch.cat([step.clamp(max=num_chosen - 1), rejected_column.clamp(max=width - 1)])
    row = torch.arange(len(chosen), device=device).repeat(2)[:, None]
    return PackedPairs(tokens, position, segments, row * width + column, num_chosen, num_shared)


@contextmanager
def splitting_attention(backbone: Any) -> Iterator[bool]:
    """
    Within it, a backbone with `sdpa` computes the attention of packed pairs in two parts. Gives whether it does: attention of
    the older kind, which does not look its function up, computes it in one.
    """
    config = backbone.config
    splits = config._attn_implementation == "sdpa" and getattr(backbone, "_supports_attention_backend", False)
    if splits:
        config._attn_implementation = _SPLIT_SDPA
    try:
        yield splits
    finally:
        if splits:
            config._attn_implementation = "sdpa"


def split_sdpa_attention_forward(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """
    transformers' `sdpa`, and for packed pairs the same in two parts: the chosen sides among themselves are causal, which
    needs no mask and has the fastest kernels, and the rest of the rejected sides sees little but what is shared.
    """
    parts = getattr(attention_mask, "pd_trl_split", None)
    if parts is None or attention_mask is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    chosen, shared = parts
    kwargs.pop("is_causal", None)
    first = query[:, :, :chosen], key[:, :, :chosen], value[:, :, :chosen]
    causal, _ = sdpa_attention_forward(module, *first, attention_mask=None, is_causal=True, **kwargs)
    if chosen == query.shape[2]:
        return causal, None

    def seen(tensor: torch.Tensor, dim: int) -> torch.Tensor:
        rest = tensor.shape[dim] - chosen
        return torch.cat([tensor.narrow(dim, 0, shared), tensor.narrow(dim, chosen, rest)], dim=dim)

    mask = seen(attention_mask[:, :, chosen:], dim=3)
    rest, _ = sdpa_attention_forward(
        module,
        query[:, :, chosen:],
        seen(key, dim=2),
        seen(value, dim=2),
        attention_mask=mask,
        is_causal=False,
        **kwargs,
    )
    return torch.cat([causal, rest], dim=1), None


AttentionInterface.register(_SPLIT_SDPA, split_sdpa_attention_forward)
AttentionMaskInterface.register(_SPLIT_SDPA, sdpa_mask)
