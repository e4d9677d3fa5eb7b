"""Where the engine reads a decoder's states: at the last token of each sequence, or as the mean over its response."""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from ..models.tree_batches import backbone_of
from .branches import BranchLayout
from .tokens import TokenRows

OnDevice: TypeAlias = Callable[[NDArray], torch.Tensor]


def decoder_parts(model: Any) -> tuple[Any, Any]:
    """
    Backbone and head of a model that may read its reward of a decoder, at the last token or over the response; `None` for one that does not.
    [`RewardModelScorer`] compares them with the whole model before it trusts them.
    """
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    config = inner.config
    reads_first = getattr(config, "pooling", "last") not in ("last", "mean") or config.is_encoder_decoder
    if reads_first or not isinstance(getattr(inner, "score", None), torch.nn.Module):
        return None, None
    if getattr(config.get_text_config(), "use_bidirectional_attention", False):
        return None, None
    return backbone_of(model), inner.score


class LastToken:
    """
    The last token that is not padding.

    Args:
        layers (sequence of `int`): Layers that are read; none is the last.
        pad_token_id (`int`): The pad token.
    """

    def __init__(self, layers: Sequence[int], pad_token_id: int):
        self.layers, self.pad_token_id = list(layers), pad_token_id

    def of_rows(self, tokens: TokenRows, on_device: OnDevice) -> Callable[[torch.Tensor], torch.Tensor]:
        """Takes the features, shape `(num_sequences, num_features)`, from the states of padded rows."""
        last = on_device(tokens.last_other_than(self.pad_token_id))
        rows = on_device(np.arange(len(tokens)))
        return lambda states: states[rows, last]

    def of_branches(
        self, layout: BranchLayout, sequences: TokenRows, on_device: OnDevice
    ) -> Callable[[torch.Tensor, torch.Tensor | None], torch.Tensor]:
        """The same from the states of prefixes and of what follows them, `None` where nothing does."""
        last = sequences.last_other_than(self.pad_token_id)
        in_prefix, row, column = map(on_device, layout.place_of(np.arange(len(sequences)), last))

        def read(prefix: torch.Tensor, behind: torch.Tensor | None) -> torch.Tensor:
            at_prefix = prefix[row, torch.where(in_prefix, column, 0)]
            if behind is None:
                return at_prefix
            return torch.where(in_prefix[:, None], at_prefix, behind[row, torch.where(in_prefix, 0, column)])

        return read


class ResponseMean(LastToken):
    """The mean over the tokens of the response, in float32. A response may begin within what its group shares."""

    def of_rows(self, tokens: TokenRows, on_device: OnDevice) -> Callable[[torch.Tensor], torch.Tensor]:
        sequence, column = _response_tokens(tokens)
        places, owner, counts = (
            (on_device(sequence), on_device(column)),
            on_device(sequence),
            _counts(tokens, on_device),
        )
        return lambda states: _mean(states[places], owner, counts)

    def of_branches(
        self, layout: BranchLayout, sequences: TokenRows, on_device: OnDevice
    ) -> Callable[[torch.Tensor, torch.Tensor | None], torch.Tensor]:
        sequence, column = _response_tokens(sequences)
        in_prefix, row, place = layout.place_of(sequence, column)
        parts = [tuple(map(on_device, (row[part], place[part], sequence[part]))) for part in (in_prefix, ~in_prefix)]
        counts = _counts(sequences, on_device)

        def read(prefix: torch.Tensor, behind: torch.Tensor | None) -> torch.Tensor:
            found = [(prefix, *parts[0])] + ([(behind, *parts[1])] if behind is not None else [])
            states = torch.cat([part[rows, columns] for part, rows, columns, _ in found])
            return _mean(states, torch.cat([owner for *_, owner in found]), counts)

        return read


def _response_tokens(tokens: TokenRows) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Sequence and column of each token of the responses."""
    starts = tokens.response_starts
    counts = tokens.lengths - starts
    sequence = np.repeat(np.arange(len(tokens)), counts)
    within = np.arange(sequence.size) - np.repeat(np.cumsum(counts) - counts, counts)
    return sequence, starts[sequence] + within


def _counts(tokens: TokenRows, on_device: OnDevice) -> torch.Tensor:
    return on_device(np.maximum(1, tokens.lengths - tokens.response_starts).astype(np.float32))


def _mean(states: torch.Tensor, owner: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    sums = torch.zeros(counts.shape[0], states.shape[-1], dtype=torch.float32, device=states.device)
    return sums.index_add_(0, owner, states.float()) / counts[:, None]
