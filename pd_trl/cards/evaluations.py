"""Results of evaluations in a card: tables, `model-index`, and `.eval_results`."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import huggingface_hub
import yaml
from huggingface_hub.repocard_data import eval_results_to_model_index

from ..errors import InputError
from ..hub.names import is_repo_id
from ..runs.results import EvalResult
from .text import Safe, cell, code, count, plain, repo_link, table

_METRICS = {
    "win_rate": "win rate",
    "length_controlled_winrate": "length-controlled win rate",
    "lc_win_rate": "length-controlled win rate",
    "win_score": "win score",
    "accuracy": "accuracy",
    "pair_accuracy": "accuracy on pairs",
    "avg_length": "mean length",
}


def evaluation_tables(results: Iterable[EvalResult]) -> list[dict[str, Any]]:
    """
    One table for each judge: numbers of different judges are never in the same table.

    Returns:
        `list` of `dict`: `judge` (text or `None`), `description` of the judge, `table` (markdown), `reservations` (why its numbers cannot be compared with
        published ones) and `details` (lines on data, settings and dates).
    """
    groups: dict[str | None, list[EvalResult]] = {}
    for result in results:
        groups.setdefault(result.judge, []).append(result)
    return [
        {
            "judge": judge,
            "description": _judge_description(group),
            "table": _table(group),
            "reservations": _reservations(group),
            "details": _details(group),
        }
        for judge, group in sorted(groups.items(), key=lambda item: (item[0] is None, item[0] or ""))
    ]


def _table(results: list[EvalResult]) -> Safe:
    compared = any(result.baseline for result in results)
    models = len({result.model for result in results}) > 1
    rows: list[Sequence[object]] = [
        ["task", *(["model"] if models else []), "metric", "value ± SE", "n", *(["against"] if compared else [])]
    ]
    for result in results:
        row: list[object] = [result.task, *([result.model or Safe("–")] if models else []),
                             metric_name(result.metric), shown_value(result), count(result.num_samples)]  # fmt: skip
        rows.append([*row, *([result.baseline or Safe("–")] if compared else [])])
    return table(rows, left=3 if models else 2)


def metric_name(metric: str) -> str:
    """A metric in words."""
    return _METRICS.get(metric, metric.replace("_", " "))


def shown_value(result: EvalResult) -> Safe:
    """A value with its standard error and unit; shares are shown as percentages."""
    factor = 100.0 if result.unit == "share" else 1.0
    unit = {"percent": " %", "share": " %", "words": " words", "tokens": " tokens", "characters": " characters"}.get(
        result.unit, ""
    )
    digits = {"percent": 2, "share": 2, "score": 3}.get(result.unit, 1)
    value = f"{factor * result.value:.{digits}f}".replace("-", "−")
    if result.standard_error is None:
        return Safe(f"{value}{unit} (no SE)")
    return Safe(f"{value} ± {factor * result.standard_error:.{digits}f}{unit}")


def _judge_description(results: list[EvalResult]) -> Safe | None:
    """The description of the judge, if all results agree on it."""
    found = {
        str(result.settings.get("judge_description") or result.settings.get("judge_kind") or "") for result in results
    }
    return cell(found.pop()) if len(found) == 1 and "" not in found else None


def _details(results: list[EvalResult]) -> list[Safe]:
    """The details that all results share, then those of each result."""
    described = [_description(result) for result in results]
    common = {name: text for name, text in described[0].items() if all(d.get(name) == text for d in described)}
    lines = [f"all: {', '.join(common.values())}"] if common else []
    for result, parts in zip(results, described, strict=True):
        own = [text for name, text in parts.items() if name not in common]
        against = f" against {cell(result.baseline)}" if result.baseline else ""
        if own:
            lines.append(f"{cell(result.task)}, {cell(metric_name(result.metric))}{against}: {', '.join(own)}")
    return [Safe(line) for line in dict.fromkeys(lines)]


def _description(result: EvalResult) -> dict[str, str]:
    parts = {"date": f"evaluated on {cell(result.date)}"}
    if result.dataset:
        parts["dataset"] = f"data {repo_link(result.dataset, 'dataset', result.dataset_revision)}"
    for name, value in _shown_settings(result.settings).items():
        parts[f"setting {name}"] = f"{cell(name.replace('_', ' '))} {code(value)}"
    return parts


def _shown_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings that fit on a line: without tables, empty or zero values, local paths, and what the line says anyway."""
    return {
        name: value
        for name, value in settings.items()
        if name not in ("dataset", "dataset_revision", "not_comparable", "judge_description")
        and isinstance(value, (str, int, float, bool))
        and value not in ("", 0, False)
        and not (isinstance(value, str) and value.startswith(("/", "~")))
    }


def _reservations(results: list[EvalResult]) -> list[Safe]:
    """Why the numbers cannot be compared with published ones, if an evaluation says so."""
    reasons: dict[str, None] = {}
    for result in results:
        found = result.settings.get("not_comparable") or []
        for reason in [found] if isinstance(found, str) else found:
            reasons[str(reason)] = None
    return [cell(reason, 600) for reason in reasons]


def model_index(name: str, results: Iterable[EvalResult], task: str) -> list[dict[str, Any]]:
    """
    The `model-index` of a card: one entry for each task, data set and judge.

    Args:
        name (`str`): Name of the model.
        results (iterable of [`EvalResult`]): Results.
        task (`str`): The Hub's identifier of the task, such as `"text-generation"`.
    """
    groups: dict[tuple, list[EvalResult]] = {}
    for result in results:
        groups.setdefault((result.task, result.dataset, result.dataset_revision, result.judge), []).append(result)
    # Group by group: given all of them, the library puts the numbers of two judges, or of two tasks with one name of data, into one
    # entry (test_results_of_two_judges_are_two_entries).
    entries = [
        eval_results_to_model_index(name, [_hub_result(result, task) for result in group])[0]["results"][0]
        for group in groups.values()
    ]
    return [{"name": plain(name), "results": entries}] if entries else []


def _hub_result(result: EvalResult, task: str) -> huggingface_hub.EvalResult:
    arguments: dict[str, Any] = {"num_samples": result.num_samples, "unit": result.unit}
    if result.standard_error is not None:
        arguments["standard_error"] = result.standard_error
    arguments |= {label: plain(getattr(result, label)) for label in ("judge", "baseline") if getattr(result, label)}
    return huggingface_hub.EvalResult(
        task_type=task,
        task_name=plain(result.task) + (f" (judge: {plain(result.judge)})" if result.judge else ""),
        dataset_type=result.dataset if result.dataset and is_repo_id(result.dataset) else _slug(result.task),
        dataset_name=plain(result.task),
        dataset_revision=plain(result.dataset_revision) if result.dataset_revision else None,
        metric_type=_slug(result.metric),
        metric_value=result.value,
        metric_name=metric_name(plain(result.metric)),
        metric_args=arguments,
    )


def eval_results_files(results: Iterable[EvalResult]) -> dict[str, bytes]:
    """
    The files `.eval_results/*.yaml` of a model. The Hub shows them if the data set is one of its registered benchmarks.

    Raises:
        InputError: If no result names a data set of the Hub.
    """
    try:
        from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml
    except ImportError:
        raise InputError(
            "`.eval_results` needs a newer huggingface_hub (2.0 has it): `pip install -U huggingface_hub`, or leave it out. "
            "The card has the results."
        ) from None

    by_data: dict[str, list[EvalResultEntry]] = {}
    for result in results:
        if not result.dataset or not is_repo_id(result.dataset):
            continue
        notes = [f"judge: {plain(result.judge)}"] if result.judge else []
        notes += [f"standard error: {result.standard_error:.4g}"] if result.standard_error is not None else []
        entry = EvalResultEntry(
            dataset_id=result.dataset, task_id=_slug(result.metric), value=result.value,
            dataset_revision=result.dataset_revision, date=result.date, notes=", ".join([*notes, f"n: {result.num_samples}"]),
        )  # fmt: skip
        by_data.setdefault(result.dataset, []).append(entry)
    if not by_data:
        raise InputError(
            "`.eval_results` needs results whose `dataset` is on the Hub, but there are none. Leave it out: the card "
            "has the results."
        )
    return {
        f".eval_results/{_slug(name.replace('/', '--'))}.yaml": yaml.safe_dump(
            eval_result_entries_to_yaml(entries), sort_keys=False, allow_unicode=True
        ).encode()
        for name, entries in by_data.items()
    }


def _slug(value: str) -> str:
    return re.sub(r"[^a-z0-9_.\-]+", "-", value.lower()).strip("-.")[:96] or "unnamed"
