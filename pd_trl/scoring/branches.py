"""[`BranchLayout`]: sequences that share prefixes, laid out for a model that reads each prefix once."""

import numpy as np
import torch
from numpy.typing import NDArray

from .tokens import TokenRows


class BranchLayout:
    """Where the tokens of prefixes and branches go: one matrix for the prefixes, one for what follows each."""

    def __init__(
        self,
        prefixes: TokenRows,
        sequences: TokenRows,
        group: NDArray[np.integer],
        pad_token_id: int,
    ):
        own_prefix = prefixes.lengths[group]
        branches = sequences.from_start(own_prefix)
        # Where each branch begins in its row: after the other branches of its group.
        before = np.cumsum(branches.lengths) - branches.lengths
        offset = before - before[np.searchsorted(group, group)]
        self.group, self.own_prefix, self.offset = group, own_prefix, offset
        ids, sequence, column = branches.flat()
        cell = (group[sequence], offset[sequence] + column)
        width = int(np.bincount(group, weights=branches.lengths, minlength=len(prefixes)).max())
        self.prefix_ids, self._prefix_lengths = prefixes.padded(pad_token_id), prefixes.lengths
        self.ids = np.full((len(prefixes), width), pad_token_id, dtype=np.int64)
        self.positions = np.zeros_like(self.ids)
        self._branch = np.full((len(prefixes), width), -1, dtype=np.int64)
        self.ids[cell], self.positions[cell], self._branch[cell] = ids, own_prefix[sequence] + column, sequence

    def place_of(
        self, sequence: NDArray[np.integer], column: NDArray[np.integer]
    ) -> tuple[NDArray[np.bool_], NDArray[np.int64], NDArray[np.int64]]:
        """Where a token of each of these sequences went: whether to the prefixes, its row and its column there."""
        in_prefix = column < self.own_prefix[sequence]
        behind = self.offset[sequence] + column - self.own_prefix[sequence]
        return in_prefix, self.group[sequence], np.where(in_prefix, column, behind)

    def mask(self, device: torch.device) -> torch.Tensor:
        """
        Which token of the branches sees which of the prefix and the branches, boolean of shape
        `(rows, 1, width, prefix_width + width)`. Padding sees the prefix, so that no row of the softmax is empty.
        """
        branch = torch.from_numpy(self._branch).to(device)
        width = branch.shape[1]
        columns = torch.arange(self.prefix_ids.shape[1], device=device)
        prefix = columns < torch.from_numpy(self._prefix_lengths).to(device)[:, None]
        own = (branch[:, :, None] == branch[:, None, :]) & torch.ones(
            width, width, dtype=torch.bool, device=device
        ).tril_()
        return torch.cat([prefix[:, None, :].expand(-1, width, -1), own], dim=2)[:, None]
