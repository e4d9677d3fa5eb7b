"""What the page needs to decide anew: the gaps of every pair, its place by `pair_id`, and the filter's settings."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray

from .._version import __version__
from ..data.ids import row_keys
from ..safety.secrets import masked
from ..selection.aspect_columns import VOTE_PREFIX, label_codes, rating_columns
from ..selection.filter import PDFilter
from ..text.names import display_names
from .ranked import RankedPairs, narrow

# Most numbers of gaps and ids in a page: 4 bytes each before compression.
MAX_VALUES = 16_000_000


@dataclass
class Decision:
    """
    Args:
        columns (`dict` of `str` to array): In rank order: `id_place` (place of the `pair_id` in sorted ids), `own` (index of the
            pair's aspect, -1 for none), `gap_0`, `gap_1`, … (NaN where one is missing), `stratum` with `per_aspect`.
        ids (`list` of `str`): The ids, sorted.
        record (`dict`): The aspects and the settings, ready for json; `None` for data without gaps.
    """

    columns: dict[str, NDArray] = field(default_factory=dict)
    ids: list[str] = field(default_factory=list)
    record: dict[str, Any] | None = None


def decision_of(decided: Dataset, ranked: RankedPairs, pd_filter: PDFilter) -> Decision:
    """
    The data by which the page finds a pair, shows its votes, and ranks the pairs by other weights; empty where the pairs are so
    many that the page would grow beyond `MAX_VALUES` numbers.
    """
    aspects = ranked.matrix.names if ranked.matrix is not None else []
    if len(ranked.rows) * (len(aspects) + 1) > MAX_VALUES:
        return Decision()
    ids = row_keys(decided)[ranked.rows]
    order = np.argsort(ids, kind="stable")
    place = np.empty(len(ids), dtype=np.uint32)
    place[order] = np.arange(len(ids), dtype=np.uint32)
    found = Decision({"id_place": place}, ids[order].tolist())
    if ranked.matrix is None:
        return found
    found.columns["own"] = ranked.matrix.own[ranked.rows].astype(np.int16)
    for k in range(len(aspects)):
        found.columns[f"gap_{k}"] = ranked.matrix.gaps[ranked.rows, k]
    strata = None
    if pd_filter.per_aspect:
        names, codes = label_codes(decided, [])
        found.columns["stratum"], strata = narrow(codes)[ranked.rows], names
    found.record = _settings(pd_filter, aspects, strata, decided.column_names)
    return found


def _settings(
    pd_filter: PDFilter, aspects: list[str], strata: list[str] | None, column_names: list[str]
) -> dict[str, Any]:
    scales = [float(pd_filter.quantiles_[name]) for name in aspects]
    arguments = masked({**pd_filter.to_dict(), "proxy_metrics": pd_filter.proxy_metrics_})
    # Columns that this rule does not read may name a path. The weights of the page are explicit.
    for name in ("margin_column", "pd_column", "min_proxy_accuracy"):
        del arguments[name]
    voted = [rating_columns(name, column_names) == [f"{VOTE_PREFIX}{name}"] for name in aspects]
    return {
        "version": __version__,
        # Whether the rule ranks by PD: 1 from the lowest, -1 from the highest, 0 not.
        "sign": pd_filter.rule.sign if pd_filter.needs_divergence else 0,
        "names": aspects,
        "shown": list(display_names(aspects).values()),
        "scales": [scale if np.isfinite(scale) else None for scale in scales],
        "weights": [float(weight) for weight in pd_filter.weights_of(aspects)],
        "voted": voted if pd_filter.source == "ratings" else [False] * len(aspects),
        "strata": strata,
        "arguments": arguments,
        "thresholds": [
            [name, threshold.score, threshold.pair_id] for name, threshold in (pd_filter.thresholds_ or {}).items()
        ],
    }
