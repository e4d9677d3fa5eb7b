"""Asking a judge for values of a sheet, with a count of what was asked, answered and paid."""

import collections
import itertools
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..runs.row_log import RowLog
from .judges import RatingJudge
from .questions import Question
from .sheet import Sheet

# Questions that are made at once.
_QUESTIONS = 4096


@dataclass
class Tally:
    """
    What was asked and answered.

    Args:
        calls (`int`): Distinct questions.
        before (`int`): Those of which an earlier run had the answer.
        shared (`int`): Values that the answer to another one's question gave.
        unanswered (`int`): Questions without an answer that can be read.
        expected (`int`): Answers that are an expected value over the levels.
        reasons (`Counter`): Why questions are without an answer.
        tokens (`list` of two `int`): Tokens of questions and of answers, as far as they are known; earlier runs included.
    """

    calls: int = 0
    before: int = 0
    shared: int = 0
    unanswered: int = 0
    expected: int = 0
    reasons: collections.Counter[str] = field(default_factory=collections.Counter)
    tokens: list[int] = field(default_factory=lambda: [0, 0])


Questions: TypeAlias = dict[str, Question]
Places: TypeAlias = dict[str, list[tuple[int, int]]]


def question_parts(
    judge: RatingJudge, sheet: Sheet, cells: Iterable[tuple[int, int]], reverse: bool = False
) -> Iterator[tuple[Questions, Places]]:
    """Questions by key, and the cells that each is about, some thousand at a time."""
    iterator = iter(cells)
    while part := list(itertools.islice(iterator, _QUESTIONS)):
        questions: Questions = {}
        places: Places = {}
        for row, aspect in part:
            question = sheet.question(row, aspect, reverse)
            key = judge.key(question)
            questions[key] = question
            places.setdefault(key, []).append((row, aspect))
        yield questions, places


class Asker:
    """
    Asks a judge for cells of a sheet.

    Args:
        judge ([`RatingJudge`]): Who answers.
        sheet ([`Sheet`]): What is asked about; gets the values.
        log ([`~pd_trl.runs.row_log.RowLog`]): Answers by key; open.
        fresh (set of `str`, *optional*): Keys of answers that others have added to the log in this run.
    """

    def __init__(self, judge: RatingJudge, sheet: Sheet, log: RowLog, fresh: Collection[str] = ()):
        self.judge, self.sheet, self.log, self.fresh = judge, sheet, log, fresh
        self.tally = Tally()
        self._seen: set[str] = set()

    def ask(self, cells: Iterable[tuple[int, int]]) -> None:
        """Fills in values of the sheet; those without an answer stay NaN."""
        self._ask(cells, self.sheet.values, False)

    def ask_again(self, cells: Iterable[tuple[int, int]]) -> NDArray[np.float64]:
        """Values of the same cells with the levels listed in the other order, NaN elsewhere."""
        values = np.full_like(self.sheet.values, np.nan)
        self._ask(cells, values, True)
        return values

    def _ask(self, cells: Iterable[tuple[int, int]], values: NDArray[np.float64], reverse: bool) -> None:
        for questions, places in question_parts(self.judge, self.sheet, cells, reverse):
            known = self.judge.known(list(questions), self.log)
            for key, answer in self.judge.answers(questions, self.log):
                for place in places[key]:
                    values[place] = np.nan if answer.value is None else round(answer.value, 9)
                self.tally.shared += len(places[key]) - (key not in self._seen)
                if key in self._seen:
                    continue
                self._seen.add(key)
                self.tally.calls += 1
                self.tally.before += key in known and key not in self.fresh
                self.tally.expected += answer.expected
                for i in (0, 1):
                    self.tally.tokens[i] += answer.tokens[i]
                if answer.value is None:
                    self.tally.unanswered += 1
                    self.tally.reasons[answer.reason or "no answer"] += 1
