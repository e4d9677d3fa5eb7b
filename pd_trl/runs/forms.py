"""The form of each file that a run leaves beside its rows and weights, and that is read back."""

import math
import re
from collections.abc import Mapping
from typing import Any

from ..method.divergence import MAX_WEIGHT
from ..safety.schema import (
    Check,
    Misfit,
    anything,
    boolean,
    integer,
    mapping,
    number,
    optional,
    record,
    sequence,
    text,
)

# A scale is divided by in single precision.
_LARGEST_SCALE = 3.4e38
_NAME = text(empty=False)
_SHARE = number(0, 1)


def _plain(value: Any, where: str) -> None:
    """A number, a text, true, false or null."""
    if isinstance(value, (Mapping, list)):
        raise Misfit(where, "a single value", value)
    anything(value, where)


def _scale(value: Any, where: str) -> None:
    """A scale of Eq. 13. One that is not known, of an aspect that labels all pairs, is `null` or NaN."""
    if value is not None and not (isinstance(value, float) and math.isnan(value)):
        number(0, _LARGEST_SCALE)(value, where)


def _quantiles(value: Any, where: str) -> None:
    """Numbers by the share of the pairs below them."""
    mapping(number())(value, where)
    for name in value:
        if not re.fullmatch(r"[01](\.\d{1,10})?", name) or float(name) > 1:
            raise Misfit(f"a name in {where}", "a share", name)


def _temperature(value: Any, where: str) -> None:
    """A positive temperature; infinity draws long and short pairs half and half."""
    if value != math.inf:
        number(above=0)(value, where)


_METRICS = {
    "num_pairs": number(0),
    "pair_accuracy": _SHARE,
    "pair_accuracy_se": number(0),
    "length_accuracy": _SHARE,
    "gap_length_correlation": number(-1.001, 1.001),
    "beats_coin": boolean,
    "beats_length": boolean,
}
# Held-out metrics of a reward model, see `pair_metrics`.
METRICS = record(_METRICS, others=_plain)
_ASPECT = record(
    {
        "weight": number(0),
        "own_pairs": integer(0),
        "quantile": optional(_scale),
        "clipped": optional(_SHARE),
        "clipped_expected": optional(_SHARE),
        "agrees": optional(_SHARE),
        "decided": integer(0),
        "length_correlation": optional(number(-1.001, 1.001)),
        "proxy": record(_METRICS, required=("pair_accuracy", "beats_coin", "beats_length"), others=_plain),
    },
    required=("weight", "own_pairs", "quantile", "clipped", "clipped_expected", "agrees", "length_correlation"),
    others=anything,
)
_COUNTED = record(
    {"total": integer(0), "kept": integer(0), "share": optional(_SHARE)}, required=("total", "kept", "share"), others=anything
)  # fmt: skip
_GROUPS = ("all", "kept", "dropped")
_MEASURES = record(dict.fromkeys(_GROUPS, mapping(optional(number()))), required=_GROUPS, others=anything)
_SHARES = record(dict.fromkeys(_GROUPS, optional(_SHARE)), required=_GROUPS, others=anything)
_DIVERGENCE = record(
    {
        # Of pairs of which none has a PD, there are none.
        **dict.fromkeys(("min", "max", "mean"), optional(number())),
        "quantiles": _quantiles,
        "share_negative": optional(_SHARE),
        "mean_kept": optional(number()),
        "mean_dropped": optional(number()),
    },
    required=("min", "max", "mean", "share_negative", "mean_kept", "mean_dropped"),
    others=anything,
)

# Numbers of a `SelectionReport`.
_REPORT = record(
    {
        "selector": _NAME,
        "total": integer(1),
        "kept": integer(0),
        "dropped": integer(0),
        "lengths": _MEASURES,
        "kept_by_aspect": mapping(_COUNTED),
        "kept_by_votes": mapping(_COUNTED),
        "overlap": mapping(optional(_SHARE)),
        "unseen_labels": mapping(_SHARES),
        "pd": _DIVERGENCE,
        "aspects": mapping(_ASPECT),
        "gap_correlation": mapping(mapping(optional(number(-1.001, 1.001)))),
        "missing_gaps": mapping(integer(0)),
        "missing_votes": mapping(integer(0)),
        "missing_numbers": mapping(integer(0)),
        "not_computed": sequence(text()),
    },
    required=("selector", "total", "kept", "dropped", "lengths", "kept_by_aspect", "overlap", "unseen_labels"),
    others=anything,
)


def report(value: Any, where: str) -> None:
    """Numbers of a [`SelectionReport`]."""
    _REPORT(value, where)
    if "pd" in value and not ("aspects" in value and "gap_correlation" in value):
        raise Misfit(where, "a report with `aspects` and `gap_correlation` beside `pd`", value)
    measures = [set(value["lengths"][group]) for group in _GROUPS]
    if measures[1:] != measures[:-1]:
        raise Misfit(f"{where}.lengths", "of the same measures for all, kept and dropped pairs", value["lengths"])
    correlation = value.get("gap_correlation", {})
    for row in correlation.values():
        if set(row) != set(correlation):
            raise Misfit(f"{where}.gap_correlation", "a square of the same names", row)


def saved_filter(settings: Mapping[str, Check]) -> Check:
    """`filter.json`, by the forms of its settings."""
    threshold = record({"score": number(), "pair_id": text()}, required=("score", "pair_id"))
    statistics = record(
        {
            "aspects": optional(sequence(_NAME)),
            "quantiles": mapping(_scale),
            "thresholds": mapping(threshold, empty=False),
            "weights": optional(mapping(number(0, MAX_WEIGHT))),
        },
        required=("aspects", "quantiles", "thresholds"),
    )
    return record(
        {
            "pd_trl": text(),
            "arguments": record({**settings, "proxy_metrics": mapping(METRICS)}),
            "statistics": statistics,
            "report": optional(report),
        },
        required=("arguments", "statistics", "report"),
    )


_SOURCE = record(
    {
        **dict.fromkeys(
            ("dataset", "revision", "config", "split", "name", "license", "license_name", "license_link"),
            optional(text()),
        ),
        "languages": optional(sequence(text())),
    },
    others=anything,
)
# What is read of a reward model.
_OUTPUT = {"output": optional(text()), "sign": optional(integer(-1, 1)), "scale": optional(number(0, above=0))}
_PROXY = record(
    {
        "model": optional(text()),
        "revision": optional(text()),
        "base_model": optional(text()),
        "num_train": optional(integer(0)),
        "metrics": METRICS,
        **_OUTPUT,
    },
    others=anything,
)
_PROVENANCE = record(
    {"source": _SOURCE, "conflict": mapping(mapping(optional(_SHARE))), "proxies": mapping(_PROXY)}, others=anything
)  # fmt: skip

# `manifest.json`; what else a stage records is its own.
MANIFEST = {
    "stage": _NAME,
    "inputs": mapping(anything),
    "arguments": mapping(anything),
    "counts": mapping(integer(0)),
    "seconds": number(0),
    "results": record(
        {"provenance": optional(_PROVENANCE), "proxy_metrics": mapping(METRICS)},
        others=anything,
    ),
    "versions": mapping(text()),
    "created": text(),
    "files": mapping(text()),
    "key": text(),
}

_HEAD = {"length_penalty": number(0), "num_train": optional(integer(0)), "metrics": METRICS}

# `pd_reward.json`.
# What heads read of their backbone, where it is not the last token at the last layer.
READING = record({"pooling": text(("mean",)), "layers": sequence(integer(1)), "standardize": boolean})

SIDECAR = {
    **_HEAD,
    "length_balance_temperature": optional(_temperature),
    "train_share": number(0, 1, above=0),
    "max_length": optional(integer(1)),
    "pad_token_id": optional(integer(0)),
    "aspect": optional(text()),
    "heads": mapping(record(_HEAD)),
    "reading": READING,
}

# `eval_results.json`.
RESULT = {
    "task": text(),
    "metric": text(),
    "value": number(),
    "num_samples": integer(1),
    "standard_error": optional(number(0)),
    "unit": text(),
    **dict.fromkeys(("judge", "model", "baseline", "dataset", "dataset_revision"), optional(text())),
    "settings": mapping(anything),
    "date": text(),
}
RESULT_REQUIRED = ("task", "metric", "value", "num_samples")

# `pd_card.json`.
MODEL_FACTS = {
    "kind": text(("reward", "policy")),
    "name": text(),
    **dict.fromkeys(
        (
            "repo_id", "base_model", "base_revision", "license", "base_license", "base_license_name", "base_license_link",
            "dataset_revision", "loss", "aspect", "trl_section", "citations", "created",
        ),
        optional(text()),
    ),
    **dict.fromkeys(("peft", "chat", "is_known"), boolean),
    **dict.fromkeys(("tags", "languages", "datasets"), sequence(text())),
    "num_train": optional(integer(0)),
    "selection": optional(
        record(
            {
                **dict.fromkeys(("total", "kept", "dropped"), optional(integer(0))),
                "threshold": optional(number()),
                "column": optional(text()),
                "selector": optional(text()),
            },
            others=anything,
        )
    ),
    "heads": mapping(record(_HEAD, others=anything)),
    "reading": READING,
    "length": mapping(_plain),
    "metrics": METRICS,
    "essentials": mapping(anything),
    "hyperparameters": mapping(anything),
    "results": sequence(record(RESULT, required=RESULT_REQUIRED)),
    "versions": mapping(text()),
}  # fmt: skip

# `world.json`.
WORLD = {
    "seed": integer(0),
    "num_aspects": integer(2),
    "conflict": _SHARE,
    "noise": number(0),
    "length_bias": number(),
}

# The marker of a finished shard.
_SHARD_COUNTS = ("rows", "truncated", "sequences", "tokens", "computed", "cells", "microseconds", "attempts", "bytes")
# Sum, sum of squares and number above 0 of each column.
_SUMS = mapping(sequence(number(), length=3))
MARKER = record(
    {**dict.fromkeys(_SHARD_COUNTS, integer(0)), "digest": text(), "sums": _SUMS},
    required=("rows",),
    others=integer(0),
)
