"""A judge on Ray: each actor has its model, and answers questions that this process puts into the log."""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from ..errors import InputError
from ..generation.policies import PlacedPolicy
from ..runs.on_ray import NO_SERVER, on_ray, parts_of
from ..runs.row_log import MemoryLog, RowLog
from ..runs.throughput import Progress
from .asking import question_parts
from .judges import RatingJudge
from .local_judge import LocalJudge
from .rubric import Rubric
from .sheet import Sheet, Shown

logger = logging.getLogger(__name__)

# Batches of questions that an actor is given at a time.
_BATCHES_PER_PART = 16


def answer_on_ray(
    judge: RatingJudge,
    sheet: Sheet,
    log: RowLog,
    asked: Iterable[tuple[Iterable[tuple[int, int]], bool]],
    num_actors: int | None = None,
) -> set[str]:
    """
    Has the questions of a sheet that have no answer yet answered by Ray's actors, and adds the answers to the log.

    Args:
        judge ([`RatingJudge`]): Who answers, a [`LocalJudge`] of a folder or a Hub id.
        sheet ([`Sheet`]): What is asked about.
        log ([`~pd_trl.runs.row_log.RowLog`]): Answers by key; open.
        asked (iterable): Cells, and whether the best level is listed first in their questions.
        num_actors (`int`, *optional*): See [`~pd_trl.runs.on_ray.on_ray`].

    Returns:
        `set` of `str`: keys of the answers.

    Raises:
        InputError: When the judge is no such one, without Ray, or where an actor raises it.
    """
    if not isinstance(judge, LocalJudge):
        raise InputError(NO_SERVER)
    fresh, rows = _open_rows(judge, sheet, log, asked)
    if not rows:
        return fresh
    per_batch = max(1, judge.batch_size // len(sheet.rubric.aspects))
    work = RatingWork(PlacedPolicy.of(judge.source), judge.batch_size, sheet.rubric)
    done = 0
    progress = Progress(len(fresh), lambda: done, "questions", "Answered", on_terminal=False)
    for result in on_ray(work, parts_of(rows, per_batch, _BATCHES_PER_PART * per_batch), num_actors):
        for key, row in result["rows"].items():
            log.add(key, row)
        judge.unfit |= result["unfit"]
        done += len(result["rows"]) + len(result["unfit"])
        progress.add({"tokens": sum(row["tokens"] for row in result["rows"].values())})
    logger.info("%s", progress)
    return fresh


def _open_rows(
    judge: LocalJudge, sheet: Sheet, log: RowLog, asked: Iterable[tuple[Iterable[tuple[int, int]], bool]]
) -> tuple[set[str], list[tuple[Shown, list[tuple[int, bool]]]]]:
    """Keys of the questions without an answer; what is shown in them, longest first, with the aspects and the order of levels."""
    fresh: set[str] = set()
    wanted: dict[int, list[tuple[int, bool]]] = {}
    for cells, reverse in asked:
        for questions, places in question_parts(judge, sheet, cells, reverse):
            new = questions.keys() - judge.known(list(questions), log) - fresh
            fresh |= new
            for row, aspect in (places[key][0] for key in new):
                wanted.setdefault(row, []).append((aspect, reverse))
    rows = [(sheet.shown(row), sorted(cells)) for row, cells in sorted(wanted.items())]
    # The judge batches questions of similar length.
    rows.sort(key=lambda row: -len(row[0].prompt) - sum(map(len, row[0].responses)))
    return fresh, rows


@dataclass(frozen=True)
class RatingWork:
    """
    A [`LocalJudge`] on its way to an actor, see [`~pd_trl.runs.on_ray.Work`].

    Args:
        policy ([`PlacedPolicy`]): Its model.
        batch_size (`int`): Questions in a batch.
        rubric ([`Rubric`]): What is asked.
    """

    policy: PlacedPolicy
    batch_size: int
    rubric: Rubric

    def worker(self) -> "ActorJudge":
        """The judge there."""
        return ActorJudge(LocalJudge(self.policy.source(), self.batch_size), self.rubric)


class ActorJudge:
    """
    [`LocalJudge`] of questions that Ray gives to an actor.

    Args:
        judge ([`LocalJudge`]): Who answers.
        rubric ([`Rubric`]): What is asked.
    """

    def __init__(self, judge: LocalJudge, rubric: Rubric):
        self.judge, self.rubric = judge, rubric

    def each(self, items: Iterable[Any]) -> Iterator[dict[str, Any]]:
        """Answers of each part, a list of what is shown with the aspects asked about: `rows` of the log, and why others are `unfit`."""
        for part in items:
            asked = (
                Shown(*shown).question(self.rubric.aspects[aspect], reverse)
                for shown, cells in part
                for aspect, reverse in cells
            )
            log = MemoryLog()
            answers = dict(self.judge.answers({self.judge.key(question): question for question in asked}, log))
            unfit = {key: answer.reason for key, answer in answers.items() if key not in log}
            yield {"rows": log.rows, "unfit": unfit}
