"""Numbers of aligned outputs and their judgements, and their files."""

import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ...generation.instructions import ALPACA_REPOSITORY, ALPACA_REVISION
from ...runs.artifacts import write_json
from ...runs.results import save_results
from ...safety.secrets import masked
from ..metrics.statistics import standard_error
from .instructions import NUM_INSTRUCTIONS, canonical_positions
from .judging import CHAT_MODEL, OFFLINE, RECORDED, Judgements
from .length_control import LengthControl
from .outputs import AlignedOutputs
from .result import AlpacaResult
from .session import alpaca_eval_session

ANNOTATIONS_NAME = "annotations.json"
OUTPUTS_NAME = "model_outputs.json"
SUMMARY_NAME = "alpaca_eval.json"
# Tolerance of the leaderboard.
_MAX_UNJUDGED = 5


def summarise(
    aligned: AlignedOutputs,
    judgements: Judgements,
    control: LengthControl | None,
    undefined: str | None,
    refused: str | None,
) -> AlpacaResult:
    """
    The result of an evaluation.

    Args:
        aligned ([`AlignedOutputs`]): What was compared.
        judgements ([`Judgements`]): The judgements.
        control ([`LengthControl`], *optional*): The length-controlled win rate.
        undefined (`str`, *optional*): Why it is not defined for these rows.
        refused (`str`, *optional*): Why it was not computed.
    """
    preferences = np.array(judgements.preferences)
    with alpaca_eval_session():
        import pandas as pd
        from alpaca_eval.metrics import get_winrate

        metrics = get_winrate(pd.DataFrame({"preference": preferences}))
    known = preferences[~np.isnan(preferences)] - 1
    discrete = np.where(known == 0.5, 0.5, known > 0.5)
    is_whole = len(aligned.rows) == NUM_INSTRUCTIONS and undefined is None
    row = aligned.rows[0]
    from_hub = {"dataset": ALPACA_REPOSITORY, "dataset_revision": ALPACA_REVISION} if undefined is None else {}
    return AlpacaResult(
        task=_task(aligned, undefined),
        model=row["generator_2"],
        reference=row["generator_1"],
        judge=judgements.judge,
        judge_kind=judgements.kind,
        win_rate=float(metrics["win_rate"]),
        standard_error=_finite(metrics["standard_error"]),
        discrete_win_rate=float(metrics["discrete_win_rate"]),
        discrete_standard_error=standard_error(100 * discrete),
        length_control=control,
        no_length_control=refused,
        num_wins=int(metrics["n_wins"]),
        num_losses=int(metrics["n_wins_base"]),
        num_ties=int(metrics["n_draws"]),
        num_judged=len(known),
        average_length=_mean_length(aligned, "output_2"),
        reference_length=_mean_length(aligned, "output_1"),
        problems={k: v for k, v in {**aligned.problems, **judgements.problems}.items() if v},
        not_comparable=_why_not_comparable(judgements, is_whole, undefined, len(known)),
        settings={**from_hub, **judgements.details, "instructions": len(aligned.rows)},
    )


def _task(aligned: AlignedOutputs, undefined: str | None) -> str:
    count = len(aligned.rows)
    if undefined is None:
        return "AlpacaEval 2" if count == NUM_INSTRUCTIONS else f"AlpacaEval 2, {count} of its instructions"
    inside = [p is not None for p in canonical_positions([row["instruction"] for row in aligned.rows])]
    of = "AlpacaEval's" if all(inside) else "own"
    return f"win rate on {count} {of} instructions"


def _why_not_comparable(judgements: Judgements, is_whole: bool, undefined: str | None, num_judged: int) -> list[str]:
    reasons = []
    if judgements.kind == OFFLINE:
        reasons.append("the judge is an offline one, not an annotator of alpaca_eval")
    elif judgements.kind == CHAT_MODEL:
        reasons.append("the judge is a chat model with a prompt of pd_trl, not an annotator of alpaca_eval")
    elif judgements.kind == RECORDED:
        reasons.append("the annotations are recorded ones, of whose judge only the name is known")
    elif not judgements.is_official:
        reasons.append(f"the judge is {judgements.judge}, not the leaderboard's")
    elif others := sorted(set(judgements.details.get("served_as") or []) - set(judgements.details["judge_models"])):
        reasons.append(f"the server says that {', '.join(others)} judged")
    if undefined is not None:
        reasons.append(undefined)
    elif not is_whole or num_judged < NUM_INSTRUCTIONS - _MAX_UNJUDGED:
        reasons.append(f"{num_judged} of {NUM_INSTRUCTIONS} instructions are judged")
    return reasons


def save(folder: Path, aligned: AlignedOutputs, judgements: Judgements, result: AlpacaResult) -> None:
    """Writes the annotations, their outputs, a summary, and the records of the result."""
    annotations = [_plain(annotation) for annotation in judgements.annotations]
    if result.length_control is not None:
        for annotation, preference in zip(annotations, result.length_control.preferences, strict=True):
            annotation["glm_preference"] = preference
    write_json(folder / ANNOTATIONS_NAME, annotations)
    names = {"dataset": "dataset", "instruction": "instruction", "output": "output_2", "generator": "generator_2"}
    write_json(folder / OUTPUTS_NAME, [{k: row[v] for k, v in names.items()} for row in aligned.rows])
    content = {**asdict(result), "length_control": _summary(result.length_control)}
    write_json(folder / SUMMARY_NAME, masked(_plain(content)))
    save_results(result.records(), folder)


def _summary(control: LengthControl | None) -> dict[str, Any] | None:
    return {k: v for k, v in asdict(control).items() if k != "preferences"} if control is not None else None


def _plain(record: dict[str, Any]) -> dict[str, Any]:
    """Json has no NaN."""
    return {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in record.items()}


def _mean_length(aligned: AlignedOutputs, column: str) -> float:
    return float(np.mean([len(row[column]) for row in aligned.rows]))


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
