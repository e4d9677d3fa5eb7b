"""What a judge is: something that prefers one of two outputs to an instruction."""

import collections
import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ...runs.row_log import MemoryLog, RowLog

TIE = 1e-9
# Comparisons whose outputs a model scores before their preferences are given: what is lost with a run that is stopped.
COMPARISONS_AT_ONCE = 128


@dataclass(frozen=True)
class Comparison:
    """
    One question to a judge.

    Args:
        instruction (`str`): What both outputs answer.
        output_a (`str`): The output shown first.
        output_b (`str`): The output shown second.
    """

    instruction: str
    output_a: str
    output_b: str

    def swapped(self) -> "Comparison":
        """The same question with the outputs in the other order."""
        return Comparison(self.instruction, self.output_b, self.output_a)


@runtime_checkable
class Judge(Protocol):
    """
    A judge of pairs.

    Args:
        name (`str`): Name shown beside every number, such as `"gpt-4.1"`. Results of different judges share no table.
        description (`str`): What it is, in a line.
        identity (`dict`): All that decides its answers (model, prompt, decoding), as plain values without secrets. Cached
            answers are used again only for the same identity.
    """

    name: str
    description: str
    identity: dict[str, Any]

    def compare(self, comparisons: Sequence[Comparison]) -> Iterator[tuple[int, float | None]]:
        """
        Judges comparisons in the order of outputs that each has.

        Returns:
            Iterator of position and preference, each position once, in any order and as soon as it is known, so that a
            caller can keep what has been answered. A preference lies in [0, 1]: 1 is for `output_a`, 0 for `output_b`, 0.5 a
            tie; NaN is an answer that could not be read, and `None` one that never came.
        """
        ...


def is_preference(value: Any) -> bool:
    """Whether a value, such as one of a log, is a preference in [0, 1]."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 1


class AskingJudge:
    """
    A judge whose answers cost something. They are kept in `log` as they come, by the digest of the request, and none that is
    there is asked for again, as long as it can be read. `reasons` counts why questions are without an answer that can be read.
    """

    def __init__(self) -> None:
        self.log: RowLog = MemoryLog()
        self.reasons: collections.Counter[str] = collections.Counter()

    @contextlib.contextmanager
    def keeping(self, log: RowLog) -> Iterator[None]:
        """Keeps the answers in `log`, an open one."""
        before, self.log = self.log, log
        try:
            yield
        finally:
            self.log = before


class ScoreJudge:
    """
    A judge that scores each output by itself and prefers the higher score, whatever the order of the outputs; within
    `tie` of each other they are tied. A distinct output is scored once in its life. Subclasses define [`ScoreJudge.score`].

    Args:
        name (`str`): Name shown beside every number.
        description (`str`): What it is, in a line.
        identity (`dict`): All that decides its answers.
        tie (`float`, *optional*, defaults to `1e-9`): Largest difference of scores that is a tie, in units of the score.
    """

    def __init__(self, name: str, description: str, identity: dict[str, Any], tie: float = TIE):
        self.name, self.description = name, description
        self.identity = {**identity, "tie": tie}
        self.tie = tie
        self._scores: dict[tuple[str, str], float] = {}

    def score(self, pairs: Sequence[tuple[str, str]]) -> NDArray[np.floating]:
        """Scores of pairs of instruction and output, shape `(num_pairs,)`, higher is better."""
        raise NotImplementedError

    def scores_of(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """Scores of pairs of instruction and output, remembered."""
        new = [pair for pair in dict.fromkeys(pairs) if pair not in self._scores]
        if new:
            self._scores.update(zip(new, map(float, self.score(new)), strict=True))
        return [self._scores[pair] for pair in pairs]

    def compare(self, comparisons: Sequence[Comparison]) -> Iterator[tuple[int, float | None]]:
        """See [`Judge.compare`]."""
        for start in range(0, len(comparisons), COMPARISONS_AT_ONCE):
            part = comparisons[start : start + COMPARISONS_AT_ONCE]
            outputs = [(c.instruction, output) for c in part for output in (c.output_a, c.output_b)]
            scores = self.scores_of(outputs)
            for i, (a, b) in enumerate(zip(scores[::2], scores[1::2], strict=True), start):
                yield i, 0.5 if abs(a - b) <= self.tie else float(a > b)
