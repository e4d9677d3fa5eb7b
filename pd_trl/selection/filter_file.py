"""Checks of `filter.json`, the file of a saved [`PDFilter`]: it may come from anyone."""

import os
from collections.abc import Mapping
from typing import Any

from ..errors import InputError
from ..method.ranking import SELECTORS
from ..runs.forms import saved_filter
from ..safety.schema import read_document
from .reasons import ALL_PAIRS
from .settings import FORMS, SelectionSettings

FILTER_NAME = "filter.json"
_ADVICE = "Save the filter again, or run `pd-trl select` again."


def read_filter(path: str | os.PathLike) -> dict[str, Any]:
    """
    Arguments, statistics and report of a saved filter.

    Raises:
        InputError: If the file has names or types that `PDFilter.save` does not write, a value out of range, or
            statistics that contradict each other, which would silently keep or drop the wrong pairs.
    """
    content: dict[str, Any] = read_document(path, saved_filter(FORMS), "a saved PDFilter", _ADVICE)
    statistics = content["statistics"]
    problem = _contradiction(content["arguments"], statistics, content["report"])
    if problem:
        raise InputError(f"{path} contradicts itself: {problem}. {_ADVICE}")
    unknown = float("nan")
    statistics["quantiles"] = {
        name: unknown if scale is None else float(scale) for name, scale in statistics["quantiles"].items()
    }
    return content


def _contradiction(
    arguments: Mapping[str, Any], statistics: Mapping[str, Any], report: Mapping[str, Any] | None
) -> str | None:
    aspects, quantiles, thresholds = (statistics[name] for name in ("aspects", "quantiles", "thresholds"))
    defaults = SelectionSettings
    selector, source = arguments.get("selector", defaults.selector), arguments.get("source", defaults.source)
    if aspects is not None and len(set(aspects)) != len(aspects):
        return "`aspects` holds a name twice"
    if aspects is not None and set(aspects) != set(quantiles):
        return "the names in `quantiles` differ from `aspects`"
    weights = statistics.get("weights")
    if aspects is not None and weights is not None and set(aspects) != set(weights):
        return "the names in the `weights` of the statistics differ from `aspects`"
    if not aspects and "pd" in SELECTORS[selector].inputs and source != "column":
        return f"the selector {selector!r} needs the `aspects` that it was fitted on"
    given = arguments.get("weights") or {}
    if aspects is not None and isinstance(given, Mapping) and (strange := sorted(set(given) - set(aspects))):
        return f"`weights` names {strange[0][:60]!r}, which is not among the `aspects`"
    if not arguments.get("per_aspect", False) and set(thresholds) != {ALL_PAIRS}:
        return f"without `per_aspect`, there must be exactly one threshold, named {ALL_PAIRS!r}"
    if report is None:
        return None
    if arguments.get("per_aspect", False) and not set(thresholds) <= set(report["kept_by_aspect"]):
        return "`thresholds` names aspects that the report does not know"
    if report["kept"] + report["dropped"] != report["total"]:
        return "the kept and dropped pairs do not add up to all pairs"
    return None
