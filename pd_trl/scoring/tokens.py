"""Sequences of token ids in one array, so that batches are cut and padded without a loop over rows."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class TokenRows:
    """
    Sequences of token ids, one after the other.

    Args:
        ids (array of shape `(num_tokens,)`): All tokens.
        starts (array of shape `(num_sequences,)`): Where each sequence begins in `ids`.
        lengths (array of shape `(num_sequences,)`): Its tokens.
        responses (array of shape `(num_sequences,)`, *optional*): Tokens of the response, with which the sequence ends.
    """

    ids: NDArray[np.int32]
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]
    responses: NDArray[np.int64] | None = None

    @classmethod
    def of(cls, sequences: Sequence[Sequence[int]], responses: NDArray[np.int64] | None = None) -> "TokenRows":
        """The rows of a list of lists."""
        lengths = np.fromiter(map(len, sequences), dtype=np.int64, count=len(sequences))
        ids = np.fromiter(chain.from_iterable(sequences), dtype=np.int32, count=int(lengths.sum()))
        return cls(ids, np.cumsum(lengths) - lengths, lengths, responses)

    def __len__(self) -> int:
        return self.lengths.size

    def take(self, rows: NDArray[np.integer]) -> "TokenRows":
        """The sequences at these positions. The tokens are not copied."""
        responses = None if self.responses is None else self.responses[rows]
        return replace(self, starts=self.starts[rows], lengths=self.lengths[rows], responses=responses)

    def from_start(self, count: NDArray[np.integer] | int) -> "TokenRows":
        """Each sequence without its first `count` tokens."""
        return replace(self, starts=self.starts + count, lengths=self.lengths - count)

    def up_to(self, count: NDArray[np.integer]) -> "TokenRows":
        """The first `count` tokens of each sequence, of which it is not known which are the response's."""
        return replace(self, lengths=np.minimum(self.lengths, count), responses=None)

    def shortened(self, longest: int | None, keep_first: int = 0) -> "TokenRows":
        """
        Each sequence with `longest` tokens at most: what goes is the start of the prompt, never the end of the response. Its
        first `keep_first` tokens stay.
        """
        if longest is None:
            return self
        if keep_first == 0 or not (self.lengths > longest).any():
            return self.from_start(np.maximum(0, self.lengths - longest))
        keep_first = min(keep_first, longest)
        tokens, row, column = self.flat()
        stays = (column < keep_first) | (column >= self.lengths[row] - longest + keep_first)
        lengths = np.minimum(self.lengths, longest)
        return TokenRows(tokens[stays], np.cumsum(lengths) - lengths, lengths, self.responses)

    def flat(self) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int64]]:
        """All tokens of the sequences, in their order, with the row of each and its column in the row."""
        row = np.repeat(np.arange(len(self)), self.lengths)
        column = np.arange(row.size) - np.repeat(np.cumsum(self.lengths) - self.lengths, self.lengths)
        return self.ids[self.starts[row] + column], row, column

    def padded(self, pad_token_id: int) -> NDArray[np.int64]:
        """Matrix of shape `(num_sequences, longest)`, filled at the end."""
        tokens, row, column = self.flat()
        matrix = np.full((len(self), max(1, int(self.lengths.max(initial=0)))), pad_token_id, dtype=np.int64)
        matrix[row, column] = tokens
        return matrix

    @property
    def response_starts(self) -> NDArray[np.int64]:
        """Column at which each response begins: of a sequence that was cut within it, the first."""
        if self.responses is None:
            raise ValueError("It is not known where the responses of these sequences begin.")
        return np.maximum(0, self.lengths - self.responses)

    def last_other_than(self, token: int) -> NDArray[np.int64]:
        """Position of the last token of each sequence that is not `token`, 0 where there is none."""
        tokens, row, column = self.flat()
        found = np.zeros(len(self), dtype=np.int64)
        np.maximum.at(found, row[tokens != token], column[tokens != token])
        return found

    def shared_with_next(self) -> NDArray[np.int64]:
        """Number of tokens with which each sequence and the one after it begin, shape `(num_sequences - 1,)`."""
        shorter = np.minimum(self.lengths[:-1], self.lengths[1:])
        ours, row, column = self.take(np.arange(len(self) - 1)).up_to(shorter).flat()
        theirs, _, _ = self.take(np.arange(1, len(self))).up_to(shorter).flat()
        differs = np.flatnonzero(ours != theirs)
        shared = shorter.copy()
        np.minimum.at(shared, row[differs], column[differs])
        return shared
