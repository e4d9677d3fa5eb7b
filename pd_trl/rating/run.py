"""[`rate_pairs`]: pairs with ratings of every aspect of a rubric, by a judge."""

import contextlib
import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from numpy.typing import NDArray

from ..data.sources import require_dataset
from ..data.validation import check_pairs
from ..errors import InputError
from ..method.ranking import check_budget, random_keys, resolve_budget, select_lowest
from ..runs.artifacts import write_json
from ..runs.on_ray import ENGINES
from ..runs.row_log import MemoryLog, RowLog
from .adaptive import MAX_CALL_SHARE, AdaptiveOrder
from .asking import Asker
from .columns import labels_of_pairs, rated_pairs
from .judges import RatingJudge
from .questions import MODES, POINTWISE
from .report import RatingReport, rating_report
from .rubric import Rubric, load_rubric
from .sheet import Sheet

logger = logging.getLogger(__name__)

ANSWERS_NAME = "answers.jsonl"
REPORT_NAME = "report.json"
MAX_PROBLEM_SHARE = 0.05
REPEAT_SHARE = 0.05


def rate_pairs(
    pairs: datasets.Dataset,
    *,
    judge: RatingJudge | str | os.PathLike,
    rubric: Rubric | str | os.PathLike | Mapping[str, Any] | None = None,
    mode: str = POINTWISE,
    adaptive: bool = False,
    budget: float | int = 0.3,
    max_call_share: float = MAX_CALL_SHARE,
    repeat_share: float = REPEAT_SHARE,
    max_problem_share: float = MAX_PROBLEM_SHARE,
    output_dir: str | os.PathLike | None = None,
    seed: int = 42,
    engine: str = "process",
    num_actors: int | None = None,
) -> datasets.Dataset:
    """
    Rates both responses of each pair on every aspect of a rubric.

    A distinct response is rated once on an aspect, in however many pairs it is. The rating is the expected value over the levels
    where the judge gives log-probabilities, else the level that it wrote.

    Args:
        pairs (`Dataset`):
            Pairs from [`load_pairs`].
        judge ([`RatingJudge`], `str` or path):
            Who rates: `server_judge(model, base_url=...)`, or the folder or Hub id of a model on this machine.
        rubric ([`Rubric`], `str`, path or mapping, *optional*):
            Aspects and levels, see [`load_rubric`]. `None` is the default rubric of four aspects.
        mode (`str`, *optional*, defaults to `"pointwise"`):
            `"pointwise"` rates each response by itself; `"pairwise"` asks which of two is better, in both orders, and averages.
        adaptive (`bool`, *optional*, defaults to `False`):
            Whether to ask no more about pairs that can no longer be kept at `budget`, or are kept in any case. Pairs need a label of
            their own (chosen and rejected, or an overall one). What is not asked is null, and `rated_pd` holds the estimate by which
            pairs are to be selected: `PDFilter(budget, source="column", pd_column="rated_pd")`.
        budget (`float` or `int`, *optional*, defaults to `0.3`):
            Share or number of pairs that the selection will keep; read where `adaptive`.
        max_call_share (`float`, *optional*, defaults to `0.4`):
            Largest share of all ratings that `adaptive` asks for; it asks for fewer where they would change nothing. The first
            30 pairs are rated whole in any case, which is more where there are few pairs.
        repeat_share (`float`, *optional*, defaults to `0.05`):
            Share of the pairs that are rated a second time, with the levels listed from the best to the worst, to see how far the
            judge agrees with itself. Pairwise ratings need none: their two orders say it.
        max_problem_share (`float`, *optional*, defaults to `0.05`):
            Largest share of questions without an answer that can be read.
        output_dir (`str`, *optional*):
            Folder for `answers.jsonl` (each answer as it came, readable by this user only) and `report.json`. Answers that are there
            are not asked for again. `None` keeps nothing.
        seed (`int`, *optional*, defaults to `42`):
            Seed of the pairs that are rated again, and of the adaptive order.
        engine (`str`, *optional*, defaults to `"process"`):
            `"process"` is this process, `"ray"` a Ray cluster, whose actors have the judge's model each.
        num_actors (`int`, *optional*):
            Actors on Ray. `None` is one for each GPU, or for each CPU where there is none.

    Returns:
        `Dataset`: the pairs with `rating_<aspect>_a`, `rating_<aspect>_b` and `pref_<aspect>`, null where there is no rating.

    Raises:
        InputError: When an argument, the rubric or the pairs cannot be used, the judge cannot be asked, or too many questions stay
            without an answer.
    """
    asked = judge
    if isinstance(asked, (str, os.PathLike)):
        from .local_judge import local_judge

        asked = local_judge(asked)
    rated, report = rate(
        pairs, asked, load_rubric(rubric), mode=mode, adaptive=adaptive, budget=budget, max_call_share=max_call_share,
        repeat_share=repeat_share,
        max_problem_share=max_problem_share, output_dir=output_dir, seed=seed, engine=engine, num_actors=num_actors,
    )  # fmt: skip
    logger.info("Ratings: %s", report)
    return rated


def check_settings(mode: str, budget: float | int, repeat_share: float, max_problem_share: float) -> None:
    """Raises `InputError` on settings out of range."""
    if mode not in MODES:
        raise InputError(f"`mode` must be one of {', '.join(MODES)}, got {mode!r}.")
    check_budget(budget)
    if not 0 <= repeat_share <= 1:
        raise InputError(f"`repeat_share` is a share in [0, 1], got {repeat_share}.")
    if not 0 <= max_problem_share <= 1:
        raise InputError(f"`max_problem_share` is a share in [0, 1], got {max_problem_share}.")


def rate(
    pairs: datasets.Dataset,
    judge: RatingJudge,
    rubric: Rubric,
    *,
    mode: str = POINTWISE,
    adaptive: bool = False,
    budget: float | int = 0.3,
    max_call_share: float = MAX_CALL_SHARE,
    repeat_share: float = REPEAT_SHARE,
    max_problem_share: float = MAX_PROBLEM_SHARE,
    output_dir: str | os.PathLike | None = None,
    seed: int = 42,
    prices: tuple[float, float] | None = None,
    engine: str = "process",
    num_actors: int | None = None,
) -> tuple[datasets.Dataset, RatingReport]:
    """Rated pairs and the report. `prices` are those of a million tokens of questions and of answers, the others [`rate_pairs`]'."""
    check_settings(mode, budget, repeat_share, max_problem_share)
    check_rating_engine(engine, adaptive)
    require_dataset(pairs, "pairs")
    check_pairs(pairs)
    sheet = Sheet(pairs, rubric, mode)
    order = adaptive_order(pairs, sheet, budget, seed, max_call_share) if adaptive else None
    all_calls = sum(1 for _ in sheet.open_cells())
    with _log(output_dir, judge, rubric, mode) as log:
        fresh: set[str] = set()
        if engine == "ray":
            from .on_ray import answer_on_ray

            fresh = answer_on_ray(judge, sheet, log, asked_cells(sheet, repeat_share, seed), num_actors)
        asker = Asker(judge, sheet, log, fresh)
        if order is None:
            asker.ask(sheet.open_cells())
        else:
            while (cells := order.next_cells(sheet.values)) is not None:
                asker.ask(sheet.open_cells(cells))
        _check_answered(asker, max_problem_share)
        again = None
        if mode == POINTWISE and (mask := repeated_pairs(sheet, repeat_share, seed)).any():
            repeated = [cell for cell in again_cells(sheet, mask) if np.isfinite(sheet.values[cell])]
            again = (len(repeated), asker.ask_again(repeated))
    report = rating_report(judge.name, pairs, sheet, asker.tally, again, all_calls)
    if prices is not None and report.tokens:
        report.tokens["cost"] = (report.tokens["questions"] * prices[0] + report.tokens["answers"] * prices[1]) / 1e6
    estimate = None
    if order is not None:
        estimate = order.divergence(sheet.values)
        report.adaptive = {
            "budget": float(budget),
            "kept": float(order.count),
            "stopped": float(order.num_stopped(sheet.values)),
            "expected_loss": order.expected_loss,
        }
    if output_dir is not None:
        write_json(Path(output_dir) / REPORT_NAME, report.to_dict())
    return rated_pairs(pairs, sheet, estimate), report


def check_rating_engine(engine: str, adaptive: bool) -> None:
    """Raises `InputError` where the engine is none, or none of an adaptive rating."""
    if engine not in ENGINES:
        raise InputError(f"`engine` must be one of {', '.join(ENGINES)}, got {engine!r}.")
    if engine == "ray" and adaptive:
        raise InputError(
            "`adaptive` chooses each question by the answers to all before it, and Ray's actors answer side by side: leave `adaptive` or "
            "`engine` out."
        )


def check_adaptive(
    pairs: datasets.Dataset, rubric: Rubric, mode: str
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """
    The aspect (-1 for none of the rubric's) and the sign of each pair's label, where an adaptive rating is possible.

    Raises:
        InputError: When the pairs have no label whose agreement with the aspects could be known while they are rated.
    """
    if mode != POINTWISE:
        raise InputError("`adaptive` needs ratings of each response by itself: use mode='pointwise'.")
    found = labels_of_pairs(pairs)
    if found is None:
        raise InputError(
            "`adaptive` needs the label of each pair before it is rated: chosen and rejected responses, or an overall label "
            "(pref_overall). Rate without `adaptive`."
        )
    names, signs = found
    index = {name: k for k, name in enumerate(rubric.names)}
    return np.array([index.get(name, -1) for name in names], dtype=np.int64), signs


def adaptive_order(
    pairs: datasets.Dataset, sheet: Sheet, budget: float | int, seed: int, max_share: float
) -> AdaptiveOrder:
    """The order in which an adaptive rating asks."""
    own, signs = check_adaptive(pairs, sheet.rubric, sheet.mode)
    prompts = np.unique(np.array(sheet.prompts, dtype=object).astype(str), return_inverse=True)[1]
    count = resolve_budget(budget, sheet.num_pairs)
    return AdaptiveOrder(
        signs, own, sheet.rows, prompts, sheet.num_aspects, count, np.array(sheet.pair_ids), seed, max_share
    )


def repeated_pairs(sheet: Sheet, share: float, seed: int) -> NDArray[np.bool_]:
    """Mask of the pairs that are rated a second time, at least two where there are any."""
    count = min(sheet.num_pairs, max(2, round(share * sheet.num_pairs))) if share > 0 else 0
    if not count:
        return np.zeros(sheet.num_pairs, dtype=bool)
    ids = np.array(sheet.pair_ids)
    return select_lowest(random_keys(ids, seed), ids, count)[0]


def asked_cells(sheet: Sheet, share: float, seed: int) -> list[tuple[Iterator[tuple[int, int]], bool]]:
    """Cells that a rating asks for, and those that it asks for a second time, each with whether the best level is listed first."""
    runs = [(sheet.open_cells(), False)]
    if sheet.mode == POINTWISE:
        runs.append((again_cells(sheet, repeated_pairs(sheet, share, seed)), True))
    return runs


def again_cells(sheet: Sheet, pairs: NDArray[np.bool_]) -> Iterator[tuple[int, int]]:
    """Cells of the pairs that are rated a second time."""
    rows = np.unique(sheet.rows[pairs])
    return ((int(row), aspect) for row in rows for aspect in range(sheet.num_aspects))


@contextlib.contextmanager
def _log(output_dir: str | os.PathLike | None, judge: RatingJudge, rubric: Rubric, mode: str) -> Iterator[RowLog]:
    if output_dir is None:
        yield MemoryLog()
        return
    with RowLog(Path(output_dir) / ANSWERS_NAME, log_identity(judge, rubric, mode)) as log:
        yield log


def log_identity(judge: RatingJudge, rubric: Rubric, mode: str) -> dict[str, Any]:
    """What the answers of a log are of."""
    return {"judge": judge.identity, "rubric": rubric.digest, "mode": mode}


def _check_answered(asker: Asker, max_problem_share: float) -> None:
    tally = asker.tally
    if tally.unanswered > max_problem_share * max(1, tally.calls):
        listed = "; ".join(f"{reason} ({count:,})" for reason, count in tally.reasons.most_common(5))
        raise InputError(
            f"{tally.unanswered:,} of {tally.calls:,} questions to {asker.judge.name} are without an answer that can be read, more than "
            f"{100 * max_problem_share:g} %: {listed}. Check the model and the rubric, or raise `max_problem_share`. Answers so far are kept."
        )
