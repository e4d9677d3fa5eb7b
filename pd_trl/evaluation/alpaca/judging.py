"""Preferences for aligned outputs: from an annotator of alpaca_eval, from another judge, or from recorded annotations."""

import collections
import logging
import math
import os
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...errors import InputError
from ...runs.artifacts import digest_of, read_json
from ...runs.progress import Bar
from ...runs.row_log import RowLog
from ...safety.secrets import masked
from ...servers.questions import request_key
from ...text.tables import printable
from ..judges.base import AskingJudge, Comparison, Judge, is_preference
from ..judges.openai_client import OpenAIJudge, comparison_requests
from .annotator import Annotator

logger = logging.getLogger(__name__)

ANNOTATOR, CHAT_MODEL, OFFLINE, RECORDED = "annotator", "chat model", "offline judge", "recorded annotations"


@dataclass
class Judgements:
    """
    The judgements of a judge.

    Args:
        annotations (`list` of `dict`): A record for each row, in order: `preference` from 1 (reference) to 2
            (model), NaN if there is none, `annotator`, and whatever else the judge returned.
        judge (`str`): Name of the judge.
        kind (`str`): `"annotator"`, `"chat model"` (with a prompt of ours), `"offline judge"` or `"recorded annotations"`.
        problems (`dict`): Number of rows without a preference, by reason.
        details (`dict`): Other settings that decide the numbers.
        is_official (`bool`): Whether it is the leaderboard's own judge.
    """

    annotations: list[dict[str, Any]]
    judge: str
    kind: str
    problems: dict[str, int] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    is_official: bool = False

    @property
    def preferences(self) -> list[float]:
        """Preferences from 1 (reference) to 2 (model), NaN if there is none."""
        return [annotation["preference"] for annotation in self.annotations]


def judge_by_annotator(annotator: Annotator, rows: Sequence[Mapping[str, str]], log: RowLog) -> Judgements:
    """Asks an annotator of alpaca_eval for the judgements that `log` does not hold yet."""
    requests = annotator.requests(rows)
    answers, failures = annotator.answers(requests, log)
    annotations = annotator.annotate(rows, answers)
    unread = sum(math.isnan(annotation["preference"]) for annotation in annotations)
    problems = {"unparsable": annotator.num_unparsable, "unanswered": unread - annotator.num_unparsable}
    details: dict[str, Any] = {
        "annotator": annotator.settings.config,
        "judge_models": annotator.models,
        "judge_arguments": masked(annotator.settings.arguments),
        **_served([answer for answer in answers.values() if answer is not None]),
        "requests": len(requests),
        "asked_again": _asked_again(log, requests),
        "reasons_of_failures": dict(collections.Counter(failures.values()).most_common(5)),
    }
    return Judgements(annotations, annotator.name, ANNOTATOR, problems, details, annotator.is_official)


def _served(answers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The models that answered, the dates, and the number of tokens."""
    dates = sorted(answer["date"] for answer in answers if "date" in answer)
    endpoints = sorted({answer["endpoint"] for answer in answers if "endpoint" in answer})
    if len(endpoints) > 1:
        logger.warning("The answers come from several servers: %s.", ", ".join(endpoints))
    return {
        "served_as": sorted({str(answer["model"]) for answer in answers if answer.get("model")}),
        "endpoints": endpoints,
        "judged_from": dates[0] if dates else None,
        "judged_to": dates[-1] if dates else None,
        "tokens": sum(answer.get("total_tokens") or 0 for answer in answers),
    }


def _asked_again(log: RowLog, keys: Iterable[str]) -> int:
    """Number of answers, in all runs, that were followed by another answer to the same question."""
    return sum(max(0, log.count(key) - 1) for key in keys)


def shown_comparisons(rows: Sequence[Mapping[str, str]]) -> list[Comparison]:
    """The outputs of each row in alpaca_eval's order."""
    plain = [Comparison(row["instruction"], row["output_1"], row["output_2"]) for row in rows]
    return [c.swapped() if is_switched(c.instruction) else c for c in plain]


def judge_by_judge(judge: Judge, rows: Sequence[Mapping[str, str]], log: RowLog) -> Judgements:
    """Asks any other judge for the judgements that `log` does not hold yet."""
    comparisons = shown_comparisons(rows)
    if isinstance(judge, AskingJudge):
        judge.reasons.clear()
        with judge.keeping(log):
            found = dict(judge.compare(comparisons))
    else:
        found = _compare_and_keep(judge, comparisons, log)
    annotations: list[dict[str, Any]] = []
    for i, row in enumerate(rows):
        preference = math.nan if found.get(i) is None else float(found[i])  # type: ignore[arg-type]
        for_reference = 1 - preference if is_switched(row["instruction"]) else preference
        annotations.append({**row, "annotator": judge.name, "preference": 2 - for_reference})
    unread = sum(math.isnan(annotation["preference"]) for annotation in annotations)
    unanswered = sum(found.get(i) is None for i in range(len(rows)))
    problems = {"unparsable": unread - unanswered, "unanswered": unanswered}
    details: dict[str, Any] = {"judge": judge.description, "judge_identity": judge.identity}
    if isinstance(judge, AskingJudge) and judge.reasons:
        details["reasons_of_failures"] = dict(judge.reasons.most_common(5))
    if not isinstance(judge, OpenAIJudge):
        return Judgements(annotations, judge.name, OFFLINE, problems, details)
    requests = {request_key(request) for request in comparison_requests(comparisons, judge.prompt, judge.arguments)}
    details |= {"judge_models": [judge.name], "requests": len(requests), "asked_again": _asked_again(log, requests)}
    details |= _served([log[key] for key in sorted(requests) if key in log])
    return Judgements(annotations, judge.name, CHAT_MODEL, problems, details)


def _compare_and_keep(judge: Judge, comparisons: Sequence[Comparison], log: RowLog) -> dict[int, float | None]:
    keys = [digest_of([judge.identity, c.instruction, c.output_a, c.output_b]) for c in comparisons]
    found: dict[int, float | None] = {
        i: log[key] for i, key in enumerate(keys) if key in log and is_preference(log[key])
    }
    left = [i for i in range(len(keys)) if i not in found]
    with Bar(total=len(keys), initial=len(found), desc=printable(judge.name), unit="judgement", disable=None) as bar:
        for position, preference in judge.compare([comparisons[i] for i in left]):
            i = left[position]
            found[i] = preference
            if preference is not None and not math.isnan(preference):
                log.add(keys[i], preference)
            bar.update()
    return found


def is_switched(instruction: str) -> bool:
    """Whether alpaca_eval shows the model's output before the reference's."""
    return random.Random(f"is_switched_outputs{instruction}0").choices([False, True], k=1)[0]


def judge_by_records(source: Any, rows: Sequence[Mapping[str, str]]) -> Judgements:
    """
    Reads preferences from recorded annotations, which are matched by instruction and both outputs, in any order.

    Raises:
        InputError: If they are not annotations, or come from several judges.
    """
    records = read_json(source) if isinstance(source, (str, os.PathLike)) else source
    if hasattr(records, "to_dict") and hasattr(records, "columns"):
        records = records.to_dict(orient="records")
    wanted = ("instruction", "output_1", "output_2", "preference")
    if not isinstance(records, list) or not records or not all(isinstance(record, Mapping) for record in records):
        raise InputError(f"`annotations` must be a list of records with {', '.join(wanted)}, or a json file of one.")
    for i, record in enumerate(records):
        missing = [name for name in wanted if name not in record]
        if missing:
            raise InputError(f"Record {i} of the annotations lacks {' and '.join(missing)}.")
        strange = [name for name in wanted[:3] if isinstance(record[name], (Mapping, list))]
        if strange:
            raise InputError(f"`{strange[0]}` of record {i} of the annotations must be a text.")
    judges = sorted({str(record.get("annotator") or "unknown judge") for record in records})
    if len(judges) > 1:
        raise InputError(
            f"The annotations come from {len(judges)} judges ({', '.join(judges)}), but a result needs one judge."
        )
    found = {(r["instruction"], r["output_1"], r["output_2"]): r for r in records}
    annotations: list[dict[str, Any]] = []
    for row in rows:
        record = found.get((row["instruction"], row["output_1"], row["output_2"]), {})
        annotations.append(
            {**record, **row, "annotator": judges[0], "preference": _preference(record.get("preference"))}
        )
    unread = sum(math.isnan(annotation["preference"]) for annotation in annotations)
    return Judgements(annotations, judges[0], RECORDED, {"unanswered": unread}, {"recorded": True})


def _preference(value: Any) -> float:
    if not isinstance(value, (int, float)):
        return math.nan
    number = 1.5 if value == 0 else float(value)
    return number if 1 <= number <= 2 else math.nan


def check_judgements(judgements: Judgements, max_share: float) -> None:
    """
    Logs rows without a preference.

    Raises:
        InputError: If more than `max_share` of the rows have one kind of problem, or no row is left.
    """
    count = len(judgements.annotations)
    found = {kind: number for kind, number in judgements.problems.items() if number}
    if not found:
        return
    text = ", ".join(f"{number} {kind}" for kind, number in found.items())
    message = f"Of {count} judgements of {judgements.judge}: {text}."
    reasons = judgements.details.get("reasons_of_failures") or {}
    if reasons:
        message += f" Most often: {next(iter(reasons))}."
    if max(found.values()) > max_share * count or sum(found.values()) == count:
        raise InputError(
            f"{message} The largest allowed share is {max_share:g} (`max_problem_share`). Answers are kept: the same "
            "command asks only for the missing ones."
        )
    logger.warning("%s They do not count for the win rate.", message)
