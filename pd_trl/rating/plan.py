"""What a rating would ask and cost, before anything is sent."""

from dataclasses import dataclass
from typing import Any

import datasets

from ..runs.row_log import RowLog
from ..servers.questions import tokens_of
from ..text.tables import printable
from .asking import question_parts
from .judges import RatingJudge
from .questions import POINTWISE
from .rubric import Rubric
from .run import asked_cells
from .sheet import Sheet


@dataclass(frozen=True)
class RatingPlan:
    """
    A rating before it runs.

    Args:
        judge (`str`): Name of the judge.
        pairs (`int`): Pairs.
        aspects (`tuple` of `str`): Aspects.
        questions (`int`): Questions of the whole rating, the repeated ones among them.
        again (`int`): Those that are asked a second time.
        known (`int`): Those that will not be sent, as an earlier run has their answers.
        tokens (`int`): Tokens of the others.
        answer_tokens (`int`): Most tokens of their answers.
        exact (`bool`): Whether the tokens are counted, and not estimated from characters.
        cost (`float`, *optional*): Dollars at most. `None` where the price is unknown, 0 for a judge on this machine.
        adaptive (`bool`): Whether fewer may be asked.
        saved (`int`): Questions that equal responses save.
    """

    judge: str
    pairs: int
    aspects: tuple[str, ...]
    questions: int
    again: int
    known: int
    tokens: int
    answer_tokens: int
    exact: bool
    cost: float | None
    adaptive: bool
    saved: int = 0

    def lines(self) -> list[str]:
        """The plan as text."""
        most = "at most " if self.adaptive else ""
        saved = f"; {self.saved:,} saved, as responses stand in several pairs or are equal" if self.saved else ""
        cost = "unknown (give `price_per_million_tokens`)" if self.cost is None else f"at most ${self.cost:.2f}"
        return [
            f"judge: {printable(self.judge)}; aspects: {', '.join(self.aspects)}",
            f"requests: {most}{self.questions:,}, {self.again:,} of them a repetition; {self.known:,} answered before{saved}",
            f"tokens still to pay{'' if self.exact else ' (estimate)'}: {most}{self.tokens:,} of questions, at most {self.answer_tokens:,} of answers",
            f"cost: {'nothing, the judge runs on this machine' if self.cost == 0.0 and self.exact else cost}",
        ]


def plan_rating(
    pairs: datasets.Dataset,
    judge: RatingJudge,
    rubric: Rubric,
    log: RowLog,
    *,
    mode: str = POINTWISE,
    adaptive: bool = False,
    repeat_share: float,
    seed: int,
    prices: tuple[float, float] | None = None,
) -> RatingPlan:
    """Counts what [`rate_pairs`] would ask; the log holds the answers of an earlier run. Every question is made, none is kept."""
    sheet = Sheet(pairs, rubric, mode)
    count_tokens: Any = getattr(judge, "num_tokens", None)
    limit = int(getattr(judge, "max_answer_tokens", 0))
    seen: set[str] = set()
    again = known = tokens = 0
    for cells, reverse in asked_cells(sheet, repeat_share, seed):
        for questions, _ in question_parts(judge, sheet, cells, reverse):
            new = {key: question for key, question in questions.items() if key not in seen}
            seen |= new.keys()
            again += len(new) if reverse else 0
            answered = judge.known(list(new), log)
            known += len(answered)
            texts = (question for key, question in new.items() if key not in answered)
            tokens += sum(count_tokens(q) if count_tokens else tokens_of(len(q.text)) for q in texts)
    left = len(seen) - known
    exact = count_tokens is not None
    cost = 0.0 if exact else None if prices is None else (tokens * prices[0] + left * limit * prices[1]) / 1e6
    return RatingPlan(
        judge.name,
        sheet.num_pairs,
        tuple(rubric.names),
        len(seen),
        again,
        known,
        tokens,
        left * limit,
        exact,
        cost,
        adaptive,
        2 * sheet.num_pairs * sheet.num_aspects - (len(seen) - again),
    )
